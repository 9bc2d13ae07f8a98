from harness.models.resnet import resnet18
from harness.models.size import size_of


def test_resnet18_has_its_published_weights_and_multiply_adds() -> None:
    # 0.5554 GMAC: convolutions 3x32x32, then four stages, and 512 x 10.
    size = size_of(resnet18)
    assert size.parameters == 11_173_962
    stem = 3 * 9 * 64 * 32**2
    first = 4 * 9 * 64 * 64 * 32**2
    later = [
        (c // 2 * c * 9 + 3 * c * c * 9 + c // 2 * c) * n**2
        for c, n in ((128, 16), (256, 8), (512, 4))
    ]
    assert size.macs == stem + first + sum(later) + 512 * 10
