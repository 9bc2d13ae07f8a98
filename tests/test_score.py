"""The optimal denoiser of a set of images, against its formula in float64."""

import pytest
import torch
from torch import Tensor

from harness.models.ops import score

SIGMAS = (80.0, 1.0, 0.1, 0.02)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "BLOCK", 8 * 12 * 7)  # 7 images of 12 numbers


def images(count: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)


def noisy(clean: Tensor, sigma: Tensor, seed: int = 1) -> Tensor:
    """Images of the set, each with noise of its own level."""
    generator = torch.Generator().manual_seed(seed)
    n = torch.randn(len(sigma), *clean.shape[1:], generator=generator, dtype=torch.float64)
    return clean[: len(sigma)].double() / 127.5 - 1 + sigma.double().view(-1, 1, 1, 1) * n


def exponents(x: Tensor, sigma: Tensor, clean: Tensor) -> Tensor:
    """-|x - x_i|^2 / (2 s^2), differences first, in float64."""
    y = clean.double() / 127.5 - 1 if clean.dtype == torch.uint8 else clean.double()
    squares = (x.double().flatten(1)[:, None] - y.flatten(1)).square().sum(2)
    return -squares / (2 * sigma.double().square()[:, None])


def mean_by_formula(x: Tensor, sigma: Tensor, clean: Tensor) -> Tensor:
    y = (clean.double() / 127.5 - 1).flatten(1)
    return (exponents(x, sigma, clean).softmax(1) @ y).view(x.shape)


class TestDenoiser:
    @pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
    def test_it_is_the_formula(
        self, small_blocks: None, dtype: torch.dtype, tolerance: float
    ) -> None:
        clean, sigma = images(), torch.tensor(SIGMAS).repeat(5)
        x = noisy(clean, sigma).to(dtype)
        found = score.denoise(x, sigma.to(dtype), clean)
        expected = mean_by_formula(x, sigma.to(dtype), clean)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)

    def test_small_noise_in_float32_keeps_its_digits_in_many_dimensions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        first = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=generator)
        clean = first.repeat(6, 1, 1, 1)
        for i in range(1, 6):  # neighbors, of which none is certain at this level
            clean[i, 0, 0, :i] ^= 1
        sigma = torch.full((6,), 0.02)
        x = noisy(clean, sigma).float()
        expected = mean_by_formula(x, sigma, clean)
        found = score.denoise(x, sigma, clean)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
        # What expanded squares in float32 would give.
        y = (clean / 127.5 - 1).flatten(1)
        flat = x.flatten(1)
        squares = flat.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * flat @ y.T
        weights = (-squares / (2 * 0.02**2)).softmax(1)
        exact = exponents(x, sigma, clean).softmax(1)
        assert (weights - exact).abs().max() > 0.01

    def test_gradients_are_those_of_finite_differences(self, small_blocks: None) -> None:
        clean = images(20)
        sigma = torch.tensor([0.3, 0.6, 2.0], dtype=torch.float64)
        x = noisy(clean, sigma).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: score.denoise(x, sigma, clean), x)

    def test_an_image_does_not_depend_on_the_others_of_its_batch(self) -> None:
        clean, sigma = images(), torch.tensor(SIGMAS)
        x = noisy(clean, sigma)
        whole = score.denoise(x, sigma.double(), clean)
        for i in range(len(x)):
            alone = score.denoise(x[i : i + 1], sigma[i : i + 1].double(), clean)
            torch.testing.assert_close(alone, whole[i : i + 1], rtol=0, atol=1e-13)

    def test_it_tends_to_the_mean_of_all_and_to_the_nearest(self) -> None:
        clean = images()
        x = noisy(clean, torch.full((5,), 0.01, dtype=torch.float64))
        y = clean.double() / 127.5 - 1
        far = score.denoise(x, torch.full((5,), 1e6, dtype=torch.float64), clean)
        near = score.denoise(x, torch.full((5,), 1e-3, dtype=torch.float64), clean)
        torch.testing.assert_close(far, y.mean(0).expand_as(far), rtol=0, atol=1e-9)
        torch.testing.assert_close(near, y[:5])

    def test_shapes_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="Give one size"):
            score.denoise(torch.zeros(2, 3, 4, 4), torch.ones(2), images())
        with pytest.raises(ValueError, match="one an image"):
            score.denoise(torch.zeros(2, 3, 2, 2), torch.ones(1), images())


class TestEvidence:
    counts = (15, 0, 24, 1)

    @pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
    def test_it_is_the_formula(
        self, small_blocks: None, dtype: torch.dtype, tolerance: float
    ) -> None:
        clean, sigma = images(), torch.tensor(SIGMAS).repeat(3).to(dtype)
        x = noisy(clean, sigma).to(dtype)
        found = score.class_evidence(x, sigma, clean, self.counts)
        parts = exponents(x, sigma, clean).split(self.counts, 1)
        expected = torch.stack([p.logsumexp(1) for p in parts], 1)
        assert found.dtype == torch.float64 and (found[:, 1] == -torch.inf).all()
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("k", [1, 3, 20])
    def test_the_nearest_of_each_class(self, small_blocks: None, k: int) -> None:
        clean, sigma = images(), torch.tensor(SIGMAS).double()
        x = noisy(clean, sigma)
        found = score.class_evidence(x, sigma, clean, self.counts, k)
        parts = exponents(x, sigma, clean).split(self.counts, 1)
        for c in (0, 2, 3):
            mean = parts[c].topk(min(k, self.counts[c]), 1).values.mean(1)
            torch.testing.assert_close(found[:, c], mean)
        assert (found[:, 1] == -torch.inf).all()

    @pytest.mark.parametrize("kept", [0, 1000])
    @pytest.mark.parametrize("k", [0, 1, 3])
    def test_gradients_are_those_of_finite_differences(
        self, small_blocks: None, k: int, kept: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(score, "KEPT", kept)
        clean = images(20)
        sigma = torch.tensor([0.3, 0.6, 2.0], dtype=torch.float64)
        x = noisy(clean, sigma).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda x: score.class_evidence(x, sigma, clean, (8, 11, 1), k), x
        )

    def test_a_class_without_images_gives_no_gradient(self) -> None:
        clean, sigma = images(), torch.ones(4, dtype=torch.float64)
        x = noisy(clean, sigma).requires_grad_()
        score.class_evidence(x, sigma, clean, self.counts)[:, [0, 2, 3]].sum().backward()
        expected = torch.autograd.functional.jacobian(
            lambda x: torch.stack(
                [exponents(x, sigma, c).logsumexp(1) for c in clean.split((15, 24, 1))]
            ).sum(),
            x.detach(),
        )
        torch.testing.assert_close(x.grad, expected)

    def test_its_gradient_is_the_score(self) -> None:
        clean, sigma = images(), torch.tensor(SIGMAS).double()
        x = noisy(clean, sigma).requires_grad_()
        score.class_evidence(x, sigma, clean, (len(clean),)).sum().backward()
        expected = (score.denoise(x.detach(), sigma, clean) - x.detach()) / sigma.view(
            -1, 1, 1, 1
        ) ** 2
        torch.testing.assert_close(x.grad, expected)

    def test_counts_that_are_not_those_of_the_images_are_refused(self) -> None:
        with pytest.raises(ValueError, match="sum to 3"):
            score.class_evidence(torch.zeros(1, 3, 2, 2), torch.ones(1), images(), (1, 2))


def test_squared_distances_have_the_digits_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=generator)
    x = noisy(clean, torch.full((30,), 0.02)).float()
    exact = -2 * exponents(x, torch.ones(30), clean)
    found = score.squared_distances(x, clean)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)
