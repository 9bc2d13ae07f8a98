from typing import Any

import torch
from scipy.ndimage import gaussian_filter, median_filter

from harness.models.ops import heat, perona_malik
from harness.models.pde_aug import DT, bilateral, draw, gaussian_blur_aug, median, pde_aug, radius


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> Any:
    return draw(count, generator(seed), probability=0.5, max_steps=20, kappa=(0.02, 0.2))


def test_half_of_the_images_are_drawn_with_the_stated_distributions() -> None:
    d = draws(20_000)
    assert abs(len(d.indices) / 20_000 - 0.5) < 0.02
    steps = torch.tensor(d.num_steps)
    assert d.num_steps == sorted(d.num_steps, reverse=True)
    assert steps.min() == 1 and steps.max() == 20 and abs(steps.double().mean() - 10.5) < 0.2
    assert d.kappa.min() >= 0.0199 and d.kappa.max() <= 0.2001
    log = d.kappa.log()  # uniform: mean in the middle, variance width^2 / 12
    assert abs(log.mean() - 0.5 * (torch.tensor(0.02).log() + torch.tensor(0.2).log())) < 0.03
    assert abs(log.std() - torch.tensor(10.0).log() / 12**0.5) < 0.02


def test_each_image_gets_its_own_steps_and_kappa() -> None:
    images = torch.rand(40, 3, 32, 32, dtype=torch.float64)
    d = draws(40, seed=3)
    augmented = pde_aug(width=8).augment(images, generator(3))
    expected = images.clone()
    for i, steps, kappa in zip(d.indices.tolist(), d.num_steps, d.kappa.double(), strict=True):
        alone = images[i : i + 1]
        expected[i] = perona_malik(alone, dt=DT, num_steps=steps, kappa=float(kappa))[0]
    torch.testing.assert_close(augmented, expected, rtol=0, atol=1e-12)


def test_the_null_blurs_the_same_images_for_the_same_times() -> None:
    images = torch.rand(40, 3, 32, 32, dtype=torch.float64)
    d = draws(40, seed=3)
    augmented = gaussian_blur_aug(width=8).augment(images, generator(3))
    expected = images.clone()
    for i, steps in zip(d.indices.tolist(), d.num_steps, strict=True):
        expected[i] = heat(images[i : i + 1], dt=DT, num_steps=steps)[0]
    torch.testing.assert_close(augmented, expected, rtol=0, atol=1e-12)


def test_brightness_is_kept_and_gray_stays_gray() -> None:
    images = torch.rand(16, 1, 32, 32).expand(-1, 3, -1, -1)
    for build in (pde_aug, gaussian_blur_aug):
        augmented = build(width=8).augment(images, generator())
        torch.testing.assert_close(augmented.mean((1, 2, 3)), images.mean((1, 2, 3)))
        torch.testing.assert_close(augmented[:, 0], augmented[:, 2])


def test_edges_survive_anisotropic_diffusion_only() -> None:
    images = torch.zeros(64, 3, 32, 32)
    images[..., 16:] = 1
    drops = {}
    for build in (pde_aug, gaussian_blur_aug):
        augmented = build(width=8).augment(images, generator())
        drops[build] = (augmented[..., 16] - augmented[..., 15]).mean()
    assert drops[pde_aug] > 0.9 > 0.7 > drops[gaussian_blur_aug]


def test_evaluation_does_nothing_to_the_images() -> None:
    model = pde_aug(width=8).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), model.backbone(images))


def test_an_empty_draw_is_no_accident() -> None:
    images = torch.rand(1, 3, 32, 32)
    for seed in range(8):
        assert pde_aug(width=8).augment(images, generator(seed)).shape == images.shape


def test_medians_and_bilateral_means_are_as_wide_as_the_diffusion() -> None:
    # Variance of a uniform square of half-width r: r (r + 1) / 3; of the flow: 2 t = 2 DT n.
    for num_steps in range(3, 21):
        r = radius(num_steps)
        nearest = min(range(1, 6), key=lambda k: abs((k + 0.5) ** 2 / 3 - 2 * DT * num_steps))
        assert abs(r - nearest) <= 1
        assert r * (r - 1) / 3 < 2 * DT * num_steps < (r + 1) * (r + 2) / 3
    assert [radius(n) for n in (1, 20)] == [1, 4]


def test_a_median_is_scipys() -> None:
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    out = median(images.clone(), [20, 20, 3, 1], torch.ones(4))
    for i, r in enumerate((4, 4, 1, 1)):
        side = 2 * r + 1
        expected = median_filter(images[i].numpy(), size=(1, side, side), mode="nearest")
        assert torch.equal(out[i], torch.tensor(expected))


def test_a_bilateral_mean_is_a_gaussian_for_large_kappa_and_the_identity_for_small() -> None:
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    same = bilateral(images.clone(), [8, 8], torch.full((2,), 1e-4, dtype=torch.float64))
    torch.testing.assert_close(same, images)
    wide = bilateral(images.clone(), [8, 8], torch.full((2,), 1e4, dtype=torch.float64))
    sigma, r = (2 * DT * 8) ** 0.5, radius(8)
    for i in range(2):
        expected = gaussian_filter(
            images[i].numpy(), (0, sigma, sigma), mode="nearest", radius=(0, r, r)
        )
        torch.testing.assert_close(wide[i], torch.tensor(expected))


def test_both_keep_a_step_edge() -> None:
    images = torch.zeros(2, 3, 32, 32)
    images[..., 16:] = 1
    for smooth in (median, bilateral):
        kept = smooth(images.clone(), [20, 20], torch.full((2,), 0.05))
        torch.testing.assert_close(kept, images)
