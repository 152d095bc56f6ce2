#!/usr/bin/env python3
"""Puts twemproxy in front of two clusters of two nodes each, as runtime/packaging/SHARDING.md says, and checks that.

Usage: .ci/twemproxy.py BINARY

Site A has a node of either cluster and a proxy that asks these two, site B likewise. The proxies' configuration is the
one in the manual, with other addresses. Exit code 0: passed; 1: failed; 77: there is no twemproxy (Debian: nutcracker).
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

MANUAL = pathlib.Path(__file__).resolve().parent.parent / "runtime/packaging/SHARDING.md"
PASSWORD = "correct-horse-battery-staple"
PATIENCE_S = 60
KEYS = 4_000
SHARDS = (1, 2)


def check(what, is_so, seen=None):
    if not is_so:
        sys.exit(f"FAILED: {what}" + ("" if seen is None else f": {seen!r}"))
    print(f"ok: {what}", flush=True)


def wait_for(what, is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {what}: not within {PATIENCE_S} s")
        time.sleep(0.02)
    print(f"ok: {what}", flush=True)


class Refused(Exception):
    """An error in place of a reply."""


class Gone(Exception):
    """The other side has ended the connection."""


class Client:
    """A connection that speaks version 2 of the Redis protocol."""

    def __init__(self, port, password=PASSWORD):
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.reader = self.stream.makefile("rb")
        if password is not None:
            self.ask("AUTH", password)

    def ask(self, *words):
        reply = self.ask_all([words])[0]
        if isinstance(reply, Refused):
            raise reply
        return reply

    def ask_all(self, commands):
        """Sends all of them before any reply is read; errors are among the replies."""
        request = b"".join(encoded(words) for words in commands)
        try:
            self.stream.sendall(request)
            return [self.reply() for _ in commands]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise Gone
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if rest == b"-1":
            return None
        return self.reader.read(int(rest) + 2)[:-2].decode()


def encoded(words):
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, password=PASSWORD):
    try:
        return Client(port, password).ask("PING") == "PONG"
    except (OSError, Gone, Refused):
        return False


class Node:
    """A node of the cluster `shard-N` on one of the sites."""

    def __init__(self, binary, site, shard, directory):
        self.name = f"{site}{shard}"
        self.command = [binary, "--name", self.name, "--cluster", f"shard-{shard}"]
        self.command += ["--password-file", str(directory / "password")]
        self.command += ["--cluster-secret-file", str(directory / "secret")]
        self.port = free_port()
        self.process = None

    def start(self, peer):
        command = [*self.command, str(self.port), f"127.0.0.1:{peer.port}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"{self.name} is up", lambda: answers(self.port))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def count(self):
        return Client(self.port).ask("DBSIZE")


class Proxy:
    """twemproxy on one of the sites, by the configuration of the manual."""

    def __init__(self, site, nodes, directory):
        self.port = free_port()
        text = re.search(r"```yaml\n(kv:\n.*?)```", MANUAL.read_text(), re.S)[1]
        text = text.replace("127.0.0.1:6379", f"127.0.0.1:{self.port}").replace("PASSWORD", PASSWORD)
        for shard in SHARDS:
            text, count = re.subn(rf"10\.0\.1\.{shard}:8080", f"127.0.0.1:{nodes[site, shard].port}", text)
            assert count == 1, "the manual names each node once"
        conf = directory / f"{site}.yml"
        conf.write_text(text)
        tested = subprocess.run(["nutcracker", "--test-conf", "--conf-file", conf], capture_output=True, text=True)
        check(f"twemproxy takes the configuration of site {site}", tested.returncode == 0, tested.stderr)
        command = ["nutcracker", "--conf-file", conf, "--stats-addr", "127.0.0.1", "--stats-port", str(free_port())]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"the proxy of site {site} is up", lambda: answers(self.port))


def written(keys):
    return {f"key:{number}": f"value {number}" for number in keys}


def put(port, values):
    replies = Client(port).ask_all([("SET", key, value) for key, value in values.items()])
    return [key for key, reply in zip(values, replies) if reply != "OK"]


def differing(port, values):
    """The keys of which a proxy, or a node, answers something else."""
    replies = Client(port).ask_all([("GET", key) for key in values])
    return [key for key, reply in zip(values, replies) if reply != values[key]]


def passwords(proxies):
    for password, told in [(None, "NOAUTH"), ("wrong", "ERR invalid password")]:
        try:
            said = Client(proxies["a"].port, password).ask("GET", "key:0")
        except Refused as refused:
            said = str(refused)
        check(f"with password {password} the proxy says {told}", str(said).startswith(told), said)


def several_keys(nodes, proxies):
    client, other = Client(proxies["a"].port), Client(nodes["a", 1].port)
    pairs = {f"many:{number}": str(number) for number in range(100)}
    check("MSET over both shards", client.ask("MSET", *[word for pair in pairs.items() for word in pair]) == "OK")
    shares = [Client(nodes["a", shard].port).ask("EXISTS", *pairs) for shard in SHARDS]
    check("its keys are spread", min(shares) > 0 and sum(shares) == len(pairs), shares)
    check("MGET over both shards, in order", client.ask("MGET", *pairs, "nobody") == [*pairs.values(), None])
    check("TOUCH over both shards", client.ask("TOUCH", *pairs, "nobody") == len(pairs))
    half = list(pairs)[:50]
    check("DEL over both shards", client.ask("DEL", *half, "nobody") == 50)
    check("UNLINK over both shards", client.ask("UNLINK", *list(pairs)[50:]) == 50)
    check("they are gone", client.ask("MGET", *pairs) == [None] * 100)
    places = set()
    for user in range(32):
        client.ask("SADD", f"{{user:{user}}}:friends", "Ann", "Bob")
        client.ask("SADD", f"{{user:{user}}}:likes", "Bob", "tea")
        places.add(other.ask("EXISTS", f"{{user:{user}}}:friends", f"{{user:{user}}}:likes"))
        both = client.ask("SINTER", f"{{user:{user}}}:friends", f"{{user:{user}}}:likes")
        if both != ["Bob"]:
            check("SINTER of keys with one tag", False, both)
    check("keys with one tag are on one shard", places == {0, 2}, places)
    client.ask("MSET", *[word for pair in pairs.items() for word in pair])
    counts = {client.ask("EXISTS", key, *pairs) - 1 for key in pairs}
    check("EXISTS counts those of the first key's shard alone", counts == set(shares), (counts, shares))
    client.ask("DEL", *pairs)


def one_key(proxies):
    client = Client(proxies["a"].port)
    for command, reply in [
        (("SET", "once", "1", "NX", "EX", "100"), "OK"), (("SETNX", "once", "2"), 0), (("TTL", "nobody"), -2),
        (("PERSIST", "once"), 1), (("TTL", "once"), -1), (("TYPE", "once"), "string"), (("EXISTS", "once"), 1),
        (("SETEX", "soon", "100", "x"), "OK"), (("EXPIRE", "soon", "50"), 1), (("GETEX", "soon", "PERSIST"), "x"),
        (("GETSET", "once", "7"), "1"), (("GETDEL", "soon"), "x"), (("APPEND", "once", "0"), 2),
        (("STRLEN", "once"), 2),
        (("INCR", "n"), 1), (("INCRBY", "n", "9"), 10), (("DECR", "n"), 9), (("DEL", "n"), 1), (("GET", "n"), None),
        (("HSET", "h", "name", "Ann", "age", "7"), 2), (("HGET", "h", "name"), "Ann"),
        (("HINCRBY", "h", "age", "1"), 8),
        (("HMGET", "h", "age", "none"), ["8", None]), (("HDEL", "h", "age"), 1), (("HLEN", "h"), 1),
        (("SADD", "s", "x", "y"), 2), (("SCARD", "s"), 2), (("SISMEMBER", "s", "y"), 1), (("PING",), "PONG"),
    ]:
        said = client.ask_all([command])[0]
        check(" ".join(command), said == reply, str(said))


def refused(proxies):
    for words in ["MULTI", "EXEC", "WATCH k", "SUBSCRIBE c", "PUBLISH c m", "SELECT 1", "SCAN 0", "KEYS *",
                  "RENAME a b", "DBSIZE", "FLUSHALL", "MSETNX a 1 b 2", "HELLO 3", "CLIENT LIST", "INFO",
                  "WAIT 1 100", "TOKEN", "WHY k", "STATS"]:
        try:
            said = Client(proxies["a"].port).ask(*words.split())
        except Gone:
            said = None
        except Refused as error:
            said = f"-{error}"
        check(f"{words} ends the connection", said is None, said)


def a_node_goes(nodes, proxies, values):
    """Either shard's node of site A in turn: all that was acknowledged and on both sites is read by site B."""
    for shard, other in [(1, 2), (2, 1)]:
        mine = {key: value for key, value in values.items() if differing(nodes["a", shard].port, {key: value}) == []}
        theirs = {key: value for key, value in values.items() if key not in mine}
        nodes["a", shard].kill()
        replies = Client(proxies["a"].port).ask_all([("GET", key) for key in mine])
        check(f"without a{shard} site A says so of the keys of shard-{shard}",
              all(isinstance(reply, Refused) for reply in replies), set(map(str, replies)))
        check("and answers for those of the other", differing(proxies["a"].port, theirs) == [])
        check("what it cannot write goes nowhere else", len(put(proxies["a"].port, mine)) == len(mine)
              and nodes["a", other].count() == nodes["b", other].count())
        check("site B has lost nothing", differing(proxies["b"].port, values) == [])
        values |= {key: f"{value}, written again without a{shard}" for key, value in list(values.items())[::7]}
        check("and takes writes for both shards", put(proxies["b"].port, values) == [])
        nodes["a", shard].start(nodes["b", shard])
        wait_for(f"a{shard} has all of them", lambda: nodes["a", shard].count() == nodes["b", shard].count())
        wait_for("site A answers for all again, by the proxy that ran all the while",
                 lambda: differing(proxies["a"].port, values) == [])


