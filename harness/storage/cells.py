"""Per-image answers, stored under the hash of all that determines them.

A cell is what was observed of one model under one condition. Its key hashes everything that can
change its arrays (weights, model, data, suite and version, condition, level, seed, constants,
dtype, limit) and nothing else, not batch size, device or order. A cell is written once, whole, and
never changed; deleting one costs its computation and nothing more.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.storage.arrays import Damaged, read_arrays, write_arrays
from harness.storage.files import Unwritable, canonical, list_folder

LOG = logging.getLogger(__name__)
KEY = re.compile("[0-9a-f]{64}")
TOUCHED_S = 6 * 3600.0  # after which a cell that is taken is marked as taken now
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Description:
    """All that can change a cell's arrays.

    Args:
        weights: SHA-256 of the state; `settings` a digest of what else a model of a user holds.
        model: Its name; `code` a digest of the source code that it stands on.
        arguments: Of its builder.
        data: Fingerprint of the images and labels.
        limit: How many of the images were taken; 0 for all.
        suite_code: A digest of the source code of the suite.
        dtype: Of the arithmetic.
        seed: Of the draws on images.
        batch: Images that are seen together by a model whose answers depend on it; 0 for others.
        protocol: Version of how any suite is asked, `running.evaluate.PROTOCOL`.
        draws: Training seed, where each has draws of its own; None for others, and then not said.
    """

    weights: str
    settings: str
    model: str
    code: str
    arguments: Mapping[str, int]
    data: str
    limit: int
    suite: str
    version: int
    suite_code: str
    condition: str
    level: float
    constants: Mapping[str, str]
    seed: int
    dtype: str
    batch: int
    protocol: int
    draws: int | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What is stored of it beside the arrays."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def key(self) -> str:
        """Return the name of the cell: 64 hexadecimal digits."""
        return hashlib.sha256(canonical(self.said).encode()).hexdigest()


class CellStore:
    """Cells in a folder, `<2>/<key>` each; any number of processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return where a cell lies.

        Raises:
            ValueError: This is no key; one from a file that was tampered with may be a path.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!a} is no cell's key. Run it again.")
        return self.root / key[:2] / key

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def keys(self) -> set[str]:
        """Return the keys of all cells, and of what is remembered of them."""
        found = set[str]()
        for folder in list_folder(self.root):
            with contextlib.suppress(OSError):  # no folder, or none that can be read
                found.update(filter(KEY.fullmatch, os.listdir(folder)))
        return found

    def read(self, key: str) -> dict[str, np.ndarray] | None:
        """Return the arrays of a cell, or None where there is none; set a damaged one aside."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            arrays = self._read(key)[0]
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > TOUCHED_S:
                    os.utime(path)  # `harness clean` leaves what a run took lately
            return arrays
        except Damaged as error:
            try:
                path.replace(path.with_name(path.name + ".damaged"))
                LOG.warning("%s It is set aside as .damaged and measured again.", error)
            except OSError as why:
                LOG.warning("%s It is measured again, left as it is: %s.", error, why.strerror)
            return None

    def _read(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, description = read_arrays(self.path(key))
        if hashlib.sha256(canonical(description).encode()).hexdigest() != key:
            raise Damaged(f"{self.path(key)} is another cell than its name says.")
        if not _fit(arrays):
            raise Damaged(f"{self.path(key)} holds arrays that do not go together.")
        return arrays, description

    def look(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays of a cell and its description, None where there is no sound one.

        Nothing is changed, so that it can be another person's folder.
        """
        if key not in self:
            return None
        try:
            return self._read(key)
        except Damaged as error:
            LOG.warning("%s It is left out.", error)
            return None

    def write(self, description: Description, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the arrays of one cell; a folder that is only read goes without, which is said.

        Raises:
            Unwritable: It can be written to, but not now: the disk is full, or fails.
        """
        try:
            write_arrays(self.path(description.key), arrays, description.said)
        except Unwritable as error:
            if error.errno not in READ_ONLY:
                raise
            LOG.warning("%s It is in the table alone.", error)


def _fit(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether all arrays are of the same images, and labels classes of logits.

    A stranger's checksum vouches for anything.
    """
    labels, positions, logits = (arrays.get(k) for k in ("labels", "indices", "logits"))
    if labels is None or positions is None:
        return False
    if any(a.shape[:1] != labels.shape[:1] or not a.ndim for a in arrays.values()):
        return False
    if any(a.dtype.kind not in "iu" or a.ndim != 1 for a in (labels, positions)):
        return False
    if logits is None or not labels.size:
        return True
    known = logits.dtype.kind == "f" and logits.ndim == 2 and labels.min() >= 0
    return bool(known and labels.max() < logits.shape[1])
