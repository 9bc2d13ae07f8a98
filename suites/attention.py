"""Where a model looks, and whether that moves when its images are corrupted.

For a model with attention, every statistic of `map_statistics` is taken of three maps:

    used      the weights that multiply the values; for `pde_attention`, the diffused ones
    sharp     softmax(scores), as if nothing diffused
    matched   softmax(scores / tau), tau for each layer and head by bisection on 1,000 training
              images, so that its mean row entropy is that of `used`; then frozen

Diffusing scores raises the entropy of rows by itself, and so does a temperature. What diffusion
does is the difference between `used` and `matched`, image by image (`entropy_over_matched`); the
one to `sharp` alone shows nothing. `accuracy_sharp` and `accuracy_matched` are those of the same
network with these maps in place of its own, `gain_over_sharp` and `gain_over_matched` its accuracy
less theirs.

For a convolutional network without attention the maps are those of Grad-CAM, named so, behind the
last block of each resolution. For both, instability is 1 - Spearman's rank correlation of a row
under a clean and a corrupted image; a temperature changes no rank, so that of `matched` is that of
`sharp`. An image's number is the mean over queries, then heads;
`_head_H` and `_class_C` say it for one head, or the images of one class. Attention of several
layers has the layer's name in it. Constant rows have no ranks, and Grad-CAM maps without a
positive place are no distributions: both are counted (`constant_*`, `zero_*`) and left out.

Not measured: whether what is looked at matters for the answer (deletion, insertion).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.base import AttentionMap, Redirectable
from suites.base import SUITES, Arrays, Calibrate, Cell, Measurement, Prepare, Setting, Suite
from suites.grad_cam import grad_cam
from suites.map_statistics import OF_ATTENTION, OF_MAPS, entropy, spearman, statistics
from suites.metrics import METRICS, hits, nll_of_images
from suites.observe import logits
from suites.robustness import chosen, constants_of, made_with

SEVERITIES = (1, 3, 5)
MATCHED = 1e-3  # relative error of the matched entropy
WIDEST = 256.0  # the temperatures tried are 1 / WIDEST to WIDEST
ROOM = 2**25  # weights looked at in one go; more images than that go in parts


@dataclass(frozen=True)
class Corrupted:
    """What becomes of the clean images, which the observer sees too.

    Args:
        seed: Of the draws on images.
    """

    prepare: Prepare
    seed: int

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Corrupt images (N, 3, H, W) in [0, 1] at these positions of their data set."""
        whole = (images * 255).round().to(torch.uint8).contiguous()
        made = self.prepare(whole, indices.to(images.device), self.seed).float() / 255
        return made.contiguous(memory_format=torch.channels_last)


def cells(setting: Setting) -> tuple[Cell, ...]:
    if not setting.can & {"attention", "blocks"}:
        raise ValueError(
            "The suite `attention` needs a model with `attention_maps`, or with `blocks` for "
            "Grad-CAM. Choose one of the registry, or give yours one of these."
        )
    constants = constants_of(setting)
    found = [Cell("clean")]
    for kind in chosen(setting.corruptions or ("noise", "blur")):
        for severity in SEVERITIES:
            how = Corrupted(partial(kind, severity=severity, constants=constants), setting.seed)
            made = made_with(kind, constants)
            found.append(Cell(kind.__name__, severity, constants=made, how=how))
    return tuple(found)


def rows(scores: Tensor, tau: Tensor | float) -> Tensor:
    """Return softmax(scores / tau) over keys, scores (N, heads, Q, K), tau (heads,)."""
    tau = tau[:, None, None] if isinstance(tau, Tensor) else tau
    return (scores / tau).softmax(dim=-1)


