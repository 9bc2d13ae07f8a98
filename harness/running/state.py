"""Where a training is: all that it needs to go on bit for bit, and the file that keeps it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.base import Regularized
from harness.refusal import Refusal
from harness.running.recipes import Recipe
from harness.storage import checkpoints
from harness.storage.arrays import Damaged


@dataclass
class State:
    """A training between two steps.

    Args:
        epoch: Whole epochs that are done, and `step` of them in the next one.
        best: Weights, where images are held out.
        within: Of a step that is not the first of an epoch: the sums over the epoch, and the states
            of all generators.
    """

    model: nn.Module
    optimizer: torch.optim.SGD
    epoch: int
    history: list[dict[str, float]]
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    within: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe) -> "State":
        """Return the state before the first epoch."""
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.peak_lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay if is_decayed(model) else 0.0,
            nesterov=recipe.nesterov,
            fused=True,
        )
        for parameter in model.parameters():
            # Now, since the fused step cannot add one for a branch that was left out so far.
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return cls(model, optimizer, 0, [])

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
        }
        checkpoints.write(partial, self.tensors(), description)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a resumed training needs, by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        return tensors | {f"within.{k}": v for k, v in self.within.items()}

    def restore(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        self.model.load_state_dict(_below("model.", tensors))
        for name, parameter in self.model.named_parameters():
            buffer = tensors.get(f"momentum.{name}")
            if buffer is not None:
                # In the parameter's own memory format, which the fused step takes for granted.
                own = torch.empty_like(parameter).copy_(buffer)
                self.optimizer.state[parameter]["momentum_buffer"] = own
        device = next(self.model.parameters()).device
        self.best = {k: v.to(device) for k, v in _below("best.", tensors).items()}
        self.within = _below("within.", tensors)
        self.epoch, self.history = description["epoch"], description["history"]
        self.step = description.get("step", 0)

    def enter(self, augmentation: torch.Generator) -> tuple[Tensor, Tensor]:
        """Set all generators to where the epoch is; return its sums of losses and of hits."""
        device, within = next(self.model.parameters()).device, self.within
        if not within:
            return torch.zeros((), device=device), torch.zeros((), device=device)
        augmentation.set_state(within["augmentation"])
        torch.set_rng_state(within["layers"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(within["layers on the device"], device)
        return within["losses"].to(device), within["hits"].to(device)

    def leave(self, step: int, augmentation: torch.Generator, losses: Tensor, hits: Tensor) -> None:
        """Note where the epoch is, after that many steps."""
        self.step, device = step, losses.device
        self.within = {
            "augmentation": augmentation.get_state(),
            "layers": torch.get_rng_state(),
            "losses": losses,
            "hits": hits,
        }
        if device.type == "cuda":
            self.within["layers on the device"] = torch.cuda.get_rng_state(device)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def is_decayed(model: nn.Module) -> bool:
    """Return whether weights decay: a penalty of a model's own stands in place of it, or beside."""
    return not isinstance(model, Regularized) or bool(getattr(model, "decayed", False))
