"""Perona-Malik steps by compiled loops: the same numbers as by torch, whatever lies beside them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import marching, planes
from harness.models.ops.marching import March, march, march_backward

SHAPES = [(5, 3, 7, 6), (3, 1, 1, 9), (2, 2, 9, 1), (70, 1, 4, 4), (1, 4, 33, 40)]
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function of `marching` without compiled loops."""

    def call(f: Callable[..., Any], *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setenv("HARNESS_OPS", "reference")
            return f(*arguments)

    return call


def state(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(shape, generator=generator, dtype=dtype)
    return u, 0.5 + torch.rand(shape[0], generator=generator, dtype=dtype)


def how(num_steps: int = 6, coupled: bool = True) -> March:
    return March(0.2, num_steps, "rational", coupled, 0.0)


@every_shape
@every_dtype
@pytest.mark.parametrize("coupled", [True, False])
def test_states_are_those_of_torch(
    by_torch: Any, shape: Any, dtype: torch.dtype, coupled: bool
) -> None:
    u, kappa = state(shape, dtype)
    assert planes.usable(u, "rational", 0.0)
    ours = march(u, kappa, how(coupled=coupled))
    assert ours.dtype == dtype and not torch.equal(ours, u)
    near = {"rtol": 0, "atol": 3e-6 if dtype == torch.float32 else 1e-14}
    assert_close(ours, by_torch(march, u, kappa, how(coupled=coupled)), **near)


@every_shape
@every_dtype
@pytest.mark.parametrize("coupled", [True, False])
def test_gradients_are_those_of_torch(
    by_torch: Any, shape: Any, dtype: torch.dtype, coupled: bool
) -> None:
    u, kappa = state(shape, dtype)
    grad, _ = state(shape, dtype, seed=1)
    near = {"rtol": 0, "atol": 2e-5 if dtype == torch.float32 else 1e-13}
    for edge_scale in (kappa, kappa[0]):
        arguments = grad, u, edge_scale, how(coupled=coupled)
        ours = march_backward(*arguments, True)
        theirs = by_torch(march_backward, *arguments, True)
        for one, other in zip(ours, theirs, strict=True):
            scale = other.abs().max().clamp(min=1)
            assert_close(one / scale, other / scale, **near)
        without, zero = march_backward(*arguments, False)
        assert torch.equal(without, ours[0]) and not zero.any()


def test_no_steps_change_nothing() -> None:
    u, kappa = state((3, 2, 5, 5), torch.float32)
    assert torch.equal(march(u, kappa, how(0)), u)
    grad, _ = state((3, 2, 5, 5), torch.float32, seed=1)
    back, rate = march_backward(grad, u, kappa, how(0), True)
    assert torch.equal(back, grad) and not rate.any()


def test_images_do_not_depend_on_those_beside_them() -> None:
    """Not even on one that is not finite, in the same row."""
    u, kappa = state((41, 1, 6, 6), torch.float32)
    grad, _ = state((41, 1, 6, 6), torch.float32, seed=1)
    whole, (back, rate) = march(u, kappa, how()), march_backward(grad, u, kappa, how(), True)
    for i in (0, 17, 40):
        one = u[i : i + 1], kappa[i : i + 1]
        assert torch.equal(march(*one, how()), whole[i : i + 1])
        alone = march_backward(grad[i : i + 1], *one, how(), True)
        assert torch.equal(alone[0], back[i : i + 1]) and torch.equal(alone[1], rate[i : i + 1])
    u[20] = torch.nan
    u[30] = torch.inf
    rest = torch.ones(41, dtype=torch.bool).index_fill(0, torch.tensor([20, 30]), False)
    assert torch.equal(march(u, kappa, how())[rest], whole[rest])
    assert torch.equal(march_backward(grad, u, kappa, how(), True)[0][rest], back[rest])


def test_threads_share_the_work_and_not_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    u, kappa = state((97, 1, 16, 16), torch.float32)
    grad, _ = state((97, 1, 16, 16), torch.float32, seed=1)
    found = []
    monkeypatch.setattr(planes, "LEAST", 1000)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append((march(u, kappa, how()), *march_backward(grad, u, kappa, how(), True)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_layouts_and_low_precision_are_kept() -> None:
    u, kappa = state((4, 3, 8, 8), torch.float32)
    turned = march(u.to(memory_format=torch.channels_last), kappa, how())
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(turned.contiguous(), march(u, kappa, how()))
    half = march(u.bfloat16(), kappa, how())
    assert torch.equal(half, march(u.bfloat16().float(), kappa, how()).bfloat16())


@pytest.mark.parametrize("edge_stop, sigma", [("exponential", 0.0), ("rational", 0.5)])
def test_what_has_no_compiled_loop_goes_to_torch(edge_stop: str, sigma: float) -> None:
    u, kappa = state((2, 1, 5, 5), torch.float32)
    assert not planes.usable(u, edge_stop, sigma)
    assert torch.isfinite(marching.march(u, kappa, March(0.2, 3, edge_stop, True, sigma))).all()
