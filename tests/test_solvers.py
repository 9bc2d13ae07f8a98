import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from harness.models.ops.solvers import ADAPTIVE, FIXED, FixedGrid, Leapfrog, channel, solver
from harness.models.ops.solvers.sums import LoopSums, Room, TorchSums, can_loop, sums_of
from harness.models.ops.solvers.tableau import Tableau
from harness.models.parity import Torchdiffeq

FIXED_NAMES = [t.name for t in FIXED]
ADAPTIVE_NAMES = [t.name for t in ADAPTIVE]


def logistic(t: Any, u: Tensor) -> Tensor:
    return u * (1 - u)


def logistic_solution(u0: Tensor, t: float) -> Tensor:
    return u0 * math.exp(t) / (1 + u0 * (math.exp(t) - 1))


def forced(t: Any, u: Tensor) -> Tensor:
    """u_t = -u + cos t, whose solution from u0 is (u0 - 1/2) e^-t + (cos t + sin t) / 2."""
    time = t if isinstance(t, Tensor) else torch.tensor(t, dtype=u.dtype)
    return -u + time.cos().reshape(-1, *[1] * (u.ndim - 1))


def forced_solution(u0: Tensor, t: float) -> Tensor:
    return (u0 - 0.5) * math.exp(-t) + (math.cos(t) + math.sin(t)) / 2


PROBLEMS = [(logistic, logistic_solution), (forced, forced_solution)]


