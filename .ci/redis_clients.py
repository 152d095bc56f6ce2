#!/usr/bin/env python3
"""Drives a real node with the clients that Redis users have: redis-cli, redis-benchmark and redis-py.

Usage: .ci/redis_clients.py [BINARY]          default: target/debug/simple-kv

redis-py comes from the interpreter that runs this; without it, or without redis-tools, those parts say that they were
skipped. Exit code 0: passed; 1: failed; 77: there was no client at all.
"""

import os
import shutil
import socket
import subprocess
import sys
import time

PATIENCE_S = 20
BIG = os.urandom(10 << 20)


class Node:
    """A process of the node on a free port."""

    def __init__(self, binary):
        self.binary = binary
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.binary, str(self.port)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()


def check(what, is_so, seen=None):
    if not is_so:
        sys.exit(f"FAILED: {what}" + ("" if seen is None else f": {seen!r}"))
    print(f"ok: {what}")


def redis_cli(node):
    def cli(*words, given=None):
        command = ["redis-cli", "-p", str(node.port), *words]
        return subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE_S).stdout

    check("redis-cli writes", cli("SET", "name", "Ann") == b"OK\n")
    check("redis-cli reads", cli("GET", "name") == b"Ann\n")
    check("redis-cli reads by version 3", cli("-3", "GET", "nobody") == b"\n")
    check("redis-cli takes commands one a line", cli(given=b"INCR visits\nINCR visits\nDEL visits\n") == b"1\n2\n1\n")
    request = b"*3\r\n$3\r\nSET\r\n$4\r\npipe\r\n$2\r\nok\r\n"
    check("redis-cli --pipe", b"errors: 0, replies: 1000" in cli("--pipe", given=request * 1_000))
    check("redis-cli --scan", sorted(cli("--scan", "--pattern", "*e").split()) == [b"name", b"pipe"])
    check("redis-cli --bigkeys", b"Sampled 2 keys" in cli("--bigkeys"))
    check("redis-cli shows an error", cli("NOTHING").startswith(b"ERR unknown command 'NOTHING'"))
    stored = cli("-x", "SET", "big", given=BIG)
    check("redis-cli writes 10 MB", stored == b"OK\n" and cli("STRLEN", "big") == b"%d\n" % len(BIG), stored)


def redis_benchmark(node):
    command = ["redis-benchmark", "-p", str(node.port), "-t", "ping_mbulk,set,get,incr,mset", "-P", "16", "-q"]
    run = subprocess.run([*command, "-n", "20000"], capture_output=True, timeout=120)
    seen = run.stdout.replace(b"\r", b"\n")
    names = [b"PING_MBULK", b"SET", b"GET", b"INCR", b"MSET (10 keys)"]
    check("redis-benchmark", run.returncode == 0 and all(name + b": " in seen for name in names), seen[-500:])


def redis_py(node, redis, protocol):
    def named(what):
        return f"redis-py, protocol {protocol}: {what}"

    client = redis.Redis(port=node.port, protocol=protocol)
    key, value = bytes(range(256)), bytes(reversed(range(256)))
    check(named("any bytes"), client.set(key, value) and client.get(key) == value)
    check(named("10 MB"), client.set("big", BIG) and client.get("big") == BIG)
    check(named("options of SET"), client.set("once", 1, nx=True, ex=100) and client.set("once", 2, nx=True) is None)
    check(named("an expiry"), 0 < client.ttl("once") <= 100 and client.ttl(key) == -1 and client.ttl("none") == -2)
    check(named("counters"), [client.incr("n"), client.incrby("n", 9), client.decr("n")] == [1, 10, 9])
    check(named("several keys"), client.mset({"a": 1, "b": 2}) and client.mget("a", "x", "b") == [b"1", None, b"2"])
    pipeline = client.pipeline(transaction=False)
    for number in range(1_000):
        pipeline.set(f"p:{number}", number)
    check(named("a pipeline"), pipeline.execute() == [True] * 1_000)
    check(named("SCAN"), len(set(client.scan_iter("p:*", count=50))) == 1_000)
    check(named("KEYS and DEL"), client.delete(*client.keys("p:*")) == 1_000)
    info = client.info()
    check(named("INFO"), info["redis_version"].startswith("7.") and info["db0"]["keys"] == client.dbsize(), info)
    check(named("CONFIG GET"), client.config_get("maxclients") == {"maxclients": "10000"})
    listener = client.pubsub()
    listener.subscribe("news")
    listener.psubscribe("n*")
    kinds = [listener.get_message(timeout=PATIENCE_S)["type"] for _ in range(2)]
    check(named("SUBSCRIBE"), kinds == ["subscribe", "psubscribe"], kinds)
    check(named("PUBLISH"), client.publish("news", "hello") == 2)
    heard = [listener.get_message(timeout=PATIENCE_S) for _ in range(2)]
    check(named("messages"), [(one["type"], one["data"]) for one in heard] ==
          [("message", b"hello"), ("pmessage", b"hello")], heard)
    listener.close()
    check(named("CLIENT LIST"), any(one["addr"].startswith("127.0.0.1:") for one in client.client_list()))
    check(named("CLIENT"), client.client_setname("me") and client.client_getname() in ("me", b"me"))
    try:
        client.execute_command("NOTHING")
        check(named("an error"), False)
    except redis.ResponseError as error:
        check(named("an error"), str(error).startswith("unknown command 'NOTHING'"), str(error))
    node.stop()
    node.start()
    check(named("a reconnect"), client.set("after", 1) and client.get("after") == b"1")
    client.close()


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/simple-kv")
    tools = [(redis_cli, "redis-cli"), (redis_benchmark, "redis-benchmark")]
    there = [(drive, name) for drive, name in tools if shutil.which(name)]
    for _, name in set(tools) - set(there):
        print(f"skipped: there is no {name}")
    try:
        import redis
    except ImportError:
        redis = None
        print("skipped: there is no redis-py")
    if not there and redis is None:
        sys.exit(77)
    node = Node(binary)
    try:
        for drive, _ in there:
            drive(node)
            node.stop()
            node.start()
        for protocol in (2, 3) if redis else ():
            redis_py(node, redis, protocol)
    finally:
        node.stop()


main()
