import errno
import glob
import os
import pickle
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.refusal import Refusal, failing_machine
from harness.storage import checkpoints, locks
from harness.storage.arrays import Damaged, digest, read_arrays, read_description, write_arrays
from harness.storage.cells import CellStore, Description
from harness.storage.files import (
    PART,
    PUBLISHED,
    Unwritable,
    list_folder,
    publishing,
    remove_if_dead,
    safe,
    write_bytes,
)
from harness.storage.locks import alone

ARRAYS: dict[str, np.ndarray] = {
    "b": np.arange(3),
    "a": np.random.default_rng(0).random((2, 2)).astype(np.float16),
    "c": np.array(True),
    "strided": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
}
STATE = {"b": torch.arange(3), "a": torch.rand(2, 2).bfloat16(), "c": torch.tensor(True)}


def description(**changes: Any) -> Description:
    values: dict[str, Any] = dict(  # noqa: C408  a cell as the program describes it
        weights="w", settings="s", model="m", code="c", arguments={"width": 8}, data="d", limit=0,
        suite="s", version=1, suite_code="c", condition="fog", level=3, constants={}, seed=0,
        dtype="float32", batch=0, protocol=1, draws=0,
    )  # fmt: skip
    return Description(**(values | changes))


def answers(value: float) -> dict[str, np.ndarray]:
    logits = np.full((2, 3), float(value))
    return {"logits": logits, "labels": np.array([0, 2]), "indices": np.arange(2)}


def test_arrays_come_back_with_their_description(tmp_path: Path) -> None:
    write_arrays(tmp_path / "f", ARRAYS, {"what": "x"})
    arrays, described = read_arrays(tmp_path / "f")
    assert described == {"what": "x"} and arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert np.array_equal(arrays[name], values) and arrays[name].dtype == values.dtype


def test_weights_come_back_with_their_description(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "f", STATE, {"what": "x"})
    state, described = checkpoints.read(tmp_path / "f")
    assert described == {"what": "x"} and state.keys() == STATE.keys()
    assert all(torch.equal(state[k], v) and state[k].dtype == v.dtype for k, v in STATE.items())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    ways: list[Any] = [(write_arrays, ARRAYS), (checkpoints.write, STATE)]
    for write, content in ways:
        write(tmp_path / "1", content, {"x": 1, "y": 2})
        write(tmp_path / "2", dict(reversed(content.items())), {"y": 2, "x": 1})
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_every_byte_is_under_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_arrays(path, {"a": np.arange(4, dtype=np.uint8)}, {"x": 1})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            arrays, described = read_arrays(path)
        except Damaged:
            continue
        # A flipped bit outside of the content (a space of padding) must not change it.
        assert arrays["a"].tolist() == [0, 1, 2, 3] and described == {"x": 1}, i
    path.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match="is not a safetensors file, or is damaged"):
        read_arrays(path)


@pytest.mark.parametrize(
    "change",
    [{"seed": "0"}, {"recipe": 3.5}, {"recipe": {}}, {"code": []}, {"arguments": {"width": "8"}}],
)
def test_weights_that_say_what_was_never_written_are_refused(tmp_path: Path, change: Any) -> None:
    said = {"model": "m", "dataset": "d", "seed": 0, "arguments": {}, "recipe": {"epochs": 1}}
    checkpoints.write(tmp_path / "w", STATE, said)
    assert checkpoints.read(tmp_path / "w")[1] == said
    checkpoints.write(tmp_path / "w", STATE, said | change)
    with pytest.raises(Refusal, match="says of its training what `harness train` never writes"):
        checkpoints.read(tmp_path / "w")


def test_damaged_weights_are_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "seed0.safetensors"
    checkpoints.write(path, STATE, {"what": "x"})
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(Refusal, match=r"does not match its checksum\. Move it elsewhere, and"):
        checkpoints.read(path)
    with pytest.raises(Refusal, match=r"There are no weights at .*seed1\.safetensors"):
        checkpoints.read(tmp_path / "seed1.safetensors")


def test_a_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("<html>404</html>")
    with pytest.raises(Damaged, match="is not a safetensors file, or is damaged"):
        read_description(tmp_path / "f")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    write_bytes(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "f", "no bytes")
    assert (tmp_path / "f").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_digest_sees_names_types_shapes_and_values() -> None:
    base = digest({"a": np.zeros(4)})
    assert base == digest({"a": np.zeros(4)})
    others = [
        {"b": np.zeros(4)},
        {"a": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2))},
        {"a": np.array([0.0, 0, 0, -0.0])},
    ]
    assert base not in {digest(o) for o in others}


def test_arrays_and_tensors_of_one_content_have_one_digest() -> None:
    state = {"a": torch.rand(3, 2), "n": torch.arange(4), "mask": torch.tensor([True, False])}
    arrays = {name: values.numpy() for name, values in state.items()}
    assert digest(arrays, {"x": 1}) == checkpoints.digest(state, {"x": 1})


