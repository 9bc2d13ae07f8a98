"""ResNet-18 whose slots take one step of a Runge-Kutta method, and its null.

    midpoint   x <- x + f(x + f(x) / 2)
    heun       x <- x + (k1 + k2) / 2,   k1 = f(x), k2 = f(x + k1)
    rk4        x <- x + (k1 + 2 k2 + 2 k3 + k4) / 6, the classical method

for u' = f(u), dt = 1, all stages with one f. Stable on u' = lambda u for real lambda in [-2, 0]
(midpoint, heun) or [-2.785, 0] (rk4). The null takes as many Euler steps, of one s-th each.

Reference: M. Zhu, B. Chang, C. Fu, Convolutional Neural Networks combined with Runge-Kutta Methods,
Neural Computing and Applications 2022, https://arxiv.org/abs/1802.08831. Deviations: classical
coefficients and one f, where the paper learns coefficients and stages of their own.
"""

from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import widen
from harness.models.ops.solvers import solver
from harness.models.papers import LIU_2025, ZHU_2022
from harness.models.registry import unknown
from harness.models.slots import STAGES, ResidualFunction, with_slots
from harness.models.tied_blocks import TiedBlock

EVALUATIONS = {"midpoint": 2, "heun": 2, "heun3": 3, "rk4": 4}


class RungeKuttaBlock(nn.Module):
    """One step of `method` for u' = f(u) on (N, c, H, W)."""

    def __init__(self, channels: int, method: str) -> None:
        super().__init__()
        if method not in EVALUATIONS:
            raise unknown("method", method, EVALUATIONS)
        self.f = ResidualFunction(channels)
        self.solver = solver(method, num_steps=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.solver(lambda t, u: self.f(u), widen(x)).u


@MODELS.register
@card(
    "review",
    "x <- x + sum_i b_i k_i, k_i = f(x + sum_j a_ij k_j)",
    (ZHU_2022, LIU_2025),
    ("rk_resnet_tied", "resnet18_slot"),
)
def rk_resnet(num_classes: int = 10, width: int = 64, method: str = "rk4") -> nn.Module:
    """ResNet-18 with Runge-Kutta slots: the weights of plain slots, four evaluations of each.

    Args:
        method: "midpoint", "heun", "heun3" or "rk4".
    """
    return with_slots(num_classes, width, STAGES, lambda c: RungeKuttaBlock(c, method))


@MODELS.register
@card("null", "x <- x + f(x) / s, s times with one f")
def rk_resnet_tied(num_classes: int = 10, width: int = 64, evaluations: int = 4) -> nn.Module:
    """Null model of `rk_resnet`: as many Euler steps with one f, for the same time.

    Args:
        evaluations: s; 4 are those of "rk4", 2 those of "midpoint" and "heun".
    """
    return with_slots(
        num_classes,
        width,
        STAGES,
        lambda c: TiedBlock(ResidualFunction(c), evaluations, 1 / max(evaluations, 1)),
    )
