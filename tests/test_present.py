"""Tables as values: what a terminal, a program and a paper get of them."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from harness.analysis.collect import Key
from harness.analysis.leaderboard import leaderboard
from harness.analysis.outcomes import StoredOutcomes
from harness.comparison.guards import Guard
from harness.models.catalog import CATALOG
from harness.present.board import sheet_of
from harness.present.comparison import check_table
from harness.present.latex import escape, to_latex
from harness.present.lists import models_sheet, names_sheet
from harness.present.machine import to_json
from harness.present.markdown import to_markdown
from harness.present.sheet import COUNTS, DATASET, MODEL, PERCENT, Column, Sheet, fixed, number
from harness.present.tables import TABLES, suite_tables
from harness.present.terminal import interval, to_terminal, wrap
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import COLUMNS, read
from harness.suites.catalog import CORRUPTIONS, DATASETS, SUITES
from harness.suites.metrics import METRICS

QUIET = Progress(Console(file=io.StringIO()), "quiet")


def printed(sheet: Sheet, width: int, encoding: str = "utf-8") -> str:
    """What a terminal of this width and encoding shows."""
    content = io.BytesIO()
    file = io.TextIOWrapper(content, encoding=encoding, newline="\n")
    Console(file=file, width=width).print(to_terminal(sheet))
    file.flush()
    lines = content.getvalue().decode(encoding).splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(models: list[str]) -> Sheet:
    """A table of accuracies, model i having 0.6 - 0.01 i under corruption."""
    rows = [
        {"dataset": "cifar10", "model": name, "clean": 0.7, "corrupted": 0.6 - i / 100}
        | {"corrupted_low": 0.55 - i / 100, "corrupted_high": 0.63 - i / 100}
        | {"relative": 0.9 - i / 70, "noise": 0.51 - i / 100, "blur": None, "seeds": 3, "n": 10000}
        for i, name in enumerate(models)
    ]
    columns = [
        DATASET,
        MODEL,
        number("clean", "clean %", PERCENT, drop=3),
        number("corrupted", "corrupted %", PERCENT, interval=2),
        number("relative", "relative %", PERCENT, drop=7),
        number("noise", "noise %", PERCENT, drop=5),
        number("blur", "blur %", PERCENT, drop=6),
        *COUNTS,
    ]
    return Sheet(columns, rows, ["Ranks: none."], "summary")


TWO = ["resnet18", "temperature_attention"]
AT_200 = """\
data set  model                  clean %  corrupted %  95 % interval  relative %  noise %  seeds      n
cifar10   resnet18                  70.0         60.0      55.0-63.0        90.0     51.0      3  10000
cifar10   temperature_attention     70.0         59.0      54.0-62.0        88.6     50.0      3  10000
Ranks: none.
"""  # noqa: E501
AT_80 = """\
data                            clean  corrupted       95 %
set      model                      %          %   interval  relative %  noise %
cifar10  resnet18                70.0       60.0  55.0-63.0        90.0     51.0
cifar10  temperature_attention   70.0       59.0  54.0-62.0        88.6     50.0
In every row: seeds 3, n 10000.
Ranks: none.
"""
AT_40 = """\
model                  corrupted %
resnet18                      60.0
temperature_attention         59.0
In every row: data set cifar10, seeds 3,
n 10000. Left out at this width: clean
%, 95 % interval, relative %, noise %;
`--json` has them.
Ranks: none.
"""


@pytest.mark.parametrize("width, text", [(40, AT_40), (80, AT_80), (200, AT_200)])
def test_two_models_are_printed_as_the_width_allows(width: int, text: str) -> None:
    assert printed(summary(TWO), width) == text


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_forty_models_keep_their_whole_names(width: int) -> None:
    names = [f"stochastic_depth_{i:02}" for i in range(40)]
    lines = printed(summary(names), width).splitlines()
    shown = [name for line in lines for name in re.findall(r"stochastic_depth_\d\d", line)]
    assert shown == names
    rows = [line for line in lines if re.search(r"stochastic_depth_\d\d", line)]
    assert all(f"{60 - i:.1f}" in line for i, line in enumerate(rows))
    assert all("55.0-63.0" in line for line in rows[:1]) == (width >= 80)


def test_a_name_breaks_behind_a_separator_and_loses_nothing() -> None:
    assert wrap("depthwise_conv_layer", 16).split("\n") == ["depthwise_conv_", "layer"]
    assert wrap("a b ccc", 3).split("\n") == ["a b", "ccc"] and wrap("", 3) == ""
    name = "ruthotto_haber_second_order_with_a_very_long_name(num_steps=3)"
    text = printed(summary([name]), 30).replace("cifar10", "")
    assert name in re.sub(r"\s", "", text)


def test_more_rows_than_a_terminal_shows_are_counted() -> None:
    sheet = Sheet([MODEL], [{"model": f"m{i}"} for i in range(20)], limit=15)
    text = printed(sheet, 80)
    assert "m14" in text and "m15" not in text
    assert "5 more rows: `--json` prints all of them." in text
    assert len(json.loads(to_json(sheet))) == 20


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_terminal_can_encode_a_table(encoding: str) -> None:
    rows = [{"model": "coin", "x": 1.0, "behavior": ["random"]}]
    rows.append({"model": "\u2603\x1b[31m", "x": 2.0})
    sheet = Sheet([MODEL, number("x", "x", fixed(1))], rows, ["It\u2019s \u2026 \u00b2."], "t")
    text = printed(sheet, 80, encoding)
    assert " coin: random." in text and "\x1b" not in text
    if encoding == "ascii":
        assert "coin +" in text and "\\u2603\\x1b[31m" in text and "It's ... \\xb2." in text
    if encoding == "utf-8":
        assert "coin \u2020" in text and "\u2603\\x1b[31m" in text


def test_json_has_full_precision_and_null_for_the_unknown() -> None:
    value = 0.1234567890123
    row = {"model": "coin", "x": np.float64(value), "x_low": np.nan, "n": np.int64(3), "ok": True}
    sheet = Sheet([MODEL, number("x", "x %", PERCENT, interval=1)], [row], name="summary")
    frame = pd.DataFrame({"a": ["b"], "n": pd.array([None], dtype="Int64"), "y": [np.inf]})
    assert json.loads(to_json(sheet, frame)) == [
        {"table": "summary", "model": "coin", "x": value, "x_low": None, "n": 3, "ok": True},
        {"a": "b", "n": None, "y": None},
    ]
    assert json.loads(to_json()) == []


def test_latex_needs_booktabs_alone() -> None:
    text = to_latex(summary(TWO))
    assert text.splitlines()[:5] == [
        r"\begin{tabular}{llrrrrrr}",
        r"\toprule",
        r"data set & model & clean \% & corrupted \% & relative \% & noise \% & seeds & n \\",
        r"\midrule",
        r"cifar10 & resnet18 & 70.0 & $60.0_{-5.0}^{+3.0}$ & 90.0 & 51.0 & 3 & 10000 \\",
    ]
    assert r"temperature\_attention" in text
    assert text.splitlines()[-3:] == [r"\bottomrule", r"\end{tabular}", "% Ranks: none."]
    assert text.count(r"\begin") == text.count(r"\end") == 1


def test_latex_prints_names_as_they_are() -> None:
    assert escape(r"a_b & 100 % #{x} ~ ^ \ $ | < >") == (
        r"a\_b \& 100 \% \#\{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$ "
        r"\textbar{} \textless{} \textgreater{}"
    )
    assert escape("coin \u2020 \u2603\n") == r"coin $^{\dagger}$ U+2603U+000A"
    assert escape("\u00e9\u00df\u00ab") == "\u00e9\u00dfU+00AB"
    signed = number("d", "d", fixed(1, 1, "+"), interval=1)
    cells = to_latex(
        Sheet([signed], [{"d": -0.5, "d_low": -1.5, "d_high": 2.0}, {"d": -1.0}]),
        pd.DataFrame({"name_of": ["x"], "y": [0.25]}),
    )
    assert r"$-0.5_{-1.0}^{+2.5}$ \\" in cells and r"$-1.0$ \\" in cells
    assert r"name\_of & y \\" in cells and r"x & 0.25 \\" in cells


def cells_of(text: str) -> list[list[str]]:
    """The cells of tables as GitHub shows them."""
    shown = lxml.html.fromstring(MarkdownIt("commonmark").enable("table").render(text))
    return [[cell.text_content() for cell in row.xpath("./*")] for row in shown.xpath("//tr")]


def test_markdown_has_intervals_and_notes() -> None:
    text = to_markdown(summary(TWO))
    heading, first, *_ = cells_of(text)
    assert heading == ["data set", "model", "clean %", "corrupted %", "relative %", "noise %",
                       "seeds", "n"]  # fmt: skip
    assert first[:4] == ["cifar10", "resnet18", "70.0", "60.0 [55.0, 63.0]"]
    assert text.splitlines()[-2:] == ["", "Ranks: none."]
    signed = number("d", "d", fixed(1, 1, "+"), interval=1, over="few")
    row = {"d": -0.5, "d_low": -1.5, "d_high": 2.0, "few": True}
    assert cells_of(to_markdown(Sheet([signed], [row]))) == [["d"], ["-0.5* [-1.5, +2.0]"]]


@pytest.mark.parametrize(
    "name",
    ["a_b_c", "*a*", "a|b", "`a`", "<b>a</b>", "[a](b)", "a&lt;b", "~~a~~", "# a", "1. a", "\\|",
     "$\\foo$", "http://a.b", "@a", ":a:", "![a](b)"],
)  # fmt: skip
def test_markdown_prints_names_as_they_are(name: str) -> None:
    sheet = Sheet([MODEL, Column("x", name)], [{"model": name, "x": name}], [f"{name} is it."])
    text = to_markdown(sheet)
    assert cells_of(text) == [["model", name], [name, name]]
    assert f"{name} is it." in lxml.html.fromstring(MarkdownIt().render(text)).text_content()


def test_intervals_are_read_unambiguously() -> None:
    assert interval("93.1", "96.1") == "93.1-96.1" and interval("", "") == ""
    assert interval("-0.1", "0.2") == "-0.1 to 0.2" and interval("+1", "+2") == "+1 to +2"


def test_a_column_in_which_nothing_stands_is_not_printed() -> None:
    sheet = Sheet([MODEL, Column("x", "empty")], [{"model": "m", "x": None}, {"model": "n"}])
    assert "empty" not in printed(sheet, 80) + to_latex(sheet)


def test_any_frame_is_a_sheet() -> None:
    frame = pd.DataFrame({"name": ["a"], "count": [3], "share": [1 / 3], "ok": [True]})
    text = printed(sheet_of(frame), 80)
    assert text.split() == [
        "name",
        "count",
        "share",
        "ok",
        "a",
        "3",
        "0.3333",
        "True",
    ]


def long(rows: list[tuple], suite: str, seeds: int = 2, n: int = 100) -> pd.DataFrame:
    """A long table of (model, condition, level, metric, variant, value)."""
    return pd.DataFrame(
        [
            (m, suite, "d", seed, c, float(lv), name, variant, v, n, "run")
            for seed in range(seeds)
            for m, c, lv, name, variant, v in rows
        ],
        columns=list(COLUMNS),
    )


def tables(frame: pd.DataFrame, **options: Any) -> list[Sheet]:
    suite = frame["suite"].iloc[0]
    return suite_tables(Path("nowhere"), suite, [], [], QUIET, frame=frame, **options)


def test_another_suite_with_entropies_keeps_its_corrupted_rows() -> None:
    rows = [
        ("net", condition, level, metric, "", value)
        for condition, level in (("clean", 0), *(("fog", s) for s in range(1, 6)))
        for metric, value in (
            ("entropy_predictive", 1.25 + level),
            ("reconstruction_error", 0.03),
            ("auroc", 0.875),
        )
    ]
    (sheet,) = tables(long(rows, "uncertainty"))
    found = {(row["metric"], row["group"]): row for row in sheet.rows}
    assert found["entropy_predictive", "fog"]["value"] == pytest.approx(4.25)
    lines = [" ".join(line.split()) for line in printed(sheet, 200).splitlines()]
    assert any("d entropy predictive fog net 4.25" in line for line in lines)
    assert any("d reconstruction error clean net 0.03" in line for line in lines)
    assert found["auroc", "clean"]["rank_low"] is None and "auroc %" not in "".join(lines)


def test_a_suites_own_table_is_printed() -> None:
    frame = long([("net", "clean", 0, "auroc", "", 0.875)], "mine")
    (sheet,) = tables(frame, table=lambda rows: rows.groupby("model")["value"].mean().reset_index())
    assert printed(sheet, 80).split() == ["model", "value", "net", "0.875"]
    (own,) = tables(frame, table=lambda rows: summary([rows["model"].iloc[0]]))
    assert own.name == "summary"
    with pytest.raises(
        Refusal, match="`table` of the suite mine must return a DataFrame or a Sheet; g"
    ):
        tables(frame, table=lambda rows: "words")
    assert suite_tables(Path("nowhere"), "other", [], [], QUIET, frame=frame) == []


def test_tables_are_looked_up_by_the_name_of_a_suite() -> None:
    assert set(TABLES) == set(SUITES)


MAPS = [
    ("net", "clean", 0, statistic, kind, value + 0.1 * i)
    for statistic, value in (("entropy", 3.0), ("gini", 0.4), ("distance", 4.0))
    for i, kind in enumerate(("used", "sharp", "matched", "over matched", "level", "used, class 1"))
] + [
    ("net", "clean", 0, "accuracy", "", 0.9),
    ("net", "clean", 0, "accuracy", "sharp", 0.8),
    ("net", "clean", 0, "gain", "over matched", 0.05),
    *(("net", k, 3, "instability", "used", 0.25) for k in ("fog", "snow")),
    *(("cnn", "clean", 0, "gini", f"gradcam {side}x{side}", 0.5) for side in (4, 16)),
]


def test_attention_stands_beside_what_it_is_compared_with() -> None:
    attention, cam = tables(long(MAPS, "attention"))
    rows = {(row["metric"], row["group"]): row for row in attention.rows}
    titles = [c.title for c in attention.columns[4:9]]
    assert titles == ["used", "sharp", "matched", "over matched", "level"]
    row = rows["entropy", "clean"]
    assert [row[k] for k in ("used", "sharp", "matched")] == pytest.approx([3.0, 3.1, 3.2])
    assert row["over_matched"] == pytest.approx(3.3) and row["over_matched_low"] is not None
    assert row["level"] == pytest.approx(3.4)
    accuracy = rows["accuracy", "clean"]
    assert (accuracy["used"], accuracy["sharp"], accuracy["over_matched"]) == (0.9, 0.8, 0.05)
    assert rows["instability", "fog@3"]["used"] == 0.25
    text = printed(attention, 200)
    assert "used: the map that weights the values; sharp: softmax(scores)" in text
    assert text.count("\n") == len(attention.rows) + 2  # the explanation is one line
    assert "over matched" in printed(attention, 40)
    assert [c.title for c in cam.filled][4:6] == ["Grad-CAM 16x16", "Grad-CAM 4x4"]


def test_stability_says_growth_gradient_and_the_worst_block() -> None:
    blocks = {"b": 1.0, "a": 2.0}  # in the order of evaluation
    rows = [
        ("net", condition, level, "log10_growth", block + end, x + (level > 0.01))
        for condition in ("random direction", "gradient direction")
        for level in (1e-3, 1e-1)
        for block, x in blocks.items()
        for end in ("", ", p10")
    ]
    rows += [("net", "clean", 0, "log10_gradient_norm", b, -x) for b, x in blocks.items()]
    rows += [("net", "clean", 0, "spectral_norm", b, 1 + x) for b, x in blocks.items()]
    (sheet,) = tables(long(rows, "stability"))
    cells = [column.text(sheet.rows[0]) for column in sheet.filled]
    assert cells == ["d", "net", "100.00", "100.00", "10.00", "3.00 (a)", "2", "100"]
    assert sheet.rows[0]["random direction"] == pytest.approx(100)


def test_solvers_have_a_row_for_each_setting() -> None:
    rows = [
        ("ode", solver, level, metric, variant, value)
        for solver, level in (("euler", 1), ("euler", 2), ("dopri5", 1e-3))
        for metric, variant, value in (
            ("accuracy", "", 0.5),
            ("nfe", "", 4.0 * level),
            ("nfe", "most", 9.0),
            ("evaluations", "", 4.0 * level + 7),
            ("macs", "", 1.25e8),
            ("seconds", "", 0.002),
            ("nfe_gamma", "margin", 0.25),
            ("nfe_gamma", "margin, low", 0.1),
            ("nfe_tie", "", 0.875),
        )
    ]
    rows.append(("fixed", "depth", 0, "accuracy", "", 0.75))
    (sheet,) = tables(long(rows, "nfe"))
    assert [(r["condition"], r["level"]) for r in sheet.rows if r["model"] == "ode"] == [
        ("euler", 1),
        ("euler", 2),
        ("dopri5", 1e-3),
    ]
    line = " ".join(
        printed(sheet, 200).splitlines()[2 if sheet.rows[0]["model"] != "ode" else 1].split()
    )
    numbers = "50.0 40.4-59.6 4.0 9 11.0 125.0 2.00 +0.25 +0.25 to +0.25 87.5 2 100"
    assert line == f"d ode euler 1 {numbers}"


def test_headline_means_leave_out_validation_corruptions() -> None:
    rows = [
        ("net", condition, level, metric, "", value)
        for condition, level, lost in (("clean", 0, 0), ("fog", 1, 0.2), ("spatter", 1, 0.6))
        for metric, value in (("accuracy", 0.9 - lost), ("nll", 0.5 + lost), ("ece", 0.1 + lost))
    ]
    severity, means, calibration = tables(long(rows, "robustness"), detail=True)
    assert severity.rows[-1]["mean"] == pytest.approx(0.7) and severity.total
    assert means.rows[0]["corrupted"] == pytest.approx(0.7)
    row = calibration.rows[0]
    assert row["nll_corrupted"] == pytest.approx(0.7) and row["nll_ratio"] == pytest.approx(1.4)
    assert row["ece_corrupted"] == pytest.approx(0.3) and row["brier"] is None
    assert "ece_ratio" not in row and row["nll_ratio_low"] != row["nll_ratio_low"]  # no cells
    assert not calibration.notes
    squares = [("net", c, s, "squared_calibration_error", "", v) for c, s, v in
               (("clean", 0, -0.5), ("fog", 1, 49.0))]  # fmt: skip
    calibration = tables(long(rows + squares, "robustness"), detail=True)[2]
    row = calibration.rows[0]
    assert (row["calibration"], row["calibration_corrupted"]) == (0, pytest.approx(7))
    assert "root mean square of accuracy less confidence" in calibration.notes[0]
    ends = [means.rows[0][f"relative{end}"] for end in ("_low", "", "_high")]
    assert ends[0] < ends[1] < ends[2] and ends[1] == pytest.approx(0.7 / 0.9)
    rain = [("net", "rain", 1, "accuracy", "", 0.25)]
    row = tables(long(rows + rain, "robustness"))[1].rows[0]
    assert row["corrupted"] == pytest.approx(0.7) and row["rain 1"] == 0.25
    alone = long([r for r in rows if r[1] != "fog"], "robustness")
    assert [sheet.name for sheet in tables(alone)] == ["severity", "leaderboard"]


def test_the_interval_of_a_table_is_that_of_the_leaderboard(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    for seed in range(2):
        answered(tmp_path, "m", seed)
    sheets = suite_tables(tmp_path, "robustness", [], [], QUIET)
    board = leaderboard(read(tmp_path), StoredOutcomes(tmp_path))
    row = next(sheet for sheet in sheets if sheet.name == "summary").rows[0]
    own = board[(board["metric"] == "accuracy") & (board["group"] == "noise")].iloc[0]
    assert (row["noise_low"], row["noise_high"]) == (own["low"], own["high"])
    assert (row["corrupted_low"], row["corrupted_high"]) == (own["low"], own["high"])


def test_many_models_get_no_wall_of_severities(
    tmp_path: Path, told_folder: Callable[..., Path]
) -> None:
    folder = told_folder(tmp_path, [f"m{i:02}" for i in range(40)])
    sheets = suite_tables(folder, "robustness", [], [], QUIET, detail=True)
    assert [sheet.name for sheet in sheets] == ["severity", "summary", "calibration"]
    assert "of 40 models: name some by `--model`." in printed(sheets[0], 80)
    assert len(json.loads(to_json(sheets[0]))) == 40 * 3
    assert len(printed(sheets[1], 80).splitlines()) <= 40 + 12
    assert "and 28 more." in sheets[1].notes[0]


def test_models_fit_on_a_screen_and_long_says_more() -> None:
    text = printed(models_sheet(), 80)
    assert len(text.splitlines()) <= 36
    assert set(CATALOG) <= set(re.findall(r"\w+", text))
    long_text = printed(models_sheet(long=True), 200)
    assert "u_t = div(g(|grad u|) grad u)" in long_text and "555 M" in long_text
    names = [row["model"] for row in models_sheet(True, "baseline").rows]
    assert names == [name for name, entry in CATALOG.items() if entry.family == "baseline"]
    with pytest.raises(Refusal, match="no family of models called `basline`. Did you mean `base"):
        models_sheet(family="basline")
    records = json.loads(to_json(models_sheet()))
    assert [r["model"] for r in records] == list(CATALOG)
    assert records[0]["parameters"] == 11173962


@pytest.mark.parametrize("kind", ["suites", "datasets", "corruptions", "metrics"])
def test_names_are_listed_with_what_they_are(kind: str) -> None:
    every: Mapping[str, Any] = {
        "suites": SUITES,
        "datasets": DATASETS,
        "corruptions": CORRUPTIONS,
        "metrics": METRICS,
    }
    sheet = names_sheet(kind)
    assert [row["name"] for row in sheet.rows] == list(every[kind])
    for width in (40, 80, 200):
        assert set(every[kind]) <= set(re.findall(r"\w+", printed(sheet, width)))
    if kind != "metrics":
        assert all(row["summary"] for row in sheet.rows)


def test_a_check_is_a_sheet_with_all_that_is_known() -> None:
    key = Key("d", "robustness", "accuracy", "class 3", "noise", "m")
    worse = Guard(key, 0.005, "worse", baseline=0.9, new=0.8, difference=-0.1, low=-0.2, high=-0.05)
    missing = Guard(key, 0.005, "missing", "the new results do not have it")
    text = printed(check_table([worse, missing]), 200)
    assert "0.9000  0.8000    -0.1000  -0.2000 to -0.0500   0.005" in text
    assert "accuracy(class 3)" in text and "the new results do not have it" in text
    first, second = json.loads(to_json(check_table([worse, missing])))
    assert first["difference_low"] == -0.2 and first["model"] == "m" and first["table"] == "check"
    assert second["new"] is None and second["variant"] == "class 3"


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("harness.present.tables", "torch timm torchvision matplotlib"),
        ("harness.present.lists", "torch timm torchvision matplotlib pandas"),
    ],
)
def test_tables_are_read_without_what_trains_and_draws(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ratios_and_calibration_have_intervals_from_images(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    answered(tmp_path, "m", 0, bits=False)
    sheets = {s.name: s for s in suite_tables(tmp_path, "robustness", [], [], QUIET, detail=True)}
    paired = sheets["summary"].rows[0]
    row = sheets["calibration"].rows[0]
    for key in ("nll", "nll_corrupted", "nll_ratio", "brier_ratio", "calibration"):
        assert row[f"{key}_low"] < row[key] < row[f"{key}_high"]
    assert row["ece"] > 0 and math.isnan(row["ece_low"])
    shutil.rmtree(tmp_path / "cells")
    (alone,) = [
        s.rows[0]
        for s in suite_tables(tmp_path, "robustness", [], [], QUIET)
        if s.name == "summary"
    ]
    assert alone["relative"] == paired["relative"]
    assert alone["relative_low"] < paired["relative_low"] < paired["relative"]
    assert alone["relative_high"] > paired["relative_high"] > paired["relative"]
