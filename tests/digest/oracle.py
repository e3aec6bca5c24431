"""The Python client's digester as a process: messages in, digests out, until its input ends.

A request is a message's length, 4 bytes big-endian, and the message. An answer is one byte, a length, and text:
`D` and what went into the digest, or `E` and the error that the digester ended with, and then once more what would have
gone into it without the parts that it failed on: `D`, or `E` if it failed on the whole. If it failed on HTML, the second
answer is that of the digester on a newer html.parser. The first answer, before any request, is `V` and which Python this
is, with the SHA-256 of its html.parser.
"""

import email
import hashlib
import html.parser
import importlib
import platform
import struct
import sys
import traceback

from pyzor.digest import DataDigester

NEWER = sys.prefix + "/cpython-3.14.2"


def digester_on(library):
    """The same digester, on the html.parser in another directory."""
    changed = ["_markupbase", "html", "html.entities", "html.parser", "pyzor.digest"]
    kept = {name: sys.modules.pop(name) for name in changed if name in sys.modules}
    sys.path.insert(0, library)
    module = importlib.import_module("pyzor.digest")
    assert module.HTMLParser.__file__.startswith(library), module.HTMLParser.__file__
    sys.path.remove(library)
    sys.modules.update(kept)
    return module.DataDigester


class Single:
    """A part as a message of its own."""

    def __init__(self, part):
        self.part = part

    def walk(self):
        return [self.part]


def collecting(base):
    class Collector(base):
        """Keeps the lines that are hashed."""

        __slots__ = ["lines"]

        def __init__(self, message):
            self.lines = []
            super().__init__(message)

        def handle_line(self, line):
            self.lines.append(line.rstrip())
            super().handle_line(line)

    return Collector


def lenient(base):
    class Lenient(collecting(base)):
        """Leaves out the parts that the digester fails on."""

        @classmethod
        def digest_payloads(cls, message):
            for part in message.walk():
                try:
                    payloads = list(base.digest_payloads(Single(part)))
                except Exception:
                    continue
                yield from payloads

    return Lenient


def fails_on_html(message):
    for part in message.walk():
        try:
            list(DataDigester.digest_payloads(Single(part)))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            if any(frame.name == "normalize_html_part" for frame in frames):
                return True
    return False


COLLECTOR = collecting(DataDigester)
LENIENT = lenient(DataDigester)
NEWER_LENIENT = lenient(digester_on(NEWER))


def digest_without_failures(message):
    return (NEWER_LENIENT if fails_on_html(message) else LENIENT)(message)


def answer(kind, text):
    sys.stdout.buffer.write(kind + struct.pack(">I", len(text)) + text)


def digest(digester, raw):
    try:
        digester = digester(email.message_from_bytes(raw))
    except (Exception, RecursionError) as error:
        answer(b"E", f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        return False
    answer(b"D", b"\n".join([digester.value.encode(), *digester.lines]))
    return True


def main():
    with open(html.parser.__file__, "rb") as source:
        version = f"{platform.python_version()} {hashlib.sha256(source.read()).hexdigest()}"
    answer(b"V", version.encode())
    sys.stdout.buffer.flush()
    while length := sys.stdin.buffer.read(4):
        raw = sys.stdin.buffer.read(*struct.unpack(">I", length))
        if not digest(COLLECTOR, raw):
            digest(digest_without_failures, raw)
        sys.stdout.buffer.flush()


main()
