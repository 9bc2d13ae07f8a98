"""An archive of published files, which is nobody's until it is verified.

It is downloaded into a temporary folder, of no more bytes than were published; it is opened only if
its MD5 is the published one; of its members only regular files of expected names and sizes are
unpacked, into the temporary folder; and they get their names when the MD5 of each is the published
one. Whatever fails, the temporary folder is removed, and nothing else was written.
"""

import contextlib
import hashlib
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.temporary import temporary_folder

SILENCE_S = 60.0  # after which a server that sends nothing is given up
MEMBERS = 1_000  # that are looked at; the published archives have about twenty
LARGEST = 200_000_000  # bytes of one file; the published ones have 153,600,128 at most
BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A tar of published files NAME/FILE.npy.

    Args:
        name: Name of the archive less ".tar", and of the folder in it.
        address: Where it is published.
        size: Its bytes.
        md5: Its MD5.
        files: MD5 of each file in it, by its name without ".npy".
    """

    name: str
    address: str
    size: int
    md5: str
    files: Mapping[str, str]


def install(archive: Archive, root: Path) -> None:
    """Put the files of an archive into root/NAME; root/NAME.tar is used if it is there.

    Raises:
        OSError: It cannot be had from here, or cannot be written.
        Refusal: It is not the published archive; nothing was unpacked.
    """
    with temporary_folder(root, archive.name) as temporary:
        path = root / f"{archive.name}.tar"
        if path.is_file():
            _check_archive(archive, path)
        else:
            path = temporary / path.name
            _download(archive, path)
        unpacked = temporary / "unpacked"
        with _refused(archive):
            _unpack(archive, path, unpacked)
            for name, md5 in archive.files.items():
                if (found := _md5(_member(archive, unpacked, name))) != md5:
                    raise tarfile.TarError(f"{name}.npy has MD5 {found}, not {md5}")
        (root / archive.name).mkdir(exist_ok=True)
        for name in archive.files:
            _member(archive, unpacked, name).replace(_member(archive, root, name))


def _member(archive: Archive, folder: Path, name: str) -> Path:
    return folder / archive.name / f"{name}.npy"


def _download(archive: Archive, path: Path) -> None:
    """Download an archive, no more than its bytes, and verify it."""
    request = urllib.request.Request(archive.address, headers={"User-Agent": "harness"})
    digest, count = hashlib.md5(usedforsecurity=False), 0
    try:
        with urllib.request.urlopen(request, timeout=SILENCE_S) as answer, path.open("xb") as file:
            while count <= archive.size and (block := answer.read(BLOCK)):
                file.write(block)
                digest.update(block)
                count += len(block)
    except HTTPException as error:
        raise OSError(f"{type(error).__name__} {error}") from None
    if count != archive.size:
        sent = f"{count:,}" if count < archive.size else f"more than {archive.size:,}"
        raise OSError(f"{sent} bytes came, not {archive.size:,}")
    if digest.hexdigest() != archive.md5:
        raise OSError(f"what came has MD5 {digest.hexdigest()}, not {archive.md5}")


def _check_archive(archive: Archive, path: Path) -> None:
    size = path.stat().st_size
    found = "" if size != archive.size else _md5(path)
    if found != archive.md5:
        what = (
            f"MD5 {found}, not {archive.md5}" if found else f"{size:,} bytes, not {archive.size:,}"
        )
        raise Refusal(
            f"{path} has {what}: it is cut off, damaged or not the published archive. Nothing was "
            f"unpacked. Remove it, or copy it again from {archive.address}."
        )


@contextlib.contextmanager
def _refused(archive: Archive) -> Iterator[None]:
    """Turn what tarfile says of a tar that is none, or not this one, into a refusal."""
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise Refusal(
            f"{archive.name}.tar is not the published archive: {error}. Nothing was unpacked. Get "
            f"it again from {archive.address}."
        ) from None


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    """Unpack the expected files of a tar that is not compressed."""
    wanted = {f"{archive.name}/{name}.npy" for name in archive.files}
    with tarfile.open(path, "r:") as tar:
        for count, member in enumerate(tar, 1):
            name = member.name.removeprefix("./")
            if count > MEMBERS:
                raise tarfile.TarError(f"it has more than {MEMBERS:,} members")
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise tarfile.TarError(f"`{name}` is no regular file")
            if member.name.startswith("/") or ".." in Path(member.name).parts:
                raise tarfile.TarError(f"`{name}` lies outside")
            if member.isdir() or name not in wanted:
                continue  # not written
            if not 0 <= member.size <= LARGEST:
                raise tarfile.TarError(f"`{name}` has {member.size:,} bytes")
            wanted.remove(name)  # a second of that name is not written
            member.name = name
            tar.extract(member, folder, set_attrs=False, filter="data")
    if wanted:
        raise tarfile.TarError(f"`{min(wanted)}` is missing")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
