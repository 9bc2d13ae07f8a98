"""Every kernel on a CUDA device against the float64 reference on the CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import heat, perona_malik
from harness.models.ops.edge_stop import EDGE_STOPS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SIZES = [(32, 32), (16, 16), (8, 8), (4, 4), (1, 1), (31, 31), (12, 20), (3, 5), (24, 8)]
SIZES += [(33, 33), (96, 96), (1, 64), (257, 257)]  # several tiles and launches
UNIT = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
every_dtype = pytest.mark.parametrize("dtype", list(UNIT))


@pytest.fixture(autouse=True)
def by_name(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Refuse anything but a kernel, unless the test is about the reference."""
    if "without_a_kernel" not in request.node.name:
        monkeypatch.setenv("HARNESS_OPS", "cuda")


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)


def on_cpu(f: Any, *args: Any, **kwargs: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OPS", "reference")
        return f(*args, **kwargs)


def atol(dtype: torch.dtype, num_steps: int) -> float:
    return UNIT[dtype] * (4 + num_steps)


@every_dtype
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_steps", [0, 1, 10, 100])
def test_heat(size: Any, dtype: Any, num_steps: int) -> None:
    u = noise(5, 7, *size, dtype=dtype)
    D = torch.linspace(0, 1, 7, dtype=torch.float64)
    for diffusivity in (1.0, D):
        kwargs: dict[str, Any] = {"dt": 0.2, "num_steps": num_steps}
        expected = on_cpu(heat, u.double(), diffusivity=diffusivity, **kwargs)
        there = diffusivity.cuda() if isinstance(diffusivity, Tensor) else diffusivity
        ours = heat(u.cuda(), diffusivity=there, **kwargs)
        # The reference in the eigenbasis sums over a side, and rounds as often.
        tolerance = atol(dtype, num_steps) * max(1, max(size) / 16)
        assert_close(ours.cpu().double(), expected, rtol=0, atol=tolerance)


@every_dtype
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_steps", [1, 10, 30])
@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
def test_perona_malik_and_its_gradients(
    size: Any, dtype: Any, num_steps: int, edge_stop: Any
) -> Any:
    u, grad = noise(5, 7, *size, dtype=dtype), noise(5, 7, *size, dtype=dtype, seed=1)
    kwargs: dict[str, Any] = {
        "dt": 0.2,
        "num_steps": num_steps,
        "edge_stop": edge_stop,
        "coupled": False,
    }
    real = torch.promote_types(dtype, torch.float32)
    for kappa in (torch.tensor(0.7, dtype=real), torch.linspace(0.5, 2, 5, dtype=real)):

        def gradients(u: Tensor, kappa: Any, grad: Tensor) -> Any:
            u, kappa = u.requires_grad_(), kappa.requires_grad_()
            v = perona_malik(u, kappa=kappa, **kwargs)
            return v.detach(), *torch.autograd.grad(v, (u, kappa), grad)

        exact = on_cpu(gradients, u.double(), kappa.double(), grad.double())
        plain = on_cpu(gradients, u.clone(), kappa.clone(), grad)
        ours = gradients(u.cuda(), kappa.cuda(), grad.cuda())
        # Steep edges grow what is rounded, in the reference too: it says by how much.
        for a, b, c, times in zip(ours, plain, exact, (1, 50, 50), strict=True):
            error = (b.double() - c).abs().max()
            tolerance = times * atol(dtype, num_steps) * max(1.0, float(c.abs().max()))
            assert (a.cpu().double() - c).abs().max() <= max(5 * error, tolerance)


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (4, 4), (31, 7), (96, 96), (33, 33)])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
def test_coupled_channels(size: Any, channels: int, edge_stop: Any) -> Any:
    u, grad = (noise(5, channels, *size, dtype=torch.float32, seed=s) for s in (0, 1))
    kappa = torch.linspace(0.5, 2, 5)

    def gradients(u: Tensor, kappa: Any, grad: Tensor) -> Any:
        u, kappa = u.requires_grad_(), kappa.requires_grad_()
        v = perona_malik(u, kappa=kappa, dt=0.2, num_steps=10, edge_stop=edge_stop)
        return v.detach(), *torch.autograd.grad(v, (u, kappa), grad)

    exact = on_cpu(gradients, u.double(), kappa.double(), grad.double())
    ours = gradients(u.cuda(), kappa.cuda(), grad.cuda())
    for a, b in zip(ours, exact, strict=True):
        assert_close(a.cpu().double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (33, 33)])
def test_what_is_without_a_kernel(size: Any) -> None:
    u = noise(2, 7, *size, dtype=torch.float32)
    for f in (
        lambda u, t: heat(u, t, scheme="implicit"),
        lambda u, t: perona_malik(u, t, kappa=0.5),
        lambda u, t: perona_malik(u, t, kappa=0.5, sigma=0.5),
    ):
        assert_close(f(u.cuda(), 2.0).cpu(), f(u, 2.0), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "operator", [heat, lambda u, t: perona_malik(u, t, kappa=1, coupled=False)]
)
def test_layouts_slices_and_streams(operator: Any) -> None:
    u = noise(6, 8, 32, 32, dtype=torch.float32).cuda()
    v = operator(u, 2.0)
    last = operator(u.to(memory_format=torch.channels_last), 2.0)
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, v)
    assert torch.equal(operator(u[1::2], 2.0), v[1::2])
    shifted = torch.empty(u.numel() + 1, device="cuda")[1:].view(u.shape).copy_(u)
    assert torch.equal(operator(shifted, 2.0), v)  # not aligned to 16 bytes
    assert operator(u[:0], 2.0).shape == u[:0].shape
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        w = operator(u + 0, 2.0)
    stream.synchronize()
    assert torch.equal(w, v)


def test_a_graph_replays_them() -> None:
    u = noise(6, 8, 32, 32, dtype=torch.float32).cuda()
    v = heat(u, 2.0)  # loads the kernel before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        w = heat(u, 2.0)
    graph.replay()
    assert torch.equal(w, v)


def test_every_device_has_its_kernels() -> None:
    for index in range(torch.cuda.device_count()):
        u = noise(2, 3, 32, 32, dtype=torch.float32)
        assert_close(heat(u.cuda(index), 2.0).cpu(), on_cpu(heat, u, 2.0), rtol=0, atol=1e-5)
