#!/usr/bin/env python3
"""Drives the real telnet client under a pseudo-terminal against a real node, as a person at a keyboard would.

Usage: .ci/telnet.py [BINARY]          default: target/debug/simple-kv

What only a real client shows: after Ctrl-C it hides all output until the node answers its TIMING-MARK, and Ctrl-D
arrives as one byte without a line end. Exit code 0: passed, or skipped because there is no telnet; 1: failed.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

# Longer than any reply takes on a busy machine.
PATIENCE_S = 10

CTRL_C = b"\x03"
CTRL_D = b"\x04"


class Terminal:
    """A program on a pseudo-terminal: what it printed, and keys to press."""

    def __init__(self, arguments):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            # No ~/.telnetrc of whoever runs this.
            os.execvpe(arguments[0], arguments, dict(os.environ, HOME="/nonexistent", TERM="dumb", LC_ALL="C"))
        self.printed = b""
        self.seen = 0

    def press(self, keys):
        os.write(self.descriptor, keys)

    def read(self, deadline):
        """Takes what was printed by `deadline`; False once the program has ended or the time is up."""
        ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:
            return False
        self.printed += data
        return bool(data)

    def expect(self, what, pattern):
        """Waits until a line that was not looked at before matches `pattern`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = re.compile(pattern, re.MULTILINE).search(self.printed, self.seen)
            if found:
                self.seen = found.end()
                print(f"ok: {what}")
                return
            if not self.read(deadline):
                sys.exit(f"FAILED: {what}: no {pattern!r} in {self.printed[self.seen:]!r}\nall of it: {self.printed!r}")

    def expect_end(self, what):
        deadline = time.monotonic() + PATIENCE_S
        while self.read(deadline):
            pass
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                print(f"ok: {what}")
                return
            time.sleep(0.01)
        sys.exit(f"FAILED: {what}: it still runs\nall of it: {self.printed!r}")


def start_node(binary):
    """Starts a node on any free port; returns the process and the port."""
    node = subprocess.Popen([binary, "0", "--log-format", "json"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for line in node.stderr:
        fields = json.loads(line).get("fields", {})
        if fields.get("message") == "listening":
            return node, fields["address"].rsplit(":", 1)[1]
    sys.exit("FAILED: the node ended before it listened")


def check(port):
    telnet = Terminal(["telnet", "127.0.0.1", port])
    telnet.expect("telnet connects", rb"Escape character")

    for typed, reply in [
        (b"SET name Alice", rb"^OK\r$"),
        (b"get name", rb"^Alice\r$"),
        (b'SET greeting "hello world"', rb"^OK\r$"),
        (b"GET greeting", rb"^hello world\r$"),
        (b"GET", rb"^Usage: GET key\r$"),
        (b"GET nobody", rb"^Key not found\r$"),
        (b"DEL name", rb"^OK\r$"),
    ]:
        telnet.press(typed + b"\r")
        telnet.expect(typed.decode(), reply)

    telnet.press(b"SET half a li" + CTRL_C)
    telnet.press(b"GET greeting\r")
    telnet.expect("a command after Ctrl-C is answered, and the answer is visible", rb"^hello world\r$")
    for _ in range(3):
        telnet.press(CTRL_C)
    telnet.press(b"PING\r")
    telnet.expect("after three of them too", rb"^PONG\r$")

    telnet.press(CTRL_D)
    telnet.expect("Ctrl-D at the start of a line quits", rb"Connection closed by foreign host")
    telnet.expect_end("telnet ends")


def main():
    if shutil.which("telnet") is None:
        print("skipped: no telnet on this machine (Debian: apt-get install inetutils-telnet)")
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    binary = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "target", "debug", "simple-kv")
    node, port = start_node(binary)
    try:
        check(port)
    finally:
        node.terminate()
        node.wait()


main()
