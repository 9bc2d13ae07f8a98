"""A results folder without weights and cells, as one file or folder to hand on.

The same files give the same bytes: they are in the order of their names, and times, owners and
modes are left out. Of a file from elsewhere only regular files with the names of results are
unpacked, into a temporary folder.
"""

import contextlib
import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.contents import PACKED, files_of, list_contents
from harness.storage.files import list_folder, refuse_published, write_bytes
from harness.storage.results import read_run
from harness.storage.temporary import temporary_folder

SUFFIX = ".tar.xz"
OTHERS = (".tar", ".tgz", ".gz", ".bz2", ".zip", ".xz", ".zst")
MEMBERS = 1_000_000
LARGEST = 200_000_000  # bytes of one file
MOST = 4_000_000_000  # bytes of all


def pack(results: Path, to: Path) -> int:
    """Write runs, histories of trainings, answers and leaderboard to a file or folder.

    Returns:
        The number of files in it.

    Raises:
        Refusal: There are no runs, one is damaged, or `to` holds something else.
    """
    refuse_published(to)
    contents = list_contents(results)
    if not contents.runs:
        raise Refusal(f"There are no runs in {results}. Name a folder that holds some.")
    found = contents.histories | contents.answers | contents.boards
    for path in contents.runs.values():
        read_run(path)
        found |= {file.relative_to(results).as_posix(): file for file in files_of(path)}
    found = {name: path for name, path in sorted(found.items()) if PACKED.fullmatch(name)}
    if to.name.endswith(SUFFIX):
        if to.is_dir():
            raise Refusal(f"{to} is a folder. Give the name of a file.")
        write_bytes(to, _archive(found))
        return len(found)
    if to.suffix in OTHERS:
        raise Refusal(f"{to} is no {SUFFIX}. Give a name that ends so, or that of a folder.")
    _check_folder(to, found)
    for name, path in found.items():
        write_bytes(to / name, path.read_bytes())
    return len(found)


def _archive(found: dict[str, Path]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", format=tarfile.PAX_FORMAT, preset=6) as tar:
        for name, path in found.items():
            raw, member = path.read_bytes(), tarfile.TarInfo(name)
            member.size, member.mode = len(raw), 0o644
            tar.addfile(member, io.BytesIO(raw))
    return content.getvalue()


def _check_folder(to: Path, found: dict[str, Path]) -> None:
    """Refuse a folder that holds something else, which would seem to be of the pack."""
    if to.is_file():
        raise Refusal(f"{to} is a file. Give the name of a folder, or one that ends in {SUFFIX}.")
    there = [path for path in to.rglob("*") if path.is_file()] if list_folder(to) else []
    others = [path for path in there if path.relative_to(to).as_posix() not in found]
    if others:
        raise Refusal(f"{to} holds something else, such as {others[0]}. Choose another folder.")


@contextlib.contextmanager
def unpacked(file: Path, beside: Path) -> Iterator[Path]:
    """Give a folder with what a pack holds, which is removed in the end.

    Args:
        beside: Where the folder is made.

    Raises:
        Refusal: It is no pack; nothing stays.
    """
    with temporary_folder(beside, "unpacked") as folder:
        try:
            with tarfile.open(file, "r:xz") as tar:
                _unpack(tar, folder / "results")
        except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
            raise Refusal(
                f"{file} is no pack of results: {error}. Nothing was taken of it. Make it again "
                "with `harness pack`."
            ) from None
        yield folder / "results"


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    folder.mkdir()
    names, size = set[str](), 0
    for member in tar:
        size += member.size
        if not member.isreg() or member.issparse():
            raise tarfile.TarError(f"`{member.name!a}` is no regular file")
        if not PACKED.fullmatch(member.name):
            raise tarfile.TarError(f"`{member.name!a}` is no file of results")
        if member.name in names:
            raise tarfile.TarError(f"`{member.name}` is there twice")
        if not 0 <= member.size <= LARGEST or size > MOST or len(names) >= MEMBERS:
            raise tarfile.TarError(f"it is too large at `{member.name}`")
        names.add(member.name)
        tar.extract(member, folder, set_attrs=False, filter="data")
    # What follows the last member is read as well, so that the checksums behind it are compared.
    while block := tar.fileobj.read(1 << 20) if tar.fileobj else b"":
        size += len(block)
        if size > MOST:
            raise tarfile.TarError("it is too large behind its last file")
