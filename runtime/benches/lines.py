"""What the rows of targets.py share: how much is measured, where, and the lines of the table that come of it."""

import json
import math
import statistics
from dataclasses import dataclass, field

from servers import OURS, Failed, bench, fill_words, print_table, spread, stolen


@dataclass(frozen=True)
class Sizes:
    """How much of everything. Whole: the targets are of these numbers, and not of fewer keys."""

    whole: bool
    keys: int  # that are asked for where the number does not matter
    latency: tuple  # rounds, seconds
    memory_keys: int
    load_keys: int
    expiring_keys: int
    large_bytes: int
    deletes: int
    snapshot_keys: int
    fill: tuple  # rounds, keys
    cpu: tuple  # rounds, seconds
    visible_s: float
    flood_keys: int
    idle: tuple  # rounds, connections, seconds
    starts: int
    rest_s: float
    settle_s: float  # until allocators have given back what they do not use


FULL = Sizes(
    whole=True, keys=1_000_000, latency=(31, 1.5), memory_keys=5_000_000, load_keys=10_000_000, expiring_keys=1_000_000,
    large_bytes=100_000_000, deletes=10, snapshot_keys=5_000_000, fill=(2, 5_000_000), cpu=(7, 3), visible_s=10,
    flood_keys=5_000_000, idle=(5, 10_000, 2), starts=20, rest_s=5, settle_s=15)
QUICK = Sizes(
    whole=False, keys=200_000, latency=(5, 1.5), memory_keys=1_000_000, load_keys=2_000_000, expiring_keys=300_000,
    large_bytes=100_000_000, deletes=3, snapshot_keys=1_000_000, fill=(1, 1_000_000), cpu=(3, 1.5), visible_s=4,
    flood_keys=1_000_000, idle=(2, 10_000, 1), starts=20, rest_s=2, settle_s=15)
TINY = Sizes(
    whole=False, keys=1_000, latency=(1, 0.2), memory_keys=20_000, load_keys=20_000, expiring_keys=1_000,
    large_bytes=1_000_000, deletes=1, snapshot_keys=20_000, fill=(1, 20_000), cpu=(1, 0.2), visible_s=0.3,
    flood_keys=20_000, idle=(1, 100, 0.2), starts=2, rest_s=0.2, settle_s=0.2)


@dataclass
class Line:
    """One of the table. `rounds` is what was measured, by server."""

    what: str
    target: str
    cells: dict = field(default_factory=dict)
    against: str = ""
    met: bool | None = None
    remark: str = ""
    rounds: dict = field(default_factory=dict)
    row: str = ""
    stolen: float = 0


@dataclass
class Run:
    """Where and how much is measured. Cores are sets, or none: then all share one."""

    binary: str
    kinds: list
    sizes: Sizes
    server_cores: set | None
    load_cores: set | None
    peer_cores: list

    def kinds_like(self, protocol):
        return [kind for kind in self.kinds if kind.protocol == protocol]

    def in_turn(self, kinds, number):
        """Each round begins with another one."""
        shift = number % len(kinds)
        return kinds[shift:] + kinds[:shift]

    def bench(self, server, *words):
        return bench(self.binary, self.load_cores, server, *words)

    def fill(self, server, keys, value_size=64):
        self.bench(server, *fill_words(keys, value_size))
        if (held := server.keys()) < keys:
            raise Failed(f"{server.name} holds {held} of {keys} keys")

    def quiet_cores(self):
        """For peers while the load is due at a rate, and so never leaves its core to others."""
        return [self.server_cores if cores == self.load_cores else cores for cores in self.peer_cores]

    def save_cores(self):
        """A process that Redis starts to save is to have the choice of all cores that the servers and the load have."""
        if self.server_cores is None:
            return []
        cores = self.server_cores | self.load_cores
        return ["--bgsave_cpulist", ",".join(map(str, sorted(cores)))]


def ratios(by_server, choose=min):
    """Of ours to the best of the others, round by round."""
    others = [rounds for name, rounds in by_server.items() if name != OURS]
    if not others or OURS not in by_server:
        return []
    return [ours / choose(other[number] for other in others) for number, ours in enumerate(by_server[OURS])]


def ratios_of_each(by_server):
    """Of ours to each of the others, round by round."""
    ours = by_server.get(OURS, [])
    return {name: [our / their for our, their in zip(ours, rounds)] for name, rounds in by_server.items() if name != OURS}


def is_no_worse(of_each):
    """Whether ours is no worse than any of the others. None if there is none, or if it was worse in so few rounds more
    than it was better that chance may have done it: the sign test, two standard deviations."""
    def than(rounds):
        worse, better = sum(ratio > 1 for ratio in rounds), sum(ratio < 1 for ratio in rounds)
        return True if median(rounds) <= 1 else False if worse - better > 2 * math.sqrt(worse + better) else None
    verdicts = {than(rounds) for rounds in of_each.values()}
    return False if False in verdicts else True if verdicts == {True} else None


def ratio_told(by_server):
    of_best = ratios(by_server)
    return f"{spread(of_best)} of the best other" if of_best else "nothing to compare with"


def median(values):
    return statistics.median(values)


def measured(name, row, run):
    """The lines of a row, and whether a server failed."""
    stolen_before, all_before = stolen()
    try:
        lines, failed = row(run), False
    except (Failed, OSError) as failure:
        lines, failed = [Line(name, "", remark=f"not measured: {failure}")], True
    stolen_after, all_after = stolen()
    share = (stolen_after - stolen_before) / max(all_after - all_before, 1)
    for line in lines:
        line.row, line.stolen = name, share
    return lines, failed


def print_lines(run, lines):
    names = [kind.name for kind in run.kinds]
    rows = []
    for line in lines:
        verdict = {True: "yes", False: "no", None: "–"}[line.met]
        verdict = verdict if run.sizes.whole or line.met is None else f"({verdict})"
        cells = [line.cells.get(name, "") for name in names]
        rows.append([line.what, *cells, line.against, line.target, f"{verdict} {line.remark}".strip()])
    print_table(["", *names, "ratio", "target", "met"], rows)


def print_json(lines):
    for line in lines:
        print(json.dumps({
            "row": line.row, "what": line.what, "target": line.target, "met": line.met, "told": line.cells,
            "ratio": line.against, "remark": line.remark, "stolen": line.stolen, "rounds": line.rounds,
        }), flush=True)
