#!/usr/bin/env python3
"""How many times as much a node with more threads does: bursts of requests on a machine whose cores are all the node's.

    python3 runtime/benches/bursts.py --binary target/release/simple-kv --threads 1,2

A load generator takes as much of the processor as the node, so with two cores it cannot be beside two threads. Here a
node is stopped (SIGSTOP) while every client sends its requests, and told to go on. What is told is the time until the
replies are in the clients' sockets. These sleep meanwhile, and look at every 50th of them now and then: that takes from
the node what is told last, in ms, by threads, as only a node of one thread leaves a core for it.
"""

import argparse
import resource
import signal
import socket
import statistics
import subprocess
import time

KEY_BYTES, VALUE = 16, b"v" * 64
# Between two looks at whether all is answered, and one in how many is looked at.
LOOK_SECONDS, LOOK_AT_ONE_IN = 0.0005, 50
# How long what was sent may take to be in the sockets of a node that is stopped.
SETTLE_SECONDS = 0.05
REPLY_BYTES = {b"GET": len(b"$64\r\n") + len(VALUE) + 2, b"SET": len(b"+OK\r\n")}


def request(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def key(number):
    return b"key:%012d" % number


class Node:
    def __init__(self, binary, threads, clients):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [binary, str(port), "--threads", str(threads), "--max-clients", str(2 * clients)]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        self.clients = [self.connect(port) for _ in range(clients)]
        for number, client in enumerate(self.clients):
            client.sendall(request(b"SET", key(number), VALUE))
            assert client.recv(REPLY_BYTES[b"SET"]) == b"+OK\r\n"
            client.setblocking(False)

    def connect(self, port):
        for _ in range(1_000):
            try:
                client = socket.create_connection(("127.0.0.1", port))
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return client
            except ConnectionRefusedError:
                time.sleep(0.01)
        raise SystemExit("the node does not come")

    def burst(self, kind, depth):
        """Nanoseconds a request, and milliseconds that looking took."""
        self.process.send_signal(signal.SIGSTOP)
        count = len(self.clients)
        for number, client in enumerate(self.clients):
            keys = (key((7 * number + 13 * at) % count) for at in range(depth))
            batch = b"".join(request(kind, name, *([VALUE] if kind == b"SET" else [])) for name in keys)
            assert client.send(batch) == len(batch)
        time.sleep(SETTLE_SECONDS)
        looked_at, expected, answered = self.clients[::LOOK_AT_ONE_IN], depth * REPLY_BYTES[kind], 0
        begin, own = time.perf_counter(), time.process_time()
        self.process.send_signal(signal.SIGCONT)
        while answered < len(looked_at):
            time.sleep(LOOK_SECONDS)
            while answered < len(looked_at) and self.has(looked_at[answered], expected):
                answered += 1
        took, own = time.perf_counter() - begin, time.process_time() - own
        for client in self.clients:
            while not self.has(client, expected):
                time.sleep(LOOK_SECONDS)
            assert len(client.recv(expected + 1)) == expected
        return took * 1e9 / count / depth, own * 1e3

    @staticmethod
    def has(client, expected):
        try:
            return len(client.recv(expected, socket.MSG_PEEK)) == expected
        except BlockingIOError:
            return False


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--threads", default="1,2", help="each is compared with the first [default: 1,2]")
    options.add_argument("--clients", type=int, default=4_000)
    options.add_argument("--rounds", type=int, default=20)
    options = options.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    variants = [int(threads) for threads in options.threads.split(",")]
    nodes = {threads: Node(options.binary, threads, options.clients) for threads in variants}
    for depth in (1, 16, 128):
        for kind in (b"GET", b"SET"):
            nanos, looks = {threads: [] for threads in variants}, {threads: [] for threads in variants}
            # The first round is not counted: in it buffers get their sizes.
            for number in range(options.rounds + 1):
                for at in range(len(variants)):
                    threads = variants[(number + at) % len(variants)]
                    took, own = nodes[threads].burst(kind, depth)
                    if number:
                        nanos[threads].append(took)
                        looks[threads].append(own)
            first = nanos[variants[0]]
            cells = [f"{kind.decode()}, {depth} deep", f"{statistics.median(first):.0f}"]
            for threads in variants[1:]:
                gains = [one / other for one, other in zip(first, nanos[threads])]
                cells.append(f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})")
            cells.append(", ".join(f"{statistics.median(own):.1f}" for own in looks.values()))
            print("|", " | ".join(cells), "|", flush=True)
    for node in nodes.values():
        node.process.terminate()
        node.process.wait()


if __name__ == "__main__":
    main()
