"""The files of a data set, fetched or made again, into the data folder."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

from torch import Tensor

from harness.refusal import Refusal, user_input
from harness.running.archives import SILENCE_S, Archive, install
from harness.suites.datasets import fetch, load
from harness.suites.published import OF_DATASET, REPEATABLE, SOURCES, TABLES, files_in
from harness.suites.published import regenerate as make_again

# Bytes and MD5 of the archives, as Zenodo lists them at `SOURCES`.
ARCHIVES = {
    "CIFAR-10-C": (2_918_471_680, "56bf5dcef84df0e2308c6dcbcbbd8499"),
    "CIFAR-100-C": (2_918_473_216, "11f0ed0f1191edbf9fa23466ae6021d3"),
}


def fetch_files(
    name: str, root: Path, regenerate: bool, tell: Callable[[str], None]
) -> Iterator[str]:
    """Bring the files of a data set into the data folder, and verify them.

    Args:
        name: A data set, "cifar10_c" or "cifar100_c".
        root: The data folder.
        regenerate: Make those files of cifar10_c that draw nothing from the test set, in place of
            downloading all.
        tell: Called with a line for each file as it is made.

    Yields:
        A line for each part that is there.

    Raises:
        Refusal: There is no such data set, or its files cannot be fetched or are not the
            published ones.
    """
    if name in ("cifar10_c", "cifar100_c"):
        with user_input():
            yield from map(str, _fetch_corrupted(name, root, regenerate, tell))
        return
    if regenerate:
        raise Refusal(f"`--regenerate` is for cifar10_c and cifar100_c, not for `{name}`.")
    there = root.exists()
    with user_input():
        try:
            with _given_up_in_time():
                fetch(name, root)
        except (OSError, RuntimeError, HTTPException) as error:
            if not there:
                with contextlib.suppress(OSError):  # something lies in it
                    root.rmdir()
            raise Refusal(
                f"The files of `{name}` cannot be fetched: {error}. Fetch them on another machine, "
                f"and copy them to {root}."
            ) from None
        for half, which in ((True, "training"), (False, "test")):
            split = load(name, train=half, root=root)
            yield f"{name}: {len(split)} {which} images of {split.image_size} pixels"


@contextlib.contextmanager
def _given_up_in_time() -> Iterator[None]:
    """Let no server keep torchvision waiting, which sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _fetch_corrupted(
    name: str, root: Path, regenerate: bool, tell: Callable[[str], None]
) -> list[Path]:
    """The files of CIFAR-10-C or CIFAR-100-C, each verified by its published MD5."""
    dataset = name.removesuffix("_c")
    title = OF_DATASET[dataset]
    files = files_in(title, root)
    if regenerate:
        split = load(dataset, train=False, root=root)
        assert isinstance(split.images, Tensor)
        paths = make_again(
            files.folder, split.images, split.labels, REPEATABLE, TABLES[title], tell
        )
        files_in(title, root).verify(REPEATABLE)
        return paths
    if not all(files.path(n).is_file() for n in TABLES[title]):
        address = f"{SOURCES[title]}/files/{title}.tar"
        try:
            install(Archive(title, address, *ARCHIVES[title], TABLES[title]), root)
        except OSError as error:
            raise Refusal(
                f"{title}.tar cannot be fetched: {error}. Fetch {address} on another machine and "
                f"copy it to {root}, or make the {len(REPEATABLE)} files that draw nothing with "
                f"`harness data {name} --regenerate`."
            ) from None
        files = files_in(title, root)
    files.verify([n for n in TABLES[title] if n != "labels"])
    return [files.path(n) for n in TABLES[title]]
