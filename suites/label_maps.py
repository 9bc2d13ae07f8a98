"""Which of a network's classes the folders of a data set are: `--labels imagenet`, or a CSV file.

    folder,index
    tabby,281
    ,999           a class without a folder, for how many there are

`imagenet` takes folders that are called by synset (n02123045), by index (281), or by name (tabby,
tabby_cat): all of them in one way.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.models.imagenet import imagenet_classes
from harness.models.registry import unknown

IMAGENET = "imagenet"
LARGEST = 2**20  # bytes of a CSV
MOST = 100_000  # classes
SHOWN = 3  # folders in a sentence


@dataclass(frozen=True)
class LabelMap:
    """Classes of a data set as classes of a network.

    Args:
        index: Of each folder, in the data set's order.
        classes: Names of all of the network's classes.
    """

    folders: tuple[str, ...]
    index: tuple[int, ...]
    classes: tuple[str, ...]

    def as_table(self) -> dict[str, int]:
        """Return the class of each folder."""
        return dict(zip(self.folders, self.index, strict=True))

    def describe(self) -> str:
        """Return a sentence with the first of them."""
        pairs = [
            f"`{folder}` is {index}" + f" ({self.classes[index]})" * (self.classes[index] != folder)
            for folder, index in zip(self.folders, self.index, strict=True)
        ]
        more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        return (
            f"Of {len(self.classes):,} classes the data set has {len(pairs)}: "
            f"{', '.join(pairs[:SHOWN])}{more}."
        )


def label_map(labels: str, folders: Sequence[str]) -> LabelMap:
    """Return which classes of a network the folders of a data set are.

    Args:
        labels: "imagenet", or the path of a CSV file.

    Raises:
        FileNotFoundError: There is no such file.
        LookupError: A folder is no class.
        ValueError: Two folders are one class, or the file is no such table.
    """
    if labels == IMAGENET:
        found, classes = _among_imagenet(folders), tuple(c.name for c in imagenet_classes())
    else:
        found, classes = _from_csv(Path(labels).expanduser(), folders)
    twice: dict[int, str] = {}
    for folder, index in found.items():
        other = twice.setdefault(index, folder)
        if other != folder:
            raise ValueError(
                f"`{other}` and `{folder}` are both class {index} ({classes[index]}). Put their "
                "images into one folder."
            )
    return LabelMap(tuple(folders), tuple(found[f] for f in folders), classes)


def _plain(name: str) -> str:
    """A name without what people write differently."""
    return re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()


def _unique(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Words that name one class alone."""
    found: dict[str, set[int]] = {}
    for word, index in pairs:
        found.setdefault(word, set()).add(index)
    return {word: min(indices) for word, indices in found.items() if len(indices) == 1}


def _among_imagenet(folders: Sequence[str]) -> dict[str, int]:
    classes = imagenet_classes()
    synsets = {c.synset: c.index for c in classes}
    numbers = {str(c.index): c.index for c in classes}
    # What one class is called first, then what one is called as well; of two it names neither.
    names = _unique((_plain(word), c.index) for c in classes for word in (c.name, c.others[0]))
    firsts = {_plain(word) for c in classes for word in (c.name, c.others[0])}
    others = _unique((_plain(word), c.index) for c in classes for word in c.others)
    names |= {word: index for word, index in others.items() if word not in firsts}
    ways: tuple[tuple[Callable[[str], str], Mapping[str, int]], ...] = (
        (str.strip, synsets),
        (lambda name: name.lstrip("0") or "0", numbers),
        (_plain, names),
    )
    best: list[str] = []
    for spell, known in ways:
        missing = [f for f in folders if spell(f) not in known]
        if not missing:
            return {f: known[spell(f)] for f in folders}
        best = min(best or missing, missing, key=len)
    if len(best) < len(folders):
        more = f", nor are {len(best) - 1} more" if len(best) > 1 else ""
        raise unknown(f"class of ImageNet called as the other folders{more}", best[0], names)
    raise unknown("class of ImageNet", best[0], names)


def _from_csv(path: Path, folders: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path} of labels. Give `imagenet`, or a CSV with the columns "
            "folder and index."
        )
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST:,} bytes: it is no list of classes.")
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV: {error}. Write the columns folder,index.") from None
    rows = [row for row in rows if row]
    if not rows or [cell.strip() for cell in rows[0]] != ["folder", "index"]:
        raise ValueError(f"{path} must begin with the line `folder,index`.")
    found, highest = dict[str, int](), 0
    for row in rows[1:]:
        number = row[1].strip() if len(row) == 2 else ""
        if not (number.isascii() and number.isdigit() and len(number) < 7 and int(number) < MOST):
            raise ValueError(
                f"{path}: {','.join(row)[:60]!a} is no folder and index. Write as in `tabby,281`."
            )
        if row[0] in found:
            raise ValueError(f"{path} has the folder {row[0]!a} twice. Keep one line.")
        if row[0]:
            found[row[0]] = int(number)
        highest = max(highest, int(number))
    for folder in folders:
        if folder not in found:
            raise unknown(f"folder in {path}", folder, found)
    of = {index: folder for folder, index in found.items()}
    return (
        {folder: found[folder] for folder in folders},
        tuple(of.get(i, f"class {i}") for i in range(highest + 1)),
    )
