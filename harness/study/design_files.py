"""Studies as TOML files, built-in ones among them: what may stand in one, and where it is wrong.

    title = "Does my idea help?"
    dataset = "digits"
    seeds = 3

    [[question]]
    number = "1"
    text = "Does my layer improve classification?"
    kind = "gain"
    model = "my_net.py:idea"
    baseline = "resnet18"
    nulls = ["my_net.py:null"]
    decides = { suite = "robustness", metric = "accuracy", group = "clean" }

Paths are relative to the file.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from harness.refusal import Refusal, unknown
from harness.storage.files import canonical
from harness.storage.spelling import problem_of_name
from harness.storage.toml_files import read_toml
from harness.study.design import MARGINS, Design, Kind, Preset, Quantity, Question
from harness.suites.radii import chosen

NAME = "study"  # of the one that is asked where none is named
BUILT_IN = {
    NAME: Path(__file__).with_name("built_in.toml"),
    "solvers": Path(__file__).with_name("solvers.toml"),
}
MOST = 200  # entries of a list
FOLDER = "imagefolder:"
QUANTITY = Quantity._fields
QUESTION = tuple(f.name for f in fields(Question))
NEEDED = tuple(f.name for f in fields(Question) if f.default is MISSING)
SCALE = ("dataset", "seeds", "width", "epochs", "recipe", "attack")
TOP = ("title", *SCALE, "question", "preset")
PARTS = {  # what a kind needs beside a model
    "gain": ("baseline",),
    "match": ("baseline",),
    "sum": ("baseline", "parts"),
    "learned": ("nulls",),
    "cost": (),
    "solver": ("solvers",),
}


@dataclass(frozen=True)
class _Place:
    """A table of a file: its text, and the header that it stands under."""

    path: Path
    text: str
    header: str = ""
    count: int = 0

    def line(self, key: str = "") -> int:
        """Return the line, from 1, of a key in it, or of its header."""
        lines, seen = self.text.splitlines(), 0
        start = 0 if not self.header else len(lines)
        for i, line in enumerate(lines):
            if self.header and line.strip().startswith(self.header):
                seen += 1
                if seen == self.count:
                    start = i
                    break
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        for i, line in enumerate(lines[start:], start):
            if i > start and line.strip().startswith("["):
                break
            if key and pattern.match(line):
                return i + 1
        return min(start, max(0, len(lines) - 1)) + 1

    def refuse(self, key: str, fact: str) -> Refusal:
        return Refusal(f"{self.path}, line {self.line(key)}: {fact}")


def read_design(path: Path) -> Design:
    """Return the study in a TOML file.

    Raises:
        Refusal: It cannot be read, or is no study: says the line, the key and the cure.
    """
    text, table = read_toml(path, "Write it as the README shows.")
    place = _Place(path, text)
    _known(place, table, TOP)
    questions = _list(place, "question", table.get("question", []), dict)
    if not questions:
        raise place.refuse("", "there is no question. Write one as `[[question]]`.")
    made = tuple(
        _question(_Place(path, text, "[[question]]", i), one) for i, one in enumerate(questions, 1)
    )
    numbers = [q.number for q in made]
    for i, number in enumerate(numbers, 1):
        if number in numbers[: i - 1]:
            where = _Place(path, text, "[[question]]", i)
            raise where.refuse("number", f"there are two questions `{number}`. Number them anew.")
    presets = {
        name: _preset(_Place(path, text, f"[preset.{name}]", 1), of, numbers)
        for name, of in _table(place, "preset", table.get("preset", {})).items()
    }
    own = {key: table[key] for key in SCALE if key in table}
    usual = _preset(place, own, numbers) if own or not presets else next(iter(presets.values()))
    name = NAME if path == BUILT_IN[NAME] else path.stem
    if problem := problem_of_name(name):
        raise Refusal(f"The name of {path} {problem}. Give the file another one.")
    digests = {
        question.number: hashlib.sha256(canonical(said).encode()).hexdigest()
        for question, said in zip(made, questions, strict=True)
    }
    title = _text(place, "title", table.get("title", name))
    return Design(name, title, made, usual, presets, digests)


def built_in(name: str = NAME) -> Design:
    """Return one of the program's own studies: "study" or "solvers"."""
    return read_design(BUILT_IN[name])


def select(design: Design, numbers: Sequence[str], rivals: bool = True) -> tuple[Question, ...]:
    """Return the questions of these numbers, all for none; "2" means 2a and 2b.

    Raises:
        Refusal: There is no such question: says which of the program's studies asks it.
    """
    try:
        return design.select(numbers, rivals)
    except Refusal:
        for name in BUILT_IN:
            if set(numbers) & built_in(name).numbers - design.numbers:
                said = " and ".join(sorted(set(numbers) & built_in(name).numbers))
                which = f" {name}" * (name != NAME)
                raise Refusal(f"Question {said} is one of `harness study{which}`.") from None
        raise


