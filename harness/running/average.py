"""The moving average of a training's weights, which counts in place of the last ones."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

FIRST = 10  # the n-th step keeps (1 + n) / (FIRST + n) of the average, or less by the model's ema


class Average:
    """Exponential moving average of the parameters of a model.

        a_n = d_n a_{n-1} + (1 - d_n) p_n,   d_n = min(ema, (1 + n) / (10 + n)),   n = 1, 2, ...,

    from a_0 = p_0: over about the last tenth of the steps at first, so that a short training does
    not keep its initial weights. Batch statistics and other buffers stay those of the model.
    Reference: TensorFlow, tf.train.ExponentialMovingAverage with `num_updates`. Deviations: none.

    Attributes:
        values: The averages by name, on the device of the parameters.
        steps: n, (), on the device, so that a step asks nothing of the host.
    """

    def __init__(self, model: nn.Module, ema: float) -> None:
        self._model, self._ema = model, ema
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}
        device = next(iter(self.values.values())).device
        self.steps = torch.zeros((), device=device)

    @torch.no_grad()
    def update(self) -> None:
        """Take up the model's parameters after a step."""
        self.steps += 1
        kept = ((1 + self.steps) / (FIRST + self.steps)).clamp(max=self._ema)
        for name, parameter in self._model.named_parameters():
            self.values[name].lerp_(parameter, (1 - kept).to(parameter.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """Return what changes, by name."""
        return {**self.values, "steps of the average": self.steps}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Write the average into the model, for good."""
        for name, parameter in self._model.named_parameters():
            parameter.copy_(self.values[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the average meanwhile."""
        own = {name: p.detach().clone() for name, p in self._model.named_parameters()}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._model.named_parameters():
                    parameter.copy_(own[name])
