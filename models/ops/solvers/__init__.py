"""Solvers of u_t = f(t, u) for a batch of states."""

from harness.models.ops.solvers.adaptive import Adaptive
from harness.models.ops.solvers.fixed import FixedGrid, Leapfrog
from harness.models.ops.solvers.names import ADAPTIVE_NAMES, FIXED_NAMES, solver
from harness.models.ops.solvers.solution import Solution, Solver, Time, VectorField, channel
from harness.models.ops.solvers.tableau import ADAPTIVE, FIXED, Tableau
