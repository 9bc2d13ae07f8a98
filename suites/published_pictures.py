"""ImageNet-C, the published folder: the twins of a test set's pictures under every corruption.

    ImageNet-C/KIND/SEVERITY/CLASS/NAME.JPEG     224 x 224, 50,000 in each of 19 x 5 folders

A picture's twin has the name of its folder and its own, less the ending. A kind may lie in the
folder of its tar: blur, digital, extra, noise or weather. Nobody published a digest of each file:
what is verified is that every picture has its twin, and that is all that a name can show.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261; https://zenodo.org/records/2235448,
CC-BY-4.0.
"""

import copy
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.models.registry import unknown
from harness.suites.catalog import FAMILIES, SEVERITIES
from harness.suites.folder_reading import MANY, Watch
from harness.suites.image_files import read_each, read_header
from harness.suites.image_folders import ENDINGS
from harness.suites.published_places import places_of

TITLE = "ImageNet-C"
SOURCE = "https://zenodo.org/records/2235448"
TARS = {"extra" if family == "validation" else family: kinds for family, kinds in FAMILIES.items()}
KINDS = tuple(kind for kinds in TARS.values() for kind in kinds)
IMAGES = frozenset(ending.removeprefix(".") for ending in ENDINGS)
NAMED = 3  # pictures or folders of many


@dataclass(frozen=True)
class Twins:
    """The twins of all test pictures under one corruption at one severity.

    Args:
        folder: That of the severity.
        endings: Of files' names, without the dot; `which` the place of each twin's among them,
            uint8 (N,).
        lacking: Positions of the pictures without a twin, or whose twin is an empty file.
        digest: SHA-256 of names and sizes.
    """

    folder: Path
    endings: tuple[str, ...]
    which: np.ndarray
    lacking: tuple[int, ...]
    digest: str


