"""Whether a question can fail: each is asked of networks that cannot have what it asks for.

    untrained   networks as they start, in place of the trained ones
    clone       the baseline of other seeds, in place of the model
    shuffled    labels, maps, evaluations or errors dealt at random to other images, networks or
                solvers

"Yes" to one of them says that the question does not ask what it seems to: it is tautological. So
is, of a match, "worse" to a clone of the baseline. A control is judged alone, which is less strict
than a family, and has a false alarm in one of twenty tries itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.analysis import Sample
from harness.analysis.collect import Key
from harness.analysis.groups import groups_of
from harness.analysis.outcomes import of_images
from harness.analysis.sample import RATE, from_outcomes
from harness.refusal import Refusal
from harness.storage.cells import CellStore
from harness.storage.results import cells_root, csv_path, read_provenance
from harness.study.answers import find
from harness.study.claims import SLIGHT, WORSE, YES, judge, say
from harness.study.design import Quantity, Question
from harness.study.effects import Numbers

UNTRAINED, CLONE, SHUFFLED = "untrained networks", "a clone of the baseline", "shuffled {}"
DEALT = {"learned": "maps", "cost": "evaluations", "solver": "errors"}


@dataclass(frozen=True)
class Check:
    """What a control says.

    Args:
        verdict: "" where it could not be asked.
        bad: Whether the question should not have come out so.
    """

    control: str
    verdict: str
    bad: bool
    margin: str = "a point"

    @property
    def sentence(self) -> str:
        if not self.verdict:
            return f"{self.control}: not asked."
        mark = ": the question does not ask what it seems to" if self.bad else ""
        return f"{self.control}: {say(self.verdict, self.margin)}{mark}."


def check(question: Question, numbers: Numbers, results: Path) -> list[Check]:
    """Ask a question of its controls.

    Args:
        results: Where the trained networks' answers lie.
    """
    controls: list[tuple[str, Callable[[], Numbers | None]]] = [
        (UNTRAINED, lambda: of_untrained(question, numbers)),
        (CLONE, lambda: of_clone(question, numbers)),
        (
            SHUFFLED.format(DEALT.get(question.kind, "labels")),
            lambda: of_shuffled(question, numbers, results),
        ),
    ]
    return [_ask(question, name, make) for name, make in controls]


def _ask(question: Question, name: str, make: Callable[[], Numbers | None]) -> Check:
    try:
        numbers = make()
        if numbers is None:
            return Check(name, "", False)
        finding = find(replace(question, rivals=(), also=()), numbers)
    except Refusal:
        return Check(name, "", False)
    (verdict,) = judge([finding.claims], 1)
    bad = verdict in (YES, SLIGHT)
    if question.kind == "match" and name == CLONE:
        bad = verdict == WORSE
    return Check(name, verdict, bad, finding.margin)


def roll(sample: Sample, by: int) -> Sample:
    """Return a sample with its outcomes given to other seeds: networks of another training."""
    if sample.outcomes is None:
        return replace(sample, runs=())
    return replace(sample, outcomes=np.roll(sample.outcomes, by, axis=0), runs=())


def of_untrained(question: Question, numbers: Numbers) -> Numbers | None:
    """The untrained networks; of other seeds, where a question compares with untrained ones."""
    if question.kind == "solver":
        return None
    if question.kind == "learned":
        return replace(numbers, trained={k: roll(s, 1) for k, s in numbers.untrained.items()})
    if question.kind == "cost":
        own = {k: roll(s, 1) for k, s in numbers.untrained.items() if k.metric == "nfe"}
        return replace(numbers, trained={**numbers.trained, **own})
    return replace(numbers, trained=numbers.untrained)


def of_clone(question: Question, numbers: Numbers) -> Numbers | None:
    """The baseline of other seeds in place of the model, and of its parts."""
    if not question.against:
        return None
    same, made = question.against[0], dict(numbers.trained)
    names = (question.model, *question.parts)
    untrained = dict(numbers.untrained)
    for found in (made, untrained):
        for key in [k for k in found if k.model == same]:
            for i, name in enumerate(names):
                found[replace(key, model=name)] = roll(found[key], i + 1)
    return replace(numbers, trained=made, untrained=untrained)


def of_shuffled(question: Question, numbers: Numbers, results: Path) -> Numbers | None:
    """Labels of other images; maps of the other network; evaluations of other images."""
    generator = np.random.default_rng(0)
    if question.kind == "learned":
        made = dict(numbers.trained)
        for null in question.against:
            swapped = _swap(
                numbers.sample(question.decides, question.model),
                numbers.sample(question.decides, null),
                generator,
            )
            if swapped is None:
                return None
            for name, sample in zip((question.model, null), swapped, strict=True):
                made[_key(numbers, question.decides, name)] = sample
        return replace(numbers, trained=made)
    if question.kind == "cost":
        own = {
            k: _deal(s, generator)
            for k, s in numbers.trained.items()
            if k.metric == "nfe" and k.model == question.model
        }
        return replace(numbers, trained={**numbers.trained, **own})
    if question.kind == "solver":
        return _exchanged(question, numbers, generator)
    relabelled = relabel(question, numbers, results)
    return None if relabelled is None else replace(numbers, trained=relabelled)


def _exchanged(
    question: Question, numbers: Numbers, generator: np.random.Generator
) -> Numbers | None:
    """The values of two solvers, given to one or the other by a coin."""
    made, model = dict(numbers.trained), question.model
    for group in question.solvers:
        places = question.decides, question.decides._replace(group=group)
        own, other = (numbers.sample(place, model) for place in places)
        swapped = _swap(own, other, generator)
        if swapped is None:
            return None
        for place, sample in zip(places, swapped, strict=True):
            made[_key(numbers, place, model)] = sample
    return replace(numbers, trained=made)


def _key(numbers: Numbers, quantity: Quantity, model: str) -> Key:
    suite, metric, group, variant = quantity
    return Key(numbers.dataset_in(suite), suite, metric, variant, group, model)


def _swap(a: Sample, b: Sample, generator: np.random.Generator) -> tuple[Sample, Sample] | None:
    """Two samples whose images were given to one or the other by a coin."""
    if a.outcomes is None or b.outcomes is None or a.outcomes.shape != b.outcomes.shape:
        return None
    heads = generator.random(a.outcomes.shape) < 0.5
    pairs = (np.where(heads, x, y) for x, y in ((a.outcomes, b.outcomes), (b.outcomes, a.outcomes)))
    first, second = (
        from_outcomes(values, a.on, a.span, keep=True, seed_names=a.seed_names) for values in pairs
    )
    return first, second


def _deal(sample: Sample, generator: np.random.Generator) -> Sample:
    if sample.outcomes is None:
        return sample
    order = generator.permutation(sample.outcomes.shape[1])
    return replace(sample, outcomes=sample.outcomes[:, order], runs=())


def relabel(question: Question, numbers: Numbers, results: Path) -> Mapping[Key, Sample] | None:
    """Return samples of the deciding quantity with every image's label given to another image."""
    made, store = {}, CellStore(cells_root(results))
    dataset = numbers.dataset_in(question.decides.suite)
    for model in (question.model, *question.against, *question.parts):
        key = _key(numbers, question.decides, model)
        rows = [
            _relabelled(question.decides, dataset, model, seed, results, store)
            for seed in range(numbers.seeds)
        ]
        kept = [row for row in rows if row is not None]
        if len(kept) < len(rows):
            return None
        made[key] = from_outcomes(
            np.stack(kept), "shuffled", RATE, keep=True, seed_names=tuple(range(len(kept)))
        )
    return made


def _relabelled(
    quantity: Quantity, dataset: str, model: str, seed: int, results: Path, store: CellStore
) -> np.ndarray | None:
    """Means over the group's cells, image by image; None where cells are not stored."""
    path = csv_path(results, dataset, quantity.suite, model, seed).with_suffix(".json")
    if not path.is_file():
        return None
    keys = {}
    for name, key in read_provenance(path)["cells"].items():
        condition, _, level = name.rpartition(" ")
        keys[condition, float(level)] = key
    outcomes: list[np.ndarray] = []
    for where in groups_of(frozenset(keys)).get(quantity.group, ()):
        arrays, _ = store.look(keys[where]) or ({}, {})
        if "labels" not in arrays:
            return None
        order = np.random.default_rng(0).permutation(len(arrays["labels"]))
        arrays = {**arrays, "labels": arrays["labels"][order]}
        found = of_images((quantity.metric, quantity.variant), arrays)
        if found is None:
            return None
        outcomes.append(found[0])
    return np.mean(outcomes, axis=0) if outcomes else None
