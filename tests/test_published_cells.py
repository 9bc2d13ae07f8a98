"""Our networks against published ones, cell by cell."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner, Result

from harness.analysis.agreement import rank_agreement
from harness.cli import app
from harness.comparison.published import match_published
from harness.console import Console
from harness.progress import Progress
from harness.refusal import Refusal
from harness.suites.catalog import COMMON, FAMILIES
from harness.suites.published_cells import NETWORKS, PREACT, WRN, Network

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "results" / "published" / "baseline"
FULL_WIDTH = ROOT / "results" / "published" / "full_width"
QUIET = Progress(Console(stderr=True), "quiet")


def compare(*options: str) -> Result:
    return CliRunner().invoke(app, ["compare", "--published", *options])


@pytest.mark.parametrize(
    "network, averages",
    [
        (PREACT, (0.8760, 0.8234, 0.7620, 0.6917, 0.5793, 0.7465)),
        (WRN, (0.8690, 0.8134, 0.7492, 0.6764, 0.5649, 0.7346)),
    ],
)
def test_the_cells_have_the_averages_that_were_published_with_them(
    network: Network, averages: tuple[float, ...]
) -> None:
    cells = np.array([network.cells[kind] for kind in COMMON])
    assert list(network.cells) == list(COMMON)
    assert [*cells.mean(axis=0), cells.mean()] == pytest.approx(averages, abs=6e-5)


def test_the_readmes_rows_are_those_of_the_cells() -> None:
    text = (BASELINE / "README.md").read_text()
    kinds = (*FAMILIES["noise"], *FAMILIES["blur"])
    for network in NETWORKS:
        cells = 100 * np.array([network.cells[k] for k in kinds if k in COMMON])
        shown = " | ".join(f"{x:.1f}" for x in (*cells.mean(axis=0), cells.mean()))
        (row,) = re.findall(rf"\| {network.name}, published \| ([\d.]*) ?\| (.*) \|", text)
        assert row == (f"{100 * network.clean:.1f}" if network.clean else "", shown)


def test_a_rank_correlation_is_spearmans_and_its_interval_draws_kinds() -> None:
    random = np.random.default_rng(1)
    a = random.random(75)
    b = a + 0.3 * random.random(75)
    kinds = [f"k{i // 5}" for i in range(75)]
    found = rank_agreement(a, b, kinds)
    assert found.rho == pytest.approx(spearmanr(a, b).statistic)
    assert found.low < found.rho < found.high <= 1
    assert rank_agreement(a, -a, kinds)[:] == pytest.approx((-1, -1, -1))
    few = rank_agreement(a[:20], b[:20], kinds[:20])
    assert np.isfinite(few.rho) and np.isnan(few.low)


def test_severities_of_a_kind_are_not_taken_for_independent() -> None:
    random = np.random.default_rng(2)
    of_kind = random.random((2, 15))
    a, b = (np.repeat(x, 5) + 1e-3 * random.random(75) for x in of_kind)
    kinds = [f"k{i // 5}" for i in range(75)]
    together = rank_agreement(a, b, kinds)
    alone = rank_agreement(a, b, [str(i) for i in range(75)])
    assert together.high - together.low > 1.6 * (alone.high - alone.low)


def test_the_difference_is_that_of_the_cells() -> None:
    found = match_published(BASELINE, [], [], QUIET)
    assert [one.network for one in found] == list(NETWORKS)
    table = pd.read_csv(BASELINE / "cifar10" / "robustness" / "resnet18" / "seed0.csv")
    rows = table[(table["metric"] == "accuracy") & (table["condition"] == "fog")]
    for one in found:
        assert len(one.cells) == 75 and one.images == 10_000 and one.seeds == 1
        assert one.value == pytest.approx(one.cells["difference"].mean(), abs=1e-6)
        assert one.low < one.value < one.high and one.clean == pytest.approx(0.888, abs=1e-3)
        assert one.cells["difference"].abs().is_monotonic_decreasing
        fog = one.cells[one.cells["condition"] == "fog"].sort_values("level")
        assert fog["ours"].tolist() == pytest.approx(rows.sort_values("level")["value"].tolist())
        assert fog["published"].tolist() == list(one.network.cells["fog"])


def test_the_network_of_full_width_is_as_its_readme_says() -> None:
    text = (FULL_WIDTH / "README.md").read_text()
    found = match_published(FULL_WIDTH, [], [], QUIET)
    assert [one.network for one in found] == list(NETWORKS)
    for one in found:
        assert len(one.cells) == 75 and one.images == 10_000
        severities = one.cells.groupby("level")["ours"].mean()
        ours = " | ".join(f"{100 * x:.1f}" for x in (one.clean, *severities, severities.mean()))
        assert f"| ResNet-18 of the package | {ours} |" in text
        gap = f"{100 * one.value:+.1f} | {100 * one.low:+.1f} to {100 * one.high:+.1f}"
        rho = f"{one.agreement.rho:.3f} | {one.agreement.low:.3f}-{one.agreement.high:.3f}"
        worst = [
            f"{row['condition']} {row['level']} ({100 * row['difference']:+.1f})"
            for row in one.cells.head(3).to_dict("records")
        ]
        assert f"| {one.network.name} | {gap} | {rho} | {', '.join(worst)} |" in text


def test_the_front_page_says_how_near_published_numbers_are() -> None:
    (wide,) = (one for one in match_published(FULL_WIDTH, [], [], QUIET) if one.network == WRN)
    gap, low, high = (f"{100 * x:+.1f}" for x in (wide.value, wide.low, wide.high))
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{gap} points [{low}, {high}] of a [published network]" in text
    assert f"over 75 cells of corruptions, rank correlation {wide.agreement.rho:.2f}." in text


def test_the_command_names_the_worst_cells_and_draws_all(tmp_path: Path) -> None:
    csv, figure = tmp_path / "cells.csv", tmp_path / "cells.png"
    made = compare(str(BASELINE), "--csv", str(csv), "--figure", str(figure))
    assert made.exit_code == 0, made.output
    assert "glass_blur 1 (-22.0)" in made.stdout and "less WRN-28-10" in made.stdout
    assert len(pd.read_csv(csv)) == 150 and figure.read_bytes()[:4] == b"\x89PNG"
    rows = json.loads(compare(str(BASELINE), "--json").stdout)
    assert "rho_low" in json.dumps(rows)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="has no accuracies under corruptions of CIFAR-10"):
        match_published(ROOT / "results" / "published", [], ["digits"], QUIET)
    made = compare(str(BASELINE), str(BASELINE))
    assert made.exit_code == 2 and "compares one side" in made.stderr.replace("\n", " ")
    made = CliRunner().invoke(app, ["compare", str(BASELINE), "--figure", "a.png"])
    assert made.exit_code == 2 and "is of `--published`" in made.stderr.replace("\n", " ")
    made = compare(str(BASELINE), "--figure", str(tmp_path / "a.gif"))
    assert made.exit_code == 2 and list(tmp_path.iterdir()) == []
