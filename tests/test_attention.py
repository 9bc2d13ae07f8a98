import math

import pytest
import torch
from torch import nn

from harness.models.base import capabilities
from harness.models.diffusifynet import diffusifynet
from harness.models.pde_attention import Attention, pde_attention, plain_attention, row_entropy
from harness.models.resnet import resnet18
from harness.running.evaluate import Observed, calibrate, observe
from harness.suites import attention
from harness.suites.base import Cell, Setting
from harness.suites.datasets import Split
from harness.suites.map_statistics import OF_ATTENTION, entropy, statistics
from harness.suites.metrics import hits

CPU = torch.device("cpu")
ATTENDS = Setting(32, 10, ("gaussian_noise",), can=frozenset({"attention", "blocks"}))
CONVOLVES = Setting(32, 10, ("gaussian_noise",), can=frozenset({"blocks"}))


@pytest.fixture(scope="module")
def split() -> Split:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8)
    images[:, :, 8:24] //= 4
    return Split(images, torch.arange(24) % 10, tuple("abcdefghij"), flip=False)


def awake(model: nn.Module) -> nn.Module:
    """A model whose attention matters, with scores of size one."""
    torch.manual_seed(1)
    for block in model.modules():
        if isinstance(block, Attention):
            nn.init.normal_(block.project.weight, std=0.2)
            nn.init.normal_(block.qkv.weight, std=0.3)
            if hasattr(block, "a"):
                nn.init.normal_(block.a)
    return model.eval()


def observed(model: nn.Module, split: Split, cell: Cell, batch_size: int = 24) -> dict:
    suite, subject = attention.attention(), Observed(model, CPU, "float32")
    find = suite.calibrate(Setting(32, 10, can=capabilities(model)))
    if find is not None:
        calibrate(find, subject, split, CPU)
    return observe(suite, cell, subject, split, seed=0, device=CPU, batch_size=batch_size) | {
        "tau": subject.calibration
    }


def test_numbers_of_an_image_are_means_of_its_rows(split: Split) -> None:
    model = awake(pde_attention(width=8))
    (clean, *_) = attention.cells(ATTENDS)
    arrays = observed(model, split, clean)
    with torch.no_grad():
        (layer,) = model.attention_maps(split.images.float() / 255).values()
    values = statistics(layer.weights, 8, 8, attention=True)
    for i, name in enumerate(OF_ATTENTION):
        expected = values[..., i].mean(2)
        torch.testing.assert_close(arrays[f"{name}_used"], expected.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            arrays[f"{name}_used_head_2"], expected[:, 2], rtol=1e-4, atol=1e-5
        )
    sharp = row_entropy(layer.scores).mean((1, 2))
    torch.testing.assert_close(arrays["entropy_sharp"], sharp, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        arrays["entropy_over_sharp"], arrays["entropy_used"] - arrays["entropy_sharp"]
    )
    assert arrays["map_used"].shape == (24, 8, 8)
    torch.testing.assert_close(arrays["map_used"].sum((1, 2)), torch.ones(24))


def test_the_matched_temperature_has_the_entropy_of_the_diffused_rows(split: Split) -> None:
    model = awake(pde_attention(width=8))
    arrays = observed(model, split, attention.cells(ATTENDS)[0])
    (tau,) = arrays["tau"].values()
    assert tau.shape == (4,) and (tau > 1).all(), "diffusion flattens these scores"
    images = split.images.float() / 255
    with torch.no_grad():
        (layer,) = model.attention_maps(images).values()
    used = entropy(layer.weights).mean((0, 2))
    matched = entropy(attention.rows(layer.scores, tau)).mean((0, 2))
    torch.testing.assert_close(matched, used, rtol=1e-3, atol=0)
    assert (entropy(layer.scores.softmax(-1)).mean((0, 2)) < 0.999 * used).all()


def test_plain_attention_is_its_own_control(split: Split) -> None:
    arrays = observed(awake(plain_attention(width=8)), split, attention.cells(ATTENDS)[0])
    assert [t.tolist() for t in arrays["tau"].values()] == [[1.0] * 4]
    for name in OF_ATTENTION:
        assert arrays[f"{name}_over_sharp"].abs().max() < 1e-5
        assert arrays[f"{name}_over_matched"].abs().max() < 1e-5
    assert not arrays["gain_over_sharp"].any() and not arrays["gain_over_matched"].any()


def test_bisection_finds_a_known_temperature() -> None:
    torch.manual_seed(0)
    scores = torch.randn(50, 3, 16, 16)
    tau = torch.tensor([0.3, 1.0, 7.0])
    wanted = entropy(attention.rows(scores, tau)).mean((0, 2))
    torch.testing.assert_close(attention.match(scores, wanted), tau, rtol=1e-2, atol=0)
    flat = torch.zeros(5, 2, 16, 16)
    assert attention.match(flat, torch.full((2,), math.log(16))).tolist() == [1, 1]