def start(n: int = 5) -> Tensor:
    return torch.linspace(0.1, 0.8, n, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("tableau", [*FIXED, *ADAPTIVE], ids=lambda t: t.name)
def test_tableaus_are_consistent(tableau: Tableau) -> None:
    a = np.zeros((tableau.stages, tableau.stages))
    for i, row in enumerate(tableau.a):
        a[i, : len(row)] = row
    b, c = np.array(tableau.b), np.array(tableau.c)
    assert np.allclose(a.sum(1), c) and b.sum() == pytest.approx(1)
    conditions = [b @ c - 1 / 2, b @ c**2 - 1 / 3, b @ a @ c - 1 / 6, b @ c**3 - 1 / 4]
    orders = [2, 3, 3, 4]
    assert all(
        abs(r) < 1e-12 for r, o in zip(conditions, orders, strict=True) if o <= tableau.order
    )
    if tableau.e:
        assert sum(tableau.e) == pytest.approx(0, abs=1e-15)
        assert np.allclose(a[-1], b), "the last stage is the next step's first"
        embedded = b - np.array(tableau.e)
        assert abs(embedded @ c - 1 / 2) < 1e-12 or tableau.controller == 2


@pytest.mark.parametrize("f, solution", PROBLEMS, ids=["logistic", "forced"])
@pytest.mark.parametrize("name", FIXED_NAMES)
def test_the_observed_order_is_the_stated_one(name: str, f: Any, solution: Any) -> None:
    u0, errors = start(), []
    for num_steps in (16, 32):
        end = solver(name, num_steps=num_steps)(f, u0, 0.0, 2.0).u
        errors.append((end - solution(u0, 2.0)).abs().max().item())
    observed = math.log2(errors[0] / errors[1])
    assert observed == pytest.approx(solver(name, num_steps=1).order, abs=0.25)


@pytest.mark.parametrize(
    "name, edge",
    [("euler", 2.0), ("midpoint", 2.0), ("heun", 2.0), ("heun3", 2.5127), ("rk4", 2.7853)],
)
def test_the_real_stability_interval_ends_where_the_theory_says(name: str, edge: float) -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    for z, grows in ((0.999 * edge, False), (1.001 * edge, True)):

        def decay(t: float | Tensor, u: Tensor, z: float = z) -> Tensor:
            return -z * u

        end = solver(name, num_steps=1)(decay, one).u
        assert (end.abs().item() > 1) == grows


@pytest.mark.parametrize("name, edge", [("heun3", math.sqrt(3)), ("rk4", math.sqrt(8))])
def test_the_imaginary_stability_interval_likewise(name: str, edge: float) -> None:
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for z, grows in ((0.999 * edge, False), (1.001 * edge, True)):
        turn = torch.tensor([[0.0, z], [-z, 0.0]], dtype=torch.float64)

        def rotate(t: float | Tensor, u: Tensor, turn: Tensor = turn) -> Tensor:
            return u @ turn

        end = solver(name, num_steps=1)(rotate, one).u
        assert (end.norm().item() > 1) == grows


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_evaluations_are_counted(name: str) -> None:
    calls = []

    def f(t: Any, u: Tensor) -> Tensor:
        calls.append(t)
        return -u

    found = solver(name, num_steps=3)(f, start())
    assert found.nfe.tolist() == [len(calls)] * 5 and found.calls == len(calls)
    assert found.accepted.tolist() == [3] * 5 and not found.rejected.any()
    assert all(0 <= t <= 1 for t in calls)


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_checkpointing_changes_no_gradient(name: str) -> None:
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    u0 = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    grads = []
    for checkpointed in (False, True):
        saved: list[Tensor] = []

        def keep(x: Tensor, saved: list[Tensor] = saved) -> Tensor:
            saved.append(x)
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            end = solver(name, num_steps=6, checkpointed=checkpointed)(
                lambda t, u: torch.tanh(u @ weight), u0
            )
        grads.append((*torch.autograd.grad(end.u.square().sum(), (u0, weight)), len(saved)))
    assert torch.equal(grads[0][0], grads[1][0]) and torch.equal(grads[0][1], grads[1][1])
    assert grads[1][2] < grads[0][2]


@pytest.mark.parametrize("name", ["heun", "rk4", "bosh3", "dopri5"])
def test_gradients_are_those_of_differences(name: str) -> None:
    settings = {"num_steps": 3} if name in FIXED_NAMES else {"rtol": 1e-2, "atol": 1e-2}
    solve = solver(name, **settings)
    torch.manual_seed(0)
    u0 = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def end(u: Tensor, w: Tensor) -> Tensor:
        return solve(lambda t, x: torch.tanh(x @ w), u).u

    if name in FIXED_NAMES:
        assert torch.autograd.gradcheck(end, (u0, weight))
    # Step sizes are constants to the gradient: close to the derivative within the tolerance.
    du, dw = torch.autograd.grad(end(u0, weight).sum(), (u0, weight))
    exact = FixedGrid(FIXED[-1], 200)
    ru, rw = torch.autograd.grad(
        exact(lambda t, x: torch.tanh(x @ weight), u0).u.sum(), (u0, weight)
    )
    torch.testing.assert_close(du, ru, rtol=0.05, atol=0.05)
    torch.testing.assert_close(dw, rw, rtol=0.05, atol=0.05)


def test_a_solve_on_a_fixed_grid_is_one_graph() -> None:
    solve = solver("rk4", num_steps=2)

    def end(u: Tensor) -> Tensor:
        return solve(lambda t, x: torch.tanh(x) * (1 - t), u).u

    u0 = torch.randn(4, 3)
    compiled = torch.compile(end, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(u0), end(u0))
    torch.compiler.reset()


def test_the_state_stays_in_float32_where_the_field_rounds() -> None:
    u0 = torch.ones(1, 4)
    end = solver("euler", num_steps=1000)(
        lambda t, u: (2.0**-10 * torch.ones_like(u)).bfloat16(), u0
    ).u
    assert end.dtype == torch.float32
    # In bfloat16, 1 + 1e-6 is 1 for ever.
    torch.testing.assert_close(end, torch.full_like(end, 1 + 2.0**-10), rtol=0, atol=1e-4)


class TestLeapfrog:
    @staticmethod
    def oscillator(t: Any, u: Tensor) -> Tensor:
        q, p = u.chunk(2, dim=1)
        return torch.cat((p, -q), 1)

    def test_its_order_is_two(self) -> None:
        u0, errors = torch.tensor([[1.0, 0.0]], dtype=torch.float64), []
        for num_steps in (20, 40):
            end = Leapfrog(num_steps)(self.oscillator, u0, 0.0, 2.0).u
            exact = torch.tensor([[math.cos(2), -math.sin(2)]], dtype=torch.float64)
            errors.append((end - exact).norm().item())
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)

    def test_it_runs_backwards_over_its_own_steps(self) -> None:
        torch.manual_seed(0)
        u0 = torch.randn(3, 4, dtype=torch.float64)
        there = Leapfrog(7)(self.oscillator, u0, 0.0, 3.0).u
        mirrored = torch.cat((there[:, :2], -there[:, 2:]), 1)
        back = Leapfrog(7)(self.oscillator, mirrored, 0.0, 3.0).u
        expected = torch.cat((u0[:, :2], -u0[:, 2:]), 1)
        torch.testing.assert_close(back, expected, rtol=0, atol=1e-13)

    def test_energy_oscillates_and_does_not_drift(self) -> None:
        u = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        energies = []
        for _ in range(200):
            u = Leapfrog(10)(self.oscillator, u, 0.0, 2.0).u
            energies.append(u.square().sum().item())
        assert max(energies) - min(energies) < 0.03
        euler = solver("euler", num_steps=2000)(self.oscillator, u, 0.0, 400.0).u
        assert euler.square().sum() > 100

    def test_it_is_stable_up_to_two(self) -> None:
        u0 = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        for dt, grows in ((1.99, False), (2.01, True)):
            end = Leapfrog(200)(self.oscillator, u0, 0.0, 200 * dt).u
            assert (end.norm().item() > 50) == grows

    def test_odd_channels_are_refused(self) -> None:
        with pytest.raises(ValueError, match="Give an even number of channels"):
            Leapfrog(2)(self.oscillator, torch.zeros(1, 3))


