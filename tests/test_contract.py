"""What every model and every suite promises, over the registries."""

import inspect
from pathlib import Path

import pytest
import timm
import torch

import harness.models.in_timm  # noqa: F401  for `timm.create_model`
from harness.models.base import Augmenting, Fitted, check_images
from harness.models.cards import MODELS, card_of, takes_width
from harness.models.catalog import CATALOG
from harness.running.evaluate import Evaluated, observe
from harness.storage import checkpoints
from harness.suites.base import Setting
from harness.suites.catalog import SUITES
from harness.suites.datasets import Split

CPU = torch.device("cpu")


def unfitted(name: str, width: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[name](num_classes=7, **({"width": width} if takes_width(MODELS[name]) else {}))


def build(name: str, width: int = 8, size: int = 32) -> torch.nn.Module:
    """A model as it starts; one that keeps its training images has some of them."""
    model = unfitted(name, width)
    if isinstance(model, Fitted):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (21, 3, size, size), generator=generator)
        model.fit(images.byte(), torch.arange(21) % 7)
    return model


def warmed(name: str) -> torch.nn.Module:
    """A model whose batch statistics and zero-initialized scales are those of some training."""
    model = build(name).train()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        model(torch.rand(8, 3, 32, 32))
    return model.eval()


# One model of each file, the first; the others of a file are made of the same operations.
FIRST = {MODELS[name].__module__: name for name in reversed(list(MODELS))}


