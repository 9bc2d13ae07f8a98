import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.suites import cifar10_c
from harness.suites.base import Setting
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions import corrupt
from harness.suites.published import (
    CIFAR_10_C,
    REPEATABLE,
    TABLES,
    Published,
    files_in,
    files_of,
    regenerate,
)

ROWS = 12  # of each severity, in files of the published layout
NAMES = ("fog", "contrast")


@pytest.fixture
def small(tmp_path: Path) -> Published:
    """Two corruptions and the labels, in the layout of the published files."""
    random = np.random.default_rng(0)
    arrays = {n: random.integers(0, 256, (5 * ROWS, 32, 32, 3), dtype=np.uint8) for n in NAMES}
    arrays["labels"] = np.tile(np.arange(ROWS, dtype=np.uint8), 5)
    table = {}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        table[name] = hashlib.md5((tmp_path / f"{name}.npy").read_bytes()).hexdigest()
    return Published(tmp_path, table, rows=ROWS)


def test_the_tables_have_the_nineteen_and_the_labels(tmp_path: Path) -> None:
    for name, table in TABLES.items():
        assert set(table) == set(CORRUPTIONS) | {"labels"}
        assert files_of(name, tmp_path) == Published(tmp_path, table, name)
    assert len({md5 for table in TABLES.values() for md5 in table.values()}) == 40
    assert set(REPEATABLE) < set(CIFAR_10_C)
    with pytest.raises(LookupError, match="called `cifar10c`. Did you mean|There are: CIFAR-10-C"):
        files_of("cifar10c", tmp_path)


def test_rows_are_those_of_the_severity_and_the_index(small: Published) -> None:
    small.verify(NAMES)
    data = np.load(small.path("fog"))
    indices = torch.tensor([11, 0, 5])
    y = small.images("fog", 3, indices)
    assert y.dtype == torch.uint8 and y.is_contiguous()
    for row, index in zip(y, indices.tolist(), strict=True):
        np.testing.assert_array_equal(row.permute(1, 2, 0).numpy(), data[2 * ROWS + index])


def test_a_file_of_the_same_size_time_and_inode_is_not_believed(small: Published) -> None:
    small.verify(NAMES)
    path = small.path("fog")
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[500] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    now = path.stat()
    assert now.st_size == stat.st_size and now.st_ino == stat.st_ino
    assert now.st_mtime_ns == stat.st_mtime_ns
    with pytest.raises(ValueError, match="fog.npy has MD5 .* it is damaged, or not of CIFAR-10-C"):
        small.verify(NAMES)
    assert not list(small.folder.glob("*.json")), "nothing is remembered"


def test_an_incomplete_folder_is_refused_with_the_cure(small: Published) -> None:
    small.path("contrast").unlink()
    small.verify(["fog"])
    with pytest.raises(FileNotFoundError, match="lacks contrast.npy .*Unpack CIFAR-10-C.tar"):
        small.verify(NAMES)
    with pytest.raises(LookupError, match="no published corruption called `fogg`. Did you mean"):
        small.verify(["fogg"])


def test_a_folder_within_a_folder_is_read_as_its_tar_makes_it(small: Published) -> None:
    inner = small.folder / "CIFAR-10-C"
    expected = small.images("fog", 3, torch.arange(4))
    inner.mkdir()
    for name in ("labels", *NAMES):
        small.path(name).rename(inner / f"{name}.npy")
    small.verify(NAMES)
    assert small.path("fog") == inner / "fog.npy" and len(small.labels) == ROWS
    assert torch.equal(small.images("fog", 3, torch.arange(4)), expected)
    small.path("fog").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="CIFAR-10-C/fog.npy has MD5 .* Unpack it again from CIF"):
        small.verify(NAMES)


