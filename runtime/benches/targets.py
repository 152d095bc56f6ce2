#!/usr/bin/env python3
"""Measures what a node is meant to reach beside the processor time of an operation, which peers.py measures: tails,
memory, stalls, replication, idle connections, start; next to redis-server, valkey-server and memcached, those that are
installed.

Usage: runtime/benches/targets.py [--binary FILE] [--only ROW,...] [--quick | --tiny] [--peers NAME,...] [--json]

A server has a core of its own, if there are two; `simple-kv bench` and the clients that watch are on the second. Peers
have a third and a fourth one; replication.py says where they are if there is none. Servers take turns within a row.
Told are medians of rounds, and in brackets the least and the most of them; of stalls the longest, and in brackets the
longest that the same client saw while nothing was done. A stall is seen by the next request, and so may have begun a
millisecond before. What takes processor time beside makes all figures doubtful; what the machine's host took is told
below the table. Whether a tail is worse than another's is told by the sign test over the rounds; next to it stands
that of the least that a server could do, floor.c. What servers save goes to the directory for temporary files
(TMPDIR), which should be on a disk.

All of it takes some 20 minutes, 3 GB of memory and 2 GB of disk; --quick, with fewer keys and rounds, 4 minutes.
Prints Markdown when it is done or asked to end; with --json a line for each row, with all rounds. Nothing is asserted.
Exit code 0: measured; 1: a server failed, or refused something, as the table tells; 2: wrong usage.
"""

import argparse
import json
import os
import sys

import lines
import replication
import rows
import stalls
from servers import OURS, machine, node_arguments, prepare, tell

ROWS = {
    "latency": rows.latency,
    "memory": rows.memory,
    "stall-load": stalls.load,
    "stall-expiry": stalls.expiry,
    "stall-delete": stalls.delete,
    "stall-snapshot": stalls.snapshot,
    "fill": replication.fill,
    "replication-cpu": replication.cpu,
    "replication": replication.visible,
    "idle": rows.idle,
    "start": rows.start,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    node_arguments(parser)
    parser.add_argument("--only", default=",".join(ROWS), help="rows, with commas between: " + ", ".join(ROWS))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="sizes", action="store_const", const=lines.QUICK, help="fewer keys and rounds")
    size.add_argument("--tiny", dest="sizes", action="store_const", const=lines.TINY, help="only to see that it works")
    parser.add_argument("--peers", default="redis,valkey,memcached", help="the others, those that are installed")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row, instead of Markdown")
    parser.set_defaults(sizes=lines.FULL)
    args = parser.parse_args()
    args.only, args.peers = args.only.split(","), [name for name in args.peers.split(",") if name]
    if unknown := [name for name in args.only if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if unknown := [name for name in args.peers if name not in ("redis", "valkey", "memcached")]:
        parser.error(f"--peers knows redis, valkey and memcached, and not {unknown[0]!r}")
    return args


def place(found, sizes):
    """The first core for the server, the second for the load; peers have what is left, or share that of the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return lines.Run(found[0].binary, found, sizes, None, None, [None, None])
    third = cores[min(2, len(cores) - 1)]
    fourth = cores[min(3, len(cores) - 1)]
    return lines.Run(found[0].binary, found, sizes, {cores[0]}, {cores[1]}, [{third}, {fourth}])


def report(args, run, load_before, table):
    facts = about(run, load_before, table)
    if args.json:
        print(json.dumps(facts))
    else:
        lines.print_lines(run, table)
        print_about(run, facts)


def about(run, load_before, table):
    """What the figures were measured on, and how far to trust them."""
    placed = "all on one core" if run.server_cores is None else (
        f"server on core {min(run.server_cores)}, load on core {min(run.load_cores)}, peers on "
        + " and ".join(sorted({str(min(cores)) for cores in run.peer_cores})))
    priorities = {one["client_priority"] for line in table for one in line.rounds.values()
                  if isinstance(one, dict) and "client_priority" in one}
    return {
        "machine": machine(),
        "versions": {kind.name: kind.version for kind in run.kinds},
        "placed": placed,
        "watching client's priority": ", ".join(sorted(priorities)) or None,
        "load before": load_before,
        "load after": os.getloadavg()[0],
        "taken by the host": {line.row: round(line.stolen, 4) for line in table},
        "rounds": {"latency": run.sizes.latency[0], "fill": run.sizes.fill[0], "replication-cpu": run.sizes.cpu[0],
                   "idle": run.sizes.idle[0], "start": run.sizes.starts, "all others": 1},
    }


def print_about(run, facts):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    print(f"{versions}. {facts['machine']}; {facts['placed']}.", end=" ")
    if priority := facts["watching client's priority"]:
        print(f"The client that watches for stalls had a priority that is {priority}.", end=" ")
    print("Rounds: " + ", ".join(f"{row} {count}" for row, count in facts["rounds"].items()) + ".", end=" ")
    taken = facts["taken by the host"]
    worst = max(taken, key=taken.get)
    print(f"Beside it: load {facts['load before']:.2f} before the start; the host took {taken[worst]:.1%} of the "
          f"processor time at the worst, in row {worst}.")
    if not run.sizes.whole:
        print("\nIn brackets: with fewer keys or rounds than the targets are of.")


def main():
    args = arguments()
    found, load_before = prepare(args.binary)
    if found is None:
        return 1
    run = place([kind for kind in found if kind.name == OURS or kind.name.lower() in args.peers], args.sizes)
    table, failed = [], False
    try:
        for name in args.only:
            measured, row_failed = lines.measured(name, ROWS[name], run)
            table += measured
            failed |= row_failed
            if args.json:
                lines.print_json(measured)
    finally:
        tell("")
        if table:
            report(args, run, load_before, table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
