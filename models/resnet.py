"""ResNet-18 for small images: the baseline that everyone knows.

    x <- ReLU(x + f(x)),   f = conv3x3 - BN - ReLU - conv3x3 - BN.

timm's ResNet-18 ([2, 2, 2, 2] basic blocks) with a 3x3 stride-1 stem and no max-pool, as is usual
for 32-pixel images: feature maps of 32, 16, 8 and 4 pixels. From 96 pixels the stem has stride 2,
and the maps are 48, 24, 12 and 6.

Reference: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR
2016, https://arxiv.org/abs/1512.03385. Deviations: the stem; the last batch norm of each block
starts at zero, which is timm's default.
"""

from typing import Any

from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.papers import HE_2016


class SmallImageResNet(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.normalize = Normalize()
        block: Any = BasicBlock  # timm asks for an instance, and takes the class
        net: Any = ResNet(
            block,
            (2, 2, 2, 2),
            num_classes=num_classes,
            channels=(width, 2 * width, 4 * width, 8 * width),
        )
        # timm fixes the stem at 64 channels; at other widths its first block gets a projection.
        net.conv1 = Stem(width)
        net.bn1 = nn.BatchNorm2d(width)
        net.maxpool = nn.Identity()
        net.layer1[0] = BasicBlock(width, width)
        net.init_weights(zero_init_last=True)
        self.net: ResNet = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.normalize(images))

    def blocks(self) -> dict[str, nn.Module]:
        """Return the modules of the four stages by name, such as "layer1.0"."""
        return {
            f"layer{stage}.{name}": block
            for stage in (1, 2, 3, 4)
            for name, block in getattr(self.net, f"layer{stage}").named_children()
        }


class Stem(nn.Conv2d):
    """3x3 convolution with padding 1: stride 1 below 96 pixels, 2 from there on."""

    def __init__(self, width: int) -> None:
        super().__init__(3, width, kernel_size=3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        stride = 2 if images.shape[-1] >= 96 else 1
        return nn.functional.conv2d(images, self.weight, stride=stride, padding=1)


@MODELS.register
@card("baseline", "x <- ReLU(x + f(x))", (HE_2016,))
def resnet18(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Residual network of 18 layers; at width 64 it is ResNet-18 itself."""
    return SmallImageResNet(num_classes, width)
