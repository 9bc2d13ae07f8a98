import copy
import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import stopping
from harness.models.cards import MODELS, takes_width
from harness.models.ode_block import ode_block
from harness.models.pde_attention import pde_attention
from harness.models.pde_aug import pde_aug
from harness.models.resnet import resnet18
from harness.refusal import Failure, Refusal
from harness.running import train as training
from harness.running.crops import crop_and_flip, draw_crops
from harness.running.initial import initialize
from harness.running.recipes import (
    Recipe,
    attack_radius,
    describe_recipe,
    flags,
    is_untrained,
    learning_rate,
    recipe_for,
)
from harness.running.state import State, Stopwatch
from harness.running.step import Step
from harness.running.train import train
from harness.storage import checkpoints
from harness.suites.attacks import ATTACKS
from harness.suites.datasets import Split, as_input, load

CPU = torch.device("cpu")
SHORT = Recipe(
    epochs=3,
    batch_size=32,
    peak_lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    crop_padding=4,
    flip=True,
    dtype="float32",
)


@pytest.fixture(scope="module")
def split() -> Split:
    whole = load("digits", train=True, root=Path())
    return dataclasses.replace(whole, images=whole.images[:100], labels=whole.labels[:100])


def small() -> nn.Module:
    return pde_aug(width=8)


def trained(split: Split, recipe: Recipe = SHORT, seed: int = 0, **kwargs: Any) -> dict:
    model, _ = train(initialize(small, seed), split, recipe, seed=seed, device=CPU, **kwargs)
    return model.state_dict()


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_seed_gives_the_same_weights(split: Split) -> None:
    once = trained(split)
    torch.manual_seed(1234)  # the global generator is none of its business
    before = torch.random.get_rng_state()
    assert equal(once, trained(split))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not equal(once, trained(split, seed=1))


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", [1, 4, 8])  # three steps an epoch
def test_a_killed_training_goes_on_bit_for_bit(split: Split, step: int, tmp_path: Path) -> None:
    partial = tmp_path / "seed0.partial"

    def die(*, step: int, **kwargs: Any) -> None:
        if step >= last:
            raise Killed

    last = step
    monkey = pytest.MonkeyPatch()
    with monkey.context() as m:
        m.setattr(training.Clock, "due", lambda self: True)  # report every step
        with pytest.raises(Killed):
            trained(split, partial=partial, report=die)
    assert partial.exists() == (step > 3)
    assert equal(trained(split, partial=partial), trained(split))


def test_the_time_of_earlier_stretches_counts(split: Split, tmp_path: Path) -> None:
    partial = tmp_path / "seed0.partial"

    def die(*, step: int, **kwargs: Any) -> None:
        if step > 4:
            raise Killed

    with pytest.raises(Killed):
        trained(split, partial=partial, report=die, watch=Stopwatch(earlier=1000.0))
    watch = Stopwatch()
    trained(split, partial=partial, watch=watch)
    assert 1000 < watch.seconds < 2000


@pytest.mark.parametrize("name", [name for name in MODELS if takes_width(MODELS[name])])
def test_every_model_goes_on_bit_for_bit_within_an_epoch(
    name: str, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(SHORT, epochs=1, batch_size=8)
    few = dataclasses.replace(split, images=split.images[:24], labels=split.labels[:24])

    def ended(**kwargs: Any) -> dict:
        start = initialize(lambda: MODELS[name](num_classes=10, width=8), 0)
        return train(start, few, recipe, seed=0, device=CPU, **kwargs)[0].state_dict()

    whole, partial, told = ended(), tmp_path / "seed0.partial", list[str]()
    monkeypatch.setattr(stopping, "_asked", (15, 0.0))
    with pytest.raises(stopping.Stopped):
        ended(partial=partial)
    monkeypatch.setattr(stopping, "_asked", None)
    assert equal(ended(partial=partial, tell=told.append), whole)
    assert told == ["It goes on after epoch 0, step 1 of the next."]


def test_a_state_is_kept_every_few_minutes(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, int]] = []
    monkeypatch.setattr(State, "save", lambda self, *_: kept.append((self.epoch, self.step)))
    trained(split, partial=tmp_path / "p")
    assert kept == [(1, 0), (2, 0)]
    monkeypatch.setattr(training, "KEEP_S", 0.0)
    trained(split, partial=tmp_path / "p")
    assert kept[2:] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]


