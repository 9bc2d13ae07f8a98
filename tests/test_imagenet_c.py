"""The published folder of ImageNet-C, in small folders of its layout."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.models.preprocessing import Framing
from harness.suites import published_pictures
from harness.suites.base import Setting
from harness.suites.catalog import COMMON, FAMILIES
from harness.suites.image_files import Unreadable, read_framed
from harness.suites.imagenet_c import cells, imagenet_c
from harness.suites.published_pictures import KINDS, TARS, PublishedPictures

SYNSETS = ("n01440764", "n01443537", "n01484850")
TWO = ("gaussian_noise", "fog")
EACH, SIZE = 5, 64


def picture(path: Path, seed: int, size: int = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((size, size)).save(path, quality=85)


def clean_folder(folder: Path, each: int = EACH) -> Path:
    """Validation images, all of them test images."""
    for k, synset in enumerate(SYNSETS):
        for i in range(each):
            picture(folder / "val" / synset / f"ILSVRC2012_val_{k}{i}.JPEG", 100 * k + i)
    return folder


def published_folder(folder: Path, kinds: tuple[str, ...] = TWO, each: int = EACH) -> Path:
    """Their twins: other pictures, so that none can be taken for another."""
    for kind in kinds:
        for severity in range(1, 6):
            for k, synset in enumerate(SYNSETS):
                for i in range(each):
                    name = f"{kind}/{severity}/{synset}/ILSVRC2012_val_{k}{i}.JPEG"
                    seed = 10_000 * (1 + KINDS.index(kind)) + 1000 * severity + 100 * k + i
                    picture(folder / name, seed)
    return folder


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with ImageNet-C, and clean images beside it."""
    clean_folder(tmp_path / "clean")
    published_folder(tmp_path / "data/ImageNet-C")
    return tmp_path / "data"


def files_of(data: Path, reader: Callable[[Path], np.ndarray] = read) -> PublishedPictures:
    return PublishedPictures(data, sorted((data.parent / "clean").rglob("*.*")), reader)


def setting(files: PublishedPictures, *corruptions: str) -> Setting:
    return Setting(SIZE, 3, corruptions or TWO, published=lambda: files)


def one(data: Path, kind: str = "fog", severity: int = 3, name: str = "00") -> Path:
    where = data / "ImageNet-C" / kind / str(severity) / SYNSETS[int(name[0])]
    return where / f"ILSVRC2012_val_{name}.JPEG"


