import numpy as np
import pytest
import torch
from torch import Tensor

# Small tensors: threads that wait for each other take many times as long where cores are shared.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Twelve images (12, 3, 32, 32), uint8: waves, edges, flat fields, noise, black and white."""
    random = np.random.default_rng(0)
    h, w = np.mgrid[:32, :32] / 32
    images = []
    for k in range(9):
        wave = np.stack(
            [np.sin(6 * (k + 1) * (h * np.cos(c) + w * np.sin(c)) + c) for c in range(3)]
        )
        edge = (h + (k - 4) * w > 0.5) * random.uniform(-1, 1, 3)[:, None, None]
        grain = random.normal(size=(3, 32, 32)) * 0.02 * k
        images.append(np.clip(127 + 90 * (wave * 0.6 + edge + grain), 0, 255))
    images.append(np.broadcast_to(np.array([200, 77, 13])[:, None, None], (3, 32, 32)))
    images.append(np.zeros((3, 32, 32)))
    images.append(np.full((3, 32, 32), 255))
    return torch.from_numpy(np.stack(images).astype(np.uint8))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
