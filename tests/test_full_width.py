"""The network of full width that another package ships: found there, verified, evaluated."""

from pathlib import Path

import pytest
import torch

from harness.models.lookup import source
from tests import full_width


def test_the_network_of_the_package_is_copied_and_takes_its_weights(tmp_path: Path) -> None:
    pytest.importorskip(full_width.PACKAGE)
    builder, weights = full_width.copy_to(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(full_width.FILES)
    net = source(f"{builder}:ResNet18").build(num_classes=10).eval()
    assert sum(p.numel() for p in net.parameters()) == 11_173_962
    fresh = net(torch.full((1, 3, 32, 32), 0.5))
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    assert not torch.allclose(net(torch.full((1, 3, 32, 32), 0.5)), fresh)


def test_other_files_and_a_missing_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_width, "find_spec", lambda name: None)
    with pytest.raises(full_width.Missing, match="not installed. Run `pip install pyautoattack"):
        full_width.copy_to(tmp_path)
    monkeypatch.undo()
    pytest.importorskip(full_width.PACKAGE)
    monkeypatch.setattr(full_width, "FILES", {"resnet.py": "0" * 64})
    with pytest.raises(full_width.Missing, match="not 0{64}. Install pyautoattack 0.2.0"):
        full_width.copy_to(tmp_path / "new")
    assert not (tmp_path / "new").exists()
