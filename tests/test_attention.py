import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.base import AttentionMap, capabilities
from harness.models.diffusifynet import diffusifynet
from harness.models.pde_attention import (
    Attention,
    TemperatureAttention,
    pde_attention,
    plain_attention,
    row_entropy,
    temperature_attention,
)
from harness.models.resnet import resnet18
from harness.running.evaluate import Evaluated, Memory, calibrated, observe
from harness.running.initial import initialize
from harness.suites import attention
from harness.suites.attention_metrics import MAP_STATISTICS
from harness.suites.base import Batch, Cell, Setting
from harness.suites.datasets import Split
from harness.suites.map_statistics import entropy, ranks, statistics
from harness.suites.metrics import hits
from harness.suites.temperatures import level

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


def subject_of(model: nn.Module, split: Split) -> Evaluated:
    find = attention.attention().calibrate(Setting(32, 10, can=capabilities(model)))
    subject = Evaluated(model, CPU)
    return subject if find is None else calibrated(subject, find, split)


def arrays_of(
    model: nn.Module, split: Split, cell: Cell, batch_size: int = 24
) -> dict[str, Tensor]:
    subject = subject_of(model, split)
    arrays = observe(attention.attention(), cell, subject, split, batch_size=batch_size)
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def test_numbers_of_an_image_are_means_of_its_rows(split: Split) -> None:
    model = awake(pde_attention(width=8))
    (clean, *_) = attention.cells(ATTENDS)
    arrays = arrays_of(model, split, clean)
    with torch.no_grad():
        (layer,) = model.attention_maps(split.images.float() / 255).values()
    values = statistics(layer.weights, 8, 8, attention=True)
    for i, metric in enumerate(MAP_STATISTICS):
        expected = values[..., i].mean(2)
        used, head = arrays[f"{metric.name}:used"], arrays[f"{metric.name}:used, head 2"]
        torch.testing.assert_close(used, expected.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head, expected[:, 2], rtol=1e-4, atol=1e-5)
    sharp = row_entropy(layer.scores).mean((1, 2))
    torch.testing.assert_close(arrays["entropy:sharp"], sharp, rtol=1e-4, atol=1e-5)
    difference = arrays["entropy:used"] - arrays["entropy:sharp"]
    torch.testing.assert_close(arrays["entropy:over sharp"], difference)
    assert arrays["map:used"].shape == (24, 8, 8)
    torch.testing.assert_close(arrays["map:used"].sum((1, 2)), torch.ones(24))


def test_the_matched_temperature_has_the_entropy_of_the_diffused_rows(split: Split) -> None:
    model = awake(pde_attention(width=8))
    ((tau, _),) = subject_of(model, split).calibration.values()
    assert tau.shape == (4,) and (tau > 1).all(), "diffusion flattens these scores"
    images = split.images.float() / 255
    with torch.no_grad():
        (layer,) = model.attention_maps(images).values()
    used = entropy(layer.weights).mean((0, 2))
    matched = entropy(attention.rows(layer.scores, tau)).mean((0, 2))
    torch.testing.assert_close(matched, used, rtol=1e-3, atol=0)
    assert (entropy(layer.scores.softmax(-1)).mean((0, 2)) < 0.999 * used).all()


def test_plain_attention_is_its_own_control(split: Split) -> None:
    model = awake(plain_attention(width=8))
    ((tau, _),) = subject_of(model, split).calibration.values()
    assert tau.tolist() == [1.0] * 4
    arrays = arrays_of(model, split, attention.cells(ATTENDS)[0])
    for other in ("sharp", "matched"):
        for metric in MAP_STATISTICS:
            assert arrays[f"{metric.name}:over {other}"].abs().max() < 1e-5
        assert not arrays[f"gain:over {other}"].any()


def test_bisection_finds_a_known_temperature() -> None:
    torch.manual_seed(0)
    scores = torch.randn(50, 3, 16, 16)
    tau = torch.tensor([0.3, 1.0, 7.0])
    wanted = entropy(attention.rows(scores, tau)).mean((0, 2))
    torch.testing.assert_close(attention.match(scores, wanted), tau, rtol=1e-2, atol=0)
    flat = torch.zeros(5, 2, 16, 16)
    assert attention.match(flat, torch.full((2,), math.log(16))).tolist() == [1, 1]


def test_level_maps_have_one_entropy_whatever_the_size_of_scores() -> None:
    torch.manual_seed(0)
    scores = torch.randn(50, 4, 16, 16) * torch.tensor([1e-3, 1.0, 1e4, 0.0])[:, None, None]
    scores += 10 * torch.tensor([0.0, 1.0, 1.0, 1.0])[:, None, None]
    tau = level(scores)
    found = entropy(attention.rows(scores, tau)).mean((0, 2))
    wanted = torch.full((3,), 0.75 * math.log(16))
    torch.testing.assert_close(found[:3], wanted, rtol=1e-3, atol=0)
    assert tau[3].isnan(), "a constant head has no such temperature"
    rounded = 7 + 1e-7 * torch.randn(50, 1, 16, 16)
    assert level(rounded).isnan().all(), "what varies is rounding"
    few = torch.zeros(50, 1, 16, 16)
    few[:10] = torch.randn(10, 1, 16, 16)
    assert level(few).isnan().all(), "four of five rows are uniform, so that the mean stays above"


