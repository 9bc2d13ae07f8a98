"""What a file from elsewhere is, where it is not what its name says; for sentences."""

from pathlib import Path

SIGNATURES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"\0\5\x16\7": "holds a Mac's notes about another file (AppleDouble)",
    b"PK\x03\x04": "is a ZIP archive",
    b"\x1f\x8b": "is a gzip archive",
    b"%PDF": "is a PDF document",
}


def describe_file(path: Path) -> str:
    """Return what a file is that cannot be read, "is empty" or "is text"; "" where unknown.

    Raises:
        ValueError: It cannot be opened at all; says why.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise ValueError(f"{path} is a link to a file that is not there.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}.") from None
    if not start.strip(b"\0"):
        return "holds nothing but zeros" if start else "is empty"
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return kind
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # not only cut within a letter
            return ""
        text = start[: error.start].decode()
    return "is text" if all(c.isprintable() or c.isspace() for c in text) else ""
