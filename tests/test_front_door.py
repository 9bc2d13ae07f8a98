"""What a Python program calls: `import harness`."""

import doctest
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import harness
import harness.front
from harness.models.in_memory import source_of
from harness.models.resnet import resnet18
from harness.refusal import Refusal
from harness.storage.results import COLUMNS


def linear(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return linear(10)


def bias_of(model: nn.Module) -> Tensor:
    return model.get_parameter("2.bias")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_docstrings_hold() -> None:
    done = doctest.testmod(harness.front)
    assert done.attempted > 10 and done.failed == 0


def test_a_module_is_evaluated_as_it_is(here: Path) -> None:
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode():
        table = harness.evaluate(model, limit=20)
    assert tuple(table.columns) == COLUMNS and set(table["model"]) == {"Sequential"}
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not list(here.iterdir()), "nothing is written where the program runs"


def test_what_the_command_line_can_ask_for_python_can(here: Path) -> None:
    (here / "labels.csv").write_text(
        "folder,index\n" + "".join(f"{k},{9 - k}\n" for k in range(10))
    )
    table = harness.evaluate(
        net(),
        "robustness",
        limit=20,
        corruptions=["fog", "gaussian_noise"],
        metrics="top5",
        labels=here / "labels.csv",
    )
    assert set(table["condition"]) == {"clean", "fog", "gaussian_noise"}
    assert "top5" in set(table["metric"])
    plain = harness.evaluate(net(), "robustness", limit=20, corruptions="fog", name="plain")
    assert set(plain["condition"]) == {"clean", "fog"}
    nll = "metric == 'nll' and condition == 'clean'"
    assert table.query(nll)["value"].item() != plain.query(nll)["value"].item()


def test_several_suites_data_sets_and_seeds_make_one_table(here: Path) -> None:
    table = harness.evaluate(
        linear, ["clean", "robustness"], seeds=2, epochs=1, limit=20, results="kept"
    )
    assert set(table["suite"]) == {"clean", "robustness"} and set(table["seed"]) == {0, 1}
    assert (here / "kept/checkpoints/digits/linear/seed1.safetensors").exists()
    stored = harness.load_results("kept/quick")
    assert len(stored) == len(table) and set(stored["value"]) == set(table["value"])
    again = harness.evaluate(linear, seeds=[1], limit=20, results="kept")
    assert set(again["seed"]) == {1}, "trained weights are taken up"


def test_a_name_is_trained_and_evaluated() -> None:
    table = harness.evaluate("resnet18", limit=10, width=8, epochs=1)
    assert set(table["model"]) == {"resnet18"} and table["n"].max() == 10


def test_two_modules_are_compared_image_by_image() -> None:
    a = harness.evaluate(net(0), "robustness", limit=40, name="a")
    b = harness.evaluate(net(1), "robustness", limit=40, name="b")
    effects = harness.compare(a, b)
    groups = effects[effects["family"] == "groups"].set_index("group")
    accuracy = [f.query("metric == 'accuracy' and condition == 'clean'") for f in (a, b)]
    difference = accuracy[0]["value"].iloc[0] - accuracy[1]["value"].iloc[0]
    assert groups.loc["clean", "difference"] == pytest.approx(difference)
    assert groups["paired"].all() and (groups["low"] <= groups["difference"]).all()
    assert any("speak of these weights" in line for line in effects.attrs["sentences"])
    bare = harness.compare(pd.DataFrame(a), b.copy().assign(run="x").pipe(pd.DataFrame))
    assert len(bare) == len(effects)


def test_a_table_without_its_folder_is_compared_unpaired() -> None:
    tables = [harness.evaluate(net(seed), limit=40, name=f"n{seed}") for seed in (0, 1)]
    for table in tables:
        table.attrs.clear()
    assert not harness.compare(tables[0], tables[1])["paired"].any()
    both = harness.compare(pd.concat(tables), models="n0,n1")
    assert list(both["a"].unique()) == ["n0"] and list(both["b"].unique()) == ["n1"]


def test_folders_are_compared_and_ranked(here: Path) -> None:
    harness.evaluate(net(0), limit=40, name="a", results="r")
    harness.evaluate(net(1), limit=40, name="b", results="r")
    assert harness.compare("r/quick")["paired"].all()
    for board in (harness.leaderboard("r/quick"), harness.leaderboard(Path("r/quick"))):
        assert set(board["model"]) == {"a", "b"} and (board["basis"] == "images").any()
        accuracy = board[board["metric"] == "accuracy"]
        assert (accuracy["low"] <= accuracy["value"] + 1e-9).all()
    table = harness.load_results("r/quick")
    pd.testing.assert_frame_equal(harness.leaderboard(table), board)
    table.attrs.clear()
    assert not (harness.leaderboard(table)["basis"] == "images").any()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"model": "pde_agu"}, "no model called `pde_agu`. Did you mean `pde_aug`"),
        ({"suite": "claen"}, "no suite called `claen`. Did you mean `clean`"),
        ({"dataset": "digit"}, "no data set called `digit`. Did you mean `digits`"),
        ({"limit": 999}, "exceeds the 355 test images"),
        ({"name": "resnet18"}, "`resnet18` has the name of a registered model. Give `name=...`"),
        ({"model": "resnet18", "name": "pde_aug"}, "is, or reads like, a registered model"),
        ({"name": "=1+1"}, "`name` starts like a spreadsheet formula"),
        ({"model": dict}, "is no builder of models. Give a function .num_classes"),
        ({"model": lambda depth: net()}, "needs an argument `depth`, .* Give the argument a def"),
        ({"model": nn.Flatten()}, r"gives \(2, 3072\) for 2 images; `digits` has 10"),
        ({"weights": "none.safetensors"}, "no weights at none.safetensors"),
        ({"width": 8}, "`Sequential` has no width to choose"),
        ({"device": "cuda:7"}, "device `cuda:7` is not available here"),
        ({"results": __file__}, "Nothing can be written to"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_cannot_be_is_refused_with_the_cure(here: Path, given: dict, message: str) -> None:
    model = given.pop("model", net())
    with pytest.raises(Refusal, match=message):
        harness.evaluate(model, **given)
    assert not list(here.iterdir())


def test_there_are_no_results_to_load() -> None:
    with pytest.raises(Refusal, match="no results in none. Run `harness run"):
        harness.load_results("none")


def test_sources_tell_models_apart() -> None:
    assert source_of(resnet18).name == "resnet18" and source_of(resnet18).ours
    assert source_of(linear).code == source_of(linear).code and not source_of(linear).ours
    assert source_of(net()).code != source_of(nn.Sequential(net(), nn.ReLU())).code
    typed = dict[str, type[nn.Module]]()
    for scale in ("1", "2"):
        exec(
            "from torch import nn\nclass Net(nn.Module):\n"
            f"    def forward(self, images):\n        return {scale} * images.mean((2, 3))",
            scope := {"__name__": "__main__"},
        )
        typed[scale] = scope["Net"]
    assert source_of(typed["1"]()).code != source_of(typed["2"]()).code


def test_the_version_is_that_of_the_distribution() -> None:
    assert harness.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        harness.versoin  # noqa: B018
    assert sorted(harness.__all__) == ["compare", "evaluate", "leaderboard", "load_results"]
