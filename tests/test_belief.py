"""Defences that mask gradients are told from a network that does not, on scikit-learn's digits.

`pytest tests/test_belief.py -s` prints, for each, what PGD alone leaves, the robust accuracy after
every attack, and the verdict.
"""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from harness.analysis.belief import BELIEVED, BOUND, CHECKS, Share, bounds, failures, verdict
from harness.models.base import Solving
from harness.models.convection_diffusion import diff_resnet
from harness.models.ode_block import ODEBlock
from harness.models.ops import philox
from harness.models.ops.solvers import Adaptive, Solution, Solver, VectorField, solver
from harness.models.resnet import resnet18
from harness.suites.attacks import Entry, checks, run_ensemble
from harness.suites.attacks.contract import unseen
from harness.suites.attacks.gradient_checks import derivatives, gradients, in_float64
from harness.suites.attacks.gradient_sign import pgd
from harness.suites.attacks.positive_control import control, features_of
from harness.suites.attacks.solver_matrix import Recorder, Replayed, solved_by, solver_matrix
from harness.suites.attacks.square import square
from harness.suites.attacks.subjects import Drawn, OneMoving, Seeded
from harness.suites.belief import masking_gap, numbers, robust

EPS = 0.06
LOOSE = solver("bosh3", rtol=1.0, atol=1.0)
FINE = {"rk4 8": solver("rk4", num_steps=8)}


def digits(train: bool = False) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 8, 8) and labels, of the split of the fixture `network`."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=355, random_state=0, stratify=y)
    images, labels = parts[0 if train else 1], parts[2 if train else 3]
    wide = torch.tensor(images).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    return wide, torch.tensor(labels)


def sample(count: int = 100) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return images[:count], labels[:count]


class Defended(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class Quantized(Defended):
    def forward(self, images: Tensor) -> Tensor:
        return self.network((7 * images).round() / 7)


class Noisy(Defended):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.15 * torch.randn_like(images))


class Saturated(Defended):
    def forward(self, images: Tensor) -> Tensor:
        return (50 * self.network(images)).softmax(1)


