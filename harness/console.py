"""The console of rich, for which whatever is printed is text and no command."""

from collections.abc import Iterable
from typing import IO

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.encoding import inert


class Console(rich.console.Console):
    """A console that prints names, whatever is in them, as inert text."""

    @property
    def file(self) -> IO[str]:
        """The stream itself, behind whatever stands before it: one that is inert, a bar's own."""
        file = super().file
        while (inner := getattr(file, "rich_proxied_file", file)) is not file:
            file = inner
        return file

    @file.setter
    def file(self, file: IO[str]) -> None:
        self._file = file

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object; what rich itself tells the terminal stays."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else inert(text), style, control)