class TestAdaptive:
    @pytest.mark.parametrize("f, solution", PROBLEMS, ids=["logistic", "forced"])
    @pytest.mark.parametrize("name", ADAPTIVE_NAMES)
    @pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
    def test_the_error_is_of_the_size_of_the_tolerance(
        self, name: str, f: Any, solution: Any, tol: float
    ) -> None:
        u0 = start()
        found = solver(name, rtol=tol, atol=tol, max_nfe=100_000)(f, u0, 0.0, 4.0)
        assert not found.spent.any()
        # A third-order pair may meet an estimate near zero, in SciPy as well: 18 tol there.
        assert (found.u - solution(u0, 4.0)).abs().max() < 30 * tol

    @pytest.mark.parametrize("name, theirs", [("bosh3", "RK23"), ("dopri5", "RK45")])
    def test_it_agrees_with_scipy_at_like_cost(self, name: str, theirs: str) -> None:
        u0 = start(3)
        found = solver(name, rtol=1e-6, atol=1e-6, max_nfe=10_000)(forced, u0, 0.0, 5.0)
        for i in range(3):
            other = solve_ivp(
                lambda t, u: -u + np.cos(t), (0, 5), u0[i].numpy(), theirs, rtol=1e-6, atol=1e-6
            )
            assert found.u[i].item() == pytest.approx(other.y[0, -1], abs=2e-5)
            assert 0.5 < found.nfe[i].item() / other.nfev < 1.5

    @pytest.mark.parametrize("name", ["bosh3", "dopri5"])
    def test_it_agrees_with_torchdiffeq(self, name: str) -> None:
        u0 = start(1)
        ours = solver(name, rtol=1e-7, atol=1e-7, max_nfe=10_000)(logistic, u0, 0.0, 3.0)
        theirs = Torchdiffeq(name, 1e-7, 1e-7)(logistic, u0, 0.0, 3.0)
        # It steps past the end and interpolates back, which costs it some digits.
        torch.testing.assert_close(ours.u, theirs.u, rtol=0, atol=5e-5)

    @pytest.mark.parametrize("name, per_step", [("heun_euler", 2), ("bosh3", 3), ("dopri5", 6)])
    def test_evaluations_are_two_and_those_of_each_attempt(self, name: str, per_step: int) -> None:
        rate = torch.logspace(-1, 1.5, 20, dtype=torch.float64)[:, None]
        seen = torch.zeros(20, dtype=torch.int64)

        def f(
            t: Any, u: Tensor
        ) -> Tensor:  # the rate travels with the state, so that f knows who asks
            seen[u[:, 1].round().long()] += 1
            return torch.cat(
                (-rate[u[:, 1].round().long()] * u[:, :1], torch.zeros_like(u[:, 1:])), 1
            )

        who = torch.arange(20, dtype=torch.float64)[:, None]
        found = solver(name, rtol=1e-3, atol=1e-3, max_nfe=10_000)(
            f, torch.cat((torch.ones_like(who), who), 1)
        )
        assert torch.equal(found.nfe, 2 + per_step * (found.accepted + found.rejected))
        assert torch.equal(found.nfe, seen), "a sample that arrived is asked no more"
        assert found.rejected.sum() > 0 and found.nfe[-1] > found.nfe[0]
        assert found.calls == found.nfe.max()

    @pytest.mark.parametrize("name", ADAPTIVE_NAMES)
    def test_a_finer_tolerance_costs_more(self, name: str) -> None:
        cost = [
            solver(name, rtol=tol, atol=tol, max_nfe=10**6)(forced, start(), 0.0, 4.0).nfe
            for tol in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
        ]
        assert all((a <= b).all() for a, b in pairwise(cost))
        assert (cost[0] < cost[-1]).all()

    @pytest.mark.parametrize("name", ADAPTIVE_NAMES)
    def test_a_sample_takes_the_same_steps_alone_and_in_company(self, name: str) -> None:
        rate = torch.logspace(-1, 1.5, 256)[:, None]
        u0 = torch.cat((torch.linspace(-1, 1, 256)[:, None], rate), 1)

        def f(t: Any, u: Tensor) -> Tensor:
            u, rate = u.chunk(2, dim=1)
            return torch.cat((rate * (0.3 - u) * (1 + u * u), torch.zeros_like(u)), 1)

        solve = solver(name, rtol=1e-3, atol=1e-4, max_nfe=10_000)
        whole = solve(f, u0)
        for i in (0, 17, 128, 254, 255):
            alone = solve(f, u0[i : i + 1])
            for field in ("nfe", "accepted", "rejected", "spent"):
                assert torch.equal(getattr(alone, field)[0], getattr(whole, field)[i])
            torch.testing.assert_close(alone.u[0], whole.u[i], rtol=1e-5, atol=1e-6)
        order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
        shuffled = solve(f, u0[order])
        torch.testing.assert_close(shuffled.u, whole.u[order], rtol=1e-5, atol=1e-6)
        assert torch.equal(shuffled.nfe, whole.nfe[order])

    @pytest.mark.parametrize("name, least", [("heun_euler", 4), ("bosh3", 5), ("dopri5", 8)])
    def test_a_field_that_is_nothing_costs_one_step(self, name: str, least: int) -> None:
        u0 = torch.randn(3, 2, 4, 4)
        found = solver(name)(lambda t, u: torch.zeros_like(u), u0)
        assert torch.equal(found.u, u0) and found.nfe.tolist() == [least] * 3

    def test_a_spent_budget_gives_the_last_accepted_state(self) -> None:
        u0 = torch.ones(2, 1, dtype=torch.float64)
        rate = torch.tensor([[1.0], [300.0]], dtype=torch.float64)

        def f(t: Any, u: Tensor) -> Tensor:
            return -rate[-len(u) :] * (u - 1.5)

        found = solver("dopri5", rtol=1e-6, atol=1e-6, max_nfe=60)(f, u0)
        assert found.spent.tolist() == [False, True]
        assert (found.nfe <= 60).all() and found.accepted[1] > 0
        assert torch.isfinite(found.u).all() and 1 < found.u[1] <= 1.51

    def test_what_is_no_number_ends_one_sample_and_no_other(self) -> None:
        def f(t: Any, u: Tensor) -> Tensor:
            return torch.where(u > 2, torch.nan, u)

        u0 = torch.tensor([[0.1], [1.9]], dtype=torch.float64)
        found = solver("bosh3", rtol=1e-5, atol=1e-5, max_nfe=10**6)(f, u0)
        assert found.spent.tolist() == [False, True]
        assert found.u[0].item() == pytest.approx(0.1 * math.e, rel=1e-4)
        assert torch.isfinite(found.u).all() and found.u[1] <= 2.01

    @pytest.mark.parametrize("name", ADAPTIVE_NAMES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_compiled_loops_change_no_bit(
        self, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("numba")
        if not can_loop(dtype):
            pytest.skip("no loops on this processor")
        g = torch.Generator().manual_seed(0)
        u0 = torch.randn(37, 461, generator=g, dtype=dtype)  # no multiple of any vector's length
        rate = torch.logspace(-1, 1, 37, dtype=dtype)[:, None]
        kinds = set[type]()

        def f(t: Any, u: Tensor) -> Tensor:
            kinds.add(sums_of(u, t, Room(u, 7)).__class__)
            slope = rate[-len(u) :] * (torch.sin(3 * u) - u * t[:, None])
            return slope.mT.contiguous().mT  # not in the order of its memory

        solve, found = solver(name, rtol=1e-3, atol=1e-3, max_nfe=70), []
        for choice in ("", "reference"):
            monkeypatch.setenv("HARNESS_OPS", choice)
            with torch.no_grad():
                found.append(solve(f, u0))
        assert kinds == {LoopSums, TorchSums}
        assert found[0].rejected.any() and found[0].spent.any() and not found[0].spent.all()
        for field in ("u", "nfe", "accepted", "rejected", "spent"):
            assert torch.equal(getattr(found[0], field), getattr(found[1], field))
        assert torch.equal(solve(f, u0.requires_grad_()).u.detach(), found[0].u)

    def test_one_wait_for_the_device_a_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits = []
        for name in ("tolist", "item", "__bool__", "__float__", "__int__", "nonzero"):
            own = getattr(Tensor, name)

            def waiting(x: Tensor, *a: Any, own: Any = own, name: str = name) -> Any:
                waits.append(name)
                return own(x, *a)

            monkeypatch.setattr(Tensor, name, waiting)
        u0 = torch.ones(4, 2)
        found = solver("dopri5", rtol=1e-5, atol=1e-5)(lambda t, u: 3 * u, u0)
        waited = list(waits)
        assert waited == ["tolist"] * int(found.accepted[0] + found.rejected[0])

    def test_an_empty_batch_is_no_accident(self) -> None:
        found = solver("dopri5")(lambda t, u: -u, torch.zeros(0, 3))
        assert found.u.shape == (0, 3) and found.nfe.shape == (0,)


class TestBatchWideSteps:
    """A norm over the whole batch changes predictions; one for each sample cannot."""

    @staticmethod
    def batch() -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(0)
        turn = torch.randn(16, 16, generator=g, dtype=torch.float64) / 4
        turn = turn - turn.T - 0.3 * torch.eye(16, dtype=torch.float64)
        rate = 0.2 * 15 ** torch.rand(256, 1, generator=g, dtype=torch.float64) ** 3
        u0 = torch.randn(256, 16, generator=g, dtype=torch.float64)
        readout = torch.randn(10, 16, generator=g, dtype=torch.float64)
        return torch.cat((u0, rate), 1), turn, readout

    @pytest.mark.parametrize("tol, theirs", [(1e-1, 12), (1e-2, 4)])
    def test_flips_between_batch_256_and_batch_1(self, tol: float, theirs: int) -> None:
        u0, turn, readout = self.batch()

        def f(t: Any, u: Tensor) -> Tensor:
            u, rate = u[:, :-1], u[:, -1:]
            return torch.cat((rate * torch.tanh(u @ turn.T), torch.zeros_like(rate)), 1)

        flips = {}
        for solve in (solver("dopri5", rtol=tol, atol=tol), Torchdiffeq("dopri5", tol, tol)):
            whole = solve(f, u0)
            alone = [solve(f, u0[i : i + 1]) for i in range(256)]
            answers = [
                (u[:, :-1] @ readout.T).argmax(1)
                for u in (whole.u, torch.cat([s.u for s in alone]))
            ]
            flips[solve.name] = int((answers[0] != answers[1]).sum())
            if solve.name == "dopri5":
                assert torch.equal(whole.nfe, torch.cat([s.nfe for s in alone]))
        assert flips["dopri5"] == 0
        assert flips["torchdiffeq dopri5"] >= theirs, flips


def test_torchdiffeq_in_our_form() -> None:
    u0 = start()
    # Its "rk4" is the 3/8 rule: of order 4 as ours, and not the same.
    theirs, ours = Torchdiffeq("rk4", num_steps=2)(logistic, u0), solver("rk4", num_steps=2)
    assert theirs.nfe.tolist() == [8] * 5
    difference = (theirs.u - ours(logistic, u0).u).abs().max().item()
    assert 0 < difference < 1e-4
    found = Torchdiffeq("dopri5", 1e-4, 1e-4)(logistic, u0)
    assert (found.calls - 2) % 6 == 0


def test_the_adjoint_gives_the_same_gradient_to_tolerance() -> None:
    weight = torch.nn.Parameter(torch.randn(2, 2, dtype=torch.float64))
    u0 = torch.randn(3, 2, dtype=torch.float64)
    grads = []
    for adjoint in (False, True):
        solve = Torchdiffeq("dopri5", 1e-8, 1e-8, adjoint=adjoint, parameters=(weight,))
        end = solve(lambda t, u: torch.tanh(u @ weight), u0).u
        grads.append(torch.autograd.grad(end.sum(), weight)[0])
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)


def test_time_is_a_channel_for_one_time_and_for_one_a_sample() -> None:
    u = torch.randn(3, 2, 4, 5)
    assert torch.equal(channel(0.25, u), torch.full((3, 1, 4, 5), 0.25))
    each = channel(torch.tensor([0.0, 0.5, 1.0]), u)
    assert each.shape == (3, 1, 4, 5) and each[:, 0, 0, 0].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("rk5", {"num_steps": 3}, "Did you mean `rk4`"),
        ("zzz", {}, "There are: euler, midpoint"),
        ("rk4", {}, "needs a number of steps"),
        ("rk4", {"rtol": 1e-3}, "takes no `rtol`"),
        ("dopri5", {"num_steps": 3}, "takes no `num_steps`"),
        ("rk4", {"num_steps": 0}, "at least 1"),
        ("leapfrog", {"num_steps": 0}, "at least 1"),
        ("dopri5", {"rtol": 0.0}, "`rtol` must be > 0"),
        ("dopri5", {"atol": -1.0}, "`atol` must be >= 0"),
        ("dopri5", {"max_nfe": 7}, "at least 8"),
    ],
)
def test_wrong_names_and_settings_are_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=message):
        solver(name, **settings)


def test_time_does_not_run_backwards_in_an_adaptive_solve() -> None:
    with pytest.raises(ValueError, match="must lie behind"):
        solver("dopri5")(lambda t, u: u, start(), 1.0, 0.0)
