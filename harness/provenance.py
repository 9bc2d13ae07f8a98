"""What made a row: command, commit, versions, hardware, wall time."""

import hashlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "torchdiffeq", "imagecorruptions-imaug", "numpy")
ROOT = Path(__file__).resolve().parent.parent  # of harness, models and suites


def source_hash() -> str:
    """Return the SHA-256 of the program's own source, which names it where there is no git."""
    sha = hashlib.sha256()
    for package in ("harness", "models", "suites"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in {".py", ".cu", ".cuh"}:
                sha.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
                sha.update(path.read_bytes())
    return sha.hexdigest()


def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the source that runs and whether it is changed; None, None outside git.

    An installed copy belongs to the checkout in the current folder if it was built from there.
    """
    for folder in (ROOT, Path.cwd()):
        if not (folder / "harness" / "provenance.py").is_file():
            continue
        head = _git(folder, "rev-parse", "HEAD")
        if head is not None:
            changed = _git(folder, "status", "--porcelain", "--", "harness", "models", "suites")
            same = all(
                (folder / package / path.relative_to(ROOT / package)).is_file()
                and (folder / package / path.relative_to(ROOT / package)).read_bytes()
                == path.read_bytes()
                for package in ("harness", "models", "suites")
                for path in (ROOT / package).rglob("*.py")
            )
            return head, bool(changed) or not same
    return None, None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


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
        "harness": metadata.version("harness"),
        "commit": head,
        "dirty": dirty,
        "source": source_hash(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
    }


def command_line() -> str:
    """Return the command that runs, as a person would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