class TestTwins:
    def test_a_cell_has_the_twin_of_each_image(self, data: Path) -> None:
        files = files_of(data)
        made = cells(setting(files))
        assert imagenet_c().variant(setting(files)) == "-c"
        smaller = replace(setting(files), image_size=32)
        assert imagenet_c().variant(smaller) == "-c[32 px]", "not as published"
        assert [(c.condition, c.level) for c in made] == [
            ("clean", 0),
            *((kind, severity) for kind in TWO for severity in range(1, 6)),
        ]
        indices, clean = torch.tensor([11, 0, 7]), torch.zeros((3, 3, SIZE, SIZE)).byte()
        assert torch.equal(made[0].prepare(clean, indices, 0), clean)
        for cell in made[1:]:
            found = cell.prepare(clean, indices, 0)
            assert found.dtype == torch.uint8 and found.is_contiguous()
            for row, name in zip(found, ("21", "00", "12"), strict=True):
                expected = read(one(data, cell.condition, int(cell.level), name))
                np.testing.assert_array_equal(row.permute(1, 2, 0).numpy(), expected)

    def test_no_two_cells_have_one_digest(self, data: Path) -> None:
        made = cells(setting(files_of(data)))
        assert len({cell.constants["published"] for cell in made[1:]}) == 10

    def test_a_digest_is_of_names_and_sizes(self, data: Path) -> None:
        before = files_of(data).digest("fog", 3)
        assert files_of(data).digest("fog", 3) == before
        picture(one(data), 77, 66)
        assert files_of(data).digest("fog", 3) != before
        assert files_of(data).digest("fog", 2) == files_of(data).digest("fog", 2)

    def test_endings_may_differ(self, data: Path) -> None:
        before = files_of(data).images("fog", 3, torch.arange(15))
        one(data).rename(one(data).with_suffix(".jpg"))
        Image.fromarray(read(one(data, name="12"))).save(one(data, name="12").with_suffix(".png"))
        one(data, name="12").unlink()
        (one(data).parent / "._ILSVRC2012_val_00.JPEG").write_bytes(b"\0\5\x16\7")
        (one(data).parent / "ILSVRC2012_val_00.txt").write_text("fog")
        files = files_of(data)
        files.verify(TWO)
        assert torch.equal(files.images("fog", 3, torch.arange(15)), before)

    def test_the_fifteen_are_asked_by_default_and_the_four_by_name(self, tmp_path: Path) -> None:
        clean_folder(tmp_path / "clean", 1)
        published_folder(tmp_path / "data/ImageNet-C", KINDS, 1)
        files = files_of(tmp_path / "data")
        names = [c.condition for c in cells(Setting(SIZE, 3, published=lambda: files))]
        assert tuple(dict.fromkeys(names[1:])) == COMMON and len(names) == 76
        extra = dict.fromkeys(c.condition for c in cells(setting(files, "validation", "fog"))[1:])
        assert tuple(extra) == (*FAMILIES["validation"], "fog")
        assert len(cells(setting(files, "all"))) == 96
        assert set(TARS) == {"noise", "blur", "weather", "digital", "extra"} and len(KINDS) == 19

    def test_what_is_listed_is_what_is_asked_of_some_classes(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.rmtree(data.parent / "clean/val" / SYNSETS[1])
        listed: list[Path] = []
        sizes = published_pictures._sizes

        def counted(folder: Path, wanted: Collection[str]) -> dict[str, tuple[str, int]]:
            listed.append(folder)
            return sizes(folder, wanted)

        monkeypatch.setattr(published_pictures, "_sizes", counted)
        files = files_of(data)
        for one_read in (read, read, lambda path: read(path)[:32, :32]):
            cells(setting(files.read_by(one_read), "fog"))
        assert files.read_by(one_read).images("fog", 1, torch.arange(2)).shape[-1] == 32
        assert len(listed) == 5 * 2, "each folder of a class once, and none that is not needed"
        assert SYNSETS[1] not in {folder.name for folder in listed}
        assert torch.equal(
            files.images("fog", 3, torch.tensor([5]))[0],
            torch.from_numpy(read(one(data, name="20"))).permute(2, 0, 1),
        )


class TestLayout:
    @pytest.mark.parametrize(
        "name",
        [
            *("ImageNet-C", "imagenet-c", "IMAGENET-C", "Imagenet-C", "imagenet_c"),
            *("ImageNet-C/ImageNet-C", "ImageNet-C/imagenet-c", "."),
        ],
    )
    @pytest.mark.parametrize("groups", [False, True])
    def test_the_folder_is_found(self, data: Path, name: str, groups: bool) -> None:
        expected = files_of(data).images("fog", 3, torch.arange(15))
        aside = (data / "ImageNet-C").rename(data.parent / "aside")
        for tar, kinds in TARS.items():
            for kind in kinds:
                if (aside / kind).is_dir():
                    place = data / name / tar if groups else data / name
                    place.mkdir(parents=True, exist_ok=True)
                    (aside / kind).rename(place / kind)
        files = files_of(data)
        files.verify(TWO)
        assert torch.equal(files.images("fog", 3, torch.arange(15)), expected)

    def test_the_folder_itself_may_be_the_data_folder(self, data: Path) -> None:
        paths = sorted((data.parent / "clean").rglob("*.*"))
        PublishedPictures(data / "ImageNet-C", paths, read).verify(TWO)

    def test_parts_may_lie_in_different_places(self, data: Path) -> None:
        (data / "weather").mkdir()
        (data / "ImageNet-C/fog").rename(data / "weather/fog")
        files_of(data).verify(TWO)

    def test_other_data_sets_of_this_layout_are_not_taken(self, data: Path) -> None:
        (data / "ImageNet-C").rename(data / "Tiny-ImageNet-C")
        with pytest.raises(FileNotFoundError, match="There is no ImageNet-C in"):
            files_of(data).verify(TWO)


class TestRefusals:
    def refusal(self, data: Path, *kinds: str) -> str:
        with pytest.raises((FileNotFoundError, ValueError, LookupError)) as raised:
            cells(setting(files_of(data), *kinds))
        return str(raised.value)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        clean_folder(tmp_path / "clean")
        text = self.refusal(tmp_path / "none", "fog", "snow", "contrast")
        assert "There is no ImageNet-C in" in text and "zenodo.org/records/2235448" in text
        assert "Unpack weather.tar, digital.tar of" in text

    def test_corruptions_that_are_not_there(self, data: Path) -> None:
        text = self.refusal(data, "common")
        assert "data/ImageNet-C lacks shot_noise, impulse_noise, defocus_blur" in text
        assert "pixelate, jpeg_compression of ImageNet-C. Unpack noise.tar, blur.tar, wea" in text
        assert (
            "ask for those that are there, `--corruption gaussian_noise --corruption fog`" in text
        )
        assert "Did you mean `fog`?" in self.refusal(data, "fogg")

    def test_pictures_that_are_missing_are_counted_over_all(self, data: Path) -> None:
        for severity in (2, 3):
            for name in ("00", "04", "21"):
                one(data, "fog", severity, name).unlink()
        one(data, "gaussian_noise", 1, "10").write_bytes(b"")
        text = self.refusal(data)
        assert "7 of 150 pictures of ImageNet-C are missing or empty in" in text
        assert f"gaussian_noise/1/{SYNSETS[1]}/ILSVRC2012_val_10, " in text
        assert f"fog/2/{SYNSETS[0]}/ILSVRC2012_val_04 and 4 more. Unpack noise.tar, wea" in text

    def test_a_class_or_a_severity_that_is_missing(self, data: Path) -> None:
        shutil.rmtree(one(data, name="20").parent)
        assert "5 of 150 pictures of ImageNet-C are missing" in self.refusal(data)
        shutil.rmtree(data / "ImageNet-C/fog/3")
        text = self.refusal(data)
        assert "fog/3 is not there, or empty. Unpack weather.tar of" in text

    def test_classes_of_other_names(self, data: Path) -> None:
        for synset, name in zip(SYNSETS, ("tench", "goldfish", "shark"), strict=True):
            (data.parent / "clean/val" / synset).rename(data.parent / "clean/val" / name)
        text = self.refusal(data)
        assert "/gaussian_noise/1 has the classes `n01440764`" in text
        assert "the test pictures have `goldfish`, `shark`, `tench`. Give their folders" in text

    def test_pictures_of_other_names(self, data: Path) -> None:
        for path in list((data.parent / "clean").rglob("*.JPEG")):
            path.rename(path.with_name(f"my_{path.name}"))
        assert "has no picture that is called as a test picture, such as n01" in self.refusal(data)

    def test_two_of_one_name(self, data: Path) -> None:
        picture(one(data).with_suffix(".png"), 1)
        assert "two pictures called ILSVRC2012_val_00, and it is not known" in self.refusal(data)
        one(data).unlink()
        clean = data.parent / "clean/val" / SYNSETS[0]
        picture(clean / "ILSVRC2012_val_00.png", 1)
        assert "have one name, so that both would be compared with one" in self.refusal(data)

    def test_a_picture_that_is_broken_is_named_when_it_is_read(self, data: Path) -> None:
        one(data).write_bytes(b"no picture")
        files = files_of(data, partial(read_framed, framing=Framing(SIZE)))
        files.verify(TWO)
        with pytest.raises(Unreadable, match="ILSVRC2012_val_00.JPEG is text. Replace it"):
            files.images("fog", 3, torch.arange(3))

    def test_data_sets_that_are_no_folder(self) -> None:
        with pytest.raises(ValueError, match="goes with a folder of ImageNet's validation images"):
            cells(Setting(32, 10))
        with pytest.raises(ValueError, match="goes with a folder of ImageNet's validation images"):
            cells(Setting(32, 10, published=lambda: object()))


MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 3)
        g = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(3, 192, generator=g))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(x - 0.5, 8).flatten(1))

