#!/usr/bin/env python3
"""Gives the same random commands to a real node and to redis-server, and compares what they answer.

Usage: .ci/redis_differential.py [BINARY [ROUNDS [SEED]]]      default: target/debug/simple-kv 20000, any seed

Exit code 0: all answers were equal; 1: one was not, which is told with what led to it; 77: there is no redis-server.
What is different on purpose is not asked: see core/src/wire/REDIS.md.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 20
KEYS = [b"a", b"b", b"c", b"d", b"key with spaces", b"\x00\xff\r\n", b"\xff\x01a"]
SPACES = [b"0", b"0", b"1", b"15", b"16", b"-1", b"x"]
VALUES = [b"", b"0", b"1", b"-7", b"12", b" 1", b"1.5", b"9223372036854775807", b"-9223372036854775808", b"text",
          b"\r\n$5\r\n", b"x" * 100]
NUMBERS = [b"0", b"1", b"-1", b"5", b"-5", b"100", b"-100", b"x", b"", b"1.0", b"9223372036854775807",
           b"-9223372036854775808", b"99999999999999999999"]
# Fractions that both hold exactly: long doubles of some size show what they lose, and decimals lose nothing.
FLOATS = [b"0.5", b"-0.25", b"3.0e3", b"-3e3", b"1e2", b"+.75", b"2.", b"0", b"x", b"", b"1e", b"nan", b"-inf", b" 1"]
TENTHS = [b"0.1", b"-0.1", b"0.2", b"-0.7", b"1e-3"]
# What clients ask of a server.
SERVER = [words.encode().split(b" ") for words in (
    "AUTH x", "AUTH default x", "AUTH eve x", "AUTH", "AUTH a b c", "HELLO 2 AUTH", "HELLO 2 AUTH eve x", "HELLO 2 foo",
    "HELLO 2 SETNAME", "HELLO x", "READONLY", "READWRITE", "ROLE", "SCRIPT FLUSH", "SCRIPT FLUSH ASYNC", "SCRIPT FLUSH x",
    "SCRIPT EXISTS a", "FUNCTION FLUSH", "FUNCTION FLUSH x", "CONFIG SET save", "CONFIG SET no such", "CONFIG SET",
    "CONFIG RESETSTAT", "CONFIG RESETSTAT x", "CONFIG GET", "CONFIG GET maxmemory", "CONFIG nothing",
    "CONFIG SET maxmemory 0", "CONFIG SET databases 1", "CONFIG SET timeout 0 timeout 0", "OBJECT", "OBJECT ENCODING",
    "MEMORY USAGE none", "MEMORY USAGE a foo 1", "MEMORY foo", "CLIENT KILL", "CLIENT KILL 1.2.3.4:5", "CLIENT LIST x",
    "CLIENT KILL ID 99999", "CLIENT KILL ID x", "CLIENT KILL ID 1 x", "CLIENT KILL TYPE x", "CLIENT KILL USER eve",
    "CLIENT KILL ID 99999 SKIPME x", "CLIENT LIST TYPE x", "CLIENT LIST TYPE master", "CLIENT LIST ID x", "CLIENT PAUSE x",
    "CLIENT PAUSE -1", "CLIENT PAUSE 0", "CLIENT PAUSE 1 x", "CLIENT UNPAUSE", "CLIENT NO-EVICT x", "CLIENT NO-EVICT on",
    "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT REPLY x", "CLIENT REPLY ON", "CLIENT SETNAME", "CLIENT GETNAME",
    "CLIENT TRACKING OFF", "CLIENT nothing", "CLIENT", "CLIENT ID x", "WAIT 0 0", "PUBLISH a b",
    "PUBLISH a", "PUBSUB", "PUBSUB CHANNELS", "PUBSUB NUMSUB", "PUBSUB NUMSUB a b", "PUBSUB NUMPAT", "PUBSUB NUMPAT x",
    "PUBSUB nothing", "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE x", "PUNSUBSCRIBE x",
    "CONFIG SET notify-keyspace-events q", "CONFIG SET notify-keyspace-events KEA",
    "CONFIG SET notify-keyspace-events Kg$", "CONFIG GET notify-keyspace-events")]
# Of times only what is far from now: two clocks are read.
SPANS = [b"1000", b"100000", b"0", b"-1", b"x", b"9223372036854775807"]
TIMES = [b"4000000000", b"5000000000", b"1", b"0", b"-1", b"x", b"9223372036854775807"]
EXPIRIES = [[b"EX", SPANS], [b"PX", [b"1000000", b"100000000", b"0", b"-1", b"x"]], [b"EXAT", TIMES],
            # A time that no clock here can tell is refused.
            [b"PXAT", TIMES[:-1]]]
# Hashes and sets.
WHOLES = [b"h", b"s", b"t\x00"]
PARTS = [b"a", b"b", b"c", b"", b"\xff\r\n", b"1", b"some field"]
# The order of what these answer means nothing.
UNORDERED = {b"KEYS", b"HKEYS", b"HVALS", b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"SPOP", b"SRANDMEMBER"}
PATTERNS = [b"*", b"a", b"?", b"[a-c]", b"[^a]", b"k*s", b"\\a", b"none", b"[", b"*b*"]


class Server:
    """A process and one connection to it."""

    def __init__(self, command, port):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.input = self.socket.makefile("rb")

    def ask(self, words):
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(b"*%d\r\n%s" % (len(words), parts))
        return self.read()

    def read(self):
        line = self.input.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$" and rest != b"-1":
            body = self.input.read(int(rest) + 2)
            return kind, body[:-2]
        if kind in (b"*", b"~") and rest != b"-1":
            return kind, [self.read() for _ in range(int(rest))]
        if kind == b"%":
            return kind, [self.read() for _ in range(2 * int(rest))]
        return kind, rest

    def stop(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(draw):
    """Random words, mostly of a command as it should be."""
    key, value, number = (lambda: draw.choice(KEYS)), (lambda: draw.choice(VALUES)), (lambda: draw.choice(NUMBERS))
    some = lambda make: [make() for _ in range(draw.randint(1, 3))]

    def expiry():
        name, times = draw.choice(EXPIRIES)
        return [name, draw.choice(times)]

    def set_options():
        options = []
        for choice in ([b"NX"], [b"XX"], [b"GET"], [b"KEEPTTL"], expiry()):
            if draw.random() < 0.2:
                options += choice
        draw.shuffle(options) if draw.random() < 0.1 else None
        return options

    on = lambda: draw.choice([[], [], [], [b"NX"], [b"XX"], [b"GT"], [b"LT"], [b"NX", b"GT"], [b"XX", b"LT"], [b"no"]])
    makers = [
        lambda: [b"GET", key()],
        lambda: [b"SET", key(), value()],
        lambda: [b"SET", key(), value(), *set_options()],
        lambda: [b"SETNX", key(), value()],
        lambda: [b"SETEX", key(), draw.choice(SPANS), value()],
        lambda: [b"PSETEX", key(), draw.choice([b"1000000", b"0", b"x"]), value()],
        lambda: [b"GETSET", key(), value()],
        lambda: [b"GETDEL", key()],
        lambda: [b"GETEX", key(), *draw.choice([[], [b"PERSIST"], expiry(), [b"no"]])],
        lambda: [b"MGET", *some(key)],
        lambda: [b"MSET", *[word for at in some(key) for word in (at, value())]],
        lambda: [b"MSETNX", *[word for at in some(key) for word in (at, value())]],
        lambda: [b"APPEND", key(), value()],
        lambda: [b"STRLEN", key()],
        lambda: [draw.choice([b"GETRANGE", b"SUBSTR"]), key(), number(), number()],
        lambda: [b"SETRANGE", key(), draw.choice([b"0", b"3", b"50", b"-1", b"x"]), value()],
        lambda: [draw.choice([b"INCR", b"DECR"]), key()],
        lambda: [draw.choice([b"INCRBY", b"DECRBY"]), key(), number()],
        lambda: [b"SET", b"float", draw.choice([b"10.5", b"-3e2", b"1", b"", b"text", b"0.125"]), *set_options()],
        lambda: [b"INCRBYFLOAT", b"float", draw.choice(FLOATS)],
        lambda: [b"SET", b"tenth", draw.choice([b"0.1", b"-3.14", b"7"])],
        lambda: [b"INCRBYFLOAT", b"tenth", draw.choice(TENTHS)],
        lambda: [draw.choice([b"INCR", b"GET", b"STRLEN", b"TTL"]), draw.choice([b"float", b"tenth"])],
        lambda: draw.choice(SERVER),
        lambda: [b"OBJECT", draw.choice([b"FREQ", b"foo"]), key()],
        lambda: [b"COMMAND", b"GETKEYS", *draw.choice([[b"GET", key()], [b"MSET", b"a", b"1", b"b", b"2"],
                                                       [b"foo", b"a"], [b"GET", b"a", b"b"], [b"PING"], [b"ECHO", b"a"]])],
        lambda: [draw.choice([b"DEL", b"UNLINK", b"EXISTS", b"TOUCH"]), *some(key)],
        lambda: [b"TYPE", key()],
        lambda: [draw.choice([b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]), key()],
        lambda: [b"EXPIRE", key(), draw.choice(SPANS), *on()],
        lambda: [b"PEXPIRE", key(), draw.choice([b"1000000", b"100000000", b"-1", b"x"]), *on()],
        lambda: [b"EXPIREAT", key(), draw.choice(TIMES), *on()],
        lambda: [b"PEXPIREAT", key(), draw.choice([*TIMES[:-1], b"-9223372036854770000"]), *on()],
        lambda: [b"PERSIST", key()],
        lambda: [draw.choice([b"RENAME", b"RENAMENX"]), key(), key()],
        lambda: [b"COPY", key(), key(), *draw.choice([[], [b"REPLACE"], [b"no"], [b"DB", draw.choice(SPACES)]])],
        lambda: [b"MOVE", key(), draw.choice(SPACES)],
        lambda: [b"SELECT", draw.choice(SPACES)],
        lambda: [draw.choice([b"FLUSHDB", b"FLUSHDB", b"FLUSHALL"]), *draw.choice([[], [b"ASYNC"], [b"sync"], [b"no"]])],
        lambda: [b"KEYS", draw.choice(PATTERNS)],
        lambda: [b"SCAN", b"0", b"COUNT", b"1000", b"MATCH", draw.choice(PATTERNS)],
        lambda: [b"DBSIZE"],
        lambda: [draw.choice([b"PING", b"ECHO"]), value()],
        lambda: [draw.choice([b"MULTI", b"EXEC", b"EXEC", b"DISCARD", b"UNWATCH"])],
        lambda: [b"MULTI"],
        lambda: [b"WATCH", *some(key)],
    ]
    whole, part = (lambda: draw.choice(WHOLES)), (lambda: draw.choice(PARTS))
    of_wholes = [
        lambda: [draw.choice([b"HSET", b"HMSET"]), whole(), *[word for at in some(part) for word in (at, value())]],
        lambda: [b"HSETNX", whole(), part(), value()],
        lambda: [draw.choice([b"HGET", b"HEXISTS", b"HSTRLEN"]), whole(), part()],
        lambda: [draw.choice([b"HMGET", b"HDEL"]), whole(), *some(part)],
        lambda: [draw.choice([b"HGETALL", b"HKEYS", b"HVALS", b"HLEN"]), whole()],
        lambda: [b"HINCRBY", whole(), part(), number()],
        lambda: [b"HINCRBYFLOAT", whole(), b"float", draw.choice(FLOATS)],
        lambda: [b"HRANDFIELD", whole(), b"1000", *draw.choice([[], [b"WITHVALUES"], [b"no"]])],
        lambda: [draw.choice([b"HSCAN", b"SSCAN"]), whole(), b"0", b"COUNT", b"1000", b"MATCH", draw.choice(PATTERNS)],
        lambda: [b"SADD", whole(), *some(part)],
        lambda: [b"SADD", whole(), *some(part)],
        lambda: [b"SREM", whole(), *some(part)],
        lambda: [b"SISMEMBER", whole(), part()],
        lambda: [b"SMISMEMBER", whole(), *some(part)],
        lambda: [draw.choice([b"SMEMBERS", b"SCARD"]), whole()],
        lambda: [draw.choice([b"SPOP", b"SRANDMEMBER"]), whole(), draw.choice([b"1000", b"0", b"x"])],
        lambda: [b"SMOVE", whole(), whole(), part()],
        lambda: [draw.choice([b"SINTER", b"SUNION", b"SDIFF"]), *some(whole)],
        lambda: [draw.choice([b"SINTERSTORE", b"SUNIONSTORE", b"SDIFFSTORE"]), whole(), *some(whole)],
        lambda: [b"SINTERCARD", draw.choice([b"1", b"2", b"0", b"x"]), *some(whole),
                 *draw.choice([[], [b"LIMIT", draw.choice([b"0", b"1", b"-1", b"x"])]])],
        lambda: [draw.choice([b"GET", b"INCR", b"STRLEN", b"TYPE", b"TTL", b"DEL", b"EXISTS", b"PERSIST"]), whole()],
        lambda: [draw.choice([b"SET", b"APPEND", b"SETNX", b"GETSET"]), whole(), value()],
        lambda: [b"MGET", whole(), key()],
        lambda: [draw.choice([b"RENAME", b"RENAMENX", b"COPY"]), whole(), whole()],
        lambda: [draw.choice([b"EXPIRE", b"PEXPIRE"]), whole(), draw.choice([b"100000", b"1000000", b"-1", b"x"]), *on()],
        lambda: [b"EXPIREAT", whole(), draw.choice(TIMES), *on()],
        lambda: [draw.choice([b"TTL", b"EXPIRETIME", b"PTTL", b"PEXPIRETIME", b"PERSIST"]), whole()],
        lambda: [b"MOVE", whole(), draw.choice(SPACES)],
        lambda: [b"COPY", whole(), whole(), b"DB", draw.choice(SPACES), *draw.choice([[], [b"REPLACE"]])],
        lambda: [b"DEL", whole()],
        lambda: [b"WATCH", whole()],
    ]
    words = draw.choice(makers + of_wholes)()
    # The beginnings of some have answers of their own, about the server. Errors call other names of a command by the one
    # that HELP has, and what is wrong with options is told before it is looked whether the key holds a set. What is drawn
    # of a set without a count is any of it.
    whole_only = (b"COMMAND", b"CLIENT", b"HELLO", b"MEMORY", b"OBJECT", b"UNLINK", b"SUBSTR", b"HSCAN", b"SSCAN",
                  b"SPOP", b"SRANDMEMBER", b"HRANDFIELD")
    if draw.random() < 0.03 and words[0] not in whole_only:
        words = words[: draw.randint(1, len(words))]
    return words


def compared(words, reply):
    """A reply as far as it has to be equal."""
    kind, body = reply
    name = words[0]
    if kind == b"*" and name in UNORDERED:
        return kind, sorted(body)
    in_pairs = name in (b"HGETALL", b"HSCAN") or words[-1] == b"WITHVALUES"
    ordered = lambda parts: sorted(zip(parts[::2], parts[1::2]) if in_pairs else parts)
    if kind == b"*" and name in (b"HGETALL", b"HRANDFIELD"):
        return kind, ordered(body)
    if kind == b"*" and name in (b"SCAN", b"HSCAN", b"SSCAN") and len(body) == 2:
        return kind, [body[0], (body[1][0], ordered(body[1][1]))]
    # Two clocks: they are read within a few seconds of each other.
    if kind == b":" and name in (b"TTL", b"EXPIRETIME") and int(body) > 0:
        return kind, int(body) // 20
    if kind == b":" and name in (b"PTTL", b"PEXPIRETIME") and int(body) > 0:
        return kind, int(body) // 20_000
    return reply


def near(words, one, other, queued):
    """Whether two replies are equal, but for the time between them; `queued` are the commands that EXEC runs."""
    first, second = compared(words, one), compared(words, other)
    if first == second:
        return True
    if words == [b"EXEC"] and first[0] == second[0] == b"*" and len(queued) == len(first[1]) == len(second[1]):
        return all(near(*three, []) for three in zip(queued, first[1], second[1]))
    # An expiry out of range is told of a key that is absent, too.
    if words[0] == b"GETEX" and one[0] == b"-" and other == (b"$", b"-1"):
        return True
    # Which of two equal spans ends later is for the clock to say; EXPIREAT has points in time.
    if words[0] in (b"EXPIRE", b"PEXPIRE") and words[-1] in (b"GT", b"LT") and one[0] == other[0] == b":":
        return True
    # How far one step of a walk gets is for each to say.
    if words[0] == b"SCAN" and len(words) < 4 and one[0] == other[0] == b"*":
        return True
    # What has expired counts there until it is found.
    if words == [b"DBSIZE"] and one[0] == other[0] == b":" and int(one[1]) < int(other[1]):
        return True
    timed = words[0] in (b"TTL", b"EXPIRETIME", b"PTTL", b"PEXPIRETIME")
    return timed and first[0] == second[0] == b":" and abs(first[1] - second[1]) <= 1


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/simple-kv")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    if not shutil.which("redis-server"):
        print("skipped: there is no redis-server")
        sys.exit(77)
    draw = random.Random(seed)
    ports = [free_port(), free_port()]
    with tempfile.TemporaryDirectory() as directory:
        redis = ["redis-server", "--port", str(ports[1]), "--save", "", "--appendonly", "no", "--dir", directory]
        servers = [Server([binary, str(ports[0])], ports[0]), Server(redis, ports[1])]
        past, queued, later = [], [], []
        try:
            for number in range(rounds):
                words = later.pop() if later else command(draw)
                # A flush may count as a change of a key that was not there, if there was one like it elsewhere.
                if words[0] in (b"FLUSHDB", b"FLUSHALL") and past[-1:] != [[b"UNWATCH"]]:
                    later, words = [words], [b"UNWATCH"]
                # A login is answered later, and so not put off.
                if (words[0] == b"AUTH" or b"AUTH" in words[1:]) and past[-1:] != [[b"DISCARD"]]:
                    later, words = [words], [b"DISCARD"]
                past = past[-30:] + [words]
                ours, theirs = (server.ask(words) for server in servers)
                if words == [b"MULTI"] and ours == (b"+", b"OK"):
                    queued = []
                if ours == (b"+", b"QUEUED"):
                    queued.append(words)
                if not near(words, ours, theirs, queued):
                    print(f"seed {seed}, command {number}: FAILED")
                    for words in past:
                        print("   ", *words)
                    print("  ours:  ", ours, "\n  theirs:", theirs)
                    sys.exit(1)
        finally:
            for server in servers:
                server.stop()
    print(f"ok: {rounds} commands of seed {seed} were answered alike")


main()
