"""Networks of self-similar columns without residuals, and their nulls.

    f_1(x) = unit(x),   f_{C+1}(x) = mean(f_C(f_C(x)), unit(x)),   unit = conv3x3 - norm - ReLU

Means that meet are one flat mean over all columns that end there. A block of C columns has 2^C - 1
units and a longest path of 2^(C-1). Read as Runge-Kutta stages it is no consistent scheme. In slot
form f_2 with group norm stands in the second block of every stage of ResNet-18, without any sum
with its input. The preset has 5 blocks of 3 columns, 64 to 512 filters, dropout of 0 to 0.4, and
2x2 pooling of each column before a block's last mean; in training half of the batches drop each
input of each mean with probability 0.15, one at least stays, and the other half use one column,
the same in all blocks.

Reference: G. Larsson, M. Maire, G. Shakhnarovich, FractalNet: Ultra-Deep Neural Networks without
Residuals, ICLR 2017, https://arxiv.org/abs/1605.07648. Deviations: the slot form and its group norm
are ours; max pooling; He's start, and a head that sees its features scaled by 0.3, since this
project's learning rate is ten times the paper's; batch statistics are measured once more after
training, with nothing dropped: dropout stands before the norm, and changes what that sees.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.papers import LARSSON_2017, LIU_2025
from harness.models.slots import STAGES, group_norm, with_slots

FILTERS = (64, 128, 256, 512, 512)
DROPOUT = (0.0, 0.1, 0.2, 0.3, 0.4)
LOCAL = 0.15
HEAD = 0.3  # ours: what the head sees is scaled by it


def slot_unit(inputs: int, channels: int) -> nn.Module:
    """Return conv3x3 - GN - ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1, bias=False), group_norm(channels), nn.ReLU()
    )


class Drop:
    """What of a mean's inputs is left in this pass: all, by column, or by chance.

    Args:
        column: The only one that is kept, counted from the deepest, 0; None for all.
        local: Probability that an input is dropped, where no column is chosen.
    """

    def __init__(self, column: int | None = None, local: float = 0.0) -> None:
        self.column, self.local = column, local

    def join(self, inputs: list[Tensor]) -> Tensor:
        """Return the mean of what is left of `inputs`, the deepest first."""
        if self.column is not None:
            return inputs[self.column]
        if self.local:
            kept = torch.rand(len(inputs)) >= self.local
            if not kept.any():
                kept[torch.randint(len(inputs), ())] = True
            inputs = [x for x, keep in zip(inputs, kept.tolist(), strict=True) if keep]
        return sum(inputs[1:], inputs[0]) / len(inputs)


class Fractal(nn.Module):
    """The columns of f_C from `inputs` to `channels`, before their mean, the deepest first."""

    def __init__(self, columns: int, inputs: int, channels: int, unit=slot_unit) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.short = unit(inputs, channels)
        self.deep = nn.ModuleList()
        if columns > 1:
            self.deep.append(Fractal(columns - 1, inputs, channels, unit))
            self.deep.append(Fractal(columns - 1, channels, channels, unit))
        self.columns = columns

    def forward(self, x: Tensor, drop: Drop) -> list[Tensor]:
        shortest = self.columns - 1
        if drop.column == shortest or not self.deep:
            # A chosen column is all that is computed; the places of the others stay empty.
            return [x] * shortest + [self.short(x)]
        first, second = self.deep
        found = second(drop.join(first(x, drop)), drop)
        return [*found, self.short(x) if drop.column is None else x]


class FractalSlot(nn.Module):
    """f_C of a state (N, c, H, W)."""

    def __init__(self, channels: int, columns: int) -> None:
        super().__init__()
        if columns < 1:
            raise ValueError(f"`columns` must be at least 1; got {columns}. Use 2.")
        self.fractal = Fractal(columns, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        drop = Drop()
        return drop.join(self.fractal(x, drop))


class FractalNet(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""

    def __init__(self, num_classes: int, width: int, columns: int, drop_path: bool) -> None:
        super().__init__()
        self.columns, self.drop_path = columns, drop_path
        self.normalize = Normalize()
        self.fractals, inputs = nn.ModuleList(), 3
        for filters, dropout in zip(FILTERS, DROPOUT, strict=True):
            channels = max(1, filters * width // 64)

            def unit(before: int, after: int, dropout: float = dropout) -> nn.Module:
                conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                return nn.Sequential(
                    conv,
                    nn.Dropout(dropout),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )

            self.fractals.append(Fractal(columns, inputs, channels, unit))
            inputs = channels
        self.head = nn.Linear(inputs, num_classes)

    def draw(self) -> Drop:
        """Draw what this pass drops, from torch's generator; nothing in evaluation."""
        if not (self.training and self.drop_path):
            return Drop()
        if torch.rand(()) < 0.5:
            return Drop(column=int(torch.randint(self.columns, ())))
        return Drop(local=LOCAL)

    def forward(self, images: Tensor) -> Tensor:
        x, drop = self.normalize(images), self.draw()
        for fractal in self.fractals:
            x = drop.join([nn.functional.max_pool2d(y, 2) for y in fractal(x, drop)])
        return self.head(HEAD * x.mean((2, 3)))

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure the batch statistics with nothing dropped, as the mean over `batches`."""
        self.eval()
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all
            norm.train()
        for images in batches:
            self(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.eval()


@MODELS.register
@card(
    "review",
    "f_{C+1}(x) = mean(f_C(f_C(x)), unit(x))",
    (LARSSON_2017, LIU_2025),
    ("fractalnet_column", "resnet18_slot"),
)
def fractalnet(num_classes: int = 10, width: int = 64, columns: int = 2) -> nn.Module:
    """ResNet-18 with fractal slots, of 2^C - 1 convolutions; half again the weights of a plain one.

    Args:
        columns: C.
    """
    return with_slots(num_classes, width, STAGES, lambda c: FractalSlot(c, columns))


@MODELS.register
@card("null", "x <- unit(unit(x))", (LARSSON_2017,))
def fractalnet_column(num_classes: int = 10, width: int = 64, units: int = 2) -> nn.Module:
    """Null model of `fractalnet`: its deepest column alone; 3 units have its weights.

    Args:
        units: Number of units in a row.
    """
    return with_slots(
        num_classes,
        width,
        STAGES,
        lambda c: nn.Sequential(*(slot_unit(c, c) for _ in range(units))),
    )


@MODELS.register
@card(
    "review",
    "f_{C+1}(x) = mean(f_C(f_C(x)), unit(x))",
    (LARSSON_2017,),
    ("fractalnet20_plain",),
)
def fractalnet20(
    num_classes: int = 10, width: int = 64, columns: int = 3, drop_path: bool = True
) -> nn.Module:
    """FractalNet-20 of the paper, with drop-path.

    Args:
        columns: C of each of the five blocks.
        drop_path: Whether training drops columns.
    """
    return FractalNet(num_classes, width, columns, drop_path)


@MODELS.register
@card("null", "f_{C+1}(x) = mean(f_C(f_C(x)), unit(x)), nothing dropped", (LARSSON_2017,))
def fractalnet20_plain(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `fractalnet20`: without drop-path."""
    return FractalNet(num_classes, width, 3, drop_path=False)