@pytest.mark.parametrize("field", Description.__dataclass_fields__)
def test_a_key_depends_on_every_field(field: str) -> None:
    value = getattr(description(), field)
    other = {"k": "v"} if isinstance(value, dict) else value + (1 if value != str(value) else "x")
    assert description(**{field: other}).key != description().key
    assert "draws" not in description(draws=None).said


def test_a_cell_is_found_again(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    assert store.read(description().key) is None and description().key not in store
    store.write(description(), answers(1))
    found = store.read(description().key)
    assert found is not None and np.array_equal(found["logits"], np.ones((2, 3)))
    assert store.path(description().key) == tmp_path / description().key[:2] / description().key


def test_a_damaged_cell_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, key = CellStore(tmp_path), description().key
    store.write(description(), answers(1))
    path = store.path(key)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert store.read(key) is None and not path.exists()
    assert path.with_name(key + ".damaged").exists()
    assert "does not match its checksum. It is set aside as .damaged" in caplog.text


def test_a_store_that_is_only_read_is_measured_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = CellStore(tmp_path), description().key
    store.write(description(), answers(1))
    path = store.path(key)
    path.write_bytes(damaged := path.read_bytes()[:-1] + b"\x07")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", refuse)
    assert store.read(key) is None
    assert "It is measured again, left as it is: Permission denied." in caplog.text
    store.write(description(), answers(0))
    assert "cannot be written: Permission denied" in caplog.text
    assert "It is in the table alone." in caplog.text
    assert [f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()] == [damaged]


def test_a_full_disk_is_no_store_that_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unwritable, match="No space left on device. Make room") as refused:
        CellStore(tmp_path).write(description(), answers(1))
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]
    again = pickle.loads(pickle.dumps(refused.value))  # as it comes from a worker
    assert (again.errno, str(again)) == (errno.ENOSPC, str(refused.value))


WRITER = """
import os, sys, time
from pathlib import Path
from harness.storage import files
real = os.fsync
def wait(file):
    real(file)
    print("writing", flush=True)
    sys.stdin.readline()
os.fsync = wait
files.write_bytes(Path(sys.argv[1]), b"theirs")
"""


def start_writing(path: Path) -> subprocess.Popen[bytes]:
    program = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None and program.stdout.readline()
    return program


