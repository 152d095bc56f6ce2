#!/usr/bin/env python3
"""Measures what crossing costs between threads that own slots: a server that does as little as possible, on one thread
and on two with keys that cross between them (crossing.c).

Usage: runtime/benches/threads.py [--binary FILE] [--rounds N] [--seconds S] [--depths 1,16,128] [--keys N]

Told is the processor time of the server for an operation, of all of its threads together, and how many times as much
two cores of that server would do as one, were they always busy: twice the time with one thread for that with two. Half
of all keys are another thread's than the connection's. The servers share all cores with the load, by which threads
sleep and are woken as on a machine that is not at its limit. Needs a C compiler. Exit code 0: measured; 1: a server
failed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import Failed, Kind, Server, bench, machine, node_arguments, prepare, print_table, spread, tell

COUNTS = (1, 2)
VALUE_BYTES = 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    node_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--depths", default="1,16,128", help="requests under way on a connection")
    parser.add_argument("--keys", type=int, default=1_000_000)
    return parser.parse_args()


def cpu_of(args, server, operation, depth):
    before = server.cpu_us()
    told = bench(args.binary, None, server, "--ops", operation, "--pipeline", depth, "--keys", args.keys,
                 "--value-size", VALUE_BYTES, "--connections", 50, "--seconds", args.seconds, "--warm-up", 0, "--no-fill")
    return (server.cpu_us() - before) / told["succeeded"]


def main():
    args = arguments()
    found, load_before = prepare(args.binary)
    if found is None:
        return 1
    cells = [(operation, int(depth)) for depth in args.depths.split(",") for operation in ("set", "get")]
    measured = {cell: {count: [] for count in COUNTS} for cell in cells}
    servers = {}
    try:
        with tempfile.TemporaryDirectory() as directory:
            binary = Path(directory) / "crossing"
            source = Path(__file__).with_name("crossing.c")
            subprocess.run(["cc", "-O2", "-pthread", "-o", binary, source], check=True)
            for count in COUNTS:
                words = [str(binary), "{port}", str(args.keys), str(VALUE_BYTES), str(count)]
                servers[count] = Server(Kind(f"{count} threads", "", str(binary), "resp"), words, None)
        for server in servers.values():
            bench(args.binary, None, server, "--ops", "get", "--requests", 1, "--keys", args.keys, "--value-size",
                  VALUE_BYTES)
        for number in range(args.rounds):
            for operation, depth in cells:
                for count in COUNTS if number % 2 else reversed(COUNTS):
                    tell(f"round {number + 1} of {args.rounds}: {operation}, {depth} deep, {count} threads")
                    measured[operation, depth][count].append(cpu_of(args, servers[count], operation, depth))
        tell("")
    except (Failed, OSError, subprocess.CalledProcessError) as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    finally:
        for server in servers.values():
            server.end()
    lines = []
    for (operation, depth), seen in measured.items():
        gains = [2 * one / two for one, two in zip(seen[1], seen[2])]
        lines.append([f"{operation.upper()}, {depth} deep", spread(seen[1]), spread(seen[2]), spread(gains)])
    print_table(["", "one thread, µs", "two threads, µs", "two cores do so many times as much"], lines)
    worst = min(statistics.median(2 * one / two for one, two in zip(seen[1], seen[2])) for seen in measured.values())
    print(f"At the worst {worst:.2f}. {machine()}; load {load_before:.2f} before the start.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