def _question(place: _Place, table: Any) -> Question:
    """One question."""
    _known(place, table, QUESTION)
    for key in NEEDED:
        if key not in table:
            raise place.refuse("", f"the question lacks `{key}`. Add it.")
    kind = table["kind"]
    if kind not in get_args(Kind):
        fact = unknown("kind of question", str(kind), get_args(Kind))
        raise place.refuse("kind", str(fact))
    for key in PARTS[kind]:
        if not table.get(key):
            raise place.refuse("kind", f"a question of the kind `{kind}` needs `{key}`. Add it.")

    def models(key: str) -> tuple[str, ...]:
        entries = _list(place, key, table.get(key, []), str)
        return tuple(_model(place, key, entry) for entry in entries)

    also = _list(place, "also", table.get("also", []), dict)
    margin = table.get("margin", MARGINS[kind])
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise place.refuse("margin", f"`margin` must be a number in (0, 1); got {margin!r}.")
    curves = table.get("curves", False)
    if not isinstance(curves, bool):
        raise place.refuse("curves", f"`curves` must be true or false; got {curves!r}.")
    return Question(
        number=_name(place, "number", table["number"]),
        text=_text(place, "text", table["text"]),
        kind=kind,
        model=_model(place, "model", table["model"]),
        decides=_quantity(place, "decides", table["decides"]),
        baseline=_model(place, "baseline", table["baseline"]) if "baseline" in table else "",
        nulls=models("nulls"),
        rivals=models("rivals"),
        parts=models("parts"),
        solvers=tuple(
            _name(place, "solvers", group)
            for group in _list(place, "solvers", table.get("solvers", []), str)
        ),
        also=tuple(_quantity(place, "also", one) for one in also),
        margin=float(margin),
        curves=curves,
    )


def _quantity(place: _Place, key: str, table: Any) -> Quantity:
    if not isinstance(table, dict) or not {"suite", "metric"} <= table.keys() <= {*QUANTITY}:
        raise place.refuse(
            key, f"`{key}` names a quantity as {{ suite = ..., metric = ..., group = ... }}."
        )
    return Quantity(**{k: _text(place, key, value) for k, value in table.items()})


def _preset(place: _Place, table: Any, numbers: list[str]) -> Preset:
    """A scale."""
    _known(place, table, (*SCALE, "questions", "rivals"))
    questions = _list(place, "questions", table.get("questions", []), str)
    for number in questions:
        if number not in numbers:
            raise place.refuse("questions", str(unknown("question", number, numbers)))
    counts: dict[str, int | None] = {}
    for key in ("seeds", "width", "epochs"):
        value = table.get(key, 3 if key == "seeds" else None)
        if value is not None and (type(value) is not int or not 1 <= value <= 10**6):
            raise place.refuse(key, f"`{key}` must be a whole number >= 1; got {value!r}.")
        counts[key] = value
    recipe = _text(place, "recipe", table["recipe"]) if "recipe" in table else None
    attack = _list(place, "attack", table.get("attack", []), str)
    for one in attack:
        try:
            chosen(one)
        except ValueError as problem:
            raise place.refuse("attack", str(problem)) from None
    dataset = _beside(place, _text(place, "dataset", table.get("dataset", "digits")))
    rivals = table.get("rivals", True)
    if not isinstance(rivals, bool):
        raise place.refuse("rivals", f"`rivals` must be true or false; got {rivals!r}.")
    return Preset(
        dataset,
        counts["seeds"] or 3,
        counts["width"],
        counts["epochs"],
        recipe,
        tuple(questions),
        rivals,
        tuple(attack),
    )


def _known(place: _Place, table: Any, keys: tuple[str, ...]) -> None:
    """Refuse a table with a key that nothing reads."""
    if not isinstance(table, dict):
        raise place.refuse("", "here must stand a table.")
    for key in table:
        if key not in keys:
            raise place.refuse(key, str(unknown("key", key, keys)))


def _table(place: _Place, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise place.refuse(key, f"`{key}` must be tables `[{key}.NAME]`.")
    return value


def _list(place: _Place, key: str, value: Any, kind: type) -> list[Any]:
    what = "tables" if kind is dict else "texts"
    if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
        raise place.refuse(key, f"`{key}` must be a list of {what}.")
    if len(value) > MOST:
        raise place.refuse(key, f"`{key}` has {len(value)} entries; a study has at most {MOST}.")
    return value


def _text(place: _Place, key: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 500 or not value.isprintable():
        raise place.refuse(key, f"`{key}` must be a line of text, 1 to 500 characters.")
    return value


def _name(place: _Place, key: str, value: Any) -> str:
    if problem := problem_of_name(_text(place, key, value)):
        raise place.refuse(key, f"`{key}` {problem}.")
    return value


def _model(place: _Place, key: str, value: Any) -> str:
    return _beside(place, _text(place, key, value))


def _beside(place: _Place, spec: str) -> str:
    """A model or data set; one in a file is found from where the study lies."""
    if "(" in spec or spec.startswith("timm/"):
        return spec
    name, equals, rest = spec.partition("=")
    if equals:
        return f"{name}={place.path.parent / rest}"
    if spec.startswith(FOLDER):
        return f"{FOLDER}{place.path.parent / spec.removeprefix(FOLDER)}"
    return str(place.path.parent / spec) if ".py:" in spec else spec
