#!/usr/bin/env python3
"""Clients that watch servers, each in a process of its own with a clock of its own, and those who start them.

Usage: probes.py stalls PORT             asks once a millisecond, one request at a time
       probes.py visible PORT PORT...    writes a stamp to the first every few milliseconds, and asks the others for it

Each says "ready" and at which priority it runs, watches until its standard input ends, and then prints JSON. Not meant
to be run by hand.
"""

import array
import gc
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

from servers import Failed, on_cores, request

ASK_EVERY_NS = 1_000_000
STAMP_EVERY_NS = 5_000_000
# Between two looks for a stamp at one server: the others need the core, too.
LOOK_EVERY_NS = 200_000
LAST_STAMP_S = 60
PRIORITY = 50


class Probe:
    """A watching process, which is ended when the block is left."""

    def __init__(self, what, cores, *servers):
        self.name = servers[0].name
        words = [sys.executable, __file__, what, *(str(server.port) for server in servers)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, preexec_fn=on_cores(cores))

    def __enter__(self):
        self.priority = self.process.stdout.readline().removeprefix("ready ").strip()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def end(self):
        """What it has seen."""
        told, complaint = self.process.communicate()
        if self.process.returncode != 0:
            raise Failed(f"{self.name}, as a client saw it: {complaint.strip().splitlines()[-1:]}")
        return json.loads(told)


class Stalls(Probe):
    """How long a client waits that asks once a millisecond."""

    def __init__(self, cores, server):
        super().__init__("stalls", cores, server)
        self.server, self.seen, self.waited_ms = server, [], None

    def __enter__(self):
        super().__enter__()
        self.waited_before_ms = self.server.waited_ms()
        return self

    def end(self):
        if self.waited_before_ms is not None:
            self.waited_ms = self.server.waited_ms() - self.waited_before_ms
        told = super().end()
        self.seen = list(zip(told["sent_ns"], told["took_ns"]))

    def within(self, spans):
        """Milliseconds of those requests that were under way in one of the spans of time."""
        return [took / 1e6 for sent, took in self.seen
                if any(sent + took >= begin and sent <= end for begin, end in spans)]


def span(event):
    """From when to when something goes on, on the clock that all processes share."""
    begin = time.monotonic_ns()
    event()
    return begin, time.monotonic_ns()


def prefer():
    """Others on the core are not to hold it up."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return "of real time"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        return "the highest of ordinary ones"
    except OSError:
        return "ordinary"


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), 120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ready():
    """Says so. The event that is returned is set when it is time to end."""
    ended = threading.Event()

    def wait():
        sys.stdin.read()
        ended.set()
    threading.Thread(target=wait, daemon=True).start()
    gc.disable()
    print("ready", prefer(), flush=True)
    return ended


def watch_stalls(port):
    connection, clock = connect(port), time.monotonic_ns
    # The key is absent: one line answers, after the store was asked.
    words, sent_ns, took_ns = request("GET", "probe:absent"), array.array("q"), array.array("q")
    ended = ready()
    due = clock()
    while not ended.is_set():
        due = max(due + ASK_EVERY_NS, clock())
        time.sleep(max(due - clock(), 0) / 1e9)
        sent = clock()
        connection.sendall(words)
        answer = b""
        while not answer.endswith(b"\r\n"):
            part = connection.recv(256)
            if not part:
                sys.exit("the connection was closed")
            answer += part
        sent_ns.append(sent)
        took_ns.append(clock() - sent)
        if not answer.startswith(b"$-1"):
            sys.exit(f"answered {answer!r}")
    print(json.dumps({"sent_ns": sent_ns.tolist(), "took_ns": took_ns.tolist()}))


class Looking:
    """One server that is asked for the newest stamp."""

    def __init__(self, port, first):
        self.connection, self.first = connect(port), first
        self.answer, self.seen_ns, self.next_ns, self.asked = b"", [], 0, False

    def look(self):
        self.connection.sendall(request("GET", "probe:stamp"))
        self.asked = True

    def take(self, now):
        """Stamps up to the one that is answered are visible by now: it came after them."""
        part = self.connection.recv(4096)
        self.answer += part
        if not part or self.answer.startswith(b"-"):
            sys.exit(f"answered {self.answer!r}")
        if self.answer.startswith(b"$-1") or self.answer.count(b"\r\n") == 2:
            if not self.answer.startswith(b"$-1"):
                stamps = int(self.answer.split(b"\r\n")[1]) - self.first + 1
                self.seen_ns += [now] * (stamps - len(self.seen_ns))
            self.answer, self.asked, self.next_ns = b"", False, now + LOOK_EVERY_NS


def watch_visible(port, *others):
    """Stamps are due whatever comes of those before, so each that is held up counts."""
    writer, clock = connect(port), time.monotonic_ns
    # Greater than any stamp that another one has left.
    first, looking, due_ns = time.time_ns(), {}, []
    for other in others:
        other = Looking(other, first)
        looking[other.connection.fileno()] = other
    ended = ready()
    due, give_up = clock(), None
    while True:
        now = clock()
        if ended.is_set():
            give_up = give_up or now + LAST_STAMP_S * 1_000_000_000
            if now > give_up or all(len(other.seen_ns) >= len(due_ns) for other in looking.values()):
                break
        elif now >= due:
            writer.sendall(request("SET", "probe:stamp", first + len(due_ns)))
            due_ns.append(due)
            due += STAMP_EVERY_NS
        wake = now + STAMP_EVERY_NS if ended.is_set() else due
        for other in looking.values():
            if not other.asked and len(other.seen_ns) < len(due_ns):
                if now >= other.next_ns:
                    other.look()
                else:
                    wake = min(wake, other.next_ns)
        for file in select.select([writer, *looking], [], [], max(wake - clock(), 0) / 1e9)[0]:
            if file is not writer:
                looking[file].take(clock())
            elif not (told := writer.recv(4096)) or b"-" in told:
                sys.exit(f"a write was answered {told!r}")
    tell_visible(due_ns, looking.values())


def tell_visible(due_ns, looking):
    seen = min(len(other.seen_ns) for other in looking)
    lags = sorted(max(times) - due for due, *times in zip(due_ns, *(other.seen_ns for other in looking)))
    at = {name: lags[min(int(len(lags) * share), len(lags) - 1)] / 1e6 if lags else None
          for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1))}
    print(json.dumps({"stamps": len(due_ns), "unseen": len(due_ns) - seen, "lag_ms": at}))


if __name__ == "__main__":
    {"stalls": watch_stalls, "visible": watch_visible}[sys.argv[1]](*map(int, sys.argv[2:]))
