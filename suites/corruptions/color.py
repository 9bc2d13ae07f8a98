"""Hue, saturation and value, in the order of operations of scikit-image, in float64.

    V = max,  D = V - min,  S = D / V,
    6 H = (G - B) / D if R = V,  2 + (B - R) / D if G = V,  4 + (R - G) / D if B = V,  modulo 6

(the last rule that applies wins; S = H = 0 if D = 0), and back, with i = floor(6 H), f = 6 H - i:

    p = V (1 - S),  q = V (1 - f S),  t = V (1 - (1 - f) S),
    RGB = (V, t, p) (q, V, p) (p, V, t) (p, q, V) (t, p, V) (V, p, q) for i = 0..5.

A color comes back to an integer of 0..255 but for the last bit, and truncation follows: only this
order gives the published files, and the same images on every device.
"""

import torch
from torch import Tensor

from harness.suites.corruptions.contract import has_loops, intensities, quantize


def recolor(images: Tensor, a: float = 1.0, b: float = 0.0, c: float = 0.0) -> Tensor:
    """Return uint8 images (N, 3, H, W) of saturation a S + b and value V + c, within [0, 1]."""
    if has_loops(images):
        from harness.suites.corruptions import loops

        out = torch.empty_like(images)
        loops.recolor(images.flatten(2).numpy(), a, b, c, out.flatten(2).numpy())
        return out
    h, s, v = hsv(intensities(images))
    return quantize(rgb(h, s.mul_(a).add_(b).clamp_(0, 1), v.add_(c).clamp_(0, 1)))


def hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in [0, 1), saturation and value (N, H, W) of float64 images (N, 3, H, W)."""
    r, g, b = x.unbind(1)
    v = torch.maximum(torch.maximum(r, g), b)
    d = v - torch.minimum(torch.minimum(r, g), b)
    gray = d == 0
    d1 = d.masked_fill(gray, 1)
    h = torch.where(r == v, (g - b).div_(d1), 0)
    h = torch.where(g == v, (b - r).div_(d1).add_(2), h)
    h = torch.where(b == v, (r - g).div_(d1).add_(4), h)
    h = h.div_(torch.full_like(h[:1], 6))
    h = torch.where(h < 0, h + 1, h).masked_fill_(gray, 0)
    s = d.div_(v.masked_fill(gray, 1))
    return h, s, v


def rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Return float64 images (N, 3, H, W) of hue, saturation and value (N, H, W)."""
    six = h * 6
    floor = six.floor()
    sector = floor.to(torch.uint8)  # 0..5, or 6 for 0 by round-off
    f = six.sub_(floor)
    odd = (sector & 1).view(torch.bool)
    p = (1 - s).mul_(v)
    middle = torch.where(odd, f, 1 - f).mul_(s)  # of q in odd sectors, else of t
    middle = (1 - middle).mul_(v)
    third = (sector * 86).bitwise_right_shift_(6)  # the sector modulo 3; products modulo 256
    pair = sector >> 1
    low_red, low_green = pair == 1, pair == 2
    low_blue = ~(low_red | low_green)
    return torch.stack(
        [
            torch.where(third == place, middle, torch.where(low, p, v))
            for place, low in ((1, low_red), (0, low_green), (2, low_blue))
        ],
        1,
    )
