"""How often intervals, gates and ranks are right, in worlds whose truth is known.

    pytest tests/test_bench_statistics.py --benchmark-only -s

runs them at length; without the option a few draws are made. An image is classified correctly if
its difficulty, shared by all networks, plus the network's luck, plus chance, is below a threshold:

    hit = [sqrt(rho) u_i + sigma e_s + sqrt(1 - rho) w_sik < t_k],
    P(hit) = Phi(t_k / sqrt(1 + sigma^2))

sigma is set by the ratio of two standard errors of the mean, that of seeds to that of images. Every
draw goes through the functions that the commands use.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.stats import norm

from harness.analysis import Sample, detectable, difference, from_outcomes, pairwise, rank_intervals
from harness.analysis.collect import Key, collect_samples
from harness.analysis.groups import with_cells
from harness.analysis.leaderboard import as_csv, leaderboard
from harness.comparison.differences import differences
from harness.comparison.guards import CODES, judge
from harness.storage.results import COLUMNS
from harness.suites.catalog import CORRUPTIONS

RATE = (0.0, 1.0)
RHO = 0.6


def luck(ratio: float, accuracies: np.ndarray, seeds: int, n: int) -> float:
    """sigma at which the seeds' standard error is `ratio` times that of the images."""
    u = np.linspace(-6, 6, 2001)
    weight = norm.pdf(u) / norm.pdf(u).sum()
    t = norm.ppf(accuracies)[:, None]
    given = norm.cdf((t - math.sqrt(RHO) * u) / math.sqrt(1 - RHO)).mean(axis=0)
    of_image = (weight * given**2).sum() - (weight * given).sum() ** 2
    slope = norm.pdf(t).mean()
    return ratio * math.sqrt(seeds * of_image / n) / slope


def networks(
    random: np.random.Generator,
    u: np.ndarray,
    accuracies: np.ndarray,
    seeds: int,
    sigma: float,
) -> np.ndarray:
    """Outcomes (S, n) of one method's networks, means over cells of these true accuracies."""
    n, t = len(u), norm.ppf(accuracies) * math.sqrt(1 + sigma**2)
    hits = np.zeros((seeds, n), np.float32)
    for s in range(seeds):
        shift = math.sqrt(RHO) * u + sigma * random.standard_normal()
        for threshold in t:
            chance = random.standard_normal(n, np.float32)
            hits[s] += shift + math.sqrt(1 - RHO) * chance < threshold
    return hits.astype(float) / len(accuracies)


def images(random: np.random.Generator, n: int) -> np.ndarray:
    return random.standard_normal(n, np.float32)


ONE = np.array([0.75])
SEVERAL = np.array([0.9, 0.75, 0.6])


def covered(seeds: int, n: int, ratio: float, accuracies: np.ndarray, draws: int) -> float:
    """How often the interval of a mean holds the truth."""
    random = np.random.default_rng([seeds, n, round(10 * ratio), len(accuracies)])
    sigma, truth, count = luck(ratio, accuracies, seeds, n), accuracies.mean(), 0
    for _ in range(draws):
        hits = networks(random, images(random, n), accuracies, seeds, sigma)
        sample = from_outcomes(hits, "x", RATE)
        count += sample.low <= truth <= sample.high
    return count / draws


def pair_covered(
    seeds: tuple[int, int], n: int, ratio: float, apart: float, draws: int
) -> tuple[float, float]:
    """How often a paired difference's interval holds the truth, and how often p <= 5 %."""
    random = np.random.default_rng([*seeds, n, round(10 * ratio), round(1000 * apart)])
    sigmas = [luck(ratio, SEVERAL, s, n) for s in seeds]
    count = found = 0
    for _ in range(draws):
        u = images(random, n)
        a = from_outcomes(networks(random, u, SEVERAL, seeds[0], sigmas[0]), "x", RATE)
        b = from_outcomes(networks(random, u, SEVERAL - apart, seeds[1], sigmas[1]), "x", RATE)
        d = difference(a, b)
        count += bool(d.low <= apart <= d.high)
        found += bool(d.p <= 0.05)
    return count / draws, found / draws


