import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.refusal import Refusal
from harness.storage import checkpoints
from harness.storage.arrays import Damaged, digest, read_arrays, read_description, write_arrays
from harness.storage.cells import CellStore, Description
from harness.storage.files import PUBLISHED, list_folder, publishing, safe, write_bytes

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
        dtype="float32", batch=0, protocol=1,
    )  # fmt: skip
    return Description(**(values | changes))


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


def test_damaged_weights_are_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "seed0.safetensors"
    checkpoints.write(path, STATE, {"recipe": "fast"})
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


def test_a_cell_is_found_again(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    assert store.read(description().key) is None and description().key not in store
    store.write(description(), {"logits": np.ones((2, 3))})
    found = store.read(description().key)
    assert found is not None and np.array_equal(found["logits"], np.ones((2, 3)))
    assert store.path(description().key) == tmp_path / description().key[:2] / description().key


def test_a_damaged_cell_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, key = CellStore(tmp_path), description().key
    store.write(description(), {"logits": np.ones((2, 3))})
    path = store.path(key)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert store.read(key) is None and not path.exists()
    assert path.with_name(key + ".damaged").exists()
    assert "does not match its checksum. It is set aside as .damaged" in caplog.text


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
