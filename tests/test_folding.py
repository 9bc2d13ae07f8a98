"""Folding of batch norms: what is folded, what must not be, and that nothing remains of it."""

import pytest
import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from harness.models.cards import MODELS, takes_width
from harness.models.folding import fold, pairs
from harness.models.fusing import fuse
from harness.running.evaluate import Evaluated, dtype_for, folding
from harness.suites.catalog import SUITES
from harness.suites.datasets import Split, as_input


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
    if not takes_width(MODELS[name]):
        pytest.skip("keeps its training images, and has no layers")
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
    for ours in (True, False):
        with folding(suite, Evaluated(model, torch.device("cpu"), dtype), split, ours=ours) as n:
            left = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert norms - left == n == (count if ours else 0), "what others wrote is asked as it is"


class Gated(nn.Module):
    """Another norm for bright images than for dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)
        self.dark, self.bright = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        found = self.conv(images)
        bright = (images.mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)
        dark = self.dark(found) if not bright.all() else found
        return self.head(torch.where(bright, self.bright(found), dark).mean((2, 3)))


def test_a_network_that_folding_changes_is_evaluated_unfolded() -> None:
    """Folding looks at eight images, the answers of thirty-two are compared."""
    torch.manual_seed(0)
    model = lived(Gated(), torch.rand(16, 3, 32, 32)).eval()
    images = torch.zeros(32, 3, 32, 32, dtype=torch.uint8)
    images[8:] = 250
    split = Split(images, torch.zeros(32).long(), tuple("abcdefghij"), flip=False)
    subject = Evaluated(model, torch.device("cpu"))
    whole = as_input(images)
    before = model(whole)
    with folding(SUITES["clean"](), subject, split, ours=True) as count:
        assert count == 0 and torch.equal(model(whole), before)
    assert torch.equal(model(whole), before)


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


@pytest.mark.parametrize("name, blocks", [("resnet18", 8), ("pde_layer", 8), ("ode_block", 7)])
def test_basic_blocks_are_one_operation_and_the_same_again(
    name: str, blocks: int, images: Tensor
) -> None:
    model = MODELS[name](width=8).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        before = model(images)
        with fold(model, images[:2]), fuse(model, torch.float32) as count:
            fused = model(images)
            inner = [m for m in model.modules() if "forward" in vars(m)]
        assert count == len(inner) == blocks
        torch.testing.assert_close(fused, before, rtol=1e-4, atol=1e-4)
        assert torch.equal(model(images), before)
        assert not any("forward" in vars(m) for m in model.modules())


def test_what_is_watched_or_otherwise_is_not_fused(images: Tensor) -> None:
    model = MODELS["resnet18"](width=8).eval()
    with fuse(model, torch.float32) as count:  # its norms are not folded
        assert count == 0
    blocks = [m for m in model.modules() if isinstance(m, BasicBlock)]
    blocks[0].act1.register_forward_hook(lambda *_: None)
    blocks[1].act2 = nn.GELU()
    with fold(model, images[:2]), fuse(model, torch.float32) as count:
        assert count == 6