def discordant(
    random: np.random.Generator, n: int, psi: float, drop: float, cells: int = 1
) -> tuple[Sample, Sample]:
    """A baseline and a new network; psi of the images differ in a cell, `drop` more get worse."""
    base = (random.random(n) < 0.9)[None]
    loses, gains = (psi + drop) / 2, (psi - drop) / 2
    hit = np.broadcast_to(base, (cells, n)).copy()
    lost = random.random((cells, n)) < loses / 0.9
    gained = random.random((cells, n)) < gains / 0.1
    new = np.where(hit, ~lost, gained)
    return (
        from_outcomes(hit.mean(axis=0, keepdims=True), "x", RATE),
        from_outcomes(new.mean(axis=0, keepdims=True), "x", RATE),
    )


KEY = Key("d", "s", "accuracy", "", "noise", "m")


def verdicts(
    n: int, psi: float, drop: float, margin: float, draws: int, cells: int = 1
) -> dict[str, float]:
    """How often each verdict comes, by its name."""
    random = np.random.default_rng([n, round(1e4 * psi), round(1e4 * (drop + 1)), cells])
    found = dict.fromkeys(CODES, 0)
    for _ in range(draws):
        base, new = discordant(random, n, psi, drop, cells)
        (guard,) = judge({KEY: new}, {KEY: base}, {KEY: margin}, {})
        found[guard.verdict] += 1
    return {verdict: count / draws for verdict, count in found.items()}


def retrained(n: int, seeds: int, ratio: float, drop: float, margin: float, draws: int) -> float:
    """How often a method trained again, with the same seeds, is called worse."""
    random = np.random.default_rng([n, seeds, round(10 * ratio)])
    sigma, worse = luck(ratio, SEVERAL, seeds, n), 0
    for _ in range(draws):
        u = images(random, n)
        base, new = (
            from_outcomes(
                networks(random, u, SEVERAL - less, seeds, sigma),
                "x",
                RATE,
                keep=True,
                seed_names=range(seeds),
            )
            for less in (0.0, drop)
        )
        worse += judge({KEY: new}, {KEY: base}, {KEY: margin}, {})[0].verdict == "worse"
    return worse / draws


def equals(models: int, n: int, seeds: int, draws: int) -> float:
    """How often methods that are equal get ranks that differ."""
    random = np.random.default_rng([models, n, seeds])
    sigma, wrong = luck(1, ONE, seeds, n) if seeds > 1 else 0.0, 0
    for _ in range(draws):
        u = images(random, n)
        several = [
            from_outcomes(networks(random, u, ONE, seeds, sigma), "x", RATE) for _ in range(models)
        ]
        pairs = pairwise(several)
        low, high = rank_intervals(pairs.value, pairs.p)
        wrong += bool((low > 1).any() or (high < models).any())
    return wrong / draws


def equal_pair(cells: int, n: int, draws: int) -> float:
    """How often a comparison of two equal networks names a better one, in any of its rows."""
    random = np.random.default_rng([cells, n])
    wrong = 0
    for _ in range(draws):
        keys = [Key("d", "s", "accuracy", "", f"euler {k}", "") for k in range(cells)]
        sides: tuple[dict[Key, Sample], dict[Key, Sample]] = {}, {}
        for key in keys:
            u = images(random, n)
            for side in sides:
                side[key] = from_outcomes(networks(random, u, ONE, 1, 0.0), key.group, RATE)
        frame = differences(sides[0], sides[1], ("", ""), labels=("a", "b"))
        wrong += bool((frame["better"] != "").any())
    return wrong / draws


def error(rate: float, draws: int) -> float:
    """The Monte-Carlo error of a rate, three standard errors."""
    return 3 * math.sqrt(rate * (1 - rate) / draws)


# Few draws, by everybody.


@pytest.mark.parametrize("seeds, ratio", [(1, 0.0), (3, 0.3), (3, 3.0), (5, 1.0)])
def test_intervals_cover_the_truth(seeds: int, ratio: float) -> None:
    rate = covered(seeds, 500, ratio, SEVERAL, 400)
    assert 0.95 - error(0.95, 400) <= rate <= 0.97 + error(0.97, 400)


