import pandas as pd
import pytest

from harness.analysis.belief import NEEDED
from harness.analysis.leaderboard import COLUMNS, COUNTS, KEY
from harness.report import board
from harness.report.board import columns, opening
from harness.report.numbers import convert, count_decimals, find_scale, format_number, unit_of
from harness.suites.metrics import METRICS

ROW = "d,s,accuracy,,clean,a,0.9725,0.96,0.98,3,1000,1,2,0.012,images,r0 r1"


def frame(*rows: str) -> pd.DataFrame:
    """Rows of the leaderboard, whose last columns may be left out."""
    split = [row.split(",") for row in rows]
    made = pd.DataFrame(split, columns=list(COLUMNS[: len(split[0])])).reindex(columns=COLUMNS)
    numeric = [c for c in made if c not in (*KEY, "basis", "runs")]
    made = made.assign(**{c: pd.to_numeric(made[c]) for c in numeric})
    made["basis"] = made["basis"].astype(object).where(made["basis"].notna(), "nothing")
    made["runs"] = made["runs"].astype(object).where(made["runs"].notna(), "")
    return made.astype(dict.fromkeys(COUNTS, "Int64"))


def test_a_rate_is_shown_in_per_cent_as_the_terminal_shows_it() -> None:
    accuracy = METRICS["accuracy"]
    assert convert(accuracy, 0.9725, 1) == float(f"{100 * 0.9725:.1f}")
    assert format_number(convert(accuracy, 0.5, 1), 1) == "50.0" and unit_of(accuracy) == "%"


def test_other_numbers_have_four_digits() -> None:
    nll = METRICS["nll"]
    assert count_decimals(nll, [0.02, 1.5]) == 3 and count_decimals(nll, [0.02]) == 5
    assert count_decimals(nll, [12345.0]) == 0 and count_decimals(nll, [0.0]) == 0
    assert count_decimals(nll, []) == 0 and unit_of(nll) == "nats"
    assert format_number(convert(nll, 0.12, 4), 4) == "0.1200"


def test_what_is_not_known_or_not_finite_is_said() -> None:
    nll = METRICS["nll"]
    assert format_number(convert(nll, float("nan"), 2), 2) == "–"
    assert format_number(convert(nll, float("inf"), 2), 2) == "∞"
    assert format_number(convert(nll, -float("inf"), 2), 2) == "−∞"


@pytest.mark.parametrize(
    "values, ends",
    [
        ([96.0, 98.0], (96, 98)),
        ([0.0, 3.4, -2.1], (-4, 4)),
        ([53.1, 46.7, "∞", None], (46, 54)),
        ([0.0123], (0.01, 0.015)),
        ([0.0], (-0.25, 0.25)),
        ([100.0, 100.0], (75, 125)),
        ([], (0, 1)),
        ([None, "−∞"], (0, 1)),
    ],
)
def test_a_scale_has_round_ends_around_its_values(values: list, ends: tuple) -> None:
    assert find_scale(values) == ends


def test_rows_come_best_first_whichever_side_is_better() -> None:
    rows = [f"d,s,{m},,clean,{model},{v},,,1,9,1,2" for m in ("accuracy", "nll") for model, v in
            (("a", 0.1), ("b", 0.3), ("c", 0.2))]  # fmt: skip
    found = columns(frame(*rows), {"a": 0, "b": 1, "c": 2})
    assert [[row[0] for row in column["rows"]] for column in found] == [[1, 2, 0], [0, 2, 1]]


def test_a_column_keeps_all_numbers_of_its_rows() -> None:
    runs = {("d", "s", "a"): {"r0": 4, "r1": 5, "r2": 6}, ("d", "s", "b"): {"r0": 8}}
    found = columns(frame(ROW), {"a": 7}, runs)
    assert found[0]["rows"] == [[7, 97.2, 96.0, 98.0, 3, 1000, 1, 2, 1.2, "images", [4, 5]]]
    assert found[0]["axis"][0] <= 96 and 98 <= found[0]["axis"][1] <= 100


