#!/usr/bin/env python3
"""Compares a node with redis-server, valkey-server and memcached, those that are installed, and with the least that a
server could do: processor time of the server for each operation, and operations a second.

Usage: runtime/benches/peers.py [--binary FILE] [--rounds N] [--seconds S] [--depths 1,16,128] [--keys N]
                                [--value-size BYTES] [--connections N] [--svg FILE] [--raw FILE]

All servers run side by side on one core, each with all keys; `simple-kv bench` asks from another core, if there is
one. A round measures every server at every operation and depth, one right after the other, and begins with another
server than the round before, so that what the machine does meanwhile meets all alike. Told are medians over the rounds,
and medians of the ratios within each round: machines differ, and so does one from minute to minute, but servers that
were asked within the same seconds can be compared. What takes processor time beside makes all figures doubtful: the
table says how much of it there was. The least is floor.c, a loop that hashes, finds and copies, and parses nothing: one
request after the other, and once more with all memory of a read asked for ahead. It is there if there is a C compiler.

Prints Markdown, and draws the processor time into an SVG file. Exit code 0: measured; 1: a server failed, or refused
something.
"""

import argparse
import json
import os
import statistics
import sys
from html import escape
from pathlib import Path

from servers import (LOOP, OURS, Failed, bench, machine, node_arguments, prepare, print_table, spread, start_loops,
                     stolen, tell)

# Above this share of its core the load may be the limit, and not the server.
LOAD_BUSY = 0.95
# How each is called, and what it is started with besides.
LOOPS = {LOOP: [], f"{LOOP}, ahead": ["ahead"]}


def ask(args, cores, server, protocol, *more):
    words = ["--keys", args.keys, "--value-size", args.value_size, "--connections", args.connections]
    return bench(args.binary, cores, server, *words, *more, protocol=protocol)


def measure(args, cores, server, protocol, operation, depth):
    """One server, once."""
    (stolen_before, all_before), cpu_before = stolen(), server.cpu_us()
    told = ask(args, cores, server, protocol, "--ops", operation, "--pipeline", depth, "--seconds", args.seconds,
               "--warm-up", 0, "--no-fill")
    cpu_us, (stolen_after, all_after) = server.cpu_us() - cpu_before, stolen()
    if told["absent"]:
        raise Failed(f"{server.name}: {told['absent']} keys were absent")
    return {
        "cpu_us": cpu_us / told["succeeded"],
        "per_second": told["per_second"],
        "p99_us": told["latency_us"]["p99"],
        "load_cpu": told["load_cpu"],
        "stolen": (stolen_after - stolen_before) / max(all_after - all_before, 1),
    }


def start(args, rows, found, cores):
    """Adds all servers, and in which protocol each is asked: lines of a table."""
    for kind in found:
        server = kind.start(cores)
        rows.append((kind.name, server, kind.protocol))
        if kind.is_ours:
            rows.append((f"{OURS}, telnet", server, "telnet"))
    for server in start_loops(LOOPS, args.keys, args.value_size, cores):
        rows += [(server.name, server, "resp"), (f"{server.name}, telnet", server, "telnet")]


def end(rows):
    for server in {id(server): server for _, server, _ in rows}.values():
        server.end()


def compare(args, rows, load_cores):
    """By operation and depth, by row: what was measured, round by round."""
    for _, server, protocol in {id(row[1]): row for row in rows}.values():
        tell(f"filling {server.name}")
        # One request after each key is set.
        ask(args, load_cores, server, protocol, "--ops", "get", "--requests", 1)
    cells = [(operation, depth) for depth in args.depths for operation in ("set", "get")]
    measured = {cell: {name: [] for name, _, _ in rows} for cell in cells}
    for number in range(args.rounds):
        shift = number % len(rows)
        for operation, depth in cells:
            for name, server, protocol in rows[shift:] + rows[:shift]:
                tell(f"round {number + 1} of {args.rounds}: {operation}, {depth} deep, {name}")
                one = measure(args, load_cores, server, protocol, operation, depth)
                measured[operation, depth][name].append(one)
                if args.raw:
                    with open(args.raw, "a", encoding="utf-8") as raw:
                        line = {"round": number, "server": name, "operation": operation, "depth": depth, **one}
                        print(json.dumps(line), file=raw)
    return measured


def median(rounds, what):
    return statistics.median(one[what] for one in rounds)


def heads(measured):
    return [f"{operation.upper()}, {depth} deep" for operation, depth in measured]


