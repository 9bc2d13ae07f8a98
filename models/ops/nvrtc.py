"""csrc/*.cu to loaded kernels, compiled by NVRTC at the first call and kept on disk.

NVRTC comes with torch, cuda-core (extra `cuda`) drives it; no nvcc, no C++ compiler, no headers. A
cubin is kept in `$XDG_CACHE_HOME/harness/cubins` (default ~/.cache) under the hash of all that
determines it: source, macros, flags, architecture and NVRTC's version.

`HARNESS_OPS` chooses: unset, kernels where there are some, else the reference; "reference", never a
kernel; "cuda", kernels or an error that says what is missing.
"""

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = Path(__file__).parent / "csrc"
STANDARD = "c++17"
HALO = 4  # as in tile.cuh
STORAGES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}

UNSET = "Unset HARNESS_OPS to use the reference."

log = logging.getLogger(__name__)


def choice() -> str:
    """Return `HARNESS_OPS`: "", "reference" or "cuda"."""
    value = os.environ.get("HARNESS_OPS", "")
    if value not in ("", "reference", "cuda"):
        raise ValueError(
            f"HARNESS_OPS must be `reference` or `cuda`; got {value!r}. Unset it to let the "
            "device decide."
        )
    return value


def missing() -> str | None:
    """Return what the kernels lack, with the cure; None if they can run."""
    if not torch.cuda.is_available():
        return f"There is no CUDA device. {UNSET}"
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "cuda-core is not installed. Run `pip install cuda-core`."
    return None


def usable(u: Tensor, unsupported: str | None) -> bool:
    """Say whether a kernel is to run on `u`, given why it could not (None: it can).

    Raises:
        ValueError: HARNESS_OPS=cuda asks for a kernel that cannot run; says what is missing.
    """
    wanted = choice()
    if wanted == "reference":
        return False
    lack = _missing()
    if lack is None and not u.is_cuda:
        lack = f"`u` is on {u.device}. Move it with `u.cuda()`."
    lack = lack or unsupported
    if lack and wanted == "cuda":
        raise ValueError(f"HARNESS_OPS=cuda asks for a CUDA kernel. {lack}")
    return lack is None


@functools.cache
def _missing() -> str | None:
    lack = missing()
    if lack and torch.cuda.is_available():
        log.info("CUDA tensors take the reference operators. %s", lack)
    return lack


def source(name: str) -> str:
    """Return csrc/NAME.cu with our own headers in place of their #include."""
    text = (SOURCES / f"{name}.cu").read_text()
    return re.sub(r'#include "(.+)"\n', lambda m: (SOURCES / m[1]).read_text(), text)


def macros(u: Tensor, **more: int) -> dict[str, int]:
    """Return what a kernel for planes like those of `u` (N, C, H, W) is compiled for."""
    return {"STORAGE": STORAGES[u.dtype], "HEIGHT": u.shape[2], "WIDTH": u.shape[3], **more}


def compile_cubin(name: str, arch: str, defines: dict[str, int]) -> bytes:
    """Return csrc/NAME.cu compiled for an architecture like "sm_90"; needs no GPU.

    Raises:
        RuntimeError: The source does not compile; holds NVRTC's log and the cure.
    """
    from cuda.core import Program, ProgramOptions

    try:
        from cuda.core._utils.cuda_utils import CUDAError  # NVRTCError's parent; no public name yet
    except ImportError:  # moved: then an error of a source of ours comes without its cure
        CUDAError = RuntimeError
    options = ProgramOptions(
        arch=arch, std=STANDARD, define_macro=[(key, str(value)) for key, value in defines.items()]
    )
    program = Program(source(name), "c++", options)
    try:
        return bytes(program.compile("cubin").code)
    except CUDAError as error:
        raise RuntimeError(
            f"csrc/{name}.cu does not compile for {arch}: {error} "
            "Set HARNESS_OPS=reference to compute without it."
        ) from error
    finally:
        program.close()


def cubin(name: str, arch: str, defines: dict[str, int]) -> bytes:
    """Return what `compile_cubin` returns, from the disk if it was made before."""
    key = repr((source(name), sorted(defines.items()), STANDARD, arch, nvrtc_version()))
    path = cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
    try:
        code = path.read_bytes()
        if code[:4] == b"\x7fELF":
            return code
    except OSError:
        pass  # not there, or not readable: a miss
    code = compile_cubin(name, arch, defines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)  # whole or not at all; a lost race writes the same bytes
    except OSError as error:
        log.info("The cubin of %s is not kept: %s", name, error)
    return code


def cache_folder() -> Path:
    """Return where cubins lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness" / "cubins"


@functools.cache
def nvrtc_version() -> tuple[int, int]:
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return int(major), int(minor)


@functools.cache
def _kernel(name: str, entry: str, device: int, defines: tuple[tuple[str, int], ...]) -> Any:
    from cuda.core import ObjectCode

    major, minor = torch.cuda.get_device_capability(device)
    code = cubin(name, f"sm_{major}{minor}", dict(defines))
    return ObjectCode.from_cubin(code).get_kernel(entry)


@functools.cache
def _starter() -> Any:
    from cuda.core import launch

    return launch


@functools.lru_cache(maxsize=1024)
def _config(blocks: int, threads: int, shared: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=blocks, block=threads, shmem_size=shared)


@functools.lru_cache(maxsize=1024)
def _stream(handle: int) -> Any:
    from cuda.core import Stream

    return Stream.from_handle(handle)


def _enter(device: int) -> None:
    """Make a device known to cuda-core in this thread; torch has made it current."""
    if device not in _threads.__dict__.setdefault("devices", set()):
        from cuda.core import Device

        Device(device).set_current()
        _threads.devices.add(device)


_threads = threading.local()


def launch(
    name: str,
    entry: str,
    u: Tensor,
    defines: dict[str, int],
    blocks: int,
    threads: int,
    *args: Any,
    shared: int = 0,
) -> None:
    """Start a kernel of csrc/NAME.cu on torch's current stream of the device of `u`.

    What does not change from call to call is kept: a start takes less time than a small kernel.

    Args:
        args: Tensors, None for a null pointer, and numpy scalars of the kernel's own types.
        shared: Bytes of shared memory per block.
    """
    device = u.device.index
    here = device == torch.cuda.current_device()
    with contextlib.nullcontext() if here else torch.cuda.device(device):
        _enter(device)
        kernel = _kernel(name, entry, device, tuple(sorted(defines.items())))
        stream = _stream(torch.cuda.current_stream(device).cuda_stream)
        pointers = (a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in args)
        _starter()(stream, _config(blocks, threads, shared), kernel, *pointers)


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `values` on a device; they go there once, so that no later call waits for a copy."""
    return torch.tensor(values, dtype=dtype, device=device)


def tiles(u: Tensor) -> int:
    """Return how many tiles of 32 x 32 pixels the planes of `u` (N, C, H, W) take."""
    if is_large(u):
        free = 32 - 2 * HALO
        return u.shape[0] * u.shape[1] * -(-u.shape[2] // free) * -(-u.shape[3] // free)
    rows, cols = (max(4, 1 << (n - 1).bit_length()) for n in u.shape[2:])
    return -(-u.shape[0] * u.shape[1] * rows * cols // 1024)


def is_large(u: Tensor) -> bool:
    """Say whether the planes of `u` take several tiles, and at most HALO steps a launch."""
    return max(u.shape[2:]) > 32


def align(u: Tensor) -> Tensor:
    """Return `u` as a contiguous tensor whose rows may be read four pixels at a time."""
    u = u.contiguous()
    return u if u.data_ptr() % 32 == 0 else u.clone()
