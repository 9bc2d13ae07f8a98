"""Hits of every image, packed beside a run's table."""

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis.collect import collect_samples
from harness.analysis.outcomes import StoredOutcomes
from harness.cli import app
from harness.refusal import Refusal
from harness.storage import packed_outcomes, results
from harness.storage.cells import CellStore
from harness.storage.json_files import read_json
from harness.storage.packed_outcomes import MAGIC, Packing, compress, digest, is_sound, unpack
from harness.storage.published import publish
from harness.suites.base import Cell
from harness.suites.metrics import ACCURACY

Answer = Callable[..., Path]  # writes a run
Cells = list[tuple[dict[str, Any], dict[str, np.ndarray]]]


def cells_of(path: Path) -> Cells:
    """The cells of a run, described."""
    store = CellStore(results.cells_root(path.parents[3]))
    found = [store.look(key) for key in results.read_run(path)[1]["cells"].values()]
    return [(description, arrays) for arrays, description in filter(None, found)]


def pack(cells: Cells, rows: list) -> bytes:
    hits = Packing()
    for i, (description, arrays) in enumerate(cells):
        hits.add(i, description, arrays, rows)
    return hits.content()


def rows_of(cells: Cells) -> list:
    return [
        Cell(d["condition"], d["level"]).row(ACCURACY, ACCURACY(a["logits"], a["labels"]), 1)
        for d, a in cells
    ]


def test_hits_are_those_of_the_cells_to_the_bit(answered: Answer, tmp_path: Path) -> None:
    path = answered(tmp_path, "m", n=203)  # no multiple of 8
    cells, packed = cells_of(path), path.with_suffix(".bits")
    found = unpack(packed, read_json(path.with_suffix(".json"), "")["bits"])
    assert len(found.hits) == len(cells) == 16
    for description, arrays in cells:
        where = description["condition"], float(description["level"])
        right = arrays["logits"].argmax(axis=1) == arrays["labels"]
        np.testing.assert_array_equal(found.hits[where], right)
        assert found.seen[where] == {k: description[k] for k in packed_outcomes.SEEN}
    np.testing.assert_array_equal(found.positions, arrays["indices"])
    assert found.positions.dtype == arrays["indices"].dtype


def test_samples_of_bits_are_those_of_cells(answered: Answer, tmp_path: Path) -> None:
    for seed in range(3):
        answered(tmp_path, "m", seed)
    table = results.read(tmp_path)
    whole = collect_samples(table, StoredOutcomes(tmp_path), keep=True)
    shutil.rmtree(tmp_path / "cells")
    alone = collect_samples(table, StoredOutcomes(tmp_path), keep=True)
    for key, sample in whole.items():
        if key.metric == "accuracy":
            for name in ("value", "low", "high", "basis", "on", "v_seed", "v_rest", "seed_names"):
                assert getattr(alone[key], name) == getattr(sample, name), (key, name)
            np.testing.assert_array_equal(alone[key].outcomes, sample.outcomes)
        elif key.metric == "nll":
            assert alone[key].images is None and sample.images is not None


@pytest.mark.parametrize("n, kinds, most", [(355, 7, 1700), (10_000, 7, 45_000)])
def test_a_run_takes_less_than_a_bit_an_image_and_condition(
    answered: Answer, tmp_path: Path, n: int, kinds: int, most: int
) -> None:
    random = np.random.default_rng(0)
    hard = random.random(n)
    made = []
    for i in range(1 + 5 * kinds):
        logits = np.zeros((n, 2))
        logits[:, 0] = 0.6 * hard + 0.4 * random.random(n) < 0.7 - 0.05 * (i % 5)
        logits[:, 1] = 0.5
        arrays = {"logits": logits, "labels": np.zeros(n, int), "indices": np.arange(n)}
        description = dict.fromkeys(packed_outcomes.SEEN, "") | {"condition": f"c{i}", "level": 1}
        made.append((description, arrays))
    size = len(compress(pack(made, rows_of(made))))
    print(f"{n} images, {len(made)} conditions: {size} bytes")
    assert size < most


def test_what_has_no_hit_for_every_image_is_left_out(answered: Answer, tmp_path: Path) -> None:
    path = answered(tmp_path, "m")
    cells = cells_of(path)
    whole, rows = pack(cells, rows_of(cells)), rows_of(cells)
    assert pack([], []) == b"" == pack(cells, [])
    other = [rows[0], replace(rows[1], value=0.123), *rows[2:]]  # measured otherwise
    for made in (pack(cells, other), pack(cells, [rows[0], *rows[2:]])):
        assert made and len(json.loads(made.partition(b"\n")[0])["cells"]) == len(cells) - 1
    half = {k: v[::2] for k, v in cells[1][1].items()}  # of other images
    fewer = [cells[0], (cells[1][0], half), *cells[2:]]
    made = pack(fewer, rows_of(fewer))
    assert len(json.loads(made.partition(b"\n")[0])["cells"]) == len(cells) - 1
    assert pack(cells, rows) == whole


