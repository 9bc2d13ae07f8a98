"""Text as streams print it: inert, and in characters that they can encode.

Names, keys, cells and paths come from anywhere. Characters in them that command a terminal, that
turn the direction of writing or that cannot be seen are printed as their codes. So is what a
stream cannot encode (Latin-1, ASCII, a console of Windows), but for typographic signs, which have
plain substitutes; nothing breaks off.
"""

import codecs
import contextlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

# Signs that we print or that people write; what else is not in an encoding stands as its code.
PLAIN = {
    "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2018": "'",
    "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2020": "+", "\u2026": "...", "\u221e": "inf",
    "\u00d7": "x", "\u00b1": "+-", "\u2264": "<=", "\u2265": ">=", "\u2192": "->", "\u00a0": " ",
    "\u2009": " ", "\u202f": " ",
}  # fmt: skip
HANDLER = "harness-plain"


def inert(text: str, keep: str = "\n\t") -> str:
    """Return `text` with the codes of control characters and of those that cannot be seen.

    Args:
        keep: Control characters that stay; "" for what must be one line.
    """
    if text.isprintable():
        return text
    codes = {ord(c): _code_of(c) for c in set(text) if not (c.isprintable() or c in keep)}
    return text.translate(codes)


def _code_of(char: str) -> str:
    return char if unicodedata.category(char) == "Zs" else ascii(char)[1:-1]


def inert_values(value: Any) -> Any:
    """Return texts, lists and mappings of them with inert texts, names among them."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, Mapping):
        return {inert_values(key): inert_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [inert_values(part) for part in value]
    return value


def encodable(text: str, encoding: str) -> str:
    """Return `text` in printable characters of an encoding, in one line."""
    return inert(text, keep="").encode(encoding, HANDLER).decode(encoding)


def _substitute(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands in place of characters that an encoding has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in text)
    return plain, error.end


codecs.register_error(HANDLER, _substitute)


class Inert:
    """A text stream that prints nothing but inert text, and is the stream itself in all else.

    Attributes:
        rich_proxied_file: The stream, for consoles of rich, which command terminals themselves.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text; a bar of progress may begin with a return to the start of its line."""
        bar = text[:1] == "\r" and self.rich_proxied_file.isatty()
        self.rich_proxied_file.write(text[:bar] + inert(text[bar:]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def make_streams_inert() -> None:
    """Let stdout and stderr print inert text alone, with substitutes where they lack characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Inert):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)
        setattr(sys, name, Inert(stream))


@contextlib.contextmanager
def inert_streams() -> Iterator[None]:
    """Let stdout and stderr be inert for a while; where they are already, for good."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    make_streams_inert()
    try:
        yield
    finally:
        for name, stream in before.items():
            if not isinstance(stream, Inert):
                setattr(sys, name, stream)
