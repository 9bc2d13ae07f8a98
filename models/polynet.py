"""ResNet-18 whose slots take two terms of a Neumann series, and its nulls.

    polynet         x <- x + f(x) + f(f(x))       poly-2, one f evaluated twice
                    x <- x + f(x) + g(f(x))       mpoly-2
    polynet_2way    x <- x + f(x) + g(x)
    polynet_tied    x <- (1 + f)((1 + f)(x))      two Euler steps with one f

For a linear f = A, |A| < 1, poly-2 is (1 - A)^-1, one step of backward Euler, up to an error of
|A|^3 / (1 - |A|). It does not inherit its stability: 1 + z + z^2 stays in [-1, 1] for real z in
[-1, 0] alone, where Euler's 1 + z does for z in [-2, 0].

Reference: X. Zhang, Z. Li, C. C. Loy, D. Lin, PolyNet: A Pursuit of Structural Diversity in Very
Deep Networks, CVPR 2017, https://arxiv.org/abs/1611.05725. Deviations: the modules stand in the
slots of ResNet-18 with group norm, where the paper has Inception-ResNet-v2 with batch norm.
"""

from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.papers import LIU_2025, ZHANG_2017
from harness.models.slots import STAGES, ResidualFunction, with_slots
from harness.models.tied_blocks import TiedBlock

KINDS = ("poly-2", "mpoly-2", "2-way")


class PolyBlock(nn.Module):
    """One of the three modules on (N, c, H, W); 18 c^2 + 4 c weights for each function."""

    def __init__(self, channels: int, kind: str = "poly-2") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}.")
        self.kind = kind
        self.f = ResidualFunction(channels)
        self.g = self.f if kind == "poly-2" else ResidualFunction(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(x)
        return x + y + self.g(x if self.kind == "2-way" else y)


@MODELS.register
@card(
    "review",
    "x <- x + f(x) + f(f(x))",
    (ZHANG_2017, LIU_2025),
    ("polynet_tied", "polynet_2way", "resnet18_slot"),
)
def polynet(num_classes: int = 10, width: int = 64, kind: str = "poly-2") -> nn.Module:
    """ResNet-18 with poly-2 slots: the weights of plain slots, two evaluations of each.

    Args:
        kind: "poly-2", "mpoly-2" with a second function, or "2-way".
    """
    return with_slots(num_classes, width, STAGES, lambda c: PolyBlock(c, kind))


@MODELS.register
@card("null", "x <- x + f(x) + g(x)", (ZHANG_2017,))
def polynet_2way(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `polynet`: two functions side by side, twice the weights in the slots."""
    return with_slots(num_classes, width, STAGES, lambda c: PolyBlock(c, "2-way"))


@MODELS.register
@card("null", "x <- x + f(x), twice with one f")
def polynet_tied(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `polynet`: two Euler steps, as many evaluations and weights."""
    return with_slots(
        num_classes, width, STAGES, lambda c: TiedBlock(ResidualFunction(c), 2, dt=1.0)
    )
