import json
import tarfile
from pathlib import Path

import pytest

from tests import minutes

STUDY = """
title = "One question"

[[question]]
number = "1"
text = "Does a diffusion layer help?"
kind = "match"
model = "nets.py:idea"
baseline = "nets.py:plain"
decides = { suite = "clean", metric = "accuracy", group = "clean" }
"""
NETS = """
from torch import nn

def plain(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))

def idea(num_classes):
    return nn.Sequential(nn.BatchNorm2d(3), plain(num_classes))
"""


@pytest.mark.slow
def test_a_rehearsal_on_the_cpu_does_every_part(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "study.toml"
    file.write_text(STUDY)
    (tmp_path / "nets.py").write_text(NETS)
    study = f"{file} --dataset digits --seeds 1 --epochs 1 --limit 20 --workers 1"
    arguments = ["--minutes", "6", "--out", str(out), "--rehearse", "--study", study]
    assert minutes.main(arguments) == 0
    done = json.loads((out / "summary.json").read_text())
    assert [one["part"] for one in done] == ["right", "speed", "study"]
    assert "3 passed" in (out / "right.log").read_text()
    assert "| heat |" in (out / "tables" / "operators-cpu.md").read_text()
    with tarfile.open(out / "results.tar.xz") as archive:
        names = archive.getnames()
    assert "quick/digits/study.json" in names
    assert not any("cells" in name or name.endswith(".safetensors") for name in names)


def test_a_command_that_takes_too_long_is_ended_and_told(tmp_path: Path) -> None:
    done = minutes.run("right", ["sleep", "60"], tmp_path / "log", 1.0)
    assert done.code == 124 and done.seconds < 8
