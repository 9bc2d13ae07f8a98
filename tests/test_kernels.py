"""The CUDA sources without a GPU: compiled for every architecture, and run lane by lane on the CPU.

On the CPU a kernel is the very same text; only the approximate instructions of device.cuh have
plain C++ in their place (warp_on_cpu.hpp). What this cannot show: races, coalescing, the error of
the approximate reciprocal and power of two, and speed. `pytest -m gpu` shows the first three.
"""

import ctypes
import os
import re
import shutil
import site
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import nvrtc, spectral
from harness.models.ops.edge_stop import EDGE_STOPS
from harness.models.ops.marching import March
from harness.models.ops.perona_malik import reference

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
SIDES = [(32, 32), (16, 16), (8, 8), (4, 4), (31, 31), (12, 20), (3, 5), (1, 7), (1, 1), (24, 8)]
REAL = {torch.float64: (torch.float64, ctypes.c_double)}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 4e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
DRIVERS = {
    "heat": """
extern "C" int run_heat(int blocks, const stored* u, stored* out, const real* taus, const real* D,
                        int num_steps, int channels, long long planes) {
    return warp::run(blocks, 128, [=] { heat(u, out, taus, D, num_steps, channels, planes); });
}""",
    "perona_malik": """
double shared_memory[1 << 16];
extern "C" int run_forward(int blocks, const stored* u, stored* out, const real* kappas, real dt,
                           int num_steps, int channels, long long planes) {
    return warp::run(blocks, 128, [=] {
        perona_malik(u, out, kappas, dt, num_steps, channels, planes);
    });
}
extern "C" int run_backward(int blocks, const stored* grad, const stored* u, stored* out,
                            real* rates, const real* kappas, real* history, real dt,
                            int num_steps, int channels, long long planes) {
    return warp::run(blocks, 32, [=] {
        perona_malik_backward(grad, u, out, rates, kappas, history, dt, num_steps, channels,
                              planes);
    });
}""",
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


# Compiled for the GPU


def dump(code: bytes, folder: Path, what: str) -> str:
    """Return what cuobjdump, and for "-sass" nvdisasm beside it, say of a cubin."""
    homes = (path / "nvidia" / "cu13" / "bin" for path in map(Path, site.getsitepackages()))
    home = next((str(path) for path in homes if (path / "cuobjdump").exists()), "")
    search = os.pathsep.join([home, os.environ["PATH"]])
    tool = shutil.which("cuobjdump", path=search)
    assert tool, "cuobjdump is not here: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
    file = folder / "kernel.cubin"
    file.write_bytes(code)
    environment = os.environ | {"PATH": search}
    return subprocess.run(
        [tool, what, file], check=True, capture_output=True, text=True, env=environment
    ).stdout


def resources(code: bytes, folder: Path) -> dict[str, dict[str, int]]:
    """Return registers, stack and local memory of each kernel of a cubin, in bytes."""
    text = dump(code, folder, "-res-usage")
    found = re.findall(r"Function (\w+):\s+(REG:.*)", text)
    return {name: {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", line)} for name, line in found}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("side", [32, 16, 8, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heat_stays_in_registers(arch: Any, side: int, dtype: torch.dtype, tmp_path: Path) -> None:
    defines = nvrtc.macros(torch.empty(0, 0, side, side, dtype=dtype))
    usage = resources(nvrtc.compile_cubin("heat", arch, defines), tmp_path)["heat"]
    assert usage["LOCAL"] == usage["STACK"] == 0
    assert usage["REG"] <= 80


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("side", [32, 4])
@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
def test_perona_malik_stays_in_registers(
    arch: Any, side: int, edge_stop: Any, tmp_path: Path
) -> None:
    defines = nvrtc.macros(torch.empty(0, 0, side, side), EDGE_STOP=EDGE_STOPS.index(edge_stop))
    usage = resources(nvrtc.compile_cubin("perona_malik", arch, defines), tmp_path)
    assert set(usage) == {"perona_malik", "perona_malik_backward"}
    assert all(of["LOCAL"] == of["STACK"] == 0 for of in usage.values())
    assert usage["perona_malik"]["REG"] <= 64
    assert usage["perona_malik_backward"]["REG"] <= 96


def special_functions_in_loops(code: bytes, folder: Path) -> dict[str, list[int]]:
    """Return the MUFU instructions of a lane in each loop over the steps, by kernel."""
    counts = {}
    for part in dump(code, folder, "-sass").split("Function : ")[1:]:
        lines = [
            (int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", part)
        ]
        loops = []
        for at, text in lines:
            jump = re.search(r"\bBRA(?:\.\w+)*\b.*\b0x([0-9a-f]+)", text)
            if jump and (start := int(jump[1], 16)) < at:
                loops.append(sum("MUFU" in t for a, t in lines if start <= a <= at))
        counts[part.split()[0]] = sorted(n for n in loops if n)
    return counts


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
def test_a_face_takes_one_special_function(arch: Any, edge_stop: Any, tmp_path: Path) -> None:
    # A lane has 32 pixels with two faces each; Weickert's g is a reciprocal and a power.
    defines = nvrtc.macros(torch.empty(0, 0, 32, 32), EDGE_STOP=EDGE_STOPS.index(edge_stop))
    counts = special_functions_in_loops(
        nvrtc.compile_cubin("perona_malik", arch, defines), tmp_path
    )
    faces = 128 if edge_stop == "weickert" else 64
    assert counts == {"perona_malik": [faces], "perona_malik_backward": [faces, faces]}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [(96, 96)])
def test_larger_planes_stay_in_registers(arch: Any, size: Any, tmp_path: Path) -> None:
    for name in ("heat", "perona_malik"):
        defines = nvrtc.macros(torch.empty(0, 0, *size), EDGE_STOP=0)
        usage = resources(nvrtc.compile_cubin(name, arch, defines), tmp_path)
        assert all(of["LOCAL"] == of["STACK"] == 0 for of in usage.values()), usage
        assert all(of["REG"] <= 128 for of in usage.values()), usage


@pytest.mark.parametrize("arch, channels", [*((a, 3) for a in ARCHITECTURES), ("sm_90", 4)])
@pytest.mark.parametrize("size", [(32, 32), (96, 96)])
def test_coupled_channels_stay_in_registers(
    arch: Any, size: Any, channels: Any, tmp_path: Path
) -> None:
    defines = nvrtc.macros(torch.empty(0, 0, *size), EDGE_STOP=0, CHANNELS=channels)
    usage = resources(nvrtc.compile_cubin("perona_malik", arch, defines), tmp_path)
    spilt = 32 if size == (96, 96) else 0  # bytes, of addresses, in the backward pass alone
    assert usage["perona_malik"]["STACK"] == 0, usage
    assert usage["perona_malik_backward"]["STACK"] <= spilt, usage
    assert all(of["LOCAL"] == 0 for of in usage.values()), usage


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("size", [(32, 32), (31, 7), (1, 1)])
@pytest.mark.parametrize("name", ["heat", "perona_malik"])
def test_other_builds_do_not_spill(
    name: str, size: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    defines = nvrtc.macros(torch.empty(0, 0, *size, dtype=dtype), EDGE_STOP=0)
    usage = resources(nvrtc.compile_cubin(name, "sm_90", defines), tmp_path)
    assert all(of["LOCAL"] == of["STACK"] == 0 for of in usage.values())


def test_a_source_that_does_not_compile_says_so_with_the_cure() -> None:
    with pytest.raises(RuntimeError, match="HARNESS_OPS=reference"):
        nvrtc.compile_cubin("heat", "sm_90", {"STORAGE": 0, "HEIGHT": 32})


def test_a_cubin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    defines = nvrtc.macros(torch.empty(0, 0, 8, 8))
    first = nvrtc.cubin("heat", "sm_90", defines)
    (file,) = nvrtc.cache_folder().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "compile_cubin", None)
        assert nvrtc.cubin("heat", "sm_90", defines) == first
    file.write_bytes(b"damaged")
    assert nvrtc.cubin("heat", "sm_90", defines) == file.read_bytes() != b"damaged"
    nvrtc.cubin("heat", "sm_80", defines)
    assert len(list(nvrtc.cache_folder().iterdir())) == 2


# Run on the CPU


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that compiles csrc/NAME.cu for the host and loads it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to run the kernels on the CPU")
    folder = tmp_path_factory.mktemp("kernels")
    shim = (Path(__file__).parent / "warp_on_cpu.hpp").read_text()
    loaded: dict[tuple, ctypes.CDLL] = {}

    def build(name: str, u: Tensor, **more: int) -> ctypes.CDLL:
        defines = nvrtc.macros(u, **more)
        key = (name, *defines.items())
        if key not in loaded:
            device = (nvrtc.SOURCES / "device.cuh").read_text()
            text = nvrtc.source(name)
            assert device in text
            path = folder / f"{len(loaded)}.cpp"
            path.write_text(shim + text.replace(device, "") + DRIVERS[name])
            flags = [f"-D{k}={v}" for k, v in defines.items()]
            command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-w", *flags]
            library = path.with_suffix(".so")
            subprocess.run([*command, path, "-o", library], check=True)
            loaded[key] = ctypes.CDLL(str(library))
        return loaded[key]

    return build


def real(u: Tensor) -> torch.dtype:
    return torch.promote_types(u.dtype, torch.float32)


def call(function: Any, u: Tensor, threads: int, *args: Any) -> None:
    kind = ctypes.c_double if real(u) == torch.float64 else ctypes.c_float
    rows, cols = (next(s for s in (4, 8, 16, 32) if s >= n) for n in u.shape[2:])
    planes = u.shape[0] * u.shape[1]
    tiles = -(-planes * rows * cols // 1024)
    converted = [
        ctypes.c_void_p(a.data_ptr())
        if isinstance(a, Tensor)
        else ctypes.c_void_p(None)
        if a is None
        else kind(a)
        if isinstance(a, float)
        else ctypes.c_int(a)
        for a in args
    ]
    blocks = -(-tiles // (threads // 32))
    assert function(blocks, *converted, ctypes.c_longlong(planes)) == 1, "the lanes part ways"


every_size = pytest.mark.parametrize("size", SIDES)
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCES))


@every_size
@pytest.mark.parametrize("per_channel", [True, False])
def test_heat_on_every_size(on_cpu: Any, size: Any, per_channel: bool) -> None:
    check_heat(on_cpu, size, torch.float64, per_channel)


@every_dtype
def test_heat_in_every_dtype(on_cpu: Any, dtype: Any) -> None:
    check_heat(on_cpu, (16, 16), dtype, True)


def check_heat(on_cpu: Any, size: Any, dtype: Any, per_channel: Any) -> None:
    u = noise(3, 7, *size).to(dtype)
    taus = torch.tensor([0.2, 0.25, 0.0, 0.11, 0.7], dtype=real(u))
    D = torch.linspace(0, 1, 7 if per_channel else 1, dtype=real(u)) + (not per_channel)
    out = torch.full_like(u, torch.nan)
    library = on_cpu("heat", u)
    call(library.run_heat, u, 128, u, out, taus, D, 5, 7 if per_channel else 0)
    diffusivity = D.double() if per_channel else None
    expected = spectral.reference(
        u.double(), diffusivity, tuple(taus.double().tolist()), "explicit", "neumann"
    )
    assert_close(out.double(), expected, rtol=0, atol=4 * TOLERANCES[dtype])


@every_size
@pytest.mark.parametrize("per_image", [True, False])
def test_perona_malik_on_every_size(on_cpu: Any, size: Any, per_image: bool) -> None:
    check_perona_malik(on_cpu, size, torch.float64, "rational", per_image)


@every_dtype
@pytest.mark.parametrize("edge_stop", EDGE_STOPS)
def test_perona_malik_in_every_dtype(on_cpu: Any, dtype: Any, edge_stop: Any) -> None:
    check_perona_malik(on_cpu, (16, 16), dtype, edge_stop, True)


def check_perona_malik(on_cpu: Any, size: Any, dtype: Any, edge_stop: Any, per_image: Any) -> None:
    u, grad = noise(3, 7, *size).to(dtype), noise(3, 7, *size, seed=1).to(dtype)
    kappa = torch.tensor([0.3, 0.7, 2.0] if per_image else [0.7], dtype=real(u))
    channels, dt, num_steps = 7 if per_image else 0, 0.2, 4
    out, grad_u = torch.full_like(u, torch.nan), torch.full_like(u, torch.nan)
    rates = torch.full((21,), torch.nan, dtype=real(u))
    library = on_cpu("perona_malik", u, EDGE_STOP=EDGE_STOPS.index(edge_stop))
    call(library.run_forward, u, 128, u, out, kappa, dt, num_steps, channels)

    exact_u, exact_kappa = u.double().requires_grad_(), kappa.double().requires_grad_()
    expected = reference(exact_u, exact_kappa, March(dt, num_steps, edge_stop, False, 0.0))
    expected.backward(grad.double())
    tolerance = TOLERANCES[dtype]
    assert_close(out.double(), expected.detach(), rtol=0, atol=tolerance)
    for history in (None, torch.empty(21 * num_steps * 1024, dtype=real(u))):
        call(
            library.run_backward, u, 32, grad, u, grad_u, rates, kappa, history, dt, num_steps,
            channels,
        )  # fmt: skip
        assert_close(grad_u.double(), exact_u.grad, rtol=0, atol=20 * tolerance)
        per_image_rates = rates.double().view(3, 7).sum(1)
        total = per_image_rates if per_image else per_image_rates.sum()[None]
        assert_close(total, exact_kappa.grad, rtol=20 * tolerance, atol=20 * tolerance)


def test_a_kernel_with_a_fault_is_found(on_cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = nvrtc.source("heat").replace("return from(value, 31)", "return from(value, 1)")
    monkeypatch.setattr(nvrtc, "source", lambda name: wrong)
    with pytest.raises(AssertionError, match="not close"):
        check_heat(on_cpu, (20, 32), torch.float64, False)


# Launched from Python, the launch itself on the CPU


@pytest.fixture
def launched_on_cpu(on_cpu: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The operators with kernels for tensors of the CPU; returns the list of the launches."""
    entries = {
        "heat": "run_heat",
        "perona_malik": "run_forward",
        "perona_malik_backward": "run_backward",
    }
    kinds = {
        np.float32: ctypes.c_float,
        np.float64: ctypes.c_double,
        np.int32: ctypes.c_int,
        np.int64: ctypes.c_longlong,
    }
    launches = []

    def launch(
        name: Any,
        entry: Any,
        u: Tensor,
        defines: Any,
        blocks: Any,
        threads: Any,
        *args: Any,
        shared: Any = 0,
    ) -> None:
        launches.append(entry)
        more = {key: defines[key] for key in defines if key in ("EDGE_STOP", "CHANNELS")}
        converted = [
            ctypes.c_void_p(None if a is None else a.data_ptr())
            if a is None or isinstance(a, Tensor)
            else kinds[type(a)](a)
            for a in args
        ]
        function = getattr(on_cpu(name, u, **more), entries[entry])
        assert function(blocks, *converted) == 1, "the lanes part ways"

    monkeypatch.setattr(nvrtc, "usable", lambda u, unsupported: unsupported is None)
    monkeypatch.setattr(nvrtc, "launch", launch)
    return launches


LARGE = [(33, 33), (96, 96), (20, 70), (1, 100)]


@pytest.mark.parametrize("size", [*LARGE, (32, 32), (5, 6)])
@pytest.mark.parametrize("num_steps", [0, 1, 4, 10])
def test_launches_of_heat(launched_on_cpu: Any, size: Any, num_steps: int) -> None:
    u, D = noise(2, 3, *size), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    for diffusivity in (None, D):
        ours = torch.ops.pde.heat(u, diffusivity, [0.25] * num_steps, "explicit", "neumann")
        expected = spectral.reference(u, diffusivity, (0.25,) * num_steps, "explicit", "neumann")
        assert_close(ours, expected, rtol=0, atol=1e-13)
        assert ours.data_ptr() != u.data_ptr()
    each = max(1, -(-num_steps // 4)) if max(size) > 32 else 1
    assert launched_on_cpu == ["heat"] * 2 * each


@pytest.mark.parametrize("size", [*LARGE, (32, 32), (5, 6)])
@pytest.mark.parametrize("num_steps", [0, 1, 2, 9])
@pytest.mark.parametrize("per_image", [True, False])
def test_launches_of_perona_malik(
    launched_on_cpu: Any, size: Any, num_steps: int, per_image: bool
) -> None:
    check_launches(launched_on_cpu, size, num_steps, per_image, "rational", False)


@pytest.mark.parametrize("size", [(33, 33), (16, 16), (5, 6), (4, 4)])
@pytest.mark.parametrize("edge_stop, channels", [(e, 3) for e in EDGE_STOPS] + [("rational", 4)])
def test_launches_with_coupled_channels(
    launched_on_cpu: Any, size: Any, edge_stop: Any, channels: Any
) -> None:
    check_launches(launched_on_cpu, size, 5, True, edge_stop, True, channels)


def check_launches(
    launched_on_cpu: Any,
    size: Any,
    num_steps: int,
    per_image: Any,
    edge_stop: Any,
    coupled: bool,
    channels: Any = 3,
) -> None:
    u, grad = noise(2, channels, *size).requires_grad_(), noise(2, channels, *size, seed=1)
    kappa = torch.tensor([0.8, 2.0] if per_image else 0.7, dtype=torch.float64, requires_grad=True)
    march = (0.25, num_steps, edge_stop, coupled, 0.0)
    ours, expected = (
        torch.ops.pde.perona_malik(u, kappa, *march),
        reference(u, kappa, March(*march)),
    )
    assert_close(ours, expected, rtol=0, atol=1e-13)
    if num_steps == 0:
        expected = expected + 0 * kappa.sum()
    exact = torch.autograd.grad(expected, (u, kappa), grad)
    for a, b in zip(torch.autograd.grad(ours, (u, kappa), grad), exact, strict=True):
        assert_close(a, b, rtol=1e-11, atol=1e-12)
    assert "perona_malik" in launched_on_cpu


@every_dtype
def test_several_launches_round_once(launched_on_cpu: Any, dtype: Any) -> None:
    u = noise(1, 2, 40, 40).to(dtype)
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6}.get(dtype, 0)
    ours = torch.ops.pde.heat(u, None, [0.25] * 10, "explicit", "neumann")
    exact = spectral.reference(u.double(), None, (0.25,) * 10, "explicit", "neumann")
    unit = torch.finfo(dtype).eps
    assert ours.dtype == dtype
    assert_close(ours.double(), exact, rtol=0.51 * unit, atol=tolerance + 1e-6 * (unit > 1e-4))


# Asked for by name


def test_asking_for_kernels_without_a_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    from harness.models.ops import heat, perona_malik

    monkeypatch.setenv("HARNESS_OPS", "cuda")
    u = torch.zeros(1, 1, 4, 4)
    for operator in (lambda: heat(u, 1.0), lambda: perona_malik(u, 1.0, kappa=1.0)):
        with pytest.raises(ValueError, match="There is no CUDA device. Unset HARNESS_OPS"):
            operator()
    monkeypatch.setenv("HARNESS_OPS", "fast")
    with pytest.raises(ValueError, match="HARNESS_OPS must be `reference` or `cuda`; got 'fast'"):
        heat(u, 1.0)
    monkeypatch.setenv("HARNESS_OPS", "reference")
    assert np.isfinite(heat(u, 1.0).numpy()).all()