def test_what_is_not_known_is_left_empty() -> None:
    row = columns(frame("d,s,speed,,clean,a,2,,,1,9,,"), {"a": 0})[0]["rows"][0]
    assert row == [0, 2.0, None, None, 1, 9, None, None, None, "nothing", []]


def test_the_ends_of_an_interval_are_no_columns() -> None:
    names = [("nfe_rho", "loss"), ("nfe_rho", "loss & low"), ("low", "")]
    rows = [f"d,nfe,{m},{v},clean,a,0.2,,,1,9,," for m, v in names]
    board_of = frame(*rows)
    board_of["variant"] = board_of["variant"].str.replace(" &", ",")
    found = columns(board_of, {"a": 0})
    assert [(c["metric"], c["variant"]) for c in found] == [("nfe_rho", "loss"), ("low", "")]


def test_each_variant_of_a_metric_has_its_column() -> None:
    rows = [f"d,s,entropy,{v},clean,a,0.2,,,1,9,," for v in ("used", "sharp")]
    found = columns(frame(*rows), {"a": 0})
    assert [(c["title"], c["variant"]) for c in found] == [
        ("row entropy", "used"),
        ("row entropy", "sharp"),
    ]


def test_an_unknown_metric_is_shown_under_its_name() -> None:
    (found,) = columns(frame("d,s,wobble_of_edges,,clean,a,0.2,,,1,9,,"), {"a": 0})
    assert (found["title"], found["unit"], found["better"]) == ("wobble of edges", "", 0)


def test_it_is_said_who_leads() -> None:
    def said(*ranks: tuple[int, int]) -> str:
        rows = [
            f"d,s,accuracy,,clean,m{i},0.{9 - i},,,1,9,{a},{b}" for i, (a, b) in enumerate(ranks)
        ]
        return columns(frame(*rows), {f"m{i}": i for i in range(9)})[0]["says"]

    assert said((1, 1), (2, 3), (2, 3)) == "m0 leads."
    assert said((1, 3), (1, 3), (1, 3)) == "No model is significantly worse than another."
    assert said((1, 2), (1, 2), (3, 3)) == "2 models may be the best."
    assert said((1, 1)) == ""


def test_it_is_said_which_robust_accuracies_are_upper_bounds() -> None:
    """One whose gradients are zero is none that can be believed; the other has all checks."""
    rows = [f"d,adversarial,robust_accuracy,,linf 8,{m},0.4,0.3,0.5,1,90,1,2" for m in "ab"]
    for name in NEEDED:
        for model in "ab":
            value = 1 if name == "control" else float((name, model) == ("zero_gradient", "a"))
            rows.append(f"d,adversarial,{name},,linf checks,{model},{value},,,1,90,,")
    found = columns(frame(*rows), {"a": 0, "b": 1})
    assert found[0]["says"].endswith(
        "Upper bounds only: a (the gradient of 100.0 % of the images is exactly 0 (of 90 images; "
        "limit 0 %))."
    )
    assert not any("Upper bounds" in column["says"] for column in found[1:])


def test_the_page_opens_with_accuracy_under_the_most_corruptions() -> None:
    rows = [("nll", "common"), ("accuracy", "clean"), ("accuracy", "noise+blur")]
    found = [{"metric": m, "variant": "", "group": g} for m, g in rows]
    assert opening(found) == 2
    assert opening([*found, {"metric": "accuracy", "variant": "", "group": "common"}]) == 3
    assert opening([{"metric": "accuracy", "variant": "class 3", "group": "common"}, *found]) == 3
    assert opening(found[:1]) == 0


def test_by_class_stays_in_the_file_where_there_are_too_many_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [ROW, ROW.replace("accuracy,", "accuracy,class 0")]
    assert len(columns(frame(*rows), {"a": 0})) == 2
    monkeypatch.setattr(board, "MOST_ROWS", 1)
    assert [c["variant"] for c in columns(frame(*rows), {"a": 0})] == [""]