def test_other_maps_change_the_answer_and_are_taken_back(split: Split) -> None:
    model = awake(pde_attention(width=8))
    images = split.images.float() / 255
    with torch.no_grad():
        before = model(images)
        model.attend_by(lambda name, scores: scores.softmax(-1))
        sharp = model(images)
        plain = awake(plain_attention(width=8))
        plain.load_state_dict(model.state_dict(), strict=False)
        torch.testing.assert_close(sharp, plain(images), rtol=1e-4, atol=1e-5)
        model.attend_by(None)
        assert torch.equal(model(images), before)
        assert (sharp - before).abs().max() > 1e-3
    arrays = observed(model, split, attention.cells(ATTENDS)[0])
    expected = hits(sharp, split.labels).float()
    assert torch.equal(arrays["accuracy_sharp"], expected)
    own = hits(before, split.labels).float()
    assert torch.equal(arrays["gain_over_sharp"], own - expected)


def test_instability_pairs_an_image_with_itself(split: Split) -> None:
    model = awake(pde_attention(width=8))
    same = Cell("gaussian_noise", 1, how=attention.Corrupted(lambda x, indices, seed: x, 0))
    still = observed(model, split, same)
    assert still["instability_used"].abs().max() < 1e-5
    cells = {c.level: c for c in attention.cells(ATTENDS)[1:]}
    assert list(cells) == [1, 3, 5]
    arrays = {level: observed(model, split, cell) for level, cell in cells.items()}
    means = [arrays[level]["instability_used"].mean().item() for level in (1, 3, 5)]
    assert 0 < means[0] < means[1] < means[2] < 2
    for found in arrays.values():
        torch.testing.assert_close(found["instability_sharp"], found["instability_matched"])
        assert found["constant_used"].max() == 0


@pytest.mark.parametrize("model", [pde_attention, resnet18])
def test_numbers_do_not_depend_on_the_batch(split: Split, model) -> None:
    network = awake(model(width=8))
    setting = ATTENDS if model is pde_attention else CONVOLVES
    cell = attention.cells(setting)[2]
    whole, parts = observed(network, split, cell), observed(network, split, cell, batch_size=5)
    for name, values in whole.items():
        if name != "tau":
            torch.testing.assert_close(
                values, parts[name], rtol=2e-3, atol=2e-3, equal_nan=True, msg=name
            )


def test_many_tokens_are_looked_at_in_parts(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake(pde_attention(width=8))
    cell = attention.cells(ATTENDS)[1]
    whole = observed(model, split, cell)
    monkeypatch.setattr(attention, "ROOM", 3 * 4 * 4 * 64 * 64)
    parts = observed(model, split, cell)
    torch.testing.assert_close(whole["entropy_used"], parts["entropy_used"], rtol=1e-4, atol=1e-5)
    assert torch.equal(whole["indices"], parts["indices"])


def test_convolutional_networks_show_grad_cam_by_its_name(split: Split) -> None:
    arrays = observed(resnet18(width=8), split, attention.cells(CONVOLVES)[1])
    grids = ("32x32", "16x16", "8x8", "4x4")
    for grid in grids:
        assert arrays[f"instability_gradcam_{grid}"].shape == (24,)
    del arrays["tau"]
    rows = {m.metric for m in attention.measure(Cell("gaussian_noise", 1), arrays)}
    assert {f"entropy_gradcam_{grid}" for grid in grids} <= rows
    assert "instability_gradcam_4x4_class_3" in rows
    assert not any("used" in name or "distance" in name for name in rows)


def test_means_leave_out_what_is_no_distribution() -> None:
    arrays = {
        "indices": torch.arange(4),
        "labels": torch.tensor([0, 0, 1, 1]),
        "logits": torch.eye(4)[:, :2],
        "entropy_gradcam_4x4": torch.tensor([1.0, torch.nan, 3.0, torch.nan]),
        "zero_gradcam_4x4": torch.tensor([0.0, 1, 0, 1]),
        "map_gradcam_4x4": torch.rand(4, 4, 4),
    }
    rows = {m.metric: m for m in attention.measure(Cell("clean"), arrays)}
    assert (rows["entropy_gradcam_4x4"].value, rows["entropy_gradcam_4x4"].n) == (2, 2)
    assert rows["zero_gradcam_4x4"].value == 0.5
    assert rows["entropy_gradcam_4x4_class_1"].value == 3
    assert "map_gradcam_4x4" not in rows


def test_a_layer_without_attention_and_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with `attention_maps`"):
        attention.cells(Setting(32, 10))


def test_diffusifynet_is_redirected_too(split: Split) -> None:
    torch.manual_seed(0)
    model = awake(diffusifynet(width=8))
    arrays = observed(model, split, attention.cells(ATTENDS)[0])
    assert {"accuracy_sharp", "accuracy_matched", "entropy_used"} <= set(arrays)
