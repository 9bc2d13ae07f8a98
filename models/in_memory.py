"""A model that a Python program holds, a module or the function that builds it, as a `Source`."""

import copy
from collections.abc import Callable

from torch import nn

from harness.models.cards import MODELS
from harness.models.lookup import Source, called_with_classes
from harness.models.source_code import code_of, code_of_parts, digest

MEMORY = {"of": "memory"}


def source_of(model: nn.Module | Callable[..., nn.Module], name: str = "") -> Source:
    """Return the source of a module, which is evaluated as it is, or of a builder.

    Args:
        model: Images (N, 3, H, W) in [0, 1] to logits; or `(num_classes=...)`, and `width=...`
            where it scales, to such a module.
        name: Name in tables; "" takes that of the builder or of the module's class.

    Raises:
        ValueError: The name is that of a registered model, or what is called is no builder.
    """
    name = name or getattr(model, "__name__", type(model).__name__)
    if isinstance(model, nn.Module):
        _refuse_registered(name)
        whole = model
        kinds = dict.fromkeys(type(part) for part in model.modules())
        own = [kind for kind in kinds if not kind.__module__.startswith("torch.")]

        def build(num_classes: int = 0) -> nn.Module:
            return copy.deepcopy(whole).cpu()  # the caller's own stays as it is

        code = code_of_parts(own) | {"structure": digest({"": repr(whole)})}
        return Source(name, build, False, True, code=code, origin=MEMORY)
    if name in MODELS and MODELS[name] is model:
        return Source(name, model, code=code_of(model))
    _refuse_registered(name)
    build, scalable = called_with_classes(model, name)
    return Source(name, build, scalable, code=code_of(model), origin=MEMORY)


def _refuse_registered(name: str) -> None:
    if name in MODELS:
        raise ValueError(f"The model `{name}` has the name of a registered model. Give `name=...`.")
