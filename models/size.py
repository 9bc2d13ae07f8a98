"""What a model holds and what it costs: parameters, and multiply-adds of one image."""

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from harness.models.cards import Builder, takes_width


@dataclass(frozen=True)
class Size:
    """Counts of one model.

    Args:
        parameters: Trainable weights.
        macs: Multiply-adds of convolutions and matrix products, for one image; elementwise work
            is left out, as is usual. Where a solver chooses its steps, None.
    """

    parameters: int
    macs: int | None


def size_of(builder: Builder, width: int = 64, num_classes: int = 10, size: int = 32) -> Size:
    """Count without computing: the model is built and called on tensors that hold no numbers.

    Args:
        size: Side of the image in pixels.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        scale = {"width": width} if takes_width(builder) else {}
        model = builder(num_classes=num_classes, **scale).eval()
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                model(torch.rand(1, 3, size, size))
        except torch._subclasses.fake_tensor.DataDependentOutputException:
            return Size(parameters, None)
    return Size(parameters, counter.get_total_flops() // 2)
