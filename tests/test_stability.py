import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.pde_layer import pde_layer
from harness.models.resnet import resnet18
from harness.running.evaluate import Evaluated, observe
from harness.suites import stability
from harness.suites.base import Arrays, Batch, Cell, Setting
from harness.suites.datasets import Split

CPU = torch.device("cpu")
LAYERED = Setting(32, 10, can=frozenset({"blocks"}))
GAINS = (2.0, 0.5, 3.0)


class Scaling(nn.Module):
    """Blocks that multiply by known numbers, in front of a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(3, 3, 1, groups=3, bias=False) for _ in GAINS)
        for part, gain in zip(self.parts, GAINS, strict=True):
            nn.init.constant_(part.weight, gain)
        self.head = nn.Linear(3, 10)

    def blocks(self) -> dict[str, nn.Module]:
        return {f"b{i}": part for i, part in enumerate(self.parts)}

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def split() -> Split:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.arange(12) % 10, tuple("abcdefghij"), flip=False)


def arrays_of(model: nn.Module, split: Split, cell: Cell, batch_size: int = 12) -> Arrays:
    return observe(stability.stability(), cell, Evaluated(model, CPU), split, batch_size=batch_size)


def rows_of(cell: Cell, arrays: Arrays) -> dict[str, float]:
    return {f"{m.metric}:{m.variant}": m.value for m in stability.measure(cell, arrays)}


@pytest.mark.parametrize(
    "cell", stability.cells(LAYERED)[1:], ids=lambda c: f"{c.condition} {c.level}"
)
def test_a_linear_map_keeps_the_share_of_a_change(split: Split, cell: Cell) -> None:
    arrays = arrays_of(Scaling(), split, cell)
    for name in ("b0", "b1", "b2"):
        np.testing.assert_allclose(arrays[f"log10_growth:{name}"], np.zeros(12), atol=2e-3)


def test_gradients_and_derivatives_of_known_blocks(split: Split) -> None:
    torch.manual_seed(0)
    cell = stability.cells(LAYERED)[0]
    arrays = arrays_of(Scaling(), split, cell)
    norms = [arrays[f"log10_gradient_norm:b{i}"] for i in range(3)]
    for i in (0, 1):  # the gradient before a block is that behind it times its number
        ratio = 10 ** (norms[i] - norms[i + 1])
        np.testing.assert_allclose(ratio, np.full(12, GAINS[i + 1]), rtol=1e-4)
    found = rows_of(cell, arrays)
    for i, gain in enumerate(GAINS):
        assert found[f"spectral_norm:b{i}"] == pytest.approx(gain, rel=1e-5)
        assert found[f"spectral_radius:b{i}"] == pytest.approx(gain, rel=1e-5)
        assert found[f"log_norm:b{i}"] == pytest.approx(gain - 1, rel=1e-5)


def test_a_change_has_its_length_and_does_not_depend_on_the_batch(split: Split) -> None:
    torch.manual_seed(0)
    model = resnet18(width=8).eval()
    subject = Evaluated(model, CPU)
    images, labels = split.images.float() / 255, split.labels
    for cell in stability.cells(LAYERED)[1:]:
        batch = Batch(images, labels, torch.arange(12))
        d = stability.direction(subject, batch, cell)
        share = stability.length(d) / stability.length(images)
        torch.testing.assert_close(share, torch.full_like(share, cell.level), rtol=1e-4, atol=0)
        some = torch.tensor([7, 2])
        again = stability.direction(subject, Batch(images[some], labels[some], some), cell)
        torch.testing.assert_close(again, d[some], rtol=1e-2, atol=1e-5 * cell.level)


def test_the_gradient_is_the_worse_direction(split: Split) -> None:
    torch.manual_seed(0)
    model = resnet18(width=8).eval()
    nll = {}
    for cell in stability.cells(LAYERED):
        nll[cell.condition, cell.level] = rows_of(cell, arrays_of(model, split, cell))["nll:"]
    clean = nll["clean", 0]
    assert nll[stability.GRADIENT, 1e-1] > nll[stability.RANDOM, 1e-1]
    assert nll[stability.GRADIENT, 1e-1] > nll[stability.GRADIENT, 1e-2] > clean


def test_blocks_that_change_the_shape_have_no_eigenvalues_and_few_images_derivatives(
    split: Split,
) -> None:
    cell = stability.cells(LAYERED)[0]
    torch.manual_seed(0)
    arrays = arrays_of(resnet18(width=8), split, cell, batch_size=5)
    assert "log_norm:layer1.0" in arrays and "log_norm:layer2.0" not in arrays
    assert "spectral_norm:layer2.0" in arrays
    known = np.isfinite(arrays["spectral_norm:layer2.0"]).nonzero()[0].tolist()
    assert known == [0], "every fiftieth, counted in the data set"
    # The second blocks are the identity at the start.
    assert arrays["spectral_norm:layer1.1"][0] == pytest.approx(1, abs=1e-5)
    assert arrays["log_norm:layer1.1"][0] == pytest.approx(0, abs=1e-5)


def test_steps_stand_beside_their_limit(split: Split) -> None:
    cell = stability.cells(LAYERED)[0]
    torch.manual_seed(0)
    found = rows_of(cell, arrays_of(pde_layer(width=8), split, cell))
    ratios = {k: v for k, v in found.items() if k.startswith("step_ratio:")}
    assert len(ratios) == 1 and 0 < next(iter(ratios.values())) <= 1
    # Diffusion with no flux through the border never pushes two states apart.
    name = next(iter(ratios)).removeprefix("step_ratio:")
    assert found[f"log_norm:{name}"] < 1e-4


def test_quantiles_stand_beside_the_geometric_mean() -> None:
    arrays = {
        "indices": np.arange(11),
        "labels": np.zeros(11, np.int64),
        "logits": np.ones((11, 10), np.float32),
        "log10_growth:b": np.arange(11.0),
    }
    found = rows_of(Cell(stability.RANDOM, 1e-3), arrays)
    assert [found[f"log10_growth:{kind}"] for kind in ("b", "b, p10", "b, p90")] == [5, 1, 9]


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with `blocks`"):
        stability.cells(Setting(32, 10))


def test_numbers_that_are_none_stop_the_suite(split: Split) -> None:
    model = Scaling()
    nn.init.constant_(model.head.weight, torch.inf)
    with pytest.raises(FloatingPointError, match="not finite for 12 of 12 images"):
        arrays_of(model, split, stability.cells(LAYERED)[1])
