"""Writes the tables beside it, by asking Python what its codecs and its html module do.

Usage: generate.py [DIRECTORY], on CPython 3.11. A test runs it and compares what it writes with what is committed.

names.txt        how a charset's name is looked up: normalised name, `alias` or `module`, kind, and for one byte a
                 character the number of its table
single_byte.bin  tables of 256 little-endian 16-bit code points; 0xFFFE where a byte means nothing
NAME.bin         characters of two bytes: lowest and highest first byte, lowest and highest second byte, number of
                 changes, number of extras (both 16 bits); the extras: two 32-bit code points each, the second 0 if there
                 is none; the changes to the table this one is based on: place and value, sorted; the values, row by row,
                 unless it is based on another. A value is a code point, 0 for none, or 0xD800 and the number of an extra.
gb18030.ranges   characters of four bytes below U+10000: first number, how many, first code point
entities.txt     HTML's named characters, sorted: name, code points in hexadecimal
"""

import codecs
import encodings
import encodings.aliases
import html.entities
import pkgutil
import struct
import sys
from pathlib import Path

UNDEFINED = 0xFFFE
EXTRA = 0xD800

STATELESS = {"ascii", "undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape"}
MULTI = {
    "big5", "big5hkscs", "cp932", "cp949", "cp950", "euc_jis_2004", "euc_jisx0213", "euc_jp", "euc_kr", "gb18030",
    "gb2312", "gbk", "hz", "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3",
    "iso2022_jp_ext", "iso2022_kr", "johab", "shift_jis", "shift_jis_2004", "shift_jisx0213",
}


def is_single_byte(codec):
    module = sys.modules["encodings." + codec]
    return hasattr(module, "decoding_table") or hasattr(module, "decoding_map")


def text_codecs():
    """Name, way to it, module."""
    modules = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    names = {name: "alias" for name in encodings.aliases.aliases}
    for name in modules:
        names.setdefault(name, "module")
    for name, way in sorted(names.items()):
        module = encodings.aliases.aliases.get(name, name)
        try:
            info = codecs.lookup(name)
        except LookupError:
            continue
        if info._is_text_encoding:
            yield name, way, module


def one(codec, *parts):
    """The characters that these bytes stand for, or None."""
    try:
        text = bytes(parts).decode(codec)
    except UnicodeError:
        return None
    return text


def single_byte(codec):
    values = []
    for byte in range(256):
        text = one(codec, byte)
        assert text is None or len(text) == 1, (codec, byte)
        values.append(UNDEFINED if text is None else ord(text))
    return struct.pack("<256H", *values)


def pairs(codec, before=b""):
    """All characters of two bytes, after the one that may come before them."""
    found = {}
    for lead in range(0x80, 0x100):
        if not before and one(codec, lead) is not None:
            continue
        for trail in range(0x100):
            text = one(codec, *before, lead, trail)
            if text:
                found[lead, trail] = text
    return found


def layout(found):
    leads = [lead for lead, _ in found]
    trails = [trail for _, trail in found]
    return min(leads), max(leads), min(trails), max(trails)


def cells(found, box, extras):
    low, high, left, right = box
    values = []
    for lead in range(low, high + 1):
        for trail in range(left, right + 1):
            text = found.get((lead, trail), "")
            if not text:
                values.append(0)
            elif len(text) == 1 and ord(text) < 0x10000:
                assert not 0xD800 <= ord(text) < 0xE000
                values.append(ord(text))
            else:
                assert len(text) <= 2, text
                if text not in extras:
                    extras.append(text)
                values.append(EXTRA + extras.index(text))
    assert len(extras) < 0x800
    return values


def table(found, base=None):
    extras = []
    if base is None:
        box = layout(found)
        values = cells(found, box, extras)
        changes = []
    else:
        box = layout({**base, **found})
        assert box == layout(base), (box, layout(base))
        old_extras = []
        old = cells(base, box, old_extras)
        extras = old_extras
        new = cells(found, box, extras)
        changes = [(at, value) for at, (before, value) in enumerate(zip(old, new)) if before != value]
        values = []
    extras = [[ord(c) for c in text] + [0] * (2 - len(text)) for text in extras]
    return b"".join([
        struct.pack("<4B2H", *box, len(changes), len(extras)),
        *(struct.pack("<2I", *extra) for extra in extras),
        *(struct.pack("<2H", *change) for change in changes),
        struct.pack(f"<{len(values)}H", *values),
    ])


def gb18030_ranges():
    ranges = []
    for number in range(4 * 10 * 126 * 10):
        rest, fourth = divmod(number, 10)
        rest, third = divmod(rest, 126)
        first, second = divmod(rest, 10)
        text = one("gb18030", 0x81 + first, 0x30 + second, 0x81 + third, 0x30 + fourth)
        if text is None:
            continue
        code = ord(text)
        if ranges and number == ranges[-1][0] + ranges[-1][1] and code == ranges[-1][2] + ranges[-1][1]:
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1, code])
    return b"".join(struct.pack("<3H", *entry) for entry in ranges)


def multi_byte():
    """Name and contents of each table file."""
    for codec in ["euc_jp", "cp932", "gb2312", "gb18030", "big5", "big5hkscs", "euc_kr", "cp949", "johab", "euc_jis_2004"]:
        yield codec, table(pairs(codec))
    for codec, base in [("gbk", "gb18030"), ("cp950", "big5"), ("euc_jisx0213", "euc_jis_2004"), ("shift_jis", "cp932")]:
        yield codec, table(pairs(codec), pairs(base))
    yield "jisx0212", table(pairs("euc_jp", before=b"\x8f"))
    # What EUC-JIS-2004 has beyond JIS X 0212 in three bytes.
    old = pairs("euc_jp", before=b"\x8f")
    new = pairs("euc_jis_2004", before=b"\x8f")
    assert all(new[place] == text for place, text in old.items())
    yield "jisx0213_2", table({place: text for place, text in new.items() if place not in old})
    yield "shift_jis_2004", table(pairs("shift_jis_2004"))
    yield "shift_jisx0213", table(pairs("shift_jisx0213"), pairs("shift_jis_2004"))


def main():
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    names, tables = [], []
    numbers = {}
    for name, way, module in text_codecs():
        # Without a map of its own it is this.
        module = {"charmap": "latin_1"}.get(module, module)
        if module in STATELESS or module in MULTI or module.startswith("utf_"):
            names.append(f"{name} {way} {module}\n")
        elif module == "latin_1" or is_single_byte(module):
            if module not in numbers:
                numbers[module] = len(tables)
                tables.append(single_byte(module))
            names.append(f"{name} {way} single_byte {numbers[module]}\n")
        else:
            raise SystemExit(f"{module} is of no known kind")
    (directory / "names.txt").write_text("".join(names))
    (directory / "single_byte.bin").write_bytes(b"".join(tables))
    for name, contents in multi_byte():
        (directory / f"{name}.bin").write_bytes(contents)
    (directory / "gb18030.ranges").write_bytes(gb18030_ranges())
    entities = sorted(html.entities.html5.items())
    lines = [f"{name} {' '.join(f'{ord(c):X}' for c in text)}\n" for name, text in entities]
    (directory / "entities.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
