import pytest
import torch
from torch import Tensor, nn

from harness.models.pde_layer import pde_layer
from harness.models.resnet import resnet18
from harness.running.evaluate import Observed, observe
from harness.suites import stability
from harness.suites.base import Cell, Setting
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


def observed(model: nn.Module, split: Split, cell: Cell, batch_size: int = 12) -> dict:
    return observe(
        stability.stability(),
        cell,
        Observed(model.eval(), CPU, "float32"),
        split,
        seed=0,
        device=CPU,
        batch_size=batch_size,
    )


def rows_of(cell: Cell, arrays: dict) -> dict[str, float]:
    return {m.metric: m.value for m in stability.measure(cell, arrays)}


@pytest.mark.parametrize(
    "cell", stability.cells(LAYERED)[1:], ids=lambda c: f"{c.condition} {c.level}"
)
def test_a_linear_map_keeps_the_share_of_a_change(split: Split, cell: Cell) -> None:
    arrays = observed(Scaling(), split, cell)
    for name in ("b0", "b1", "b2"):
        torch.testing.assert_close(
            arrays[f"log10_growth_{name}"], torch.zeros(12), rtol=0, atol=2e-3
        )


def test_gradients_and_derivatives_of_known_blocks(split: Split) -> None:
    torch.manual_seed(0)
    cell = stability.cells(LAYERED)[0]
    arrays = observed(Scaling(), split, cell)
    norms = [arrays[f"log10_gradient_norm_b{i}"] for i in range(3)]
    for i in (0, 1):  # the gradient before a block is that behind it times its number
        ratio = 10 ** (norms[i] - norms[i + 1])
        torch.testing.assert_close(ratio, torch.full((12,), GAINS[i + 1]), rtol=1e-4, atol=0)
    found = rows_of(cell, arrays)
    for i, gain in enumerate(GAINS):
        assert found[f"spectral_norm_b{i}"] == pytest.approx(gain, rel=1e-5)
        assert found[f"spectral_radius_b{i}"] == pytest.approx(gain, rel=1e-5)
        assert found[f"log_norm_b{i}"] == pytest.approx(gain - 1, rel=1e-5)


def test_a_change_has_its_length_and_does_not_depend_on_the_batch(split: Split) -> None:
    torch.manual_seed(0)
    model = resnet18(width=8).eval()
    subject = Observed(model, CPU, "float32")
    images, labels = split.images.float() / 255, split.labels
    for cell in stability.cells(LAYERED)[1:]:
        subject.indices = torch.arange(12)
        d = stability.directed(subject, images, labels, cell)
        share = stability.length(d) / stability.length(images)
        torch.testing.assert_close(share, torch.full_like(share, cell.level), rtol=1e-4, atol=0)
        some = torch.tensor([7, 2])
        subject.indices = some
        again = stability.directed(subject, images[some], labels[some], cell)
        torch.testing.assert_close(again, d[some], rtol=1e-2, atol=1e-5 * cell.level)


def test_the_gradient_is_the_worse_direction(split: Split) -> None:
    torch.manual_seed(0)
    model = resnet18(width=8).eval()
    nll = {}
    for cell in stability.cells(LAYERED):
        nll[cell.condition, cell.level] = rows_of(cell, observed(model, split, cell))["nll"]
    clean = nll["clean", 0]
    assert nll[stability.GRADIENT, 1e-1] > nll[stability.RANDOM, 1e-1]
    assert nll[stability.GRADIENT, 1e-1] > nll[stability.GRADIENT, 1e-2] > clean


def test_blocks_that_change_the_shape_have_no_eigenvalues_and_few_images_derivatives(
    split: Split,
) -> None:
    cell = stability.cells(LAYERED)[0]
    torch.manual_seed(0)
    arrays = observed(resnet18(width=8), split, cell, batch_size=5)
    assert "log_norm_layer1.0" in arrays and "log_norm_layer2.0" not in arrays
    assert "spectral_norm_layer2.0" in arrays
    known = arrays["spectral_norm_layer2.0"].isfinite().nonzero()[:, 0].tolist()
    assert known == [0], "every fiftieth, counted in the data set"
    # The second blocks are the identity at the start.
    assert arrays["spectral_norm_layer1.1"][0] == pytest.approx(1, abs=1e-5)
    assert arrays["log_norm_layer1.1"][0] == pytest.approx(0, abs=1e-5)


def test_steps_stand_beside_their_limit(split: Split) -> None:
    cell = stability.cells(LAYERED)[0]
    torch.manual_seed(0)
    found = rows_of(cell, observed(pde_layer(width=8), split, cell))
    ratios = {k: v for k, v in found.items() if k.startswith("step_ratio_")}
    assert len(ratios) == 1 and 0 < next(iter(ratios.values())) <= 1
    # Diffusion with no flux through the border never pushes two states apart.
    name = next(iter(ratios)).removeprefix("step_ratio_")
    assert found[f"log_norm_{name}"] < 1e-4


def test_quantiles_stand_beside_the_geometric_mean() -> None:
    arrays = {
        "indices": torch.arange(11),
        "labels": torch.zeros(11, dtype=torch.int64),
        "logits": torch.rand(11, 10),
        "log10_growth_b": torch.arange(11.0),
    }
    found = rows_of(Cell(stability.RANDOM, 1e-3), arrays)
    assert (found["log10_growth_b"], found["log10_growth_b_p10"], found["log10_growth_b_p90"]) == (
        5,
        1,
        9,
    )


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with `blocks`"):
        stability.cells(Setting(32, 10))


def test_numbers_that_are_none_stop_the_suite(split: Split) -> None:
    model = Scaling()
    nn.init.constant_(model.head.weight, torch.inf)
    with pytest.raises(FloatingPointError, match="not finite for 12 of 12 images"):
        observed(model, split, stability.cells(LAYERED)[1])
