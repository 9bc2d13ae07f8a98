"""What a network is given of an image: frames as torchvision's, said by networks and by options."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn
from torchvision import transforms as T
from typer.testing import CliRunner

import harness
from harness.cli.app import app
from harness.models.preprocessing import (
    IMAGENET,
    Framing,
    Preprocessing,
    parse_preprocessing,
    prepare,
    preprocessing_of,
    said_by,
)
from harness.refusal import Refusal
from harness.running.options import Options
from harness.running.plan import plan
from harness.suites.datasets import load
from harness.suites.folder_reading import Reading
from harness.suites.image_files import frame

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, channels=3):
        super().__init__()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images):
        return self.head(images.mean(dim=(2, 3)))

def plain(num_classes):
    return Net(num_classes)

def says(num_classes):
    net = Net(num_classes)
    net.preprocessing = "size=40 crop=0.8 mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
    return net

def gray(num_classes):
    return Net(num_classes, 1)

class Fixed(Net):
    def forward(self, images):
        assert images.shape[-1] == 64, "this net takes 64 pixels"
        return super().forward(images)

def fixed(num_classes):
    return Fixed(num_classes)
"""


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten pictures of several sizes."""
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            place = tmp_path / "pets" / name / f"{i}.png"
            picture(50 + 7 * i, 90 - 4 * i, 10 * k + i).save(place)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def weights(folder: Path, channels: int = 3) -> Path:
    torch.manual_seed(0)
    path = folder / f"{channels}.pth"
    head = nn.Linear(channels, 2)
    torch.save({"head.weight": head.weight * 30, "head.bias": head.bias}, path)
    return path


class TestFrames:
    @pytest.mark.parametrize("size", [(500, 375), (375, 501), (224, 224), (97, 333), (1000, 256)])
    @pytest.mark.parametrize("way", ["bilinear", "bicubic", "nearest", "lanczos"])
    def test_frames_are_those_of_torchvision(self, size: tuple[int, int], way: str) -> None:
        one = picture(*size)
        steps = [T.Resize(256, T.InterpolationMode(way)), T.CenterCrop(224)]
        assert np.array_equal(frame(one, Framing(224, 0.875, way)), np.array(T.Compose(steps)(one)))

    @pytest.mark.parametrize("mode", ["center", "squash", "border"])
    @pytest.mark.parametrize("crop", [0.875, 0.9, 0.95, 1.0])
    def test_frames_are_those_of_timm(self, mode: str, crop: float) -> None:
        for size in ((500, 375), (301, 407), (64, 64)):
            one = picture(*size)
            by_timm = create_transform(
                (3, 160, 160),
                interpolation="bicubic",
                crop_pct=crop,
                crop_mode=mode,
                mean=(0, 0, 0),
                std=(1, 1, 1),
            )
            told = torch.from_numpy(frame(one, Framing(160, crop, "bicubic", mode)))
            assert torch.equal(told.permute(2, 0, 1) / 255, by_timm(one))


class TestWords:
    def test_all_parts_are_read(self) -> None:
        told = parse_preprocessing("size=28 crop=0.875 interpolation=bicubic mean=0.1 std=0.3 gray")
        framing = Framing(28, 0.875, "bicubic")
        assert told == Preprocessing(framing, framing, True, (0.1,), (0.3,))
        assert framing.short_side == 32
        assert parse_preprocessing("none") == Preprocessing()
        assert parse_preprocessing("imagenet") == parse_preprocessing(IMAGENET)
        assert parse_preprocessing("imagenet").mean == MEAN

    @pytest.mark.parametrize(
        "text, message",
        [
            ("sise=3", "`sise` is no part of preprocessing. Write it as in"),
            ("size=0", "is not from 1 to 4096 pixels"),
            ("size=many", "has a size or crop that is no number"),
            ("size=64 crop=0", "is not a part of the image"),
            ("size=64 crop=1.5", "is not a part of the image"),
            ("size=64 crop=nan", "is not a part of the image"),
            ("size=64 interpolation=cubic", "no interpolation 'cubic'. Use bilinear, bicubic"),
            ("crop=0.5", "says how to resize, and not to what `size`"),
            ("mean=0.5", "needs both a mean and a std"),
            ("mean=0.5,0.5 std=1,1", "of 1 or 3 channels"),
            ("gray mean=0,0,0 std=1,1,1", "of 1 channels"),
            ("mean=0 std=0", "is not above 0"),
            ("mean=inf std=1", "mean or std that is no number"),
            ("gray=no", "`gray` stands alone; got 'no'"),
        ],
    )
    def test_what_cannot_be_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse_preprocessing(text)


class TestNetworks:
    def test_a_network_says_it_by_a_text_or_a_dictionary(self) -> None:
        net = nn.Flatten()
        assert not said_by(net, weighted=True)
        net.preprocessing = "size=64 gray"
        assert said_by(net, weighted=False) == parse_preprocessing("size=64 gray")
        net.preprocessing = {"size": 64, "mean": MEAN, "std": STD}
        assert said_by(net, weighted=False).mean == MEAN
        net.preprocessing = {"size": 64, "colors": 3}
        with pytest.raises(ValueError, match="`colors` is no part"):
            said_by(net, weighted=False)

    def test_a_network_of_timm_says_it_of_its_weights(self) -> None:
        net = timm.create_model("resnet18", num_classes=3)
        cfg = net.pretrained_cfg
        said = said_by(net, weighted=True)
        assert said.framing == Framing(224, cfg["crop_pct"], cfg["interpolation"])
        assert (said.mean, said.std, said.inner) == (cfg["mean"], cfg["std"], None)
        assert said_by(net, weighted=False).framing is None, "it learns from what it is given"

    def test_a_prepared_network_gets_what_torchvision_would_give_it(self) -> None:
        seen = list[Tensor]()

        class Net(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                seen.append(images)
                return images

        images = torch.rand(2, 3, 40, 40)
        told = parse_preprocessing("size=28 crop=0.875 interpolation=bicubic gray mean=0.2 std=0.4")
        net = prepare(Net(), told)
        net(images)
        framed = T.CenterCrop(28)(T.Resize(32, T.InterpolationMode.BICUBIC)(images)).clamp(0, 1)
        expected = T.Normalize([0.2], [0.4])(T.Grayscale()(framed))
        assert torch.allclose(seen[0], expected, atol=1e-3)  # whose grays sum to 0.9999
        assert preprocessing_of(nn.Sequential(net)) == told
        assert not net.state_dict(), "its state is its own"


class TestFolders:
    def test_pictures_are_read_in_the_frame_of_the_network(self, folder: Path) -> None:
        path = weights(folder)
        table = harness.evaluate(
            f"{folder}/net.py:says",
            "clean",
            f"imagefolder:{folder}/pets",
            weights=path,
            results=folder / "r",
        )
        assert set(table["dataset"]) == {"pets[40 of 50 px bilinear]"}
        reading = Reading(whole=True)
        split = load(f"imagefolder:{folder}/pets", train=False, root=folder, reading=reading)
        assert len(split) == 20, "nothing was trained on any of them"
        steps = [T.Resize(50), T.CenterCrop(40), T.ToTensor(), T.Normalize(MEAN, STD)]
        images = torch.stack([T.Compose(steps)(Image.open(p)) for p in split.files])
        state = torch.load(path)
        logits = images.mean(dim=(2, 3)) @ state["head.weight"].T + state["head.bias"]
        expected = nn.functional.cross_entropy(logits, split.labels)
        nll = table.query("metric == 'nll' and variant == ''")["value"].item()
        assert nll == pytest.approx(expected.item(), rel=1e-5)
        (beside,) = (folder / "r").rglob("seed0.json")
        assert json.loads(beside.read_text())["preprocessing"] == (
            "of 40 x 40 pixels (the short side resized to 50, bilinear, the center cropped), "
            "normalized by the mean 0.485, 0.456, 0.406 and the deviation 0.229, 0.224, 0.225"
        )

    def test_options_stand_above_the_network(self, folder: Path) -> None:
        def nll(preprocessing: str, name: str) -> float:
            table = harness.evaluate(
                f"{folder}/net.py:{name}",
                dataset=f"imagefolder:{folder}/pets",
                weights=weights(folder),
                preprocessing=preprocessing,
            )
            return table.query("metric == 'nll' and variant == ''")["value"].item()

        said = "size=40 crop=0.8 mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
        assert nll(said, "plain") == nll("network", "says") == nll(said, "says")
        assert nll("none", "says") == nll("network", "plain") != nll(said, "says")

    def test_networks_of_several_frames_share_a_folder_of_results(self, folder: Path) -> None:
        def run(name: str) -> None:
            words = ["run", "--suite", "clean", "--model", f"{folder}/net.py:{name}"]
            words += ["--weights", str(weights(folder)), "--dataset", f"a={folder}/pets"]
            done = CliRunner().invoke(app, [*words, "--results", str(folder / "r")])
            assert done.exit_code == 0, done.output

        for name in ("plain", "says", "plain"):
            run(name)
        shown = CliRunner().invoke(app, ["table", "--results", str(folder / "r")])
        assert shown.exit_code == 0, shown.output
        assert "a[40 of 50 px bilinear]" in shown.stdout and "Measured on diff" not in shown.stdout
        picture(60, 60, 99).save(folder / "pets/dog/4.png")
        words = ["run", "--suite", "clean", "--model", f"{folder}/net.py:says", "--seed", "1"]
        words += ["--weights", str(weights(folder)), "--dataset", f"a={folder}/pets"]
        other = CliRunner().invoke(app, [*words, "--results", str(folder / "r")])
        assert other.exit_code == 2 and "is of other test images than `a` has now" in other.stderr

    def test_pictures_of_the_wanted_size_are_taken_as_they_are(self, folder: Path) -> None:
        for path in (folder / "pets").rglob("*.png"):
            picture(40, 40, int(path.stem)).save(path)
        framing = Framing(40, 0.8)
        split = load(
            f"imagefolder:{folder}/pets", train=False, root=folder, reading=Reading(framing)
        )
        whole = np.stack([np.array(Image.open(path)) for path in split.files])
        assert np.array_equal(split.images[:].permute(0, 2, 3, 1).numpy(), whole)
        assert split.mark == ""
        (folder / "one.png").write_bytes(split.files[3].read_bytes())
        assert split.read is not None
        assert np.array_equal(split.read(folder / "one.png"), whole[3])


class TestRefusals:
    def plan(self, folder: Path, name: str, **options: str) -> str:
        channels = 1 if name == "gray" else 3
        own = Options(folder / "r", folder, weights=(weights(folder, channels),), **options)
        data = [f"imagefolder:{folder}/pets"]
        (job,) = plan([f"{folder}/net.py:{name}"], data, [], ["clean"], own)
        return " ".join(job.weights.notes)

    def test_what_a_network_is_given_is_said(self, folder: Path) -> None:
        said = self.plan(folder, "plain")
        assert "All 20 images of `pets`, which has no halves, are test images" in said
        assert "is given images of 50 x 50 pixels (the short side resized to 50, bicubic" in said
        assert "in [0, 1]. Give `--preprocessing imagenet`, or its own mean" in said
        assert "50, bilinear, the center cropped), normalized by the mean 0.485" in (
            self.plan(folder, "says")
        )
        usual = "size=50 interpolation=bicubic mean=0.5 std=0.5"
        assert "as all are" not in self.plan(folder, "plain", preprocessing=usual)
        for path in (folder / "pets").rglob("*.png"):
            picture(40, 40, int(path.stem)).save(path)
        assert "of 40 x 40 pixels, as all are, normalized" in self.plan(folder, "says")

    def test_a_gray_network(self, folder: Path) -> None:
        with pytest.raises(Refusal, match=r"It takes images \(N, 1, 50, 50\): give .* \"gray\""):
            self.plan(folder, "gray")
        self.plan(folder, "gray", preprocessing="gray")

    def test_a_network_of_another_size(self, folder: Path) -> None:
        with pytest.raises(Refusal, match='takes 64 pixels.* give `--preprocessing "size=64"`'):
            self.plan(folder, "fixed")
        self.plan(folder, "fixed", preprocessing="size=64")


class TestDamaged:
    def test_damaged_pictures_are_left_out_and_counted(self, folder: Path) -> None:
        bad = folder / "pets/dog/4.png"
        bad.write_bytes(bad.read_bytes()[:-300])
        (folder / "pets/cat/9.png").write_bytes(b"")
        words = ["run", "--suite", "clean", "--model", f"{folder}/net.py:plain"]
        words += ["--weights", str(weights(folder)), "--dataset", f"imagefolder:{folder}/pets"]
        words += ["--results", str(folder / "r")]
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 2 and "cat/9.png is empty" in refused.stderr
        done = CliRunner().invoke(app, [*words, "--skip-damaged"])
        assert done.exit_code == 0, done.output
        assert "2 damaged images are left out" in done.stdout
        (beside,) = (folder / "r/pets").rglob("seed0.json")
        assert json.loads(beside.read_text())["images"] == 18


class TestWholeFolders:
    def images(self, folder: Path, results: str, **given: str | Path) -> int:
        spec = f"imagefolder:{folder}/pets"
        table = harness.evaluate(
            f"{folder}/net.py:plain", dataset=spec, results=folder / results, epochs=1, **given
        )
        return int(table["n"].max())

    def test_a_folder_without_halves_is_a_test_set_for_weights_from_elsewhere(
        self, folder: Path
    ) -> None:
        assert self.images(folder, "a", weights=weights(folder)) == 20
        assert self.images(folder, "b") == 4, "it was trained on the others"
        (ours,) = (folder / "b/checkpoints").rglob("*.safetensors")
        assert self.images(folder, "c", weights=ours) == 4, "these were, too"

    def test_halves_are_halves(self, folder: Path) -> None:
        for name in ("cat", "dog"):
            (folder / "pets/val" / name).mkdir(parents=True)
            for i in range(3):
                (folder / "pets" / name / f"{i}.png").rename(
                    folder / "pets/val" / name / f"{i}.png"
                )
        shutil.rmtree(folder / "pets/cat")
        shutil.rmtree(folder / "pets/dog")
        assert self.images(folder, "a", weights=weights(folder)) == 6
