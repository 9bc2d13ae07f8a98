"""ResNet-18 with functions of an ODE block that take whole steps: null models of `ode_block`.

    tied_resnet     z <- z + dt f(z),   M times
    untied_resnet   z <- z + f_m(m / M, z) / M,   m = 0..M-1

f and its place are those of `harness.models.ode_block`; tied, it does not see m.

Reference: R. T. Q. Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018,
https://arxiv.org/abs/1806.07366. Deviations: softplus and group norm as in the ODE block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.ode_block import VectorField
from harness.models.slots import with_slots


class TiedBlock(nn.Module):
    """z <- z + dt f(z), `applications` times with the same f."""

    def __init__(self, f: nn.Module, applications: int, dt: float) -> None:
        super().__init__()
        if applications < 1:
            raise ValueError(f"`applications` must be at least 1; got {applications}.")
        self.f, self.applications, self.dt = f, applications, dt

    def forward(self, z: Tensor) -> Tensor:
        u = z.to(torch.promote_types(z.dtype, torch.float32))
        for _ in range(self.applications):
            u = u + self.dt * self.f(u)
        return u.to(z.dtype)


class UntiedBlock(nn.Module):
    """z <- z + f_m(m / M, z) / M, M functions of their own."""

    def __init__(self, channels: int, applications: int) -> None:
        super().__init__()
        if applications < 1:
            raise ValueError(f"`applications` must be at least 1; got {applications}.")
        self.applications = applications
        self.fields = nn.ModuleList(VectorField(channels) for _ in range(applications))

    def forward(self, z: Tensor) -> Tensor:
        u, count = z.to(torch.promote_types(z.dtype, torch.float32)), len(self.fields)
        for m, f in enumerate(self.fields):
            u = u + f(m / count, u) / count
        return u.to(z.dtype)


class Autonomous(VectorField):
    """f(z), the vector field without time."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, autonomous=True)

    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(0.0, z)


@MODELS.register
@card("null", "z <- z + f(z), M times with one f", matched=("parameters", "multiply-adds"))
def tied_resnet(
    num_classes: int = 10,
    width: int = 64,
    applications: int = 8,
    dt: float = 1.0,
    stages: int | Sequence[int] = 4,
) -> nn.Module:
    """Null model of ODE blocks: one block of their weights, applied as often as they evaluate.

    Args:
        applications: M; 8 evaluations are those of `ode_block`.
        dt: Size of a step; 1 / M makes it the Euler method on [0, 1].
        stages: Whose second blocks are replaced, 1 to 4.
    """
    return with_slots(
        num_classes, width, stages, lambda c: TiedBlock(Autonomous(c), applications, dt)
    )


@MODELS.register
@card(
    "null",
    "z <- z + f_m(m / M, z) / M, M functions of their own",
    matched=("multiply-adds", "form of f", "size of a step"),
)
def untied_resnet(
    num_classes: int = 10,
    width: int = 64,
    applications: int = 8,
    stages: int | Sequence[int] = 4,
) -> nn.Module:
    """Null model of ODE blocks: as many evaluations, each of a function of its own.

    Args:
        applications: M; 8 evaluations are those of `ode_block`.
        stages: Whose second blocks are replaced, 1 to 4.
    """
    return with_slots(num_classes, width, stages, lambda c: UntiedBlock(c, applications))
