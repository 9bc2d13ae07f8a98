"""The leaderboard: its rows, its groups, what its intervals stand on, and that it is one file."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis import wilson
from harness.analysis.boards import FILE, current, open_outcomes, read, sentence, write
from harness.analysis.collect import collect_samples, is_rate, span
from harness.analysis.groups import (
    describe_group,
    groups_of,
    headline,
    place,
    single_cells,
    with_cells,
    with_corrupted,
)
from harness.analysis.leaderboard import COLUMNS, as_csv, checks, leaderboard
from harness.analysis.outcomes import StoredOutcomes, of_images
from harness.analysis.sample import RATE
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import COLUMNS as LONG
from harness.storage.results import read as read_results
from harness.suites.catalog import COMMON, FAMILIES
from harness.suites.metric import Metric
from harness.suites.metrics import METRICS

NOISE, BLUR = FAMILIES["noise"], FAMILIES["blur"]

Answer = Callable[..., Path]  # writes a run


def progress() -> Progress:
    from rich.console import Console

    return Progress(Console(stderr=True))


def table(rows: list[tuple], metric: str = "accuracy", n: int = 100) -> pd.DataFrame:
    """Rows (model, seed, condition, level, value) as a long table."""
    full = [(m, "s", "d", seed, c, level, metric, "", v, n, "r") for m, seed, c, level, v in rows]
    return pd.DataFrame(full, columns=list(LONG))


def row(board: pd.DataFrame, group: str, model: str, variant: str = "") -> pd.Series:
    chosen = board[(board.group == group) & (board.model == model) & (board.metric == "accuracy")]
    chosen = chosen[chosen.variant == variant]
    assert len(chosen) == 1
    return chosen.iloc[0]


def cells(kinds: Sequence[str], levels: Sequence[int] = (1, 2, 3, 4, 5)) -> frozenset:
    return frozenset({("clean", 0.0)} | {(k, float(lv)) for k in kinds for lv in levels})


def test_groups_are_named_by_the_cells_they_hold() -> None:
    assert list(groups_of(cells(()))) == ["clean"]
    both = groups_of(cells(NOISE + BLUR))
    assert list(both)[:4] == ["clean", "noise", "blur", "noise+blur"]
    assert len(both["noise+blur"]) == 35 and len(both["gaussian_noise"]) == 5
    everything = groups_of(cells(COMMON))
    assert {"noise", "blur", "weather", "digital", "noise+blur", "common"} <= everything.keys()
    assert len(everything["common"]) == 75 and "validation" not in everything
    # An incomplete family has no row, and other severities have another name.
    assert set(groups_of(cells(NOISE[:2]))) == {"clean", "gaussian_noise", "shot_noise"}
    assert {"noise@3", "gaussian_noise@3"} <= groups_of(cells(NOISE, (3,))).keys()
    assert "noise@1,3" in groups_of(cells(NOISE, (1, 3)))


def test_any_other_suites_conditions_stand_alone_by_level() -> None:
    found = groups_of(frozenset({("euler", 2.0), ("euler", 16.0), ("dopri5", 0.001), ("noise", 0)}))
    assert list(found) == ["dopri5 0.001", "euler 2", "euler 16", "noise 0"]
    assert headline(found) == list(found)
    assert sorted(["euler 16", "fog", "euler 2", "clean", "common"], key=place) == [
        "clean", "common", "fog", "euler 2", "euler 16",
    ]  # fmt: skip


def test_cells_and_means_are_extra_groups() -> None:
    assert with_cells(cells(NOISE))["shot_noise 3"] == (("shot_noise", 3.0),)
    assert "shot_noise 3" not in headline(with_cells(cells(NOISE)))
    assert len(single_cells(with_cells(cells(NOISE)))) == 15
    assert headline(groups_of(cells(NOISE))) == ["clean", "noise"]
    assert len(with_corrupted(cells(NOISE[:1]))["corrupted"]) == 5
    assert describe_group("common") == "under the 15 common corruptions"
    assert describe_group("noise@1,3") == "under noise at severity 1, 3"
    assert describe_group("euler 4") == "under euler 4"


def test_a_users_corruption_is_grouped_as_a_built_in_one_is_and_enters_no_mean() -> None:
    rain = [("rain", float(lv)) for lv in range(1, 6)]
    found = with_cells(cells(NOISE) | set(rain))
    assert found["rain"] == tuple(rain) and found["rain 3"] == (("rain", 3.0),)
    assert headline(found) == ["clean", "noise", "rain"]
    assert {g for g in single_cells(found) if "rain" in g} == {f"rain {lv}" for lv in range(1, 6)}
    assert len(with_corrupted(cells(NOISE) | set(rain))["corrupted"]) == 15
    assert "corrupted" not in with_corrupted(frozenset(rain))
    # At other severities as built-in ones beside it; the steps of a solver are no severities.
    few = groups_of(cells(NOISE, (1, 3)) | {("rain", 1.0), ("rain", 3.0), ("euler", 1.0)})
    assert few["rain@1,3"] == (("rain", 1.0), ("rain", 3.0)) and "euler 1" in few
    assert describe_group("rain@1,3") == "under rain at severity 1, 3"
    alone = groups_of(frozenset(("euler", float(steps)) for steps in (1, 2, 4, 8, 16)))
    assert list(alone) == ["euler 1", "euler 2", "euler 4", "euler 8", "euler 16"]


def test_validation_corruptions_enter_no_mean() -> None:
    found = with_corrupted(cells([*NOISE, *FAMILIES["validation"]]))
    assert len(found["corrupted"]) == 15 and len(found["validation"]) == 20
    assert "corrupted" not in with_corrupted(cells(FAMILIES["validation"]))


def test_a_rate_lies_in_its_range_and_an_unknown_one_counts_images() -> None:
    assert span(("nll", ""), False)[0] == 0 and span(("ece", ""), False) != RATE
    n = np.full(2, 40)
    assert is_rate("accuracy", np.array([0.123, 0.5]), n)
    assert is_rate("flipped", np.array([0.125, 0.5]), n)  # counts of 40 images
    assert not is_rate("flipped", np.array([0.123, 0.5]), n)
    assert not is_rate("nll", np.array([0.125, 0.5]), n)
    assert not is_rate("wall_s", np.array([2.0, 3.0]), n)


ROWS = [
    ("a", 0, "clean", 0, 0.9), ("a", 0, "fog", 1, 0.8), ("a", 0, "fog", 2, 0.4),
    ("a", 1, "clean", 0, 1.0), ("a", 1, "fog", 1, 0.6), ("a", 1, "fog", 2, 0.6),
    ("b", 0, "clean", 0, 0.5), ("b", 0, "fog", 1, 0.5), ("b", 0, "fog", 2, 0.5),
]  # fmt: skip


def test_rows_hold_means_over_cells_and_seeds() -> None:
    board = leaderboard(table(ROWS))
    assert tuple(board.columns) == COLUMNS
    assert list(zip(board.group, board.model, strict=True)) == [
        ("clean", "a"), ("clean", "b"), ("fog@1,2", "a"), ("fog@1,2", "b"),
    ]  # fmt: skip
    a, b = row(board, "fog@1,2", "a"), row(board, "fog@1,2", "b")
    assert a.value == pytest.approx(0.6) and a.low < 0.6 < a.high and a.seeds == 2
    assert (b.value, b.seeds, b.images, b.basis) == (0.5, 1, 100, "rates")
    assert (row(board, "clean", "b").low, row(board, "clean", "b").high) == wilson(50, 100)
    assert row(board, "clean", "a").rank_low == 1 and row(board, "clean", "b").rank_high == 2


def test_a_loss_is_ranked_downward_and_what_has_no_better_side_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        (m, s, "clean", 0, v + 0.001 * s) for m, v in (("a", 9.0), ("b", 1.0)) for s in range(3)
    ]
    board = leaderboard(table(rows, "own_loss"))
    assert board.rank_low.isna().all() and list(board.basis) == ["seeds", "seeds"]
    assert board.low.notna().all() and board.mde.isna().all()
    monkeypatch.setitem(METRICS, "own_loss", Metric("own_loss", "own loss", better="down"))
    board = leaderboard(table(rows, "own_loss"))
    assert list(board.rank_low) == [2, 1] and list(board.rank_high) == [2, 1]
    assert board.low.notna().all() and board.mde.notna().all()


@pytest.mark.parametrize("metric", ["nll", "brier", "entropy", "squared_calibration_error", "ece"])
def test_a_table_of_means_over_images_does_not_show_their_intervals(metric: str) -> None:
    board = leaderboard(table([("a", s, "clean", 0, 0.5 + 0.001 * s) for s in range(3)], metric))
    assert list(board.basis) == ["nothing"] and board.low.isna().all()


def test_a_seed_without_a_cell_does_not_count_and_one_that_is_nan_is_not_hidden() -> None:
    board = leaderboard(table(ROWS[:5]))  # seed 1 lacks fog 2
    assert row(board, "fog@1,2", "a").seeds == 1 and row(board, "clean", "a").seeds == 2
    broken = table([*ROWS[:5], ("a", 1, "fog", 2, math.nan), *ROWS[6:]])
    lost = row(leaderboard(broken), "fog@1,2", "a")
    assert math.isnan(lost.value) and pd.isna(lost.rank_low) and lost.seeds == 2
    assert row(leaderboard(broken), "fog@1,2", "b").rank_high == 1
    assert (
        as_csv(leaderboard(broken))
        .decode()
        .splitlines()[3]
        .startswith('d,s,accuracy,,"fog@1,2",a,,,,2,100,,,,rates,r r,')
    )


def test_the_order_of_rows_changes_no_byte() -> None:
    random = np.random.default_rng(0)
    rows = [
        (f"m{m}", s, k, lv, round(random.random(), 6))
        for m in range(3) for s in range(2) for k in COMMON for lv in range(1, 6)
    ]  # fmt: skip
    whole = table(rows)
    content = as_csv(leaderboard(whole))
    for seed in range(3):
        assert as_csv(leaderboard(whole.sample(frac=1, random_state=seed))) == content


def test_images_make_intervals_narrower_and_ranks_sharper(tmp_path: Path, answered: Answer) -> None:
    for model, accuracy in (("good", 0.93), ("fair", 0.90), ("poor", 0.70)):
        for seed in range(3):
            answered(tmp_path, model, seed, accuracy=accuracy)
    frame = read_results(tmp_path)
    stored, alone = leaderboard(frame, StoredOutcomes(tmp_path)), leaderboard(frame)
    assert stored.low.notna().equals(stored.metric != "ece")
    assert set(stored[stored.metric != "ece"].basis) == {"images"}
    assert set(alone.basis) == {"rates", "nothing"}
    assert list(stored.value) == list(alone.value)
    for group in ("clean", "noise"):
        sharp, wide = row(stored, group, "good"), row(alone, group, "good")
        assert sharp.high - sharp.low < wide.high - wide.low and sharp.mde < wide.mde
    assert row(stored, "noise", "poor").rank_low == 3
    assert {"nll", "brier", "ece"} <= set(stored.metric)


def test_a_clean_suites_class_rates_are_read_from_images(tmp_path: Path, answered: Answer) -> None:
    path = answered(tmp_path, "m", suite="clean", kinds=())
    board = leaderboard(read_results(tmp_path), StoredOutcomes(tmp_path))
    assert set(board[board.metric != "ece"].basis) == {"images"}
    third = row(board, "clean", "m", "class 3")
    assert third.images == 20 and (third.low, third.high) == pytest.approx(
        wilson(third.value * 20, 20), rel=0.02
    )
    assert path.is_file()


def test_an_array_of_a_metrics_name_is_its_outcomes() -> None:
    arrays = {
        "indices": np.arange(3),
        "labels": np.array([0, 1, 0]),
        "nfe": np.array([8, 14, 20]),
        "nfe:fewest": np.array([2.0, math.nan, 4.0]),
    }
    found = of_images(("nfe", ""), arrays)
    assert found is not None
    values, positions = found
    assert values.tolist() == [8, 14, 20] and positions.tolist() == [0, 1, 2]
    assert of_images(("accuracy", ""), arrays) is None and of_images(("tau", ""), arrays) is None
    found = of_images(("nfe", "fewest"), arrays)
    assert found is not None and found[0].tolist() == [2, 4] and found[1].tolist() == [0, 2]
    found = of_images(("nfe", "class 0"), arrays)
    assert found is not None and found[0].tolist() == [8, 20]


def test_models_on_other_images_are_not_paired(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path, "a", data="some images")
    answered(tmp_path, "b", data="some images")
    answered(tmp_path / "others", "c", data="other images")
    on: dict[str, str] = {}
    for folder in (tmp_path, tmp_path / "others"):
        found = collect_samples(read_results(folder), StoredOutcomes(folder))
        on |= {key.model: sample.on for key, sample in found.items() if key.group == "noise"}
    assert on["a"] == on["b"] != on["c"]


def test_cells_that_do_not_say_what_the_table_says_are_left_out(
    tmp_path: Path,
    answered: Answer,
    vouch: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = answered(tmp_path, "m")
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace(lines[1].split(",")[8], "1.000000")
    path.write_text("\n".join(lines) + "\n")
    vouch(path)
    board = leaderboard(read_results(tmp_path), StoredOutcomes(tmp_path))
    assert row(board, "clean", "m").basis == "rates" and row(board, "noise", "m").basis == "images"
    assert "is not that of its cells, which are left out. `harness table --rescore`" in caplog.text


def test_the_file_is_written_once_and_read_back(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path, "a", 0)
    answered(tmp_path, "b", 0, accuracy=0.8)
    board = write(tmp_path, progress())
    path = tmp_path / FILE
    before = path.stat().st_mtime_ns
    write(tmp_path, progress())
    assert path.stat().st_mtime_ns == before
    again = read(path)
    assert as_csv(again) == path.read_bytes() == as_csv(board)
    assert sentence(board) == f"{len(board)} rows, models compared image by image."
    shutil.rmtree(tmp_path / "cells")
    # Hits are packed beside the CSV; losses are in cells alone.
    hits = int((board["metric"] == "accuracy").sum())
    assert f"{hits} of them with per-image answers. The others have wider" in sentence(
        write(tmp_path, progress())
    )


@pytest.fixture
def stored(tmp_path: Path, answered: Answer) -> Path:
    """A leaderboard of two models with two seeds each, whose runs have no packed hits."""
    for seed in (0, 1):
        answered(tmp_path, "a", seed, bits=False)
        answered(tmp_path, "b", seed, accuracy=0.8, bits=False)
    write(tmp_path, progress())
    return tmp_path / FILE


def test_a_row_names_its_runs_in_the_order_of_seeds(stored: Path) -> None:
    table, board = read_results(stored.parent), read(stored)
    for model in ("a", "b"):
        runs = table[table.model == model].sort_values("seed")["run"].unique()
        assert set(board[board.model == model]["runs"]) == {" ".join(runs)} and len(runs) == 2


def test_no_change_of_a_leaderboard_passes_even_in_a_copy(stored: Path, tmp_path: Path) -> None:
    whole, random = stored.read_bytes(), np.random.default_rng(0)
    board, copy = read(stored), tmp_path / "copy.csv"
    lines = whole.splitlines(keepends=True)
    changed = [b"".join([*lines[:k], *lines[k + 1 :]]) for k in range(len(lines))]
    changed += [b"".join([*lines[:k], lines[k], *lines[k:]]) for k in range(1, len(lines))]
    changed += [b"".join([lines[0], *lines[k:], *lines[1:k]]) for k in range(2, len(lines))]
    changed += [whole[:k] for k in random.integers(0, len(whole), 100)]
    for at in random.integers(0, len(whole), 300):
        for byte in (whole[at] ^ (1 << random.integers(8)), random.integers(48, 58)):
            changed.append(whole[:at] + bytes([byte]) + whole[at + 1 :])
    for content in changed:
        copy.write_bytes(content)
        try:
            again = read(copy)
        except Refusal:
            continue
        pd.testing.assert_frame_equal(again, board)


def test_a_leaderboard_of_older_versions_is_refused_with_the_cure(stored: Path) -> None:
    old = pd.read_csv(stored, dtype=str, keep_default_na=False).drop(columns=["runs", "check"])
    old.to_csv(stored, index=False)
    with pytest.raises(Refusal, match="an older version wrote it.*`harness table --write`"):
        read(stored)


HEADER = ",".join(COLUMNS)
ROW = "d,s,accuracy,,clean,a,0.9725,0.96,0.98,3,1000,1,2,0.012,images,r0 r1 r2"


def sign(*lines: str) -> str:
    """Return lines as those of a file, `check` being right: what a program may write."""
    header, *rows = (line.split(",") for line in lines)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    signed = zip(lines, ["check", *checks(columns)], strict=True)
    return "".join(f"{line},{check}\n" for line, check in signed)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "it is empty"),
        (HEADER.replace("low,", "", 1) + "\n", "lacks the column `low`"),
        (f"{HEADER},check\n", "it has no rows"),
        (sign(HEADER, ROW.replace("0.96", "low")), "line 2: `low` must be a number; got 'low'"),
        (sign(HEADER, ROW.replace(",1,2", ",2,1")), "line 2: `rank_low` exceeds `rank_high`"),
        (sign(HEADER, ROW.replace("0.96", "0.99")), "line 2: `low` exceeds `high`"),
        (sign(HEADER, ROW.replace(",3,", ",0,")), "line 2: `seeds` must be a whole number"),
        (sign(HEADER, ROW.replace("r0 ", "  ")), "line 2: `runs` are no keys"),
        (sign(HEADER, ROW, ROW), "lines 2 and 3 are of the same"),
        (sign(HEADER, ROW)[:-1], "line 2 is cut off"),
        (f"{HEADER},check\n{ROW[:31]}\n", "line 2 has 8 fields"),
    ],
)
def test_a_damaged_leaderboard_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(Refusal, match=message) as refused:
        read(tmp_path / FILE)
    assert str(refused.value).endswith("Make it again with `harness table --write`.")


def test_a_model_may_be_called_na(tmp_path: Path) -> None:
    other = "d,s,x,,clean,NA,,,,1,9,,,,nothing,r"
    (tmp_path / FILE).write_text(sign(HEADER, ROW, other))
    found = read(tmp_path / FILE)
    assert found["model"].tolist() == ["a", "NA"] and found["value"].isna().tolist() == [
        False,
        True,
    ]


def test_columns_of_a_leaderboard_cannot_trade_places(stored: Path) -> None:
    head, rest = stored.read_text().split("\n", 1)
    stored.write_text(head.replace("low,high", "high,low", 1) + "\n" + rest)
    with pytest.raises(Refusal, match="line 2: it is not what was written"):
        read(stored)


def test_intervals_of_a_leaderboard_are_of_its_own_runs_alone(
    stored: Path, answered: Answer
) -> None:
    results = stored.parent
    before = leaderboard(read_results(results), StoredOutcomes(results))
    shutil.rmtree(results / "cells")
    with open_outcomes(results, read_results(results), progress()) as outcomes:
        without = leaderboard(read_results(results), outcomes)
    names = ["value", "low", "high", "basis"]
    pd.testing.assert_frame_equal(without[names], before[names], atol=1e-6)
    # The same numbers of other runs, such as those of weights that happen to be as good.
    table = read_results(results)
    other = table.assign(run=table["run"].where(table["model"] != "b", "another"))
    with open_outcomes(results, other, progress()) as outcomes:
        found = leaderboard(other, outcomes)
    assert list(found.value) == list(before.value)
    assert "images" not in set(found[found.model == "b"].basis)
    assert set(found[(found.model == "a") & (found.metric != "ece")].basis) == {"images"}


def test_ranks_without_cells_are_those_of_the_leaderboard_of_the_same_runs(
    stored: Path, answered: Answer
) -> None:
    results = stored.parent
    before = read(stored)
    pd.testing.assert_frame_equal(
        current(read_results(results), results, progress()), before, atol=1e-6
    )
    shutil.rmtree(results / "cells")
    table = read_results(results)
    now = current(table, results, progress())
    pd.testing.assert_frame_equal(now, before, atol=1e-6)
    stored.unlink()
    wide = current(table, results, progress())
    assert "images" not in set(wide.basis) and list(wide.value) == list(now.value)
    # Two seeds that are pairs have one degree of freedom instead of two.
    assert (wide.mde[wide.mde.notna()] > 0.9 * now.mde[wide.mde.notna()]).all()
    # One model more: the ranks are of other columns than those that the file knows.
    stored.write_bytes(as_csv(before))
    answered(results, "c", 0, bits=False)
    shutil.rmtree(results / "cells")
    third = current(read_results(results), results, progress())
    assert set(third[third.model == "c"].basis) <= {"rates", "nothing"}
    assert third.rank_high.max() == 3


def test_a_damaged_leaderboard_is_said_and_not_used(
    stored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = stored.parent
    shutil.rmtree(results / "cells")
    stored.write_bytes(stored.read_bytes().replace(b"0.8", b"0.9", 1))
    table = read_results(results)
    with open_outcomes(results, table, progress()) as outcomes:
        assert "images" not in set(leaderboard(table, outcomes).basis)
    assert "it is not what was written" in caplog.text
    assert "Its intervals are not used." in caplog.text


def test_a_run_with_a_limit_never_enters(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path, "whole")
    answered(tmp_path, "part", limit=20)  # moved out of quick/ by somebody
    assert set(write(tmp_path, progress()).model) == {"whole"}
    assert set(read_results(tmp_path).model) == {"whole", "part"}
    answered(tmp_path / "quick", "part", limit=20)
    with pytest.raises(Refusal, match="All results in .*quick are of a subset of the test images"):
        write(tmp_path / "quick", progress())


def test_bounds_are_no_means_and_correlations_reach_below_zero() -> None:
    rows = [
        ("m", "nfe", "d", seed, "dopri5", 1e-3, *name, value, 100, "run")
        for seed, shift in ((0, 0.0), (1, 0.02))
        for name, value in (
            (("nfe_rho", "loss"), -0.2 + shift),
            (("nfe_rho", "loss, low"), -0.3 + shift),
            (("nfe_rho", "loss, high"), -0.1 + shift),
            (("log10_growth", "b, p90"), 0.5),
        )
    ]
    board = leaderboard(pd.DataFrame(rows, columns=list(LONG)))
    assert list(board["variant"]) == ["loss"]
    assert -1 <= board["low"].item() < -0.19 < board["high"].item() <= 1
    assert board["rank_low"].isna().all(), "neither side is better"
