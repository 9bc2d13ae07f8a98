import pytest
import torch

from harness.models.base import check_images


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(1, 1, 32, 32), r"shape \(N, 3, H, H\); got \(1, 1, 32, 32\). Expand gray"),
        (torch.zeros(1, 3, 32, 33), r"shape \(N, 3, H, H\); got \(1, 3, 32, 33\)"),
        (torch.zeros(1, 3, 28, 28), "at least 32 pixels wide; got 28. Resize them first"),
        (torch.zeros(1, 3, 32, 32).byte(), "floating point; got torch.uint8. Divide by 255"),
        (torch.full((1, 3, 32, 32), -2.4), r"must lie in \[0, 1\]; got \[-2.4, -2.4\]. Normal"),
        (torch.full((1, 3, 32, 32), torch.nan), r"must lie in \[0, 1\]; got \[nan, nan\]"),
    ],
)
def test_what_is_no_image_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(images)


def test_images_and_no_images_pass() -> None:
    check_images(torch.rand(2, 3, 32, 32))
    check_images(torch.zeros(0, 3, 32, 32))
