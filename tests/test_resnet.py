import pytest
import torch

from harness.models.resnet import resnet18


@pytest.mark.parametrize("num_classes, weights", [(10, 11_173_962), (100, 11_220_132)])
def test_weights_are_those_of_resnet18_with_a_small_stem(num_classes: int, weights: int) -> None:
    assert sum(p.numel() for p in resnet18(num_classes).parameters()) == weights


@pytest.mark.parametrize(
    "size, maps", [(32, [32, 16, 8, 4]), (64, [64, 32, 16, 8]), (96, [48, 24, 12, 6])]
)
def test_feature_maps_have_the_sizes_stated(size: int, maps: list[int]) -> None:
    model, seen = resnet18(width=8).eval(), []
    for stage in (model.net.layer1, model.net.layer2, model.net.layer3, model.net.layer4):
        stage.register_forward_hook(lambda m, i, output: seen.append(output.shape[-1]))
    model(torch.rand(1, 3, size, size))
    assert seen == maps


def test_every_block_starts_as_the_identity() -> None:
    model = resnet18(width=8)
    for block in (model.net.layer1[0], model.net.layer1[1], model.net.layer4[1]):
        assert not block.bn2.weight.any()


def test_there_is_no_projection_in_the_first_stage_at_any_width() -> None:
    for width in (8, 64):
        assert resnet18(width=width).net.layer1[0].downsample is None
