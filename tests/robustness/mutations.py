"""Damage of three kinds: to bytes, to text, and to the tree that JSON or YAML stands for."""

import copy
import io
import random
import struct
import zipfile
from typing import Any

WORDS = (b"\0", b"\xff", b"\x7f", b"\x80")
# What a field may be given in place of what it held.
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(10**400), 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", "0", "x", "hifigan", "\0", "\ud800", "ü\n\u2028", "../..", "x" * 5000),
    *([], [0], ["a"], [[]], {}, {"a": 1}, {"class_path": "x"}, [None] * 30, [1.0] * 200),
)


def mutant(content: bytes, chance: random.Random) -> bytes:
    """`content` with a few bytes flipped, replaced, removed, inserted or cut off, mostly in its header."""
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(min(len(damaged), chance.choice([64, 256, 1024, len(damaged) or 1])) or 1)
        match chance.randrange(7):
            case 0:
                damaged[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                damaged[place : place + 4] = chance.choice(WORDS) * 4
            case 2:
                del damaged[place : place + chance.randrange(1, 64)]
            case 3:
                damaged[place:place] = chance.randbytes(chance.randrange(1, 64))
            case 4:
                del damaged[place:]
            case 5 if damaged:
                damaged[place % len(damaged)] ^= 1 << chance.randrange(8)
            case 6:  # a piece of it twice
                damaged[place:place] = damaged[place : place + chance.randrange(1, 256)]
    return bytes(damaged)


def text_mutant(text: bytes, chance: random.Random) -> bytes:
    """Text with a few characters, lines or marks out of place, at any place."""
    damaged = bytearray(text)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(len(damaged) or 1)
        match chance.randrange(6):
            case 0:
                damaged[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                damaged[place:place] = chance.choice(
                    [b'"', b"{", b"[", b"]", b"}", b",", b":", b"\n", b"\t", b"- ", b"'"]
                )
            case 2:
                del damaged[place : place + chance.randrange(1, 9)]
            case 3:
                damaged[place:place] = chance.choice(
                    [b"null", b"NaN", b"1e999", b"-", b"9" * 400, b"\\ud800", b"&a *a"]
                )
            case 4:
                del damaged[place:]
            case 5:
                lines = damaged.splitlines(keepends=True)
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines or [bytearray()]))
                damaged = bytearray().join(lines)
    return bytes(damaged)


def tree_mutant(tree: Any, chance: random.Random) -> Any:
    """A copy of nested dictionaries and lists in which one to three places hold junk, are gone, or were added."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice([1, 1, 2, 3])):
        places = list(_places(tree))
        if not places:
            return _junk(chance)
        holder, key = chance.choice(places)
        match chance.randrange(4):
            case 0 | 1:
                holder[key] = _junk(chance)
            case 2:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[chance.choice(["x", "", "class_path", "\ud800", "init_args"])] = _junk(chance)
            case 3:
                holder.append(_junk(chance))
    return tree


def _junk(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(JUNK))  # it may be damaged in its turn


def _places(tree: Any) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def zip_mutant(content: bytes, chance: random.Random) -> bytes:
    """A zip whose checksums hold, though one of its entries was damaged: mostly the pickle of a `torch.save`."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        names = source.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = chance.choice(pickles if chance.random() < 0.9 else names)
        for name in names:
            entry = source.read(name)
            target.writestr(name, mutant(entry, chance) if name == chosen else entry)
    return file.getvalue()


def with_checksums(ogg: bytes, serial: int | None = None) -> bytes:
    """An OGG file whose pages have the right checksum, and so reach the decoder; `serial` replaces the stream's."""
    content, place = bytearray(ogg), 0
    while (place := content.find(b"OggS", place)) >= 0 and place + 27 <= len(content):
        segments = content[place + 26]
        length = 27 + segments + sum(content[place + 27 : place + 27 + segments])
        if serial is not None:
            content[place + 14 : place + 18] = struct.pack("<I", serial)
        content[place + 22 : place + 26] = bytes(4)
        content[place + 22 : place + 26] = struct.pack("<I", _ogg_checksum(content[place : place + length]))
        place += 4
    return bytes(content)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _table()


def _ogg_checksum(page: bytes) -> int:
    """RFC 3533: CRC-32 with generator 0x04c11db7, neither reflected nor inverted."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value
