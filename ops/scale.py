"""What ops/scale.sh cannot do in a shell.

    scale.py gdbm FILE DIGESTS   writes a file as the reference does, with the digests that loadgen knows with seed 1
    scale.py table FOLDER        prints the table of checks by what the server did meanwhile
"""

import calendar
import ctypes
import hashlib
import json
import re
import statistics
import sys
import time
from pathlib import Path

SPREAD_DAYS = 100
DAY_S = 86_400

GDBM_NEWDB = 3
# With its default, mapping, the library maps a growing file again and again: twice the time.
GDBM_NOMMAP = 0x80
GDBM_CACHESIZE = 1
# In buckets of a block each: enough for every bucket of ten million digests.
CACHED_BUCKETS = 400_000


# What the server logs, as patterns.
FOLDING, FOLDED = r"folding \d+ batches", r"\d+ changes are in "


class Datum(ctypes.Structure):
    _fields_ = [("dptr", ctypes.c_char_p), ("dsize", ctypes.c_int)]


def gdbm_library():
    library = ctypes.CDLL("libgdbm.so.6")
    library.gdbm_open.restype = ctypes.c_void_p
    library.gdbm_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    library.gdbm_setopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    library.gdbm_store.argtypes = [ctypes.c_void_p, Datum, Datum, ctypes.c_int]
    library.gdbm_close.argtypes = [ctypes.c_void_p]
    return library


def write_gdbm(path, digests):
    """Straight through the library: Python's module takes three times as long."""
    library = gdbm_library()
    file = library.gdbm_open(path.encode(), 0, GDBM_NEWDB | GDBM_NOMMAP, 0o600, None)
    if not file:
        sys.exit(f"scale.py: cannot create {path}")
    cached = ctypes.c_size_t(CACHED_BUCKETS)
    library.gdbm_setopt(file, GDBM_CACHESIZE, ctypes.byref(cached), ctypes.sizeof(cached))
    known = hashlib.sha1(b"known" + (1).to_bytes(8, "little"))
    now = int(time.time())
    key, value = Datum(), Datum()
    for number in range(digests):
        digest = known.copy()
        digest.update(number.to_bytes(4, "little"))
        # Neighbours differ in age: how popular a digest is says nothing about it.
        updated = now - number * 7919 % (SPREAD_DAYS * DAY_S)
        key.dptr, key.dsize = digest.hexdigest().encode(), 40
        value.dptr = b"1,%d,%d" % (updated, updated)
        value.dsize = len(value.dptr)
        if library.gdbm_store(file, key, value, 0) != 0:
            sys.exit(f"scale.py: cannot write {path}")
    library.gdbm_close(file)


def log_times(path, message):
    """When the server, which logs in UTC, logged a message."""
    line = re.compile(r"(\S+ \S+),(\d{3}) \(\d+\) [A-Z]+ " + message)
    return [
        calendar.timegm(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000
        for found in map(line.match, path.read_text().splitlines())
        if found
    ]


def spans(log, begin, end):
    """From each message `begin` to the last message `end` before the next one."""
    begins, ends = log_times(log, begin), log_times(log, end)
    for start, limit in zip(begins, begins[1:] + [float("inf")]):
        within = [at for at in ends if start <= at < limit]
        if within:
            yield start, within[-1]


def intervals(path):
    return json.loads(path.read_text())["timeline"]


def overlaps(interval, some_spans):
    end = interval["ended_epoch_s"]
    return any(begin < end and end - interval["length_s"] < until for begin, until in some_spans)


def split(path, some_spans):
    """The intervals within the spans, and those outside."""
    within = [each for each in intervals(path) if overlaps(each, some_spans)]
    outside = [each for each in intervals(path) if not overlaps(each, some_spans)]
    return within, outside


def phases(folder):
    yield "disk", intervals(folder / "disk.json")
    yield "idle", intervals(folder / "idle.json")
    folds = list(spans(folder / "keep.log", FOLDING, FOLDED))
    folding, reporting = split(folder / "folding.json", folds)
    yield "folding", folding
    yield "reporting", reporting
    rebuilds = list(spans(folder / "expire.log", "building a filter", "the new filter is in use"))
    rebuilding, rest = split(folder / "expire.json", rebuilds)
    # A start folds what the last stop has left.
    folds = list(spans(folder / "expire.log", FOLDING, FOLDED))
    sweeping = [each for each in rest if not overlaps(each, folds)]
    yield "sweeping", sweeping
    yield "rebuilding", rebuilding


def row(name, parts):
    checks = [each for part in parts for each in part["operations"] if each["operation"] == "check"]
    length_s = sum(part["length_s"] for part in parts)
    if not checks:
        return f"| {name} | {length_s:.1f} | | | | | | |"

    def spread(point):
        values = [each["service"][point] for each in checks]
        return f"{statistics.median(values):.0f} ({max(values):.0f})"

    rate = sum(each["answered"] for each in checks) / length_s
    points = " | ".join(map(spread, ["p50_us", "p90_us", "p99_us", "p99_9_us"]))
    worst = max(each["service"]["max_us"] for each in checks)
    return f"| {name} | {length_s:.1f} | {rate:.0f} | {points} | {worst:.0f} |"


def print_table(folder):
    print("| phase | seconds | checks/s | p50 | p90 | p99 | p99.9 | longest |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, parts in phases(folder):
        print(row(name, parts))


match sys.argv[1:]:
    case ["gdbm", path, digests]:
        write_gdbm(path, int(digests))
    case ["table", folder]:
        print_table(Path(folder))
    case _:
        sys.exit(__doc__)
