"""`python -m tests.full_width FOLDER`: a ResNet-18 of full width, trained on CIFAR-10 by others.

The package pyautoattack ships one among its examples (64 to 512 channels, images in [0, 1]; who
trained it, and how, is not said). It shows that the program meets published numbers at their scale,
without training. Its two files are copied out of the installed package, and nothing else is done;
the commands that are printed evaluate it.
"""

import argparse
import hashlib
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "pyautoattack"
FILES = {  # SHA-256 of version 0.2.0
    "resnet.py": "46d2b0e878cdf904ef287dfe09b0d69b6095c829102e2fcba3d3629b681d6dc8",
    "model_test.pt": "399f52da9f914c323fa5a6096d60f460a3449a59b64a6405200c1e629f8425a7",
}
BUILDER = "resnet.py:ResNet18"
COMMANDS = f"""
cd {{folder}}
harness run --suite robustness --corruption common --dataset cifar10 --dtype bfloat16 \\
    --model {BUILDER} --weights model_test.pt
harness compare results --published --figure published.png
"""


class Missing(Exception):
    """The package is not there, or its files are others."""


def copy_to(folder: Path) -> list[Path]:
    """Copy the builder and its weights into `folder`, and return both.

    Raises:
        Missing: The package is not installed, or a file is missing or another one.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Missing(f"{PACKAGE} is not installed. Run `pip install {PACKAGE}==0.2.0`.")
    examples = Path(next(iter(found.submodule_search_locations))) / "examples"
    for name, digest in FILES.items():
        file = examples / name
        held = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "nothing"
        if held != digest:
            raise Missing(f"{file} is {held}, not {digest}. Install {PACKAGE} 0.2.0.")
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(examples / name, folder / name)) for name in FILES]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.full_width", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        copy_to(folder)
    except Missing as problem:
        print(problem, file=sys.stderr)
        return 2
    print(COMMANDS.format(folder=folder).strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
