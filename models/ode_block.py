"""ResNet-18 with a differential equation in place of a residual block, and its nulls.

    ode_block       z_t = f(t, z),  t in [0, 1],   in place of   x + f(x)
    tied_resnet     z <- z + dt f(z),   M times
    untied_resnet   z <- z + f_m(m / M, z) / M,   m = 0..M-1

f = GN - softplus - conv3x3([z, t]) - GN - softplus - conv3x3([z, t]) - GN, smooth as solvers want
it, t as a constant channel. The last scale starts at 1, as in the paper's code: from 0, where the
block would start as the identity, the field had hardly left it when a short training was over (on
the digits it changed the state by 7 %, where the plain slot doubles it), and there was nothing to
solve. By default in the second block of stage 4, solved by two steps of the classical
Runge-Kutta method: 8 evaluations. The solver can be replaced (`model.solver`), also by one with a
step size for every image; `model.nfe` says what each image of the last call cost. Gradients go
through the steps of the solver. `ode_block(num_steps=M, solver='euler')` is the same f applied M
times in steps of 1 / M, with M = 1 a fixed layer. Fixed Euler steps without the channel t are the
tied network with step 1 / M: one system, not two.

Reference: R. T. Q. Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018,
https://arxiv.org/abs/1806.07366; When Physics Teaches Vision (DiffusifyNet), 2026,
https://diffusify.in. Deviations: gradients by backpropagation through the solver in place of the
adjoint equation, which may diverge where that does not; place, solver and softplus are ours.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.ops.solvers import (
    ADAPTIVE_NAMES,
    FIXED_NAMES,
    Adaptive,
    Solver,
    channel,
    solver,
)
from harness.models.papers import CHEN_2018, DIFFUSIFYNET
from harness.models.registry import unknown
from harness.models.resnet import SmallImageResNet
from harness.models.slots import group_norm, with_slots


class VectorField(nn.Module):
    """f(t, z) on states (N, c, H, W), (c + 1) c 18 + 6 c weights.

    Args:
        autonomous: Without t, for nulls that take whole steps: starts at 0, they as the identity.
    """

    def __init__(self, channels: int, autonomous: bool = False) -> None:
        super().__init__()
        self.autonomous = autonomous
        inputs = channels if autonomous else channels + 1
        norms = [group_norm(channels) for _ in range(3)]
        convs = [nn.Conv2d(inputs, channels, 3, padding=1, bias=False) for _ in range(2)]
        self.norms, self.convs = nn.ModuleList(norms), nn.ModuleList(convs)
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if autonomous:  # whole steps follow: from scale 1 eight of them do not train at first
            nn.init.zeros_(norms[2].weight)

    def forward(self, t: float | Tensor, z: Tensor) -> Tensor:
        u = z
        for norm, conv in zip(self.norms, self.convs, strict=False):
            u = nn.functional.softplus(norm(u))
            u = conv(u if self.autonomous else torch.cat((u, channel(t, u)), dim=1))
        return self.norms[2](u)


class ODEBlock(nn.Module):
    """z(0) (N, c, H, W) to z(1).

    `nfe` (N,) and `spent` (N,) are of the last call: evaluations, and whether an adaptive solver
    stopped before the end; (0,) for a solver of fixed steps.

    Args:
        solver: One of `harness.models.ops.solvers`.

    Raises:
        FloatingPointError: In training a solver stopped before the end: the loss would be that of
            an unfinished solution.
    """

    nfe: Tensor
    spent: Tensor

    def __init__(
        self, channels: int, solver: Solver, field: type[VectorField] = VectorField
    ) -> None:
        super().__init__()
        self.f = field(channels)
        self.solver = solver
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.spent = torch.zeros(0, dtype=torch.bool)

    def forward(self, z: Tensor) -> Tensor:
        solution = self.solver(self.f, z)
        self.nfe = solution.nfe
        # A fixed grid always ends.
        self.spent = solution.spent if isinstance(self.solver, Adaptive) else self.spent[:0]
        if isinstance(self.solver, Adaptive) and self.training and bool(self.spent.any()):
            raise FloatingPointError(
                f"The solver {self.solver.name} stopped before the end for {int(self.spent.sum())} "
                f"of {len(z)} images: {self.solver.max_nfe} evaluations or the smallest step were "
                "not enough. Raise `max_nfe`, or `rtol` and `atol`."
            )
        return solution.u.to(z.dtype)


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


def ode_blocks(model: nn.Module) -> Iterator[ODEBlock]:
    """Yield the ODE blocks of a model, in the order of evaluation."""
    return (block for block in model.modules() if isinstance(block, ODEBlock))


class SolvingResNet(SmallImageResNet):
    """A ResNet-18 with ODE blocks in some slots; one solver for all of them."""

    @property
    def solver(self) -> Solver:
        return next(ode_blocks(self)).solver

    @solver.setter
    def solver(self, solver: Solver) -> None:
        for block in ode_blocks(self):
            block.solver = solver

    @property
    def nfe(self) -> Tensor:
        """Evaluations spent on each image of the last call, (N,), in all blocks together."""
        return torch.stack([block.nfe for block in ode_blocks(self)]).sum(dim=0)


def choose_solver(
    name: str, num_steps: int, rtol: float, atol: float, max_nfe: int, checkpointed: bool = False
) -> Solver:
    """Return the solver that a builder's arguments describe."""
    if name in ADAPTIVE_NAMES:
        return solver(name, rtol=rtol, atol=atol, max_nfe=max_nfe)
    if name in FIXED_NAMES and name != "leapfrog":
        return solver(name, num_steps=num_steps, checkpointed=checkpointed)
    raise unknown("solver", name, [n for n in (*FIXED_NAMES, *ADAPTIVE_NAMES) if n != "leapfrog"])


@MODELS.register
@card(
    "touchpoint",
    "z_t = f(t, z), t in [0, 1], in place of x + f(x)",
    (DIFFUSIFYNET, CHEN_2018),
    ("tied_resnet", "untied_resnet", "resnet18_slot4"),
)
def ode_block(
    num_classes: int = 10,
    width: int = 64,
    solver: str = "rk4",
    num_steps: int = 2,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    max_nfe: int = 200,
    checkpointed: bool = False,
    stages: int | Sequence[int] = 4,
) -> nn.Module:
    """ResNet-18 with an ODE block; 8 evaluations where `resnet18_slot4` has 1, on equal weights.

    Args:
        solver: "euler", "midpoint", "heun", "heun3", "rk4"; "heun_euler", "bosh3" or "dopri5" with
            a step size for every image.
        num_steps: Number of steps of a fixed solver.
        rtol: Relative tolerance of an adaptive one; `atol` the absolute one.
        max_nfe: Budget of evaluations of an adaptive one.
        checkpointed: Recompute the stages of a fixed step in the backward pass.
        stages: Whose second blocks are replaced, 1 to 4.
    """
    method = choose_solver(solver, num_steps, rtol, atol, max_nfe, checkpointed)
    return with_slots(num_classes, width, stages, lambda c: ODEBlock(c, method), SolvingResNet)


@MODELS.register
@card("null", "z <- z + f(z), M times with one f")
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
