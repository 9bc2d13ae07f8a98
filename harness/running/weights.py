"""Which weights a job has: a file that was named, those trained here before, or none yet.

Weights belong to the code that made them and to the images that they learned from. Those of other
code or other images are not used under the name that they once had: they are trained again, and the
old ones are kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from harness.models.lookup import Source
from harness.models.source_code import difference, in_words
from harness.refusal import Refusal, user_input
from harness.running.initial import initialize
from harness.running.options import Options, resolve_device
from harness.running.recipes import describe_recipe, is_fitted, recipe_for
from harness.running.train import TRAINER
from harness.storage import checkpoints
from harness.suites.datasets import Split, training_fingerprint


@dataclass(frozen=True)
class Weights:
    """Where the weights of a job come from.

    Args:
        path: Where its trained weights lie, or will.
        file: The weights to load; None for none yet.
        description: Of those in `file`.
        stale: Why weights that lie at `path` are not used, a sentence's end; "" where they are.
        notes: Sentences about weights that are used.
    """

    path: Path
    file: Path | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    stale: str = ""
    notes: tuple[str, ...] = ()

    def add_notes(self, notes: Iterable[str]) -> "Weights":
        """Return the same with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def find_weights(
    src: Source,
    name: str,
    data: tuple[str, str],
    split: Split,
    seed: int | None,
    options: Options,
) -> Weights:
    """Return the weights of a model on a data set.

    Args:
        src: Under its own name or that of `--name`.
        name: The model's own name.
        data: The data set's name, and what was asked for; `split` are its test images.

    Raises:
        Refusal: They do not fit what was asked for.
    """
    dataset, spec = data
    path = checkpoints.weights_path(options.weights_root, dataset, src.name, seed or 0)
    if options.weights:
        (given,) = options.weights
        file = checkpoints.find_file(given)
        description = checkpoints.read_recipe(file, foreign=True)
        _check_agreement(file, description, src, name, dataset, split, seed, options)
        notes = [f"The weights of {given} are those in {file}."] * (file != given)
        notes += description.get("notes", ())
        if "recipe" in description and (
            reason := _find_change(description, src, spec, split, options)
        ):
            notes.append(f"The weights in {file} are used although {reason}.")
        return Weights(path, file, description, notes=tuple(notes))
    if src.pretrained or not path.is_file():
        return Weights(path)
    description = checkpoints.read_recipe(path)
    _check_agreement(path, description, src, name, dataset, split, seed, options)
    stale = _find_change(description, src, spec, split, options)
    return Weights(path, stale=stale) if stale else Weights(path, path, description)


def with_own_weights(src: Source, dataset: str, classes: int, options: Options) -> Source:
    """Return a user's source as one that brings its own weights, if it does.

    It does if two seeds give equal weights: what is to be trained begins at random.
    """
    name = options.name or src.name
    folder = checkpoints.weights_path(options.weights_root, dataset, name, 0).parent
    if src.ours or src.pretrained or not options.own_weights or folder.exists():  # trained before
        return src
    arguments = {"width": options.width} if src.scalable and options.width else {}
    with user_input():
        one, other = (
            initialize(lambda: src.build(num_classes=classes, **arguments), seed).state_dict()
            for seed in (0, 1)
        )
    equal = one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    return replace(src, pretrained=equal and any(v.is_floating_point() for v in one.values()))


def _find_change(
    description: Mapping[str, Any], src: Source, spec: str, split: Split, options: Options
) -> str:
    """Why weights are not what a training would make now, "" where they are."""
    if "code" not in description:
        return "an older version of the program trained them, which did not note the source code"
    changed = difference(description["code"], src.code)
    if changed:
        return f"the source code has changed since: {in_words(changed)}"
    if description.get("trainer") != TRAINER:
        return "the training loop has changed since"
    with user_input():
        images = training_fingerprint(spec, options.data, split.reading)
    return "" if description["data"] == images else "they were trained on other images"


def _check_agreement(
    path: Path,
    description: Mapping[str, Any],
    src: Source,
    name: str,
    dataset: str,
    split: Split,
    seed: int | None,
    options: Options,
) -> None:
    """Refuse weights that were trained otherwise than the command says."""
    if "recipe" not in description:
        return  # a file from elsewhere says nothing of itself
    known = {src.name, name}
    model = src.name if description["model"] not in known else description["model"]
    fitted = is_fitted(description["recipe"])
    for flag, wanted, found in (
        ("width", options.width, description["arguments"].get("width")),
        ("epochs", None if fitted else options.epochs, description["recipe"]["epochs"]),
        ("model", model, description["model"]),
        ("dataset", dataset, description["dataset"]),
        ("seed", seed, description["seed"]),
    ):
        if wanted is not None and wanted != found:
            raise Refusal(
                f"The weights at {path} were trained with {flag} {found}, not {wanted}. Leave out "
                f"`--{flag}`, or keep the other training apart with `--name` or `--results`."
            )
    if options.recipe is not None and not fitted:
        recipe = recipe_for(split, options.epochs, resolve_device(options.device), options.recipe)
        found, asked = map(describe_recipe, (description["recipe"], recipe.described()))
        if asked != found:
            raise Refusal(
                f"The weights at {path} were trained for {found}, not {asked}. Leave out "
                "`--recipe`, or keep the other training apart with `--name` or `--results`."
            )
