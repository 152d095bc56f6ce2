"""Checks what lies in runtime/packaging against the binary that it is for: `packaging.py BINARY`.

Whatever a file names, an option, a variable, a metric, a label, has to be there, and nodes are run as the unit runs
them. Ends with 77 if PyYAML is missing, and all that needs none is well.
"""

import base64
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

try:
    import yaml
except ImportError:
    yaml = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "runtime/packaging"
PASSWORD = "correct horse battery staple"
BINARY_IN_PLACE = "/usr/bin/simple-kv"
# Of PromQL, what is used there.
WORDS = {"and", "by", "group_left", "increase", "on", "rate", "sum", "topk"}
# What Prometheus itself adds.
UP = {"up": [{"job": "simple-kv", "instance": "a:1"}]}

problems = []


def expect(is_so, problem):
    if not is_so:
        problems.append(problem)
        print(f"  WRONG: {problem}")


def wait_for(what, is_there, node, seconds=60):
    end = time.monotonic() + seconds
    while not (found := is_there()):
        if time.monotonic() > end or node.process.poll() is not None:
            raise AssertionError(f"{what} did not come; {node.name} ends with {node.process.poll()}")
        time.sleep(0.05)
    return found


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    return done.returncode, done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLE_KV_")}
    return {**kept, "COLUMNS": "200", **more}


# What the binary knows.


class Known:
    def __init__(self, binary):
        self.binary = binary
        self.helps = {}

    def help(self, *tool):
        if tool not in self.helps:
            code, text = run(self.binary, *tool, "--help", env=clean_environment())
            assert code == 0, f"{tool} --help ends with {code}"
            self.helps[tool] = text
        return self.helps[tool]

    def check_words(self, where, words):
        """Those behind the binary's name: options of a node, or a command and its options."""
        tools = re.findall(r"^  ([a-z]+) (?: |[A-Z\[])", self.help(), re.M)
        tool = words[:1] if words and words[0] in tools else []
        flags = set(re.findall(r"--[a-z][a-z-]*", "\n".join(re.findall(r"^ +(?:-\w, )?--\S+", self.help(*tool), re.M))))
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            expect(flag in flags, f"{where}: 'simple-kv {' '.join(tool)}' has no {flag}")

    def check_variables(self, where, names):
        known = set(re.findall(r"SIMPLE_KV_\w+(?==)", self.help()))
        for name in names:
            expect(name in known, f"{where}: there is no variable {name}")


# The unit.


def read_unit(path):
    """Each key with its values in order; a line that ends with a backslash goes on in the next one."""
    sections = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        line = line.strip()
        if re.fullmatch(r"\[\w+\]", line):
            section = sections.setdefault(line[1:-1], {})
        elif line and line[0] not in "#;":
            key, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{path}: {line}")
            section.setdefault(key, []).append(value)
    return sections


class Service:
    """The unit as systemd would run it, but with a directory of its own in place of the system's."""

    def __init__(self, unit, binary, directory):
        self.binary = binary
        self.places = {"%d": directory / "credentials", "%S": directory / "state"}
        self.places["/etc/simple-kv/simple-kv.toml"] = PACKAGING / "simple-kv.toml"
        self.service = unit["Service"]
        for place in [self.places["%d"], directory / "state/simple-kv"]:
            place.mkdir(parents=True)
        for name, text in [("cluster.secret", "0123456789abcdef" * 2), ("password", PASSWORD)]:
            named = f"{name}:/etc/simple-kv/{name}"
            expect(named in self.service["LoadCredential"], f"unit: it does not load {named}")
            credential = directory / "credentials" / name
            credential.write_text(text + "\n")
            # As newer versions of systemd show them, which give them by an access list.
            credential.chmod(0o440)
        self.environment = clean_environment(CREDENTIALS_DIRECTORY=str(self.places["%d"]))

    def words(self, key):
        line = self.service[key][0]
        for name, place in self.places.items():
            line = line.replace(name, str(place))
        return shlex.split(line)

    def arguments(self):
        return self.words("ExecStart")[1:]