def test_a_state_with_a_checksum_that_is_none_of_ours_is_refused(
    split: Split, tmp_path: Path
) -> None:
    partial = tmp_path / "seed0.partial"
    trained(split, dataclasses.replace(SHORT, epochs=2), partial=partial)
    _, description = checkpoints.read_tensors(partial)
    description["identity"]["recipe"]["epochs"] = SHORT.epochs
    checkpoints.write(partial, {"model.conv1.weight": torch.zeros(1)}, description)
    with pytest.raises(Refusal, match=r"seed0.partial is not what a training keeps: .* Remove it"):
        trained(split, partial=partial)


def test_the_state_of_another_training_is_not_taken_up(split: Split, tmp_path: Path) -> None:
    partial = tmp_path / "seed0.partial"
    trained(split, dataclasses.replace(SHORT, epochs=2), partial=partial)
    assert partial.exists()
    assert equal(trained(split, partial=partial), trained(split))


def test_a_damaged_state_is_not_taken_up(split: Split, tmp_path: Path) -> None:
    partial = tmp_path / "seed0.partial"
    partial.write_bytes(b"half of it")
    told: list[str] = []
    assert equal(trained(split, partial=partial, tell=told.append), trained(split))
    assert "seed0.partial is not a safetensors file" in told[0] and "begins anew" in told[0]


def test_models_of_one_seed_see_the_same_order_and_crops(split: Split) -> None:
    seen: dict[str, list] = {}

    def watched(name: str, augments: bool) -> type:
        class Watched(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = resnet18(width=8)

            def forward(self, images: Tensor) -> Any:
                seen.setdefault(name, []).append(images.clone())
                return self.net(images)

        if augments:
            kind: Any = Watched
            kind.augment = lambda self, images, generator: (
                images + 0 * torch.rand(images.shape, generator=generator)
            )
        return Watched

    for name in ("plain", "augmented"):
        build = watched(name, name == "augmented")
        train(initialize(build, 0), split, dataclasses.replace(SHORT, epochs=1), seed=0, device=CPU)
    assert len(seen["plain"]) == 3
    assert all(map(torch.equal, seen["plain"], seen["augmented"]))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(initialize(small, seed).parameters())

    first = weights(0)
    torch.manual_seed(99)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))


def test_crops_are_shifts_into_zeros_and_flips_mirrors() -> None:
    images = torch.arange(1, 26).view(1, 1, 5, 5).expand(400, 1, 5, 5).to(torch.uint8)
    generator = torch.Generator().manual_seed(0)
    shifts, mirrored = draw_crops(3, 400, 1, generator)
    assert shifts.shape == (3, 2, 400) and mirrored.shape == (3, 400)
    assert not torch.equal(shifts[0], shifts[1]), "each batch has crops of its own"
    out = crop_and_flip(images, shifts[0], mirrored[0], padding=1)
    padded = nn.functional.pad(images[0], (1, 1, 1, 1))
    possible = {}
    for top in range(3):
        for left in range(3):
            crop = padded[:, top : top + 5, left : left + 5]
            possible[tuple(crop.flatten().tolist())] = (top, left, False)
            possible[tuple(crop.flip(-1).flatten().tolist())] = (top, left, True)
    found = [possible[tuple(image.flatten().tolist())] for image in out]
    assert len(set(found)) == 18, "every shift, mirrored and not"
    assert out.is_contiguous(memory_format=torch.channels_last) and out.dtype == torch.uint8
    plain = crop_and_flip(images, shifts[0], torch.zeros(400, dtype=torch.bool), padding=1)
    assert not any(possible[tuple(image.flatten().tolist())][2] for image in plain)


