"""Makes two recordings, replays each at both speeds, and compares what was asked for with what arrived.

    replay.py SERVER_CORE LOAD_CORE BIN CLIENT SCRATCH OUT REQUESTS ROUNDS

BIN holds pyzord and loadgen, CLIENT is the reference's `pyzor`; SCRATCH is an empty directory on a disk; OUT takes the
result of every replay. A description in Markdown goes to standard output, progress to standard error.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

SERVER_CORE, LOAD_CORE = sys.argv[1:3]
SPEEDS = (1, 10)
# How well a high rate is kept: by the mix over few sockets, where a request costs less, and by the recording.
STEADY_RATE, STEADY_SOCKETS, STEADY_S, STEADY_WARMUP_S = 50_000, 16, 1, 0.3
STEADY_RUNS_A_ROUND = 8
CLOCK_ONLY = "Nothing but looking at the clock"
# The recording to be replayed is made again until its own requests came on time, so often at most.
RECORDING_ATTEMPTS = 6
# From, to, in seconds. The kernel counts in hundredths of a second.
STEADY_CLASSES = ((0, 0.005, "0"), (0.005, 0.015, "10"), (0.015, 0.035, "20 or 30"), (0.035, 100, "40 and more"))
ON_TIME_US = 100
# A hypervisor that is busy with others is waited for, until a look at the clock for 0.1 s is hardly interrupted; so long in all.
LOOK_S, QUIET_SHARE, PAUSE_S = 0.1, 0.002, 1
patience_s = 1800.0
RATE = 5_000
MIX = "check=80,report=15,info=2,whitelist=1,ping=2,known=20000,known-share=0.4,batch-share=0.1,sources=2000"
# The client starts a Python interpreter each time; so many times it asks each of its commands.
CLIENT_ROUNDS = 20
CLIENT_COMMANDS = ("check", "report", "check", "info", "whitelist", "ping", "pong")
START_LIMIT_S = 20.0
STOP_LIMIT_S = 30.0


class Server:
    """A pyzord with an empty store; it may record all it gets, as it is."""

    def __init__(self, bin, home, records=True):
        self.recording = home / "record.pcap"
        home.mkdir()
        (home / "pyzord.access").write_text("all : anonymous : allow\n")
        log = open(home / "output", "wb")
        self.process = subprocess.Popen(
            [bin / "pyzord", "--homedir", home, "--address", "127.0.0.1", "--port", "0", "--workers", "1"]
            + ["--log-file", home / "log"] + (["--record", self.recording, "--record-anonymize", "no"] if records else []),
            stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {int(SERVER_CORE)}))
        self.log = home / "log"
        self.address = self.await_log(r"listening on (127\.0\.0\.1:\d+)")
        self.port = self.address.rpartition(":")[2]

    def await_log(self, pattern):
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(pattern, self.log.read_text() if self.log.exists() else "")
            if found:
                return found[1]
            time.sleep(0.02)
        sys.exit(f"replay.py: pyzord does not start; see {self.log}")

    def stop(self):
        """Ends it, which completes the recording."""
        self.process.terminate()
        self.process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def server(bin, home, records=True):
    running = Server(bin, home, records)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def loadgen(bin, *arguments):
    command = [str(bin / "loadgen"), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    # How late requests are is among what is measured here: a run that is void for that is kept.
    if done.returncode and "the run is void: " not in done.stderr:
        sys.exit(f"replay.py: {shlex.join(command)}: {done.stderr}")


def inspect(bin, trace, port, scratch):
    loadgen(bin, "inspect", trace, "--port", port, "--json", scratch / "inspect.json")
    return json.loads((scratch / "inspect.json").read_text())


def record(bin, scratch, requests):
    """What pyzord itself records of a made-up mix; and the port it was recorded on. What is sent late, because the machine
    pauses, comes in bursts, which would be replayed ten times as dense: so the best of some attempts is taken."""
    attempts = []
    for number in range(1, RECORDING_ATTEMPTS + 1):
        with server(bin, scratch / f"record.{number}") as running:
            trace = f"synthetic:{MIX},rate={RATE},requests={requests}"
            await_quiet()
            loadgen(bin, "replay", trace, "--target", running.address, "--poisson", "--rate", RATE,
                    "--core", LOAD_CORE, "--quiet", "--json", scratch / "record.json")
            running.stop()
        lag_us = json.loads((scratch / "record.json").read_text())["schedule"]["lag"]["p99_us"]
        attempts.append((lag_us, running.recording, running.port))
        print(f"recording {number}: 99 % were sent within {lag_us:.0f} us of their time", file=sys.stderr)
        if lag_us <= ON_TIME_US:
            break
    lag_us, recording, port = min(attempts)
    print(f"99 % of what pyzord recorded had been sent within {lag_us:.0f} us of its time, in the best of {len(attempts)} attempts.")
    return recording, port


def capture(bin, client, scratch):
    """What tcpdump sees of the Python client; and the port it asked."""
    with server(bin, scratch / "capture") as running:
        home = scratch / "client"
        home.mkdir()
        (home / "servers").write_text(running.address + "\n")
        file = scratch / "client.pcap"
        dump = subprocess.Popen(
            ["tcpdump", "-i", "lo", "-U", "-w", file, "udp", "port", running.port], stderr=subprocess.PIPE, text=True)
        while "listening on" not in (dump.stderr.readline() or sys.exit("replay.py: tcpdump does not start")):
            pass
        for number in range(CLIENT_ROUNDS):
            message = f"Subject: {number}\n\nThis is message {number % 7}, made up to be asked about.\n"
            for command in CLIENT_COMMANDS:
                subprocess.run([client, "--homedir", home, command], input=message, text=True, check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        dump.send_signal(signal.SIGINT)
        dump.communicate(timeout=STOP_LIMIT_S)
        return file, running.port


def steady(bin, scratch, recording, port, runs):
    """Runs at one rate, of the mix and of the recording, and as many that send nothing: how late requests were, beside what the
    hypervisor took. Each name and its histograms."""
    at_the_rate = ("--rate", STEADY_RATE, "--duration", STEADY_S, "--warmup", STEADY_WARMUP_S)
    kinds = {
        f"The mix over {STEADY_SOCKETS} sockets, evenly": (f"synthetic:{MIX}", "--sockets", STEADY_SOCKETS, *at_the_rate),
        "pyzord-record, evenly": (recording, "--port", port, "--loop", *at_the_rate),
        f"pyzord-record at {STEADY_RATE // RATE}x": (recording, "--port", port, "--speed", STEADY_RATE / RATE),
    }
    results = {name: [] for name in (CLOCK_ONLY, *kinds)}
    with server(bin, scratch / "steady", records=False) as running:
        for number in range(1, runs + 1):
            await_quiet()
            results[CLOCK_ONLY].append(clock_lag())
            for name, arguments in kinds.items():
                await_quiet()
                file = scratch / "steady.json"
                loadgen(bin, "replay", *arguments, "--target", running.address, "--core", LOAD_CORE, "--quiet", "--json", file)
                results[name].append(json.loads(file.read_text())["schedule"])
            print(f"steady run {number} of {runs}: done", file=sys.stderr)
        running.stop()
    return results


def steady_table(results):
    print(f"\nAt {STEADY_RATE:,} a second, runs of {STEADY_S} s, each begun when the machine was quiet, by what the hypervisor took "
          f"from the\ngenerator's core. On time: 99 % of the requests were sent within {ON_TIME_US} us of their time. Nothing but looking "
          "at the clock: how\nlate they would have been at least, whoever sends them. Evenly: at a constant rate; at 10x the recording keeps its bursts.\n")
    print("| what | taken, ms | runs | on time | lag p50 | lag p90 | lag p99 | lag max |")
    print("| --- " * 8 + "|")
    for name, runs in results.items():
        for least, limit, taken in STEADY_CLASSES:
            of_class = [each["lag"] for each in runs if least <= (each["machine"]["stolen_s"] or 0) < limit]
            if of_class:
                print(steady_row(name, taken, of_class))
        print(steady_row(name, "any", [each["lag"] for each in runs]))


def steady_row(name, taken, lags):
    on_time = sum(1 for lag in lags if lag["p99_us"] <= ON_TIME_US)
    points = (spread([lag[point] for lag in lags]) for point in ("p50_us", "p90_us", "p99_us", "max_us"))
    return "| " + " | ".join([name, taken, str(len(lags)), str(on_time), *points]) + " |"


@contextlib.contextmanager
def on_load_core():
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def pauses(seconds, least_s):
    """Between looks at the clock, when nothing else is done for so long: the pauses that are no shorter, in seconds."""
    before = started = time.monotonic()
    found = []
    while before - started < seconds:
        now = time.monotonic()
        if now - before >= least_s:
            found.append(now - before)
        before = now
    return found


def await_quiet():
    """Waits until the load's core is left alone, or the patience is at its end, which is told."""
    global patience_s
    started = time.monotonic()
    with on_load_core():
        while (is_restless := sum(pauses(LOOK_S, ON_TIME_US / 1e6)) > QUIET_SHARE * LOOK_S) and time.monotonic() - started < patience_s:
            time.sleep(PAUSE_S)
    patience_s -= time.monotonic() - started
    if is_restless:
        print("replay.py: the machine does not become quiet", file=sys.stderr)


