"""Files of Fashion-MNIST that are not the published ones are believed by nobody."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets import utils

from harness.running.fetch import fetch_files
from harness.suites import fashion_mnist
from harness.suites.datasets import load


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Small files in place of the published ones; torchvision downloads their archives."""
    random = np.random.default_rng(0)
    files = {}
    for half, count in (("train", 6), ("t10k", 4)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
        files[f"{half}-images-idx3-ubyte"] = header + images.tobytes()
        labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(range(count))
        files[f"{half}-labels-idx1-ubyte"] = labels
    archives = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}

    def send(url: str, filename: str | Path, chunk_size: int = 0) -> None:
        Path(filename).write_bytes(archives[Path(filename).name])

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(utils, "_urlretrieve", send)
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", md5s)
    return files


def fetch(root: Path) -> list[str]:
    return list(fetch_files("fashion_mnist", root, False, print))


def test_the_published_files_are_read(tmp_path: Path, published: dict[str, bytes]) -> None:
    assert fetch(tmp_path) == [
        "fashion_mnist: 6 training images of 32 pixels",
        "fashion_mnist: 4 test images of 32 pixels",
    ]
    split = load("fashion_mnist", train=False, root=tmp_path)
    images = np.frombuffer(published["t10k-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 28, 28)
    assert torch.equal(split.images[:, 1, 2:30, 2:30], torch.from_numpy(images.copy()))
    assert split.images[:, :, :2].max() == 0 and split.labels.tolist() == [0, 1, 2, 3]
    assert split.classes[9] == "Ankle boot"


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_changed_file_is_refused_and_fetched_again(
    tmp_path: Path, published: dict[str, bytes], name: str
) -> None:
    fetch(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="incomplete or damaged. Run `harness data fashion_mnist`"):
        load("fashion_mnist", train=False, root=tmp_path)
    fetch(tmp_path)
    assert path.read_bytes() == published[name]
    path.unlink()
    path.with_name(f"{name}.gz").unlink()
    with pytest.raises(ValueError, match="incomplete or damaged. Run `harness data fashion_mnist`"):
        load("fashion_mnist", train=False, root=tmp_path)


def test_files_of_the_old_form_are_not_read(tmp_path: Path, published: dict[str, bytes]) -> None:
    folder = tmp_path / "FashionMNIST" / "processed"
    folder.mkdir(parents=True)
    forged = (torch.zeros(6, 28, 28, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64))
    for name in ("training.pt", "test.pt"):
        torch.save(forged, folder / name)
    fetch(tmp_path)
    assert load("fashion_mnist", train=True, root=tmp_path).labels.tolist() == list(range(6))


@pytest.mark.parametrize("place", [".", "fashion-mnist"])
def test_debians_archives_are_read_where_they_lie(
    tmp_path: Path, published: dict[str, bytes], place: str
) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for name, content in published.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    folder.chmod(0o500)
    assert fetch(tmp_path / place)[1] == "fashion_mnist: 4 test images of 32 pixels"
    assert load("fashion_mnist", train=True, root=tmp_path).labels.tolist() == list(range(6))
    assert len(list(tmp_path.rglob("*"))) == 5  # nothing was unpacked
    folder.chmod(0o700)


@pytest.mark.parametrize("damage", ["changed", "cut", "endless"])
def test_a_damaged_archive_is_refused(
    tmp_path: Path, published: dict[str, bytes], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "LARGEST", 10_000)
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for name, content in published.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = published[path.stem]
    others = {
        "changed": gzip.compress(content[:-1] + b"\7"),
        "cut": path.read_bytes()[:-9],
        "endless": gzip.compress(content + bytes(10**6)),
    }
    path.write_bytes(others[damage])
    with pytest.raises(ValueError, match="incomplete or damaged"):
        load("fashion_mnist", train=False, root=tmp_path)
