"""Letters that the font of the figures lacks, as their codes: their empty boxes all look alike."""

import functools

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter


def spell(text: str) -> str:
    """Return `text` in letters that can be drawn, the others as their codes."""
    if text.isascii() and text.isprintable():
        return text
    drawn = _letters(findfont(FontProperties()))
    return "".join(c if c in drawn or c == "\n" else ascii(c)[1:-1] for c in text)


def spell_all(figure: Figure) -> None:
    """Spell all texts of a figure."""
    for text in figure.findobj(Text):
        text.set_text(spell(text.get_text()))
    for axis in figure.findobj(Axis):
        for kind in (axis.get_major_formatter(), axis.get_minor_formatter()):
            if isinstance(kind, FixedFormatter):
                kind.seq = [spell(name) for name in kind.seq]


@functools.cache
def _letters(font: str) -> frozenset[str]:
    """All that can be drawn in the font of a file."""
    found = map(chr, get_font(font).get_charmap())
    return frozenset(c for c in found if c.isprintable() or c.isspace())
