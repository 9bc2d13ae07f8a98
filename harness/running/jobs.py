"""What is to be done: a job is one model with one set of weights on one data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from harness.models.base import Fitted, WithOwnLoss
from harness.models.catalog import CATALOG
from harness.models.lookup import Source
from harness.running.behavior import ORDINARY, Behavior
from harness.running.initial import initialize
from harness.running.options import Options, resolve_device
from harness.running.overwriting import describe_weights
from harness.running.recipes import Recipe, is_fitted, recipe_for
from harness.running.weights import Weights
from harness.suites.base import Cell, Setting, Suite
from harness.suites.datasets import Split
from harness.suites.label_maps import LabelMap


@dataclass(frozen=True)
class Evaluation:
    """A suite with its cells for one data set.

    Args:
        dataset: The data set's name in tables; says so where the images are not its own.
        model: The model's name in tables; says so where it is not asked as usual.
        setting: What the suite was told, the image seed among it.
        code: Digests of the source code that the suite stands on.
    """

    name: str
    suite: Suite
    cells: tuple[Cell, ...]
    dataset: str
    model: str
    setting: Setting
    code: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One model with one set of weights on one data set, and its evaluations.

    Args:
        dataset: The data set's name; `spec` what was asked for, which finds it.
        seed: Training seed.
        weights: Where its weights are, or will be.
        width: Of the model, None where it has none to choose.
        labels: Which of a network's classes those of the data set are, where that was told.
        settings: Digest of what a user's model holds beside its weights; "" for ours.
        behavior: How a user's model answers.
        built: The network, where planning had to build it; `build` hands it over once.
    """

    source: Source
    dataset: str
    spec: str
    split: Split
    seed: int
    evaluations: tuple[Evaluation, ...]
    weights: Weights
    width: int | None
    labels: LabelMap | None = None
    settings: str = ""
    behavior: Behavior = ORDINARY
    built: list[nn.Module] = field(default_factory=list, repr=False, compare=False)

    def build(self) -> nn.Module:
        """Build the network with its initial weights, or those that its builder brings."""
        if self.built:
            return self.built.pop()
        arguments = {} if self.width is None else {"width": self.width}
        classes = len(self.split.classes)
        return initialize(lambda: self.source.build(num_classes=classes, **arguments), self.seed)

    @cached_property
    def fitted(self) -> bool:
        """Whether the network keeps its training images, and is not trained in steps."""
        if self.built:
            return isinstance(self.built[0], Fitted)
        entry = CATALOG.get(self.source.name)
        return is_fitted(self.weights.description.get("recipe") or {}) or (
            entry is not None and "fitted" in entry.capabilities
        )

    @cached_property
    def own_loss(self) -> bool:
        """Whether the network has a loss of its own, for which `generative` is its usual recipe."""
        if self.built:
            return isinstance(self.built[0], WithOwnLoss)
        entry = CATALOG.get(self.source.name)
        return entry is not None and "loss" in entry.capabilities

    def recipe(self, training: Split, options: Options, network: nn.Module | None = None) -> Recipe:
        """Return how it is trained on a training set, as options ask for it.

        Args:
            network: The network, where it was built.
        """
        own = self.own_loss if network is None else isinstance(network, WithOwnLoss)
        name = options.recipe or ("generative" if own else None)
        device = resolve_device(options.device)
        return recipe_for(training, options.epochs, device, name, options.compile)

    @cached_property
    def images(self) -> str:
        """Fingerprint of the test images."""
        return self.split.fingerprint()

    @property
    def trained(self) -> bool:
        """Whether there are weights already."""
        return self.weights.file is not None or self.source.pretrained

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.source.name} on {self.dataset}, seed {self.seed}"

    @property
    def origin(self) -> dict[str, Any]:
        """What the model and its weights are of, as a run's JSON has it."""
        weights = describe_weights(self.weights.file, self.weights.path, self.source.pretrained)
        return {"model": dict(self.source.origin), "weights": weights}
