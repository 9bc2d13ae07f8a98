from typing import Any

import pytest
import torch
from imagecorruptions import corrupt as packaged

from harness.suites.base import Setting
from harness.suites.corruptions.contract import CONSTANTS
from harness.suites.robustness import cells, robustness, select_corruptions


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
    assert (
        len(select_corruptions(("common",))) == 15 and len(select_corruptions(("all", "fog"))) == 19
    )
    assert [kind.__name__ for kind in select_corruptions(("fog", "blur"))][:2] == [
        "fog",
        "defocus_blur",
    ]


def test_an_unknown_corruption_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no corruption called `fogg`. Did you mean `fog`?"):
        select_corruptions(("fogg",))


def test_large_images_get_the_constants_of_imagenet() -> None:
    for size, constants in ((32, "cifar10_c"), (64, "cifar10_c"), (96, "imagenet_c")):
        corrupted = cells(Setting(size, 10))[1:]
        assert {cell.constants["constants"] for cell in corrupted} == {constants}
        prepared: list[Any] = [cell.prepare for cell in corrupted]
        assert {p.keywords["constants"] for p in prepared} == {constants}


def test_jpeg_says_its_codec() -> None:
    cell = cells(Setting(32, 10, ("jpeg_compression",)))[1]
    assert cell.constants.items() >= {"constants": "cifar10_c", "codec": "IJG libjpeg 9"}.items()


def setting(**changes: Any) -> Setting:
    return Setting(32, 10, ("contrast",), **changes)


def test_other_constants_and_another_source_go_under_another_name() -> None:
    suite = robustness()
    assert suite.variant(setting()) == suite.variant(setting(constants="cifar10_c")) == ""
    assert suite.variant(setting(constants="imagenet_c")) == "[imagenet_c]"
    assert suite.variant(Setting(224, 10, constants="imagenet_c")) == ""
    assert suite.variant(setting(source="imagecorruptions")) == "[imagecorruptions]"


def test_constants_and_source_are_in_the_cells() -> None:
    found = {
        name: robustness().cells(s)[1].constants
        for name, s in (
            ("usual", setting()),
            ("imagenet", setting(constants="imagenet_c")),
            ("package", setting(source="imagecorruptions")),
        )
    }
    assert found["usual"].keys() == found["imagenet"].keys() == {"constants", "code"}
    assert (found["usual"]["constants"], found["imagenet"]["constants"]) == CONSTANTS
    assert found["usual"]["code"] == found["imagenet"]["code"] != found["package"]["code"]
    assert found["package"]["source"].startswith("imagecorruptions-imaug 1.")


def test_the_package_makes_its_own_images() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    cell = robustness().cells(setting(source="imagecorruptions"))[3]
    theirs = packaged(images[1].permute(1, 2, 0).numpy(), severity=3, corruption_name="contrast")
    ours = cell.prepare(images, torch.arange(3), 0)[1]
    assert torch.equal(ours, torch.from_numpy(theirs).permute(2, 0, 1))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"source": "imagecorruption"}, "Did you mean `imagecorruptions`"),
        ({"constants": "cifar100_c"}, "Did you mean `cifar10_c`"),
        ({"source": "imagecorruptions", "constants": "cifar10_c"}, "constants of `imagenet_c`"),
    ],
)
def test_unknown_sources_and_constants_are_refused(changes: dict, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=message):
        robustness().cells(setting(**changes))
