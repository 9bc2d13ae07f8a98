"""What a network is given of an image: its size and crop, gray or colors, normalization.

A network of ours takes images in [0, 1] at the size of the data set and normalizes inside. One
from elsewhere says what it wants: timm's by `pretrained_cfg`, a user's by an attribute
`preprocessing`, or whoever evaluates it by `--preprocessing`:

    size=224 crop=0.875 interpolation=bilinear mean=0.485,0.456,0.406 std=0.229,0.224,0.225 gray

`size` is the side in pixels and `crop` what is kept of the side that the image is resized to
first, so that these are torchvision's `Resize(256)` and `CenterCrop(224)`; `mean` and `std` are
those of values in [0, 1]. Pictures in files are brought to this frame when they are read, and are
corrupted in it; other images are resized on their way into the network.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
MODES = ("center", "squash", "border")  # timm's: crop the short side, distort, pad the long side
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision make gray
LARGEST = 4096  # pixels
IMAGENET = "size=224 crop=0.875 interpolation=bilinear mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
USUAL_SIZES = (224, 32, 28, 64, 96, 112, 128, 160, 192, 256, 288, 299, 320, 384, 448, 512)
PRESETS = {"none": "", "imagenet": IMAGENET}
NETWORK = "network"  # as the network says
HOW = "Write it as in `size=224 crop=0.875 interpolation=bilinear mean=0.5 std=0.5 gray`."


@dataclass(frozen=True)
class Framing:
    """How an image becomes a square.

    Args:
        size: Its side in pixels.
        crop: Part of the resized image's short side that is kept, 0 < crop <= 1.
        interpolation: One of `INTERPOLATIONS`, antialiased.
        mode: One of `MODES`.
    """

    size: int
    crop: float = 1.0
    interpolation: str = "bicubic"
    mode: str = "center"

    @property
    def short_side(self) -> int:
        """The short side that an image is resized to before it is cropped."""
        return math.floor(self.size / self.crop)

    def __str__(self) -> str:
        how = {
            "center": f"the short side resized to {self.short_side}, {self.interpolation}",
            "squash": f"squashed to {self.short_side} x {self.short_side}, {self.interpolation}",
            "border": f"the long side resized to {self.short_side}, {self.interpolation}, padded",
        }[self.mode]
        cropped = ", the center cropped" if self.mode == "center" or self.crop < 1 else ""
        return f"{self.size} x {self.size} pixels ({how}{cropped})"

    @property
    def mark(self) -> str:
        """What is added to a data set's name in tables for images that are framed otherwise."""
        whole = "" if self.crop == 1 else f" of {self.short_side}"
        mode = "" if self.mode == "center" else f" {self.mode}"
        return f"[{self.size}{whole} px {self.interpolation}{mode}]"


@dataclass(frozen=True)
class Preprocessing:
    """What a network is given of an image in [0, 1].

    Args:
        framing: Of pictures in files; None leaves them at the size of the data set.
        inner: Of other images, where the network takes no other size.
        gray: Whether it takes one channel.
        mean, std: Of one or three channels; empty for no normalization.
    """

    framing: Framing | None = None
    inner: Framing | None = None
    gray: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return self != Preprocessing()

    def describe(self, frame: object = None) -> str:
        """Return it in words; `frame` says how the images at hand have been framed."""
        said = [f"of {frame}"] if frame else []
        said += ["gray"] * self.gray
        if self.mean:
            mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
            said.append(f"normalized by the mean {mean} and the deviation {std}")
        return ", ".join(said)

    def apply(self, images: Tensor) -> Tensor:
        """Return images (N, 3, H, W) in [0, 1] as the network takes them."""
        frame = self.inner
        if frame and images.shape[-2:] != (frame.size, frame.size):
            way = InterpolationMode(
                "bicubic" if frame.interpolation == "lanczos" else frame.interpolation
            )
            short = [frame.short_side, frame.short_side]
            images = F.resize(images, short, way, antialias=way != InterpolationMode.NEAREST)
            images = F.center_crop(images, [frame.size, frame.size]).clamp(0, 1)
        if self.gray:
            images = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        if self.mean:
            mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
            images = (images - mean) / std
        return images


class _Prepare:
    """The hook before a network's `forward`; its capabilities and its state stay as they are."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, net: nn.Module, arguments: tuple) -> tuple:
        images, *others = arguments
        return self.preprocessing.apply(images), *others


def prepare(net: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Let a network preprocess the images (N, 3, H, W) in [0, 1] that it is called with.

    Other methods than `forward` that take images, such as `attention_maps`, get them as they are.
    """
    if preprocessing:
        net.register_forward_pre_hook(_Prepare(preprocessing))
    return net


def preprocessing_of(net: nn.Module) -> Preprocessing:
    """Return what `prepare` has told a network, or one that it wraps."""
    for part in net.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, _Prepare):
                return hook.preprocessing
    return Preprocessing()


def parse_preprocessing(text: str) -> Preprocessing:
    """Return what a text like `size=224 crop=0.875` says; "imagenet" and "none" are such texts.

    Raises:
        ValueError: It is no such text.
    """
    words = dict[str, str | bool]()
    for word in PRESETS.get(text.strip(), text).replace(";", " ").split():
        name, equals, value = word.partition("=")
        words[name] = value if equals else True
    return _from_words(words, text)