def net(num_classes):
    return Net()
"""


def harness(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class TestCommand:
    @pytest.fixture
    def run(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., Result]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(MODEL)

        def command(*more: object) -> Result:
            model = ("--model", "mine.py:net", "--dataset", f"photos={data.parent / 'clean'}")
            return harness("run", "--suite", "imagenet_c", *model, "--data", data, *more)

        return command

    def accuracies(self, folder: Path, dataset: str = "photos-c") -> dict[tuple[str, float], float]:
        table = pd.concat(map(pd.read_csv, (folder / "results").glob("photos*/*/*/seed0.csv")))
        table = table[table["dataset"] == dataset]
        rows = table[(table["metric"] == "accuracy") & table["variant"].isna()]
        where = zip(rows["condition"], rows["level"].astype(float), strict=True)
        return dict(zip(where, rows["value"], strict=True))

    def test_accuracies_are_those_of_the_files(
        self, data: Path, tmp_path: Path, run: Callable[..., Result]
    ) -> None:
        done = run("--corruption", "gaussian_noise", "--corruption", "fog", "--batch-size", 4)
        assert done.exit_code == 0, done.stderr
        space: dict = {}
        exec(MODEL, space)
        net = space["net"](3)

        def accuracy(folder: Path) -> float:
            hits: list[Tensor] = []
            for path in sorted(folder.rglob("*.JPEG")):
                image = torch.from_numpy(read(path)).permute(2, 0, 1)[None] / 255
                hits.append(net(image).argmax(1) == SYNSETS.index(path.parent.name))
            return float(torch.cat(hits).float().mean())

        found = self.accuracies(tmp_path)
        assert len(found) == 11 and len(set(found.values())) > 3
        assert found["clean", 0.0] == pytest.approx(accuracy(data.parent / "clean"), abs=1e-6)
        for kind in TWO:
            for severity in range(1, 6):
                direct = accuracy(data / "ImageNet-C" / kind / str(severity))
                assert found[kind, float(severity)] == pytest.approx(direct, abs=1e-6)
        assert "photos-c" in done.stdout and "fog" in done.stdout

    def test_clean_images_are_cropped_and_their_twins_are_taken_as_they_are(
        self, data: Path, tmp_path: Path, run: Callable[..., Result]
    ) -> None:
        clean = data.parent / "clean"
        assert run(*CORRUPTIONS).exit_code == 0
        before = self.accuracies(tmp_path)
        for i, path in enumerate(sorted(clean.rglob("*.JPEG"))):
            picture(path, i, 100)
        done = run(*CORRUPTIONS, "--preprocessing", "size=64 crop=0.8")
        assert done.exit_code == 0, done.stderr
        after = self.accuracies(tmp_path, "photos[64 of 80 px bilinear]-c")
        before.pop(("clean", 0.0)), after.pop(("clean", 0.0))
        assert after == before

    def test_a_file_that_changed_is_measured_again_and_no_other(
        self, data: Path, run: Callable[..., Result]
    ) -> None:
        assert "11 conditions measured" in run(*CORRUPTIONS).stderr
        assert "0 conditions measured, 11 were stored" in run(*CORRUPTIONS).stderr
        picture(one(data), 77, 66)
        assert "1 conditions measured, 10 were stored" in run(*CORRUPTIONS).stderr

    def test_a_refusal_comes_before_any_work(
        self, data: Path, tmp_path: Path, run: Callable[..., Result]
    ) -> None:
        one(data).unlink()
        done = run(*CORRUPTIONS)
        assert done.exit_code == 2 and "1 of 150 pictures" in " ".join(done.stderr.split())
        assert not list((tmp_path / "results").rglob("*.csv"))
        both = harness("run", "--suite", "imagenet_c", "--model", "resnet18")
        assert both.exit_code == 2 and "imagefolder:PATH" in both.stderr

    def test_a_broken_picture_is_a_sentence_and_the_rest_is_kept(
        self, data: Path, run: Callable[..., Result]
    ) -> None:
        whole = one(data).read_bytes()
        one(data).write_bytes(whole[: len(whole) // 3])
        done = run(*CORRUPTIONS)
        text = " ".join(done.stderr.split())
        assert done.exit_code == 2 and "ILSVRC2012_val_00.JPEG" in text and "whole image" in text
        one(data).write_bytes(whole)
        # gaussian_noise, fog 1 and fog 2 lie before it.
        assert "3 conditions measured, 8 were stored" in run(*CORRUPTIONS).stderr


CORRUPTIONS = ("--corruption", "gaussian_noise", "--corruption", "fog")


def test_memory_holds_a_batch_and_no_more(tmp_path: Path) -> None:
    clean_folder(tmp_path / "clean", 20)
    published_folder(tmp_path / "data/ImageNet-C", ("fog",), 20)
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None

    def counted(path: Path) -> np.ndarray:
        nonlocal alive, most
        square = read(path)
        own = Counted(square.shape, np.uint8)
        own[:] = square
        alive += 1
        most = max(most, alive)
        return own

    files = PublishedPictures(tmp_path / "data", sorted((tmp_path / "clean").rglob("*.*")), counted)
    for cell in cells(setting(files, "fog"))[1:]:
        for part in torch.arange(60).split(10):
            assert cell.prepare(torch.empty(0), part, 0).shape == (10, 3, SIZE, SIZE)
    assert 0 < most <= 10 and alive == 0