@pytest.fixture
def named(small: Published, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the same files, which are now those of CIFAR-10-C."""
    kept = small.folder.parent / f"{small.folder.name}-files"
    kept.mkdir()
    for path in small.folder.glob("*.npy"):
        path.rename(kept / path.name)
    monkeypatch.setitem(TABLES, "CIFAR-10-C", dict(small.table))
    return kept


@pytest.mark.parametrize(
    "place",
    [
        *("CIFAR-10-C", "cifar-10-c", "cifar10c", "CIFAR_10_C", "."),
        *("CIFAR-10-C/CIFAR-10-C", "cifar10c/CIFAR-10-C", "CIFAR-10-C/unpacked", "robustness"),
        *("robustness/CIFAR-10-C", "robustness/CIFAR-10-C/CIFAR-10-C"),
    ],
)
def test_the_files_are_found_where_people_have_them(
    named: Path, tmp_path: Path, place: str
) -> None:
    root = tmp_path / "data"
    (root / place).mkdir(parents=True)
    for other in ("cifar-10-batches-py", "CIFAR-100-C", "photos/cat"):
        (root / other).mkdir(parents=True)
    (root / "CIFAR-100-C/fog.npy").write_bytes(b"of another data set")
    for path in named.iterdir():
        path.rename(root / place / path.name)
    files = files_in("CIFAR-10-C", root)
    files.verify(NAMES)
    assert files.path("fog").samefile(root / place / "fog.npy")


def test_files_may_lie_in_several_folders(named: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name, place in (("fog", "cifar10c"), ("contrast", "CIFAR-10-C"), ("labels", ".")):
        (root / place).mkdir(parents=True, exist_ok=True)
        (named / f"{name}.npy").rename(root / place / f"{name}.npy")
    files_in("CIFAR-10-C", root).verify(NAMES)


def test_some_kinds_do_alone_and_are_named_where_all_are_asked_for(
    named: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data/cifar10c"
    root.mkdir(parents=True)
    for name in ("fog", "labels"):
        (named / f"{name}.npy").rename(root / f"{name}.npy")
    files_in("CIFAR-10-C", root.parent).verify(["fog"])
    with pytest.raises(FileNotFoundError) as raised:
        files_in("CIFAR-10-C", root.parent).verify(NAMES)
    text = str(raised.value)
    assert f"{root} lacks contrast.npy of CIFAR-10-C. Unpack CIFAR-10-C.tar of" in text
    assert f"in {root.parent}, or ask for those that are there, `--corruption fog`; `harn" in text
    assert "`harness data cifar10_c --regenerate` makes contrast from the test set." in text
    (root / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match="lacks labels.npy .* makes labels from the test"):
        files_in("CIFAR-10-C", root.parent).verify(["fog"])


def test_nothing_at_all_is_a_shorter_sentence(tmp_path: Path) -> None:
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError) as raised:
            files_in("CIFAR-100-C", root).verify(["fog", "snow", "contrast"])
        text = str(raised.value)
        assert f"There is no file of CIFAR-100-C in {root}. Unpack CIFAR-100-C.tar of" in text
        assert "`harness data cifar100_c --regenerate` makes labels, contrast from" in text


def test_another_test_set_is_refused_with_its_files(named: Path) -> None:
    files_in("CIFAR-10-C", named, torch.arange(ROWS)).verify(NAMES)
    with pytest.raises(ValueError, match="labels are not those of"):
        files_in("CIFAR-10-C", named, torch.arange(ROWS).flip(0)).verify(NAMES)


def test_rows_that_are_not_there_are_refused(small: Published) -> None:
    with pytest.raises(ValueError, match="test images 0..11; got indices 3..12"):
        small.images("fog", 1, torch.tensor([3, 12]))
    with pytest.raises(ValueError, match="`severity` must be"):
        small.images("fog", 6, torch.tensor([3]))
    with pytest.raises(LookupError, match="no published corruption called `snow`"):
        small.images("snow", 1, torch.tensor([3]))


def test_labels_in_another_order_are_refused(small: Published) -> None:
    small.check_labels(torch.arange(ROWS))
    small.check_labels(torch.arange(5))
    with pytest.raises(ValueError, match="labels are not those of"):
        small.check_labels(torch.arange(ROWS).flip(0))


def test_the_suite_reads_what_its_cells_say(small: Published) -> None:
    suite = cifar10_c.cifar10_c()
    setting = Setting(32, 10, tuple(NAMES), published=lambda: small)
    cells = suite.cells(setting)
    assert suite.variant(setting) == "-c", "never under the name of the clean data set"
    assert [(c.condition, c.level) for c in cells] == [("clean", 0)] + [
        (name, severity) for name in NAMES for severity in range(1, 6)
    ]
    indices = torch.tensor([2, 7])
    clean = torch.zeros((2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(cells[0].prepare(clean, indices, 0), clean)
    for cell in cells[1:]:
        expected = small.images(cell.condition, int(cell.level), indices)
        assert torch.equal(cell.prepare(clean, indices, 0), expected)
        assert cell.constants == {"published": small.table[cell.condition], "list": "fog contrast"}


def test_the_suite_refuses_a_folder_before_any_work(small: Published) -> None:
    small.path("fog").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="fog.npy has MD5"):
        cifar10_c.published_cells(small, NAMES)


def test_data_sets_without_published_files_are_refused() -> None:
    with pytest.raises(ValueError, match="published for `cifar10` and `cifar100` alone"):
        cifar10_c.cifar10_c().cells(Setting(32, 10))


def npy(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return hashlib.md5(file.getvalue()).hexdigest()


def test_files_are_made_again_only_with_the_right_bytes(tmp_path: Path, pictures: Tensor) -> None:
    labels = torch.arange(len(pictures))
    y = [corrupt(pictures, "contrast", s, exact=True).permute(0, 2, 3, 1) for s in range(1, 6)]
    table = {
        "contrast": npy(torch.cat(y).numpy()),
        "labels": npy(np.tile(labels.numpy().astype(np.uint8), 5)),
        "pixelate": "0" * 32,
    }
    folder = tmp_path / "CIFAR-10-C"
    told: list[str] = []
    paths = regenerate(folder, pictures, labels, ["contrast"], table, told.append)
    assert [p.name for p in paths] == told == ["labels.npy", "contrast.npy"]
    Published(folder, table, rows=len(pictures)).verify(["contrast"])
    before = os.stat(paths[1]).st_mtime_ns
    regenerate(folder, pictures, labels, ["contrast"], table, told.append)
    assert os.stat(paths[1]).st_mtime_ns == before and len(told) == 2
    with pytest.raises(ValueError, match="pixelate.npy came out with MD5 .* official test images"):
        regenerate(folder, pictures, labels, ["pixelate"], table)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["contrast.npy", "labels.npy"]


def test_what_was_drawn_cannot_be_made_again(tmp_path: Path, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="`fog` was published without its random draws"):
        regenerate(tmp_path, pictures, torch.arange(12), ["fog"])
    with pytest.raises(LookupError, match="no corruption called `contrasts`. Did you mean"):
        regenerate(tmp_path, pictures, torch.arange(12), ["contrasts"])
