from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.corruption_error import (
    KINDS,
    corruption_error,
    is_complete,
    mean_corruption_error,
)
from harness.analysis.groups import groups_of
from harness.analysis.outcomes import StoredOutcomes
from harness.refusal import Refusal
from harness.storage.results import COLUMNS, read

Answer = Callable[..., Path]  # writes a run


def table(errors: dict[str, dict[str, list[float]]], clean: dict[str, float]) -> pd.DataFrame:
    """Errors by model, kind and severity, with clean errors by model, as a long table."""
    rows = []
    for model, of_kind in errors.items():
        rows.append((model, "clean", 0, 1 - clean[model]))
        for kind in KINDS:
            of = of_kind.get(kind, of_kind["else"])
            rows += [(model, kind, s, 1 - e) for s, e in enumerate(of, 1)]
    full = [(m, "s", "d", 0, c, level, "accuracy", "", v, 1000, "r") for m, c, level, v in rows]
    return pd.DataFrame(full, columns=list(COLUMNS))


ACCURACY = ("accuracy", "")
MINE, THEIRS = [0.1, 0.2, 0.3, 0.4, 0.5], [0.2, 0.4, 0.4, 0.5, 0.5]


def test_a_ratio_of_sums_is_not_a_mean_of_ratios() -> None:
    assert corruption_error(MINE, THEIRS) == pytest.approx(0.75)
    ratios = [e / r for e, r in zip(MINE, THEIRS, strict=True)]
    assert sum(ratios) / 5 == pytest.approx(0.71)


def test_mce_and_relative_mce_by_hand() -> None:
    frame = table(
        {"mine": {"else": MINE, "fog": [0.2] * 5}, "theirs": {"else": THEIRS}},
        clean={"mine": 0.05, "theirs": 0.1},
    )
    found = mean_corruption_error(frame, "theirs").set_index("model")
    ce = [0.75] * 14 + [1.0 / 2.0]
    assert found.loc["mine", "mce[ref=theirs]"] == pytest.approx(100 * sum(ce) / 15)
    relative = [(1.5 - 0.25) / (2.0 - 0.5)] * 14 + [(1.0 - 0.25) / (2.0 - 0.5)]
    assert found.loc["mine", "relative_mce[ref=theirs]"] == pytest.approx(100 * sum(relative) / 15)
    assert found.loc["mine", "fog"] == pytest.approx(0.5)
    assert found.loc["mine", "snow"] == pytest.approx(0.75)
    assert found.loc["theirs", "mce[ref=theirs]"] == pytest.approx(100)
    assert found.loc["theirs", "relative_mce[ref=theirs]"] == pytest.approx(100)
    mean = (14 * (1 - 0.3) + (1 - 0.2)) / 15
    assert found.loc["mine", "accuracy"] == pytest.approx(mean)
    assert found.loc["mine", "difference"] == pytest.approx(mean - 0.6)
    for name in ("mce[ref=theirs]", "relative_mce[ref=theirs]"):
        low, value, high = (found[f"{name}{end}"] for end in (" low", "", " high"))
        assert low["mine"] < value["mine"] < high["mine"]
        assert low["theirs"] == value["theirs"] == high["theirs"]


def test_published_errors_of_alexnet_are_a_reference() -> None:
    # Errors of the reference of ImageNet-C, in the order of its corruptions.
    published = (
        0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816,
        0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
    )  # fmt: skip
    alexnet = {k: [e] * 5 for k, e in zip(KINDS, published, strict=True)} | {"else": []}
    halved = {k: [e / 2] * 5 for k, e in zip(KINDS, published, strict=True)} | {"else": []}
    frame = table({"alexnet": alexnet, "half": halved}, {"alexnet": 0.4376, "half": 0.2188})
    found = mean_corruption_error(frame, "alexnet").set_index("model")
    assert found.loc["half", "mce[ref=alexnet]"] == pytest.approx(50)
    assert found.loc["half", "relative_mce[ref=alexnet]"] == pytest.approx(50)


def test_a_reference_without_all_cells_is_refused() -> None:
    frame = table({"mine": {"else": MINE}, "theirs": {"else": THEIRS}}, {"mine": 0, "theirs": 0})
    lost = frame[~((frame.model == "theirs") & frame.condition.isin(["fog", "frost"]))]
    with pytest.raises(Refusal, match="the reference `theirs`; missing: frost, fog. Run `harn"):
        mean_corruption_error(lost, "theirs")
    assert not is_complete(lost, "theirs") and is_complete(lost, "mine")
    one = frame[~((frame.model == "theirs") & (frame.condition == "fog") & (frame.level == 5))]
    with pytest.raises(Refusal, match="missing: fog"):
        mean_corruption_error(one, "theirs")
    with pytest.raises(Refusal, match="missing: clean, gaussian_noise"):
        mean_corruption_error(frame, "nobody")
    # A model without all cells has no mCE, and does not spoil that of others.
    assert list(mean_corruption_error(lost, "mine")["model"]) == ["mine"]


def test_a_denominator_that_is_not_positive_is_refused() -> None:
    perfect = {"mine": {"else": MINE}, "theirs": {"else": THEIRS, "fog": [0.0] * 5}}
    with pytest.raises(Refusal, match="under fog are 0, which nothing can be divided by"):
        mean_corruption_error(table(perfect, {"mine": 0, "theirs": 0}), "theirs")
    better = {"mine": {"else": MINE}, "theirs": {"else": THEIRS, "fog": [0.05] * 5}}
    with pytest.raises(Refusal, match="under fog exceed its clean ones by -0.05"):
        mean_corruption_error(table(better, {"mine": 0, "theirs": 0.1}), "theirs")
    with pytest.raises(Refusal, match="add up to 0, which nothing"):
        corruption_error([0.1], [0.0])


def test_several_suites_are_refused() -> None:
    frame = table({"mine": {"else": MINE}}, {"mine": 0})
    with pytest.raises(Refusal, match="of one suite on one data set"):
        mean_corruption_error(pd.concat([frame, frame.assign(suite="other")]), "mine")


def test_its_interval_holds_what_other_images_would_give(tmp_path: Path, answered: Answer) -> None:
    for model, accuracy in (("mine", 0.92), ("theirs", 0.85)):
        answered(tmp_path, model, kinds=KINDS, accuracy=accuracy, n=300)
    found = mean_corruption_error(read(tmp_path), "theirs", StoredOutcomes(tmp_path))
    found = found.set_index("model")
    for name in ("relative_mce[ref=theirs]", "mce[ref=theirs]"):
        columns = [found[c].to_dict() for c in (name, f"{name} low", f"{name} high")]
        value, low, high = (column["mine"] for column in columns)
        assert low < value < high
        # The reference is itself, whatever the images.
        assert [column["theirs"] for column in columns] == [100] * 3
    # A bootstrap over the images, kinds and severities of an image together.
    random, stored = np.random.default_rng(0), StoredOutcomes(tmp_path)
    groups = groups_of(frozenset((k, float(s)) for k in KINDS for s in range(1, 6)))
    of = {m: stored("d", "robustness", m, 0, groups, (ACCURACY,)) for m in ("mine", "theirs")}
    drawn = []
    for _ in range(500):
        rows = random.integers(0, 300, 300)
        ce = [
            (1 - of["mine"][ACCURACY, k][0][rows].mean())
            / (1 - of["theirs"][ACCURACY, k][0][rows].mean())
            for k in KINDS
        ]
        drawn.append(100 * sum(ce) / 15)
    assert high - low == pytest.approx(2 * 1.96 * pd.Series(drawn).std(), rel=0.15)