class Detached(Defended):
    """All of the gradient comes from a term that is too small to matter."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.detach()) + 1e-3 * images.flatten(1)[:, :10]


class Adjoint:
    """An adaptive solver whose gradient solves the adjoint equation backward, as loosely."""

    def __init__(self, method: Solver) -> None:
        self.method, self.name, self.order = method, f"adjoint {method.name}", method.order

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        method, solved = self.method, []

        def back(s: Any, both: Tensor) -> Tensor:
            z, a = both.chunk(2, 1)
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                slope = f(t0 + t1 - s, z)
                (pulled,) = torch.autograd.grad(slope, z, a)
            return torch.cat((-slope.detach(), pulled), 1)

        class Solve(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, u: Tensor) -> Tensor:
                solved.append(method(f, u, t0, t1))
                ctx.save_for_backward(solved[0].u)
                return solved[0].u.clone()

            @staticmethod
            def backward(ctx: Any, gradient: Tensor) -> Tensor:
                (end,) = ctx.saved_tensors
                return method(back, torch.cat((end, gradient), 1), t0, t1).u.chunk(2, 1)[1]

        end = Solve.apply(u)
        first = solved[0]
        counts = first.nfe, first.accepted, first.rejected, first.spent, first.calls
        return Solution(end, *counts, first.effort)


class ODENet(nn.Module):
    """A convolution, an ODE of 16 channels up to T = 4, a linear layer."""

    def __init__(self, method: Solver) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU())
        self.block = ODEBlock(16, method, time=4.0)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))

    @property
    def solver(self) -> Solver:
        return self.block.solver

    @solver.setter
    def solver(self, method: Solver) -> None:
        self.block.solver = method

    @property
    def nfe(self) -> Tensor:
        return self.block.nfe

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(self.stem(images)))


@pytest.fixture(scope="module")
def ode() -> ODENet:
    """A network with an ODE, trained with twelve steps of Euler for a few seconds."""
    images, labels = digits(train=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ODENet(solver("euler", num_steps=12))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(5):
            for rows in torch.randperm(len(images)).split(128):
                noisy = images[rows] + 0.1 * torch.randn(len(rows), 3, 8, 8)
                loss = nn.functional.cross_entropy(net(noisy.clamp(0, 1)), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


def checked(
    model: nn.Module,
    null: nn.Module | None,
    count: int = 100,
    iterations: int = 20,
    verdicts: int = 1,
) -> dict[str, Share]:
    """Return the numbers of all checks of a model, images of `null` transferred to it."""
    images, labels = sample(count)
    common: dict[str, Any] = {"eps": EPS, "seed": 1}
    exact = in_float64(model)
    found = gradients(model, images, labels, eps=EPS)
    found |= derivatives(exact, images.double(), labels, **common)
    found |= checks.randomness(model, images)
    budgets = {"iterations": iterations, "queries": 300, "verdicts": verdicts}
    found |= checks.attacked(model, images, labels, **budgets, **common)
    if verdicts > 1:
        found |= checks.expected(model, Seeded(model, 0), images, labels, **common)
    found |= control(model, images, labels, **common)
    if null is not None:
        found["transfer"] = checks.transferred(
            model, null, images, labels, draws=verdicts, **common
        )
    if isinstance(model, Solving):
        few = {"iterations": iterations, "queries": 100}
        found |= solver_matrix(model, images, labels, solvers=FINE, **few, **common)
    return numbers({name: array.numpy() for name, array in found.items()})


@pytest.fixture(scope="module")
def rows(network: nn.Module, ode: ODENet) -> dict[str, dict[str, Share]]:
    """The numbers of five defences and of two plain networks, by name."""
    found = {"no defence": checked(network, ode)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for made in (Quantized, Saturated, Detached):
            found[made.__name__.lower()] = checked(made(network), network)
        found["noisy"] = checked(Noisy(network), network, verdicts=20)
    with solved_by(ode, LOOSE):
        found["loose solver"] = checked(ode, None, 60, 6)
    with solved_by(ode, Adjoint(LOOSE)):
        found["loose solver, adjoint"] = checked(ode, None, 60, 6)
    return found


def test_the_table_of_planted_defences(rows: dict[str, dict[str, Share]]) -> None:
    print(f"\n{'':22s} {'PGD alone':>9s} {'headline':>9s}  verdict")
    for name, found in rows.items():
        naive, headline = (f"{100 * found[key].value:.1f}" for key in ("naive", "headline"))
        print(f"{name:22s} {naive:>9s} {headline:>9s}  {verdict(found)}")
        if verdict(found) != BELIEVED:
            print("".join(f"{'':44s}{why}\n" for why in failures(found)[1:]), end="")
        assert found["headline"].value <= found["naive"].value


@pytest.mark.parametrize("name", ["no defence", "loose solver"])
def test_a_network_that_masks_nothing_is_believed(
    rows: dict[str, dict[str, Share]], name: str
) -> None:
    assert verdict(rows[name]) == BELIEVED
    assert rows[name]["control"].value >= 0.95
    assert rows[name]["by_chance"].value < 0.3


@pytest.mark.parametrize(
    "name, caught",
    [
        ("quantized", {"zero_gradient", "not_rising", "black_box", "transfer", "control"}),
        ("noisy", {"random", "wrong_gradient"}),
        ("saturated", {"zero_gradient", "not_rising", "probabilities", "left_at_half"}),
        ("detached", {"wrong_gradient", "black_box", "transfer", "control", "left_at_half"}),
        ("loose solver, adjoint", {"wrong_gradient", "masking_gap"}),
    ],
)
def test_a_planted_defence_is_caught(
    rows: dict[str, dict[str, Share]], name: str, caught: set[str]
) -> None:
    found = rows[name]
    assert verdict(found).startswith(BOUND)
    assert caught <= {
        check for check in found.keys() & CHECKS if CHECKS[check].fails(check, found[check])
    }
    assert found["headline"].value < found["naive"].value


def test_rows_depend_neither_on_batch_nor_on_order(network: nn.Module, ode: ODENet) -> None:
    images, labels = sample(24)
    images, exact, solving = images.double(), in_float64(network), in_float64(ode)
    solving.solver = LOOSE
    indices, order = 5 * torch.arange(24), torch.arange(24).flip(0)

    def everything(rows: Tensor) -> dict[str, Tensor]:
        x, y = images[rows], labels[rows]
        keyed: dict[str, Any] = {"eps": EPS, "indices": indices[rows]}
        found = gradients(exact, x, y, **keyed)
        found |= derivatives(exact, x, y, seed=2, **keyed)
        found |= checks.randomness(exact, x, indices=indices[rows])
        found |= checks.attacked(exact, x, y, seed=2, iterations=4, queries=20, **keyed)
        found |= control(exact, x, y, seed=2, settings={"iterations": 4}, **keyed)
        found["transfer"] = checks.transferred(solving, exact, x, y, seed=2, iterations=3, **keyed)
        matrix = solver_matrix(
            solving, x, y, seed=2, solvers=FINE, iterations=2, queries=5, **keyed
        )
        noisy = Stochastic(exact)
        drawn = checks.expected(
            Drawn(noisy, 2), Drawn(noisy, 2, fixed=0), x, y, seed=2, iterations=2, **keyed
        )
        return found | matrix | drawn

    whole = everything(order)
    parts = [everything(rows) for rows in torch.arange(24).split(9)]
    for name, array in whole.items():
        assert array.dtype == torch.bool, name
        assert torch.equal(array, torch.cat([part[name] for part in parts]).flip(0)), name
    assert solving.solver is LOOSE


class Stochastic(Defended):
    """Noise of the images by draws that are keyed as the models' own."""

    stochastic = True

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def sample(self, images: Tensor, indices: Tensor, seed: int, draw: int) -> Tensor:
        noise = philox.normal(images.shape, seed, "test", 0, indices, draw)
        return self.network(images + 0.15 * noise.to(images))


