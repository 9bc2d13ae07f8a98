"""The namespace torch.ops.pde: how an operator and its backward pass are made known to torch.

An operator has a schema, one implementation for every device (the reference of its file), perhaps a
better one for CUDA, a fake that has the result's shape and strides, and a backward operator. It is
opaque to torch.compile. Under autocast it keeps the dtype of its input and its own arithmetic,
which is float32 for 16-bit states: autocast is switched off inside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("pde", "FRAGMENT")


def define(schema: str, reference: Callable, fake: Callable) -> Any:
    """Make an operator known under its schema; return it."""
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pde::{name}", fake, lib=LIBRARY)
    operator = getattr(torch.ops.pde, name).default
    for device in ("CPU", "CUDA"):
        _keep_out_autocast(operator, name, f"Autocast{device}")
    return operator


def _keep_out_autocast(operator: Any, name: str, key: str) -> None:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def without_autocast(*args: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*args)

    LIBRARY.impl(name, without_autocast, key)


def differentiable(name: str, backward: Callable, setup_context: Callable) -> None:
    """Give an operator its backward pass."""
    torch.library.register_autograd(
        f"pde::{name}", backward, setup_context=setup_context, lib=LIBRARY
    )


def batched(name: str, rule: Callable) -> None:
    """Give an operator its rule under torch.func.vmap.

    `rule(size, *args)` takes every mapped tensor with the mapped dimension first, among them None
    for what is not there, and returns the result, or the tuple of results, mapped likewise.
    """

    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        def mapped(x: Any, dim: int | None) -> Any:
            if not isinstance(x, Tensor):
                return x
            if dim is None:
                return x.expand(info.batch_size, *x.shape)
            return x.movedim(dim, 0)

        results = rule(info.batch_size, *map(mapped, args, in_dims))
        return results, 0 if isinstance(results, Tensor) else (0,) * len(results)

    torch.library.register_vmap(f"pde::{name}", vmap, lib=LIBRARY)


def twice(
    reference: Callable[..., Tensor], inputs: list[Tensor], grads: list[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of <grads, d reference> for `inputs`, the first one the incoming one.

    The backward pass of a backward pass, by differentiating the reference twice. `inputs` are the
    incoming gradient and the tensors that `reference` takes; `grads` those of its gradients.
    """
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        grad, *primals = inputs
        once = torch.autograd.grad(
            reference(*primals), primals, grad, create_graph=True, allow_unused=True
        )
        pairs = [
            (g, v) for g, v in zip(once, grads, strict=True) if g is not None and v is not None
        ]
        return torch.autograd.grad(
            [g for g, _ in pairs], inputs, [v for _, v in pairs], allow_unused=True
        )
