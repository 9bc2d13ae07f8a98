"""How long the operators take beside what one would write without them; run by `--benchmark-only`.

    pytest tests/test_bench_operators.py --benchmark-only -s

Every contender's answer is checked before it is timed. The contenders of a group run in turns in
one process on one input, and the printed ratio is the median of the ratios of the turns. The floor
is the time to read the input and write the result once at the measured speed of `copy_`; for
forward + backward it is twice that. The tables go to .benchmarks/operators-DEVICE.md.
"""

import platform
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from medpy.filter.smoothing import anisotropic_diffusion
from torch import Tensor
from torch.nn import functional as F

from models.ops import heat, perona_malik

DT, NUM_STEPS, KAPPA = 0.2, 10, 0.7
TURNS = 7
GROUP = 1e-3  # seconds that the launches between two CUDA events take at least

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def conv_loop(u: Tensor) -> Tensor:
    kernel = u.new_tensor([[0, DT, 0], [DT, 1 - 4 * DT, DT], [0, DT, 0]])
    kernel = kernel.expand(u.shape[1], 1, 3, 3)
    for _ in range(NUM_STEPS):
        u = F.conv2d(F.pad(u, (1, 1, 1, 1), mode="replicate"), kernel, groups=u.shape[1])
    return u


def pad_and_slice(u: Tensor) -> Tensor:
    for _ in range(NUM_STEPS):
        p = F.pad(u, (1, 1, 1, 1), mode="replicate")
        neighbors = p[..., 1:-1, 2:] + p[..., 1:-1, :-2] + p[..., 2:, 1:-1] + p[..., :-2, 1:-1]
        u = u + DT * (neighbors - 4 * u)
    return u


def slices(u: Tensor) -> Tensor:
    for _ in range(NUM_STEPS):
        dx, dy = u[..., 1:] - u[..., :-1], u[..., 1:, :] - u[..., :-1, :]
        fx = DT * dx / (1 + (dx / KAPPA) ** 2)
        fy = DT * dy / (1 + (dy / KAPPA) ** 2)
        u = u.clone()
        u[..., :-1] += fx
        u[..., 1:] -= fx
        u[..., :-1, :] += fy
        u[..., 1:, :] -= fy
    return u


def medpy_loop(u: Tensor) -> Tensor:
    out = torch.empty_like(u)
    for plane, result in zip(u.flatten(0, 1).numpy(), out.flatten(0, 1), strict=True):
        smooth = anisotropic_diffusion(plane, NUM_STEPS, KAPPA, DT, option=2)
        result.copy_(torch.from_numpy(smooth))
    return out


def ours_heat(u: Tensor) -> Tensor:
    return heat(u, dt=DT, num_steps=NUM_STEPS)


def ours_perona_malik(u: Tensor) -> Tensor:
    return perona_malik(u, dt=DT, num_steps=NUM_STEPS, kappa=KAPPA, coupled=False)


def forward(f: Callable) -> Callable:
    return f


def forward_and_backward(f: Callable) -> Callable:
    def run(u: Tensor) -> Tensor:
        u = u.detach().requires_grad_()
        return torch.autograd.grad(f(u), u, u)[0]

    return run


def seconds(f: Callable, u: Tensor, calls: int) -> float:
    if u.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            f(u)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls
    start_s = time.perf_counter()
    for _ in range(calls):
        f(u)
    return (time.perf_counter() - start_s) / calls


def compete(contenders: dict[str, Callable], u: Tensor) -> dict[str, list[float]]:
    calls = {}
    for name, f in contenders.items():
        once = seconds(f, u, 2)
        calls[name] = max(1, round(GROUP / once)) if u.is_cuda else 1
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, f in contenders.items():
            times[name].append(seconds(f, u, calls[name]))
    return times


def table(title: str, times: dict[str, list[float]], u: Tensor, passes: int) -> str:
    out = torch.empty_like(u)
    floor = passes * statistics.median(seconds(out.copy_, u, 3) for _ in range(TURNS))
    ours = next(iter(times.values()))
    where = torch.cuda.get_device_name() if u.is_cuda else f"{torch.get_num_threads()} threads"
    lines = [
        f"{title}, {tuple(u.shape)}, {u.dtype}, K = {NUM_STEPS}, n = {TURNS}; "
        f"{platform.processor() or platform.machine()}, {where}, torch {torch.__version__}; "
        f"floor (memory) {floor * 1e3:.3g} ms",
        "",
        "| contender | median ms | quartiles ms | of the floor | times ours |",
        "|---|---|---|---|---|",
    ]
    for name, t in times.items():
        low, middle, high = (q * 1e3 for q in statistics.quantiles(t, n=4))
        ratio = statistics.median(b / a for a, b in zip(ours, t, strict=True))
        lines.append(
            f"| {name} | {middle:.4g} | {low:.4g}-{high:.4g} | {floor * 1e3 / middle:.0%} "
            f"| {ratio:.3g} |"
        )
    return "\n".join(lines)


def contenders_of(operator: str, direction: Callable, device: str) -> dict[str, Callable]:
    if operator == "heat":
        found = {"heat": ours_heat, "depthwise conv2d": conv_loop}
        plain = pad_and_slice
    else:
        found = {"perona_malik": ours_perona_malik, "slices": slices}
        plain = slices
    # Compiled backward passes: those of padding fail in torch 2.15, and took minutes elsewhere.
    if direction is forward and (device == "cuda" or shutil.which("g++")):
        found["torch.compile"] = torch.compile(plain)
    return found


@devices
@pytest.mark.parametrize("direction", [forward, forward_and_backward])
@pytest.mark.parametrize("operator", ["heat", "perona_malik"])
@pytest.mark.parametrize("side", [32, 16, 8, 4])
@pytest.mark.filterwarnings("ignore")  # of compilers
def test_operators(benchmark, operator, direction, side, device):
    shape = (256 if device == "cuda" else 64, 64, side, side)
    u = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    contenders = {k: direction(f) for k, f in contenders_of(operator, direction, device).items()}
    ours, *others = contenders.values()
    for other in others:
        torch.testing.assert_close(ours(u), other(u), rtol=0, atol=2e-5)
    times = compete(contenders, u)
    text = table(f"{operator}, {direction.__name__}", times, u, 1 + (direction is not forward))
    print(f"\n{text}\n")
    keep(text, device, first=operator == "heat" and direction is forward and side == 32)
    benchmark.extra_info["table"] = text
    benchmark.pedantic(ours, (u,), rounds=5)


@pytest.mark.filterwarnings("ignore")
def test_medpy(benchmark):
    u = torch.randn((4, 64, 32, 32), generator=torch.Generator().manual_seed(0))
    contenders = {"perona_malik": ours_perona_malik, "medpy": medpy_loop}
    torch.testing.assert_close(ours_perona_malik(u), medpy_loop(u), rtol=0, atol=5e-6)
    text = table("perona_malik, forward", compete(contenders, u), u, 1)
    print(f"\n{text}\n")
    keep(text, "cpu", first=False)
    benchmark.pedantic(ours_perona_malik, (u,), rounds=5)


def keep(text: str, device: str, first: bool) -> None:
    path = Path(".benchmarks") / f"operators-{device}.md"
    path.parent.mkdir(exist_ok=True)
    with path.open("w" if first else "a") as file:
        file.write(f"{text}\n\n")
