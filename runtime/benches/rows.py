"""Rows of targets.py that need one server at a time: latency, memory, idle connections, start."""

import contextlib
import random
import socket
import time

from lines import Line, is_no_worse, median, ratio_told, ratios_of_each
from servers import LOOP, OURS, PING, Failed, fill_words, spread, start_loops, tell

RATE = 20_000
BUSY = 50
# What a machine does now and then, as often as rounds come, is not to befall the same server each time.
APART_S = 0.5
# A server of a time is measured again and again: what differs by less is no growth.
GROWTH_MAX = 1.05


def latency(run):
    rounds, seconds = run.sizes.latency
    with contextlib.ExitStack() as running:
        servers = [running.enter_context(kind.start(run.server_cores)) for kind in run.kinds]
        for server in servers:
            run.fill(server, run.sizes.keys)
        # The least that a server could do sees the pauses of the machine, too. It takes what is one request deep.
        for server in start_loops({LOOP: []}, run.sizes.keys, 64, run.server_cores):
            servers.append(running.enter_context(server))
            run.bench(server, *fill_words(run.sizes.keys, 64))
        seen = {server.name: [] for server in servers}
        for number in range(rounds):
            for server in run.in_turn(servers, number):
                tell(f"latency: round {number + 1} of {rounds}, {server.name}")
                time.sleep(random.uniform(0, APART_S))
                told = run.bench(server, "--ops", "mixed", "--reads", 50, "--rate", RATE, "--keys", run.sizes.keys,
                                 "--seconds", seconds, "--warm-up", min(seconds, 1), "--no-fill")
                seen[server.name].append(told)
    line = Line(f"p50 / p99 / p99.9 in µs at {RATE:,} op/s, half GET, half SET, open loop",
                "p99.9 no worse than either", rounds=seen)
    for name, all_told in seen.items():
        at = [spread([told["latency_us"][point] for told in all_told], "{:.0f}") for point in ("p50", "p99", "p99.9")]
        short = " / ".join(at)
        slow = median([told["per_second"] for told in all_told])
        line.cells[name] = short if slow > 0.99 * RATE else f"{short} ({slow:,.0f} op/s were answered)"
    of_each = ratios_of_each({name: [told["latency_us"]["p99.9"] for told in all_told]
                              for name, all_told in seen.items()})
    others = {name: ratios for name, ratios in of_each.items() if name != LOOP}
    line.met = is_no_worse(others)
    line.remark = "not told apart" if others and line.met is None else ""
    told = ", ".join(f"{spread(ratios)} of {name}" for name, ratios in of_each.items())
    line.against = f"p99.9: {told}" if told else "nothing to compare with"
    if LOOP in seen:
        line.against += f", which has {line.cells[LOOP]}"
    return [line]


def memory(run):
    lines = []
    for value_size, limit in ((64, 115), (8, 60)):
        keys = run.sizes.memory_keys
        line = Line(f"memory per key in bytes, {keys:,} keys of 16 + {value_size}", f"{limit} bytes")
        for kind in run.kinds:
            tell(f"memory: {keys:,} keys of 16 + {value_size}, {kind.name}")
            with kind.start(run.server_cores) as server:
                time.sleep(run.sizes.rest_s / 2)
                before = server.resident_bytes()
                run.fill(server, keys, value_size)
                time.sleep(run.sizes.settle_s)
                line.rounds[kind.name] = [(server.resident_bytes() - before) / keys]
            line.cells[kind.name] = f"{line.rounds[kind.name][0]:.1f}"
        line.against = ratio_told(line.rounds)
        line.met = line.rounds[OURS][0] <= limit
        lines.append(line)
    return lines


def idle(run):
    """Memory for idle connections, and what busy ones cost with and without them."""
    rounds, count, seconds = run.sizes.idle
    count = min(count, descriptors() - 300)
    memory_line = Line(f"memory for each of {count:,} idle connections in bytes, the kernel's aside", "512 bytes")
    cpu_line = Line(f"CPU per GET in µs of {BUSY} connections, without and with {count:,} idle ones", "does not grow")
    growth = {}
    for kind in run.kinds:
        with kind.start(run.server_cores, clients=count + 200) as server:
            run.fill(server, run.sizes.keys)
            alone, beside = [], []
            for number in range(rounds):
                tell(f"idle connections: round {number + 1} of {rounds}, {kind.name}")
                alone.append(cpu_of_get(run, server, seconds))
                if number == 0:
                    # What was freed before would be used again, and is given back meanwhile.
                    time.sleep(run.sizes.settle_s)
                before = server.resident_bytes()
                with contextlib.ExitStack() as opened:
                    open_idle(server, count, opened)
                    if number == 0:
                        # What was freed since is used again later on.
                        time.sleep(run.sizes.settle_s)
                        memory_line.rounds[kind.name] = [(server.resident_bytes() - before) / count]
                    beside.append(cpu_of_get(run, server, seconds))
        growth[kind.name] = [with_idle / without for without, with_idle in zip(alone, beside)]
        cpu_line.rounds[kind.name] = {"without": alone, "with": beside}
        cpu_line.cells[kind.name] = f"{spread(alone)}, {spread(beside)}"
        memory_line.cells[kind.name] = f"{memory_line.rounds[kind.name][0]:.0f}"
    memory_line.against = ratio_told(memory_line.rounds)
    memory_line.met = memory_line.rounds[OURS][0] <= 512
    if count < run.sizes.idle[1]:
        memory_line.remark = f"only {count:,}: no more files may be open here"
    cpu_line.against = "with / without: " + ", ".join(f"{name} {spread(grown)}" for name, grown in growth.items())
    cpu_line.met = median(growth[OURS]) <= GROWTH_MAX
    return [memory_line, cpu_line]


def descriptors():
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def open_idle(server, count, opened):
    """Each has been answered once."""
    for _ in range(count):
        connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
        connection.sendall(PING[server.kind.protocol])
        if not (answer := connection.recv(256)).startswith((b"+PONG", b"VERSION")):
            raise Failed(f"{server.name} answers one of {count} connections with {answer!r}")


def cpu_of_get(run, server, seconds):
    before = server.cpu_us()
    told = run.bench(server, "--ops", "get", "--keys", run.sizes.keys, "--connections", BUSY, "--seconds", seconds,
                     "--warm-up", 0, "--no-fill")
    return (server.cpu_us() - before) / told["succeeded"]


def start(run):
    line = Line(f"from before its process is made to the first answer in ms, empty, {run.sizes.starts} times", "20 ms")
    line.rounds = {kind.name: [] for kind in run.kinds}
    for number in range(run.sizes.starts):
        tell(f"start: {number + 1} of {run.sizes.starts}")
        for kind in run.in_turn(run.kinds, number):
            began = time.monotonic()
            with kind.start(run.server_cores, wait=False) as server, server.wait(0.0002) as connection:
                connection.sendall(PING[kind.protocol])
                answered = connection.recv(256).endswith(b"\r\n")
                line.rounds[kind.name].append((time.monotonic() - began) * 1e3)
                if not answered:
                    raise Failed(f"{kind.name} does not answer")
    line.cells = {name: spread(times, "{:.1f}") for name, times in line.rounds.items()}
    line.against = ratio_told(line.rounds)
    line.met = median(line.rounds[OURS]) < 20
    return [line]
