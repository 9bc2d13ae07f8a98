"""Initial weights keyed by seed, name and shape: common random numbers.

Two networks of one seed share the initial values of every parameter that both have, under the same
name and of the same shape, whatever else they have and in whatever order it is made. So a network
and its null model differ at the start by what the idea changes, and nothing else, and their seeds
are pairs. A wrapper around a whole network (`backbone.`) is no part of a name.

The network is built twice. The first time shows which random draw ends in which parameter; the
second time the generator is seeded anew before each draw.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.running.repeatable import seed_for

WRAPPERS = ("backbone.",)
RANDOM = torch.Tag.nondeterministic_seeded


class _Draws(TorchDispatchMode):
    """Calls `before(i)` ahead of the i-th random draw, and keeps what was drawn into."""

    def __init__(self, before: Callable[[int], None] = lambda i: None) -> None:
        super().__init__()
        self._before = before
        self.drawn: list[Tensor] = []  # kept alive, so that an address is one tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if RANDOM not in func.tags:
            return func(*args, **(kwargs or {}))
        self._before(len(self.drawn))
        made = func(*args, **(kwargs or {}))
        self.drawn.append(made[0] if isinstance(made, tuple) else made)
        return made


def initialize(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model whose initial weights depend on `seed`, their names and their shapes alone."""
    with torch.random.fork_rng(devices=[]):
        with _Draws() as first:
            model = build()
        keys = _keys(model, first.drawn)

        def seed_draw(i: int) -> None:
            key = keys[i] if i < len(keys) else ("more", i)
            torch.default_generator.manual_seed(seed_for(seed, "initialization", *key))

        with _Draws(seed_draw):
            return build()


def shared_name(name: str) -> str:
    """Return a parameter's name without wrappers of the whole network."""
    for wrapper in WRAPPERS:
        while name.startswith(wrapper):
            name = name.removeprefix(wrapper)
    return name


def _keys(model: nn.Module, drawn: list[Tensor]) -> list[tuple[Any, ...]]:
    """What each draw is keyed by: its parameter, else its shape and which one of that shape."""
    names = {_address(p): shared_name(name) for name, p in model.state_dict(keep_vars=True).items()}
    others, keys = Counter[tuple[int, ...]](), []
    for tensor in drawn:
        shape, name = tuple(tensor.shape), names.get(_address(tensor))
        if name is None:
            others[shape] += 1
        keys.append((name or "", shape, 0 if name else others[shape]))
    return keys


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
