"""Explicit Runge-Kutta methods, each by its Butcher tableau.

    k_i = f(t + c_i dt, u + dt sum_j a_ij k_j),   u <- u + dt sum_i b_i k_i,
    error = dt sum_i e_i k_i   (the difference to the embedded method, where there is one)

The last stage of the adaptive methods here is the first one of the next step ("first same as
last"): its row of a is b.

References: E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I, Springer
1993, II.1-II.4. P. Bogacki, L. F. Shampine, A 3(2) pair of Runge-Kutta formulas, Appl. Math. Lett.
2(4), 1989. J. R. Dormand, P. J. Prince, A family of embedded Runge-Kutta formulae, J. Comput. Appl.
Math. 6(1), 1980.
"""

from dataclasses import dataclass

Row = tuple[float, ...]


@dataclass(frozen=True)
class Tableau:
    """One method.

    Args:
        order: Order of the method that is carried on.
        a: Strictly lower triangle, a row a stage; the first one is empty.
        b: Weights of the stages.
        c: Times of the stages.
        e: Weights of the error estimate; empty for methods of fixed steps.
        controller: q in dt <- 0.9 dt error^(-1/q): one more than the lower order of the pair.
    """

    name: str
    order: int
    a: tuple[Row, ...]
    b: Row
    c: Row
    e: Row = ()
    controller: int = 0

    @property
    def stages(self) -> int:
        return len(self.b)


EULER = Tableau("euler", 1, a=((),), b=(1,), c=(0,))

MIDPOINT = Tableau("midpoint", 2, a=((), (1 / 2,)), b=(0, 1), c=(0, 1 / 2))

HEUN = Tableau("heun", 2, a=((), (1,)), b=(1 / 2, 1 / 2), c=(0, 1))

HEUN3 = Tableau(
    "heun3",
    3,
    a=((), (1 / 3,), (0, 2 / 3)),
    b=(1 / 4, 0, 3 / 4),
    c=(0, 1 / 3, 2 / 3),
)

# The classical method; torchdiffeq's "rk4" is the 3/8 rule.
RK4 = Tableau(
    "rk4",
    4,
    a=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0, 1 / 2, 1 / 2, 1),
)

HEUN_EULER = Tableau(
    "heun_euler",
    2,
    a=((), (1,), (1 / 2, 1 / 2)),
    b=(1 / 2, 1 / 2, 0),
    c=(0, 1, 1),
    e=(-1 / 2, 1 / 2, 0),
    controller=2,
)

BOSH3 = Tableau(
    "bosh3",
    3,
    a=((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0),
    c=(0, 1 / 2, 3 / 4, 1),
    e=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    controller=3,
)

DOPRI5 = Tableau(
    "dopri5",
    5,
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    c=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    e=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    controller=5,
)

FIXED = (EULER, MIDPOINT, HEUN, HEUN3, RK4)
ADAPTIVE = (HEUN_EULER, BOSH3, DOPRI5)
