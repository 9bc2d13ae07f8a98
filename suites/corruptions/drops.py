"""The relief of water drops for `spatter`: edges, distances to them, an embossed picture of those.

Each step is OpenCV's, on 8-bit images of small integers held in float64, for a whole batch.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from harness.suites.corruptions import linear

LOW, HIGH = 50, 150  # thresholds of the edges' gradient, |dx| + |dy|
FAR = 20.0  # pixels; distances are cut off here
# Lengths of a step to a neighbor, and of a knight's move: the 5 x 5 mask, in 2^-16 pixels.
STEPS = {1: 65536, 2: 91750, 5: 143976}
EMBOSS = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])


def relief(level: Tensor) -> Tensor:
    """Return D (N, H, W), integers of 0..255, of an 8-bit field (N, H, W).

    Edges by Canny; the distance to the nearest one, at most 20, blurred by 3 x 3 and cut off to
    integers; its histogram equalized; embossed; blurred by 3 x 3 and rounded.
    """
    distance = distances(edges(level)).clamp_(max=FAR).float()
    box = np.full((3, 3), 1.0)
    blurred = linear.correlate(distance, box).mul_(1 / 9).add_(2.0**-16).floor_().double()
    raised = linear.correlate(equalize(blurred), EMBOSS).clamp_(0, 255)
    return (linear.correlate(raised, box) / 9).round_()


def edges(level: Tensor) -> Tensor:
    """Return where the edges are (N, H, W) by Canny's method, as bool.

    Gradient by Sobel, border nearest; kept where it exceeds both neighbors along its direction, in
    eight directions; above 150, or above 50 and connected to such.
    """
    height, width = level.shape[1:]
    p = level
    for dim, size in ((1, height), (2, width)):
        at = torch.arange(-1, size + 1, device=level.device).clamp_(0, size - 1)
        p = p.index_select(dim, at)
    dx = p[:, :, 2:] - p[:, :, :-2]
    dx = dx[:, :-2] + 2 * dx[:, 1:-1] + dx[:, 2:]
    dy = p[:, 2:] - p[:, :-2]
    dy = dy[:, :, :-2] + 2 * dy[:, :, 1:-1] + dy[:, :, 2:]
    magnitude = dx.abs() + dy.abs()
    m = torch.nn.functional.pad(magnitude, (1, 1, 1, 1))
    x, y = dx.abs() * 13573, dy.abs() * 32768  # tan(22.5 degrees) = 13573 / 2^15
    flat, steep = y < x, y > x + dx.abs() * 65536
    along = torch.where((dx < 0) == (dy < 0), 1, -1)

    def shift(down: int, right: int) -> Tensor:
        return m[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    before = torch.where(along > 0, shift(-1, -1), shift(-1, 1))
    after = torch.where(along > 0, shift(1, 1), shift(1, -1))
    ridge = torch.where(
        flat,
        (magnitude > shift(0, -1)) & (magnitude >= shift(0, 1)),
        torch.where(
            steep,
            (magnitude > shift(-1, 0)) & (magnitude >= shift(1, 0)),
            (magnitude > before) & (magnitude > after),
        ),
    )
    weak = ridge & (magnitude > LOW)
    strong = weak & (magnitude > HIGH)
    while True:
        near = torch.nn.functional.max_pool2d(strong[:, None].float(), 3, 1, 1)[:, 0] > 0
        grown = near & weak
        if torch.equal(grown, strong):
            return grown
        strong = grown


def distances(edge: Tensor) -> Tensor:
    """Return the distance (N, H, W) to the nearest edge, by king's and knight's moves, to 21."""
    n, height, width = edge.shape
    far = float(int(FAR + 1) << 16)
    d = torch.full((n, height + 4, width + 4), far, dtype=torch.float64, device=edge.device)
    inner = d[:, 2:-2, 2:-2]
    inner.masked_fill_(edge, 0)
    while True:
        best = inner.clone()
        for (down, right), length in _moves().items():
            there = d[:, 2 + down : 2 + down + height, 2 + right : 2 + right + width]
            best = torch.minimum(best, there + length)
        if torch.equal(best, inner):
            return best / 65536
        inner.copy_(best)


def equalize(level: Tensor) -> Tensor:
    """Return integers of 0..255 (N, H, W) with their histogram equalized, the lowest to 0."""
    n, height, width = level.shape
    flat = level.long().flatten(1)
    count = torch.zeros((n, 256), dtype=torch.int64, device=level.device)
    count.scatter_add_(1, flat, torch.ones_like(flat))
    lowest = flat.amin(1, keepdim=True)
    floor = count.gather(1, lowest)
    rest = height * width - floor
    scale = 255.0 / rest.float()  # float32, as the reference has it
    table = (count.cumsum(1) - floor).float().mul_(scale).round_().clamp_(0, 255)
    out = torch.where(rest == 0, flat.float(), table.gather(1, flat))
    return out.double().view_as(level)


@functools.cache
def _moves() -> dict[tuple[int, int], int]:
    reach = range(-2, 3)
    moves = {(i, j): i * i + j * j for i in reach for j in reach}
    return {move: STEPS[square] for move, square in moves.items() if square in STEPS}
