"""What the suite adversarial says of its own numbers, from the checks to the commands."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from harness.analysis.groups import describe_group, groups_of, headline
from harness.analysis.verdicts import sentences, verdicts
from harness.comparison.gate import DEFAULT, check
from harness.plots.adversarial import certified_of, masking_matrix, robustness_curve
from harness.plots.style import Looks
from harness.progress import Progress
from harness.storage.packed_outcomes import Packing, compress, digest, unpack
from harness.suites import adversarial, radii
from harness.suites.adversarial_metrics import BELIEF
from harness.suites.attacks import suite_checks
from harness.suites.attacks.suite_checks import checked_level, spread
from harness.suites.base import Setting

SUITE = adversarial.adversarial()
PASSING = {metric.name: 0.0 for metric in BELIEF if metric.name != "fixed_less_eot"} | {
    "control": 1.0, "masking_gap": 0.0,
}  # fmt: skip


def table(seeds: int = 1, n: int = 100, model: str = "net", **shares: float) -> pd.DataFrame:
    """Rows of a run whose checks found these shares."""
    said = [("linf", 8.0, "robust_accuracy", 0.2, 1000), ("clean", 0.0, "accuracy", 0.9, 1000)]
    said += [("linf checks", 0.0, name, v, n) for name, v in (PASSING | shares).items()]
    said += [
        ("linf checks", 0.0, "checked_eps", 2.0, n),
        ("linf checks", 0.0, "checked_left", 0.4, n),
    ]
    rows = [("digits", "adversarial", model, seed, c, lv, name, "", value, count)
            for seed in range(seeds) for c, lv, name, value, count in said]  # fmt: skip
    columns = [
        "dataset",
        "suite",
        "model",
        "seed",
        "condition",
        "level",
        "metric",
        "variant",
        "value",
        "n",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_images_are_spread_and_eps_is_one_that_some_withstand() -> None:
    for step in (1, 3, 100):  # such as of `--limit`
        share = spread(step * torch.arange(400)).double().mean()
        assert share == pytest.approx(suite_checks.SHARE, abs=0.02)
    left = {0.25: 0.9, 0.5: 0.7, 1: 0.4, 2: 0.1, 4: 0.02, 8: 0.0}
    assert checked_level(left) == 2
    assert checked_level(left | {8: 0.3}) == 8
    assert checked_level(dict.fromkeys(left, 0.0)) == 0.25


def test_a_verdict_follows_from_the_rows_of_a_table_and_of_a_leaderboard() -> None:
    run = "digits", "adversarial", "net"
    assert verdicts(table()) == {run: "believed"}
    assert sentences(table()) == [
        "net: believed. Checked on 100 images at 2/255, linf, of which 40 withstand the attacks."
    ]
    masked = verdicts(table(zero_gradient=0.03))[run]
    assert masked.startswith("upper bound: the gradient of 3.0 % of the images is exactly 0")
    two = pd.concat([table(), table(zero_gradient=0.03).assign(seed=1)])
    assert verdicts(two)[run].endswith("(seed 1)")
    board = table(black_box=0.05).rename(columns={"n": "images"}).drop(columns="seed")
    board["group"] = [
        f"{c} {lv:g}" if lv else c for c, lv in zip(board["condition"], board["level"], strict=True)
    ]
    found = verdicts(board.drop(columns=["condition", "level"]))
    assert found[run].startswith("upper bound: an attack without gradients breaks 5.0 % more")
    bare = table()[lambda t: t["condition"] != "linf checks"]
    assert verdicts(bare)[run].startswith("upper bound: not checked: zero gradient, random")
    assert verdicts(bare[bare["metric"] == "accuracy"]) == {}


def test_random_answers_are_no_failure_where_gradients_were_expected() -> None:
    run = "digits", "adversarial", "net"
    assert verdicts(table(random=1.0))[run].startswith("upper bound: 100.0 % of the outputs change")
    assert verdicts(table(random=1.0, fixed_less_eot=0.1)) == {run: "believed"}


def test_a_number_that_is_no_longer_believed_fails_a_check(tmp_path: Path) -> None:
    files = []
    for name, made in (("now", table(control=0.5)), ("before", table())):
        files.append(tmp_path / f"{name}.csv")
        made.assign(run="a").to_csv(files[-1], index=False)
    names: dict[str, Any] = {"suite": [], "dataset": [], "model": []}
    worse, _ = check(files[0], files[1], DEFAULT, names, Progress(Console(quiet=True)))
    assert worse[-1].verdict == "worse"
    assert worse[-1].reason.startswith(
        "it was believed, and is now an upper bound: of planted adversarial points"
    )
    same, _ = check(files[1], files[0], DEFAULT, names, Progress(Console(quiet=True)))
    assert all(guard.key.metric == "accuracy" for guard in same)


def test_steps_of_a_sequence_of_attacks_do_not_stand_beside_the_whole() -> None:
    cells = [
        (c.condition, c.level) for c in SUITE.cells(Setting(32, 10, can=frozenset({"solver"})))
    ]
    shown = headline(groups_of(frozenset(cells)))
    expected = {"clean", *(f"{n} {lv:g}" for n, g in radii.GRIDS.items() for lv in g.levels)}
    expected |= {"linf distance", "l2 distance", "linf certificate", "l2 certificate"}
    assert set(shown) == expected | {"linf checks", "linf solvers"}
    assert "linf apgd_ce 4" in headline(["linf apgd_ce 4", "linf fab_t 8"])
    assert describe_group("linf 1") == "at eps 1/255 (linf)"


def test_a_clone_has_who_withstands_all_attacks(tmp_path: Path) -> None:
    hits, packing = np.array([1, 0, 1, 1], np.uint8), Packing()
    arrays = {"labels": np.arange(4), "indices": np.arange(4), "robust_accuracy": hits}
    for place, (condition, level) in enumerate((("linf", 4.0), ("linf apgd_ce", 4.0))):
        cell = adversarial.AttackCell(condition, level)
        told = {"data": "d", "suite": "adversarial", "version": 2, "condition": condition,
                "level": level, "constants": {}, "seed": 0}  # fmt: skip
        packing.add(place, told, arrays, SUITE.measure(cell, arrays))
    path, content = tmp_path / "seed0.bits", packing.content()
    path.write_bytes(compress(content))
    found = unpack(path, digest(content)).hits
    assert found.keys() == {("linf", 4.0)}
    assert (found["linf", 4.0] == hits.astype(bool)).all()


def test_the_matrix_of_solvers_and_the_certified_end_are_drawn() -> None:
    names = ["own", "euler 2"]
    rows = [("net", "accuracy_through", "linf solvers", 0.0, f"{a}, {b}", 0.25, 0.2, 0.3, 20)
            for a in (*names, "clean", "square") for b in names]  # fmt: skip
    rows += [
        ("net", "robust_accuracy", "linf", lv, "", 0.5 / lv, 0.4 / lv, 0.6 / lv, 20)
        for lv in (1, 2, 4)
    ]
    rows += [("net", "certified_accuracy", "linf", lv, "", 0.2 / lv, 0, 1, 20) for lv in (1, 2, 4)]
    rows += [("net", "accuracy", "clean", 0.0, "", 0.9, 0.8, 1, 20)]
    columns = ["model", "metric", "condition", "level", "variant", "value", "low", "high", "n"]
    numbers = pd.DataFrame(rows, columns=columns)
    (axis,) = masking_matrix(numbers).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["clean", "own", "euler 2", "square"]
    assert len(axis.texts) == 8 and axis.texts[0].get_text() == "25"
    (axis,) = robustness_curve(numbers, Looks({"net"})).axes
    (dotted,) = [line for line in axis.lines if line.get_linestyle() == ":"]
    assert list(dotted.get_ydata()) == [0.2, 0.1, 0.05]
    assert certified_of(numbers.assign(value=0.0)).empty
