"""What the comparisons beside it share: servers in processes of their own, clients of theirs, and the load they are put
under. Each program ends what it started, by process id, on every way out; should it be killed, the kernel does.
"""

import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 20
OURS = "Simple-KV"
# The least that a server could do: floor.c.
LOOP = "the loop"
PING = {"resp": b"*1\r\n$4\r\nPING\r\n", "memcached": b"version\r\n"}
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A measurement that cannot be told of."""


class Refused(Failed):
    """A server answered with an error."""


@dataclass(frozen=True)
class Kind:
    """A server that can be started, any number of times."""

    name: str
    version: str
    binary: str
    protocol: str

    @property
    def is_ours(self):
        return self.name == OURS

    def command(self, following=None, clients=None, more=()):
        """Words that start it; {port} is for the port. It follows another one, or is a peer of it, if there is one."""
        if self.is_ours:
            words = ["{port}", *([f"127.0.0.1:{following.port}"] if following else []), "--log-level", "error"]
            words += ["--max-clients", str(clients)] if clients else []
        elif self.protocol == "memcached":
            words = ["-l", "127.0.0.1", "-p", "{port}", "-U", "0", "-t", "1", "-m", "65536", "-u", "root"]
            words += ["-c", str(clients)] if clients else []
        else:
            words = ["--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            words += ["--maxclients", str(clients)] if clients else []
            words += ["--replicaof", "127.0.0.1", str(following.port)] if following else []
        return [self.binary, *words, *more]

    def start(self, cores, wait=True, **how):
        return Server(self, self.command(**how), cores, wait)


def start_loops(named, keys, value_size, cores):
    """The least that a server could do, floor.c, under each name with the words that it is called with; none where there
    is no C compiler."""
    if compiler := shutil.which("cc"):
        with tempfile.TemporaryDirectory() as directory:
            binary = str(Path(directory) / "floor")
            try:
                subprocess.run([compiler, "-O2", "-o", binary, Path(__file__).with_name("floor.c")], check=True)
            except subprocess.CalledProcessError as error:
                raise Failed(f"floor.c is not compiled: {error}") from error
            for name, more in named.items():
                words = [binary, "{port}", str(keys), str(value_size), *more]
                yield Server(Kind(name, "", binary, "resp"), words, cores)


def kinds(binary):
    """The node, and of the others those that are installed."""
    peers = (("Redis", "redis-server", "resp"), ("Valkey", "valkey-server", "resp"),
             ("memcached", "memcached", "memcached"))
    found = [(name, shutil.which(peer), protocol) for name, peer, protocol in peers]
    return [Kind(name, version(path), path, protocol)
            for name, path, protocol in [(OURS, binary, "resp"), *found] if path]


def version(binary):
    said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.split("\n", 1)[0]
    return next((word.removeprefix("v=") for word in said.split() if word.removeprefix("v=")[:1].isdigit()), said)


class Server:
    """A server in a process of its own, of which only its end by its process id is asked."""

    def __init__(self, kind, command, cores, wait=True):
        self.kind, self.name, self.version = kind, kind.name, kind.version
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory = tempfile.mkdtemp(prefix="peers-")
        words = [word.format(port=self.port) for word in command]
        self.process = subprocess.Popen(words, cwd=self.directory, stdin=subprocess.DEVNULL, preexec_fn=on_cores(cores),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            self.wait(0.01).close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def wait(self, pause_s):
        """Until it accepts, and the connection on which it does. One that does not is ended."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    raise Failed(f"{self.name} does not listen: {error}") from error
                time.sleep(pause_s)
            except BaseException:
                self.end()
                raise

    def cpu_us(self):
        """Processor time that it has used, of all of its threads."""
        try:
            # As clock_getcpuclockid makes it of a process id: one clock, on which threads that have ended count, too.
            return time.clock_gettime_ns(~self.process.pid << 3 | 2) / 1e3
        except OSError as error:
            raise Failed(f"{self.name} is gone, or its processor time cannot be read: {error}") from error

    def resident_bytes(self):
        try:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        except OSError as error:
            raise Failed(f"{self.name} is gone, or its memory cannot be read: {error}") from error
        raise Failed(f"{self.name} has ended")

    def waited_ms(self):
        """How long the thread that serves has waited for its core while others had it; none where nobody counts."""
        try:
            return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e6
        except (OSError, IndexError):
            return None

    def keys(self):
        if self.kind.protocol == "memcached":
            with self.wait(0.01) as connection:
                connection.sendall(b"stats\r\nquit\r\n")
                lines = connection.makefile("rb").read().decode().splitlines()
            return next(int(line.split()[2]) for line in lines if line.startswith("STAT curr_items "))
        with Client(self) as client:
            return client.ask("DBSIZE")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Client:
    """One connection to a server that speaks the protocol of Redis."""

    def __init__(self, server, timeout_s=120):
        self.server = server
        self.connection = server.wait(0.01)
        self.connection.settimeout(timeout_s)
        self.replies = self.connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replies.close()
        self.connection.close()

    def ask(self, *words):
        self.send(request(*words))
        return self.reply()

    def send(self, requests):
        try:
            self.connection.sendall(requests)
        except OSError as error:
            raise Failed(f"{self.server.name} cannot be asked: {error}") from error

    def reply(self):
        """An integer, text, or nothing; arrays are not asked for."""
        try:
            line = self.replies.readline()
            kind, rest = line[:1], line[1:].strip()
            if kind == b"$" and int(rest) >= 0:
                return self.replies.read(int(rest) + 2)[:-2].decode()
        except OSError as error:
            raise Failed(f"{self.server.name} does not answer: {error}") from error
        if not line:
            raise Failed(f"{self.server.name} closed the connection")
        if kind == b"-":
            raise Refused(f"{self.server.name}: {rest.decode()}")
        return {b":": lambda: int(rest), b"$": lambda: None}.get(kind, rest.decode)()