def test_the_learning_rate_is_a_triangle() -> None:
    rates = [learning_rate(SHORT, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2 * 0.05) and max(rates) == rates[20] == 0.05
    assert rates[-1] == pytest.approx(0.05 / 80)
    assert all(a < b for a, b in pairwise(rates[:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_the_papers_recipe_has_stages_and_holds_images_out(split: Split) -> None:
    cifar = Split(torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8), torch.zeros(50_000), (), True)
    recipe = recipe_for(cifar, None, CPU, "ruthotto_haber")
    assert (recipe.epochs, recipe.batch_size, recipe.crop_padding) == (100, 125, 2)
    assert recipe.steps_per_epoch(50_000) == 320 and not recipe.nesterov
    rates = [learning_rate(recipe, step, 32_000) for step in range(32_000)]
    assert [rates.count(rate) for rate in (0.1, 0.02, 0.004)] == [19_200, 6_400, 6_400]
    assert rates == sorted(rates, reverse=True)
    assert describe_recipe(dataclasses.asdict(recipe)) == "100 epochs by `ruthotto_haber`"
    assert flags(dataclasses.asdict(recipe)) == "--epochs 100 --recipe ruthotto_haber"
    many = dataclasses.replace(cifar, classes=tuple(map(str, range(100))))
    assert recipe_for(many, None, CPU, "ruthotto_haber").epochs == 200
    short = recipe_for(split, 2, CPU, "ruthotto_haber")
    assert (short.epochs, short.held(len(split)), short.batch_size) == (2, 20, 80)


@pytest.mark.parametrize("builder", [pde_attention, ode_block, resnet18])
def test_an_untrained_network_keeps_its_weights_and_measures_batch_statistics(
    split: Split, builder: Any
) -> None:
    split = dataclasses.replace(split, images=split.images[:16], labels=split.labels[:16])
    recipe = recipe_for(split, None, CPU, "untrained")
    assert recipe.epochs * recipe.steps_per_epoch(len(split)) == 100
    start = initialize(lambda: builder(width=8), 1)
    before = {k: v.clone() for k, v in start.state_dict().items()}
    model, history = train(start, split, recipe, seed=1, device=CPU)
    assert len(history) == recipe.epochs
    after, weights = model.state_dict(), {k for k, _ in model.named_parameters()}
    assert all(torch.equal(after[k], before[k]) for k in weights)
    means = [k for k in after if k.endswith("running_mean")]
    assert means and all(not torch.equal(after[k], before[k]) for k in means)
    other = initialize(lambda: builder(width=8), 1)
    for name, buffer in other.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(50)
    again = train(other, split, recipe, seed=1, device=CPU)[0].state_dict()
    variances = [k for k in after if k.endswith("running_var")]
    for k in variances:  # of the training images alone, wherever they started
        torch.testing.assert_close(again[k], after[k], rtol=0, atol=50 * 0.9**99)


def test_an_untrained_network_is_told_from_a_trained_one(split: Split) -> None:
    recipe = dataclasses.asdict(recipe_for(split, None, CPU, "untrained"))
    assert describe_recipe(recipe) == "no learning, by `untrained`"
    assert flags(recipe) == "--recipe untrained"
    other = dataclasses.asdict(recipe_for(split, 1, CPU))
    assert not is_untrained(other) and describe_recipe(other) != describe_recipe(recipe)


def test_the_best_epoch_on_held_out_images_counts(split: Split, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, epochs=5, peak_lr=0.8, held_out=0.4)
    model, history = train(initialize(small, 2), split, recipe, seed=2, device=CPU)
    accuracies = [epoch["held_out"] for epoch in history]
    assert len(set(accuracies)) > 1 and accuracies[-1] < max(accuracies), accuracies
    generator = torch.Generator().manual_seed(training.seed_for(2, "held out"))
    held = torch.randperm(100, generator=generator)[:40]
    images, labels = split.images[held], split.labels[held]
    assert training.held_accuracy(model, images, labels, recipe) == max(accuracies)
    # The best weights so far survive a stop after the epoch that had them.
    best, partial = 1 + accuracies.index(max(accuracies)), tmp_path / "seed0.partial"

    def die(*, step: int, **kwargs: Any) -> None:
        if step > best:
            raise Killed

    with pytest.raises(Killed):
        train(initialize(small, 2), split, recipe, seed=2, device=CPU, partial=partial, report=die)
    again, _ = train(initialize(small, 2), split, recipe, seed=2, device=CPU, partial=partial)
    assert equal(again.state_dict(), model.state_dict())


def test_a_branch_may_be_left_out_at_first(split: Split) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.late, self.never = (nn.Linear(3, 10) for _ in range(3))
            self.calls = 0

        def forward(self, images: Tensor) -> Any:
            self.calls += self.training
            told = self.first(images.mean((2, 3)))
            return told + self.late(images.mean((2, 3))) if self.calls > 2 else told

    start = initialize(Late, 0)
    model, _ = train(
        initialize(Late, 0), split, dataclasses.replace(SHORT, epochs=2), seed=0, device=CPU
    )
    assert torch.equal(model.never.weight, start.never.weight)
    assert not torch.equal(model.late.weight, start.late.weight)


def test_batch_statistics_are_measured_again_where_a_model_asks(split: Split) -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 10)
            self.seen: list[Tensor] = []

        def forward(self, images: Tensor) -> Any:
            return self.net(images.mean((2, 3)))

        def recalibrate(self, batches: Any) -> None:
            self.seen = list(batches)

    model, _ = train(
        initialize(Asking, 0), split, dataclasses.replace(SHORT, epochs=1), seed=0, device=CPU
    )
    assert torch.equal(torch.cat(model.seen), split.images.float() / 255)


def test_seeds_share_compiled_code(split: Split) -> None:
    pytest.importorskip("torch._inductor")
    recipe = dataclasses.replace(SHORT, epochs=1, compiled=True)
    counters = torch._dynamo.utils.counters
    torch.compiler.reset()
    counters.clear()
    try:
        graphs, losses = [], []
        for seed in (0, 1, 2):
            _, history = train(initialize(small, seed), split, recipe, seed=seed, device=CPU)
            graphs.append(counters["stats"]["unique_graphs"])
            losses.append(history[0]["loss"])
    finally:
        torch.compiler.reset()
    assert graphs == [1, 1, 1] and len(set(losses)) == 3
    _, eager = train(
        initialize(small, 2), split, dataclasses.replace(recipe, compiled=False), seed=2, device=CPU
    )
    assert losses[2] == pytest.approx(eager[0]["loss"], rel=1e-3)


def test_the_recipe_follows_the_data_alone() -> None:
    digits = recipe_for(load("digits", train=True, root=Path()), 26, CPU)
    assert (digits.batch_size, digits.flip, digits.crop_padding) == (64, False, 4)
    assert digits.peak_lr == pytest.approx(0.2 * 64 / 500)
    large = Split(torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8), torch.zeros(50_000), (), True)
    assert recipe_for(large, 26, CPU).batch_size == 500


def test_divergence_is_said_and_nothing_is_kept(split: Split, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, peak_lr=1e30)
    with pytest.raises(Failure, match="Training diverged: the loss of epoch 1 is"):
        trained(split, recipe, partial=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_an_augmentation_outside_0_to_1_is_refused(split: Split) -> None:
    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = resnet18(width=8)

        def augment(self, images: Tensor, generator: Any) -> Any:
            return images + 1

        def forward(self, images: Tensor) -> Any:
            return self.net(images)

    with pytest.raises(ValueError, match=r"`images` must lie in \[0, 1\]; got \[1, 2\]"):
        train(initialize(Bright, 0), split, SHORT, seed=0, device=CPU)


@pytest.mark.slow
def test_the_loss_falls() -> None:
    recipe = dataclasses.replace(SHORT, peak_lr=0.1, flip=False)
    digits = load("digits", train=True, root=Path())
    _, history = train(initialize(lambda: resnet18(width=8), 0), digits, recipe, seed=0, device=CPU)
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]
    assert history[-1]["accuracy"] > history[0]["accuracy"]


def test_images_are_augmented_before_the_crop_puts_black_beside_them(split: Split) -> None:
    """Else smoothing would carry a border into the image that no test image has."""
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()

        def augment(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            seen.append(images)
            return images

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images)

    recipe = dataclasses.replace(SHORT, epochs=1)
    train(initialize(Watching, 0), split, recipe, seed=0, device=CPU)
    whole = {bytes(image.numpy().tobytes()) for image in as_input(split.images)}
    assert {bytes(image.numpy().tobytes()) for image in torch.cat(seen)} <= whole
    assert len(torch.cat(seen)) == recipe.steps_per_epoch(len(split)) * recipe.batch_size


def test_adversarial_training_makes_robust() -> None:
    """By seven steps in a ball; from the same start and images, at an eps that the data bear."""
    whole = load("digits", train=True, root=Path())
    images, labels = as_input(whole.images[-300:]), whole.labels[-300:]
    recipe = dataclasses.replace(recipe_for(whole, 4, CPU, "pgd7"), attack_eps=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2)]
        start = nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))

    def ask(recipe: Recipe) -> tuple[float, float]:
        model, _ = train(copy.deepcopy(start), whole, recipe, seed=0, device=CPU)
        found = ATTACKS["pgd"](model, images, labels, eps=0.1)
        with torch.no_grad():
            hits = [(model(x).argmax(1) == labels).double().mean() for x in (images, found)]
        return float(hits[0]), float(hits[1])

    plain, hardened = ask(dataclasses.replace(recipe, attack_eps=0.0)), ask(recipe)
    assert plain[0] > 0.8 and hardened[0] > 0.7
    assert hardened[1] > plain[1] + 0.15, (plain, hardened)