def check_unit(unit, known, directory):
    service = Service(unit, known.binary, directory / "unit")
    expect(service.words("ExecStart")[0] == BINARY_IN_PLACE, "unit: it runs something else")
    known.check_words("unit", service.arguments())
    said = run(known.binary, *service.arguments(), "--check-config", env=service.environment)
    expect(said == (0, "ok\n"), f"unit and simple-kv.toml: --check-config ends with {said}")
    if not shutil.which("systemd-analyze"):
        print("  no systemd-analyze: the unit is not verified")
        return
    for name in ("simple-kv.service", "simple-kv.socket"):
        text = (PACKAGING / name).read_text()
        (directory / name).write_text(text.replace(BINARY_IN_PLACE, str(pathlib.Path(known.binary).resolve())))
    for name in ("simple-kv.service", "simple-kv.socket"):
        code, text = run("systemd-analyze", "verify", "--man=no", str(directory / name))
        of_it = [line for line in text.splitlines() if "simple-kv" in line]
        expect(code == 0 and not of_it, f"{name}: systemd-analyze verify ends with {code}: {text}")


def check_socket(socket_unit, known):
    """A node gets its socket from systemd's own tool: whoever comes before it is there is answered."""
    section = socket_unit["Socket"]
    expect(section["FileDescriptorName"] != ["peers"], "simple-kv.socket: its socket is for peers alone")
    expect(section["Service"] == ["simple-kv.service"], "simple-kv.socket: it starts another service")
    if not shutil.which("systemd-socket-activate"):
        print("  no systemd-socket-activate: no node was handed a socket")
        return
    address = f"127.0.0.1:{free_port()}"
    name = f"--fdname={section['FileDescriptorName'][0]}"
    # The port that the node is told is another one, and does not count.
    command = ["systemd-socket-activate", "-l", address, name, known.binary, str(free_port())]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=clean_environment())
    try:
        for _ in range(600):
            code, text = run(known.binary, "ping", address, "--timeout", "20", env=clean_environment())
            if code == 0 or process.poll() is not None:
                break
            time.sleep(0.05)
        expect(code == 0, f"a node that is handed a socket does not answer: {text}")
    finally:
        process.terminate()
        expect(process.wait(60) == 0, "a node that was handed a socket does not end with 0")


def check_settings(known):
    """Also the examples behind a '#' have to be options."""
    text = (PACKAGING / "simple-kv.toml").read_text()
    settings = tomllib.loads(re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.M))
    known.check_words("simple-kv.toml", [f"--{key}" for key in settings if key not in ("port", "peers")])
    expect(len(settings) > len(tomllib.loads(text)), "simple-kv.toml: there are no examples behind a '#'")


# The containers.


def check_dockerfile(known):
    text = (PACKAGING / "Dockerfile").read_text().replace("\\\n", " ")
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    expect(f"FROM rust:{version}-" in text, f"Dockerfile: it does not build with Rust {version}")
    known.check_variables("Dockerfile", re.findall(r"\b(SIMPLE_KV_\w+)=", text))
    # In the same words as `docker inspect` has them.
    health = json.loads(re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.M)[1])
    entry = json.loads(re.search(r"^ENTRYPOINT (\[.*\])$", text, re.M)[1])
    expect([health[0]] == entry == [BINARY_IN_PLACE], "Dockerfile: HEALTHCHECK or ENTRYPOINT run something else")
    known.check_words("Dockerfile", health[1:])
    return health[1:]


