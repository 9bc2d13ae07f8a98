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
    i = six.floor()
    f = six.sub_(i)
    p = (1 - s).mul_(v)
    q = (1 - f * s).mul_(v)
    t = (1 - (1 - f).mul_(s)).mul_(v)
    i = torch.where(i >= 6, i - 6, i)
    is1, is2, is4 = i == 1, i == 2, i == 4
    upper, middle = i >= 3, (i == 2) | (i == 3)
    r = torch.where(is1, q, torch.where(is4, t, torch.where(middle, p, v)))
    g = torch.where(i == 0, t, torch.where(i == 3, q, torch.where(upper, p, v)))
    b = torch.where(is2, t, torch.where(i == 5, q, torch.where(i < 2, p, v)))
    return torch.stack([r, g, b], 1)