def test_noise_is_believed_where_attacks_take_expected_gradients(network: nn.Module) -> None:
    """The same network as `noisy`, whose draws are keyed, at the same eps."""
    images, labels = sample(40)
    model, common = Stochastic(network), {"eps": EPS, "seed": 0}
    fixed, few = Drawn(model, 0, fixed=0), {"iterations": 5, "draws": 20}
    exact = Drawn(in_float64(model), 0, fixed=0)
    found = gradients(fixed, images, labels, eps=EPS)
    found |= derivatives(exact, images.double(), labels, **common)
    found |= checks.randomness(Drawn(model, 0), images)
    found |= checks.attacked(
        Drawn(model, 0), images, labels, queries=100, verdicts=100, **few, **common
    )
    found |= checks.expected(Drawn(model, 0), fixed, images, labels, iterations=10, **common)
    found |= control(
        model, images, labels, called=lambda m: Drawn(m, 0), settings=few, draws=20, **common
    )
    made = numbers({name: array.numpy() for name, array in found.items()})
    apart = found["fixed"].double().mean() - found["eot"].double().mean()
    assert made["fixed_less_eot"] == pytest.approx((float(apart), 40))
    assert made["random"].value == 1
    assert verdict(made, expected=True) == BELIEVED
    assert verdict(made).startswith(BOUND + "100.0 % of the outputs change")


def test_fresh_draws_follow_the_images_calls(network: nn.Module) -> None:
    model, images = Stochastic(network), sample(6)[0]
    drawn, keys = Drawn(model, 0), torch.arange(6)
    first, second = drawn(images, keys), drawn(images[2:4], keys[2:4])
    mixed = drawn(images, keys)  # the third call for two images, the second for four
    assert not torch.equal(first[2:4], second)
    fresh = Drawn(model, 0)
    assert torch.equal(fresh(images, keys), first)
    torch.testing.assert_close(fresh(images, keys)[4:], mixed[4:])
    torch.testing.assert_close(fresh(images, keys)[2:4], mixed[2:4])


def test_a_seeded_model_repeats_itself_and_leaves_the_generator(network: nn.Module) -> None:
    images, _ = sample(5)
    state = torch.get_rng_state()
    subject = Seeded(Noisy(network), 3)
    assert torch.equal(subject(images), subject(images))
    assert not torch.equal(subject(images), Seeded(Noisy(network), 4)(images))
    assert torch.equal(torch.get_rng_state(), state)
    found = checks.randomness(Noisy(network), images)
    assert found["differs"].all()
    assert not checks.randomness(subject, images)["differs"].any()


class Transductive(Defended):
    """Every image is classified by the mean of its logits and those of its neighbor."""

    def forward(self, images: Tensor) -> Tensor:
        z = self.network(images)
        return (z + z.roll(1, 0)) / 2


def test_one_image_of_a_batch_moves(network: nn.Module) -> None:
    images, labels = sample(8)
    model, keys = Transductive(network), 3 * torch.arange(8)
    labels = model(images).argmax(1)
    subject = OneMoving(model, images, keys)
    torch.testing.assert_close(subject(images, keys), model(images))
    rows = torch.tensor([5, 2])
    found = pgd(subject, images[rows], labels[rows], eps=0.3, indices=keys[rows], iterations=5)
    for row, image in zip(rows, found, strict=True):
        batch = images.clone()
        batch[row] = image
        logits = model(batch)
        torch.testing.assert_close(subject(image[None], keys[row : row + 1])[0], logits[row])
    assert (subject(found, keys[rows]).argmax(1) != labels[rows]).any()
    assert not unseen(subject, images, labels, indices=keys).any()
    with pytest.raises(LookupError, match="Image 4 is none of the batch"):
        subject(images[:1], torch.tensor([4]))


