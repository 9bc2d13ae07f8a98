"""TOML files that a person wrote, or somebody else: read within bounds."""

import re
import tomllib
from pathlib import Path
from typing import Any

from harness.refusal import Refusal

LARGEST = 2**16  # bytes
# A key of so many parts takes the parser a time that grows with their square.
DEEP = re.compile(r"(?:[\w\"'-]++[ \t]*+\.[ \t]*+){16}")


def read_toml(path: Path, cure: str) -> tuple[str, dict[str, Any]]:
    """Return the text of a file, and its table.

    Args:
        cure: What a person should do if it is none, a sentence.

    Raises:
        Refusal: It cannot be read, is no TOML (says the line), or is too large or too deep.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}. {cure}") from None
    if len(content) > LARGEST:
        raise Refusal(f"{path} has {len(content):,} bytes, more than {LARGEST:,}. {cure}")
    try:
        text = content.decode("utf-8")
        if found := DEEP.search(text):
            line = text.count("\n", 0, found.start()) + 1
            raise Refusal(f"{path}, line {line}: a key has 16 parts or more. {cure}")
        return text, tomllib.loads(text)
    except UnicodeDecodeError:
        raise Refusal(f"{path} is no text in UTF-8. {cure}") from None
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{path} is no TOML: {error}. {cure}") from None
    except RecursionError:
        raise Refusal(f"{path} is nested too deep. {cure}") from None
