"""Folding of batch norms: what is folded, what must not be, and that nothing remains of it."""

import pytest
import torch
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.models.folding import fold, pairs
from harness.running.evaluate import Evaluated, dtype_for, folding
from harness.suites.catalog import SUITES
from harness.suites.datasets import Split


def lived(model: nn.Module, images: Tensor) -> nn.Module:
    """A model whose batch statistics and scales are those of some training."""
    with torch.no_grad():
        for p in model.train().parameters():
            p.add_(0.05 * torch.randn_like(p))
        model(images)
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


FOLDABLE = {"resnet18": 19, "resnet110": 109, "preact_resnet20": 11, "ode_block": 17}


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_model_says_the_same_and_is_itself_again(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = MODELS[name](num_classes=10, width=8)
    if getattr(model, "transductive", False) or getattr(model, "stochastic", False):
        pytest.skip("is not folded")
    lived(model, images)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        before = model(images)
        with fold(model, images[:2]) as count:
            told = model(images)
        assert torch.equal(model(images), before)
    torch.testing.assert_close(told, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))
    assert count == FOLDABLE.get(name, count)
    after = model.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[k], state[k]) for k in state)


def test_the_norms_are_gone_meanwhile(images: Tensor) -> None:
    model = lived(MODELS["resnet18"](num_classes=10, width=8), images)
    block = model.blocks()["layer1.0"]
    with fold(model, images):
        assert isinstance(block.bn1, nn.Identity) and block.conv1.bias is not None
        # The stem has its own forward pass, which knows no bias.
        assert isinstance(model.net.bn1, nn.BatchNorm2d)
    with pytest.raises(RuntimeError, match="stop"), fold(model, images):
        raise RuntimeError("stop")
    assert isinstance(block.bn1, nn.BatchNorm2d) and block.conv1.bias is None


@pytest.mark.parametrize("name, dtype, count", [("clean", "bfloat16", 19), ("nfe", "float32", 0)])
def test_suites_that_look_inside_see_the_network_as_it_was_trained(
    name: str, dtype: str, count: int, images: Tensor
) -> None:
    suite, model = SUITES[name](), lived(MODELS["resnet18"](num_classes=10, width=8), images)
    assert dtype_for(suite, "bfloat16") == dtype and dtype_for(suite, "float32") == "float32"
    split = Split((images * 255).byte(), torch.zeros(8).long(), tuple("abcdefghij"), flip=False)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with folding(suite, Evaluated(model, torch.device("cpu"), dtype), split):
        left = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert norms - left == count


class Both(nn.Module):
    """The output of a convolution has two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Tied(Both):
    """The weights are used once more, transposed."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv_transpose2d(self.norm(self.conv(x)), self.conv.weight, padding=1)


class Shared(Both):
    """One convolution feeds two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(self.norm(self.conv(x))))


class Twice(Both):
    """The same pair, twice: this one can be folded."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x))))


@pytest.mark.parametrize("kind, count", [(Both, 0), (Tied, 0), (Shared, 0), (Twice, 1)])
def test_only_what_has_one_reader_is_folded(kind: type, count: int, images: Tensor) -> None:
    torch.manual_seed(0)
    model = lived(kind(), images)
    assert len(pairs(model, images)) == count
    with torch.no_grad():
        before = model(images)
        with fold(model, images):
            torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-5)
