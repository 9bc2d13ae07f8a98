"""Text for streams that cannot encode all characters: Latin-1, ASCII, a console of Windows.

Typographic signs have a plain substitute there, all else its code; nothing breaks off.
"""

import codecs
import sys

# Signs that we print or that people write; what else is not in an encoding stands as its code.
PLAIN = {
    "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2018": "'",
    "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2020": "+", "\u2026": "...", "\u221e": "inf",
    "\u00d7": "x", "\u00b1": "+-", "\u2264": "<=", "\u2265": ">=", "\u2192": "->", "\u00a0": " ",
    "\u2009": " ", "\u202f": " ",
}  # fmt: skip
HANDLER = "harness-plain"


def encodable(text: str, encoding: str) -> str:
    """Return `text` in printable characters of an encoding."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text.encode(encoding, HANDLER).decode(encoding)


def _substitute(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands in place of characters that an encoding has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in text)
    return plain, error.end


codecs.register_error(HANDLER, _substitute)


def let_streams_encode_everything() -> None:
    """Let stdout and stderr write a substitute where their encoding lacks a character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)
