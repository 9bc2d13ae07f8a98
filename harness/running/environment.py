"""What a number depends on beside its description: program, versions, hardware."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from harness.storage.provenance import commit, source_hash, version

PACKAGES = ("torch", "torchvision", "timm", "torchdiffeq", "imagecorruptions-imaug", "numpy")


def device_name(device: torch.device) -> str:
    """Return what a person would call `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu" and Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return platform.processor() or device.type


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a number depends on beside its description: program, versions, hardware."""
    head, dirty = commit()
    return {
        "harness": version(),
        "commit": head,
        "dirty": dirty,
        "source": source_hash(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
    }
