"""A network that is one differential equation between a stem and a head, and its nulls.

    neural_ode             z_t = f(t, z),  t in [0, 1]
    neural_ode_blocks      z <- z + f_k(z),  k = 1..6
    neural_ode_tied        z <- z + f(z),  8 times

Stem: conv3x3 to c - GN - ReLU - conv3x3 to 2 c - GN - ReLU - conv4x4, stride 2, to 4 c, with c =
width; head: GN - ReLU - global average - linear. f = GN - ReLU - conv3x3([z, t]) - GN - ReLU -
conv3x3([z, t]) - GN, t as a constant channel, on maps of 16 pixels for images of 32. By default
two steps of the classical Runge-Kutta method, 8 evaluations; the solver can be replaced. With
`augmented` = p, p channels of zeros are put beside the state of the equation and read by the head.

Reference: R. T. Q. Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018,
https://arxiv.org/abs/1806.07366; E. Dupont et al., Augmented Neural ODEs, NeurIPS 2019,
https://arxiv.org/abs/1904.01681. Deviations: the stem is that of a later CIFAR network (X. Liu et
al., Neural SDE, https://arxiv.org/abs/1906.02355), since the paper's own is for gray digits;
gradients through the steps of the solver; a fixed solver while training.
"""

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.ode_block import ODEBlock, VectorField, choose_solver
from harness.models.ops.solvers import Solver, channel
from harness.models.papers import CHEN_2018, DUPONT_2019
from harness.models.slots import group_norm
from harness.models.tied_blocks import TiedBlock


class ReLUField(VectorField):
    """f(t, z) with ReLU, as the paper has it; the solvers' order is lost at its kinks."""

    def forward(self, t: float | Tensor, z: Tensor) -> Tensor:
        u = z
        for norm, conv in zip(self.norms, self.convs, strict=False):
            u = torch.relu(norm(u))
            u = conv(u if self.autonomous else torch.cat((u, channel(t, u)), dim=1))
        return self.norms[2](u)


class AutonomousReLU(ReLUField):
    """f(z) of the nulls."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, autonomous=True)

    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(0.0, z)


class Augment(nn.Module):
    """[z, 0]: `channels` channels of zeros beside the state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.pad(z, (0, 0, 0, 0, 0, self.channels)) if self.channels else z


class StemAndHead(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes), through `trunk` on 4 c channels."""

    def __init__(self, num_classes: int, width: int, trunk: nn.Sequential, augmented: int) -> None:
        super().__init__()
        c, channels = width, 4 * width + augmented
        self.normalize = Normalize()
        self.stem = nn.Sequential(
            nn.Conv2d(3, c, 3, padding=1, bias=False),
            group_norm(c),
            nn.ReLU(),
            nn.Conv2d(c, 2 * c, 3, padding=1, bias=False),
            group_norm(2 * c),
            nn.ReLU(),
            nn.Conv2d(2 * c, 4 * c, 4, stride=2, padding=1, bias=False),
            Augment(augmented),
        )
        self.trunk = trunk
        self.head = nn.Sequential(
            group_norm(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(self.stem(self.normalize(images))))

    def blocks(self) -> dict[str, nn.Module]:
        """Return the blocks of the trunk."""
        return dict(self.trunk.named_children())


class SolvingNet(StemAndHead):
    """A network whose trunk is one ODE block."""

    @property
    def block(self) -> ODEBlock:
        block = self.trunk[0]
        assert isinstance(block, ODEBlock)
        return block

    @property
    def solver(self) -> Solver:
        return self.block.solver

    @solver.setter
    def solver(self, solver: Solver) -> None:
        self.block.solver = solver

    @property
    def nfe(self) -> Tensor:
        """Evaluations spent on each image of the last call, (N,)."""
        return self.block.nfe


class Residual(nn.Module):
    """z + f(z) with a function of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = AutonomousReLU(channels)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.f(z)


@MODELS.register
@card(
    "review",
    "z_t = f(t, z), t in [0, 1], between stem and head",
    (CHEN_2018, DUPONT_2019),
    ("neural_ode_tied", "neural_ode_blocks"),
)
def neural_ode(
    num_classes: int = 10,
    width: int = 64,
    solver: str = "rk4",
    num_steps: int = 2,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    max_nfe: int = 200,
    augmented: int = 0,
) -> nn.Module:
    """Neural ODE: one block solved with 8 evaluations.

    Args:
        solver: Solver, as of `ode_block`.
        num_steps: Number of steps of a fixed solver.
        rtol: Relative tolerance of an adaptive one; `atol` the absolute one.
        max_nfe: Budget of evaluations of an adaptive one.
        augmented: Channels of zeros beside the state, 5 in Dupont et al.
    """
    block = ODEBlock(
        4 * width + augmented, choose_solver(solver, num_steps, rtol, atol, max_nfe), ReLUField
    )
    return SolvingNet(num_classes, width, nn.Sequential(block), augmented)


@MODELS.register
@card("null", "z <- z + f(z), 8 times with one f", (CHEN_2018,))
def neural_ode_tied(num_classes: int = 10, width: int = 64, applications: int = 8) -> nn.Module:
    """Null model of `neural_ode`: its block applied as often as it evaluates, without time."""
    block = TiedBlock(AutonomousReLU(4 * width), applications, dt=1.0)
    return StemAndHead(num_classes, width, nn.Sequential(block), 0)


@MODELS.register
@card("null", "z <- z + f_k(z), k = 1..6", (CHEN_2018,))
def neural_ode_blocks(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `neural_ode`: six residual blocks, as in the paper; three times the weights."""
    trunk = nn.Sequential(*(Residual(4 * width) for _ in range(6)))
    return StemAndHead(num_classes, width, trunk, 0)
