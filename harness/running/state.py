"""Where a training is: all that it needs to go on bit for bit, and the file that keeps it."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.base import Averaged, Regularized
from harness.refusal import Refusal
from harness.running.average import Average
from harness.running.recipes import Recipe
from harness.storage import checkpoints
from harness.storage.arrays import Damaged

# What optimizers keep of each parameter, and what it is called in a file.
KEPT = {
    "momentum_buffer": "momentum",
    "exp_avg": "mean",
    "exp_avg_sq": "mean square",
    "step": "steps",
}


@dataclass
class Stopwatch:
    """How long a training took, its stretches before it was stopped among them."""

    earlier: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return round(self.earlier + time.monotonic() - self.began, 1)


@dataclass
class State:
    """A training between two steps.

    Args:
        epoch: Whole epochs that are done, and `step` of them in the next one.
        best: Weights, where images are held out.
        average: Of a model that is evaluated with an average of its weights.
        within: Of a step that is not the first of an epoch: the sums over the epoch, and the states
            of all generators.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int
    history: list[dict[str, float]]
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    within: dict[str, Tensor] = field(default_factory=dict)
    average: Average | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe) -> "State":
        """Return the state before the first epoch."""
        average = Average(model, model.ema) if isinstance(model, Averaged) else None
        return cls(model, _optimizer(model, recipe), 0, [], average=average)

    def resume(self, partial: Path, identity: dict[str, Any]) -> str:
        """Go on from `partial` if it is of the same training; remove it if it is damaged.

        Returns:
            A sentence on what was found; empty for nothing.

        Raises:
            Refusal: It is of the same training, and not what that keeps.
        """
        if not partial.is_file():
            return ""
        try:
            tensors, description = checkpoints.read_tensors(partial)
        except Damaged as error:
            partial.unlink()
            return f"{error} It is removed: the training begins anew."
        if description.get("identity") != identity:
            return f"The state in {partial} is of another training: this one begins anew."
        try:
            self.restore(tensors, description)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            raise Refusal(
                f"{partial} is not what a training keeps: {' '.join(str(error).split())[:200]}. "
                "Remove it, and the training begins anew."
            ) from error
        return f"It goes on after epoch {self.epoch}, step {self.step} of the next."

    def save(self, partial: Path, identity: dict[str, Any]) -> None:
        """Keep the state, to go on from."""
        description = {
            "identity": identity,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "seconds": self.watch.seconds,
        }
        checkpoints.write(partial, self.tensors(), description)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a resumed training needs, by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{KEPT[key]}.{name}"] = value
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.tensors().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        return tensors | {f"within.{k}": v for k, v in self.within.items()}

    def restore(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        self.model.load_state_dict(_below("model.", tensors))
        for name, parameter in self.model.named_parameters():
            for key, own in self.optimizer.state[parameter].items():
                # In the parameter's own memory format, which the fused step takes for granted.
                own.copy_(tensors[f"{KEPT[key]}.{name}"])
        if self.average is not None:
            self.average.restore(_below("average.", tensors))
        device = next(self.model.parameters()).device
        self.best = {k: v.to(device) for k, v in _below("best.", tensors).items()}
        self.within = _below("within.", tensors)
        self.epoch, self.history = description["epoch"], description["history"]
        self.step = description.get("step", 0)
        self.watch.earlier = float(description.get("seconds", 0))

    def finish(self) -> None:
        """Give the model the weights that count: the best, else their average, else the last."""
        if self.best:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            self.average.apply()

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Give the model the weights that it is evaluated with, meanwhile."""
        return contextlib.nullcontext() if self.average is None else self.average.applied()

    def enter(self, generators: Mapping[str, torch.Generator]) -> tuple[Tensor, Tensor]:
        """Set all generators to where the epoch is; return its sums of losses and of hits."""
        device, within = next(self.model.parameters()).device, self.within
        if not within:
            return torch.zeros((), device=device), torch.zeros((), device=device)
        for purpose, generator in generators.items():
            generator.set_state(within[purpose])
        torch.set_rng_state(within["layers"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(within["layers on the device"], device)
        return within["losses"].to(device), within["hits"].to(device)

    def leave(
        self, step: int, generators: Mapping[str, torch.Generator], losses: Tensor, hits: Tensor
    ) -> None:
        """Note where the epoch is, after that many steps."""
        self.step, device = step, losses.device
        self.within = {
            **{purpose: generator.get_state() for purpose, generator in generators.items()},
            "layers": torch.get_rng_state(),
            "losses": losses,
            "hits": hits,
        }
        if device.type == "cuda":
            self.within["layers on the device"] = torch.cuda.get_rng_state(device)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, with all that it will keep of each parameter.

    Now, since a fused step cannot add it for a branch that was left out so far.
    """
    decay = recipe.weight_decay if is_decayed(model) else 0.0
    found: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        betas = (recipe.momentum, 0.999)
        found = torch.optim.Adam(
            model.parameters(), recipe.peak_lr, betas, weight_decay=decay, fused=True
        )
        names = ["exp_avg", "exp_avg_sq"]
    else:
        found = torch.optim.SGD(
            model.parameters(),
            lr=recipe.peak_lr,
            momentum=recipe.momentum,
            weight_decay=decay,
            nesterov=recipe.nesterov,
            fused=True,
        )
        names = ["momentum_buffer"]
    for parameter in model.parameters():
        found.state[parameter] |= {name: torch.zeros_like(parameter) for name in names}
        if recipe.optimizer == "adam":
            found.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return found


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def is_decayed(model: nn.Module) -> bool:
    """Return whether weights decay: a penalty of a model's own stands in place of it, or beside."""
    return not isinstance(model, Regularized) or bool(getattr(model, "decayed", False))
