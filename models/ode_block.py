"""ResNet-18 with a differential equation in place of a residual block.

    z_t = f(t, z),  t in [0, T],   in place of   x + f(x)

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

T is 1, a number that is given, or learned as exp of a parameter: depth as a continuous parameter.
With an adaptive solver evaluations can be given a price: the loss grows by `penalty` times the mean
over images of `Solution.effort`, the number of evaluations as a smooth function of f (see
`harness.models.ops.solvers.adaptive`). The penalty is there beside weight decay.

Reference: R. T. Q. Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018,
https://arxiv.org/abs/1806.07366; When Physics Teaches Vision (DiffusifyNet), 2026,
https://diffusify.in. Penalties on cost: J. Kelly, J. Bettencourt, M. J. Johnson, D. Duvenaud,
Learning Differential Equations that are Easy to Solve, NeurIPS 2020,
https://arxiv.org/abs/2007.04504; A. Pal et al., Opening the Blackbox, ICML 2021,
https://arxiv.org/abs/2105.03918. Deviations: gradients by backpropagation through the solver in
place of the adjoint equation, which may diverge where that does not; place, solver and softplus are
ours, and so is the form of the penalty, in units of evaluations.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.ops.solvers import (
    ADAPTIVE_NAMES,
    FIXED_NAMES,
    Adaptive,
    Solution,
    Solver,
    Time,
    channel,
    solver,
)
from harness.models.papers import CHEN_2018, DIFFUSIFYNET, KELLY_2020, PAL_2021
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
    """z(0) (N, c, H, W) to z(T).

    `nfe` (N,) and `spent` (N,) are of the last call: evaluations, and whether an adaptive solver
    stopped before the end; (0,) for a solver of fixed steps. `effort` (N,) is of the last call in
    training, and differentiable.

    Args:
        solver: One of `harness.models.ops.solvers`.
        time: T, > 0.
        learned: Whether T is a parameter that starts there.

    Raises:
        FloatingPointError: In training a solver stopped before the end: the loss would be that of
            an unfinished solution.
    """

    nfe: Tensor
    spent: Tensor

    def __init__(
        self,
        channels: int,
        solver: Solver,
        field: type[VectorField] = VectorField,
        time: float = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        if not (time > 0 and math.isfinite(time)):
            raise ValueError(f"`time` must be > 0 and finite; got {time}. Use 1.0.")
        self.f = field(channels)
        self.solver = solver
        self.end = time
        self.log_time = nn.Parameter(torch.tensor(math.log(time))) if learned else None
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.spent = torch.zeros(0, dtype=torch.bool)
        self.effort: Tensor | None = None

    @property
    def time(self) -> float:
        """T."""
        return self.end if self.log_time is None else math.exp(self.log_time.item())

    def forward(self, z: Tensor) -> Tensor:
        solution = self.solve(z)
        self.nfe = solution.nfe
        # A fixed grid always ends.
        self.spent = solution.spent if isinstance(self.solver, Adaptive) else self.spent[:0]
        if isinstance(self.solver, Adaptive) and self.training and bool(self.spent.any()):
            raise FloatingPointError(
                f"The solver {self.solver.name} stopped before the end for {int(self.spent.sum())} "
                f"of {len(z)} images: {self.solver.max_nfe} evaluations or the smallest step were "
                "not enough. Raise `max_nfe`, or `rtol` and `atol`."
            )
        self.effort = solution.effort if self.training else None
        return solution.u.to(z.dtype)

    def solve(self, z: Tensor) -> Solution:
        """Solve up to T: z_s = T f(T s, z) up to s = 1 where T is learned, for its gradient."""
        if self.log_time is None:
            return self.solver(self.f, z, 0.0, self.end)
        T = self.log_time.exp()

        def scaled(s: Time, u: Tensor) -> Tensor:
            return T * self.f((T * s).expand(len(u)), u)

        return self.solver(scaled, z)


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


class PricedResNet(SolvingResNet):
    """A ResNet-18 with ODE blocks whose evaluations cost `price` each, in units of the loss."""

    price = 0.0
    decayed = True

    def regularization(self) -> Tensor:
        """Return the price of the last call, of its mean image; once, for what it holds is freed.

        Raises:
            ValueError: The solver has no choice of steps.
        """
        efforts = []
        for block in ode_blocks(self):
            if block.effort is None:
                raise ValueError(
                    f"A penalty on evaluations needs an adaptive solver; got {block.solver.name}. "
                    f"Use one of {', '.join(ADAPTIVE_NAMES)}."
                )
            efforts.append(block.effort.mean())
            block.effort = None
        return self.price * torch.stack(efforts).sum()


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
    "z_t = f(t, z), t in [0, T], in place of x + f(x)",
    (DIFFUSIFYNET, CHEN_2018, KELLY_2020, PAL_2021),
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
    time: float = 1.0,
    learn_time: bool = False,
    penalty: float = 0.0,
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
        time: T.
        learn_time: Learn T, from `time` on; one more weight a block.
        penalty: What one evaluation of an adaptive solver adds to the loss in training.
    """
    method = choose_solver(solver, num_steps, rtol, atol, max_nfe, checkpointed)
    skeleton = PricedResNet if penalty else SolvingResNet
    model = with_slots(
        num_classes,
        width,
        stages,
        lambda c: ODEBlock(c, method, time=time, learned=learn_time),
        skeleton,
    )
    if isinstance(model, PricedResNet):
        if solver not in ADAPTIVE_NAMES or not penalty > 0:
            raise ValueError(
                f"`penalty` must be >= 0, with an adaptive solver; got {penalty} with {solver}. "
                f"Use one of {', '.join(ADAPTIVE_NAMES)}."
            )
        model.price = penalty
    return model
