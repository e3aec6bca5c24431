"""How soon a saturated pyzord does what is not answering: a reload, a deferred lookup, its timer, and stopping.

    saturation.py BIN SCRATCH JSON ROUNDS

BIN holds pyzord, pyzor-migrate and loadgen; SCRATCH is an empty directory on a disk; JSON takes every single time. A
table goes to standard output. Everything is measured from outside, as an operator would, while `loadgen blast` keeps
IN_FLIGHT checks of known digests outstanding. All threads of pyzord share one core with its only worker; the load and
this script share the other. Replies are timed by the kernel's time stamp of their arrival.
"""

import calendar
import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

SERVER_CORE, LOAD_CORE = "0", "1"
IN_FLIGHT = 512
# Digests the load asks about, and others that are stored; each of these is asked about once.
KNOWN, COLD = 10_000, 20_000
# So many single requests are timed in each round, this far apart.
REQUESTS_A_ROUND = 25
PAUSE_S = 0.002
WARM_UP_S = 2.0
REPLY_LIMIT_S = 2.0
MAX_TRIES = 5
START_LIMIT_S = 20.0
SAMPLE_S = 0.02
TICK_S = 1.0
# One byte more than a request may have: the worker counts it as cut when its timer ticks.
TOO_LONG = b"x" * 8193

SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("qq")


class Client:
    """Asks one request at a time."""

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(REPLY_LIMIT_S)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.thread = 1024
        self.lost = 0

    def ask(self, operation, digest=None):
        """The reply's code and count, and when it was sent and the kernel got the reply, in seconds since 1970."""
        self.thread = self.thread + 1 if self.thread < 65_535 else 1024
        of = f"Op-Digest: {digest}\n" if digest else ""
        sent_s = time.time()
        self.socket.send(
            f"Op: {operation}\n{of}Thread: {self.thread}\nPV: 2.1\nUser: anonymous\nTime: 0\nSig: 0\n\n".encode()
        )
        while True:
            reply, control, _, _ = self.socket.recvmsg(512, 64)
            fields = dict(re.findall(r"^(\S+): (.*)$", reply.decode(), re.MULTILINE))
            if fields.get("Thread") == str(self.thread):
                seconds, nanoseconds = TIMESPEC.unpack(control[0][2][: TIMESPEC.size])
                return int(fields["Code"]), int(fields.get("Count", 0)), sent_s, seconds + nanoseconds / 1e9

    def patiently(self, operation, digest=None):
        """The same for a request whose reply is lost now and then."""
        for _ in range(MAX_TRIES):
            try:
                return self.ask(operation, digest)
            except TimeoutError:
                self.lost += 1
        sys.exit("saturation.py: pyzord answers no more")


