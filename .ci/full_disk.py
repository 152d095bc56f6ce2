#!/usr/bin/env python3
"""Fills a real file system under a real node, makes room again, and looks what is left of what was acknowledged.

Usage: .ci/full_disk.py [BINARY]          default: target/debug/simple-kv

The file system is a tmpfs of 32 MB, most of which something else takes, in a mount namespace of its own. Exit code 0: passed; 1: failed; 77: skipped because
this system lets nobody mount one.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# Longer than the node leaves a full disk alone before it tries again.
PATIENCE_S = 60

VALUE = "x" * 4_000
KEYS_MAX = 2_000


class Client:
    """A client that speaks in lines."""

    def __init__(self, port):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.lines = self.socket.makefile("rb")

    def ask(self, line):
        """The reply to `line`; none if the connection was closed instead."""
        try:
            self.socket.sendall(line.encode() + b"\n")
            return self.lines.readline().decode().rstrip("\n")
        except OSError:
            return ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, directory, *options):
    port = free_port()
    command = [binary, "--data-dir", directory, "--fsync", "always", "--log-level", "off", "--name", "full", *options, str(port)]
    return subprocess.Popen(command), port


def loaded(port):
    """A client of a node that has read its directory."""
    client = Client(port)
    deadline = time.monotonic() + PATIENCE_S
    while "loading" in client.ask("GET nothing"):
        assert time.monotonic() < deadline, "the node loads for ever"
        time.sleep(0.02)
    return client


def check(what, holds):
    print(f"{'ok' if holds else 'FAILED'}: {what}")
    if not holds:
        sys.exit(1)


def run(binary, mount):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", mount], check=True)
    directory, other = os.path.join(mount, "data"), os.path.join(mount, "other")
    with open(other, "wb") as file:
        file.write(bytes(29 << 20))
    node, port = start(binary, directory)
    try:
        client = loaded(port)
        held = []
        for number in range(KEYS_MAX):
            reply = client.ask(f"SET k{number} {VALUE}")
            if reply != "OK":
                break
            held.append(number)
        check(f"the disk is full after {len(held)} values", 0 < len(held) < KEYS_MAX)
        client = Client(port)
        reply = client.ask("SET k 1")
        check(f"a write is told so: {reply}", reply.startswith("Error: the disk is full; nothing was written"))
        check("reads go on", client.ask(f"GET k{held[-1]}") == VALUE)
        disk = json.loads(client.ask("STATS"))["disk"]
        check(f"STATS says so: {disk['state']}", disk["state"] == "full" and disk["refuses"])

        os.remove(other)
        deadline = time.monotonic() + PATIENCE_S
        while client.ask("SET after 1") != "OK":
            if time.monotonic() > deadline:
                check("the node takes writes again by itself", False)
            time.sleep(0.05)
            client = Client(port)
        check("with room it takes writes again", client.ask("GET after") == "1")
        node.kill()
        node.wait()
        checked = subprocess.run([binary, "check", directory], capture_output=True, text=True)
        check("`check` finds nothing damaged", checked.returncode == 0)
        node, port = start(binary, directory, "--strict-recovery")
        client = loaded(port)
        lost = [number for number in held if client.ask(f"GET k{number}") != VALUE]
        check("all that was acknowledged is there after kill -9", not lost and client.ask("GET after") == "1")
    finally:
        node.kill()
        node.wait()


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/simple-kv")
    if os.environ.get("FULL_DISK_INSIDE"):
        return run(binary, os.environ["FULL_DISK_INSIDE"])
    directory = tempfile.mkdtemp(prefix="simple-kv-full-")
    try:
        own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
        can = [*own, "mount", "-t", "tmpfs", "tmpfs", directory]
        if not shutil.which("unshare") or subprocess.run(can, capture_output=True).returncode != 0:
            print("SKIPPED: nobody may mount a file system here")
            return 77
        inside = dict(os.environ, FULL_DISK_INSIDE=directory)
        return subprocess.run([*own, sys.executable, __file__, binary], env=inside).returncode
    finally:
        os.rmdir(directory)


sys.exit(main())
