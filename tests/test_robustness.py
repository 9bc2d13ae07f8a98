import pytest

from suites.base import Setting
from suites.robustness import cells, chosen


def names(setting: Setting) -> list[str]:
    return list(dict.fromkeys(cell.condition for cell in cells(setting)))


def test_the_seven_noises_and_blurs_are_asked_by_default() -> None:
    assert names(Setting(32, 10)) == [
        "clean",
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
    ]
    assert len(cells(Setting(32, 10))) == 1 + 7 * 5


def test_a_list_stands_for_its_members_once() -> None:
    assert len(chosen(("common",))) == 15 and len(chosen(("all", "fog"))) == 19
    assert [kind.__name__ for kind in chosen(("fog", "blur"))][:2] == ["fog", "defocus_blur"]


def test_an_unknown_corruption_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no corruption called `fogg`. Did you mean `fog`?"):
        chosen(("fogg",))


def test_large_images_get_the_constants_of_imagenet() -> None:
    for size, constants in ((32, "cifar10_c"), (64, "cifar10_c"), (96, "imagenet_c")):
        corrupted = cells(Setting(size, 10))[1:]
        assert {cell.constants["constants"] for cell in corrupted} == {constants}
        assert {cell.prepare.keywords["constants"] for cell in corrupted} == {constants}


def test_jpeg_says_its_codec() -> None:
    cell = cells(Setting(32, 10, ("jpeg_compression",)))[1]
    assert cell.constants == {"constants": "cifar10_c", "codec": "IJG libjpeg 9"}