def test_adversarial_images_are_in_the_ball_and_raise_the_loss(split: Split) -> None:
    recipe = dataclasses.replace(SHORT, attack_eps=8 / 255)
    model = initialize(small, 0)
    step = Step(State.start(model, recipe), model, recipe, CPU)
    images, labels = as_input(split.images[:32]), split.labels[:32]
    torch.manual_seed(0)
    step.radius.fill_(8 / 255)
    found = step.attacked(images, labels)
    assert (found - images).abs().max() <= 8 / 255 + 1e-6
    assert found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert all(p.grad is None for p in model.parameters())
    near = (images + 8 / 255 * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model.eval()(x), labels) for x in (near, found)]
    assert losses[1] > losses[0]


def test_the_radius_of_adversarial_training_rises() -> None:
    recipe = dataclasses.replace(SHORT, attack_eps=0.1, attack_rise=0.5)
    radii = [attack_radius(recipe, step, 8) for step in range(8)]
    assert radii == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 5])
    assert attack_radius(dataclasses.replace(recipe, attack_rise=0.0), 0, 8) == 0.1
    assert attack_radius(SHORT, 3, 8) == 0


def test_attacks_leave_batch_statistics_to_the_steps(split: Split) -> None:
    recipe = dataclasses.replace(SHORT, attack_eps=8 / 255)
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(3600, 10))
    step = Step(State.start(model, recipe), model.train(), recipe, CPU)
    step(as_input(split.images[:16]), split.labels[:16], 0.01)
    assert norm.num_batches_tracked == 1 and model.training


def test_recipes_of_before_are_described_as_before(split: Split) -> None:
    told = recipe_for(split, 2, CPU).described()
    assert "attack_eps" not in told and Recipe(**told) == recipe_for(split, 2, CPU)
    told = recipe_for(split, 2, CPU, "pgd7").described()
    assert told["attack_eps"] == 8 / 255 and describe_recipe(told) == "2 epochs by `pgd7`"
    assert flags(told) == "--epochs 2 --recipe pgd7"
