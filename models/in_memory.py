"""A model that a Python program holds, a module or the function that builds it, as a `Source`."""

import copy
import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

from torch import nn

from harness.models.base import MODELS
from harness.models.lookup import Source


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
        whole, classes = model, dict.fromkeys(type(part) for part in model.modules())
        own = [kind for kind in classes if not kind.__module__.startswith("torch.")]

        def build(num_classes: int = 0) -> nn.Module:
            return copy.deepcopy(whole).cpu()  # the caller's own stays as it is

        return Source(name, build, False, True, _digest(repr(whole), *own))
    if name in MODELS and MODELS[name] is model:
        return Source(name, model)
    _refuse_registered(name)
    try:
        parameters = inspect.signature(model).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    if "num_classes" not in parameters:
        raise ValueError(
            f"`{name}` is no builder of models. Give a function (num_classes=...) that returns a "
            "module, or the module itself."
        )
    return Source(name, model, "width" in parameters, sha256=_digest(model))


def _refuse_registered(name: str) -> None:
    if name in MODELS:
        raise ValueError(f"The model `{name}` has the name of a registered model. Give `name=...`.")


def _digest(*parts: Any) -> str:
    """SHA-256 of texts, and of the sources of functions and classes."""
    texts = (part if isinstance(part, str) else _text(part) for part in parts)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _text(thing: Any) -> str:
    """The source of a function or a class; of one that was typed in, its instructions."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        functions = [thing] if inspect.isfunction(thing) else vars(thing).values()
        codes = [f.__code__ for f in functions if inspect.isfunction(f)]
        constants = [[c for c in k.co_consts if not isinstance(c, CodeType)] for k in codes]
        return repr([(k.co_code, k.co_names, c) for k, c in zip(codes, constants, strict=True)])
