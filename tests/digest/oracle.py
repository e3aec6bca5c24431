"""The reference's digester as a process: messages in, digests out, until its input ends.

A request is a message's length, 4 bytes big-endian, and the message. An answer is one byte, a length, and text:
`D` and what went into the digest, or `E` and the error that the reference ended with, and then once more what would have
gone into it without the parts that it failed on: `D`, or `E` if it failed on the whole. The first answer, before any
request, is `V` and which Python this is, with the SHA-256 of its html.parser.
"""

import email
import hashlib
import html.parser
import platform
import struct
import sys

from pyzor.digest import DataDigester


class Collector(DataDigester):
    """Keeps the lines that are hashed."""

    __slots__ = ["lines"]

    def __init__(self, message):
        self.lines = []
        super().__init__(message)

    def handle_line(self, line):
        self.lines.append(line.rstrip())
        super().handle_line(line)


class Single:
    """A part as a message of its own."""

    def __init__(self, part):
        self.part = part

    def walk(self):
        return [self.part]


class Lenient(Collector):
    """Leaves out the parts that the reference fails on."""

    @classmethod
    def digest_payloads(cls, message):
        for part in message.walk():
            try:
                payloads = list(DataDigester.digest_payloads(Single(part)))
            except Exception:
                continue
            yield from payloads


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
        if not digest(Collector, raw):
            digest(Lenient, raw)
        sys.stdout.buffer.flush()


main()