def check_compose(compose, known, health, directory):
    for name, service in compose["services"].items():
        where = f"compose.yaml, {name}"
        variables = service["environment"]
        known.check_variables(where, variables)
        expect(variables["SIMPLE_KV_NAME"] == name, f"{where}: its name is another")
        expect(service["healthcheck"]["test"][2:] == health, f"{where}: its health check is not that of the Dockerfile")
        context = (PACKAGING / service["build"]["context"]).resolve()
        expect((context / service["build"]["dockerfile"]).is_file(), f"{where}: there is no such Dockerfile")
        secrets = {}
        for secret in service["secrets"]:
            is_private = (str(secret["uid"]), secret["mode"]) == ("65532", 0o400)
            expect(is_private, f"{where}: {secret['source']} is not the node's alone")
            source = compose["secrets"].get(secret["source"], {})
            expect("environment" in source, f"{where}: no variable has {secret['source']}")
            secrets[f"/run/secrets/{secret['target']}"] = directory / f"{name}-{secret['target']}"
        for path in secrets.values():
            path.write_text("0123456789abcdef\n")
            path.chmod(0o400)
        here = {key: str(secrets.get(value, value)) for key, value in variables.items()}
        here |= {"SIMPLE_KV_LISTEN": "0.0.0.0", "SIMPLE_KV_DATA_DIR": str(directory / name)}
        said = run(known.binary, "--check-config", env=clean_environment(**here))
        expect(said == (0, "ok\n"), f"{where}: --check-config ends with {said}")


# What Prometheus asks.


class Node:
    """One that runs as the unit has it, but on loopback and on free ports."""

    def __init__(self, unit, binary, directory, name, peer=None):
        service = Service(unit, binary, directory / name)
        self.service, self.name, self.port, self.peer_port = service, name, free_port(), free_port()
        here = f"127.0.0.1:{self.peer_port}"
        others = peer.peer_port if peer else self.peer_port
        command = [binary, *service.arguments(), "--listen", "127.0.0.1", "--peer-listen", here, "--advertise", here]
        command += ["--name", name, str(self.port), f"127.0.0.1:{others}"]
        self.log = directory / f"{name}.log"
        # What the unit's Type= and WatchdogSec= have systemd ask for.
        expect(service.service["Type"] == ["notify"], "unit: systemd does not wait until the node serves")
        self.notified, self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), []
        self.notified.setblocking(False)
        self.notified.bind(str(directory / f"{name}.notify"))
        asks = {"NOTIFY_SOCKET": str(directory / f"{name}.notify")}
        asks["WATCHDOG_USEC"] = str(int(service.service["WatchdogSec"][0]) * 1_000_000)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**service.environment, **asks})

    def ask(self, path, method="GET", body=None):
        basic = base64.b64encode(f"default:{PASSWORD}".encode()).decode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, {"Authorization": f"Basic {basic}"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.read().decode()

    def metrics(self):
        """Of each metric the labels of its samples."""
        served = {}
        for line in self.ask("/metrics").splitlines():
            if sample := re.match(r"(simplekv_\w+)(?:\{(.*)\})? ", line):
                served.setdefault(sample[1], []).append(dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or "")))
        return served

    def has_told(self, line):
        """Whether it has told the service manager this."""
        try:
            while True:
                self.told += self.notified.recv(65536).decode().splitlines()
        except BlockingIOError:
            return line in self.told

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(getattr(signal, self.service.service["KillSignal"][0]))
        return self.process.wait(60)


def is_healthy(binary, health, node):
    words = [word.replace(":8080", f":{node.port}") for word in health]
    return run(binary, *words, env=clean_environment())[0] == 0


def all_metrics(unit, binary, health, directory):
    """What two nodes serve, of which one goes while the other deletes."""
    nodes = []
    try:
        one = Node(unit, binary, directory, "one")
        nodes.append(one)
        two = Node(unit, binary, directory, "two", peer=one)
        nodes.append(two)
        for node in nodes:
            for line in ("READY=1", "WATCHDOG=1", "STATUS=ready"):
                wait_for(f"{line} of {node.name}", lambda: node.has_told(line), node)
            wait_for(f"{node.name}, ready", lambda: is_healthy(binary, health, node), node)
        wait_for("the link", lambda: one.metrics().get("simplekv_clock_skew_seconds"), one)
        one.ask("/v1/kv/key", "PUT", b"value")
        served = one.metrics()
        reload = [str(one.process.pid) if word == "$MAINPID" else word for word in one.service.words("ExecReload")]
        expect(run(*reload)[0] == 0, "unit: ExecReload fails")
        wait_for("the reload", lambda: "read the options again" in one.log.read_text(), one)
        expect(two.end() == 0, "unit: a node that is stopped does not end with 0")
        expect(two.has_told("STOPPING=1"), "unit: a node does not say that it stops")
        expect(not is_healthy(binary, health, two), "Dockerfile: a node that has ended is healthy")
        one.ask("/v1/kv/key", "DELETE")
        wait_for("who blocks deletes", lambda: one.metrics().get("simplekv_gc_blocked_by"), one)
        for name, samples in one.metrics().items():
            served.setdefault(name, []).extend(samples)
        return served
    except (AssertionError, OSError):
        for node in nodes:
            print(f"  {node.name}: {node.log.read_text()[-2000:]}")
        raise
    finally:
        for node in nodes:
            node.end()