@pytest.mark.parametrize("name", MODELS)
class TestModel:
    @pytest.mark.parametrize("size, width", [(32, 16), (32, 64), (40, 8), (96, 16)])
    def test_logits_are_finite_and_one_row_an_image(self, name: str, size: int, width: int) -> None:
        logits = build(name, width, size).eval()(torch.rand(2, 3, size, size))
        assert logits.shape == (2, 7) and torch.isfinite(logits).all()

    def test_gradients_reach_every_parameter(self, name: str) -> None:
        # A zero-initialized scale hides what lies before it, hence after some training; what is
        # left out at random has its turn in another pass.
        model = warmed(name).train()
        if isinstance(model, Fitted):
            assert not list(model.parameters())
            pytest.skip("has none")
        missing = ["all"]
        for _ in range(20):
            if missing:
                model(torch.rand(4, 3, 32, 32)).square().sum().backward()
                named = model.named_parameters()
                missing = [n for n, p in named if p.grad is None or not p.grad.any()]
        assert missing == []

    def test_a_prediction_does_not_depend_on_batch_mates(self, name: str) -> None:
        model, images = warmed(name), torch.rand(6, 3, 32, 32)
        if getattr(model, "transductive", False):
            pytest.skip("depends on them by definition, and says so")
        alone = torch.cat([model(images[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        torch.testing.assert_close(model(images[order]), alone[order], rtol=1e-4, atol=1e-5)

    def test_evaluation_is_deterministic(self, name: str) -> None:
        model, images = warmed(name), torch.rand(3, 3, 32, 32)
        assert torch.equal(model(images), model(images))

    def test_the_state_survives_a_file_and_another_instance(
        self, name: str, tmp_path: Path
    ) -> None:
        model, images = warmed(name), torch.rand(2, 3, 32, 32)
        checkpoints.write(tmp_path / "model.safetensors", model.state_dict(), {})
        state, _ = checkpoints.read(tmp_path / "model.safetensors")
        other = unfitted(name).eval()
        checkpoints.load(other, state, "")
        assert torch.equal(model(images), other(images))

    def test_width_scales_the_weights(self, name: str) -> None:
        if not takes_width(MODELS[name]):
            pytest.skip("has none to choose")
        count = [sum(p.numel() for p in build(name, w).parameters()) for w in (8, 16)]
        assert 3 < count[1] / count[0] < 4.1

    def test_it_is_one_graph_to_the_compiler(self, name: str) -> None:
        model, images = warmed(name), torch.rand(2, 3, 32, 32)
        backend = "aot_eager" if name in FIRST.values() else "eager"
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        with torch.no_grad():
            torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)
        torch.compiler.reset()

    def test_bfloat16_changes_logits_by_its_precision(self, name: str) -> None:
        model, images = warmed(name), torch.rand(4, 3, 32, 32)
        with torch.no_grad():
            exact = model(images)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = model(images).float()
        assert torch.isfinite(rounded).all()
        assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()

    def test_its_card_and_its_file_say_what_it_is(self, name: str) -> None:
        card, text = card_of(MODELS[name]), inspect.getmodule(MODELS[name]).__doc__
        assert card.equation and card.family != "other"
        assert card.papers or card.family in ("null", "rival")
        assert card.nulls or card.family in ("baseline", "null", "rival")
        assert all(null in MODELS for null in card.nulls)
        assert "Reference" in text and "Deviations:" in text
        assert "=" in text or "<-" in text

    def test_its_nulls_have_its_size_or_say_why_not(self, name: str) -> None:
        own = CATALOG[name]  # the sizes that `test_catalog` counts
        for null in card_of(MODELS[name]).nulls:
            other = CATALOG[null]
            for mine, its in ((own.parameters, other.parameters), (own.macs, other.macs)):
                if mine is None or its is None or abs(mine - its) > 0.02 * min(mine, its):
                    told = (MODELS[name].__doc__ or "") + (MODELS[null].__doc__ or "")
                    assert "weights" in told or "evaluations" in told, (null, mine, its)

    def test_timm_creates_it(self, name: str) -> None:
        scale = {"width": 8} if takes_width(MODELS[name]) else {}
        model = timm.create_model(f"diffusify_{name}", num_classes=7, **scale)
        assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)

    def test_augmentation_keeps_shape_range_and_type_and_follows_its_generator(
        self, name: str
    ) -> None:
        model = build(name)
        if not isinstance(model, Augmenting):
            pytest.skip("does not augment")
        images = torch.rand(16, 3, 32, 32)
        before = images.clone()
        once, again, other = (
            model.augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        check_images(once)
        assert once.shape == images.shape and once.dtype == images.dtype
        assert torch.equal(images, before), "the images handed in are not changed"
        assert torch.equal(once, again) and not torch.equal(once, other)


@pytest.fixture(scope="module")
def split() -> Split:
    """Twenty images whose class shows in their brightness."""
    torch.manual_seed(0)
    labels = torch.arange(20) % 10
    images = (labels[:, None, None, None] * 20 + torch.randint(0, 20, (20, 3, 32, 32))).byte()
    return Split(images, labels, tuple("abcdefghij"), flip=False)


class Oracle(torch.nn.Module):
    """Knows the classes of `split` from their brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.mean((1, 2, 3)) * 255
        return -(brightness[:, None] - (torch.arange(10) * 20 + 9.5)).abs()


class Constant(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.zeros(len(images)).long(), 10).float()


def rows(name: str, model: torch.nn.Module, split: Split, batch_size: int = 20) -> list:
    suite = SUITES[name]()
    found = []
    for cell in suite.cells(Setting(32, 10)):
        arrays = observe(suite, cell, Evaluated(model, CPU), split, batch_size=batch_size)
        found.extend(suite.measure(cell, arrays))
    return found


def asks_of_any_images(name: str) -> bool:
    """Whether a suite has conditions for any images of this size, without files or capabilities.

    Attacks, whose conditions build on each other, are in `test_adversarial`.
    """
    try:
        return bool(SUITES[name]().cells(Setting(32, 10))) and not SUITES[name]().gradients
    except ValueError:
        return False


@pytest.mark.parametrize("name", [name for name in SUITES if asks_of_any_images(name)])
class TestSuite:
    def test_an_oracle_is_right_on_clean_images(self, name: str, split: Split) -> None:
        first = SUITES[name]().cells(Setting(32, 10))[0]  # on the images as they are
        clean = [r for r in rows(name, Oracle(), split) if r.condition == first.condition]
        assert {r.value for r in clean if r.metric == "accuracy"} == {1.0}

    def test_a_constant_answer_scores_the_share_of_its_class(self, name: str, split: Split) -> None:
        found = rows(name, Constant(), split)
        accuracy = [r for r in found if (r.metric, r.variant) == ("accuracy", "")]
        assert accuracy and all(r.value == pytest.approx(0.1) and r.n == 20 for r in accuracy)

    def test_rows_are_the_same_for_any_batch_size(self, name: str, split: Split) -> None:
        def untimed(found: list) -> list:
            return [r for r in found if r.metric != "seconds"]

        whole = untimed(rows(name, Oracle(), split))
        for batch_size in (1, 7):
            parts = untimed(rows(name, Oracle(), split, batch_size))
            assert [(r.condition, r.level, r.metric, r.variant, r.n) for r in parts] == [
                (r.condition, r.level, r.metric, r.variant, r.n) for r in whole
            ]
            assert [r.value for r in parts] == pytest.approx([r.value for r in whole], abs=1e-6)

    def test_an_image_is_the_same_in_any_order_and_any_batch(self, name: str, split: Split) -> None:
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        for cell in SUITES[name]().cells(Setting(32, 10)):
            whole = cell.prepare(split.images, torch.arange(20), 0)
            assert torch.equal(cell.prepare(split.images[order], order, 0), whole[order])
            for i in (0, 13):
                alone = cell.prepare(split.images[i : i + 1], torch.tensor([i]), 0)
                assert torch.equal(alone[0], whole[i])

    def test_conditions_are_told_apart(self, name: str, split: Split) -> None:
        cells = SUITES[name]().cells(Setting(32, 10))
        assert len({(c.condition, c.level) for c in cells}) == len(cells) > 0

    def test_severity_5_is_no_closer_to_clean_than_severity_1(
        self, name: str, split: Split
    ) -> None:
        suite, indices = SUITES[name](), torch.arange(20)
        # A flat image has no edges to blur; this one has.
        images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
        away = {}
        for cell in suite.cells(Setting(32, 10)):
            difference = cell.prepare(images, indices, 0).float() - images.float()
            away[cell.condition, cell.level] = float(difference.square().mean())
        for (condition, level), distance in away.items():
            if level == 5:
                assert distance >= 0.9 * away[condition, 1] > 0, condition
