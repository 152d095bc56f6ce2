"""Real clients of others by TLS: `tls_clients.py BINARY` has a node met by redis-cli, redis-benchmark, curl and
openssl s_client. Those that are not installed are told as left out; without openssl, which makes the certificates, it
ends with 77.
"""

import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def run(*command, said=b"", expected=0):
    done = subprocess.run(command, input=said, capture_output=True, timeout=60)
    text = (done.stdout + done.stderr).decode(errors="replace")
    is_so = done.returncode == expected if isinstance(expected, int) else done.returncode in expected
    assert is_so, f"{' '.join(command)} ends with {done.returncode}: {text}"
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Certificates:
    def __init__(self, directory):
        self.directory = directory
        self.ca, self.strange = self.authority("ca"), self.authority("strange")
        self.node = self.sign("node", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client = self.sign("client", "extendedKeyUsage=clientAuth")

    def authority(self, name):
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", str(key), "-out", str(cert))
        return str(cert)

    def sign(self, name, extension):
        """One of the authority; its file and that of its key."""
        cert, key, request, more = (str(self.directory / f"{name}{end}") for end in (".pem", ".key", ".csr", ".ext"))
        pathlib.Path(more).write_text(extension + "\n")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.ca, "-CAkey", self.ca[:-3] + "key",
            "-CAcreateserial", "-extfile", more, "-out", cert)
        pathlib.Path(key).chmod(0o600)
        return cert, key


class Node:
    def __init__(self, binary, certificates, *flags):
        self.port = free_port()
        cert, key = certificates.node
        command = [binary, self.port, "--tls-cert", cert, "--tls-key", key, *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.port))) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the node does not come")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(30) == 0, "the node does not end well"


def redis_cli(node, certificates):
    tls = ["redis-cli", "-p", node.port, "--tls", "--cacert", certificates.ca]
    assert run(*tls, "SET", "name", "Alice") == "OK\n"
    assert run(*tls, "-3", "HGETALL", "none") == "\n"
    assert run(*tls, said=b"GET name\n" * 1000) == "Alice\n" * 1000
    assert run("redis-cli", "-p", node.port, "GET", "name") == "Alice\n", "plain text beside it"
    said = run("redis-cli", "-p", node.port, "--tls", "--cacert", certificates.strange, "PING", expected=1)
    assert "certificate verify failed" in said, said


def redis_benchmark(node, certificates):
    tls = ["redis-benchmark", "-p", node.port, "--tls", "--cacert", certificates.ca]
    said = run(*tls, "-t", "set,get", "-n", "2000", "-c", "20", "-P", "8", "-q")
    assert "SET: " in said and "GET: " in said and "rror" not in said, said


def curl(node, certificates):
    url = f"https://localhost:{node.port}/v1/kv/of-curl"
    tls = ["curl", "--silent", "--show-error", "--fail", "--cacert", certificates.ca]
    run(*tls, "--request", "PUT", "--data-binary", "value", url)
    assert run(*tls, url) == "value"
    assert run(*tls, "--tls-max", "1.2", url) == "value"
    # 60: its certificate is not known.
    run("curl", "--silent", "--cacert", certificates.strange, url, expected=60)


def s_client(node, certificates):
    command = ["openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", certificates.ca]
    command += ["-connect", f"localhost:{node.port}", "-servername", "localhost", "-verify_hostname", "localhost"]
    for version in ("-tls1_2", "-tls1_3"):
        with subprocess.Popen([*command, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as typed:
            typed.stdin.write(b"SET typed by-hand\nGET typed\n")
            typed.stdin.flush()
            lines = [typed.stdout.readline() for _ in range(2)]
            typed.stdin.write(b"QUIT\n")
            typed.stdin.flush()
            lines.append(typed.stdout.readline())
            typed.stdin.close()
            typed.wait(30)
        assert lines == [b"OK\n", b"by-hand\n", b"OK\n"], (version, lines)
    # What is older is spoken by nobody.
    said = run(*command, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", expected=range(1, 256))
    assert "alert" in said or "no protocols" in said or "unsupported" in said, said


def certificates_of_clients(binary, certificates):
    """Each that is there shows one where it must."""
    cert, key = certificates.client
    with Node(binary, certificates, "--tls", "required", "--tls-client-ca", certificates.ca) as node:
        if shutil.which("redis-cli"):
            tls = ["redis-cli", "-p", node.port, "--tls", "--cacert", certificates.ca]
            assert run(*tls, "--cert", cert, "--key", key, "PING") == "PONG\n"
            run(*tls, "PING", expected=1)
        if shutil.which("curl"):
            tls = ["curl", "--silent", "--fail", "--cacert", certificates.ca]
            url = f"https://localhost:{node.port}/healthz"
            run(*tls, "--cert", cert, "--key", key, url)
            run(*tls, url, expected=range(1, 256))


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    if not shutil.which("openssl"):
        print("SKIPPED: no openssl, so there are no certificates")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as made:
        certificates = Certificates(pathlib.Path(made))
        with Node(binary, certificates) as node:
            for client in (redis_cli, redis_benchmark, curl, s_client):
                name = {"s_client": "openssl"}.get(client.__name__, client.__name__.replace("_", "-"))
                if not shutil.which(name):
                    print(f"left out: {name} is not installed")
                    continue
                client(node, certificates)
                print(f"{client.__name__}: ok")
        certificates_of_clients(binary, certificates)
        print("certificates of clients: ok")


if __name__ == "__main__":
    main()
