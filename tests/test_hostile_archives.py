"""Archives that are not what was published: nothing is written outside, and nothing stays."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from torchvision.datasets import utils

from harness.refusal import Refusal
from harness.running import archives, fetch
from harness.running.archives import Archive, install
from harness.storage import temporary
from harness.storage.locks import try_lock
from harness.suites import datasets

NAMES = ("fog", "labels")
CONTENT = {}
for _name in NAMES:
    _file = io.BytesIO()
    np.save(_file, np.full((5, 4), len(_name), np.uint8))
    CONTENT[_name] = _file.getvalue()
MD5S = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **how: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in how.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def add_all(tar: tarfile.TarFile) -> None:
    for name, content in CONTENT.items():
        add(tar, f"CIFAR-10-C/{name}.npy", content)


def made(path: Path, fill: Callable[[tarfile.TarFile], object], mode: str = "w") -> Archive:
    """An archive whose size and MD5 are right, whatever is in it."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        fill(tar)
    return described(path)


def described(path: Path) -> Archive:
    content = path.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    return Archive("CIFAR-10-C", path.as_uri(), len(content), md5, MD5S)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data folder in a folder of its own."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    return tmp_path / "home" / "data"


def everything(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def big(tar: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("CIFAR-10-C/fog.npy")
    member.size = 10**9
    tar.fileobj.write(member.tobuf() + bytes(10_240))


def sparse(tar: tarfile.TarFile) -> None:
    """1 GB of nothing, in half a kilobyte."""
    member = tarfile.TarInfo("CIFAR-10-C/fog.npy")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"%011o\0" % 10**9
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tar.fileobj.write(bytes(header))


HOSTILE = {
    "above": (lambda tar: (add_all(tar), add(tar, "../../x", b"x")), "`../../x` lies outside"),
    "above within": (lambda tar: add(tar, "CIFAR-10-C/../../x", b"x"), "lies outside"),
    "absolute": (lambda tar: add(tar, "/tmp/harness-absolute", b"x"), "lies outside"),
    "symbolic link": (
        lambda tar: add(tar, "CIFAR-10-C", type=tarfile.SYMTYPE, linkname="/tmp"),
        "`CIFAR-10-C` is no regular file",
    ),
    "link of a file": (
        lambda tar: add(
            tar, "CIFAR-10-C/fog.npy", type=tarfile.SYMTYPE, linkname="../../../secret"
        ),
        "no regular file",
    ),
    "hard link": (
        lambda tar: add(tar, "CIFAR-10-C/fog.npy", type=tarfile.LNKTYPE, linkname="../../secret"),
        "no regular file",
    ),
    "device": (
        lambda tar: add(tar, "CIFAR-10-C/fog.npy", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "no regular file",
    ),
    "pipe": (lambda tar: add(tar, "CIFAR-10-C/fog.npy", type=tarfile.FIFOTYPE), "no regular file"),
    "sparse": (sparse, "no regular file"),
    "large": (big, "`CIFAR-10-C/fog.npy` has 1,000,000,000 bytes"),
    "twice": (
        lambda tar: (add(tar, "CIFAR-10-C/fog.npy", b"first"), add_all(tar)),
        "fog.npy has MD5 .*, not",
    ),
    "many": (lambda tar: [add(tar, f"n{i}") for i in range(100_000)], "more than 1,000 members"),
    "wrong names": (lambda tar: add(tar, "CIFAR-10-C/mist.npy", b"x"), "fog.npy` is missing"),
    "wrong content": (
        lambda tar: [add(tar, f"CIFAR-10-C/{n}.npy", b"\x93NUMPY evil") for n in NAMES],
        "fog.npy has MD5 .*, not",
    ),
    "empty": (lambda tar: None, "fog.npy` is missing"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_unpacked_is_what_was_published_or_nothing(
    tmp_path: Path, root: Path, name: str
) -> None:
    fill, said = HOSTILE[name]
    (tmp_path / "secret").write_bytes(CONTENT["fog"])
    archive = made(tmp_path / "hostile.tar", fill)
    before = everything(tmp_path)
    with pytest.raises(Refusal, match=said) as refusal:
        install(archive, root)
    assert "Nothing was unpacked." in str(refusal.value)
    assert everything(tmp_path) == before
    assert not Path("/tmp/harness-absolute").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_compressed_archive_is_not_opened(tmp_path: Path, root: Path, mode: str) -> None:
    zeros = io.BytesIO(bytes(1 << 26))

    def fill(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("CIFAR-10-C/fog.npy")
        member.size = 1 << 26
        zeros.seek(0)
        tar.addfile(member, zeros)

    archive = made(tmp_path / "bomb.tar", fill, mode)
    assert archive.size < 1 << 20
    with pytest.raises(Refusal, match="is not the published archive"):
        install(archive, root)
    assert everything(root) == set()


@pytest.mark.parametrize("length", [0, 100, 511, 512, 700, 1300, 2000])
def test_a_tar_that_is_cut_off_leaves_nothing(tmp_path: Path, root: Path, length: int) -> None:
    path = tmp_path / "cut.tar"
    made(path, add_all)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Refusal, match="is not the published archive"):
        install(described(path), root)
    assert everything(root) == set()


def test_the_archive_is_verified_before_it_is_opened(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = made(tmp_path / "good.tar", add_all)
    content = bytearray((tmp_path / "good.tar").read_bytes())
    monkeypatch.setattr(archives.tarfile, "open", lambda *a: pytest.fail("opened"))
    content[600] ^= 1
    for sent, said in (
        (bytes(content), "what came has MD5"),
        (bytes(content[:-1]), f"{good.size - 1:,} bytes came, not {good.size:,}"),
        (bytes(content) * 500, f"more than {good.size:,} bytes came"),
    ):
        (tmp_path / "good.tar").write_bytes(sent)
        with pytest.raises(OSError, match=said):
            install(good, root)
        assert everything(root) == set()
        (root / "CIFAR-10-C.tar").write_bytes(sent)
        with pytest.raises(Refusal, match=r"CIFAR-10-C.tar has (MD5|[\d,]+ b).* Remove it"):
            install(good, root)
        assert everything(root) == {"CIFAR-10-C.tar"}, "a person's own file stays"
        (root / "CIFAR-10-C.tar").unlink()


def test_the_files_of_a_right_archive_get_their_places_and_the_modes_of_others(
    tmp_path: Path, root: Path
) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "./CIFAR-10-C", type=tarfile.DIRTYPE, mode=0o000)
        for name, content in CONTENT.items():
            add(tar, f"./CIFAR-10-C/{name}.npy", content, mode=0o4777)
        add(tar, "CIFAR-10-C/README", b"not asked for")

    archive = made(tmp_path / "right.tar", fill)
    install(archive, root)
    files = {f"CIFAR-10-C/{name}.npy" for name in NAMES}
    assert everything(root) == {"CIFAR-10-C", *files}
    umask = os.umask(0)
    os.umask(umask)
    assert {(root / f).stat().st_mode & 0o7777 for f in files} == {0o666 & ~umask}
    for name in NAMES:  # again, from the archive that somebody copied there
        (root / f"CIFAR-10-C/{name}.npy").unlink()
    (tmp_path / "right.tar").rename(root / "CIFAR-10-C.tar")
    install(archive, root)
    assert everything(root) == {"CIFAR-10-C", "CIFAR-10-C.tar", *files}


def test_what_a_killed_process_left_is_removed_and_not_what_a_living_one_fills(
    tmp_path: Path, root: Path
) -> None:
    archive = made(tmp_path / "right.tar", add_all)
    dead, alive = root / ".CIFAR-10-C.dead.part", root / ".CIFAR-10-C.live.part"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / temporary.ALIVE).touch()
        (folder / "CIFAR-10-C.tar").write_bytes(b"half")
    with (alive / temporary.ALIVE).open("r+b") as file:
        assert try_lock(file.fileno())
        install(archive, root)
    assert not dead.exists() and (alive / "CIFAR-10-C.tar").exists()


def test_a_command_says_one_sentence(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = made(tmp_path / "hostile.tar", HOSTILE["above"][0])
    monkeypatch.setattr(fetch, "ARCHIVES", {"CIFAR-10-C": (archive.size, archive.md5)})
    (root / "CIFAR-10-C.tar").write_bytes((tmp_path / "hostile.tar").read_bytes())
    before = everything(tmp_path)
    with pytest.raises(Refusal, match="lies outside. Nothing was unpacked. Get it again from http"):
        list(fetch.fetch_files("cifar10_c", root, False, print))
    assert everything(tmp_path) == before


def test_a_server_that_is_not_there_is_said_with_the_cure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SOURCES", {"CIFAR-10-C": "http://127.0.0.1:9"})
    with pytest.raises(Refusal, match="cannot be fetched: .* copy it to .* --regenerate`"):
        list(fetch.fetch_files("cifar10_c", root, False, print))
    assert everything(root) == set()


FETCHED = {
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
    "stl10": torchvision.datasets.STL10,
    "svhn": torchvision.datasets.SVHN,
    "fashion_mnist": torchvision.datasets.FashionMNIST,
}


def test_all_that_is_fetched_is_tested_here() -> None:
    assert set(FETCHED) == set(datasets.FETCHED)


@pytest.mark.parametrize("name", FETCHED)
def test_torchvision_verifies_before_it_unpacks(
    tmp_path: Path, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hostile(url: str, filename: str | Path, chunk_size: int = 0) -> None:
        with tarfile.open(filename, "w:gz") as tar:
            add(tar, "../../x", b"x")

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(utils, "_urlretrieve", hostile)
    monkeypatch.setattr(utils, "_extract_tar", lambda *a: pytest.fail("unpacked"))
    monkeypatch.setattr(utils, "_decompress", lambda *a, **k: pytest.fail("unpacked"))
    before = everything(tmp_path)
    for _ in range(2):  # also with what the first attempt left
        with pytest.raises(Refusal, match=f"`{name}` cannot be fetched|are not at|incomplete"):
            list(fetch.fetch_files(name, root, False, print))
    left = everything(tmp_path) - before
    assert all(path.startswith("home/data/") for path in left)
    with pytest.raises((FileNotFoundError, ValueError), match="Run `harness data"):
        datasets.load(name, train=True, root=root)


@pytest.mark.parametrize("name", FETCHED)
def test_a_download_that_was_cut_off_is_no_data_set(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(url: str, filename: str | Path, chunk_size: int = 0) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("cut off")

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(utils, "_urlretrieve", cut)
    for _ in range(2):
        with pytest.raises(Refusal, match=f"`{name}` cannot be fetched"):
            list(fetch.fetch_files(name, root, False, print))
        with pytest.raises((FileNotFoundError, ValueError), match="Run `harness data"):
            datasets.load(name, train=True, root=root)
