"""Folders of other people's images: their layout, their formats, and what is no image."""

import contextlib
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from PIL import __version__ as PILLOW

from harness.models.preprocessing import Framing
from harness.suites import folder_reading
from harness.suites.datasets import Split, load, training_fingerprint

NOWHERE = Path("/nonexistent")
RAMP = np.tile(np.linspace(0, 1, 40), (40, 1))


def half(folder: Path, train: bool = False) -> Split:
    return load(f"imagefolder:{folder}", train=train, root=NOWHERE)


def picture(path: Path, width: int = 40, height: int = 40, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def classes(folder: Path, names: str = "cat dog", count: int = 5, first: int = 0) -> Path:
    """Images of one value each: image i of class k has the value 100 k + i + `first`."""
    for k, name in enumerate(names.split()):
        for i in range(count):
            picture(folder / name / f"{i}.png", value=100 * k + i + first)
    return folder


def values(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


class TestLayout:
    def test_images_are_cropped_and_split(self, tmp_path: Path) -> None:
        for k, name in enumerate(("cat", "dog")):
            for i in range(10):
                picture(tmp_path / name / f"{i}.png", 48 + 8 * i, 40, 100 * k + i)
        train, test = half(tmp_path, True), half(tmp_path)
        assert train.classes == ("cat", "dog") and train.images.shape == (16, 3, 40, 40)
        assert test.labels.tolist() == [0, 0, 1, 1]
        assert values(test) == [4, 9, 104, 109]

    def test_numbers_are_in_numeric_order(self, tmp_path: Path) -> None:
        classes(tmp_path / "numbers", "10 2 0")
        assert half(tmp_path / "numbers").classes == ("0", "2", "10")
        classes(tmp_path / "words", "10 2 cat")
        assert half(tmp_path / "words").classes == ("10", "2", "cat")

    @pytest.mark.parametrize("name", ["test", "val", "valid", "validation", "Valid", "TEST"])
    def test_halves_are_kept(self, tmp_path: Path, name: str) -> None:
        classes(tmp_path / "train", count=3)
        classes(tmp_path / name, count=2, first=50)
        assert values(half(tmp_path, True)) == [0, 1, 2, 100, 101, 102]
        assert values(half(tmp_path)) == [50, 51, 150, 151]

    def test_a_test_half_comes_before_one_for_validation(self, tmp_path: Path) -> None:
        for i, name in enumerate(("train", "valid", "test")):
            classes(tmp_path / name, count=1, first=10 * i)
        assert values(half(tmp_path)) == [20, 120]

    def test_one_half_alone_is_never_a_class(self, tmp_path: Path) -> None:
        classes(tmp_path / "a/train")
        assert half(tmp_path / "a").classes == ("cat", "dog")
        assert values(half(tmp_path / "a")) == [4, 104] and len(half(tmp_path / "a", True)) == 8
        classes(tmp_path / "b/valid", count=2)
        assert values(half(tmp_path / "b")) == [0, 1, 100, 101]
        with pytest.raises(ValueError, match="b has no training images: there are none in"):
            half(tmp_path / "b", True)

    def test_halves_without_classes_are_refused(self, tmp_path: Path) -> None:
        for name in ("train", "test"):
            picture(tmp_path / "flat" / name / "1.png")
        with pytest.raises(ValueError, match="flat/test holds images, but no folders of them"):
            half(tmp_path / "flat")
        classes(tmp_path / "half/train")
        picture(tmp_path / "half/test/1.png")
        with pytest.raises(ValueError, match="half/test holds images, but no folders of them"):
            half(tmp_path / "half")

    def test_a_train_may_be_a_class_of_vehicles(self, tmp_path: Path) -> None:
        assert half(classes(tmp_path, "bus car train")).classes == ("bus", "car", "train")

    def test_what_a_system_hides_is_left_out(self, tmp_path: Path) -> None:
        classes(tmp_path)
        before = half(tmp_path, True).fingerprint()
        for name in (".ipynb_checkpoints/x.png", "__MACOSX/cat/1.png", "cat/.thumbs/y.png"):
            picture(tmp_path / name)
        for name in ("cat/._0.png", "dog/.DS_Store", ".DS_Store", "cat/notes.txt"):
            (tmp_path / name).write_bytes(b"\0\5\x16\7")
        assert half(tmp_path, True).fingerprint() == before

    def test_images_in_deeper_folders_belong_to_the_class(self, tmp_path: Path) -> None:
        classes(tmp_path)
        picture(tmp_path / "cat/more/8.png", value=77)
        os.symlink(tmp_path / "cat", tmp_path / "cat/more/loop")
        assert values(half(tmp_path, True)) == [0, 1, 2, 3, 77, 100, 101, 102, 103]

    def test_a_test_half_may_lack_a_class_and_have_none_of_its_own(self, tmp_path: Path) -> None:
        classes(tmp_path / "train", "cat cow dog", 1)
        classes(tmp_path / "test", "dog", 1, 50)
        (tmp_path / "test/cow").mkdir()
        test = half(tmp_path)
        assert test.classes == ("cat", "cow", "dog") and test.labels.tolist() == [2]
        picture(tmp_path / "test/hen/1.png")
        with pytest.raises(ValueError, match="different classes: only the second has `hen`. Give"):
            half(tmp_path)

    def test_what_cannot_be_evaluated_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="There is no folder"):
            half(tmp_path / "none")
        with pytest.raises(FileNotFoundError, match="holds no folders of images"):
            half(tmp_path)
        for name in ("a.png", "b.png"):
            picture(tmp_path / "one" / "only" / name)
        with pytest.raises(ValueError, match="holds one folder of images, `only`, and so a single"):
            half(tmp_path / "one")
        classes(tmp_path / "few", count=4)
        with pytest.raises(ValueError, match="class `cat` in .* has 4 images. One of 5 becomes"):
            half(tmp_path / "few")
        classes(tmp_path / "empty")
        (tmp_path / "empty/cow").mkdir()
        with pytest.raises(ValueError, match="has no images of `cow`, so that no model can know"):
            half(tmp_path / "empty")
        classes(tmp_path / "small")
        picture(tmp_path / "small/dog/2.png", 50, 28)
        with pytest.raises(ValueError, match=r"2.png, the smallest .* is 28 pixels; at least 32 a"):
            half(tmp_path / "small")


class TestCache:
    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        names, framed = [], folder_reading.read_framed

        def counted(path: Path, framing: Framing) -> np.ndarray:
            names.append(path.name)
            return framed(path, framing)

        monkeypatch.setattr(folder_reading, "read_framed", counted)
        return names

    def test_an_image_is_decoded_once(self, tmp_path: Path, decoded: list[str]) -> None:
        classes(tmp_path)
        for _ in range(3):
            half(tmp_path, True)
            half(tmp_path)
            load(f"other={tmp_path}/", train=False, root=NOWHERE)
            training_fingerprint(f"imagefolder:{tmp_path}", NOWHERE)
        assert len(decoded) == 10

    def test_a_change_is_noticed(self, tmp_path: Path, decoded: list[str]) -> None:
        classes(tmp_path)
        assert values(half(tmp_path)) == [4, 104]
        times = (tmp_path / "cat/4.png").stat()
        picture(tmp_path / "cat/4.png", value=9)  # as many bytes
        os.utime(tmp_path / "cat/4.png", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert values(half(tmp_path)) == [9, 104]
        picture(tmp_path / "cat/0a.png", value=55)
        assert values(half(tmp_path)) == [3, 104]
        (tmp_path / "dog/4.png").rename(tmp_path / "dog/2a.png")
        assert values(half(tmp_path)) == [3, 103]


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
    )


def folder_of(tmp_path: Path, image: Image.Image, ending: str = "png", **options: Any) -> Path:
    """Two classes, all of whose images are this one."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            image.save(tmp_path / name / f"{i}.{ending}", **options)
    return tmp_path


def gray_of(image: torch.Tensor) -> np.ndarray:
    """The first row of a gray image, in [0, 1]."""
    assert torch.equal(image[0], image[2])
    return image[0, 0].numpy() / 255


class TestValues:
    @pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
    def test_16_bits_are_scaled_by_the_range_of_their_type(
        self, tmp_path: Path, ending: str
    ) -> None:
        if ending == "jp2" and not features.check("jpg_2000"):
            pytest.skip("this Pillow has no JPEG 2000")
        image = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16))
        options = {"irreversible": False} if ending == "jp2" else {}
        split = half(folder_of(tmp_path, image, ending, **options))
        np.testing.assert_allclose(gray_of(split.images[0]), RAMP[0], atol=0.51 / 255)

    def test_floating_point_in_0_to_1_is_taken(self, tmp_path: Path) -> None:
        split = half(folder_of(tmp_path, Image.fromarray(RAMP.astype(np.float32)), "tiff"))
        np.testing.assert_allclose(gray_of(split.images[0]), RAMP[0], atol=0.51 / 255)

    @pytest.mark.parametrize(
        "pixels, ending, message",
        [
            (np.rint(RAMP * 1023).astype(np.uint16), "png", "from 0 to 1023, where 0 to 65535 are"),
            ((RAMP * 255).astype(np.float32), "tif", "from 0 to 255, where 0 to 1 are possible"),
            ((RAMP * 2 - 1).astype(np.float32), "tif", "from -1 to 1, where 0 to 1 are possible"),
            ((RAMP / 8).astype(np.float32), "tif", "from 0 to 0.125, where 0 to 1 are possible"),
            ((RAMP * 9999).astype(np.int32), "tif", "32-bit signed numbers, whose black and white"),
            ((RAMP * np.nan).astype(np.float32), "tif", "has values that are not numbers"),
        ],
    )
    def test_values_of_an_unknown_range_are_refused(
        self, tmp_path: Path, pixels: np.ndarray, ending: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            half(folder_of(tmp_path, Image.fromarray(pixels), ending))

    @pytest.mark.parametrize("channels", [3, 4])
    def test_16_bits_a_color_are_checked_too(self, tmp_path: Path, channels: int) -> None:
        for white, folder in ((65535, tmp_path / "full"), (4095, tmp_path / "twelve")):
            pixels = np.rint(RAMP * white)[..., None].repeat(channels, -1).astype(">u2")
            pixels[..., 3:] = 65535  # nothing is transparent
            header = struct.pack(">LLBBBBB", 40, 40, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
            lines = b"".join(b"\0" + line.tobytes() for line in pixels)
            content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            content += chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
            for name in ("cat", "dog"):
                (folder / name).mkdir(parents=True)
                for i in range(5):
                    (folder / name / f"{i}.png").write_bytes(content)
        shown = gray_of(half(tmp_path / "full").images[0])
        np.testing.assert_allclose(shown, RAMP[0], atol=1 / 255)
        with pytest.raises(ValueError, match="from 0 to 3855, where 0 to 65535 are possible"):
            half(tmp_path / "twelve")

    @pytest.mark.parametrize("white", [15, 255, 1000, 4095])
    def test_a_range_that_the_file_declares_is_its_range(self, tmp_path: Path, white: int) -> None:
        values = np.rint(RAMP * white).astype(">u2" if white > 255 else np.uint8)
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            for i in range(5):
                path = tmp_path / name / f"{i}.pgm"
                path.write_bytes(f"P5 40 40 {white}\n".encode() + values.tobytes())
        shown = gray_of(half(tmp_path).images[0])
        np.testing.assert_allclose(shown, RAMP[0], atol=0.51 / min(white, 255) + 0.01)

    def test_images_in_0_to_1_saved_as_whole_numbers_are_refused(self, tmp_path: Path) -> None:
        folder_of(tmp_path, Image.fromarray(np.rint(RAMP).astype(np.uint8)))
        with pytest.raises(ValueError, match="are black: no value is above 1 of 255. Save them"):
            half(tmp_path)

    def test_one_bright_image_tells_the_range_of_a_dark_one(self, tmp_path: Path) -> None:
        folder_of(tmp_path, Image.fromarray(np.full((40, 40), 257 * 30, np.uint16)))
        Image.fromarray(np.full((40, 40), 257 * 200, np.uint16)).save(tmp_path / "cat/4.png")
        assert values(half(tmp_path)) == [200, 30]

    def test_12_bits_of_tiff_are_scaled_by_their_own_range(self, tmp_path: Path) -> None:
        packed = bytes([0xFF, 0xF0, 0x00]) * (40 * 20)  # 4095, 0, 4095, 0, ...
        entries = {256: 40, 257: 40, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 40}
        entries[279] = len(packed)
        at = 8 + len(packed)
        tags = b"".join(struct.pack("<HHLL", k, 4, 1, v) for k, v in sorted(entries.items()))
        content = struct.pack("<2sHL", b"II", 42, at) + packed
        content += struct.pack("<H", len(entries)) + tags + bytes(4)
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            for i in range(5):
                (tmp_path / name / f"{i}.tif").write_bytes(content)
        assert half(tmp_path).images[0, 0, 0, :4].tolist() == [255, 0, 255, 0]

    def test_low_is_white_where_a_tiff_says_so(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16))
        split = half(folder_of(tmp_path, image, "tif", tiffinfo={262: 0}))
        np.testing.assert_allclose(gray_of(split.images[0]), RAMP[0, ::-1], atol=1 / 255)


class TestModes:
    COLORS = np.stack([RAMP * 255, RAMP.T * 255, 0 * RAMP + 99], -1).astype(np.uint8)

    @pytest.mark.parametrize("mode, apart", [("P", 60), ("CMYK", 3), ("YCbCr", 3)])
    def test_colors_of_any_kind_become_rgb(self, tmp_path: Path, mode: str, apart: int) -> None:
        if mode == "YCbCr" and PILLOW.startswith("12."):
            pytest.skip("Pillow 12 does not read such a TIFF of its own")
        image = Image.fromarray(self.COLORS).convert(mode)
        ending = "png" if mode == "P" else "tif"
        found = half(folder_of(tmp_path, image, ending)).images[0].permute(1, 2, 0).int().numpy()
        assert np.abs(found - self.COLORS).max() <= apart

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
    def test_transparent_pixels_show_white(self, tmp_path: Path, mode: str) -> None:
        gray = np.full((40, 40), 50, np.uint8)
        gray[:20] = 0  # the color that is hidden
        image, options = Image.fromarray(gray), {}
        if mode in ("RGBA", "LA"):
            image = image.convert(mode)
            image.putalpha(Image.fromarray(np.where(gray, 255, 0).astype(np.uint8)))
        else:
            image, options = image.convert(mode), {"transparency": 0}
        shown = half(folder_of(tmp_path, image, **options)).images[0, 0]
        assert (shown[:18] == 255).all() and (shown[22:] == 50).all()

    @pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_photographs_are_turned_upright(
        self, tmp_path: Path, ending: str, orientation: int
    ) -> None:
        upright = np.zeros((40, 40), np.uint8)
        upright[:20, :20], upright[:20, 20:], upright[20:, :20] = 80, 160, 240
        turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
        image = Image.fromarray(np.rot90(upright, turns)).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = half(folder_of(tmp_path, image, ending, exif=exif.tobytes())).images[0, 0]
        corners = [int(found[y, x]) for y in (8, 32) for x in (8, 32)]
        np.testing.assert_allclose(corners, [80, 160, 240, 0], atol=6)


BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">LLBBBBB", 30000, 9000, 1, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(100)))
    + chunk(b"IEND", b"")
)


class TestWhatIsNoImage:
    @pytest.mark.parametrize(
        "content, message",
        [
            (b"", "is empty"),
            (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file"),
            (b"<!DOCTYPE html><title>404 \xc3\xa9</title>", "is text"),
            (b"\0\5\x16\7\0\2\0\0Mac OS X", "holds a Mac's notes about another file"),
            (b"PK\x03\x04 and so on", "is a ZIP archive"),
            (bytes(5000), "holds nothing but zeros"),
            (b"\x93\xf1\x02" * 99, "is not an image that can be read"),
            (BOMB, "has more than 178,956,970 pixels, too many to read safely. Make it smaller"),
        ],
    )
    @pytest.mark.parametrize("ending", ["png", "jpeg"])
    def test_it_is_named_with_what_it_is(
        self, tmp_path: Path, content: bytes, message: str, ending: str
    ) -> None:
        classes(tmp_path)
        (tmp_path / f"dog/9.{ending}").write_bytes(content)
        with pytest.raises(ValueError, match=rf"dog/9.{ending} {message}") as caught:
            half(tmp_path)
        assert "move it out of the folder" in str(caught.value)

    @pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "gif", "ppm"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_what_is_cut_off_is_named(self, tmp_path: Path, ending: str, share: float) -> None:
        classes(tmp_path)
        path = tmp_path / f"dog/9.{ending}"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ValueError, match=rf"9.{ending} is (cut off or damaged|not an image)"):
            half(tmp_path, True)

    def test_random_damage_is_a_sentence_or_an_image(self, tmp_path: Path) -> None:
        classes(tmp_path)
        random = np.random.default_rng(1)
        noise = random.integers(0, 256, (40, 40, 3), np.uint8)
        for ending in ("png", "jpg", "tif", "gif", "webp", "jp2"):
            path = tmp_path / f"dog/9.{ending}"
            Image.fromarray(noise).save(path)
            whole = path.read_bytes()
            for _ in range(40):
                content = bytearray(whole)
                for at in random.integers(0, min(len(content), 600), 3):
                    content[at] = random.integers(256)
                path.write_bytes(content)
                with contextlib.suppress(ValueError):  # and nothing else
                    half(tmp_path, True)
            path.unlink()

    def test_links_to_nowhere_and_several_images_in_one_are_refused(self, tmp_path: Path) -> None:
        classes(tmp_path)
        frames = [Image.new("L", (40, 40), value) for value in (0, 99)]
        frames[0].save(tmp_path / "cat/8.tif", save_all=True, append_images=frames[1:])
        with pytest.raises(
            ValueError, match="8.tif holds several images, where one is expected. Save"
        ):
            half(tmp_path)
        (tmp_path / "cat/8.tif").unlink()
        (tmp_path / "cat/7.png").symlink_to(tmp_path / "gone.png")
        with pytest.raises(ValueError, match="7.png is a link to a file that is not there"):
            half(tmp_path)

    def test_large_photographs_are_read_without_noise(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
    ) -> None:
        classes(tmp_path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of 1,600
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(half(tmp_path)) == 2
        assert capfd.readouterr() == ("", "")
