"""Pictures of a results folder as part of the page, small enough for it.

They lie in results/figures, or where a run's CSV lies or below it. A picture's words come from the
file itself, as matplotlib writes them with `savefig(path, metadata={"Title": ..., "Description":
...})`; else from its path: a sheet of corruptions, corruptions-DATASET-INDEX.png, says what it
shows, and so does a figure beside the CSV of a run. A picture is shown if it says that it was drawn
from the results that are here, as `storage.sources` describes them.
"""

import base64
import io
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from harness.storage.sources import is_current

FOLDER = "figures"
WIDTHS = (1600, 1200, 900, 640, 400)  # pixels, tried from the left until a picture fits its share
MOST = 48  # pictures of a page
QUALITY = 88
SHEET = re.compile(r"corruptions-(.+)-(\d+)")
LARGEST = 100_000_000  # pixels of a file; more is no figure
LONGEST = 1000  # characters of a picture's words
OTHERS = (
    "cells",
    "checkpoints",
    "published",
    "quick",
    "report",
)  # folders that hold no runs of these results


@dataclass(frozen=True)
class Picture:
    """A picture as the page holds it.

    Args:
        alt: What it shows, for those who do not see it.
        source: A data URI.
        width: In pixels, as embedded; `height` likewise.
    """

    name: str
    title: str
    alt: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page, and the names of those that it leaves out.

    Args:
        stale: Those that are damaged, or not of the results as they are.
    """

    shown: Sequence[Picture] = ()
    too_large: Sequence[str] = ()
    stale: Sequence[str] = ()


def pictures(
    results: Path, leave_out: Collection[str], budget: int, drawn: Path | None = None
) -> Pictures:
    """Return the pictures of a results folder.

    Args:
        leave_out: Names of files that the page shows in another way.
        budget: Bytes that all of them may take in the page; what one leaves over goes to the next.
        drawn: Another folder that they may have been drawn into.
    """
    results = results.resolve()
    folders = dict.fromkeys((results, drawn.resolve() if drawn else results))
    paths = [found for folder in folders for found in _paths(folder)]
    current: dict[str, Image.Image] = {}
    stale: dict[str, None] = {}
    for name, path in paths:
        if path.name in leave_out:
            continue
        opened = _open(path)
        if opened is not None and is_current(opened.info.get("Source"), path.name, results):
            current[name] = opened
        else:
            stale[name] = None
    shown, too_large = _fit_all(current, budget)
    return Pictures(shown, too_large, [name for name in stale if name not in current])


def _fit_all(current: Mapping[str, Image.Image], budget: int) -> tuple[list[Picture], list[str]]:
    """Pictures as they fit into the page, and the names of those that do not."""
    made: list[Picture] = []
    left_out = []
    for i, (name, opened) in enumerate(current.items()):
        if len(made) == MOST:
            left_out.append(name)
            continue
        title, alt = describe(Path(name))
        words = [opened.info.get(key) for key in ("Title", "Description")]
        title, alt = (
            given[:LONGEST] if isinstance(given, str) and given.strip() else own
            for given, own in zip(words, (title, alt), strict=True)
        )
        share = budget // min(MOST - len(made), len(current) - i)
        picture = _fit(opened, share - len(title) - len(alt), (name, title, alt))
        if picture is None:
            left_out.append(name)
        else:
            made.append(picture)
            budget -= len(picture.source) + len(title) + len(alt)
    return made, left_out


def _paths(results: Path) -> list[tuple[str, Path]]:
    """PNG files that are no links, which could lead to files that are nobody's figures."""
    figures = sorted((results / FOLDER).rglob("*.png"))
    beside = sorted(p for p in results.glob("*/*/*/**/*.png") if _of_run(p, results))
    found = [p for p in (*figures, *beside) if p.is_file() and p.resolve() == p]
    return [(path.relative_to(results).as_posix(), path) for path in found]


def _of_run(path: Path, results: Path) -> bool:
    return path.relative_to(results).parts[0] not in (FOLDER, *OTHERS)


def _open(path: Path) -> Image.Image | None:
    """The picture of a file; None for one that is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see LARGEST
            with Image.open(path, formats=["PNG"]) as image:
                image.verify()  # the checksums, which loading does not look at
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height > LARGEST:
                    return None
                image.load()
                return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _fit(picture: Image.Image, budget: int, words: tuple[str, str, str]) -> Picture | None:
    """The picture as wide as its share allows; None where even the smallest does not fit."""
    for width in sorted({min(width, picture.width) for width in WIDTHS}, reverse=True):
        height = max(1, round(picture.height * width / picture.width))
        shrunk = picture.resize((width, height), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        shrunk.save(content, "WEBP", quality=QUALITY, method=4)
        source = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
        if len(source) <= budget:
            return Picture(*words, source=source, width=width, height=height)
    return None


def describe(path: Path) -> tuple[str, str]:
    """Return a title and an alternative text for a picture by its path in the results."""
    if sheet := SHEET.fullmatch(path.stem):
        title = f"Image {sheet[2]} of {sheet[1]} under corruption"
        return title, f"{title}: a row for each kind, a column for each severity."
    title = path.stem.replace("_", " ").replace("-", ", ")
    if path.parts[0] != FOLDER:
        dataset, suite, model = path.parts[:3]
        title = f"{suite}, {model} on {dataset}: {title}"
    return title, f"Picture: {title}."
