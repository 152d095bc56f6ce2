"""Rows of targets.py for what a client sees that asks every millisecond, over a connection of its own, while a server
is busy with something big. Each first watches the server idle: what stalls then is the machine's.
"""

import json
import time

from lines import Line
from probes import Stalls, span
from servers import OURS, Client, Failed, Refused, request, tell

TARGET_MS = 2
# How long something big may take at the most.
PATIENCE_S = 120
CHUNK = 1_000
OK = b"+OK\r\n"
# Ours lets a value have 64 MiB unless it is told otherwise.
VALUE_MAX = ["--max-value-size", "128MiB"]


def row(run, what, watch, more=lambda kind: ()):
    """A line of one kind of stall: `watch` is given a server, and returns what `told` makes of it."""
    line = Line(f"longest stall in ms while {what}", f"{TARGET_MS} ms")
    for kind in run.kinds_like("resp"):
        tell(f"stalls while {what}: {kind.name}")
        with kind.start(run.server_cores, more=more(kind)) as server:
            line.rounds[kind.name] = watch(server)
    return [judged(line)]


def judged(line):
    for name, seen in line.rounds.items():
        line.cells[name] = f"{seen['longest_ms']:.1f} (idle {seen['idle_ms']:.1f})"
    seen = line.rounds[OURS]
    others = [other["longest_ms"] for name, other in line.rounds.items() if name != OURS]
    line.against = f"{seen['longest_ms'] / min(others):.2f} of the best other" if others else "nothing to compare with"
    line.met = seen["longest_ms"] <= TARGET_MS
    if not line.met and seen["idle_ms"] > TARGET_MS:
        line.met, line.remark = None, "the idle machine stalls longer than the target"
    elif not line.met:
        line.remark = f"{seen['over_target']} of {seen['asked']:,} took longer"
        if seen["server_waited_ms"]:
            line.remark += f"; the node waited {seen['server_waited_ms']:.1f} ms for its core in all"
    return line


def told(probe, idle, busy):
    """Of a probe that has ended: the stalls of two lists of spans."""
    while_idle, while_busy = probe.within(idle), probe.within(busy)
    if not while_idle or not while_busy:
        raise Failed(f"{probe.name}: nothing was asked while it was watched")
    return {
        "longest_ms": max(while_busy),
        "idle_ms": max(while_idle),
        "over_target": sum(ms > TARGET_MS for ms in while_busy),
        "asked": len(while_busy),
        "seconds": sum(end - begin for begin, end in busy) / 1e9,
        "idle_seconds": sum(end - begin for begin, end in idle) / 1e9,
        "server_waited_ms": probe.waited_ms,
        "client_priority": probe.priority,
    }


def watched(run, server, event):
    with Stalls(run.load_cores, server) as probe:
        idle = span(lambda: time.sleep(run.sizes.rest_s))
        busy = span(event)
        probe.end()
        return told(probe, [idle], [busy])


def load(run):
    keys = run.sizes.load_keys
    return row(run, f"{keys:,} keys are loaded, as fast as it takes them",
               lambda server: watched(run, server, lambda: run.fill(server, keys)))


def expiry(run):
    keys = run.sizes.expiring_keys

    def watch(server):
        with Client(server) as client:
            began = time.monotonic()
            set_until(client, keys, time.time() + 3600)
            # Again, now that it is known how long that takes.
            deadline = time.time() + 2 + (time.monotonic() - began) * 2 + run.sizes.rest_s
            set_until(client, keys, deadline)

            def expire():
                if time.time() > deadline:
                    raise Failed(f"{server.name}: setting keys took twice as long as before; some expired unwatched")
                until(lambda: client.ask("DBSIZE") == 0, "keys that expired are gone")
            return watched(run, server, expire)
    return row(run, f"{keys:,} keys expire at once, until none is held", watch)


def set_until(client, keys, deadline):
    """Sets them all, a chunk ahead of the answers."""
    at_ms, value, ahead = int(deadline * 1000), b"v" * 64, 0
    for first in range(0, keys, CHUNK):
        numbers = range(first, min(first + CHUNK, keys))
        client.send(b"".join(request("SET", b"key:%012d" % number, value, "PXAT", at_ms) for number in numbers))
        check_ok(client, ahead)
        ahead = len(numbers)
    check_ok(client, ahead)


def check_ok(client, count):
    if client.replies.read(len(OK) * count) != OK * count:
        raise Failed(f"{client.server.name} did not set a key")


def until(holds, what, pause_s=0.02):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"after {PATIENCE_S} s it is not so that {what}")
        time.sleep(pause_s)


def delete(run):
    value = b"v" * run.sizes.large_bytes

    def watch(server):
        busy = []
        with Client(server) as client, Stalls(run.load_cores, server) as probe:
            idle = span(lambda: time.sleep(run.sizes.rest_s))
            for _ in range(run.sizes.deletes):
                client.ask("SET", "probe:large", value)
                time.sleep(0.1)
                busy.append(span(lambda: delete_large(client)))
            probe.end()
        return told(probe, [idle], busy)
    return row(run, f"a value of {len(value) / 1e6:.0f} MB is deleted, {run.sizes.deletes} times", watch,
               lambda kind: VALUE_MAX if kind.is_ours else [])


def delete_large(client):
    if client.ask("DEL", "probe:large") is None:
        raise Failed(f"{client.server.name} did not delete")
    # What it does with the memory later is part of it.
    time.sleep(0.2)


def snapshot(run):
    keys = run.sizes.snapshot_keys

    def watch(server):
        run.fill(server, keys)
        with Client(server) as client:
            saved = saving_of(server, client)
            until(lambda: not saved()[0], "nothing is saved by itself")
            before = saved()[1]

            def save():
                client.ask("SAVE" if server.kind.is_ours else "BGSAVE")
                until(lambda: not saved()[0] and saved()[1] != before, "the snapshot is there")
            return watched(run, server, save)
    return row(run, f"a snapshot of {keys:,} keys is saved", watch,
               lambda kind: ["--data-dir", "data"] if kind.is_ours else run.save_cores())


def saving_of(server, client):
    """Whether it saves, and what differs once another snapshot is there."""
    def ours():
        disk = json.loads(client.ask("STATS"))["disk"]
        return disk["saving"], disk["snapshots"]

    def redis():
        lines = dict(line.split(":", 1) for line in client.ask("INFO").splitlines() if ":" in line)
        if lines["rdb_last_bgsave_status"] != "ok":
            raise Refused(f"{server.name} could not save")
        return lines["rdb_bgsave_in_progress"] != "0", lines.get("rdb_saves", lines["rdb_last_save_time"])
    return ours if server.kind.is_ours else redis
