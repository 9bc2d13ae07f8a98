"""Pictures that are none, or worse: named and counted in a sentence, and no program is started."""

import io
import os
import struct
import subprocess
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from typer.testing import CliRunner

from harness.cli import app
from harness.models.preprocessing import Framing
from harness.suites.datasets import load
from harness.suites.image_files import FORMATS, Unreadable, read_each, read_framed, read_header

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 40
%%EndComments
(/tmp/harness-eps) (w) file (x) writestring closefile
showpage
%%EOF
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">L", zlib.crc32(kind + data))
    return struct.pack(">L", len(data)) + kind + data + crc


def png(width: int, height: int, *more: bytes) -> bytes:
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")
    )


def many_directories(count: int) -> bytes:
    """A TIFF with one picture, then directories without entries."""
    image = Image.new("L", (40, 40), 9)
    path = Path("one.tif")
    image.save(path)
    content = bytearray(path.read_bytes())
    path.unlink()
    start = struct.unpack_from("<L", content, 4)[0]
    entries = struct.unpack_from("<H", content, start)[0]
    struct.pack_into("<L", content, start + 2 + 12 * entries, len(content))
    for i in range(count):
        following = len(content) + 6 if i < count - 1 else 0
        content += struct.pack("<HL", 0, following)
    return bytes(content)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of five pictures each."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(5):
            pixels = np.full((40, 40, 3), 100 * k + i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011, the caller looks at it
        load(f"imagefolder:{folder}", train=True, root=folder)
    return str(error.value)


@pytest.mark.parametrize("name", ["5.png", "5.jpg", "5.tif"])
def test_postscript_starts_no_program_whatever_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a: pytest.fail("started"))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started"))
    (folder / "cat" / name).write_bytes(EPS)
    assert f"cat/{name} is text. Replace it" in refused(folder)
    (folder / "cat" / name).write_bytes(EPS.replace(b"\n", b"\n%\xff\n", 1))
    assert f"cat/{name} is not an image that can be read" in refused(folder)


def test_only_the_decoders_of_the_list_see_a_file(folder: Path) -> None:
    Image.init()
    assert not {"EPS", "WMF", "FITS", "HDF5", "GRIB", "BUFR", "PSD", "IPTC", "MPEG"} & {*FORMATS}
    image = Image.new("RGB", (40, 40), "red")
    for kind in sorted({*Image.OPEN} & {*Image.SAVE} - {*FORMATS}):
        path, file = folder / "cat" / "5.png", io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.save(file, kind)
        except (OSError, ValueError, KeyError):
            continue  # that mode or size is not for it
        path.write_bytes(file.getvalue())
        with pytest.raises(Unreadable, match="5.png is "):
            read_each([path], read_header)[0]


def test_bombs_are_refused_by_their_headers(folder: Path) -> None:
    (folder / "cat" / "5.png").write_bytes(png(30_000, 30_000))
    assert "cat/5.png has more than 178,956,970 pixels" in refused(folder)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8), 9))
    (folder / "cat" / "5.png").write_bytes(png(40, 40, text))
    assert "cat/5.png is " in refused(folder)


def test_a_chain_of_directories_is_not_walked(folder: Path) -> None:
    (folder / "cat" / "5.tif").write_bytes(many_directories(300_000))
    assert "cat/5.tif " in refused(folder)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "1"])
def test_a_small_tiff_that_says_it_is_large_is_refused(folder: Path, mode: str) -> None:
    path = folder / "cat" / "5.tif"
    Image.new(mode, (40, 40)).save(path)
    content = path.read_bytes()
    length = struct.pack("<HHLL", 257, 4, 1, 40)  # the tag ImageLength
    assert length in content
    path.write_bytes(content.replace(length, struct.pack("<HHLL", 257, 4, 1, 4_000_000)))
    assert "cut off or damaged: it says 40 x 4000000 pixels and has 40 x 40. Rep" in refused(folder)


def test_an_image_of_many_gray_values_is_read_within_bounds(folder: Path) -> None:
    values = np.arange(2000 * 3000, dtype=np.uint32).reshape(2000, 3000) % 65536
    path = folder / "cat" / "5.png"
    Image.fromarray(values.astype(np.uint16)).save(path)
    read_each([path], lambda p: read_framed(p, Framing(32)))[0]
    tracemalloc.start()
    shown = read_each([path], lambda p: read_framed(p, Framing(32)))[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown.shape == (32, 32, 3) and peak < 60e6, "float64 of all would be 96 MB at once"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "5.png")
    assert "cat/5.png is a pipe, a device or a folder, not an image" in refused(folder)
    (folder / "cat" / "5.png").unlink()
    (folder / "cat" / "5.png").symlink_to("/dev/zero")
    assert "cat/5.png is a pipe, a device or a folder, not an image" in refused(folder)


def test_all_that_cannot_be_read_are_counted(folder: Path) -> None:
    for i in range(5, 9):
        (folder / "cat" / f"{i}.png").write_bytes(b"")
    (folder / "dog" / "5.png").write_bytes(b"text")
    said = refused(folder)
    assert said.startswith(f"{folder}/cat/5.png is empty. Replace it by a whole image")
    assert "5 of 15 images cannot be read: also" in said and "cat/8.png and others." in said


def test_those_that_are_cut_off_are_counted_too(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("cat/5.png", "dog/5.png"):
        Image.fromarray(noise).save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    said = refused(folder)
    assert "cat/5.png is cut off or damaged" in said
    assert "2 of " in said and said.endswith("dog/5.png.")


def test_a_command_says_one_sentence_and_no_traceback(folder: Path) -> None:
    (folder / "cat" / "5.png").write_bytes(EPS)
    data = f"imagefolder:{folder}"
    done = CliRunner().invoke(
        app, ["run", "--suite", "clean", "--model", "resnet18", "--dataset", data]
    )
    assert done.exit_code == 2 and "cat/5.png is text" in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", FORMATS)
def test_random_damage_is_a_sentence_or_an_image(tmp_path: Path, kind: str) -> None:
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    random = np.random.default_rng(3)
    path = tmp_path / f"image.{kind.lower()}"
    Image.fromarray(random.integers(0, 256, (48, 48, 3), np.uint8)).save(path, kind)
    whole = path.read_bytes()
    said = []
    for _ in range(60):
        content = bytearray(whole[: random.integers(1, 2 * len(whole))])
        for at in random.integers(0, min(len(content), 300), 3):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            read_each([path], read_header)[0]
            read_each([path], lambda p: read_framed(p, Framing(32)))[0]
        except Unreadable as error:  # and nothing else
            said.append(str(error))
    assert said and all(str(path) in sentence for sentence in said)