def test_cells_may_be_measured_in_any_order(answered: Answer, tmp_path: Path) -> None:
    cells = cells_of(answered(tmp_path, "m", n=203))
    half = {k: v[::2] for k, v in cells[0][1].items()}  # the first says whose images count
    for made in (cells, [(cells[0][0], half), *cells[1:]]):
        rows, hits = rows_of(made), Packing()
        for i in reversed(range(len(made))):
            hits.add(i, *made[i], rows)
        assert hits.content() == pack(made, rows)


def test_a_subset_keeps_its_positions(tmp_path: Path) -> None:
    indices = np.arange(20) * 355 // 20
    arrays = {"logits": np.eye(20), "labels": np.arange(20), "indices": indices}
    description = dict.fromkeys(packed_outcomes.SEEN, "") | {"condition": "clean", "level": 0}
    content = pack([(description, arrays)], rows_of([(description, arrays)]))
    path = tmp_path / "x.bits"
    path.write_bytes(compress(content))
    np.testing.assert_array_equal(unpack(path, digest(content)).positions, indices)


def test_what_was_not_written_is_refused(answered: Answer, tmp_path: Path) -> None:
    path = answered(tmp_path, "m").with_suffix(".bits")
    raw, expected = path.read_bytes(), read_json(path.with_suffix(".json"), "")["bits"]
    content = zlib.decompress(raw[len(MAGIC) :])
    assert is_sound(path, expected) and not is_sound(path.with_name("gone"), expected)
    # Another compression of the same is the same; git must not take it for text.
    path.write_bytes(MAGIC + zlib.compress(content, 1))
    assert unpack(path, expected).hits and b"\0" in MAGIC and b"\r\n" in MAGIC
    for other in (
        b"", raw[:-1], raw + b"\n", raw.replace(b"\r\n", b"\n", 1), raw[:40] + b"\0" + raw[41:],
        compress(content[:-1] + bytes([content[-1] ^ 1])),
    ):  # fmt: skip
        path.write_bytes(other)
        assert not is_sound(path, expected)
        with pytest.raises(Refusal, match="is not what its JSON vouches for: it was edited, cut"):
            unpack(path, expected)
    newer = content.replace(b'"format":1', b'"format":2', 1)
    path.write_bytes(compress(newer))
    with pytest.raises(Refusal, match="has format 2; this version reads format 1. Run it again"):
        unpack(path, digest(newer))
    # A stranger may vouch for anything.
    for other in (b"", b"[]", b"{" * 9, content.replace(b'"images":', b'"images":9'), content[:-1]):
        path.write_bytes(compress(other))
        with pytest.raises(Refusal, match="does not hold what `harness run` writes. Run it again"):
            unpack(path, digest(other))


def test_a_run_that_is_done_gets_its_hits_and_keeps_the_rest(
    answered: Answer, tmp_path: Path
) -> None:
    """As runs of an older version have none."""
    path = answered(tmp_path, "m", bits=False)
    table, before = path.read_bytes(), read_json(path.with_suffix(".json"), "")
    assert "bits" not in before and not path.with_suffix(".bits").exists()
    said = [
        CliRunner().invoke(app, ["table", "--rescore", "--results", str(tmp_path)]).output
        for _ in range(2)
    ]
    assert "is made again" in " ".join(said[0].split()) and "1 tables are what" in said[1]
    after = read_json(path.with_suffix(".json"), "")
    assert path.read_bytes() == table and is_sound(path.with_suffix(".bits"), after.pop("bits"))
    assert after == before
    answered(tmp_path, "m", bits=False)
    assert not path.with_suffix(".bits").exists()


def test_hits_are_published_with_their_runs(answered: Answer, tmp_path: Path) -> None:
    for seed in range(2):
        answered(tmp_path / "mine", "m", seed)
    publish(tmp_path / "mine", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.bits"))) == 2
    samples = collect_samples(results.read(tmp_path / "out"), StoredOutcomes(tmp_path / "out"))
    assert {s.basis for k, s in samples.items() if k.metric == "accuracy"} == {"images"}
    next((tmp_path / "out").rglob("*.bits")).unlink()
    with pytest.raises(Refusal, match="seed0.bits is not there"):
        results.read(tmp_path / "out")