def print_report(args, rows, measured, cores, load_before):
    names, peers = [row[0] for row in rows], [row[0] for row in rows if row[1].name not in (OURS, *LOOPS)]
    ours = [row[0] for row in rows if row[1].name == OURS]
    versions = {server.name: server.version for _, server, _ in rows if server.name not in LOOPS}
    print(f"{args.connections} connections, {args.keys:,} keys of 16 bytes, values of {args.value_size}, {args.rounds} "
          f"rounds of {args.seconds:g} s; " + ", ".join(f"{name} {version}" for name, version in versions.items())
          + ".\n")
    print("Processor time of the server for an operation in µs, and in brackets thousand operations a second\n")
    limited = False
    lines = []
    for name in names:
        line = [name]
        for cell in measured:
            rounds = measured[cell][name]
            star = "*" if median(rounds, "load_cpu") > LOAD_BUSY else ""
            limited |= bool(star)
            line.append(f"{median(rounds, 'cpu_us'):.2f} ({median(rounds, 'per_second') / 1e3:,.0f}{star})")
        lines.append(line)
    print_table(["", *heads(measured)], lines)
    if limited:
        print("\\* the load had no time left on its core: the server may answer more.\n")
    print("Processor time of Simple-KV for one of the other's, the median of the rounds, and from the least to the "
          "most of them\n")
    lines = []
    for one in ours:
        others = {peer: [peer] for peer in peers} | ({"the best of them": peers} if len(peers) > 1 else {})
        loops = [one.replace(OURS, loop) for loop in LOOPS]
        others |= {loop: [loop] for loop in loops if loop in names}
        for called, of in others.items():
            ratios = [[mine["cpu_us"] / min(measured[cell][name][number]["cpu_us"] for name in of)
                       for number, mine in enumerate(measured[cell][one])] for cell in measured]
            lines.append([f"{one} / {called}", *map(spread, ratios)])
    print_table(["", *heads(measured)], lines)
    shares = [one["stolen"] for cell in measured.values() for rounds in cell.values() for one in rounds]
    placed = (f"server on core {min(cores[0])}, load on core {min(cores[1])}" if cores[0]
              else "server and load on one core, which they share")
    print(f"{machine()}; {placed}. Beside it: load "
          f"{load_before:.2f} before the start, {statistics.median(shares):.1%} of the processor time taken by the host "
          f"at the median, {max(shares):.1%} at the worst.")


STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f } .head { font-weight: 600 } .note { fill: #57606a; font-size: 12px }
.ours { fill: #1a7f64 } .peer { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #9da7b1 } .ours { fill: #3fb993 } .peer { fill: #6e7781 }
}"""
PANEL_WIDTH, NAME_WIDTH, BAR_HEIGHT, VALUE_WIDTH, MARGIN, TOP = 360, 148, 20, 44, 12, 70


def draw(args, rows, measured):
    """Processor time as bars: a panel for each operation and depth, each with a scale of its own."""
    names = [name for name, _, _ in rows]
    versions = dict.fromkeys(f"{server.name} {server.version}".strip() for _, server, _ in rows)
    panel_height = 30 + BAR_HEIGHT * len(names) + 14
    columns, cells = 2, list(measured)
    width = MARGIN * 2 + PANEL_WIDTH * columns
    height = TOP + panel_height * ((len(cells) + columns - 1) // columns) + 4
    shapes = [f'<text x="{MARGIN}" y="22" class="head">Processor time of the server for an operation, in µs</text>',
              f'<text x="{MARGIN}" y="40" class="note">less is better, each panel on a scale of its own; '
              f'{args.connections} connections, medians of {args.rounds} rounds</text>',
              f'<text x="{MARGIN}" y="57" class="note">{escape(", ".join(versions))}; {args.keys:,} keys of 16 bytes, values '
              f'of {args.value_size}</text>']
    for number, (operation, depth) in enumerate(cells):
        left, top = MARGIN + PANEL_WIDTH * (number % columns), TOP + panel_height * (number // columns)
        values = [median(measured[operation, depth][name], "cpu_us") for name in names]
        shapes.append(f'<text x="{left}" y="{top + 18}" class="head">{operation.upper()}, {depth} deep</text>')
        for at, (name, value) in enumerate(zip(names, values)):
            y = top + 28 + BAR_HEIGHT * at
            length = max(value / max(values) * (PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH - MARGIN), 1)
            kind = "ours" if name.startswith(OURS) else "peer"
            shapes.append(f'<text x="{left}" y="{y + 13}">{escape(name)}</text>'
                          f'<rect x="{left + NAME_WIDTH}" y="{y + 2}" width="{length:.1f}" height="{BAR_HEIGHT - 6}" rx="2"'
                          f' class="{kind}"/>'
                          f'<text x="{left + NAME_WIDTH + length + 6:.1f}" y="{y + 13}">{value:.2f}</text>')
    body = "\n".join(shapes)
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'role="img" aria-label="Processor time of servers for an operation">\n<style>{STYLE}</style>\n{body}\n</svg>\n')
    Path(args.svg).parent.mkdir(parents=True, exist_ok=True)
    Path(args.svg).write_text(svg, encoding="utf-8")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = node_arguments(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--depths", default="1,16,128", help="requests under way on a connection")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-size", type=int, default=64)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--svg", default=str(target / "peers.svg"), help="where the chart goes")
    parser.add_argument("--raw", help="a file to which each measurement is added, a line of JSON")
    args = parser.parse_args()
    try:
        args.depths = [int(depth) for depth in args.depths.split(",")]
    except ValueError:
        parser.error("--depths is numbers with commas between, as in 1,16,128")
    if args.rounds < 1:
        parser.error("--rounds is at least 1")
    return args


def main():
    args = arguments()
    found, load_before = prepare(args.binary)
    if found is None:
        return 1
    if len(found) == 1:
        print("neither redis-server, valkey-server nor memcached is installed", file=sys.stderr)
    args.binary = found[0].binary
    cores = sorted(os.sched_getaffinity(0))
    cores = ({cores[0]}, {cores[1]}) if len(cores) > 1 else (None, None)
    rows = []
    try:
        start(args, rows, found, cores[0])
        measured = compare(args, rows, cores[1])
        tell("")
        print_report(args, rows, measured, cores, load_before)
        draw(args, rows, measured)
        print(f"the chart is in {args.svg}", file=sys.stderr)
    except Failed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    finally:
        end(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
