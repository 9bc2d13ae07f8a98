"""The program, and what its commands share: refusals, printing, progress."""

import contextlib
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from harness import stopping
from harness.encoding import inert, inert_streams, make_streams_inert
from harness.refusal import Failure, Refusal, failing_machine
from harness.stopping import SENTENCE

if TYPE_CHECKING:
    from harness.progress import Progress

BUG = 70  # exit code, EX_SOFTWARE of sysexits.h
ANYWHERE = ("--quiet", "--verbose")  # before or after the command


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn a refusal into one line on stderr and its exit code; Ctrl-C into 130."""
    try:
        yield
    except Refusal as refusal:
        # Names in a sentence begin no line; several failures are several sentences.
        text = str(refusal) if isinstance(refusal, Failure) else inert(str(refusal), keep="")
        say(text, apart=True)
        raise typer.Exit(refusal.code) from None
    except KeyboardInterrupt:
        say(f"\n{SENTENCE}", apart=True)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def inert_usage_errors() -> Iterator[None]:
    """Let what is said of a wrong option be inert: rich prints it past the streams."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            text = inert(error.format_message())
            error.format_message = lambda: text
        raise


def say(text: object, apart: bool = False) -> None:
    """Print a text on stdout, or on stderr; typer's own way leads past our streams in ASCII."""
    print(text, file=sys.stderr if apart else sys.stdout, flush=True)


class Commands(TyperGroup):
    """All commands. What they refuse is one sentence; all else that they raise is a bug."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program; nothing that it prints is a command for the terminal."""
        with inert_streams():
            return super().main(*args, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, with the options for every command put in front."""
        with inert_usage_errors():
            return super().parse_args(ctx, sorted(args, key=lambda arg: arg not in ANYWHERE))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with refusals(), inert_usage_errors():
            return super().invoke(ctx)


# Where panels would cut the names of options, help is plain text.
COLUMNS = shutil.get_terminal_size().columns
PANELS = COLUMNS >= 60
app = typer.Typer(
    cls=Commands,
    rich_markup_mode="rich" if PANELS else None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]}
    | ({} if PANELS else {"terminal_width": COLUMNS}),
)


def print_version(asked: bool) -> None:
    if asked:
        from harness import __version__

        say(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def harness(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results and errors, no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print details of the work, and what libraries log.")
    ] = False,
) -> None:
    """Evaluate image classifiers inspired by differential equations.

    `--quiet` and `--verbose` go before or after the command.
    """
    logging.basicConfig(
        format="%(message)s", level=logging.INFO if verbose else logging.WARNING, force=True
    )


def show(content: object) -> None:
    """Print a sheet, a line or a table on stdout."""
    from harness.console import Console
    from harness.present.sheet import Sheet
    from harness.present.terminal import to_terminal

    # A pipe has no width to fit; of a terminal without cursor movement, rich takes 80 for granted.
    width = shutil.get_terminal_size().columns if Console().is_terminal else 200
    Console(width=width, height=25, soft_wrap=isinstance(content, str)).print(
        to_terminal(content) if isinstance(content, Sheet) else content,
        markup=False,
        highlight=False,
    )


def print_sheets(
    sheets: Iterable[Any], json: bool = False, latex: bool = False, markdown: bool = False
) -> None:
    """Print sheets and frames on stdout, or all as JSON, LaTeX or Markdown and nothing else."""
    if json:
        from harness.present.machine import to_json

        say(to_json(*sheets))
    elif latex:
        from harness.present.latex import to_latex

        say(to_latex(*sheets))
    elif markdown:
        from harness.present.markdown import to_markdown

        say(to_markdown(*sheets))
    else:
        for i, sheet in enumerate(sheets):
            if i:
                show("")
            show(sheet)


def print_lines(lines: Iterable[object], apart: bool = False) -> None:
    """Print sentences and the paths of what was written; on stderr to keep them apart from JSON."""
    for line in lines:
        say(inert(str(line), keep=""), apart)


def folder_to_read(results: Path) -> Path:
    """Return a results folder; where it holds no runs, the published results in it, and say so."""
    from harness.storage.results import own_or_published

    found = own_or_published(results)
    if found != results:
        print_lines([f"There are no runs of your own in {results}: this is {found}."], apart=True)
    return found


def progress_on_stderr(context: typer.Context) -> "Progress":
    """Return the progress of this command, as `--quiet` and `--verbose` say."""
    from harness.console import Console
    from harness.progress import Level, Progress

    given = context.find_root().params
    level: Level = "quiet" if given["quiet"] else "verbose" if given["verbose"] else "normal"
    return Progress(Console(stderr=True), level)


def main() -> None:
    """Run the command line; a bug prints its traceback and exits with 70."""
    # Threads that spin while they wait are many times slower where other programs use the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    make_streams_inert()
    try:
        app(prog_name="harness")
    except Exception as error:
        if stopping.asked():  # and so it broke
            return
        if sentence := failing_machine(error):
            say(sentence, apart=True)
            sys.exit(1)
        traceback.print_exc()
        say("This is a bug in harness. Report it with the lines above.", apart=True)
        sys.exit(BUG)