def clock_lag():
    """How late requests would be sent that cost nothing: as a result says it."""
    between_s = 1 / STEADY_RATE
    with on_load_core():
        stolen_before_s = stolen_s()
        found = pauses(STEADY_S, between_s)
        stolen = stolen_s() - stolen_before_s
    late_us = sorted(1e6 * (pause - number * between_s) for pause in found for number in range(int(pause / between_s)))
    on_time = STEADY_RATE * STEADY_S - len(late_us)
    lag_us = [0.0] * on_time + late_us
    point = lambda share: lag_us[int(share * (len(lag_us) - 1))]
    return {"lag": {"p50_us": point(0.5), "p90_us": point(0.9), "p99_us": point(0.99), "max_us": lag_us[-1]},
            "machine": {"stolen_s": round(stolen, 2)}}


def stolen_s():
    """What the hypervisor has taken from the load's core since the machine started."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{LOAD_CORE} "))
    return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")


def spread(values, digits=0):
    values = sorted(values)
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def replay(bin, scratch, out, name, trace, port, speed, round_):
    """One replay: its result, and what the server that got it recorded."""
    with server(bin, scratch / f"{name}.{speed}.{round_}") as running:
        result = out / f"{name}.{speed}x.{round_}.json"
        await_quiet()
        loadgen(bin, "replay", trace, "--port", port, "--target", running.address, "--speed", speed,
                "--core", LOAD_CORE, "--server-pid", running.process.pid, "--quiet", "--json", result)
        running.stop()
        arrived = inspect(bin, running.recording, running.port, scratch)
    print(f"{result.name}: done", file=sys.stderr)
    text = result.read_text().replace(f"{scratch}/", "")
    result.write_text(text)
    return json.loads(text), arrived


def differences(before, after):
    """What of the mix came out otherwise."""
    same = ("requests", "operations", "digests_a_request", "malformed")
    found = [name for name in same if before[name] != after[name]]
    found += [f"digests {name}" for name in ("asked", "distinct") if before["digests"][name] != after["digests"][name]]
    found += ["flows"] if before["sources"]["flows"] != after["sources"]["flows"] else []
    return found


def row(name, speed, recorded, runs):
    results = [result for result, _ in runs]
    lags = [result["schedule"]["lag"] for result in results]
    gaps = [result["schedule"]["machine"] for result in results]
    different = sorted({what for _, arrived in runs for what in differences(recorded, arrived)})

    rates = [result["schedule"]["intended_rate_per_s"] for result in results]
    void = sum(1 for result in results if result["void"])
    lost = sum(result["losses"]["lost"] for result in results)
    cells = [name, f"{speed}x", len(runs), results[0]["schedule"]["intended"], f"{statistics.median(rates):,.0f}",
             "the same" if not different else "not: " + ", ".join(different),
             *(spread([lag[point] for lag in lags]) for point in ("p50_us", "p99_us", "max_us")),
             spread([100 * gap["paused_share"] for gap in gaps], 2), spread([gap["longest_pause_us"] for gap in gaps]),
             spread([1000 * (gap["waited_s"] + (gap["stolen_s"] or 0)) for gap in gaps]), lost, void]
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    bin, client, scratch, out = map(Path, sys.argv[3:7])
    requests, rounds = map(int, sys.argv[7:9])
    print(f"The made-up mix that pyzord recorded: `{MIX}`, {requests} requests, Poisson, {RATE} a second.")
    traces = {"pyzord-record": record(bin, scratch, requests), "tcpdump-of-python-client": capture(bin, client, scratch)}
    print(f"What tcpdump captured: {CLIENT_ROUNDS} times `pyzor` {', '.join(CLIENT_COMMANDS)}.")
    print("Lag: how long after its intended time a request was sent, microseconds; median of the rounds (least to most).")
    print("Idle paused: of 200 ms before the run, in which the generator's thread looked at nothing but the clock, the share in "
          "pauses of\n20 us or more, and the longest of them in microseconds. Taken: in the run, what other threads and the "
          "hypervisor took from its core.")
    print("The mix: requests, operations, digests a request, different digests, malformed requests and flows, as "
          "recorded\nby the server that was replayed to.\n")
    print("| recording | speed | rounds | requests | a second | mix | lag p50 | lag p99 | lag max "
          "| idle paused, % | longest pause | taken, ms | lost | void |")
    print("| --- " * 14 + "|")
    for name, (trace, port) in traces.items():
        recorded = inspect(bin, trace, port, scratch)
        for speed in SPEEDS:
            runs = [replay(bin, scratch, out, name, trace, port, speed, number) for number in range(1, rounds + 1)]
            print(row(name, speed, recorded, runs), flush=True)
    results = steady(bin, scratch, *traces["pyzord-record"], STEADY_RUNS_A_ROUND * rounds)
    (out / "steady.json").write_text(json.dumps(results) + "\n")
    steady_table(results)


if __name__ == "__main__":
    main()