class PublishedPictures:
    """The published folder for a test set of pictures; nothing is read before it is asked for.

    Args:
        root: The data folder, in which it lies.
        files: The clean pictures, by index.
        read: `(path)` to uint8 (S, S, 3), framed as the clean pictures are.
        watch: Called where many folders' names are to be read.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        read: Callable[[Path], np.ndarray],
        watch: Watch | None = None,
    ) -> None:
        self._root, self._files, self._read, self._watch = root, files, read, watch
        self._found: dict[tuple[str, int], Twins] = {}

    def verify(self, kinds: Sequence[str]) -> None:
        """Refuse the folder unless every test picture has its twin under these corruptions.

        Raises:
            LookupError: There is no such corruption.
            FileNotFoundError: Corruptions or twins are missing.
            ValueError: Two files are the twins of one picture, or two pictures have one twin.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise unknown("published corruption", kind, KINDS)
        missing = [kind for kind in kinds if kind not in self.folders]
        if missing:
            raise FileNotFoundError(self._without(missing))
        first, lacking, checked = list[str](), 0, 0
        self._list_all(kinds)
        for kind in kinds:
            for severity in SEVERITIES:
                twins = self.twins(kind, severity)
                if len(twins.lacking) == len(self._files):
                    raise FileNotFoundError(self._without_any(twins.folder))
                lacking, checked = lacking + len(twins.lacking), checked + len(self._files)
                for i in twins.lacking[: NAMED - len(first)]:
                    name = f"{self._files[i].parent.name}/{self._files[i].stem}"
                    first.append(f"{kind}/{severity}/{name}")
        if lacking:
            more = f" and {lacking - len(first):,} more" if lacking > len(first) else ""
            raise FileNotFoundError(
                f"{lacking:,} of {checked:,} pictures of {TITLE} are missing or empty in "
                f"{self._place}: {', '.join(first)}{more}. Unpack "
                f"{_tars(name.partition('/')[0] for name in first)} of {SOURCE} there again."
            )

    def read_by(self, read: Callable[[Path], np.ndarray]) -> "PublishedPictures":
        """Return the same pictures, framed otherwise; folders that were listed are not again."""
        other = copy.copy(self)
        other._read = read
        return other

    def digest(self, kind: str, severity: int) -> str:
        """Return the SHA-256 of the names and sizes of the twins, by index."""
        return self.twins(kind, severity).digest

    def images(self, kind: str, severity: int, indices: Tensor) -> Tensor:
        """Return uint8 (N, 3, S, S) of the twins of the pictures at `indices`, read just now.

        Raises:
            Unreadable: A file is no image that can be read.
        """
        twins = self.twins(kind, severity)
        paths = [self._twin(twins, i) for i in indices.tolist()]
        pictures = np.stack(read_each(paths, self._read))
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().to(indices.device)

    @cached_property
    def side(self) -> int:
        """The side of the published pictures in pixels, by the first that was listed."""
        return read_header(self._twin(next(iter(self._found.values())), 0)).side

    @cached_property
    def folders(self) -> Mapping[str, Path]:
        """The folder of each corruption that is there."""
        places = places_of(TITLE, self._root, lambda name: name.casefold() in TARS)
        found = {k: next((p for p in places if (p / k).is_dir()), None) for k in KINDS}
        return {kind: place / kind for kind, place in found.items() if place is not None}

    @property
    def _place(self) -> Path:
        """Where the corruptions lie, or the folders of their tars."""
        place = next(iter(self.folders.values())).parent
        return place.parent if place.name.casefold() in TARS else place

    def twins(self, kind: str, severity: int) -> Twins:
        """Return the twins under a corruption that is there; the folder is listed once."""
        key = kind, severity
        if key not in self._found:
            self._found[key] = self._list(self.folders[kind] / str(severity))
        return self._found[key]

    def _list_all(self, kinds: Sequence[str]) -> None:
        """List the folders of these corruptions that are not listed yet; a person sees how far."""
        wanted = [(kind, severity) for kind in kinds for severity in SEVERITIES]
        wanted = [key for key in wanted if key not in self._found]
        long = self._watch and wanted and len(self._files) > MANY
        with self._watch(len(wanted)) if self._watch and long else nullcontext() as task:
            for key in wanted:
                self.twins(*key)
                if task is not None:
                    task.advance(1)

    @cached_property
    def _classes(self) -> dict[str, dict[str, int]]:
        """Positions of the test pictures by folder and name less its ending."""
        found: dict[str, dict[str, int]] = {}
        for i, path in enumerate(self._files):
            other = found.setdefault(path.parent.name, {}).setdefault(path.stem, i)
            if other != i:
                raise ValueError(
                    f"{self._files[other]} and {path} have one name, so that both would be "
                    f"compared with one picture of {TITLE}. Remove or rename one."
                )
        return found

    def _list(self, folder: Path) -> Twins:
        endings, digest, lacking = dict[str, int](), hashlib.sha256(), list[int]()
        which = np.zeros(len(self._files), np.uint8)
        for name, positions in self._classes.items():
            found = _sizes(folder / name, positions)
            lines = []
            for stem, i in positions.items():
                ending, size = found.get(stem, ("", 0))
                which[i] = endings.setdefault(ending, len(endings))
                lines.append(f"{name}/{stem}.{ending} {size}\n")
                if not size:
                    lacking.append(i)
            digest.update("".join(lines).encode(errors="surrogateescape"))
        return Twins(folder, tuple(endings), which, tuple(sorted(lacking)), digest.hexdigest())

    def _twin(self, twins: Twins, i: int) -> Path:
        path = self._files[i]
        return twins.folder / path.parent.name / f"{path.stem}.{twins.endings[twins.which[i]]}"

    def _without(self, missing: Sequence[str]) -> str:
        """What is said where corruptions are missing."""
        if not self.folders:
            return (
                f"There is no {TITLE} in {self._root}. Unpack {_tars(missing)} of {SOURCE} in "
                f"{self._root / TITLE}, or set `HARNESS_DATA` or `--data` to the folder that "
                f"{TITLE} lies in."
            )
        return (
            f"{self._place} lacks {', '.join(missing)} of {TITLE}. Unpack {_tars(missing)} of "
            f"{SOURCE} there, or ask for those that are there, "
            f"`{' '.join(f'--corruption {kind}' for kind in self.folders)}`."
        )

    def _without_any(self, folder: Path) -> str:
        """What is said where no test picture has a twin in a folder."""
        own, theirs = list(self._classes), _names(folder)
        if not theirs:
            tar = _tars([folder.parent.name])
            return f"{folder} is not there, or empty. Unpack {tar} of {SOURCE} again."
        if set(own).isdisjoint(theirs):
            return (
                f"{folder} has the classes {_some(theirs)}, and the test pictures have "
                f"{_some(own)}. Give their folders the same names."
            )
        first = self._files[0]
        return (
            f"{folder} has no picture that is called as a test picture, such as "
            f"{first.parent.name}/{first.stem}. Give the validation images that it was made from."
        )


def _sizes(folder: Path, wanted: Collection[str]) -> dict[str, tuple[str, int]]:
    """Ending and size in bytes of the pictures of these names; none where there is no folder."""
    found: dict[str, tuple[str, int]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, _, ending = entry.name.rpartition(".")
                if stem not in wanted or ending.lower() not in IMAGES:
                    continue
                if stem in found:
                    raise ValueError(
                        f"{folder} has two pictures called {stem}, and it is not known which is of "
                        f"{TITLE}. Remove one."
                    )
                found[stem] = ending, entry.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be opened: {error.strerror}.") from None
    return found


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:NAMED]) + more


def _tars(kinds: Iterable[str]) -> str:
    """The archives that hold these corruptions."""
    wanted = set(kinds)
    return ", ".join(f"{tar}.tar" for tar, own in TARS.items() if not wanted.isdisjoint(own))
