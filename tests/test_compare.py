"""Two sides: models, folders and CSVs; what is said of them, and what is written."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from harness.analysis import Sample, from_row
from harness.analysis.collect import Key
from harness.cli import app
from harness.comparison.compare import compare_sides, split, write_report
from harness.comparison.differences import default_names, differences
from harness.comparison.foreign import read_pairs
from harness.comparison.names import read_better, read_name, write_name
from harness.comparison.sentences import sentences
from harness.comparison.sides import Side
from harness.comparison.wording import amount, bounds, chance, signed
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import read

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise")

Answer = Callable[..., Path]  # writes a run


def harness(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.stdout)


def refused(result: Result, message: str) -> None:
    """One sentence on stderr with the cure, and nothing else."""
    assert result.exit_code == 2, result.output
    line = " ".join(result.stderr.split())
    assert re.search(message, line) and "Traceback" not in result.output, result.output


def key(group: str, metric: str = "accuracy", model: str = "a") -> Key:
    return Key("d", "s", metric, "", group, model)


def mean(value: float, half: float = 0.01, seeds: int = 1) -> Sample:
    return from_row(value, value - half, value + half, seeds, 1000, "rates")


def between(a: dict[str, Sample], b: dict[str, Sample], metric: str = "accuracy") -> pd.DataFrame:
    return differences(
        {key(g, metric, "x"): s for g, s in a.items()},
        {key(g, metric, "y"): s for g, s in b.items()},
        ("x", "y"),
    )


def test_a_sentence_says_who_is_better_where_and_by_how_much() -> None:
    frame = between(
        {"clean": mean(0.95), "noise": mean(0.8), "blur": mean(0.60), "noise+blur": mean(0.7)},
        {"clean": mean(0.952), "noise": mean(0.7), "blur": mean(0.65), "noise+blur": mean(0.685)},
    )
    frame.loc[3, ["better", "p_holm"]] = "", 0.06
    assert sentences(frame) == [
        "d, s: x is more accurate than y under noise by 10.0 points [8.6, 11.4]; y is more "
        "accurate than x under blur by 5.0 points [3.6, 6.4]; the difference under noise and blur "
        "is 1.5 points [0.1, 2.9], not significant after Holm's correction; no difference larger "
        "than 1.6 points on clean images."
    ]


def test_a_difference_that_holm_takes_away_keeps_its_sign() -> None:
    frame = between({"noise": mean(0.7)}, {"noise": mean(0.715)})
    frame.loc[0, ["better", "p_holm"]] = "", 0.06
    said = "the difference under noise is -1.5 points [-2.9, -0.1], not significant after Holm"
    assert said in sentences(frame)[0]


def test_a_lower_loss_is_the_better_one() -> None:
    frame = between({"noise": mean(0.5)}, {"noise": mean(0.9)}, "nll")
    assert list(frame.better) == ["x"]
    assert sentences(frame) == [
        "d, s: x is better in nll than y under noise by 0.4 [0.386, 0.414]."
    ]


def test_what_cannot_be_compared_is_said() -> None:
    lost = from_row(math.nan, math.nan, math.nan, 1, 10, "rates")
    alone = from_row(1.0, math.nan, math.nan, 1, 10, "nothing")
    assert (
        "accuracy under noise was not measured"
        in sentences(between({"noise": lost}, {"noise": mean(0.5)}))[0]
    )
    said = sentences(between({"noise": alone}, {"noise": alone}, "nll"))[0]
    assert "nll under noise has no interval without its per-image answers" in said


def test_holm_counts_groups_and_single_cells_apart() -> None:
    a = {"noise": mean(0.9)} | {f"fog {k}": mean(0.9) for k in range(1, 6)}
    b = {"noise": mean(0.886)} | {f"fog {k}": mean(0.886) for k in range(1, 6)}
    frame = between(a, b)
    assert list(frame.family) == ["groups"] + ["cells"] * 5
    assert frame.p_holm[0] == frame.p[0] and frame.p_holm[1] == pytest.approx(5 * frame.p[1])
    assert "of 5 single conditions, x has the better accuracy in 0, y in 0" in sentences(frame)[1]


def test_small_words() -> None:
    assert bounds("accuracy", -0.001, 0.002) == "[-0.10, 0.20]"
    assert bounds("nll", -0.5, 0.25) == "[-0.5, 0.25]"
    assert (chance(0.034), chance(0.0)) == ("0.034", "< 0.0001")
    accuracy, nll, nfe, entropy = ((name, "") for name in ("accuracy", "nll", "nfe", "entropy"))
    assert default_names([nll, accuracy], [accuracy]) == [accuracy]
    assert default_names([nfe, entropy], [entropy, nfe]) == [nfe]
    assert default_names([nfe, entropy], [entropy], {"entropy": "down"}) == [entropy]
    assert (amount("accuracy", -0.0131), amount("nll", -0.25)) == ("1.3", "0.25")
    assert (signed("accuracy", 0.0131), signed("nll", -0.25)) == ("+1.3 points", "-0.25")
    assert (signed("accuracy", 0.0225), signed("accuracy", -0.00845)) == (
        "+2.3 points",
        "-0.85 points",
    )
    assert read_name(" accuracy (class 3) / noise ") == ("accuracy", "class 3", "noise")
    assert read_name(write_name("gain", "over sharp", "rk(2) 4")) == (
        "gain",
        "over sharp",
        "rk(2) 4",
    )
    with pytest.raises(Refusal, match=r"`\(x\)` is no metric's name. Write it as in accuracy"):
        read_name("(x)")
    assert read_better(["auroc=up", "fpr95 = down", "nll=down"]) == {
        "auroc": "up", "fpr95": "down", "nll": "down",
    }  # fmt: skip
    assert split("rk(method='heun', steps=2), b", (), ()) == ["rk(method='heun', steps=2)", "b"]
    assert split("a,b,c", ["a", "a,b"], ["c"]) == ["a,b", "c"]
    assert split("a,b,c", ["a"], ["b,c"]) == ["a", "b,c"]
    assert read_pairs("--columns", "a=value, b = level", ("value", "level"), 1) == {
        "a": "value", "b": "level",
    }  # fmt: skip


@pytest.fixture
def two(tmp_path: Path, answered: Answer) -> Path:
    """A folder with two models of three seeds, a clear difference apart."""
    for seed in range(3):
        answered(tmp_path / "r", "good", seed, accuracy=0.95)
        answered(tmp_path / "r", "poor", seed, accuracy=0.75)
    return tmp_path / "r"


def test_two_models_of_a_folder_are_compared_image_by_image(two: Path) -> None:
    result = harness("compare", two, "--models", "good,poor")
    assert "good is more accurate than poor on clean images by" in told(result)
    assert "Intervals are over images and training seeds, 3 against 3." in told(result)
    assert "would have been found in 4 of 5 such comparisons" in told(result)
    assert "paired" not in told(result)
    # The two are the only ones there, and the folder is where results lie.
    assert told(harness("compare", "--results", two)) == told(result)


def test_without_cells_and_hits_it_says_that_nothing_is_paired(two: Path) -> None:
    paired = harness("compare", two, "--csv", two.parent / "p.csv")
    shutil.rmtree(two / "cells")
    (two / "d/robustness/good/seed1.bits").unlink()
    alone = harness("compare", two, "--csv", two.parent / "u.csv")
    assert "Nothing is paired: without per-image answers" in told(alone)
    p, u = (pd.read_csv(two.parent / name) for name in ("p.csv", "u.csv"))
    assert p.paired.all() and not u.paired.any() and told(paired)
    assert ((u.high - u.low) > (p.high - p.low))[p.family == "groups"].all()
    assert list(p.difference) == pytest.approx(list(u.difference))
    assert "seed1.bits is not there, though its JSON" in " ".join(alone.stderr.split())


def test_a_clone_compares_accuracy_as_the_cells_do(two: Path, tmp_path: Path) -> None:
    clone, csv = tmp_path / "clone", tmp_path / "a.csv"
    shutil.copytree(two, clone, ignore=shutil.ignore_patterns("cells"))
    metrics = ("--metric", "accuracy", "--metric", "nll", "--csv", csv)
    whole, alone = (
        (harness("compare", a, b, "--models", "good,poor", *metrics), pd.read_csv(csv))[1]
        for a, b in ((two, two), (clone, clone))
    )
    one = whole[whole.metric == "accuracy"].drop(columns="p_holm")  # of two metrics
    for a, b in ((clone, clone), (two, clone), (clone, two)):
        harness("compare", a, b, "--models", "good,poor", "--csv", csv)
        found = pd.read_csv(csv).drop(columns="p_holm")
        pd.testing.assert_frame_equal(found, one, check_exact=True)
    nll = (alone.metric == "nll").to_numpy()
    assert not alone.paired[nll].any() and whole.paired.all() and nll.any()


def test_one_network_each_says_that_it_is_about_weights(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path, "a", accuracy=0.9)
    answered(tmp_path, "b", accuracy=0.8)
    out = tmp_path / "c.csv"
    assert "they speak of these weights, not of the methods" in told(
        harness("compare", tmp_path, "--csv", out)
    )
    rows = pd.read_csv(out)
    cell = rows[rows.group == "shot_noise 3"].iloc[0]
    assert cell.only_a + cell.only_b > 0 and cell.only_a == int(cell.only_a)
    assert rows[rows.group == "noise"].only_a.isna().all()
    answered(tmp_path, "b", 1, accuracy=0.8)
    assert "a has one training seed and stands for its weights" in told(
        harness("compare", tmp_path)
    )


def test_two_folders_are_compared_model_by_model(two: Path, answered: Answer) -> None:
    new = two.parent / "new"
    for seed in range(3):
        answered(new, "good", seed, accuracy=0.95)  # the same networks
        answered(new, "poor", seed, accuracy=0.80, luck=1)
    said = told(harness("compare", new, two))
    assert "equal outcomes on clean images, under noise" in said
    assert f"poor in {new} is more accurate than poor in {two}" in said
    answered(new, "poor", 7, accuracy=0.8)
    said = told(harness("compare", new, two, "--models", "poor,poor"))
    assert f"poor on d, robustness: seed 7 is in {new} alone, and left out." in said
    assert "3 against 3" in said


def test_a_leaderboard_and_a_long_csv_are_sides(two: Path) -> None:
    assert harness("table", "--results", two, "--write").exit_code == 0
    board, long = two / "leaderboard.csv", two / "d/robustness/poor/seed0.csv"
    said = told(harness("compare", board, board, "--models", "good,poor"))
    assert "good is more accurate than poor" in said and "Nothing is paired" in said
    said = told(harness("compare", two, long, "--models", "good,poor"))
    assert "good is more accurate than poor" in said and "vouches" not in said
    copy = two.parent / "copy.csv"
    copy.write_bytes(long.read_bytes())
    said = told(harness("compare", two, copy, "--models", "good,poor"))
    assert f"Nothing vouches for {copy}: no JSON of a run lies beside it." in said
    copy.with_suffix(".json").write_bytes(long.with_suffix(".json").read_bytes())
    assert "vouches" not in told(harness("compare", two, copy, "--models", "good,poor"))
    copy.write_text(copy.read_text().replace("clean,0,accuracy,,0.", "clean,0,accuracy,,0.9", 1))
    result = harness("compare", two, copy, "--models", "good,poor")
    assert result.exit_code == 2 and "is not the table that its JSON vouches for" in result.stderr


def test_conditions_of_one_side_alone_are_named(two: Path, answered: Answer) -> None:
    answered(two, "short", kinds=("gaussian_noise", "fog"))
    said = told(harness("compare", two, "--models", "good,short"))
    assert "not compared, since only good has it: shot noise, impulse noise." in said
    assert "not compared, since only short has it: fog." in said
    said = told(harness("compare", two, "--models", "good,poor"))
    assert "not compared" not in said and "different" not in said


def test_other_images_are_told(two: Path, answered: Answer) -> None:
    other = two.parent / "other"
    for seed in range(3):
        answered(other, "good", seed, accuracy=0.9, data="others")
    said = told(harness("compare", two, other, "--models", "good,good"))
    assert "Measured on different images (d, robustness): " in said
    assert "Nothing is paired" in said


def test_all_rows_are_written_as_csv_and_json(two: Path) -> None:
    path = two.parent / "out/c.csv"
    result = harness("compare", two, "--csv", path)
    assert result.stdout.strip().splitlines()[-1] == str(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    records = json.loads(harness("compare", two, "--json").stdout)
    content = [record for record in records if record["table"] == "comparison"]
    notes = [record["note"] for record in records if record["table"] == "notes"]
    assert any("Intervals are over images and training seeds" in note for note in notes)
    assert len(rows) == len(content) == 2 + 15
    assert float(rows[0]["difference"]) == pytest.approx(content[0]["difference"], abs=1e-6)
    assert content[0]["paired"] is True and content[0]["only_a"] is None
    assert rows[0]["variant"] == content[0]["variant"] == ""
    before = path.read_bytes()
    harness("compare", two, "--csv", path)
    assert path.read_bytes() == before


PUBLISHED = """corruption,s1,s2,s3,s4,s5,mean
gaussian_noise,.7917,.5858,.3919,.3160,.2674,.4706
shot_noise,.8617,.7764,.5546,.4658,.3453,.6008
impulse_noise,.8143,.6644,.5492,.3498,.1929,.5141
average,.8226,.6755,.4986,.3772,.2685,.5285
"""


def test_a_published_table_is_compared_in_one_command(two: Path) -> None:
    path = two.parent / "PreActResNet-18.csv"
    path.write_text(PUBLISHED)
    command = ("compare", path, two, "--models", "PreActResNet-18,good", "--given", "n=10000")
    said = told(harness(*command))
    assert (
        f"{path} does not say it, so this is assumed: model PreActResNet-18, suite robustness, "
        in (said)
    )
    assert "good is more accurate than PreActResNet-18 under noise by" in said
    assert "52.85" in said and "10000 / 200" in said and "Nothing is paired" in said
    assert "PreActResNet-18 has one training seed" in said
    refused(harness(*command[:-2]), "does not say its `n`. Give `--given n=...`, or map one of its")


HEAD = "corruption,severity,accuracy\n"


@pytest.mark.parametrize(
    "content, options",
    [
        ("corruption,severity,accuracy\nfrosted_glass_blur,1,0.5\nGaussian Noise,1,0.7917\n", ()),
        ("Noise,Lv,top-1\ngaussian_noise,1,0.7917\n", ("Noise=condition,Lv=level,top-1=value",)),
        ("corruption,severity,error\ngaussian_noise,1,0.2083\n", ()),
        ("corruption,severity,Acc %\ngaussian_noise,1,79.17%\n", ("Acc %=percent",)),
        (f"{HEAD[:-1]},mine\nfog,1,.5,.7\ngaussian_noise,1,.1,.7917\n", ("mine=value",)),
        ('\ufeffcorruption,severity,acc\r\n"gaussian_noise",1,0.7917\r\n', ()),
    ],
)
def test_other_peoples_columns_are_understood_or_mapped(
    two: Path, content: str, options: tuple[str, ...]
) -> None:
    path = two.parent / "theirs.csv"
    path.write_text(content, newline="")
    out = two.parent / "c.csv"
    command = ["compare", path, two, "--models", "theirs,poor", "--given", "n=10000", "--csv", out]
    told(harness(*command, *(["--columns", *options] if options else [])))
    rows = pd.read_csv(out).set_index("group")
    assert rows.loc["gaussian_noise 1", "value_a"] == pytest.approx(0.7917)


@pytest.mark.parametrize(
    "content, options, message",
    [
        ("", (), "theirs.csv is damaged: it is empty"),
        ("a,b\n1,2\n", (), "has no column of values. Map one of its columns .'a', 'b'. with"),
        (HEAD + "fog,1,91\n", (), r"line 2: `accuracy` must lie in \[0, 1\]; got 91. Rates are"),
        (HEAD + "fog,one,.9\n", (), "line 2: `level` must be a number; got 'one'. Correct"),
        (HEAD + "fog,1,.9\nfog,1,.8\n", (), "lines 2 and 3 are of the same model"),
        (HEAD + "=cmd(),1,.9\n", (), "line 2: `condition` starts like a spreadsheet formula"),
        ("corruption,accuracy,acc\nfog,.9,.9\n", (), "both `accuracy` and `acc` would be `value`"),
        (HEAD + "fog,1,.9\n", ("--columns", "sev=level"), "Did you mean `severity`"),
        (HEAD + "fog,1,.9\n", ("--columns", "x=y"), "no column of ours called `y`"),
        (HEAD + "fog,1,.9\n", ("--columns", "x"), "not of the form a=b,c=d"),
    ],
)
def test_what_is_not_understood_is_refused(
    two: Path, content: str, options: tuple[str, ...], message: str
) -> None:
    path = two.parent / "theirs.csv"
    path.write_text(content)
    command = ["compare", path, two, "--models", "theirs,poor", "--given", "n=10000"]
    refused(harness(*command, *options), message)


def test_misuse_is_one_sentence(two: Path, answered: Answer) -> None:
    refused(
        harness("compare", two, "--csv", two / "d"),
        "d cannot be written: Is a directory. Choose an",
    )
    refused(harness("compare", two / "none"), "There is nothing at .*none. Give a results folder")
    refused(harness("compare", two, "--models", "good,por"), "no model in .*Did you mean `poor`")
    refused(harness("compare", two, "--models", "good"), "`--models` takes two models, a,b; got")
    refused(harness("compare", two, "--metric", "acuracy"), "Did you mean `accuracy`")
    refused(harness("compare", two.parent), "There are no results in")
    answered(two, "third")
    refused(harness("compare", two), "holds 3 models .good, poor, third.. Say which two with `--mo")
    other = two.parent / "other"
    answered(other, "fourth")
    refused(harness("compare", two, other), "have no model in common. Say which two with `--models")
    answered(other, "fifth", dataset="elsewhere")
    refused(harness("compare", two, other, "--models", "good,fifth"), "no data set, suite and co")
    given = two / "d/robustness/good/seed0.csv"
    command = ("compare", given, two, "--models", "good,poor", "--csv", given)
    refused(harness(*command), "seed0.csv is what is compared. Write to another file")


def test_quick_runs_can_be_compared(tmp_path: Path, answered: Answer) -> None:
    for model, accuracy in (("a", 0.95), ("b", 0.6)):
        answered(tmp_path / "quick", model, accuracy=accuracy, limit=200)
    assert "a is more accurate than b" in told(harness("compare", tmp_path / "quick"))


def test_variants_are_compared_by_name(tmp_path: Path, answered: Answer) -> None:
    for model, accuracy in (("a", 0.95), ("b", 0.6)):
        answered(tmp_path, model, suite="clean", kinds=(), accuracy=accuracy, n=400)
    out = tmp_path / "c.csv"
    said = told(harness("compare", tmp_path, "--metric", "accuracy(class 3)", "--csv", out))
    assert "d, clean: a is better in accuracy(class 3) than b on clean images by" in said
    assert pd.read_csv(out)[["metric", "variant"]].values.tolist() == [["accuracy", "class 3"]]
    refused(harness("compare", tmp_path, "--metric", "accuracy(class 11)"), "Did you mean `accur")


def test_frames_are_sides(two: Path) -> None:
    table = read(two)
    good, poor = (Side(two, table[table["model"] == m], folder=two) for m in ("good", "poor"))
    ((frame, said),) = compare_sides(good, poor, progress=Progress(Console(stderr=True)))
    ((other, lines),) = compare_sides(two, two, progress=Progress(Console(stderr=True)))
    pd.testing.assert_frame_equal(frame, other)
    assert said == lines and frame.paired.all()


def unknown_metric(path: Path, value: float) -> Path:
    rows = [f"fog,{s},{value - 0.01 * s + 0.001 * k},{k}" for s in range(1, 6) for k in range(3)]
    path.write_text("\n".join(["corruption,severity,auroc,seed", *rows]) + "\n")
    return path


def test_an_unknown_metric_is_better_as_the_caller_says(tmp_path: Path) -> None:
    a, b = unknown_metric(tmp_path / "a.csv", 0.9), unknown_metric(tmp_path / "b.csv", 0.8)
    given = ["dataset=d", "suite=s", "metric=auroc", "n=100"]
    command: tuple[object, ...] = (
        "compare",
        a,
        b,
        "--columns",
        "auroc=value",
        "--given",
        ",".join(given),
    )
    refused(harness(*command), "no metric in common whose better side is known. Name one with")
    command += ("--metric", "auroc")
    said = told(harness(*command))
    assert (
        "the difference in auroc under fog is 0.1 [" in said
        and "is better" not in said.split("It is not")[0]
    )
    assert "It is not known which side is better in auroc. Say it with `--better auroc=up`" in said
    assert "a is better in auroc than b under fog by 0.1" in told(
        harness(*command, "--better", "auroc=up")
    )
    assert "b is better in auroc than a" in told(harness(*command, "--better", "auroc=down"))
    assert "a is better in auroc than b" in told(harness(*command[:-2], "--better", "auroc=up"))
    refused(harness(*command, "--better", "auroc"), "`--better auroc` is not of the form auroc=up")


def test_a_users_corruption_has_its_severities_in_one_group(
    tmp_path: Path, answered: Answer
) -> None:
    for model, accuracy in (("a", 0.95), ("b", 0.7)):
        answered(tmp_path, model, kinds=(*NOISE, "rain"), accuracy=accuracy)
    out = tmp_path / "c.csv"
    said = told(harness("compare", tmp_path, "--csv", out))
    assert re.search(
        "a is more accurate than b on clean images by .*, under noise by .*, under rain", said
    )
    rows = pd.read_csv(out)
    assert list(rows[rows.family == "groups"].group) == ["clean", "noise", "rain"]
    assert set(rows[rows.family == "cells"].group) >= {f"rain {s}" for s in range(1, 6)}


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_report(link, b"x")
    assert link.is_symlink() and not Path("/dev/null").is_file()