def match(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return tau (heads,): mean row entropy of softmax(scores / tau) is `wanted` (heads,).

    By bisection in log tau: dH / dtau = Var_alpha(scores) / tau^3 >= 0, so the root is unique. A
    head whose entropy is right at 1, or does not depend on tau, keeps 1.
    """

    def off(tau: Tensor) -> Tensor:
        return entropy(rows(scores, tau)).mean((0, 2)) - wanted

    low = torch.full_like(wanted, 1 / WIDEST)
    high = torch.full_like(wanted, WIDEST)
    same = off(torch.ones_like(wanted)).abs() <= 0.1 * MATCHED * wanted
    for _ in range(20):
        middle = (low * high).sqrt()
        above = off(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(same, torch.ones_like(wanted), (low * high).sqrt())


def calibrate(subject: Any, images: Tensor) -> Arrays:
    """Return tau (heads,) of each layer, from training images (N, 3, H, W)."""
    one = attention_maps(subject, images[:1])
    room = ROOM // max(m.scores.numel() for m in one.values())
    maps = attention_maps(subject, images[: max(1, room)])
    return {
        name: match(m.scores.float(), entropy(m.weights.float()).mean((0, 2)))
        for name, m in maps.items()
    }


def attention_maps(subject: Any, images: Tensor) -> Mapping[str, AttentionMap]:
    """Return the maps of each layer, in evaluation mode and the subject's arithmetic."""
    enabled = subject.dtype == "bfloat16"
    with torch.autocast(subject.device.type, torch.bfloat16, enabled=enabled):
        return subject.model.attention_maps(images)


def versions(layer: AttentionMap, tau: Tensor) -> dict[str, Tensor]:
    """Return the three maps that are compared, (N, heads, Q, K)."""
    scores = layer.scores.float()
    return {"used": layer.weights.float(), "sharp": rows(scores, 1.0), "matched": rows(scores, tau)}


def of_images(found: Tensor) -> Tensor:
    """Return (N,) of (N, heads, Q): the mean over queries, then heads, of what is there."""
    return found.nanmean(dim=2).nanmean(dim=1)


def described(
    maps: Mapping[str, AttentionMap], taus: Arrays, before: Mapping[str, AttentionMap] | None
) -> dict[str, Tensor]:
    """Return per-image arrays of attention; with the clean maps `before`, its instability too."""
    found: dict[str, Tensor] = {}
    for name, layer in maps.items():
        place = f"_{name}" if len(maps) > 1 else ""
        tau = taus[name].to(layer.scores.device)
        kinds = versions(layer, tau)
        for kind, a in kinds.items():
            if before is not None and kind != "used":
                continue  # of corrupted images, the maps that the model has
            values = statistics(a, layer.height, layer.width, attention=True)
            for i, statistic in enumerate(OF_ATTENTION):
                found[f"{statistic}_{kind}{place}"] = of_images(values[..., i])
                if before is None and kind == "used":
                    for head in range(a.shape[1]):
                        one = values[:, head : head + 1, :, i]
                        found[f"{statistic}_{kind}{place}_head_{head}"] = of_images(one)
        if before is None:
            for head in range(len(tau)):
                shape = len(layer.scores)
                found[f"tau{place}_head_{head}"] = tau[head].float().expand(shape).clone()
            for kind, a in kinds.items():
                found[f"map_{kind}{place}"] = a.mean((1, 2)).view(-1, layer.height, layer.width)
            continue
        for kind, a in versions(before[name], tau).items():
            if kind == "matched":  # the ranks of `sharp`, of which no temperature changes any
                found[f"instability_matched{place}"] = found[f"instability_sharp{place}"]
                found[f"constant_matched{place}"] = found[f"constant_sharp{place}"]
                continue
            moved = 1 - spearman(a, kinds[kind])
            found[f"instability_{kind}{place}"] = of_images(moved)
            found[f"constant_{kind}{place}"] = moved.isnan().float().mean((1, 2))
            if kind == "used":
                for head in range(a.shape[1]):
                    one = of_images(moved[:, head : head + 1])
                    found[f"instability_{kind}{place}_head_{head}"] = one
    for key in list(found):
        if "_used" in key and "_head_" not in key and not key.startswith(("map_", "constant_")):
            for other in ("sharp", "matched"):
                against = found.get(key.replace("_used", f"_{other}"))
                if against is not None:
                    found[key.replace("_used", f"_over_{other}")] = found[key] - against
    return found


def redirected(
    subject: Any, images: Tensor, labels: Tensor, cell: Cell, own: Tensor
) -> dict[str, Tensor]:
    """Return hits and losses (N,) of the same network with other maps in place of its own.

    Args:
        own: Logits with its own.
    """
    model, taus = subject.model, subject.calibration
    found = {}
    rules = {
        "sharp": lambda name, scores: rows(scores, 1.0),
        "matched": lambda name, scores: rows(scores, taus[name].to(scores)),
    }
    for kind, rule in rules.items():
        model.attend_by(rule)
        try:
            outputs = logits(subject, images, labels, cell)["logits"]
        finally:
            model.attend_by(None)
        hit = hits(outputs, labels).float()
        found[f"accuracy_{kind}"] = hit
        found[f"nll_{kind}"] = nll_of_images(outputs, labels).float()
        found[f"gain_over_{kind}"] = hits(own, labels).float() - hit
    return found


def observe_attention(subject: Any, images: Tensor, labels: Tensor, cell: Cell) -> Arrays:
    """Return what an attending model shows of images (N, 3, H, W), as `cell` corrupts them.

    Returns:
        Logits (N, num_classes), of redirected attention too; statistics (N,) and mean maps
        (N, h, w) of each layer, as it attends, sharp and matched.
    """
    clean = attention_maps(subject, images)
    maps, before = clean, None
    if cell.how is not None:
        images = cell.how(images, subject.indices)
        maps, before = attention_maps(subject, images), clean
    found = dict(logits(subject, images, labels, cell))
    if isinstance(subject.model, Redirectable):
        found |= redirected(subject, images, labels, cell, found["logits"])
    return found | described(maps, subject.calibration, before)


def observe_grad_cam(subject: Any, images: Tensor, labels: Tensor, cell: Cell) -> Arrays:
    """Return what Grad-CAM shows of a model of blocks on images (N, 3, H, W).

    Returns:
        Logits (N, num_classes); statistics (N,) and maps (N, h, w) of each resolution, for the
        class that is predicted on the clean image.
    """
    blocks = subject.model.blocks()
    clean, classes = grad_cam(subject, blocks, images)
    maps = clean
    if cell.how is not None:
        images = cell.how(images, subject.indices)
        # For the class that was predicted before: the map, not the class, is what may move.
        maps, _ = grad_cam(subject, blocks, images, classes)
    found = dict(logits(subject, images, labels, cell))
    for name, m in maps.items():
        a = m.flatten(1)
        values = statistics(a, m.shape[1], m.shape[2])
        for i, statistic in enumerate(OF_MAPS):
            found[f"{statistic}_gradcam_{name}"] = values[:, i]
        found[f"zero_gradcam_{name}"] = a.isnan().any(dim=1).float()
        if cell.how is None:
            found[f"map_gradcam_{name}"] = m
        else:
            moved = 1 - spearman(clean[name].flatten(1), a)
            found[f"instability_gradcam_{name}"] = moved
            found[f"constant_gradcam_{name}"] = moved.isnan().float()
    return found


def observe(subject: Any, images: Tensor, labels: Tensor, cell: Cell) -> Arrays:
    """Return logits, statistics (N,) under their metrics' names, and mean maps (N, H, W)."""
    attends = bool(subject.calibration)
    look = observe_attention if attends else observe_grad_cam
    if not attends:
        return look(subject, images, labels, cell)
    one = attention_maps(subject, images[:1])
    room = max(1, ROOM // (4 * sum(m.scores.numel() for m in one.values())))
    indices, parts = subject.indices, []
    for i in range(0, len(images), room):
        subject.indices = indices[i : i + room]
        parts.append(look(subject, images[i : i + room], labels[i : i + room], cell))
    subject.indices = indices
    return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def calibrates(setting: Setting) -> Calibrate | None:
    return calibrate if "attention" in setting.can else None


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    labels = arrays["labels"]

    def row(metric: str, value: float, n: int) -> Measurement:
        return Measurement(cell.condition, cell.level, metric, value, n)

    for metric in METRICS:
        yield row(metric.__name__, metric(arrays["logits"], labels), len(labels))
    for name, values in arrays.items():
        if values.shape != labels.shape or name in ("labels", "indices"):
            continue
        there = values.isfinite()
        if not there.any():
            continue
        yield row(name, float(values[there].double().mean()), int(there.sum()))
        wanted = cell.condition == "clean" or name.startswith("instability")
        if wanted and ("_used" in name or "_gradcam" in name) and "_head_" not in name:
            for label in labels.unique().tolist():
                of_class = there & (labels == label)
                if of_class.any():
                    value = float(values[of_class].double().mean())
                    yield row(f"{name}_class_{label}", value, int(of_class.sum()))


@SUITES.register
def attention() -> Suite:
    """Where a model looks: attention or Grad-CAM maps, clean and corrupted."""
    return Suite(1, cells, observe, measure, calibrate=calibrates, inside=True)