def test_gradients_that_leave_out_the_graph_are_caught() -> None:
    """Those of `diff_resnet` do: the weights of its graph are constants to autograd."""
    torch.manual_seed(0)
    images, keys = torch.rand(6, 3, 32, 32, dtype=torch.float64), torch.arange(6)
    wrong = {}
    for build in (diff_resnet, resnet18):
        model = in_float64(build(10, 4).eval())
        labels = model(images).argmax(1)
        found = derivatives(OneMoving(model, images, keys), images, labels, eps=0.03)
        wrong[build.__name__] = float(found["disagree"].double().mean())
    assert wrong == {"diff_resnet": 1.0, "resnet18": 0.0}


def test_replayed_steps_are_those_of_the_clean_image(ode: ODENet) -> None:
    images, _ = sample(20)
    tight = solver("heun_euler", rtol=1e-2, atol=1e-2)
    assert isinstance(tight, Adaptive)
    with solved_by(ode, tight):
        own = ode(images)
        subject = Replayed(ode, images, torch.arange(20))
        torch.testing.assert_close(subject(images, torch.arange(20)), own, rtol=1e-4, atol=1e-4)
        some = torch.tensor([7, 3])
        torch.testing.assert_close(subject(images[some], some), own[some], rtol=1e-4, atol=1e-4)
    recorder = Recorder(tight)
    with solved_by(ode, recorder):
        ode(images)
    (steps,) = recorder.solves
    torch.testing.assert_close(steps.sum(0), torch.full((20,), 4.0))
    assert len({int(n) for n in (steps > 0).sum(0)}) > 1  # images differ
    with pytest.raises(ValueError, match="adaptive solver; got euler"):
        Replayed(ode, images, torch.arange(20))


def test_features_are_what_the_last_layer_sees(network: nn.Module) -> None:
    images, _ = sample(4)
    keys, last = torch.arange(4), network[-1]
    features = features_of(network, images, keys)(images)
    torch.testing.assert_close(last(features), network(images))
    other = Saturated(network)
    assert features_of(other, images, keys) is other


def test_a_planted_point_that_cannot_be_told_has_no_control(network: nn.Module) -> None:
    images, labels = sample(10)
    constant = Defended(network)
    constant.forward = lambda x: network(0 * x + 0.5)
    found = control(constant, images, labels, eps=EPS)
    assert not found["planted"].any()
    assert verdict(numbers({k: v.numpy() for k, v in found.items()}), ()).startswith(BOUND)


def test_the_control_fails_an_attack_that_hardly_looks(network: nn.Module) -> None:
    images, labels = sample(40)
    for queries, enough in ((2, False), (1000, True)):
        found = control(
            network, images, labels, eps=EPS, attack=square, settings={"queries": queries}
        )
        made = numbers({name: array.numpy() for name, array in found.items()})
        assert made["planted"].value == 1
        assert (made["control"].value >= 0.95) == enough
        assert (failures(made, ()) == []) == enough


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_checks_hold_in_both_norms(network: nn.Module, norm: str) -> None:
    images, labels = sample(60)
    eps = {"linf": EPS, "l2": 0.4}[norm]
    found = checks.attacked(network, images, labels, eps=eps, norm=norm, iterations=10, queries=50)
    found |= control(network, images, labels, eps=eps, norm=norm)
    found |= gradients(network, images, labels, eps=eps, norm=norm)
    made = numbers({name: array.numpy() for name, array in found.items()})
    assert failures(made, ()) == []
    assert made["headline"].value < found["clean"].double().mean() - 0.02


def test_an_ensemble_gives_the_same_arrays(network: nn.Module) -> None:
    images, labels = sample(60)
    attacks = (Entry("apgd_ce", {"iterations": 20}), Entry("square", {"queries": 300}))
    for every in (False, True):
        outcome = run_ensemble(network, images, labels, attacks, eps=EPS, seed=1, every=every)
        found = {name: array.numpy() for name, array in checks.of_ensemble(outcome).items()}
        assert list(found) == ["clean", "apgd_ce", "square"]
        made = numbers(found)
        assert made["headline"].value == pytest.approx(float(outcome.robust.double().mean()))
        assert made["black_box"].value == 0
        assert (found["square"] < found["clean"]).any() == every
    alone = checks.attacked(
        network, images, labels, eps=EPS, seed=1, queries=300, names=("apgd_ce", "square")
    )
    assert alone.keys() == found.keys()
    assert all((alone[name].numpy() == found[name]).all() for name in found)
    with pytest.raises(LookupError, match="There is no attack called `apgd`"):
        checks.attacked(network, images, labels, eps=EPS, names=("apgd",))


