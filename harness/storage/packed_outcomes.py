"""Whether each image was classified correctly, in one bit an image and condition, beside a CSV.

    results/DATASET/SUITE/MODEL/seedN.bits

Cells hold logits and are too large for git. Their hits are not: 36 conditions of 10,000 images take
about 30 kB, of 355 images under 1 kB. With them a clone pairs two models, or two trainings of one,
image by image, and its intervals of accuracy are those of the cells, to the last digit. Under
attacks, conditions that are the name of a norm, a hit is an image that withstands all of them, and
the metric is robust accuracy. Other metrics need the cells.

The file is `MAGIC`, then, compressed by zlib, a line of JSON (what the images and conditions are),
the steps between the images' positions (int32), and the bits, image by image. The JSON beside the
CSV vouches for it by the SHA-256 of what is compressed: another zlib may compress it differently.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.refusal import Refusal
from harness.storage.files import canonical
from harness.storage.rows import AGAIN
from harness.suites.adversarial_metrics import ROBUST_ACCURACY
from harness.suites.metrics import ACCURACY, hits
from harness.suites.radii import GRIDS

if TYPE_CHECKING:
    from harness.suites.base import Measurement  # PyTorch, which reading does not need

MAGIC = b"\x89harness bits\r\n\x1a\n\0"  # no line ends survive a conversion; git sees no text
FORMAT = 1
SUFFIX = ".bits"
LARGEST = 2**30  # bytes of a file that was made to fill the memory
ROUNDED = 1e-6  # a table has six decimals
# What of a cell's description its images follow from; models are compared where these are equal.
SEEN = ("data", "suite", "version", "condition", "level", "constants", "seed")
OF_CELL = ("condition", "level", "constants")

Where = tuple[str, float]  # condition and level


@dataclass(frozen=True)
class Packed:
    """The hits of a run.

    Args:
        hits: (n,) booleans of each condition and level.
        seen: What its images follow from, `SEEN`, of each.
        positions: (n,) of the images in the data set.
    """

    hits: Mapping[Where, np.ndarray]
    seen: Mapping[Where, dict[str, Any]]
    positions: np.ndarray


class Packing:
    """The hits of a run's cells, which are given one by one: their arrays are not kept."""

    def __init__(self) -> None:
        self._cells = dict[int, tuple[dict[str, Any], str, np.ndarray]]()
        self._positions = dict[str, np.ndarray]()

    def add(
        self,
        place: int,
        description: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        measurements: "Iterable[Measurement]",
    ) -> None:
        """Take the hits of a cell.

        Args:
            place: Of the cell in the suite.
            measurements: Its rows of the table; if its hits have another mean than its accuracy
                there, it is left out.
        """
        where = description["condition"], float(description["level"])
        found, value = _hits(arrays, metric_of_hits(where)), math.nan
        for m in measurements:
            if (m.metric, m.variant) == (metric_of_hits(where), "") and (
                (m.condition, m.level) == where
            ):
                value = m.value
        if found is None or not abs(found.mean() - value) <= ROUNDED:
            return
        positions = arrays["indices"].astype(np.int64)
        images = hashlib.sha256(positions.tobytes()).hexdigest()
        self._positions.setdefault(images, positions)
        seen = {name: description[name] for name in SEEN}
        self._cells[place] = seen, images, np.packbits(found)

    def content(self) -> bytes:
        """Return the file of the hits, uncompressed; empty where no cell has any.

        A cell that is of other images than the first is left out.
        """
        rows: list[np.ndarray] = []
        described: list[dict[str, Any]] = []
        first, shared = "", dict[str, Any]()
        for _, (description, images, packed) in sorted(self._cells.items()):
            seen = {name: description[name] for name in OF_CELL}
            common = {name: description[name] for name in SEEN if name not in OF_CELL}
            if not rows:
                first, shared = images, common
            if (common, images) == (shared, first):
                rows.append(packed)
                described.append(seen)
        if not rows:
            return b""
        positions = self._positions[first]
        header = {"format": FORMAT, "images": len(positions), "of": shared, "cells": described}
        steps = np.diff(positions, prepend=0).astype("<i4").tobytes()
        found = np.unpackbits(np.stack(rows), axis=1, count=len(positions))
        bits = np.packbits(found.T, axis=1).tobytes()
        return canonical(header).encode() + b"\n" + steps + bits


def metric_of_hits(where: Where) -> str:
    """Return the metric that the hits of a condition are of."""
    return (ROBUST_ACCURACY if where[0] in GRIDS else ACCURACY).name


def _hits(arrays: Mapping[str, np.ndarray], metric: str) -> np.ndarray | None:
    """The hits of a cell; None where it has none for every image."""
    labels = arrays["labels"]
    stored = arrays.get(metric)
    if stored is not None and stored.shape == labels.shape:
        return stored.astype(bool) if bool(np.isin(stored, (0, 1)).all()) else None
    return hits(arrays["logits"], labels) if "logits" in arrays and len(labels) else None


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content, uncompressed."""
    return hashlib.sha256(content).hexdigest()


def compress(content: bytes) -> bytes:
    """Return the file of a content."""
    return MAGIC + zlib.compress(content, 9)


def unpack(path: Path, expected: str) -> Packed:
    """Return the hits in a file.

    Args:
        expected: SHA-256 of its content, as the JSON beside it says.

    Raises:
        Refusal: It is not what was written.
    """
    content = _content(path.read_bytes())
    if content is None or digest(content) != expected:
        raise Refusal(
            f"{path} is not what its JSON vouches for: it was edited, cut off, or is of another "
            f"run. {AGAIN}"
        )
    try:
        return _parse(content, path)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        raise Refusal(f"{path} does not hold what `harness run` writes. {AGAIN}") from None


def _parse(content: bytes, path: Path) -> Packed:
    """The hits in a file's content; any error where `Packing.content` did not make it."""
    line, _, body = content.partition(b"\n")
    header = json.loads(line)
    if header["format"] != FORMAT:
        raise Refusal(
            f"{path} has format {header['format']!a}; this version reads format {FORMAT}. {AGAIN}"
        )
    n, cells = header["images"], header["cells"]
    if len(body) != n * (4 + math.ceil(len(cells) / 8)):
        raise ValueError(len(body))
    steps = np.frombuffer(body[: 4 * n], "<i4")
    bits = np.frombuffer(body[4 * n :], np.uint8).reshape(n, -1)
    columns = np.unpackbits(bits, axis=1, count=len(cells)).astype(bool).T
    wheres = [(cell["condition"], float(cell["level"])) for cell in cells]
    return Packed(
        dict(zip(wheres, columns, strict=True)),
        dict(zip(wheres, ({**header["of"], **cell} for cell in cells), strict=True)),
        np.cumsum(steps, dtype=np.int64),
    )


def is_sound(path: Path, expected: str) -> bool:
    """Return whether a file is there, and its content has this SHA-256."""
    content = _content(path.read_bytes()) if path.is_file() else None
    return content is not None and digest(content) == expected


def _content(raw: bytes) -> bytes | None:
    """What a file holds, uncompressed; None if it is no such file."""
    engine = zlib.decompressobj()
    if not raw.startswith(MAGIC):
        return None
    try:
        content = engine.decompress(raw[len(MAGIC) :], LARGEST)
    except zlib.error:
        return None
    return content if engine.eof and not engine.unused_data else None