def parts(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{glob.escape(path.name)}.*{PART}"))


def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "f[1].csv"
    dead = start_writing(path)
    dead.kill()
    dead.communicate()
    assert len(parts(path)) == 1 and not path.exists()
    living = start_writing(path)  # which sweeps
    (part,) = parts(path)
    write_bytes(path, b"mine")
    assert parts(path) == [part] and path.read_bytes() == b"mine"
    assert not remove_if_dead(part)
    living.communicate(b"\n")
    assert living.returncode == 0 and path.read_bytes() == b"theirs" and parts(path) == []


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_mode_that_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "f", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def test_one_process_at_a_time_passes_a_lock(tmp_path: Path) -> None:
    path, order = tmp_path / "below/.seed0.lock", list[str]()
    with alone(path, lambda: None):
        thread = threading.Thread(target=lambda: enter(path, order))
        thread.start()
        while "waits" not in order:
            time.sleep(0.01)
        order.append("first leaves")
    thread.join()
    assert order == ["waits", "first leaves", "second enters"] and not list(tmp_path.iterdir())


def test_a_lock_leaves_what_was_made_in_its_folder(tmp_path: Path) -> None:
    with alone(tmp_path / "a/b/.lock", lambda: None):
        (tmp_path / "a/f").touch()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/f"]


def enter(path: Path, order: list[str]) -> None:
    with alone(path, lambda: order.append("waits")):
        order.append("second enters")


def test_a_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".seed0.lock"
    path.touch()
    with alone(path, lambda: pytest.fail("nobody is in there")):
        pass
    assert not path.exists()


def test_without_locks_everybody_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with alone(tmp_path / "lock", lambda: None), alone(tmp_path / "lock", lambda: None):
        write_bytes(tmp_path / "f", b"x")
    with alone(Path("/proc/nothing/lock"), lambda: None):  # a folder that cannot be made
        pass


@pytest.mark.parametrize(
    "error, sentence",
    [
        (OSError(errno.ENOSPC, "", "/r/f"), "/r/f: No space left on device. Make room, and run"),
        (OSError(errno.EMFILE, "", "/r/f"), "/r/f: Too many open files. Let a process open more"),
        (OSError(errno.EIO, ""), "Input/output error. Check the disk, and run the same command"),
        (MemoryError(), "The memory is full. Free some, or raise `ulimit -v`"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "The memory is"),
        (RuntimeError("can't start new thread"), "The memory is full."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "The memory is"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "The memory is"),
        (OSError(errno.EISDIR, "", "/r/f"), ""),
        (RuntimeError("shapes differ"), ""),
    ],
)
def test_what_the_machine_cannot_do_is_a_sentence(error: BaseException, sentence: str) -> None:
    assert failing_machine(error)[: len(sentence) or 9] == sentence


@pytest.mark.parametrize(
    "change",
    [
        {"indices": None},
        {"labels": None},
        {"labels": np.array([0, 3])},
        {"labels": np.array([0, -1])},
        {"labels": np.array([0.0, 1.0])},
        {"labels": np.array([[0], [1]])},
        {"indices": np.arange(3)},
        {"logits": np.ones(2)},
        {"logits": np.ones((2, 3), int)},
        {"nfe": np.ones(3)},
        {"nfe": np.float64(1)},
    ],
)
def test_a_cell_whose_arrays_do_not_go_together_is_damaged(change: dict, tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    whole = answers(1) | {"nfe": np.ones(2)}
    store.write(description(), whole)
    assert store.look(description().key) is not None
    changed = {k: v for k, v in (whole | change).items() if v is not None}
    store.write(description(), changed)  # with a checksum that is right
    assert store.look(description().key) is None and store.read(description().key) is None


def test_a_key_that_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no cell's key"):
        CellStore(tmp_path).path("../../etc/passwd")


@pytest.mark.parametrize("name", ["pde_aug", "resnet18.a1", "wrn-28-10", "_x", "A", "x" * 80])
def test_a_plain_name_is_its_own_word(name: str) -> None:
    assert safe(name) == name


@pytest.mark.parametrize(
    "name, word",
    [
        ("timm/hf-hub:owner/name", "timm-hf-hub-owner-name"),
        ("imagefolder:/my data", "imagefolder-my-data"),
        ("模型", "name"),
        ("", "name"),
        ("...", "name"),
        ("../..", "name"),
        (".hidden", "hidden"),
        ("ends.", "ends"),
        ("-option", "option"),
        ("aux.h", "aux.h"),
        ("Checkpoints", "Checkpoints"),
        ("two\nlines\n", "two-lines"),
        ("n" * 300, "n" * 70),
        ("\udc80", "name"),
        ("net-0123abcd", "net-0123abcd"),
    ],
)
def test_a_changed_name_is_told_apart_by_its_hash(name: str, word: str) -> None:
    assert re.fullmatch(re.escape(word) + "-[0-9a-f]{8}", safe(name)) and len(safe(name)) < 81


def test_two_names_never_share_a_word() -> None:
    random = np.random.default_rng(0)
    letters = np.array(list("ab/ .-_:é\n"))
    drawn = {"".join(random.choice(letters, random.integers(6))) for _ in range(3000)}
    names = drawn | {safe(name) for name in drawn} | {"n" * 100, "n" * 101, "é", "e\u0301"}
    assert len({safe(name).lower() for name in names}) == len(names)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Published results of one file."""
    folder = tmp_path / "results" / "published"
    folder.mkdir(parents=True)
    for name in (PUBLISHED, "f"):
        (folder / name).write_text("old")
    return folder


@pytest.mark.parametrize("name", ["f", "new", "d/s/m/seed0.csv", "d/../f", PUBLISHED])
def test_published_results_are_not_written(published: Path, name: str) -> None:
    with pytest.raises(Refusal, match="lies in published results, .*, which are only read. Choose"):
        write_bytes(published / name, b"new")
    assert {p.name: p.read_text() for p in published.iterdir()} == {PUBLISHED: "old", "f": "old"}


def test_published_results_are_not_written_by_a_link(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, elsewhere = published.parent, published.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (results / "mine").symlink_to(published)
    (published / "out").symlink_to(elsewhere)
    (results / "f").symlink_to(published / "f")
    monkeypatch.chdir(published)
    for path in (results / "mine" / "f", published / "out" / "f", Path("f"), Path("d/f")):
        with pytest.raises(Refusal, match="lies in published results"):
            write_bytes(path, b"new")
    write_bytes(results / "f", b"new")  # the link is replaced, not what it leads to
    assert (published / "f").read_text() == "old" and not list(elsewhere.iterdir())
    assert (results / "f").read_text() == "new"


def test_published_results_are_written_where_that_is_meant(published: Path) -> None:
    with publishing(published):
        write_bytes(published / "f", b"new")
    assert (published / "f").read_text() == "new"
    with publishing(published.parent), pytest.raises(Refusal, match="lies in published results"):
        write_bytes(published / "f", b"newer")
    with pytest.raises(Refusal, match="lies in published results"):
        write_bytes(published / "f", b"newer")


def test_a_folder_is_listed_in_order_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).write_text("")
    assert [path.name for path in list_folder(tmp_path)] == ["a", "b"]
    assert list_folder(tmp_path / "absent") == list_folder(tmp_path / "a") == []

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)  # as for all but root
    with pytest.raises(Refusal, match="cannot be read: Permission denied. What is in it would be"):
        list_folder(tmp_path)
