"""Where a model looks, and whether that moves when its images are corrupted.

For a model with attention, every statistic of `map_statistics` is taken of four maps:

    used      the weights that multiply the values; for `pde_attention`, the diffused ones
    sharp     softmax(scores), as if nothing diffused
    matched   softmax(scores / tau), tau for each layer and head by bisection on 1,000 training
              images, so that its mean row entropy is that of `used`; then frozen
    level     the same at a mean row entropy of 0.75 log K for K keys

Diffusing scores raises the entropy of rows by itself, and so does a temperature. What diffusion
does is the difference between `used` and `matched`, image by image (variant `over matched`); the
one to `sharp` alone shows nothing. The accuracy of `sharp` and `matched` is that of the same
network with these maps in place of its own, `gain` its own accuracy less theirs.

That is a difference inside one network, most of which the stencil makes, whatever was learned: it
is as large in networks that were not trained. What was learned is seen in `level` maps. They are of
the scores before anything diffuses, and as sharp in every network, so that they compare different
networks: whether training with diffused attention makes a network attend differently is the
difference of `level` maps between the trained `pde_attention` and the trained
`temperature_attention` of the same seed, less the same difference between the two untrained (where
it is 0: equal initial values, equal scores). A head whose scores are constant has no such
temperature; it is left out, and counted (`constant`, of `level` the share of heads).

For a convolutional network without attention the maps are those of Grad-CAM, named so, behind the
last block of each resolution. For both, instability is 1 - Spearman's rank correlation of a row
under a clean and a corrupted image; a temperature changes no rank, so that of `matched` and `level`
is that of `sharp`. An image's number is the mean over queries, then heads; variants `head H` and
`class C` say it for one head, or the images of one class. Attention of several layers has the
layer's name in it. Constant rows have no ranks, and Grad-CAM maps without a positive place are no
distributions: both are counted (`constant`, `zero`) and left out.

Not measured: whether what is looked at matters for the answer (deletion, insertion).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from harness.models.base import AttentionMap, Redirectable
from harness.suites.attention_metrics import CONSTANT, GAIN, INSTABILITY, MAP_STATISTICS, TAU, ZERO
from harness.suites.base import (
    Arrays,
    Batch,
    Cell,
    Measurement,
    Setting,
    Subject,
    Suite,
    Tensors,
)
from harness.suites.catalog import SUITES
from harness.suites.grad_cam import grad_cam
from harness.suites.map_statistics import entropy, ranks, spearman_of_ranks, statistics
from harness.suites.metric import Metric, array_name, variant
from harness.suites.metrics import ACCURACY, NLL, SCORES, metric_of
from harness.suites.observe import classification, logits, means
from harness.suites.robustness import constants_of, made_with, select_corruptions
from harness.suites.temperatures import level, match, rows

SEVERITIES = (1, 3, 5)
ROOM = 2**25  # weights looked at in one go; more images than that go in parts
OTHERS = ("sharp", "matched")  # maps that the used one is compared with
OF_SCORES = ("matched", "level")  # maps at a temperature


def cells(setting: Setting) -> tuple[Cell, ...]:
    if not setting.can & {"attention", "blocks"}:
        raise ValueError(
            "The suite `attention` needs a model with `attention_maps`, or with `blocks` for "
            "Grad-CAM. Choose one of the registry, or give yours one of these."
        )
    constants = constants_of(setting)
    found = [Cell("clean")]
    for kind in select_corruptions(setting.corruptions or ("noise", "blur")):
        for severity in SEVERITIES:
            prepare = partial(kind, severity=severity, constants=constants)
            made = made_with(kind, constants)
            found.append(Cell(kind.__name__, severity, prepare, made))
    return tuple(found)


def calibrate(subject: Subject, images: Tensor) -> Tensors:
    """Return tau (2, heads) of `matched` and `level` maps by layer, of images (N, 3, H, W)."""
    one = attention_maps(subject, images[:1])
    room = ROOM // max(m.scores.numel() for m in one.values())
    maps = attention_maps(subject, images[: max(1, room)])
    found = {}
    for name, layer in maps.items():
        scores, used = layer.scores.float(), entropy(layer.weights.float()).mean((0, 2))
        found[name] = torch.stack((match(scores, used), level(scores)))
    return found


def attention_maps(subject: Subject, images: Tensor) -> Mapping[str, AttentionMap]:
    """Return the maps of each layer, in evaluation mode and the subject's arithmetic."""
    with subject.arithmetic():
        return subject.model.attention_maps(images)  # type: ignore[operator]