def run(binary, directory, processes):
    (directory / "password").write_text(PASSWORD + "\n")
    (directory / "secret").write_text("0123456789abcdef" * 2 + "\n")
    for secret in directory.iterdir():
        secret.chmod(0o600)
    nodes = {(site, shard): Node(binary, site, shard, directory) for site in "ab" for shard in SHARDS}
    processes += nodes.values()
    for (site, shard), node in nodes.items():
        node.start(nodes["ba"["ab".index(site)], shard])
    proxies = {site: Proxy(site, nodes, directory) for site in "ab"}
    processes += proxies.values()

    values = written(range(KEYS))
    check(f"{KEYS} keys are written", put(proxies["a"].port, values) == [])
    shares = [nodes["a", shard].count() for shard in SHARDS]
    check("either cluster has its share", min(shares) > KEYS // 4 and sum(shares) == KEYS, shares)
    for shard, share in zip(SHARDS, shares):
        wait_for(f"b{shard} has that of a{shard}", lambda shard=shard, share=share: nodes["b", shard].count() == share)
    check("site B reads all of them", differing(proxies["b"].port, values) == [])
    news = written(range(KEYS, KEYS + 500))
    check("site B writes", put(proxies["b"].port, news) == [])
    wait_for("site A reads that", lambda: differing(proxies["a"].port, news) == [])
    values |= news
    passwords(proxies)
    one_key(proxies)
    several_keys(nodes, proxies)
    refused(proxies)
    a_node_goes(nodes, proxies, values)


def main():
    binary = os.path.abspath(sys.argv[1])
    if shutil.which("nutcracker") is None:
        print("skipped: there is no twemproxy (Debian: apt-get install nutcracker)")
        sys.exit(77)
    processes = []
    try:
        with tempfile.TemporaryDirectory() as directory:
            run(binary, pathlib.Path(directory), processes)
    finally:
        for started in processes:
            if started.process is not None:
                started.process.kill()
                started.process.wait()


if __name__ == "__main__":
    main()
