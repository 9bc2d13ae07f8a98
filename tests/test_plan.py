from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.models import lookup
from harness.progress import Progress
from harness.refusal import Refusal
from harness.running import data, jobs
from harness.running.execute import execute
from harness.running.networks import trained
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage import checkpoints
from harness.suites import datasets

QUIET = Progress(Console(quiet=True))


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(results=tmp_path / "results", data=tmp_path, width=8, epochs=1, limit=20)


@pytest.fixture
def weights(options: Options) -> Path:
    """Weights of resnet18, seed 3, on digits."""
    (job,) = plan(["resnet18"], ["digits"], [3], [], options)
    trained(job, options, QUIET)
    return job.weights.path


def test_weights_that_another_process_trained_after_planning_are_taken(
    options: Options, tmp_path: Path
) -> None:
    """A network of a user is built, with its initial weights, when it is planned."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\ndef net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))\n"
    )
    own = replace(options, width=None)
    first, second = (plan([f"{file}:net"], ["digits"], [0], ["clean"], own)[0] for _ in range(2))
    found = [checkpoints.digest(trained(j, own, QUIET)[0].state_dict()) for j in (first, second)]
    assert found[0] == found[1]


def test_planning_builds_no_registered_network_and_reads_no_training_set(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = datasets.load

    def test_half(name: str, *, train: bool, **how: Any) -> Any:
        assert not train, "the training set is read"
        return load(name, train=train, **how)

    monkeypatch.setattr(data, "load", test_half)
    monkeypatch.setattr(jobs, "initialize", lambda build, seed: pytest.fail("built"))
    suites = ["clean", "robustness", "stability", "nfe"]
    planned = plan(["resnet18", "ode_block"], ["digits"], [0, 1], suites, options)
    assert [(j.source.name, j.seed) for j in planned] == [
        ("resnet18", 0),
        ("resnet18", 1),
        ("ode_block", 0),
        ("ode_block", 1),
    ]
    assert len(planned[0].evaluations[3].cells) == 1, "depth, of a network without a solver"
    assert len(planned[2].evaluations[3].cells) > 20, "its solvers, which the catalog knows of"
    assert not options.results.exists(), "planning leaves nothing behind"


def test_a_users_network_is_built_no_more_than_it_must_be(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def mine(num_classes=10):\n"
        "    head = nn.Linear(12, num_classes)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)\n"
    )
    built = []
    whole = lookup.source(f"{tmp_path / 'mine.py'}:mine")
    counted = replace(whole, build=lambda **k: (built.append(1), whole.build(**k))[1])
    monkeypatch.setattr("harness.running.plan.source", lambda name: counted)
    options = replace(options, width=None)
    jobs = plan(["mine"], ["digits"], [0], ["clean"], options)
    assert len(list(execute(jobs, options, QUIET))) == 1
    # Two seeds to see whether it brings its own weights, and the one that is trained: an
    # initialization builds a network twice.
    assert len(built) == 6


def test_the_seed_of_a_weights_file_replaces_none_that_was_given(
    options: Options, weights: Path
) -> None:
    own = replace(options, weights=(weights,), results=options.results / "other")
    (job,) = plan(["resnet18"], ["digits"], [], ["clean"], own)
    assert job.seed == 3
    (job,) = plan(["resnet18"], ["digits"], [3], ["clean"], own)
    assert job.seed == 3
    with pytest.raises(Refusal, match="trained with seed 3, not 0. Leave out `--seed`"):
        plan(["resnet18"], ["digits"], [0], ["clean"], own)


def test_weights_of_another_kind_are_refused_before_work(options: Options, weights: Path) -> None:
    own = replace(options, weights=(weights,))
    with pytest.raises(Refusal, match="trained with model resnet18, not resnet20"):
        plan(["resnet20"], ["digits"], [], ["clean"], own)
    state, description = checkpoints.read(weights)
    state.pop(next(iter(state)))
    checkpoints.write(weights, state, description)
    with pytest.raises(Refusal, match="they lack `"):
        plan(["resnet18"], ["digits"], [], ["clean"], own)


def test_images_of_another_seed_are_another_data_set(options: Options) -> None:
    for seed, name in ((0, "digits"), (7, "digits[image seed 7]")):
        jobs = plan(
            ["resnet18"], ["digits"], [0], ["robustness"], replace(options, image_seed=seed)
        )
        (evaluation,) = jobs[0].evaluations
        assert (evaluation.dataset, evaluation.setting.seed) == (name, seed)


def test_a_folder_that_cannot_be_written_is_refused(options: Options, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="Nothing can be written to"):
        plan(["resnet18"], ["digits"], [0], [], replace(options, results=tmp_path / "file" / "x"))
