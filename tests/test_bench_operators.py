"""How long the operators take beside what one would write without them; run by `--benchmark-only`.

    pytest tests/test_bench_operators.py --benchmark-only -s --tables results/benchmarks

Every contender's answer is checked before it is timed. The contenders of a group run in turns in
one process on one input, and the printed ratio is the median of the ratios of the turns. The floor
is the time to read the input and write the result once at the measured speed of `copy_`; for
forward + backward it is twice that.
"""

import itertools
import math
import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from harness.models.ops import heat, perona_malik
from tests.side_by_side import Keep

DT, NUM_STEPS, KAPPA = 0.2, 10, 0.7
TITLE = "Diffusion operators"
READING = (
    "Time of a call (of one CPU thread: CPU time, which other programs disturb less), compilation "
    "left out;\n`times ours` is the median ratio of turns side by side; `peak` is what PyTorch "
    "holds at most in a call,\nthe result included and the input not (medpy holds its own)."
)
TURNS = 7
GROUP = {"cpu": 0.2, "cuda": 1e-2}  # seconds that the calls of a turn take at least
WARM = 0.5  # seconds of calls before the first turn on a device
CACHED = 200 << 20  # bytes of inputs to go around, so that no cache of a device holds them

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
    from medpy.filter.smoothing import anisotropic_diffusion

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


def seconds(f: Callable, inputs: list[Tensor], calls: int) -> float:
    states = itertools.islice(itertools.cycle(inputs), calls)
    if inputs[0].is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for u in states:
            f(u)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start_s = clock()
    for u in states:
        f(u)
    return (clock() - start_s) / calls


def alone(f: Callable, inputs: list[Tensor]) -> list[float]:
    """Seconds of a call without its start from Python: all inputs in one graph, replayed."""
    seconds(f, inputs, len(inputs))  # loads what it needs
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for u in inputs:
            f(u)
    calls = max(1, math.ceil(GROUP["cuda"] / (len(inputs) * 1e-4)))
    found = []
    for _ in range(TURNS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            graph.replay()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3 / calls / len(inputs))
    return found[1:]


def several(u: Tensor) -> list[Tensor]:
    if not u.is_cuda:
        return [u]
    return [u.clone() for _ in range(math.ceil(CACHED / (u.numel() * u.element_size())))]


def compete(contenders: dict[str, Callable], u: Tensor) -> dict[str, list[float]]:
    inputs, calls = several(u), {}
    for name, f in contenders.items():
        once = seconds(f, inputs, 2)
        if u.is_cuda:
            once = seconds(f, inputs, max(10, math.ceil(WARM / once)))
        calls[name] = max(1, math.ceil(GROUP[u.device.type] / once))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, f in contenders.items():
            times[name].append(seconds(f, inputs, calls[name]))
    return times


