"""Batch normalization of evaluation as part of the convolution before it.

    g (w * x + b - m) / sqrt(v + e) + h  =  (s w) * x + s (b - m) + h,  s = g / sqrt(v + e)

It is a rewriting, not an approximation: outputs differ by rounding. A pair is folded where all that
a convolution gives goes to one norm, as one pass over some images shows.

Reference: S. Ioffe and C. Szegedy, Batch Normalization, ICML 2015, section 3.1,
https://arxiv.org/abs/1502.03167.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Uses(TorchDispatchMode):
    """Counts how often each tensor is an operand; keeps them alive, so that an id is one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor):
                self.count[id(leaf)] += 1
                self.kept.append(leaf)
        return func(*args, **(kwargs or {}))


def pairs(model: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions and the norms that can be folded into them.

    Args:
        model: Network in evaluation mode.
        images: (N, 3, H, W) in [0, 1]; the model is called with them once.
    """
    source: dict[int, nn.Conv2d] = {}  # whose output a tensor is
    fed: dict[nn.BatchNorm2d, list[nn.Conv2d | None]] = {}
    given: dict[nn.Conv2d, list[Tensor]] = {}

    def after(conv: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        source[id(output)] = conv
        given.setdefault(conv, []).append(output)

    def before(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        fed.setdefault(norm, []).append(source.get(id(inputs[0])))

    # Subclasses may compute something else.
    hooks = [m.register_forward_hook(after) for m in model.modules() if type(m) is nn.Conv2d]
    hooks += [
        m.register_forward_pre_hook(before)
        for m in model.modules()
        if type(m) is nn.BatchNorm2d and m.running_mean is not None
    ]
    try:
        with torch.no_grad(), Uses() as uses:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for norm, convs in fed.items():
        conv = convs[0]
        if conv is None or any(other is not conv for other in convs):
            continue
        outputs = given[conv]
        # The norm is the one use of each output, and the convolution the one use of its weights.
        alone = len(outputs) == len(convs) and all(uses.count[id(y)] == 1 for y in outputs)
        if alone and uses.count[id(conv.weight)] == len(outputs):
            found.append((conv, norm))
    return found


@contextlib.contextmanager
def fold(model: nn.Module, images: Tensor) -> Iterator[int]:
    """Fold what can be folded of `model`, and undo it at the end; gives the number of norms.

    Weights are folded in their own type, float32, whatever autocast makes of them afterwards.

    Args:
        model: Network in evaluation mode.
        images: (N, 3, H, W) in [0, 1]; the model is called with them once, to see which
            layer feeds which.
    """
    found = pairs(model, images)
    before = [(conv, conv.weight, conv.bias) for conv, _ in found]
    norms = {norm for _, norm in found}
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if child in norms
    ]
    try:
        for conv, norm in found:
            assert norm.running_mean is not None and norm.running_var is not None
            with torch.no_grad():
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight,
                    conv.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
        for parent, name, _ in places:
            setattr(parent, name, nn.Identity())
        yield len(found)
    finally:
        for conv, weight, bias in before:
            conv.weight, conv.bias = weight, bias
        for parent, name, norm in places:
            setattr(parent, name, norm)
