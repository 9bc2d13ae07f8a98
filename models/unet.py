"""A small U-Net from a noisy image, a level of noise and a class to an image.

    h1 = block(conv(patches of 2 x 2)),  h2 = block(attend(block(down h1))),
    out = pixels(conv(told(block([h1, up h2])))),
    block(h) = h + conv(told(conv(silu(GN(h))))),
    told(h) = silu((1 + a) GN(h) + b),  (a, b) = linear(silu(e)),
    e = linear(silu(linear(waves(level)) + linear(sqrt(C) one-hot class))),

with 2 width channels on half and 4 width channels on a quarter of the side of the image; waves are
sines and cosines of the level at geometric frequencies, C the number of classes. The class that may
be any is the vector of zeros. Convolutions see patches of 2 x 2 pixels as 12 channels, which costs
a quarter and loses nothing. The last convolution starts at zero, and so does the last of every
block.

Reference: O. Ronneberger et al., U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597; J. Ho et
al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, https://arxiv.org/abs/2006.11239; scale
and shift, P. Dhariwal and A. Nichol, NeurIPS 2021, https://arxiv.org/abs/2105.05233; patches, T.
Luhman and E. Luhman, https://arxiv.org/abs/2207.04316. Deviations: two scales and three blocks at
each, one head of attention; no dropout.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 2  # pixels, side of what the first convolution sees as channels
MULTIPLE = 2 * PATCH  # of pixels; other images are enlarged by their border, and cut again
FASTEST = 20.0  # radians for each unit of the level, of the fastest wave; the slowest has 1


def norm(channels: int) -> nn.GroupNorm:
    """Group norm of at least 4 channels a group, where their number allows it."""
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 4)), channels)


class Told(nn.Module):
    """silu((1 + a) GN(h) + b), with a scale and a shift of each channel by the embedding."""

    def __init__(self, channels: int, embedded: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.modulation = nn.Linear(embedded, 2 * channels)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, b = self.modulation(functional.silu(e))[:, :, None, None].chunk(2, dim=1)
        return functional.silu((1 + a) * self.norm(h) + b)


class Block(nn.Module):
    """h + f(h; e): features (N, c, H, W) and an embedding (N, e) to (N, out, H, W)."""

    def __init__(self, channels: int, out: int, embedded: int) -> None:
        super().__init__()
        self.norm, self.told = norm(channels), Told(out, embedded)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        f = self.conv1(functional.silu(self.norm(h)))
        return self.skip(h) + self.conv2(self.told(f, e))


class Attention(nn.Module):
    """h + attention of every position to every other; (N, c, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.qkv(self.norm(h)).flatten(2).transpose(1, 2)  # (N, H W, 3 c)
        found = functional.scaled_dot_product_attention(*tokens.chunk(3, dim=2))
        return h + self.out(found.transpose(1, 2).reshape(h.shape))


class UNet(nn.Module):
    """Images (N, 3, H, W), levels (N,) and classes (N,) to images (N, 3, H, W).

    Args:
        num_classes: Number of classes.
        width: A half of the channels on the larger scale.
    """

    frequencies: Tensor

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        fine, coarse, embedded = 2 * width, 4 * width, 4 * width
        frequencies = torch.logspace(0, math.log10(FASTEST), width)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.level = nn.Linear(2 * width, embedded)
        self.label = nn.Linear(num_classes, embedded, bias=False)
        self.both = nn.Linear(embedded, embedded)
        self.first = nn.Conv2d(3 * PATCH**2, fine, 3, padding=1)
        self.fine = Block(fine, fine, embedded)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse1 = Block(coarse, coarse, embedded)
        self.attention = Attention(coarse)
        self.coarse2 = Block(coarse, coarse, embedded)
        self.up = nn.Conv2d(coarse, fine, 1)
        self.joined = Block(2 * fine, fine, embedded)
        self.told = Told(fine, embedded)
        self.last = nn.Conv2d(fine, 3 * PATCH**2, 3, padding=1)
        for start in self.last.parameters():
            nn.init.zeros_(start)

    def forward(self, images: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Return images of the shape of `images`.

        Args:
            images: (N, 3, H, W), of about unit variance, any H and W.
            level: (N,), some function of the level of noise, between about -2 and 2.
            labels: (N,), int64; None where it may be any, as is a negative one.
        """
        height, width = images.shape[2:]
        extra = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        x = functional.pad(images, extra, mode="replicate") if any(extra) else images
        e = self.embed(level, labels)
        fine = self.fine(self.first(functional.pixel_unshuffle(x, PATCH)), e)
        h = self.attention(self.coarse1(self.down(fine), e))
        h = self.up(self.coarse2(h, e))
        h = functional.interpolate(h, scale_factor=2.0, mode="nearest")
        h = self.joined(torch.cat((fine, h), dim=1), e)
        out = functional.pixel_shuffle(self.last(self.told(h, e)), PATCH)
        return out[:, :, :height, :width]

    def embed(self, level: Tensor, labels: Tensor | None) -> Tensor:
        """Return the embedding of levels (N,) and classes (N,), (N, e)."""
        angles = level[:, None] * self.frequencies
        e = self.level(torch.cat((angles.sin(), angles.cos()), dim=1))
        if labels is not None:
            classes = torch.arange(self.num_classes, device=labels.device)
            one_hot = (labels[:, None] == classes).to(e.dtype)
            e = e + self.label(one_hot * math.sqrt(self.num_classes))
        return self.both(functional.silu(e))