def test_gradients_of_a_linear_network_are_exact() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).double()
    images, labels = torch.rand(30, 3, 8, 8).double(), torch.arange(30) % 10
    assert not derivatives(linear, images, labels, eps=EPS)["disagree"].any()
    off = Detached(linear)
    assert derivatives(off, images, labels, eps=EPS)["disagree"].all()


def arrays(**given: list[int]) -> dict[str, np.ndarray]:
    return {name.replace("_to_", " -> "): np.array(bits, bool) for name, bits in given.items()}


def test_numbers_by_hand() -> None:
    found = arrays(
        clean=[1, 1, 1, 1, 0], pgd=[1, 1, 1, 0, 0], apgd_ce=[1, 1, 0, 0, 0],
        more=[1, 1, 0, 0, 0], square=[1, 0, 1, 1, 0], noise=[1, 1, 1, 1, 0],
        huge=[0, 0, 0, 1, 0], transfer=[0, 1, 1, 1, 1], zero=[0, 0, 0, 0, 1],
        planted=[1, 1, 0, 0, 1], found=[1, 0, 0, 0, 1], by_chance=[0, 0, 0, 0, 1],
    )  # fmt: skip
    made = numbers(found | {"radius": np.array([0.2, 0.05, 0.0, 0.0, 0.0])}, eps=0.1)
    assert {name: share.value for name, share in made.items()} == {
        "zero_gradient": 0.2, "planted": 0.6, "control": 2 / 3, "by_chance": 1 / 3,
        "headline": 0.0, "naive": 0.6, "black_box": 0.2, "noise_gain": 0.0, "transfer": 0.2,
        "more_gain": 0.0, "left_at_half": 0.2, "certified": 0.2, "below_bound": 0.2,
    }  # fmt: skip
    assert made["control"].n == 3
    assert any("broken below their certificate" in why for why in failures(made))


def test_the_masking_gap_is_of_attacks_tested_under_the_own_solver() -> None:
    found = arrays(
        clean_to_own=[1, 1, 1, 0], own_to_own=[1, 1, 0, 0], fine_to_own=[1, 0, 1, 0],
        square_to_own=[1, 1, 1, 0], own_to_fine=[0, 0, 0, 0],
    )  # fmt: skip
    assert masking_gap(found) == Share(0.25, 4)
    whole = found | {"clean": found["clean -> own"]}
    assert robust(whole).tolist() == [True, False, False, False]


def test_one_image_of_a_hundred_is_chance_and_eight_are_not() -> None:
    for name in ("black_box", "masking_gap"):
        assert verdict({name: Share(0.01, 100)}, ()) == BELIEVED
        assert "8.0 % more (of 100 images" in verdict({name: Share(0.08, 100)}, ())
    assert bounds("masking_gap", Share(0.08, 100))[0] == pytest.approx(0.0196, abs=1e-4)


@pytest.mark.parametrize("n", [30, 100, 1000, 10_000])
def test_a_share_at_its_limit_rarely_fails(n: int) -> None:
    for name, check in CHECKS.items():
        if check.certain and name != "masking_gap":
            draws = np.random.default_rng(0).binomial(n, check.limit, 4000)
            fails = {k: check.fails(name, Share(k / n, n)) for k in set(draws.tolist())}
            assert np.mean([fails[k] for k in draws.tolist()]) <= 0.03
            assert check.fails(name, Share(2 * check.limit + 4 / n, n))
            assert not check.fails(name, Share(check.limit, n))


def test_what_was_not_checked_is_not_believed() -> None:
    assert verdict({}).startswith("upper bound: not checked: zero gradient, random")
    assert verdict({"control": Share(float("nan"), 0)}, ()).startswith(BOUND)
    assert verdict({"control": Share(0.94, 100)}, ()).startswith(BOUND)
    assert verdict({"control": Share(0.95, 100)}, ()) == BELIEVED
    assert "limit 0 %" in verdict({"zero_gradient": Share(0.001, 1000)}, ())
    noisy = {"random": Share(1.0, 100)}
    assert verdict(noisy, ()).startswith(BOUND)
    assert verdict(noisy, (), expected=True) == BELIEVED