@pytest.mark.parametrize("seeds, ratio", [((1, 1), 0.0), ((3, 3), 1.0)])
def test_intervals_of_differences_cover_the_truth(seeds: tuple[int, int], ratio: float) -> None:
    rate, _ = pair_covered(seeds, 500, ratio, 0.02, 400)
    assert 0.95 - error(0.95, 400) <= rate <= 0.97 + error(0.97, 400)


@pytest.mark.parametrize("cells", [1, 5])
def test_a_gate_rarely_gives_a_false_alarm_and_finds_what_it_says_it_finds(cells: int) -> None:
    at_margin = verdicts(500, 0.1, 0.01, 0.01, 800, cells)
    assert at_margin["worse"] <= 0.025 + error(0.025, 800)
    assert verdicts(10_000, 0.02, 0.01, 0.0, 100, cells)["worse"] == 1
    drop = 0.005 + detectable(0.05, 10_000)
    assert verdicts(10_000, 0.05, drop, 0.005, 300)["worse"] == pytest.approx(0.8, abs=0.07)


def test_equal_methods_rarely_get_different_ranks() -> None:
    assert equals(5, 500, 1, 200) <= 0.05 + error(0.05, 200)
    assert equals(4, 500, 3, 200) <= 0.05 + error(0.05, 200)


# Many draws, by `--benchmark-only`.


def shown(
    benchmark: BenchmarkFixture, lines: list[str], work: Callable[[], list[tuple[str, bool]]]
) -> None:
    """Run a simulation once, print its lines, and ask that each is as it should be."""
    start = time.process_time()
    found = benchmark.pedantic(work, rounds=1)
    text = "\n".join(["", *lines, *(line for line, _ in found)])
    print(f"{text}\n{time.process_time() - start:.0f} s on one core")
    benchmark.extra_info["table"] = text
    assert not [line for line, good in found if not good]


@pytest.mark.bench
def test_coverage(benchmark: BenchmarkFixture) -> None:
    def work() -> list[tuple[str, bool]]:
        found = []
        for cells, accuracies in (("one cell", ONE), ("three cells", SEVERAL)):
            for n, draws in ((500, 8000), (10_000, 3000)):
                for seeds in (1, 3, 5, 10):
                    for ratio in (0.3, 1.0, 3.0) if seeds > 1 else (0.0,):
                        rate = covered(seeds, n, ratio, accuracies, draws)
                        good = 0.95 - error(0.95, draws) <= rate <= 0.965 + error(0.965, draws)
                        line = f"{cells:12s} {n:6d} {seeds:3d} {ratio:4.1f}   {100 * rate:.1f}"
                        found.append((line, good))
        return found

    shown(benchmark, ["cells             n   S  ratio  coverage %"], work)


@pytest.mark.bench
def test_coverage_of_differences(benchmark: BenchmarkFixture) -> None:
    def work() -> list[tuple[str, bool]]:
        found = []
        for n, draws in ((500, 6000), (10_000, 2000)):
            for seeds in ((1, 1), (3, 3), (3, 5), (10, 10)):
                for ratio in (0.3, 1.0, 3.0) if max(seeds) > 1 else (0.0,):
                    rate, alarms = pair_covered(seeds, n, ratio, 0.0, draws)
                    other, power = pair_covered(seeds, n, ratio, 0.02, draws)
                    good = min(rate, other) >= 0.95 - error(0.95, draws)
                    good &= max(rate, other) <= 0.97 + error(0.97, draws)
                    line = (
                        f"{n:6d} {seeds!s:8s} {ratio:4.1f}   {100 * rate:5.1f} {100 * other:5.1f}"
                    )
                    line += f"   {100 * alarms:5.1f} {100 * power:5.1f}"
                    found.append((line, good))
        return found

    head = "     n seeds   ratio  coverage % at 0, 2 points   p <= 5 % at 0, 2 points"
    shown(benchmark, [head], work)


