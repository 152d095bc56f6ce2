"""Rows of targets.py for several nodes, or a primary and its replicas. Peers have a core of their own if there are
enough; of two they are on that of the load, or, where the load never rests, on that of the writer.
"""

import contextlib
import json
import time
import urllib.error
import urllib.request

import stalls
from lines import Line, median, ratio_told, ratios
from probes import Probe, Stalls, span
from servers import OURS, Client, Failed, Refused, fill_words, spread, tell

WRITES_A_SECOND = 50_000
CONNECTIONS, DEPTH = 50, 16
FILL_TARGET_S, FILL_TARGET_KEYS = 5, 5_000_000
VISIBLE_TARGET_MS, LAG_TARGET_MS = 5, 1_000
PATIENCE_S = 180


def arrived(client, count):
    """Waits until others hold all that was written by now."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        client.ask("SET", "probe:mark", time.monotonic_ns())
        if client.ask("WAIT", count, 5_000) >= count:
            return
    raise Failed(f"{client.server.name}: {count} others do not hold what was written after {PATIENCE_S} s")


def cluster(run, kind, peer_cores, running):
    """One that is written to, and those that follow it, linked."""
    # Without a delay, which Redis has to serve several replicas by one copy.
    more = [] if kind.is_ours else ["--repl-diskless-sync-delay", "0"]
    first = running.enter_context(kind.start(run.server_cores, more=more))
    others = [running.enter_context(kind.start(cores, following=first, more=more)) for cores in peer_cores]
    with Client(first) as client:
        arrived(client, len(others))
    return [first, *others]


def cpu(run):
    rounds, seconds = run.sizes.cpu
    kinds = run.kinds_like("resp")
    line = Line(f"CPU per SET in µs, {CONNECTIONS} connections, {DEPTH} deep, of writer plus one peer", "0.45 of Redis")
    line.rounds = {kind.name: [] for kind in kinds}
    for kind in kinds:
        tell(f"CPU of a replicated write: {kind.name}")
    with contextlib.ExitStack() as running:
        pairs = [cluster(run, kind, run.peer_cores[:1], running) for kind in kinds]
        for writer, _ in pairs:
            run.fill(writer, run.sizes.keys)
        for number in range(rounds):
            for pair in run.in_turn(pairs, number):
                tell(f"CPU of a replicated write: round {number + 1} of {rounds}, {pair[0].name}")
                line.rounds[pair[0].name].append(cpu_of_pair(run, pair, seconds))
    for name, seen in line.rounds.items():
        parts = [median([one[part] for one in seen]) for part in ("writer_us", "peer_us")]
        line.cells[name] = f"{spread([sum(one.values()) for one in seen])}: {parts[0]:.2f} + {parts[1]:.2f}"
    sums = {name: [sum(one.values()) for one in seen] for name, seen in line.rounds.items()}
    line.against = ratio_told(sums)
    of_redis = ratios({name: seen for name, seen in sums.items() if name in (OURS, "Redis")})
    line.met = median(of_redis) <= 0.45 if of_redis else None
    return [line]


def cpu_of_pair(run, pair, seconds):
    with Client(pair[0]) as client:
        arrived(client, 1)
        before = [server.cpu_us() for server in pair]
        done = run.bench(pair[0], "--ops", "set", "--pipeline", DEPTH, "--connections", CONNECTIONS, "--keys",
                         run.sizes.keys, "--seconds", seconds, "--warm-up", 0, "--no-fill")["succeeded"]
        arrived(client, 1)
        writer_us, peer_us = ((server.cpu_us() - was) / done for server, was in zip(pair, before))
    if (held := [server.keys() for server in pair])[0] != held[1]:
        raise Failed(f"{pair[0].name}: writer and peer hold {held} keys")
    return {"writer_us": writer_us, "peer_us": peer_us}


def fill(run):
    """How long a new node takes, and what clients of the one that fills it see."""
    rounds, keys = run.sizes.fill
    limit = FILL_TARGET_S * keys / FILL_TARGET_KEYS
    kinds = run.kinds_like("resp")
    line = Line(f"filling a new node with {keys:,} keys in s, from its start to readiness", f"{limit:g} s")
    line.rounds = {kind.name: [] for kind in kinds}
    seen = {kind.name: [] for kind in kinds}
    for number in range(rounds):
        for kind in run.in_turn(kinds, number):
            tell(f"filling a new node: round {number + 1} of {rounds}, {kind.name}")
            seconds, stall = fill_once(run, kind, keys)
            line.rounds[kind.name].append(seconds)
            seen[kind.name].append(stall)
    line.cells = {name: spread(times) for name, times in line.rounds.items()}
    line.against = ratio_told(line.rounds)
    line.met = median(line.rounds[OURS]) <= limit
    stall_line = Line(f"longest stall in ms while a new peer is filled with {keys:,} keys", f"{stalls.TARGET_MS} ms")
    stall_line.rounds = {name: longest(all_seen) for name, all_seen in seen.items()}
    return [line, stalls.judged(stall_line)]


def longest(seen):
    """Of several rounds as if they were one."""
    summed = ("over_target", "asked", "server_waited_ms")
    return {**{what: max(one[what] for one in seen) for what in ("longest_ms", "idle_ms", "client_priority")},
            **{what: sum(one[what] or 0 for one in seen) for what in summed}, "rounds": seen}


def fill_once(run, kind, keys):
    more = [] if kind.is_ours else ["--repl-diskless-sync-delay", "0", *run.save_cores()]
    with contextlib.ExitStack() as running:
        donor = running.enter_context(kind.start(run.server_cores, more=more))
        run.fill(donor, keys)
        probe = running.enter_context(Stalls(run.load_cores, donor))
        idle = span(lambda: time.sleep(run.sizes.rest_s))

        def filling():
            new = running.enter_context(kind.start(run.peer_cores[0], following=donor, more=more))
            with Client(new) as client:
                stalls.until(lambda: is_filled(client, keys), f"{kind.name} has filled a new one", 0.005)
        busy = span(filling)
        probe.end()
        return (busy[1] - busy[0]) / 1e9, stalls.told(probe, [idle], [busy])


def is_filled(client, keys):
    try:
        if client.ask("DBSIZE") < keys:
            return False
        if not client.server.kind.is_ours:
            return "master_link_status:up" in client.ask("INFO", "replication")
    except Refused:
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{client.server.port}/readyz", timeout=20) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def visible(run):
    """When writes to one of three can be read on both others."""
    rate_line = Line(f"until a write is visible on both others in ms, p50 / p99, at {WRITES_A_SECOND:,} writes/s",
                     f"p99 {VISIBLE_TARGET_MS} ms")
    keys = run.sizes.flood_keys
    flood_line = Line(f"{keys:,} writes as fast as one takes them: lost, and the longest lag of others in ms",
                      f"0, {LAG_TARGET_MS:,} ms")
    for kind in run.kinds_like("resp"):
        tell(f"replication: {kind.name}")
        with contextlib.ExitStack() as running:
            three = cluster(run, kind, run.quiet_cores(), running)
            rate_line.rounds[kind.name] = at_rate(run, three)
            flood_line.rounds[kind.name] = flooded(run, three, keys)
    for name, seen in rate_line.rounds.items():
        lag = seen["lag_ms"]
        rate_line.cells[name] = f"{lag['p50']:.2f} / {lag['p99']:.2f}"
        if seen["per_second"] < 0.99 * WRITES_A_SECOND:
            rate_line.cells[name] += f" ({seen['per_second']:,.0f} writes/s were taken)"
    for name, seen in flood_line.rounds.items():
        apart = "" if seen["equal"] else ", not the same data"
        speed = f"{seen['per_second']:,.0f} writes/s"
        flood_line.cells[name] = f"{seen['lost']}{apart}, {seen['lag_ms']['max']:.0f} ({speed})"
    tails = {name: [seen["lag_ms"]["p99"]] for name, seen in rate_line.rounds.items()}
    rate_line.against = f"p99: {ratio_told(tails)}"
    seen = rate_line.rounds[OURS]
    rate_line.met = seen["lag_ms"]["p99"] < VISIBLE_TARGET_MS and seen["per_second"] > 0.99 * WRITES_A_SECOND
    lags = {name: [seen["lag_ms"]["max"]] for name, seen in flood_line.rounds.items()}
    flood_line.against = f"lag: {ratio_told(lags)}"
    seen = flood_line.rounds[OURS]
    flood_line.met = seen["equal"] and seen["lost"] == 0 and seen["lag_ms"]["max"] <= LAG_TARGET_MS
    return [rate_line, flood_line]


def at_rate(run, three):
    with Probe("visible", run.load_cores, *three) as probe:
        told = run.bench(three[0], "--ops", "set", "--rate", WRITES_A_SECOND, "--pipeline", DEPTH, "--connections",
                         CONNECTIONS, "--keys", run.sizes.keys, "--seconds", run.sizes.visible_s, "--warm-up", 0,
                         "--no-fill")
        return checked(three, {**probe.end(), "per_second": told["per_second"]})


def flooded(run, three, keys):
    """Each write is of a key of its own, and few were there before: the number of keys tells what is lost."""
    with Probe("visible", run.load_cores, *three) as probe:
        began = time.monotonic()
        run.bench(three[0], *fill_words(keys, 64))
        took = time.monotonic() - began
        seen = probe.end()
    with Client(three[0]) as client:
        arrived(client, 2)
    # Besides the keys there are a stamp and a mark.
    held = [server.keys() for server in three]
    return checked(three, {**seen, "per_second": keys / took, "held": held, "lost": keys + 2 - min(held),
                           "equal": max(held) == min(held) and same_data(three)})


def checked(three, seen):
    if not seen["stamps"] or seen["unseen"]:
        raise Failed(f"{three[0].name}: of {seen['stamps']} stamps {seen['unseen']} were never seen on both others")
    return seen


def same_data(servers):
    """By digests of the same moment. Others take minutes for one of so many keys: their number has to do."""
    if not servers[0].kind.is_ours:
        return True
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(Client(server)) for server in servers]
        while time.monotonic() < deadline:
            stats = [json.loads(client.ask("STATS")) for client in clients]
            if len({one["digest_at"] for one in stats}) == 1:
                return len({one["digest"] for one in stats}) == 1
    raise Failed("the nodes never told their digests of the same moment")