def test_level_maps_of_different_networks_with_equal_scores_are_equal(split: Split) -> None:
    """The contrast that answers whether training with diffusion attends differently."""
    builders = (pde_attention, temperature_attention, plain_attention)
    of_probs = partial(pde_attention, where="probs")
    found = []
    for build in (*builders, of_probs):
        model = initialize(partial(build, width=8), 3).eval()
        for block in model.modules():
            if isinstance(block, TemperatureAttention):
                block.tau.fill_(2.5)
        found.append(arrays_of(model, split, attention.cells(ATTENDS)[0]))
    diffused, *others = found
    for other in others:
        for metric in MAP_STATISTICS:
            name = f"{metric.name}:level"
            torch.testing.assert_close(other[name], diffused[name], rtol=1e-4, atol=1e-4)
    # In the maps that the networks use, the stencil shows.
    gap = (diffused["total_variation:used"] - others[0]["total_variation:used"]).mean()
    assert gap < -0.1 * others[0]["total_variation:used"].mean()
    assert not diffused["constant:level"].any()
    entropies = diffused["entropy:level"].mean()
    torch.testing.assert_close(entropies, torch.tensor(0.75 * math.log(64)), rtol=2e-3, atol=0)


def test_a_constant_head_is_left_out_of_level_maps_and_counted(split: Split) -> None:
    model = awake(pde_attention(width=8))
    whole = arrays_of(model, split, attention.cells(ATTENDS)[0])
    (block,) = (m for m in model.modules() if isinstance(m, Attention))
    with torch.no_grad():
        channels = block.qkv.weight.shape[1]
        block.qkv.weight[: channels // 4] = 0  # the queries of head 0
    clean, noisy = (arrays_of(model, split, cell) for cell in attention.cells(ATTENDS)[:2])
    assert (clean["constant:level"] == 0.25).all()
    assert clean["tau:level, head 0"].isnan().all()
    torch.testing.assert_close(clean["tau:level, head 1"], whole["tau:level, head 1"])
    for metric in MAP_STATISTICS:
        assert clean[f"{metric.name}:level"].isfinite().all()
    torch.testing.assert_close(clean["map:level"].sum((1, 2)), torch.ones(24))
    torch.testing.assert_close(noisy["instability:level"], noisy["instability:sharp"])
    numbers = {name: values.numpy() for name, values in clean.items()}
    rows = {(m.metric, m.variant): m.value for m in attention.measure(Cell("clean"), numbers)}
    assert rows["constant", "level"] == 0.25
    assert ("tau", "level, head 1") in rows and ("tau", "level, head 0") not in rows


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
    arrays = arrays_of(model, split, attention.cells(ATTENDS)[0])
    expected, own = (
        torch.from_numpy(hits(logits.numpy(), split.labels.numpy())).float()
        for logits in (sharp, before)
    )
    assert torch.equal(arrays["accuracy:sharp"], expected)
    assert torch.equal(arrays["gain:over sharp"], own - expected)


def test_instability_pairs_an_image_with_itself(split: Split) -> None:
    model = awake(pde_attention(width=8))
    same = Cell("gaussian_noise", 1, lambda images, indices, seed: images)
    still = arrays_of(model, split, same)
    assert still["instability:used"].abs().max() < 1e-5
    cells = {c.level: c for c in attention.cells(ATTENDS)[1:]}
    assert list(cells) == [1, 3, 5]
    arrays = {level: arrays_of(model, split, cell) for level, cell in cells.items()}
    means = [arrays[level]["instability:used"].mean().item() for level in (1, 3, 5)]
    assert 0 < means[0] < means[1] < means[2] < 2
    for found in arrays.values():
        for kind in ("matched", "level"):
            torch.testing.assert_close(found["instability:sharp"], found[f"instability:{kind}"])
        assert found["constant:used"].max() == 0


@pytest.mark.parametrize("model", [pde_attention, resnet18])
def test_numbers_do_not_depend_on_the_batch(split: Split, model: Any) -> None:
    network = awake(model(width=8))
    setting = ATTENDS if model is pde_attention else CONVOLVES
    cell = attention.cells(setting)[2]
    whole, parts = arrays_of(network, split, cell), arrays_of(network, split, cell, batch_size=5)
    for name, values in whole.items():
        torch.testing.assert_close(
            values, parts[name], rtol=2e-3, atol=2e-3, equal_nan=True, msg=name
        )


def test_many_tokens_are_looked_at_in_parts(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake(pde_attention(width=8))
    cell = attention.cells(ATTENDS)[1]
    whole = arrays_of(model, split, cell)
    monkeypatch.setattr(attention, "ROOM", 3 * 4 * 4 * 64 * 64)
    parts = arrays_of(model, split, cell)
    for name in ("entropy:used", "instability:used"):
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(whole["indices"], parts["indices"])


def test_convolutional_networks_show_grad_cam_by_its_name(split: Split) -> None:
    arrays = arrays_of(resnet18(width=8), split, attention.cells(CONVOLVES)[1])
    grids = ("32x32", "16x16", "8x8", "4x4")
    for grid in grids:
        assert arrays[f"instability:gradcam {grid}"].shape == (24,)
    numbers = {name: values.numpy() for name, values in arrays.items()}
    rows = {(m.metric, m.variant) for m in attention.measure(Cell("gaussian_noise", 1), numbers)}
    assert {("entropy", f"gradcam {grid}") for grid in grids} <= rows
    assert ("instability", "gradcam 4x4, class 3") in rows
    assert not any("used" in variant or metric == "distance" for metric, variant in rows)


def test_means_leave_out_what_is_no_distribution() -> None:
    arrays = {
        "indices": np.arange(4),
        "labels": np.array([0, 0, 1, 1]),
        "logits": np.eye(4)[:, :2],
        "entropy:gradcam 4x4": np.array([1.0, np.nan, 3.0, np.nan]),
        "zero:gradcam 4x4": np.array([0.0, 1, 0, 1]),
        "map:gradcam 4x4": np.ones((4, 4, 4)),
    }
    rows = {(m.metric, m.variant): m for m in attention.measure(Cell("clean"), arrays)}
    whole = rows["entropy", "gradcam 4x4"]
    assert (whole.value, whole.n) == (2, 2)
    assert rows["zero", "gradcam 4x4"].value == 0.5
    assert rows["entropy", "gradcam 4x4, class 1"].value == 3
    assert not any(metric == "map" for metric, _ in rows)


def test_a_layer_without_attention_and_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with `attention_maps`"):
        attention.cells(Setting(32, 10))


def test_diffusifynet_is_redirected_too(split: Split) -> None:
    torch.manual_seed(0)
    model = awake(diffusifynet(width=8))
    arrays = arrays_of(model, split, attention.cells(ATTENDS)[0])
    assert {"accuracy:sharp", "accuracy:matched", "entropy:used"} <= set(arrays)


class TwoLayers(nn.Module):
    """Two layers of attention over 2 x 2 places, by nothing but the brightness of images."""

    def attention_maps(self, images: Tensor) -> dict[str, AttentionMap]:
        light = nn.functional.adaptive_avg_pool2d(images.mean(1), 2).flatten(1)
        scores = 9 * light[:, None, :, None] * light[:, None, None, :]
        weights = (scores / 2).softmax(-1)
        return {name: AttentionMap(scores, weights, 2, 2) for name in ("first", "second")}

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10]


def test_several_layers_are_told_apart_by_their_names(split: Split) -> None:
    arrays = arrays_of(TwoLayers().eval(), split, attention.cells(ATTENDS)[1])
    rows = list(
        attention.measure(Cell("gaussian_noise", 1), {k: v.numpy() for k, v in arrays.items()})
    )
    variants = {m.variant for m in rows if m.metric == "instability"}
    assert {
        "used, first",
        "over sharp, second",
        "used, first, head 0",
        "used, second, class 3",
    } <= variants
    assert all("first" in v or "second" in v for v in variants)


@pytest.mark.parametrize("model", [pde_attention, resnet18])
def test_clean_maps_are_looked_at_once_for_all_conditions(split: Split, model: Any) -> None:
    network, looks = awake(model(width=8)), []
    setting = ATTENDS if model is pde_attention else CONVOLVES
    suite, subject = attention.attention(), subject_of(network, split)
    counting = dataclasses.replace(
        suite, remember=lambda s, b: looks.append(b) or suite.remember(s, b)
    )
    memory, cells = Memory(counting, subject), attention.cells(setting)
    for cell in cells:
        shared = observe(counting, cell, subject, split, batch_size=10, memory=memory)
        alone = observe(suite, cell, subject, split, batch_size=10)
        assert all(np.array_equal(shared[k], alone[k], equal_nan=True) for k in alone)
    assert [len(batch) for batch in looks] == [10, 10, 4], "of the clean cell nothing is remembered"


def test_remembered_ranks_are_exact(split: Split) -> None:
    model = awake(pde_attention(width=8))
    subject = subject_of(model, split)
    batch = Batch(split.images.float() / 255, split.labels, torch.arange(24))
    with torch.inference_mode():
        found = attention.remember(subject, batch)
        (layer,) = model.attention_maps(batch.images).values()
    assert found["used:" + next(iter(subject.calibration))].dtype == torch.float16
    for values, name in ((layer.weights, "used"), (layer.scores.softmax(-1), "sharp")):
        (kept,) = (v for k, v in found.items() if k.startswith(name))
        assert torch.equal(kept.double(), ranks(values))