def said_by(net: nn.Module, weighted: bool) -> Preprocessing:
    """Return what a network says by its attribute `preprocessing`, or by timm's `pretrained_cfg`.

    The attribute is a text as of `parse_preprocessing`, or a dictionary with the same names.

    Args:
        weighted: Whether it comes with weights. Without, what timm says of the frame of pictures is
            left, since the network is trained on whatever it is given.

    Raises:
        ValueError: The attribute says something else.
    """
    said = getattr(net, "preprocessing", None)
    if isinstance(said, str):
        return parse_preprocessing(said)
    if isinstance(said, Mapping):
        return _from_words(said, said)
    cfg = getattr(net, "pretrained_cfg", None)
    if isinstance(cfg, Mapping) and "mean" in cfg:
        found = _from_timm(cfg)
        return found if weighted else replace(found, framing=None)
    return Preprocessing()


def cure_for(net: nn.Module, size: int) -> str:
    """Return what helps a network that fails on images (N, 3, size, size), in a sentence."""
    for channels, side in [(1, size), *((c, s) for s in USUAL_SIZES for c in (3, 1))]:
        with contextlib.suppress(Exception), torch.no_grad():
            net.eval().forward(torch.zeros(2, channels, side, side))
            words = [f"size={side}"] * (side != size) + ["gray"] * (channels == 1)
            text = " ".join(words)
            return (
                f'It takes images (N, {channels}, {side}, {side}): give `--preprocessing "{text}"`.'
            )
    return "Make it take them, or choose another data set."


def _from_timm(cfg: Mapping[str, Any]) -> Preprocessing:
    """What timm's configuration of weights says."""
    channels, height, width = cfg.get("input_size") or (3, 224, 224)
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"The network wants images ({channels}, {height}, {width}); images here are squares "
            "of one or three channels. Choose another network."
        )
    way, mode = cfg.get("interpolation"), cfg.get("crop_mode")
    framing = Framing(
        height,
        min(1.0, float(cfg.get("crop_pct") or 0.875)),
        way if way in INTERPOLATIONS else "bilinear",
        mode if mode in MODES else "center",
    )
    mean, std = ((*cfg[name],) for name in ("mean", "std"))
    plain = set(mean) == {0.0} and set(std) == {1.0}
    normalized = ((), ()) if plain else (mean, std)
    inner = replace(framing, crop=1.0, mode="squash") if cfg.get("fixed_input_size") else None
    return Preprocessing(framing, inner, channels == 1, *normalized)


def _from_words(words: Mapping[str, Any], whole: object) -> Preprocessing:
    """What the words of a text, or of a dictionary, say."""
    rest = dict(words)
    size, gray = rest.pop("size", None), rest.pop("gray", False)
    crop, way = rest.pop("crop", 1.0), rest.pop("interpolation", "bilinear")
    mode = rest.pop("mode", "center")
    mean, std = (_numbers(rest.pop(name, ()), whole) for name in ("mean", "std"))
    if rest:
        raise ValueError(f"`{next(iter(rest))}` is no part of preprocessing. {HOW}")
    if gray not in (True, False):
        raise ValueError(f"`gray` stands alone; got {gray!a}. {HOW}")
    counts = (0, 1) if gray else (0, 1, 3)
    if bool(mean) != bool(std) or any(len(v) not in counts for v in (mean, std)):
        raise ValueError(
            f"{whole!a} needs both a mean and a std, of {' or '.join(map(str, counts[1:]))} "
            f"channels. {HOW}"
        )
    if any(v <= 0 for v in std):
        raise ValueError(f"A deviation in {whole!a} is not above 0. {HOW}")
    if size is None:
        if {"crop", "interpolation", "mode"} & words.keys():
            raise ValueError(f"{whole!a} says how to resize, and not to what `size`. {HOW}")
        return Preprocessing(None, None, bool(gray), mean, std)
    framing = _framing(size, crop, way, mode, whole)
    return Preprocessing(framing, framing, bool(gray), mean, std)


def _framing(size: Any, crop: Any, way: Any, mode: Any, whole: object) -> Framing:
    try:
        pixels, part = int(size), float(crop)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{whole!a} has a size or crop that is no number. {HOW}") from None
    if not 1 <= pixels <= LARGEST:
        raise ValueError(f"The size of {whole!a} is not from 1 to {LARGEST} pixels. {HOW}")
    if not (part <= 1 and pixels / LARGEST <= part):
        raise ValueError(f"The crop of {whole!a} is not a part of the image, such as 0.875. {HOW}")
    if way not in INTERPOLATIONS:
        raise ValueError(f"There is no interpolation {way!a}. Use {', '.join(INTERPOLATIONS)}.")
    if mode not in MODES:
        raise ValueError(f"There is no mode {mode!a}. Use {', '.join(MODES)}.")
    return Framing(pixels, part, way, mode)


def _numbers(value: Any, whole: object) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(v) for v in (parts if isinstance(parts, list | tuple) else (parts,)))
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{whole!a} has a mean or std that is no number. {HOW}")
    return numbers