def saliency_maps(
    subject: Subject, batch: Batch, classes: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return Grad-CAM's maps by resolution, and the classes (N,) they speak for."""
    blocks = subject.model.blocks()  # type: ignore[operator]
    return grad_cam(
        lambda images: subject(replace(batch, images=images)), blocks, batch.images, classes
    )


def versions(layer: AttentionMap, taus: Tensor) -> dict[str, Tensor]:
    """Return the four maps that are compared, (N, heads, Q, K); NaN for heads without a level.

    Args:
        taus: (2, heads), as `calibrate` finds them.
    """
    scores = layer.scores.float()
    found = {kind: rows(scores, tau) for kind, tau in zip(OF_SCORES, taus, strict=True)}
    return {"used": layer.weights.float(), "sharp": rows(scores, 1.0)} | found


def of_images(found: Tensor) -> Tensor:
    """Return (N,) of (N, heads, Q): the mean over queries, then heads, of what is there."""
    return found.nanmean(dim=2).nanmean(dim=1)


def statistics_of(maps: Mapping[str, AttentionMap], taus: Tensors) -> dict[str, Tensor]:
    """Return statistics (N,) and mean maps (N, h, w) of the attention of clean images."""
    found: dict[str, Tensor] = {}
    for name, layer in maps.items():
        place = name if len(maps) > 1 else ""
        tau = taus[name].to(layer.scores.device)
        kinds = versions(layer, tau)
        values = {k: statistics(a, layer.height, layer.width, True) for k, a in kinds.items()}
        for kind, a in kinds.items():
            whole = a.nanmean((1, 2)).view(-1, layer.height, layer.width)
            found[f"map:{variant(kind, place)}"] = whole
        for i, statistic in enumerate(MAP_STATISTICS):
            found |= by_variant(statistic, place, {k: v[..., i] for k, v in values.items()})
        found |= temperatures(tau, place, len(layer.scores))
    return found


def temperatures(taus: Tensor, place: str, count: int) -> dict[str, Tensor]:
    """Return tau (N,) of each head, the same for all images, and the share of heads without."""
    found = {}
    for kind, tau in zip(("", "level"), taus.float(), strict=True):
        for head, value in enumerate(tau):
            name = variant(kind, place, f"head {head}")
            found[array_name(TAU, name)] = value.expand(count).clone()
    without = taus[1].isnan().float().mean()
    return found | {array_name(CONSTANT, variant("level", place)): without.expand(count).clone()}


def by_variant(metric: Metric, place: str, kinds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a statistic of maps (N, heads, Q) by image, of heads, and less that of other maps."""
    whole = {kind: of_images(values) for kind, values in kinds.items()}
    found = {array_name(metric, variant(kind, place)): values for kind, values in whole.items()}
    for head in range(kinds["used"].shape[1]):
        one = of_images(kinds["used"][:, head : head + 1])
        found[array_name(metric, variant("used", place, f"head {head}"))] = one
    for other in OTHERS:
        if other in whole:
            name = array_name(metric, variant(f"over {other}", place))
            found[name] = whole["used"] - whole[other]
    return found


def changes_of(
    maps: Mapping[str, AttentionMap], taus: Tensors, clean: Tensors
) -> dict[str, Tensor]:
    """Return statistics (N,) of the attention of corrupted images, and how far the maps moved.

    Args:
        clean: Ranks of the clean images' maps, as `remember` gives them.
    """
    found: dict[str, Tensor] = {}
    for name, layer in maps.items():
        place = name if len(maps) > 1 else ""
        kinds = {"used": layer.weights.float(), "sharp": rows(layer.scores.float(), 1.0)}
        values = statistics(kinds["used"], layer.height, layer.width, True)
        for i, statistic in enumerate(MAP_STATISTICS):
            found[array_name(statistic, variant("used", place))] = of_images(values[..., i])
        moved = {
            kind: 1 - spearman_of_ranks(clean[f"{kind}:{name}"].double(), ranks(a))
            for kind, a in kinds.items()
        }
        moved["matched"] = moved["sharp"]  # no temperature changes a rank
        without = taus[name][1].isnan().to(layer.scores.device)
        moved["level"] = moved["sharp"].masked_fill(without[:, None], torch.nan)
        found |= by_variant(INSTABILITY, place, moved)
        for kind, a in moved.items():
            found[array_name(CONSTANT, variant(kind, place))] = a.isnan().float().mean((1, 2))
    return found


def redirect(subject: Subject, batch: Batch, cell: Cell, own: Tensor) -> dict[str, Tensor]:
    """Return hits and losses (N,) of the same network with other maps in place of its own.

    Args:
        own: Logits with its own.
    """
    model, taus = subject.model, subject.calibration
    assert isinstance(model, Redirectable)
    rules: dict[str, Callable[[str, Tensor], Tensor]] = {
        "sharp": lambda name, scores: rows(scores, 1.0),
        "matched": lambda name, scores: rows(scores, taus[name][0].to(scores)),
    }
    hit = score(ACCURACY, own, batch.labels)
    found = {}
    for kind, rule in rules.items():
        model.attend_by(rule)
        try:
            outputs = logits(subject, batch, cell)["logits"]
        finally:
            model.attend_by(None)
        found[array_name(ACCURACY, kind)] = score(ACCURACY, outputs, batch.labels)
        found[array_name(NLL, kind)] = score(NLL, outputs, batch.labels)
        found[array_name(GAIN, f"over {kind}")] = hit - found[array_name(ACCURACY, kind)]
    return found


def score(metric: Metric, outputs: Tensor, labels: Tensor) -> Tensor:
    """Return a metric of logits image by image, (N,), on the CPU."""
    assert metric.of_images is not None
    values = metric.of_images(outputs.float().cpu().numpy(), labels.cpu().numpy())
    return torch.from_numpy(values.astype(np.float32))


def small(found: Tensor) -> Tensor:
    """Return ranks in half precision where it holds them exactly."""
    return found.half() if found.shape[-1] <= 1024 else found.float()


def in_parts(subject: Subject, batch: Batch, look: Callable[[Batch], Tensors]) -> Tensors:
    """Return what `look` gives of as many images at a time as their maps leave room for."""
    one = attention_maps(subject, batch.images[:1])
    room = max(1, ROOM // (4 * sum(m.scores.numel() for m in one.values())))
    found = [look(batch.part(slice(i, i + room))) for i in range(0, len(batch), room)]
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def remember(subject: Subject, batch: Batch) -> Tensors:
    """Return what corrupted maps are compared with: the ranks of the clean ones.

    Returns:
        `KIND:LAYER` for attention; `classes` (N,) that were predicted and ranks by resolution for
        Grad-CAM.
    """
    if not subject.calibration:
        maps, classes = saliency_maps(subject, batch)
        return {name: small(ranks(m.flatten(1))) for name, m in maps.items()} | {"classes": classes}

    def ranks_of(part: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, layer in attention_maps(subject, part.images).items():
            kinds = {"used": layer.weights.float(), "sharp": rows(layer.scores.float(), 1.0)}
            found |= {f"{kind}:{name}": small(ranks(a)) for kind, a in kinds.items()}
        return found

    return in_parts(subject, batch, ranks_of)


def observe_attention(subject: Subject, batch: Batch, cell: Cell) -> Tensors:
    """Return what an attending model shows of images (N, 3, H, W).

    Returns:
        Logits (N, num_classes), of redirected attention too; statistics (N,) and mean maps
        (N, h, w) of each layer, as it attends, sharp and matched.
    """
    maps = attention_maps(subject, batch.images)
    found = dict(logits(subject, batch, cell))
    if isinstance(subject.model, Redirectable):
        found |= redirect(subject, batch, cell, found["logits"])
    if batch.clean is None:
        return found | statistics_of(maps, subject.calibration)
    return found | changes_of(maps, subject.calibration, batch.clean)


def observe_grad_cam(subject: Subject, batch: Batch, cell: Cell) -> Tensors:
    """Return what Grad-CAM shows of a model of blocks on images (N, 3, H, W).

    Returns:
        Logits (N, num_classes); statistics (N,) and maps (N, h, w) of each resolution, for the
        class that is predicted on the clean image: the map, not the class, is what may move.
    """
    maps, _ = saliency_maps(subject, batch, None if batch.clean is None else batch.clean["classes"])
    found = dict(logits(subject, batch, cell))
    for name, m in maps.items():
        a, kind = m.flatten(1), f"gradcam {name}"
        values = statistics(a, m.shape[1], m.shape[2])
        for i, statistic in enumerate(MAP_STATISTICS[: values.shape[-1]]):
            found[array_name(statistic, kind)] = values[:, i]
        found[array_name(ZERO, kind)] = a.isnan().any(dim=1).float()
        if batch.clean is None:
            found[f"map:{kind}"] = m
        else:
            moved = 1 - spearman_of_ranks(batch.clean[name].double(), ranks(a))
            found[array_name(INSTABILITY, kind)] = moved
            found[array_name(CONSTANT, kind)] = moved.isnan().float()
    return found


def observe(subject: Subject, batch: Batch, cell: Cell) -> Tensors:
    """Return logits, statistics (N,) under their metrics' names, and mean maps (N, H, W)."""
    if not subject.calibration:
        return observe_grad_cam(subject, batch, cell)
    return in_parts(subject, batch, lambda part: observe_attention(subject, part, cell))


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    labels, clean = arrays["labels"], cell.condition == "clean"
    yield from classification(cell, arrays)
    yield from means(cell, arrays)
    for name, values in arrays.items():
        known = metric_of(name)
        if known is None or values.shape != labels.shape:
            continue
        metric, kind = known
        whole = kind.startswith(("used", "level", "gradcam")) and "head" not in kind
        if not whole or metric is CONSTANT or not (clean or metric is INSTABILITY):
            continue
        for label in np.unique(labels).tolist():
            own = values[np.isfinite(values) & (labels == label)]
            if len(own):
                value = float(own.astype(float).mean())
                yield cell.row(metric, value, len(own), variant(kind, f"class {label}"))


@SUITES.register
def attention() -> Suite[Cell]:
    """Where a model looks: attention or Grad-CAM maps, clean and corrupted."""
    return Suite(
        3,
        cells,
        observe,
        measure,
        metrics=(*SCORES, *MAP_STATISTICS, INSTABILITY, CONSTANT, ZERO, TAU, GAIN),
        calibrate=lambda setting: calibrate if "attention" in setting.can else None,
        remember=remember,
        inside=True,
    )