def peak(f: Callable, u: Tensor) -> float:
    """Return the most MiB that PyTorch holds during a call, beside what it held before."""
    if u.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        f(u)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        f(u)
    held = most = 0
    events: Any = found.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def table(
    title: str,
    times: dict[str, list[float]],
    memory: dict[str, float],
    u: Tensor,
    passes: int,
    kernel: list[float],
) -> str:
    out, inputs = torch.empty_like(u), several(u)
    floor = passes * statistics.median(seconds(out.copy_, inputs, 9) for _ in range(TURNS))
    ours = next(iter(times.values()))
    lines = [
        f"**{title}**, {tuple(u.shape)}, {str(u.dtype).removeprefix('torch.')}, K = {NUM_STEPS}, "
        f"n = {TURNS}; floor (memory) {floor * 1e3:.3g} ms",
        "",
        "| contender | median ms | quartiles ms | of the floor | times ours | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, t in times.items():
        low, middle, high = (q * 1e3 for q in statistics.quantiles(t, n=4))
        ratio = statistics.median(b / a for a, b in zip(ours, t, strict=True))
        lines.append(
            f"| {name} | {middle:.4g} | {low:.4g}-{high:.4g} | {floor * 1e5 / middle:.2g} % "
            f"| {ratio:.3g} | {memory[name] or math.nan:.3g} |".replace("nan", "")
        )
    if kernel:
        low, middle, high = (q * 1e3 for q in statistics.quantiles(kernel, n=4))
        lines.append(
            f"| {next(iter(times))}, kernels alone | {middle:.4g} | {low:.4g}-{high:.4g} | "
            f"{floor * 1e5 / middle:.2g} % | | |"
        )
    return "\n".join(lines)


def contenders_of(
    operator: str, direction: Callable, device: str, side: int
) -> dict[str, Callable]:
    if operator == "heat":
        found = {"heat": ours_heat, "depthwise conv2d": conv_loop}
        plain = pad_and_slice
    else:
        found = {"perona_malik": ours_perona_malik, "slices": slices}
        plain = slices
    # Compiled backward passes: those of padding fail in torch 2.15, and took minutes elsewhere.
    if direction is forward and (side == 32 if device == "cuda" else shutil.which("g++")):
        found["torch.compile of plain torch"] = torch.compile(plain)
    return found


def race(
    benchmark: Any,
    keep: Keep,
    contenders: dict[str, Callable],
    u: Tensor,
    title: str,
    passes: int,
) -> None:
    ours, *others = contenders.values()
    atol = 2e-5 if u.dtype == torch.float32 else 0.15  # of others, who round at every step
    for other in others:
        torch.testing.assert_close(ours(u), other(u), rtol=0, atol=atol)
    kernel = alone(ours, several(u)) if u.is_cuda else []
    times = compete(contenders, u)
    memory = {name: peak(f, u) for name, f in contenders.items()}
    text = table(title, times, memory, u, passes, kernel)
    keep(text, u.device.type, {f"{title}, {tuple(u.shape)}, {u.dtype}": times})
    benchmark.extra_info["table"] = text
    benchmark.pedantic(ours, (u,), rounds=5)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@devices
@pytest.mark.parametrize("side", [32, 16, 8, 4])
@pytest.mark.parametrize("direction", [forward, forward_and_backward])
@pytest.mark.parametrize("operator", ["heat", "perona_malik"])
@pytest.mark.filterwarnings("ignore")  # of compilers
def test_operators(
    benchmark: Any,
    keep: Keep,
    operator: str,
    direction: Any,
    side: int,
    device: Any,
) -> None:
    u = noise(256 if device == "cuda" else 64, 64, side, side).to(device)
    contenders = {
        k: direction(f) for k, f in contenders_of(operator, direction, device, side).items()
    }
    title = f"{operator}, {direction.__name__.replace('_and_', ' + ')}"
    race(benchmark, keep, contenders, u, title, 1 + (direction is not forward))


@devices
def test_the_planes_of_attention(benchmark: Any, keep: Keep, device: Any) -> Any:
    u = noise(64 * 64, 4, 8, 8).to(device)
    lam = torch.linspace(0.1, 0.2, 4, device=device)

    def ours(u: Tensor) -> Tensor:
        return heat(u, dt=1.0, num_steps=NUM_STEPS, diffusivity=lam)

    def conv(u: Tensor) -> Tensor:
        stencil = u.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
        kernel = lam[:, None, None, None] * stencil
        kernel[..., 1, 1] += 1
        for _ in range(NUM_STEPS):
            u = F.conv2d(F.pad(u, (1, 1, 1, 1), mode="replicate"), kernel, groups=4)
        return u

    contenders = {"heat": ours, "depthwise conv2d": conv}
    race(benchmark, keep, contenders, u, "heat, one diffusivity per head, forward", 1)


@pytest.mark.gpu
def test_half_precision(benchmark: Any, keep: Keep) -> None:
    u = noise(256, 64, 32, 32).to("cuda", torch.bfloat16)
    contenders = {"heat": ours_heat, "depthwise conv2d": conv_loop}
    race(benchmark, keep, contenders, u, "heat, forward", 1)


def test_medpy(benchmark: Any, keep: Keep) -> None:
    pytest.importorskip("medpy")
    contenders = {"perona_malik": ours_perona_malik, "medpy on the CPU": medpy_loop}
    race(benchmark, keep, contenders, noise(4, 64, 32, 32), "perona_malik, forward", 1)
