"""Random crops and mirrored images, drawn for an epoch at a time."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def draw_crops(
    count: int, batch_size: int, padding: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the crops of `count` batches at once, so that no step waits for the host.

    Returns:
        Shifts (count, 2, batch_size) in [0, 2 padding], and (count, batch_size), true for half of
        the images: those to be mirrored. On the CPU.
    """
    shifts, mirrored = [], []
    for _ in range(count):
        shifts.append(torch.randint(0, 2 * padding + 1, (2, batch_size, 1), generator=generator))
        mirrored.append(torch.rand(batch_size, 1, generator=generator) < 0.5)
    return torch.stack(shifts)[..., 0], torch.stack(mirrored)[..., 0]


def crop_and_flip(images: Tensor, shifts: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """Cut images out of themselves between `padding` pixels of zeros, and mirror some.

    Args:
        images: (N, C, H, H), any type; the result has it too, and is channels-last in memory.
        shifts: (2, N), rows and columns of the padded image that come first.
        mirrored: (N,), bool.
    """
    n, _, size, _ = images.shape
    grid = torch.arange(size, device=images.device)
    rows = shifts[0, :, None] + grid  # (N, H) into the padded image
    columns = shifts[1, :, None] + torch.where(mirrored[:, None], grid.flip(0), grid)
    padded = pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    which = torch.arange(n, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