def check_expression(where, text, served):
    """Every name of a metric, label and value has to be served; answers the labels of the metrics."""
    labels = {"job", "instance"}
    plain = re.sub(r"\b(by|on|group_left) \([^)]*\)", r"\1 ", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", text))
    for name in set(re.findall(r"[A-Za-z_]\w*", plain)) - WORDS:
        expect(name in served, f"{where}: no node serves {name}")
        labels.update(label for sample in served.get(name, []) for label in sample)
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", text):
        for label in grouped.split(", "):
            expect(label in labels, f"{where}: no metric has the label {label}")
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", text):
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            if label in ("job", "instance"):
                continue
            values = {sample.get(label) for sample in served.get(name, [])}
            for one in value.split("|") if "~" in operator else [value]:
                expect(one in values, f"{where}: {name} never has {label}=\"{one}\"")
    return labels


def check_alerts(alerts, served):
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        where = f"alerts.yaml, {rule.get('alert')}"
        labels = check_expression(where, rule["expr"], served)
        for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
            for label in re.findall(r"\$labels\.(\w+)", text):
                expect(label in labels, f"{where}: what it asks has no label {label}")
        expect(rule["labels"]["severity"] in ("warning", "critical"), f"{where}: it has no severity")
    if shutil.which("promtool"):
        code, text = run("promtool", "check", "rules", str(PACKAGING / "alerts.yaml"))
        expect(code == 0, f"alerts.yaml: promtool ends with {code}: {text}")


def check_dashboard(dashboard, served):
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expect(panels and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]),
           "grafana.json: there are no panels, or two of one id")
    for panel in panels:
        where = f"grafana.json, {panel['title']}"
        place = panel["gridPos"]
        expect(place["x"] + place["w"] <= 24, f"{where}: it is wider than the page")
        expect(panel["targets"], f"{where}: it shows nothing")
        for target in panel["targets"]:
            labels = check_expression(where, target["expr"], served)
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                expect(label in labels, f"{where}: what it asks has no label {label}")


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    known = Known(binary)
    unit = read_unit(PACKAGING / "simple-kv.service")
    dashboard = json.loads((PACKAGING / "grafana.json").read_text())
    with tempfile.TemporaryDirectory() as made:
        directory = pathlib.Path(made)
        print("the unit and its options")
        check_unit(unit, known, directory)
        check_socket(read_unit(PACKAGING / "simple-kv.socket"), known)
        check_settings(known)
        print("the Dockerfile")
        health = check_dockerfile(known)
        print("nodes as the unit runs them, and what the dashboard asks of them")
        served = all_metrics(unit, binary, health, directory) | UP
        check_dashboard(dashboard, served)
        if yaml:
            print("the compose file and the alerts")
            check_compose(yaml.safe_load((PACKAGING / "compose.yaml").read_text()), known, health, directory)
            check_alerts(yaml.safe_load((PACKAGING / "alerts.yaml").read_text()), served)
    if problems:
        sys.exit(f"{len(problems)} things are wrong in runtime/packaging")
    if not yaml:
        print("SKIPPED: no PyYAML, so compose.yaml and alerts.yaml were not read")
        sys.exit(77)
    print("all that the files name is there")


if __name__ == "__main__":
    main()
