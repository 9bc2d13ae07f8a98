"""A sheet on a terminal: what does not fit its width is left out, and said; nothing is cut."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from harness.encoding import encodable
from harness.present.sheet import STAR, Sheet, words

GAP = 2  # between columns
NARROW = 12  # characters that prose keeps
LEAST = 8  # and names
DEAR = 2  # a column of names with so small a `drop` tells rows apart
BREAKS = re.compile(r"(?<=[_/,.:-])")  # where a name may go on in the next line


@dataclass(frozen=True, eq=False)
class _Strip:
    """One column as it is printed: its texts, and how readily it is left out.

    Args:
        constant: Whether it names the same in each of several rows, which can be said once.
    """

    title: str
    texts: list[str]
    right: bool
    drop: int
    prose: bool
    constant: bool = False

    @property
    def natural(self) -> int:
        """Width without a line break."""
        return max(cell_len(text) for text in (self.title, *self.texts))

    @property
    def least(self) -> int:
        """Width with a heading of a word a line, and with narrow prose."""
        widest = max((cell_len(text) for text in self.texts), default=0)
        widest = min(widest, NARROW) if self.prose else widest
        return max(widest, self._heading)

    @property
    def broken(self) -> int:
        """Width with broken names and intervals, which are better than those that are left out."""
        if self.right:
            words = [word for text in self.texts for word in text.split(" ")]
            return max(self._heading, *map(cell_len, words))
        return max(self._heading, *map(_longest_part, self.texts), min(self.least, NARROW))

    @property
    def _heading(self) -> int:
        """Width of a heading with a word a line; a name, such as that of a model, may break."""
        return _longest_part(self.title)


def _longest_part(text: str) -> int:
    """Width of what no line break divides."""
    return max(cell_len(part) for word in text.split(" ") for part in BREAKS.split(word))


def strips(sheet: Sheet, encoding: str) -> list[_Strip]:
    """Return the columns of a sheet as texts."""
    found = []
    rows = sheet.rows[: sheet.limit]
    for column in sheet.filled:
        texts = [encodable(column.text(row), encoding) for row in rows]
        if any(column.over and text.endswith(STAR) for text in texts):  # digits below digits
            texts = [text if text.endswith(STAR) else f"{text} " for text in texts]
        title = encodable(column.title, encoding)
        names = column.form is words or not column.right
        constant = names and len(texts) > 1 and len(set(texts)) == 1
        found.append(_Strip(title, texts, column.right, column.drop, column.prose, constant))
        texts = [interval(*column.bounds(row)) for row in rows]
        if column.interval and any(texts):
            found.append(_Strip("95 % interval", texts, True, column.interval, False))
    return found


def interval(low: str, high: str) -> str:
    """Return "93.1-96.1"; "-0.1 to 0.2" where a sign would look like the dash."""
    if not low and not high:
        return ""
    return f"{low} to {high}" if {"-", "+"} & {*low, *high} else f"{low}-{high}"


def fit(columns: Sequence[_Strip], width: int) -> tuple[list[_Strip], list[int], list[_Strip]]:
    """Return the columns that are shown, their widths, and those that are left out.

    First headings break, then columns go that say the same in every row, then those with the
    largest `drop`, from the right. What tells rows apart stays, and one number; only where names
    and prose are broken already do these go as well.
    """
    kept = list(columns)

    def spare(least: Callable[[_Strip], int]) -> int:
        return width - sum(map(least, kept)) - GAP * (len(kept) - 1)

    def loose(dear: bool) -> list[_Strip]:
        last = [c for c in kept if c.right][1:] == []
        stays = [c for c in kept if (last if c.right else c.drop <= DEAR)] if dear else []
        return [c for c in kept if c.constant or (c.drop and c not in stays)]

    for least, dear in ((attrgetter("least"), True), (attrgetter("broken"), False)):
        while spare(least) < 0 and kept[1:] and (gone := loose(dear)):
            order = {c: (c.constant, c.right and not dear, c.drop, kept.index(c)) for c in gone}
            kept.remove(max(order, key=order.__getitem__))
    widths, left = [c.least for c in kept], spare(attrgetter("least"))
    # Where there is room, headings are whole again, from the right; then prose has longer lines.
    for i in reversed(range(len(kept))):
        if not kept[i].prose and kept[i].natural - widths[i] <= left:
            widths[i], left = kept[i].natural, left - kept[i].natural + widths[i]
    prose = [i for i, c in enumerate(kept) if c.prose]
    while left > 0 and any(kept[i].natural > widths[i] for i in prose):
        widths[max(prose, key=lambda i: kept[i].natural - widths[i])] += 1
        left -= 1
    # Only names and intervals are left to break: where they may, and names anywhere at last.
    for floors in ([c.broken for c in kept], [c.broken if c.right else LEAST for c in kept]):
        while left < 0 and (wide := [i for i, w in enumerate(widths) if w > floors[i]]):
            widths[max(wide, key=lambda i: (not kept[i].right, widths[i]))] -= 1
            left += 1
    return kept, widths, [c for c in columns if c not in kept]


@dataclass(frozen=True)
class Printed:
    """A sheet that chooses its columns when a console prints it."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sheet, encoding = self.sheet, options.encoding
        if sheet.rows:
            columns, widths, gone = fit(strips(sheet, encoding), options.max_width)
            yield grid(columns, widths, sheet.total)
            left = len(sheet.rows) - len(columns[0].texts)
            if left:
                yield Text(f"{left} more rows: `--json` prints all of them.")
            yield from remarks(gone)
        for note in sheet.sentences:
            yield Text(encodable(note, encoding))


def to_terminal(sheet: Sheet) -> Printed:
    """Return what rich prints of a sheet, in the width and the encoding of its console."""
    return Printed(sheet)


def wrap(text: str, width: int) -> str:
    """Break a text into lines of a width: between words, inside long ones behind a separator."""
    lines = [""]
    for word in text.split(" "):
        parts = [word] if cell_len(word) <= width else BREAKS.split(word)
        for i, part in enumerate(parts):
            space = " " if lines[-1] and i == 0 else ""
            if lines[-1] and cell_len(lines[-1] + space + part) > width:
                lines.append(part)
            else:
                lines[-1] += space + part
    return "\n".join(lines)


def remarks(gone: Sequence[_Strip]) -> list[Text]:
    """Say what was left out: what it says in every row, or where it can be read."""
    same = [f"{c.title} {c.texts[0]}" for c in gone if c.constant]
    others = list(dict.fromkeys(c.title for c in gone if not c.constant))
    said = f"In every row: {', '.join(same)}. " if same else ""
    if others:
        said += f"Left out at this width: {', '.join(others)}; `--json` has them."
    return [Text(said.strip(), style="dim")] if said else []


def grid(columns: Sequence[_Strip], widths: Sequence[int], total: bool) -> Table:
    """Return the rich table of columns that fit."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    prose = any(c.prose for c in columns)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(wrap(column.title, width)),
            justify="right" if column.right else "left",
            vertical="top" if prose else "bottom",
            width=width,
            overflow="fold",
        )
    count = len(columns[0].texts)
    for i in range(count):
        cells = [Text(wrap(c.texts[i], w)) for c, w in zip(columns, widths, strict=True)]
        table.add_row(*cells, style="bold" if total and i == count - 1 else None)
    return table
