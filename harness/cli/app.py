"""The program, and what its commands share: refusals, printing, progress."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CHECKING = (LookupError, ValueError, FileNotFoundError, PermissionError, ImportError, SyntaxError)
WORKING = (FloatingPointError, OSError)


@contextlib.contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into one line on stderr and exit code 2; Ctrl-C into 130."""
    try:
        yield
    except kinds as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(
            str(error).strip("'\""), markup=False, highlight=False
        )
        # Bad arguments and files are misuse; a failure while working is a failure.
        raise typer.Exit(2 if LookupError in kinds else 1) from None
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nInterrupted. What was finished is kept; the same command goes on from there.\n"
        )
        raise typer.Exit(130) from None


def show(content) -> None:  # type: ignore[no-untyped-def]
    from rich.console import Console

    console = Console()
    width = None if console.is_terminal else 200  # a pipe has no width to fit
    Console(width=width, soft_wrap=isinstance(content, str)).print(
        content, markup=False, highlight=False
    )


def progress_on_stderr():  # type: ignore[no-untyped-def]
    from rich.console import Console

    from harness.progress import Progress

    return Progress(Console(stderr=True))


def print_suite(
    results: Path,
    suite: str,
    models: list[str],
    datasets: list[str],
    detail: bool = False,
    reference: str | None = None,
) -> None:
    from harness.present.tables import of_suite

    progress = progress_on_stderr()
    for line in of_suite(results, suite, models, datasets, progress, detail, reference):
        show(line)


def main() -> None:
    """Run the command line."""
    # Threads that spin while they wait are many times slower where other programs use the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
