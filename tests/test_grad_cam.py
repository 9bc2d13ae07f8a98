import torch
from torch import Tensor, nn

from harness.models.resnet import resnet18
from harness.suites.grad_cam import grad_cam


class Linear(nn.Module):
    """One block of 1x1 features whose Grad-CAM is known: w A, class by class."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 4, 1, bias=False)
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(images).mean((2, 3)))


def test_a_linear_network_by_hand() -> None:
    torch.manual_seed(0)
    model, images = Linear(), torch.rand(5, 3, 6, 7)
    classes = torch.tensor([0, 1, 0, 1, 1])
    with torch.inference_mode():
        maps, spoken = grad_cam(model, {"block": model.block}, images, classes)
    weights = model.head.weight[classes][:, :, None, None]
    expected = (weights * model.block(images)).sum(1).clamp(min=0)
    expected = expected / expected.sum((1, 2), keepdim=True)
    assert list(maps) == ["6x7"] and torch.equal(spoken, classes)
    torch.testing.assert_close(maps["6x7"], expected.detach(), equal_nan=True)


def test_the_last_block_of_each_resolution_and_nothing_left_behind() -> None:
    torch.manual_seed(0)
    model = resnet18(width=8).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        logits = model(images)
        maps, classes = grad_cam(model, model.blocks(), images)
    assert list(maps) == ["32x32", "16x16", "8x8", "4x4"]
    assert torch.equal(classes, logits.argmax(1))
    for m in maps.values():
        known = ~m.isnan().any(2).any(1)
        torch.testing.assert_close(m[known].sum((1, 2)), torch.ones(int(known.sum())))
        assert (m[known] >= 0).all()
    assert all(not block._forward_hooks for block in model.blocks().values())
    assert all(p.grad is None for p in model.parameters())


def test_a_map_without_a_positive_place_is_no_distribution() -> None:
    model = Linear()
    nn.init.constant_(model.block.weight, 1.0)
    nn.init.constant_(model.head.weight, -1.0)
    maps, _ = grad_cam(model, {"block": model.block}, torch.rand(2, 3, 4, 4))
    assert maps["4x4"].isnan().all()