def request(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def on_cores(cores):
    """What a child does before it becomes what it is to be: it keeps to its cores, and ends with whoever started it."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, cores)
    return prepare


def node_arguments(parser):
    """Which binary is asked about, and where else things go."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[2] / "target"))
    parser.add_argument("--binary", default=str(target / "release/simple-kv"), help="the node, and the load")
    return target


def prepare(binary):
    """The servers that there are, and what takes processor time before anything begins; none if there is no node."""
    end_on_signals()
    if not os.access(binary, os.X_OK):
        print(f"there is no {binary}; build it by 'cargo build --release', or name another by --binary",
              file=sys.stderr)
        return None, None
    load = os.getloadavg()[0]
    if load > 0.3:
        print(f"warning: the machine is not idle (load {load:.2f}): the figures will not be worth much",
              file=sys.stderr)
    return kinds(str(Path(binary).resolve())), load


def tell(what):
    """What is going on, to who looks on."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def end_on_signals():
    """Being asked to end unwinds, and what was started is ended on the way."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def bench(binary, cores, server, *words, protocol=None):
    """Has `simple-kv bench` load a server, and returns what it tells."""
    protocol = protocol or server.kind.protocol
    command = [binary, "bench", f"127.0.0.1:{server.port}", "--json", "--protocol", protocol, *map(str, words)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=on_cores(cores))
    if run.returncode != 0:
        raise Failed(f"{server.name}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def fill_words(keys, value_size):
    """A load that sets each key once, and then asks for one."""
    return ["--ops", "get", "--requests", 1, "--keys", keys, "--value-size", value_size]


def stolen():
    """Processor time that the machine's host took away, and that of all, in ticks."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine():
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def print_table(heads, lines):
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def spread(values, form="{:.2f}"):
    """The median, and from the least to the most."""
    told = form.format(statistics.median(values))
    return told if len(values) < 2 else f"{told} ({form.format(min(values))} to {form.format(max(values))})"