class Server:
    def __init__(self, binaries, home, port):
        self.home, self.log = home, home / "pyzord.log"
        self.output = (home / "output").open("ab")
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, binaries / "pyzord", "--homedir", home, "-a", "127.0.0.1", "-p", str(port)]
            + ["--workers", "1", "--log-file", self.log],
            env=os.environ | {"TZ": "UTC"},
            stdout=self.output,
            stderr=self.output,
        )
        self.await_answer(port)

    def await_answer(self, port):
        deadline = time.monotonic() + START_LIMIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return Client(port).ask("ping")
            time.sleep(0.02)
        self.kill()
        sys.exit(f"saturation.py: pyzord does not answer:\n{(self.home / 'output').read_text()[-1000:]}")

    def worker_cpu_s(self):
        """CPU time of the worker until now."""
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            if (thread / "comm").read_text().startswith("worker"):
                return int((thread / "schedstat").read_text().split()[0]) / 1e9
        sys.exit("saturation.py: pyzord has no worker")

    def signal(self, number):
        self.process.send_signal(number)

    def lines(self, message):
        """Each line of the log that begins with `message`: when it was logged, and the rest."""
        line = re.compile(r"(\S+ \S+),(\d{3}) \(\d+\) [A-Z]+ " + re.escape(message) + "(.*)")
        for found in filter(None, map(line.match, self.log.read_text().splitlines())):
            yield calendar.timegm(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000, found[3]

    def stop(self):
        """How long it takes from TERM until the server says that it stops, and until the process is gone."""
        ended = os.pidfd_open(self.process.pid)
        began_s, began = time.time(), time.monotonic()
        self.signal(signal.SIGTERM)
        gone = select.select([ended], [], [], START_LIMIT_S)[0]
        took_s = time.monotonic() - began
        os.close(ended)
        self.kill()
        if not gone:
            sys.exit("saturation.py: TERM did not stop pyzord")
        *_, (stopping_s, _) = self.lines("stopping")
        return max(0.0, stopping_s - began_s), took_s

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.output.close()


@contextlib.contextmanager
def running_server(*arguments):
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.kill()


def blast_command(binaries, port, duration_s):
    command = [binaries / "loadgen", "blast", "--quiet", "--target", f"127.0.0.1:{port}", "--core", LOAD_CORE]
    command += ["--op", "check", "--known", str(KNOWN), "--in-flight", str(IN_FLIGHT)]
    return command + ["--warmup", "0", "--duration", str(duration_s)]


def bring_into_memory(binaries, port):
    """What the load will ask about: every digest as often."""
    subprocess.run([*blast_command(binaries, port, WARM_UP_S), "--zipf", "0"], check=True)


@contextlib.contextmanager
def blast(binaries, port):
    load = subprocess.Popen(blast_command(binaries, port, 600), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WARM_UP_S)
        if load.poll() is not None:
            sys.exit("saturation.py: loadgen blast has ended by itself")
        yield
    finally:
        load.terminate()
        load.wait()


def digest(number):
    """As loadgen makes them with seed 1, and scale.py."""
    return hashlib.sha1(b"known" + (1).to_bytes(8, "little") + number.to_bytes(4, "little")).hexdigest()


def import_store(binaries, scratch, home):
    database = scratch / "pyzord.db"
    scale = Path(__file__).with_name("scale.py")
    subprocess.run([sys.executable, scale, "gdbm", database, str(KNOWN + COLD)], check=True)
    migrate = [binaries / "pyzor-migrate", "--se", "gdbm", "--sd", database, "--de", "redb"]
    subprocess.run([*migrate, "--dd", home / "pyzord.redb"], check=True, capture_output=True)
    database.unlink()


def write_access(home, operations):
    new = home / "pyzord.access.new"
    new.write_text(f"{operations} : anonymous : allow\n")
    new.rename(home / "pyzord.access")


def round_trips(client, rounds):
    """Of pings, and of checks of digests that are in memory."""
    times = {"ping": [], "check in memory": []}
    for number in range(rounds * REQUESTS_A_ROUND):
        for what, arguments in (("ping", ["ping"]), ("check in memory", ["check", digest(number % 100)])):
            _, _, sent_s, received_s = client.patiently(*arguments)
            times[what].append(received_s - sent_s)
            time.sleep(PAUSE_S)
    return times


def reloads(server, client, rounds):
    """From USR1 to the first reply that shows the new rule."""
    times = []
    for number in range(rounds):
        operations, shows = ("check ping", 403) if number % 2 else ("check ping pong", 200)
        write_access(server.home, operations)
        began_s = time.time()
        server.signal(signal.SIGUSR1)
        while True:
            code, _, _, received_s = client.patiently("pong", digest(0))
            if code == shows:
                break
            if received_s - began_s > START_LIMIT_S:
                sys.exit(f"saturation.py: after USR1 the rules are still the old ones:\n{server.log.read_text()[-1000:]}")
        times.append(received_s - began_s)
    return times


def deferred_lookups(server, client, rounds):
    """Round trips of checks of digests that are stored and not in memory; how many the server did defer."""
    before = deferred_so_far(server)
    times = []
    for number in range(min(rounds * REQUESTS_A_ROUND, COLD)):
        _, count, sent_s, received_s = client.patiently("check", digest(KNOWN + number))
        if count == 0:
            sys.exit("saturation.py: a stored digest was not found")
        times.append(received_s - sent_s)
        time.sleep(PAUSE_S)
    return times, deferred_so_far(server) - before


def logged(server, message):
    """The latest line of the kind, after USR1 has made the server log its numbers."""
    known = len(list(server.lines(message)))
    server.signal(signal.SIGUSR1)
    deadline = time.monotonic() + START_LIMIT_S
    while len(lines := list(server.lines(message))) == known:
        if time.monotonic() > deadline:
            sys.exit("saturation.py: pyzord does not log its numbers")
        time.sleep(0.02)
    return lines[-1][1]


def deferred_so_far(server):
    return int(re.search(r"deferred_lookups=(\d+)", logged(server, "store: "))[1])


def number_in(line, name):
    found = re.search(rf"\b{name}=(\d+)", line)
    return int(found[1]) if found else 0


def ticks(server, client, rounds):
    """By how much the worker's timer, which should tick once a second, is late.

    What the worker takes over from the datapath when it ticks shows in the log: the number of requests that were cut
    steps only then. The time of a step is known to a sample, so this is what the timer is late by at most.
    """
    began_s = time.time()
    until = time.monotonic() + (rounds + 2) * TICK_S
    while time.monotonic() < until:
        client.socket.send(TOO_LONG)
        server.signal(signal.SIGUSR1)
        time.sleep(SAMPLE_S)
    samples = [(at, number_in(line, "truncated")) for at, line in server.lines("so far: ") if at >= began_s]
    steps = [(before, at) for (before, was), (at, cut) in zip(samples, samples[1:]) if cut > was]
    # From before one step to after the next.
    return [max(0.0, after - before - TICK_S) for (before, _), (_, after) in zip(steps, steps[1:])][:rounds]


def row(what, times_s):
    ms = sorted(time_s * 1000 for time_s in times_s)
    p99 = ms[max(0, -(-len(ms) * 99 // 100) - 1)]
    return f"| {what} | {len(ms)} | {statistics.median(ms):.2f} | {p99:.2f} | {ms[-1]:.2f} |"


def measure(binaries, scratch, rounds):
    home, port = scratch / "home", 20_000 + os.getpid() % 10_000
    home.mkdir()
    import_store(binaries, scratch, home)
    write_access(home, "check ping")
    times, counts = serving(binaries, home, port, rounds)
    times["TERM"], times["TERM to the end"] = [], []
    for _ in range(rounds):
        with running_server(binaries, home, port) as server, blast(binaries, port):
            served_s, ended_s = server.stop()
            times["TERM"].append(served_s)
            times["TERM to the end"].append(ended_s)
    return times, counts


def serving(binaries, home, port, rounds):
    """Everything but the end."""
    with running_server(binaries, home, port) as server:
        bring_into_memory(binaries, port)
        with blast(binaries, port):
            client = Client(port)
            began, cpu_s = time.monotonic(), server.worker_cpu_s()
            times = round_trips(client, rounds)
            times["USR1"] = reloads(server, client, rounds)
            times["check on disk"], deferred = deferred_lookups(server, client, rounds)
            times["timer late by"] = ticks(server, client, rounds)
            busy = (server.worker_cpu_s() - cpu_s) / (time.monotonic() - began)
            drops = number_in(logged(server, "so far: "), "kernel_drops")
    counts = {"deferred": deferred, "kernel_drops": drops, "timed_client_lost": client.lost}
    return times, counts | {"worker_busy_share": round(busy, 4)}


def main(binaries, scratch, result, rounds):
    times, counts = measure(Path(binaries), Path(scratch), int(rounds))
    in_ms = {what: [round(time_s * 1000, 3) for time_s in of] for what, of in times.items()}
    Path(result).write_text(json.dumps(counts | {"in_flight": IN_FLIGHT, "ms": in_ms}, indent=1) + "\n")
    print("| under the blast, in ms | times | median | p99 | longest |\n| --- | --- | --- | --- | --- |")
    print(row("round trip of a ping", times["ping"]))
    print(row("round trip of a check answered from memory", times["check in memory"]))
    print(row("round trip of a check that a reader thread looks up", times["check on disk"]))
    print(row("`USR1` to the first reply by the new rules", times["USR1"]))
    print(row("timer of one second late by, at most", times["timer late by"]))
    print(row("`TERM` to `stopping` in the log", times["TERM"]))
    print(row("`TERM` to the end of the process (draining may take 200)", times["TERM to the end"]))
    print(f"\nThe worker had {counts['worker_busy_share']:.0%} of its core. ", end="")
    print(f"{counts['deferred']} of {len(times['check on disk'])} lookups were deferred. ", end="")
    print(f"The kernel dropped {counts['kernel_drops']} datagrams; ", end="")
    print(f"the timed client lost {counts['timed_client_lost']} requests.")


if len(sys.argv) != 5:
    sys.exit(__doc__)
main(*sys.argv[1:])
