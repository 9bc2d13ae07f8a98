"""What the runs of a study say of themselves: its scale, and the source code that made them.

Answers need nothing but a results folder: no weights, no data set, and no network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.models.lookup import source
from harness.models.source_code import code_of, difference, in_words
from harness.refusal import user_input
from harness.storage import results
from harness.study.design import Need, Question, needs_of
from harness.suites.base import Setting
from harness.suites.catalog import SUITES
from harness.suites.lookup import suite_of

NAMED = 2  # files in a sentence


def dataset_of(suite: str, dataset: str, attack: Sequence[str]) -> str:
    """Return the name in tables of a data set in a suite, which tells some attacks from all."""
    if not attack:
        return dataset
    with user_input():
        _, asked = suite_of(suite)
    return dataset + asked.variant(Setting(image_size=0, num_classes=0, attack=tuple(attack)))


@dataclass(frozen=True)
class Scale:
    """What the runs of a study have in common.

    Args:
        classes: How many the data set has; 0 where no run says.
        width: None where the models have none to choose.
        epochs: None where nothing was trained.
        images: Test images; `limit` of them where that is not 0.
    """

    classes: int = 0
    width: int | None = None
    epochs: int | None = None
    images: int = 0
    limit: int = 0

    def describe(self, dataset: str, seeds: int) -> str:
        """Return it in words: "digits, 3 seeds, width 16, 26 epochs, 355 test images"."""
        parts = [dataset, f"{seeds} seed{'s' * (seeds > 1)}"]
        parts += [] if self.width is None else [f"width {self.width}"]
        parts += [f"{self.epochs} epoch{'s' * (self.epochs > 1)}"] if self.epochs else []
        few = f"{self.limit} of " if self.limit else ""
        return f"{', '.join(parts)}, {few}{self.images:,} test images"


class Runs:
    """The runs of a study that are there.

    Args:
        questions: Their models as for `--model`; `names` are those in tables.
        trained: Results folder of networks as trained; `untrained` that of the same untrained.
        attack: Attacks in place of all.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        names: Mapping[str, str],
        dataset: str,
        seeds: int,
        trained: Path,
        untrained: Path,
        attack: Sequence[str] = (),
    ) -> None:
        self._needs, self._names = needs_of(questions), names
        self._dataset, self._seeds, self._attack = dataset, seeds, attack
        self._known = {
            bare: results.read_provenances(root)
            for bare, root in ((False, trained), (True, untrained))
            if root.is_dir()
        }

    def _of(self, need: Need) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Suite, seed, and what is said of the run, of a network's runs that are there."""
        for spec in need.suites:
            with user_input():
                suite, _ = suite_of(spec)
            dataset = dataset_of(suite, self._dataset, self._attack)
            for seed in range(self._seeds):
                key = (dataset, suite, self._names[need.model], seed)
                if run := self._known.get(need.untrained, {}).get(key):
                    yield suite, seed, run

    def scale(self) -> Scale:
        """Return their scale: of each thing, what the first run says that says it."""
        found: dict[str, int] = {}
        for need in self._needs:
            for _, _, run in self._of(need):
                training = run.get("training", {})
                limit = run["limit"]
                said = {
                    "classes": run.get("classes") or training.get("num_classes"),
                    "width": run.get("arguments", {}).get("width"),
                    "epochs": training.get("recipe", {}).get("epochs"),
                    "images": run.get("test_images") or run.get("images"),
                    "limit": min(limit, run.get("test_images", limit)),
                }
                found = {name: value for name, value in said.items() if value} | found
        return Scale(**found)

    def say_other_code(self) -> list[str]:
        """Say which of them were made by other source code than there is now."""
        total, other = 0, list[tuple[str, list[str]]]()
        for need in self._needs:
            with user_input():
                model = source(need.model).code
            for suite, seed, run in self._of(need):
                total += 1
                now, before = {"model": model, "suite": code_of(SUITES[suite])}, run.get("code", {})
                changed = {f for part in now for f in difference(before.get(part, {}), now[part])}
                if changed:
                    what = f"{self._names[need.model]}, seed {seed}, {suite}"
                    other.append((what, sorted(changed)))
        if not other:
            return []
        first, files = other[0]
        return [
            f"{len(other)} of {total} runs were made by other source code than there is now "
            f"({first}: {in_words(files, NAMED)}). The same command without "
            "`--no-run` makes them again."
        ]
