import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from harness.models.cards import MODELS
from harness.models.lookup import source

USER_FILE = """
from torch import nn
def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
def wide(num_classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, width), nn.Linear(width, num_classes))
def resnet18(num_classes):
    return tiny(num_classes)
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return path


def test_a_users_builder_needs_nothing_from_us(user_file: Path) -> None:
    found = source(f"{user_file}:tiny")
    assert found.name == "tiny" and not found.scalable and len(found.sha256) == 64
    assert found.build(num_classes=4)(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert source(f"{user_file}:wide").scalable


def test_a_users_builder_may_not_take_a_registered_name(user_file: Path) -> None:
    with pytest.raises(ValueError, match="has the name of a registered model. Rename it"):
        source(f"{user_file}:resnet18")


def test_a_builder_that_is_not_in_the_file_brings_the_nearest(user_file: Path) -> None:
    with pytest.raises(LookupError, match="called `tinny`. Did you mean `tiny`?"):
        source(f"{user_file}:tinny")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        source("nowhere.py:tiny")


def test_any_timm_model_takes_small_images_in_0_to_1() -> None:
    found = source("timm/test_vit")  # its size is fixed: images are resized to it
    model = found.build(num_classes=4).eval()
    assert model.size == (160, 160) and not found.scalable
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_timm_normalization_is_the_models_own() -> None:
    model = source("timm/test_resnet").build(num_classes=4)
    assert model.normalize.mean.flatten().tolist() == pytest.approx(
        timm.get_pretrained_cfg("test_resnet").mean
    )


def test_timm_weights_come_with_a_folder(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=4)
    timm.models.save_for_hf(net, tmp_path, model_args={}, safe_serialization=True)
    found = source(f"timm/local-dir:{tmp_path}")
    assert found.pretrained
    model, images = found.build(num_classes=4).eval(), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(images), net.eval()(model.normalize(images)))


def test_an_unknown_timm_model_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no timm model called `resnet188`. Did you mean"):
        source("timm/resnet188")


def test_a_users_file_is_found_by_a_path_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "a b.py").write_text(USER_FILE)
    assert source(f"{folder}/a b.py:tiny").name == "tiny"


def test_importing_the_models_touches_no_device() -> None:
    code = "import harness.models.in_timm, torch; assert not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arguments_in_a_name_reach_the_builder_and_have_one_spelling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def probe(num_classes: int = 10, width: int = 64, steps: int = 4, method: str = "a") -> tuple:
        return num_classes, width, steps, method

    monkeypatch.setitem(MODELS._entries, "probe", probe)
    found = source('probe(steps=2,method="b")')
    assert found.name == source("probe( method='b', steps = 2 )").name
    assert found.name == "probe(method='b', steps=2)"
    assert found.build(num_classes=3, width=8) == (3, 8, 2, "b")
    assert source("probe(steps=4)").name == "probe", "a default is not another model"


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet18(depth=3)", "There is no argument of `resnet18` called `depth`"),
        ("resnet18(width=3)", "`width` is not given in a model's name"),
        ("resnet18(3)", "is no model with arguments"),
        ("resnet18(**{})", "is no model with arguments"),
        ("resnet18(depth=open('x'))", "is no model with arguments"),
        ("resnet18(", "is no model with arguments"),
        ("resnet81(depth=3)", "Did you mean `resnet18`"),
    ],
)
def test_wrong_arguments_in_a_name_are_refused(name: str, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=re.escape(message)):
        source(name)
