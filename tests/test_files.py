from pathlib import Path

import pytest
import torch

from harness.storage.cells import CellStore, Description
from harness.storage.files import (
    Damaged,
    digest,
    read_description,
    read_tensors,
    write_bytes,
    write_tensors,
)

TENSORS = {"b": torch.arange(3), "a": torch.rand(2, 2).bfloat16(), "c": torch.tensor(True)}


def description(**changes) -> Description:
    values = dict(
        weights="w", model="m", source="", arguments={"width": 8}, data="d", limit=0, suite="s",
        version=1, condition="fog", level=3, constants={}, seed=0, dtype="float32",
    )  # fmt: skip
    return Description(**(values | changes))


def test_tensors_come_back_with_their_description(tmp_path: Path) -> None:
    write_tensors(tmp_path / "f", TENSORS, {"what": "x"})
    tensors, described = read_tensors(tmp_path / "f")
    assert described == {"what": "x"}
    assert all(
        torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items()
    )


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "1", TENSORS, {"x": 1, "y": 2})
    write_tensors(tmp_path / "2", dict(reversed(TENSORS.items())), {"y": 2, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_every_byte_is_under_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_tensors(path, {"a": torch.arange(4, dtype=torch.uint8)}, {"x": 1})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            tensors, described = read_tensors(path)
        except Damaged:
            continue
        # A flipped bit outside of the content (a space of padding) must not change it.
        assert tensors["a"].tolist() == [0, 1, 2, 3] and described == {"x": 1}, i
    path.write_bytes(whole[:-1])
    with pytest.raises(Damaged):
        read_tensors(path)


def test_a_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("<html>404</html>")
    with pytest.raises(Damaged, match="is not a safetensors file, or is damaged"):
        read_description(tmp_path / "f")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    write_bytes(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "f", "no bytes")  # type: ignore[arg-type]
    assert (tmp_path / "f").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_digest_sees_names_types_shapes_and_values() -> None:
    base = digest({"a": torch.zeros(4)})
    assert base == digest({"a": torch.zeros(4).clone()})
    others = [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(4).double()},
        {"a": torch.zeros(2, 2)},
        {"a": torch.tensor([0.0, 0, 0, -0.0])},
    ]
    assert base not in {digest(o) for o in others}


@pytest.mark.parametrize("field", Description.__dataclass_fields__)
def test_a_key_depends_on_every_field(field: str) -> None:
    value = getattr(description(), field)
    other = {"k": "v"} if isinstance(value, dict) else value + (1 if value != str(value) else "x")
    assert description(**{field: other}).key != description().key


def test_a_cell_is_found_again(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    assert store.read(description().key) is None
    store.write(description(), {"logits": torch.ones(2, 3)})
    assert torch.equal(store.read(description().key)["logits"], torch.ones(2, 3))
    assert store.path(description().key) == tmp_path / description().key[:2] / description().key


def test_a_damaged_cell_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, key = CellStore(tmp_path), description().key
    store.write(description(), {"logits": torch.ones(2, 3)})
    path = store.path(key)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert store.read(key) is None and not path.exists()
    assert path.with_name(key + ".damaged").exists()
    assert "does not match its checksum. It is set aside as .damaged" in caplog.text
