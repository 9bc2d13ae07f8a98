import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor
from torchvision.transforms import functional as F

from harness.comparison.compare import split
from harness.models.cards import MODELS
from harness.models.lookup import source
from harness.models.preprocessing import Framing, prepare, preprocessing_of, said_by
from harness.models.registry import spell
from harness.storage import results

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
    assert found.name == "tiny" and not found.scalable and found.code and not found.ours
    assert found.build(num_classes=4)(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert source(f"{user_file}:wide").scalable


def test_a_users_builder_may_choose_its_classes_itself(user_file: Path) -> None:
    user_file.write_text(
        f"{USER_FILE}\ndef of_six():\n    return tiny(6)\n"
        "def sized(width=3):\n    return tiny(width)\n"
        "def of(blocks):\n    return tiny(blocks)\n"
    )
    images = torch.rand(2, 3, 32, 32)
    assert source(f"{user_file}:of_six").build(num_classes=4)(images).shape == (2, 6)
    found = source(f"{user_file}:sized")
    assert found.scalable and found.build(num_classes=4, width=5)(images).shape == (2, 5)
    with pytest.raises(
        ValueError, match="`of` needs an argument `blocks`.* the argument a default"
    ):
        source(f"{user_file}:of")


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
    told = prepare(model, said_by(model, weighted=False))
    assert preprocessing_of(told).inner == Framing(160, 1.0, "bicubic", "squash")
    assert not found.scalable and told(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_timm_normalization_is_the_models_own() -> None:
    model = source("timm/test_resnet").build(num_classes=4)
    said, cfg = said_by(model, weighted=False), timm.get_pretrained_cfg("test_resnet")
    assert (said.mean, said.std, said.framing, said.inner) == (cfg.mean, cfg.std, None, None)
    asked = list[Tensor]()
    model.conv1.register_forward_pre_hook(lambda net, args: asked.append(args[0]))
    images = torch.rand(2, 3, 32, 32)
    prepare(model.eval(), said)(images)
    by_torchvision = F.normalize(images, list(cfg.mean), list(cfg.std))
    assert torch.allclose(asked[0], by_torchvision, atol=1e-6)


def test_timm_weights_come_with_a_folder(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=4)
    timm.models.save_for_hf(net, tmp_path, model_args={}, safe_serialization=True)
    found = source(f"timm/local-dir:{tmp_path}")
    assert found.pretrained
    model, images = found.build(num_classes=4).eval(), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(images), net.eval()(images))


def test_an_unknown_timm_model_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no timm model called `resnet188`. Did you mean"):
        source("timm/resnet188")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def test_a_tag_of_timm_is_never_a_random_beginning(hub: Path) -> None:
    found = source("timm/test_vit.r160_in1k")
    assert found.pretrained and found.name == "timm/test_vit.r160_in1k"
    with pytest.raises(FileNotFoundError, match="not on this machine, and .* Run `hf download t"):
        found.build(num_classes=10)
    with pytest.raises(FileNotFoundError, match="timm/hf-hub:somebody/net` are not on this mach"):
        source("timm/hf-hub:somebody/net").build(num_classes=10)


def test_weights_of_a_tag_come_from_the_cache(hub: Path) -> None:
    net = timm.create_model("test_vit").eval()
    folder = hub / "models--timm--test_vit.r160_in1k"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    safetensors.torch.save_file(net.state_dict(), folder / "snapshots/abc/model.safetensors")
    model, images = source("timm/test_vit.r160_in1k").build(), torch.rand(2, 3, 160, 160)
    assert net(images).shape == (2, 1000), "with their own head"
    torch.testing.assert_close(model.eval()(images), net(images))
    (folder / "snapshots/abc/model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="timm/test_vit.r160_in1k` cannot be loaded: "):
        source("timm/test_vit.r160_in1k").build()


@pytest.mark.parametrize(
    "name, message",
    [
        ("timm/resnet18.a1_in2k", "no tag among the .* called `a1_in2k`. Did you mean `a1_in1k`?"),
        ("timm/resnet188.a1_in1k", "no timm model called `resnet188`. Did you mean `resnet18"),
        ("timm/botnet50ts_256.untrained", "no published weights of .* Leave out `.untrained` to"),
        ("timm/resnet18.", "no tag among the .* called ``"),
    ],
)
def test_an_unknown_tag_is_refused(name: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        source(name)


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


def test_results_are_asked_for_in_any_spelling(
    tmp_path: Path, store_table: Callable[..., None]
) -> None:
    name = "probe(method='b', steps=2)"
    rows = [(m, "clean", "d", 0, "clean", 0, "accuracy", "", 0.5, 9, m) for m in (name, "other")]
    store_table(tmp_path, pd.DataFrame(rows, columns=results.COLUMNS))
    for given in (name, 'probe( steps = 2,method="b" )'):
        frame = results.order_models(results.select(tmp_path, [], [], [given, "other"]), [given])
        assert [*frame["model"]] == [name, "other"]
        assert split(f"other,{given}", ["other"], [name]) == ["other", name]
    for text in ("other", "my net (2)", "f(g(1))", "f(a=1", "f(a=open)", "f(1)"):
        assert spell(text) == text


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
