"""Changes of a file's bytes, and its checksums made again, so that what is behind them is tried."""

import contextlib
import hashlib
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from harness.analysis.leaderboard import CHECK, COLUMNS, checks
from harness.storage.arrays import HEADER, canonical
from harness.storage.json_files import as_bytes
from harness.storage.packed_outcomes import MAGIC, digest
from tests.fire.world import take_for_published

Mutation = Callable[[bytes, random.Random], bytes]
NUMBERS = (
    b"1e400", b"-1e400", b"9" * 400, b"-1", b"nan", b"inf", b"0", b"1e-320", b"9223372036854775808",
    b"-0.0", b"0x10", b"1_000", b"\xd9\xa3", b"true", b'""',
)  # fmt: skip
PIECES = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"\xe2\x80\xae", b"\n", b"\r", b'"', b",,,,",
    b"../../x", b"'", b"[" * 50_000, b'{"a":' * 50_000, b"a." * 50_000, b"\xed\xa0\x80", b"=", b"#",
    b"x" * 200_000,
)  # fmt: skip


def flip_bits(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_early(content: bytes, chance: random.Random) -> bytes:
    """Change headers, which most of a file's bytes are not."""
    return flip_bits(content[:64], chance) + content[64:]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def delete(content: bytes, chance: random.Random) -> bytes:
    low, high = _stretch(content, chance)
    return content[:low] + content[high:]


def repeat(content: bytes, chance: random.Random) -> bytes:
    low, high = _stretch(content, chance)
    times = chance.choice((1, 1, 2, 100)) if len(content) < 100_000 else 1
    return content[:high] + content[low:high] * times + content[high:]


def zero(content: bytes, chance: random.Random) -> bytes:
    low, high = _stretch(content, chance)
    return content[:low] + bytes(high - low) + content[high:]


def swap_lines(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def change_number(content: bytes, chance: random.Random) -> bytes:
    places = [found.span() for found in re.finditer(rb"-?\d+(\.\d+)?", content[:1_000_000])]
    low, high = chance.choice(places or [(0, 0)])
    return content[:low] + chance.choice(NUMBERS) + content[high:]


def insert(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(PIECES) + content[at:]


def encode(content: bytes, chance: random.Random) -> bytes:
    text = content.decode("latin-1")
    return text.encode(chance.choice(("utf-16", "utf-32", "utf-8", "utf-7", "cp037")), "replace")


def _stretch(content: bytes, chance: random.Random) -> tuple[int, int]:
    low = chance.randrange(len(content))
    return low, min(len(content), low + chance.choice((1, 4, 30, 1000, len(content))))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, flip_early, truncate, delete, repeat, zero, swap_lines, change_number, change_number,
    insert, insert, encode,
)  # fmt: skip


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Change a file's bytes at random, once or several times."""
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if content:
            content = chance.choice(MUTATIONS)(content, chance)
    return content


# Each changes a file and makes its checksums again; where that cannot be, it is changed alone.


def mutate_table(path: Path, chance: random.Random) -> None:
    """A run's CSV, whose JSON vouches for it."""
    content = mutate(path.read_bytes(), chance)
    path.write_bytes(content)
    _vouch(path, csv=hashlib.sha256(content).hexdigest())


def _vouch(path: Path, **digests: str) -> None:
    beside = path.with_suffix(".json")
    beside.write_bytes(as_bytes(json.loads(beside.read_bytes()) | digests))


def mutate_board(path: Path, chance: random.Random) -> None:
    """A leaderboard, each row of which has a checksum over it and its neighbors."""
    content = mutate(path.read_bytes(), chance)
    path.write_bytes(content)
    rows = [line.split(b",") for line in content.splitlines()]
    if any(len(row) != len(rows[0]) for row in rows):
        return
    text = [[cell.decode("utf-8", "surrogateescape") for cell in row] for row in rows]
    columns = dict(zip(text[0], map(list, zip(*text[1:], strict=True)), strict=False))
    if {*COLUMNS, CHECK} <= columns.keys():
        try:
            columns[CHECK] = checks(columns)
        except UnicodeEncodeError:
            return
        made = [list(columns), *zip(*columns.values(), strict=True)]
        lines = "".join(",".join(row) + "\n" for row in made)
        path.write_bytes(lines.encode("utf-8", "surrogateescape"))


def mutate_json(path: Path, chance: random.Random) -> None:
    """A JSON with its own checksum: a value of it, or its text."""
    content = json.loads(path.read_bytes())
    if chance.random() < 0.7:
        content = _change_value(content, chance)
    else:
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(mutate(path.read_bytes(), chance))
    try:
        path.write_bytes(as_bytes(content))
    except (TypeError, ValueError, AttributeError):
        path.write_text(json.dumps(content))


VALUES: tuple[object, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "\0", "\x1b[2J",
    "a" * 9999, "../../x", [], {}, [[]], {"": {}}, [1] * 10_000, "\u202e", "0" * 64,
)  # fmt: skip


def _change_value(content: object, chance: random.Random) -> object:
    """A value somewhere inside is another one, has another name, or is gone."""
    if isinstance(content, dict) and content and chance.random() < 0.85:
        name, what = chance.choice(list(content)), chance.random()
        changed = dict(content)
        if what < 0.1:
            del changed[name]
        elif what < 0.2:
            changed[chance.choice(("", "\0", "x" * 9999, "../x"))] = changed.pop(name)
        else:
            changed[name] = _change_value(content[name], chance)
        return changed
    if isinstance(content, list) and content and chance.random() < 0.8:
        at = chance.randrange(len(content))
        return [*content[:at], _change_value(content[at], chance), *content[at + 1 :]]
    return chance.choice(VALUES)


def mutate_tensors(path: Path, chance: random.Random) -> None:
    """A safetensors file: its header or its content, under a checksum that is right."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    told = json.loads(header.get("__metadata__", {}).get(HEADER, "{}"))
    what = chance.random()
    if what < 0.3 and body:
        body = mutate(body, chance)[: len(body)].ljust(len(body), b"\0")
    elif what < 0.6:
        found = _change_value({k: v for k, v in header.items() if k != "__metadata__"}, chance)
        header = found if isinstance(found, dict) else {}
    elif told:
        found = _change_value(told, chance)
        told = found if isinstance(found, dict) else {}
    if told:
        told["sha256"] = _digest_of_tensors(header, body, told)
        header["__metadata__"] = {HEADER: canonical(told)}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _digest_of_tensors(header: dict, body: bytes, told: dict) -> str:
    """The checksum as `storage.arrays.digest_of` takes it, of whatever the header says."""
    names = {"F32": "float32", "F64": "float64", "I64": "int64", "U8": "uint8", "BOOL": "bool",
             "F16": "float16", "I32": "int32", "BF16": "bfloat16"}  # fmt: skip
    said = {k: v for k, v in told.items() if k != "sha256"}
    sha = hashlib.sha256(canonical(said).encode(errors="surrogatepass"))
    for name in sorted(k for k in header if k != "__metadata__"):
        try:
            low, high = header[name]["data_offsets"]
            kind, shape = names[header[name]["dtype"]], tuple(header[name]["shape"])
            sha.update(f"\n{name} torch.{kind} {shape}\n".encode())
            sha.update(body[low:high])
        except (TypeError, KeyError, ValueError, UnicodeEncodeError):
            return "0" * 64
    return sha.hexdigest()


def mutate_hits(path: Path, chance: random.Random) -> None:
    """Packed hits, changed under their compression; the JSON beside vouches for them."""
    content = mutate(zlib.decompress(path.read_bytes()[len(MAGIC) :]), chance)
    path.write_bytes(MAGIC + zlib.compress(content))
    _vouch(path, bits=digest(content))


def mutate_archive(path: Path, chance: random.Random) -> None:
    """A ZIP of `torch.save`: one of its members, under a CRC that is right."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = chance.choice([name for name, content in members.items() if content])
    if chance.random() < 0.6:
        name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = mutate(members[name], chance)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    path.write_bytes(made.getvalue())


def mutate_picture(path: Path, chance: random.Random) -> None:
    """A picture; the CRCs of a PNG are right."""
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG"):
        path.write_bytes(mutate(content, chance))
        return
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    i = chance.randrange(len(chunks))
    kind, data = chunks[i]
    if kind == b"IDAT" and chance.random() < 0.5:
        data = zlib.compress(mutate(zlib.decompress(data), chance))
    else:
        data = mutate(data or b"\0", chance)
    chunks[i] = (kind, data)
    made = content[:8]
    for kind, data in chunks:
        made += (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )
    path.write_bytes(made)


def mutate_tar(path: Path, chance: random.Random) -> None:
    """An archive that is taken for the published one; often the sum of a header is right."""
    content = bytearray(mutate(path.read_bytes(), chance))
    if chance.random() < 0.7:
        at = 512 * chance.randrange(1 + len(content) // 512)
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = b"%06o\0 " % (sum(content[at : at + 512]) % 8**6)
    path.write_bytes(content)
    take_for_published(path)


def mutate_plain(path: Path, chance: random.Random) -> None:
    """Any file, and nothing beside it."""
    path.write_bytes(mutate(path.read_bytes(), chance))
