"""Time beside imagecorruptions on one thread, and memory; run by `--benchmark-only`.

    pytest tests/test_bench_corruptions.py --benchmark-only -s --tables results/benchmarks

Severity 3. The package has the constants of ImageNet-C alone; up to 64 pixels ours are timed with
both sets. With the package's set the answers are compared first: equal within a level where nothing
is drawn, as far from the clean images within 1 dB where something is. Then both sides take turns in
one process. Times are CPU times of the one thread, which the load of others does not lengthen; a
ratio is the median of the ratios of the turns.
"""

import functools
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.suites.catalog import COMMON, CORRUPTIONS
from harness.suites.corruptions import corrupt, external
from harness.suites.corruptions.contract import CONSTANTS, SMALL
from tests.side_by_side import Keep

TITLE = "Corruptions"
READING = (
    "CPU time of an image on one thread, severity 3; `times` is the median ratio of the package's\n"
    "time and ours, turns side by side, after the answers were compared."
)
TURNS = 7
PIXELS = 512 * 32 * 32  # of ours in a turn, at least 4 images; of the package a tenth of a second
SEVERITY = 3
# Least ratio of the harmonic means by size: below what was measured, as shared machines waver.
LEAST = {32: 10.0, 96: 5.0, 128: 5.0, 224: 5.0, 384: 5.0}
BATCHES = (16, 64, 256)  # images of 224 pixels
SPARE = 128 << 20  # bytes by which a large batch may take more beside its input and output
DRAWS_NOTHING = [
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads, others = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(others)


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


def checked(name: str, images: Tensor) -> None:
    kind = CORRUPTIONS[name]
    indices = torch.arange(len(images))
    theirs = external.external(kind)(images, indices, 0, SEVERITY)
    ours = corrupt(images, name, SEVERITY, indices=indices, constants="imagenet_c")
    if name in DRAWS_NOTHING:
        assert (ours.int() - theirs.int()).abs().max() <= 1
    else:
        assert abs(psnr(ours, images) - psnr(theirs, images)) < 1


def enlarged(pictures: Tensor, size: int, count: int) -> Tensor:
    """Return `count` images (N, 3, size, size) of nine pictures, with a grain of their own."""
    images = pictures[:9].repeat(-(-count // 9), 1, 1, 1)[:count]
    if size == images.shape[2]:
        return images
    generator = torch.Generator().manual_seed(size)
    smooth = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return (smooth + 3 * torch.randn(smooth.shape, generator=generator)).clamp_(0, 255).byte()


def turns(name: str, images: Tensor, sets: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the seconds of an image of the package and of ours by set of constants, by turn."""
    one, _ = external._package(name)
    rows = images.permute(0, 2, 3, 1).contiguous().numpy()
    indices = torch.arange(len(images))

    def package(count: int) -> None:
        for row in rows[:count]:
            one(row, severity=SEVERITY, corruption_name=name)

    def ours(constants: str) -> None:
        corrupt(images, name, SEVERITY, indices=indices, constants=constants)

    package(1)
    count = min(len(rows), max(2, round(0.1 / timed(lambda: package(1)))))
    for constants in sets:
        ours(constants)
    times: dict[str, list[float]] = {side: [] for side in ("package", *sets)}
    for _ in range(TURNS):
        times["package"].append(timed(lambda: package(count)) / count)
        for constants in sets:
            times[constants].append(timed(functools.partial(ours, constants)) / len(images))
    return times


@pytest.mark.parametrize("size", list(LEAST))
def test_corruptions(benchmark: Any, pictures: Tensor, keep: Keep, size: int) -> None:
    torch.set_num_threads(1)
    sets = CONSTANTS if size <= SMALL else ("imagenet_c",)
    images = enlarged(pictures, size, max(4, PIXELS // size**2))
    sums = dict.fromkeys(("package", *sets), 0.0)
    lines, slower, rounds = [], [], {}
    for name in COMMON:
        checked(name, enlarged(pictures, size, 64 if size <= SMALL else 24))
        times = turns(name, images, sets)
        for constants in sets:
            group = f"{name}, {constants}, {size} x {size}"
            rounds[group] = {"ours": times[constants], "package": times["package"]}
        cells = []
        for side in sums:
            sums[side] += statistics.median(times[side])
            low, middle, high = (1e6 * q for q in statistics.quantiles(times[side], n=4))
            cells.append(f"{middle:.4g} | {low:.4g}-{high:.4g}")
        for constants in sets:
            pairs = zip(times["package"], times[constants], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            cells.append(f"{ratio:.3g}")
            if ratio < 1:
                slower.append((name, constants))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [sums["package"] / sums[constants] for constants in sets]
    cells = [f"{1e6 * total:.4g} |" for total in sums.values()]
    lines.append("| sum | " + " | ".join([*cells, *(f"**{r:.3g}**" for r in ratios)]) + " |")
    heads = [f"{side} us | quartiles us" for side in sums] + [f"times {c}" for c in sets]
    head = f"| corruption | {' | '.join(heads)} |\n|{'---|' * (1 + 2 * len(sums) + len(sets))}"
    keep(f"**{size} x {size}**, {len(images)} images, {TURNS} turns; the last ratio is that of the "
         "harmonic means\n\n" + "\n".join([head, *lines]), "cpu", rounds)  # fmt: skip
    benchmark.pedantic(corrupt, (images, "gaussian_noise", SEVERITY), rounds=3)
    if size <= SMALL:
        assert not slower
    assert min(ratios) > LEAST[size]


def test_memory_grows_with_the_batch_by_input_and_output_alone(
    benchmark: Any, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)  # the process needs this module
    peaks = []
    for batch in BATCHES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            peaks.append(process.submit(peak, batch).result())
    lines = [f"| {b} | {p / 2**20:.0f} |" for b, p in zip(BATCHES, peaks, strict=True)]
    keep("**Peak memory of a process** that corrupts 224 x 224 images in all fifteen ways,\n"
         "input and output included\n\n| images | MiB |\n|---|---|\n"
         + "\n".join(lines), "cpu")  # fmt: skip
    images = torch.zeros((4, 3, 224, 224), dtype=torch.uint8)
    benchmark.pedantic(corrupt, (images, "gaussian_noise", SEVERITY), rounds=1)
    both = 2 * (BATCHES[-1] - BATCHES[0]) * images[0].numel()
    assert peaks[-1] - peaks[0] < both + SPARE


def peak(batch: int) -> int:
    """Return the bytes of this process at most, after it corrupted a batch in all ways."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8, generator=generator)
    for name in COMMON:
        corrupt(images, name, SEVERITY)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