@pytest.mark.bench
def test_the_gate(benchmark: BenchmarkFixture) -> None:
    def work() -> list[tuple[str, bool]]:
        found = []
        for n, draws in ((500, 16_000), (2000, 16_000), (10_000, 8000)):
            for psi in (0.02, 0.05, 0.1):
                for margin in (0.0, 0.005, 0.01):
                    for cells in (1, 5):
                        if margin >= psi:
                            continue
                        rate = verdicts(n, psi, margin, margin, draws, cells)["worse"]
                        line = f"{n:6d} {psi:5.2f} {margin:6.3f} {cells:2d}   {100 * rate:.2f}"
                        found.append((line, rate <= 0.025 + error(0.025, draws)))
        for n, seeds, ratio in (
            (500, 3, 1.0),
            (10_000, 3, 0.3),
            (10_000, 3, 3.0),
            (10_000, 5, 1.0),
        ):
            rate = retrained(n, seeds, ratio, 0.01, 0.01, 3000)
            line = f"{n:6d} trained again, {seeds} seeds, ratio {ratio}   {100 * rate:.2f}"
            found.append((line, rate <= 0.025 + error(0.025, 3000)))
        return found

    head = "a change of exactly the margin: n, discordant share, margin, cells, false alarms %"
    shown(benchmark, [head], work)


@pytest.mark.bench
def test_the_power_of_the_gate(benchmark: BenchmarkFixture) -> None:
    def work() -> list[tuple[str, bool]]:
        found = []
        for psi in (0.02, 0.05, 0.1):
            least = detectable(psi, 10_000)
            at_least = verdicts(10_000, psi, 0.005 + least, 0.005, 4000)["worse"]
            for margin in (0.0, 0.005):
                rate = verdicts(10_000, psi, 0.01, margin, 4000)["worse"]
                se = math.sqrt((psi - 0.01**2) / 10_000)
                stated = norm.cdf((0.01 - margin) / se - 1.959964)
                line = f"{psi:5.2f} {margin:6.3f}   {100 * rate:5.1f} {100 * stated:5.1f}"
                good = abs(rate - stated) < 0.03
                found.append(
                    (f"{line}   {100 * at_least:5.1f}", good and abs(at_least - 0.8) < 0.03)
                )
        return found

    head = "a drop of one point at 10,000 images: discordant share, margin, found %, expected %,"
    head += " found % at margin + detectable (80)"
    shown(benchmark, [head], work)


@pytest.mark.bench
def test_families(benchmark: BenchmarkFixture) -> None:
    def work() -> list[tuple[str, bool]]:
        found = []
        for models, n, seeds in ((3, 500, 1), (10, 500, 1), (10, 500, 3), (10, 10_000, 3)):
            draws = 2000 if n == 500 else 500
            rate = equals(models, n, seeds, draws)
            line = f"{models} equal models, {n} images, {seeds} seeds: {100 * rate:.1f} %"
            found.append((line, rate <= 0.05 + error(0.05, draws)))
        rate = equal_pair(20, 1000, 500)
        line = f"two equal networks under 20 conditions: {100 * rate:.1f} %"
        found.append((line, rate <= 0.05 + error(0.05, 500)))
        return found

    shown(benchmark, ["families without any difference that show one (at most 5 %)"], work)


def many(models: int, seeds: int) -> pd.DataFrame:
    """A long table of all 19 corruptions at 5 severities."""
    random, rows = np.random.default_rng(0), []
    for m in range(models):
        base = random.uniform(0.6, 0.9)
        for s in range(seeds):
            for kind in CORRUPTIONS:
                for level in range(1, 6):
                    value = round(base - 0.03 * level + random.normal() * 0.003, 6)
                    row = (f"model{m}", "robustness", "cifar10", s, kind, level)
                    rows.append((*row, "accuracy", "", value, 10_000, f"r{m}-{s}"))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.bench
def test_speed_of_200_models(benchmark: BenchmarkFixture) -> None:
    table = many(200, 5)

    def work() -> list[tuple[str, bool]]:
        start = time.process_time()
        board = leaderboard(table)
        content = as_csv(board)
        took = time.process_time() - start
        start = time.process_time()
        pair = table[table["model"].isin(["model0", "model1"])]
        found = collect_samples(pair, grouping=with_cells)
        frame = differences(found, found, ("model0", "model1"))
        compared = time.process_time() - start
        assert len(frame) > 95 and len(content) > 100_000
        line = f"{len(table)} rows to a leaderboard of {len(board)}: {took:.1f} s"
        return [(line, took < 10), (f"two of the models compared: {compared:.1f} s", compared < 5)]

    shown(benchmark, [], work)
