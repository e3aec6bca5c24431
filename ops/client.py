"""Times the client beside the Python reference: digesting a corpus, and one command from its start to its exit.

    client.py digest CORPUS OUT PAIRS DIGEST_FILES PYTHON
    client.py check MAIL OUT PAIRS PYZOR REFERENCE HOME
    client.py digest-files                               (what PYTHON runs: the reference's side of the first)

Runs come in pairs, and take turns at being first. Every single time goes to a CSV file below OUT, a row of a table to
standard output: medians, and the median, least and greatest of the pairs' ratios.
"""

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("reference", "pyzor")


def digest_files():
    """As client/examples/digest_files.rs. A message that the reference fails on has no digest."""
    import email

    from pyzor.digest import DataDigester

    messages = [Path(line.rstrip("\n")).read_bytes() for line in sys.stdin]
    digests = []
    start = time.perf_counter()
    for message in messages:
        try:
            digests.append(DataDigester(email.message_from_bytes(message)).value)
        except Exception:
            digests.append("none")
    seconds = time.perf_counter() - start
    print(*digests, f"{seconds:.6f}", sep="\n")


def in_pairs(pairs, commands):
    """The measurements of both by turns: a list for each name."""
    measured = {name: [] for name in NAMES}
    for pair in range(pairs):
        for name in NAMES if pair % 2 else reversed(NAMES):
            measured[name].append(commands[name]())
    return measured


def digest(corpus, out, pairs, ours, python):
    files = sorted(path for path in Path(corpus).rglob("*") if path.is_file())
    names = "".join(f"{path}\n" for path in files)
    commands = {"pyzor": [ours], "reference": [python, "-W", "ignore", __file__, "digest-files"]}

    def run(command):
        lines = subprocess.run(command, input=names, capture_output=True, text=True, check=True).stdout.split()
        return lines[:-1], float(lines[-1])

    measured = in_pairs(int(pairs), {name: lambda name=name: run(commands[name]) for name in NAMES})
    theirs, mine = (measured[name][0][0] for name in NAMES)
    same = [expected == found for expected, found in zip(theirs, mine, strict=True) if expected != "none"]
    if not all(same):
        sys.exit(f"client.py: {same.count(False)} digests differ")
    seconds = {name: [run[1] for run in measured[name]] for name in NAMES}
    kibibytes = sum(path.stat().st_size for path in files) / 1024
    what = f"digests of {len(files)} {Path(corpus).name} messages ({kibibytes:.0f} KiB)"
    report(what, f"digest-{Path(corpus).name}", out, seconds)


def check(mail, out, pairs, ours, reference, home):
    arguments = ["--homedir", home, "check"]
    printed = {}

    def run(name, command):
        """Wall time of a process from its start to its exit, without a shell or a pipe between."""
        with open(mail, "rb") as source, open(Path(home) / f"{name}.out", "w+b") as sink:
            actions = [(os.POSIX_SPAWN_DUP2, source.fileno(), 0), (os.POSIX_SPAWN_DUP2, sink.fileno(), 1)]
            start = time.perf_counter()
            pid = os.posix_spawn(command, [command, *arguments], os.environ, file_actions=actions)
            _, status, usage = os.wait4(pid, 0)
            seconds = time.perf_counter() - start
            sink.seek(0)
            printed[name] = (sink.read(), os.waitstatus_to_exitcode(status))
        if printed[name] != printed.setdefault("first", printed[name]):
            sys.exit(f"client.py: {printed}")
        return seconds, usage.ru_utime + usage.ru_stime

    commands = {"pyzor": ours, "reference": reference}
    measured = in_pairs(int(pairs), {name: lambda name=name: run(name, commands[name]) for name in NAMES})
    if b"200, 'OK'" not in printed["first"][0]:
        sys.exit(f"client.py: no answer: {printed['first']}")
    for column, unit in enumerate(("start to exit", "CPU time")):
        seconds = {name: [run[column] for run in measured[name]] for name in NAMES}
        report(f"`pyzor check`, {unit}", f"check-{unit.split()[0].lower()}", out, seconds)


def report(what, file, out, seconds):
    with open(Path(out) / f"{file}.csv", "w", newline="") as sink:
        rows = csv.writer(sink)
        rows.writerow(["pair", *(f"{name}_s" for name in NAMES)])
        rows.writerows((pair, *(f"{time:.6f}" for time in times)) for pair, times in enumerate(zip(*seconds.values()), 1))
    ratios = [theirs / ours for theirs, ours in zip(*(seconds[name] for name in NAMES))]
    medians = " | ".join(f"{statistics.median(seconds[name]) * 1e3:.2f} ms" for name in NAMES)
    ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    print(f"| {what} | {len(ratios)} | {medians} | {ratio} |")


if __name__ == "__main__":
    {"digest-files": digest_files, "digest": digest, "check": check}[sys.argv[1]](*sys.argv[2:])
