"""`python -m tests.fire`: the whole program under faults, kills, races and hostile files.

    python -m tests.fire                              all of it, for hours
    python -m tests.fire faults --only plot --jobs 2  every file operation of the plot commands
    python -m tests.fire --share 20                   one of twenty trials of each kind
    python -m tests.fire --sample                     a few of each kind, as the tests try them
    python -m tests.fire --repeat "faults:plot png:EIO:12"

Each trial that fails prints a line with the words that repeat it; a table comes last. The exit code
is 1 where anything was lost, torn, silent, hung or ended in a traceback.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIM = "HARNESS_FIRE_SHIM"  # the folder of the preloaded library, in a process that has it

SAMPLE = (
    ("faults", "--only", "publish more", "--share", "80"),
    ("kills", "--only", "compare", "--kills", "4"),
    ("races", "--only", "table --write", "--races", "1"),
    ("fuzz", "--files", "8"),
)

sys.path.append(sys.path.pop(0))  # an installed package goes before the source tree
sys.dont_write_bytecode = True


def compile_shim(folder: Path) -> Path:
    """Compile faults.c with the compiler of the system."""
    library = folder / "faults.so"
    flags = ["-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "faults.c"), "-ldl"]
    subprocess.run([os.environ.get("CC", "cc"), *flags], check=True)
    return library


def restart() -> int:
    """Run this program once more, with the shim in front of the C library."""
    with tempfile.TemporaryDirectory(prefix="harness-fire-") as folder:
        library = compile_shim(Path(folder))
        environment = os.environ | {
            SHIM: folder, "LD_PRELOAD": str(library), "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1", "COLUMNS": "100", "MPLCONFIGDIR": folder,
        }  # fmt: skip
        words = [sys.executable, "-m", "tests.fire", *sys.argv[1:]]
        return subprocess.run(words, env=environment, cwd=HERE.parent.parent).returncode


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line, or words in its place."""
    parser = argparse.ArgumentParser(prog="python -m tests.fire", description=__doc__)
    parser.add_argument("kinds", nargs="*", help="faults, kills, real, races, fuzz [all]")
    parser.add_argument("--only", default="", help="commands whose name has these words in it")
    parser.add_argument("--way", default="", help="faults of this way alone, such as EROFS")
    parser.add_argument("--kills", type=int, default=500, help="kills in all [500]")
    parser.add_argument("--real", type=int, default=40, help="kills of real processes [40]")
    parser.add_argument("--races", type=int, default=4, help="times that each race is run [4]")
    parser.add_argument("--files", type=int, default=5000, help="fuzzed files in all [5000]")
    parser.add_argument("--share", type=int, default=1, help="try one of this many [all]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random [0]")
    parser.add_argument("--jobs", type=int, default=1, help="trials at once [1]")
    parser.add_argument("--repeat", default="", help="one trial, as its line names it")
    parser.add_argument("--sample", action="store_true", help="a few of each kind")
    return parser.parse_args(words)


if __name__ == "__main__":
    asked = parse()
    if SHIM not in os.environ:
        sys.exit(restart())
    del os.environ["LD_PRELOAD"]  # not for programs that commands start
    from tests.fire.runner import run_all

    several = [parse(list(words)) for words in SAMPLE] if asked.sample else [asked]
    sys.exit(run_all(several, Path(os.environ[SHIM])))
