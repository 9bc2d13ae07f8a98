"""Both operators as citizens of torch: registered, compiled, cast, laid out, differentiated."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import heat, perona_malik
from harness.models.ops.edge_stop import EDGE_STOPS
from harness.models.ops.marching import March
from harness.models.ops.perona_malik import reference

OPERATORS = {
    "heat": lambda u: heat(u, dt=0.2, num_steps=4),
    "heat, implicit, per channel": lambda u: heat(
        u, 3.0, diffusivity=torch.linspace(0, 1, u.shape[1], dtype=u.dtype), scheme="implicit"
    ),
    "coupled": lambda u: perona_malik(u, dt=0.2, num_steps=4, kappa=0.5),
    "uncoupled": lambda u: perona_malik(u, dt=0.2, num_steps=4, kappa=0.5, coupled=False),
    "smoothed, per image": lambda u: perona_malik(
        u, 1.0, kappa=torch.linspace(0.5, 1, u.shape[0]), sigma=0.7, edge_stop="exponential"
    ),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def arguments(u: Tensor, with_tensors: bool) -> list[tuple]:
    """Return an operator of torch.ops.pde and its arguments, for every operator."""
    pde, grad = torch.ops.pde, u.requires_grad
    D = torch.rand(u.shape[1], generator=torch.Generator().manual_seed(0)).requires_grad_(grad)
    kappa = torch.linspace(0.5, 1, u.shape[0]).requires_grad_(grad)
    steps, march = ([0.2, 0.2, 0.1], "explicit", "periodic"), (0.2, 3, "weickert", True, 0.5)
    return [
        (pde.heat.default, (u, D if with_tensors else None, *steps)),
        (pde.heat_backward.default, (u.detach().cos(), u, D, *steps)),
        (pde.perona_malik.default, (u, kappa if with_tensors else torch.tensor(0.7), *march)),
        (pde.perona_malik_backward.default, (u.detach().cos(), u, kappa, *march, with_tensors)),
    ]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    "u", [noise(2, 3, 5, 6), noise(4, 3, 5, 12)[::2, ..., ::2], noise(0, 3, 5, 6)]
)
def test_opcheck_finds_nothing(u: Any, requires_grad: bool) -> None:
    u = u.detach().requires_grad_(requires_grad)
    for with_tensors in (False, True):
        for operator, args in arguments(u, with_tensors):
            torch.library.opcheck(operator, args)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_they_compile_into_one_graph(backend: str) -> Any:
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor has no C++ compiler: neither g++ nor clang++ is there")

    def f(u: Tensor, D: Any, kappa: Any) -> Any:
        return perona_malik(heat(u, dt=0.2, num_steps=3, diffusivity=D), 1.0, kappa=kappa).sin()

    u, w = noise(2, 3, 8, 9).requires_grad_(), noise(2, 3, 8, 9, seed=1)
    D, kappa = torch.rand(3).requires_grad_(), torch.tensor([0.5, 1.0], requires_grad=True)
    compiled = torch.compile(f, fullgraph=True, backend=backend)
    assert_close(compiled(u, D, kappa), f(u, D, kappa))
    ours = torch.autograd.grad(compiled(u, D, kappa), (u, D, kappa), w)
    for a, b in zip(ours, torch.autograd.grad(f(u, D, kappa), (u, D, kappa), w), strict=True):
        assert_close(a, b)
    with pytest.raises(RuntimeError, match="`kappa` must be > 0 and finite. Clamp it"):
        compiled(u, D, torch.tensor([0.0, 1.0], requires_grad=True))
    with pytest.raises(RuntimeError, match="between 0 and the stability limit 1.25"):
        compiled(u, 10 + D, kappa)


@every_operator
def test_mapping_is_a_batch_of_calls(operator: Any) -> None:
    u = noise(4, 2, 3, 6, 5)
    mapped = torch.func.vmap(operator, in_dims=1)(u)
    assert_close(mapped, torch.stack([operator(u[:, i]) for i in range(2)]))
    nested = torch.func.vmap(torch.func.vmap(lambda x: operator(x[None])[0]))(u)
    assert_close(nested[1, 0], operator(u[1, :1])[0])


@pytest.mark.parametrize("name", ["heat", "perona_malik"])
@pytest.mark.parametrize("per_part", [True, False])
def test_mapped_coefficients_and_gradients_are_those_of_calls(name: str, per_part: bool) -> Any:
    def f(u: Tensor, coefficient: Any) -> Any:
        if name == "heat":
            return heat(u, dt=0.2, num_steps=3, diffusivity=coefficient)
        return perona_malik(u, dt=0.2, num_steps=3, kappa=coefficient)

    def gradients(v: Any, grad: Tensor, **kwargs: Any) -> Any:
        return torch.autograd.grad(v, (u, c), grad, retain_graph=True, **kwargs)

    u, grad = noise(4, 2, 3, 6, 5).requires_grad_(), noise(4, 2, 3, 6, 5, seed=1)
    c = torch.rand((4, 3 if name == "heat" else 2) if per_part else 4) + 0.1
    c.requires_grad_()
    each = torch.stack([f(u[i], c[i]) for i in range(4)])
    every = torch.func.vmap(f)(u, c)
    assert_close(every, each)
    for a, b in zip(gradients(every, grad), gradients(each, grad), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)
    shared = torch.func.vmap(f, (None, 0))(u[0], c)
    assert_close(shared[2], f(u[0], c[2]))
    several = torch.stack([grad, grad.cos()])  # a vmap of the backward pass
    together = gradients(every, several, is_grads_batched=True)
    for a, b in zip(together, gradients(each, several[1]), strict=True):
        assert_close(a[1], b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="must be >"):
        torch.func.vmap(f)(u, -c)


@every_operator
def test_layout_changes_nothing_and_is_kept(operator: Any) -> None:
    u = noise(2, 4, 6, 10)
    v = operator(u)
    last = operator(u.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert_close(last, v)
    wide = noise(2, 4, 12, 20)
    wide[..., ::2, ::2] = u
    assert_close(operator(wide[..., ::2, ::2]), v)
    assert_close(operator(u.transpose(-1, -2)).transpose(-1, -2), v, rtol=0, atol=1e-5)


@every_operator
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 1, 1)])
def test_nothing_to_diffuse_is_no_error(operator: Any, shape: Any) -> None:
    u = noise(*shape).requires_grad_()
    v = operator(u)
    assert v.shape == u.shape
    v.sum().backward()
    assert u.grad is not None and u.grad.shape == u.shape


@every_operator
@pytest.mark.parametrize("size", [(31, 33), (1, 257), (70, 5)])
def test_images_do_not_see_their_batch_mates(operator: Any, size: Any) -> None:
    u = noise(1, 3, *size)
    batch = torch.cat([u, 1e3 * noise(40, 3, *size, seed=1)])
    if operator is OPERATORS["smoothed, per image"]:  # whose first kappa is that of the first
        assert torch.equal(operator(batch)[0], operator(batch[:2])[0])
    assert_close(operator(batch)[:1], operator(u), rtol=0, atol=4e-6)


@every_operator
@pytest.mark.parametrize("dtype, rtol", [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_autocast_keeps_the_type_and_computes_in_float32(
    operator: Any, dtype: torch.dtype, rtol: Any
) -> None:
    u = noise(2, 3, 16, 16)
    exact = operator(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator(u), exact)
        rounded = operator(u.to(dtype))
    assert rounded.dtype == dtype
    assert_close(rounded.float(), operator(u.to(dtype).float()), rtol=rtol, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_reduced_precision_of_products_stays_outside() -> None:
    u = noise(2, 3, 16, 16)
    exact = heat(u, 2.0)
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(heat(u, 2.0), exact)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(allowed)


@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(5, 3, 9, 17), (3, 40, 70, 30)])
def test_blocks_and_gradients_are_those_of_the_reference(
    edge_stop: Any, coupled: bool, sigma: float, shape: Any
) -> None:
    u = noise(*shape, dtype=torch.float64).requires_grad_()
    kappa = torch.linspace(0.3, 3, shape[0], dtype=torch.float64, requires_grad=True)
    grad = noise(*shape, seed=1, dtype=torch.float64)
    arguments = (0.2, 3, edge_stop, coupled, sigma)
    expected = reference(u, kappa, March(*arguments))
    exact = torch.autograd.grad(expected, (u, kappa), grad)
    ours = torch.ops.pde.perona_malik(u, kappa, *arguments)
    assert_close(ours, expected, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad(ours, (u, kappa), grad), exact, strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_states_and_edge_scales_have_the_same_unit(edge_stop: Any, sigma: float) -> None:
    # v(c u, c kappa) = c v(u, kappa), so by Euler <grad_u, u> + kappa grad_kappa = <grad, v>.
    u = noise(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    kappa = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    v = perona_malik(u, 2.0, kappa=kappa, edge_stop=edge_stop, sigma=sigma)
    grad = noise(2, 3, 8, 8, seed=1, dtype=torch.float64)
    grad_u, grad_kappa = torch.autograd.grad(v, (u, kappa), grad)
    assert_close((grad_u * u).sum() + kappa * grad_kappa, (grad * v).sum())


def test_nothing_but_the_input_is_kept_for_the_backward_pass() -> Any:
    saved = []

    def note(x: Any) -> Any:
        saved.append(x)
        return x

    u = noise(2, 3, 8, 8).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        perona_malik(u, 5.0, kappa=0.5)
        assert {x.numel() for x in saved} == {u.numel(), 1}
        saved.clear()
        heat(u, 5.0)
        assert not saved


def test_they_run_under_inference_mode_and_differentiate_afterwards() -> None:
    for operator in OPERATORS.values():
        with torch.inference_mode():
            operator(noise(2, 3, 13, 11))
        operator(noise(2, 3, 13, 11).requires_grad_()).sum().backward()
