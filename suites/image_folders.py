"""A user's folder of images: which files are of which half and class.

    FOLDER/CLASS/...                    every fifth file of a class, by name, is a test image
    FOLDER/train/CLASS/...              the same, of FOLDER/train, where there is no other half
    FOLDER/train/..., FOLDER/test/...   two halves; val, valid and validation stand for test

What starts with a dot is hidden, and left out.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HALVES = (("train", "training"), ("test", "testing", "val", "valid", "validation"))
ENDINGS = tuple(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "avif", "heic", "heif"),
        *("bmp", "dib", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "pfm", "tga", "jp2", "j2k"),
        *("jpx", "jxl", "ico", "pcx", "dds", "dcm", "svg"),
    )
)
NOT_IMAGES = ("__MACOSX", "@eaDir")  # folders that systems put there
EVERY = 5  # images of which one is a test image, where there are no halves

Files = dict[str, list[Path]]  # by class
Signature = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder of images.

    Args:
        train, test: Files with their labels, in the order of classes and names.
        halves: Whether it has halves; else every fifth file is one of `test`.
        signature: What changes when a file does.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    halves: bool
    signature: Signature

    @property
    def whole(self) -> tuple[tuple[Path, int], ...]:
        """All files, in the order of classes and names."""
        return tuple(sorted(self.train + self.test, key=lambda sample: (sample[1], sample[0])))


def list_images(folder: Path) -> ImageFolder:
    """Return the files of a folder of images, by half and class; nothing is read of them.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no folders of images.
        ValueError: Its halves or classes are not such that models can be evaluated on them.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}. Write `--dataset imagefolder:PATH` with the path of a "
            "folder that holds one folder for each class."
        )
    train, test = _halves(folder)
    if train is not None and test is not None:
        first, second = _files(train), _files(test, some_empty=True)
        other = sorted(second.keys() - first.keys())
        if other:
            raise ValueError(
                f"{train} and {test} hold different classes: only the second has {_some(other)}. "
                "Give their folders the same names."
            )
    elif test is not None:
        first, second = {}, _files(test)
    else:
        first, second = _split(train or folder)
    classes = tuple(first or second)
    train_set, test_set = (
        tuple((path, k) for k, name in enumerate(classes) for path in files.get(name, ()))
        for files in (first, second)
    )
    signature = _sign([path for path, _ in train_set + test_set])
    return ImageFolder(folder, classes, train_set, test_set, test is not None, signature)


def list_unlabeled(folder: Path) -> ImageFolder:
    """Return the files of a folder whose labels do not count: all below it, if it has no classes.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
    """
    try:
        return list_images(folder)
    except (FileNotFoundError, ValueError):
        paths = _images(folder) if folder.is_dir() else []
        if not paths:
            raise
    return ImageFolder(folder, ("",), (), tuple((path, 0) for path in paths), True, _sign(paths))


def _halves(folder: Path) -> tuple[Path | None, Path | None]:
    """The folders of the training and the test half: those that hold folders of classes."""
    named = [
        [p for name in names for p in _folders(folder) if p.name.casefold() == name]
        for names in HALVES
    ]
    train, test = (
        next((p for p in paths if any(map(_images, _folders(p)))), None) for paths in named
    )
    if (train is None) != (test is None):
        for path in named[0] if train is None else named[1]:
            if _images(path):  # the other half, whose labels nobody knows
                raise ValueError(_unlabeled(path))
    return train, test


def _split(folder: Path) -> tuple[Files, Files]:
    """Every fifth file of each class is a test image."""
    names = [path.name for path in _folders(folder)]
    halves = [name for name in names if name.casefold() in HALVES[0] + HALVES[1]]
    if len(halves) > 1 or (halves and len(names) < 3):  # else `train` may be a class of vehicles
        raise ValueError(_unlabeled(folder / halves[0]))
    files = _files(folder)
    few = next((name for name, paths in files.items() if len(paths) < EVERY), None)
    if few is not None:
        raise ValueError(
            f"The class `{few}` in {folder} has {len(files[few])} images. One of {EVERY} becomes a "
            f"test image: add some, or make the halves {folder / 'train'} and {folder / 'test'}."
        )
    test = {name: paths[EVERY - 1 :: EVERY] for name, paths in files.items()}
    return {name: [p for p in files[name] if p not in test[name]] for name in files}, test


def _unlabeled(path: Path) -> str:
    return (
        f"{path} holds images, but no folders of them, one for each class. Put each image into a "
        "folder named as its class, or give `imagefolder:` the one folder that has classes."
    )


def _files(folder: Path, some_empty: bool = False) -> Files:
    """The images of each class; a class without any is refused, unless `some_empty`."""
    found = {path.name: _images(path) for path in _folders(folder)}
    if not any(found.values()):
        raise FileNotFoundError(
            f"{folder} holds no folders of images, one for each class. Give the folder that does."
        )
    empty = [name for name, files in found.items() if not files]
    if empty and not some_empty:
        raise ValueError(
            f"{folder} has no images of {_some(empty)}, so that no model can know what that is. "
            "Put some there, or move such folders elsewhere."
        )
    if len(found) == 1 and not some_empty:
        raise ValueError(
            f"{folder} holds one folder of images, {_some(list(found))}, and so a single class. "
            "Give a folder that holds a folder for each of two or more classes."
        )
    return found


def _images(folder: Path) -> list[Path]:
    """The files of images in a folder and those below, by folder and name."""
    found = []
    for place, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        inner[:] = [
            name
            for name in inner
            if _is_shown(name) and not real.startswith(os.path.realpath(Path(place, name)) + os.sep)
        ]
        found.append((place, sorted(filter(_is_image, names))))
    return [Path(place, name) for place, names in sorted(found) for name in names]


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be opened: {error.strerror}.") from None


def _is_image(name: str) -> bool:
    return _is_shown(name) and name.lower().endswith(ENDINGS)


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in NOT_IMAGES


def _folders(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if _is_shown(p.name) and p.is_dir()]
    if all(p.name.isascii() and p.name.isdigit() for p in found):
        return sorted(found, key=lambda p: (int(p.name), p.name))
    return sorted(found)


def _sign(paths: Sequence[Path]) -> Signature:
    """Name, size, times and place on the disk of each file."""
    stats = [(path, path.stat() if path.exists() else path.lstat()) for path in paths]
    return tuple(
        (str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in stats
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more
