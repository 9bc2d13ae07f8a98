"""Solvers of u_t = f(t, u) for a batch of states."""

from models.ops.solvers.adaptive import Adaptive
from models.ops.solvers.fixed import FixedGrid, Leapfrog
from models.ops.solvers.names import ADAPTIVE_NAMES, FIXED_NAMES, solver
from models.ops.solvers.solution import Solution, Solver, VectorField, channel
from models.ops.solvers.tableau import ADAPTIVE, FIXED, Tableau
