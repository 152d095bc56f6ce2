"""Opens a timeline page of a failing run in a headless Chromium and uses it: `timeline.py PAGE [DIRECTORY]`.

The page is the one that `cargo test -p sim --test timeline` leaves in the target's directory. With a directory, pictures
of it at the widths of a desktop and of a phone are put there.
"""

import base64
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

WAIT_S = 20
ARROW_DOWN, ESCAPE = "\ue015", "\ue00c"


class Browser:
    """A session of chromedriver, spoken to by the W3C WebDriver protocol."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{port}"
        wait_for("chromedriver", lambda: self.call("GET", "/status")["ready"])
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        capabilities = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.base += f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {json.load(error)['value']['message']}") from None

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector):
        """As a user clicks: with the pointer, at the middle of what is there."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{next(iter(found.values()))}/click", {})

    def keys(self, selector, text):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{next(iter(found.values()))}/value", {"text": text})

    def resize(self, width, height, scale=1, mobile=False):
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def theme(self, name):
        features = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": features})

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def settle(self):
        """Lets the page draw."""
        script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(1)))"
        self.call("POST", "/execute/async", {"script": script, "args": []})

    def errors(self):
        return [entry for entry in self.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def end(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(10)


def wait_for(what, is_there):
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if is_there():
                return
        except (OSError, AssertionError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"{what} is not there after {WAIT_S} s")


def expect(what, seen, wanted):
    assert seen == wanted, f"{what}: {seen!r}, not {wanted!r}"
    print(f"ok: {what}")


def check(browser, pictures):
    texts = lambda selector: browser.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
    count = lambda selector: len(texts(selector))
    data = browser.run("return JSON.parse(document.getElementById('data').textContent)")
    browser.settle()
    lanes = [f"n{node}" for node in range(data["nodes"])]
    expect("a lane for each node", texts("#heads [data-lane]"), lanes)
    expect("bars in the lanes", count("[data-run]") >= len(lanes), True)
    expect("the failure's line, with its text", "went back" in texts("[data-kind=failure] text")[0], True)
    expect("the verdict above", "FAILED Lww" in texts("#verdict")[0], True)
    expect("its details", "went back" in texts("#side dl")[0], True)
    expect("the failing key is chosen", browser.run("return document.getElementById('key').value"), data["failure"]["key"])
    expect("versions of it", count("[data-version]") > 0, True)
    if pictures:
        browser.picture(pictures / "desktop.png")

    expect("no heartbeats at first", count("[data-kind=beat]"), 0)
    browser.click("[data-filter=beat]")
    browser.settle()
    expect("heartbeats on demand", count("[data-kind=beat]") > 0, True)
    browser.click("[data-filter=beat]")
    browser.settle()
    expect("and away again", count("[data-kind=beat]"), 0)

    browser.click("[data-node='3']")
    browser.settle()
    expect("a lane less", texts("#heads [data-lane]"), lanes[:3])
    browser.click("[data-node='3']")
    browser.settle()

    browser.run("document.getElementById('time').value = '0.1'; document.getElementById('time').onchange()")
    browser.settle()
    browser.run("document.querySelector('[data-kind=data]:not([aria-selected=true]) text').setAttribute('id', 'wanted')")
    browser.click("#wanted")
    browser.settle()
    expect("a message's frames", any("record k1=t10" in text for text in texts("#side li")), True)
    expect("a link to its time", browser.run("return location.hash").startswith("#t=0.1"), True)
    expect("it is chosen", count("[aria-selected=true]"), 1)
    if pictures:
        browser.picture(pictures / "message.png")

    first = browser.run("return location.hash + document.querySelector('#side h2').textContent")
    browser.keys("#scroll", ARROW_DOWN)
    browser.settle()
    second = browser.run("return location.hash + document.querySelector('#side h2').textContent")
    expect("the arrow keys go on", first != second, True)
    browser.keys("#scroll", ESCAPE)
    browser.settle()
    expect("escape chooses nothing", texts("#side h2"), ["Nothing chosen"])
    browser.keys("#scroll", "f")
    browser.settle()
    expect("f goes to the failure", texts("#side h2"), ["The oracle broke"])

    browser.click("#plan")
    expect("the plan", texts("#items")[0].splitlines(), data["plan"])
    expect("the replay command", texts("#replay"), [data["replay"]])
    browser.run("document.getElementById('about').close()")

    before = browser.run("return document.getElementById('space').offsetHeight")
    browser.click("#out")
    browser.click("#out")
    browser.settle()
    expect("zooming out", browser.run("return document.getElementById('space').offsetHeight") < before, True)
    if pictures:
        browser.picture(pictures / "overview.png")
    browser.click("#in")
    browser.click("#in")

    browser.theme("dark")
    browser.settle()
    expect("dark", browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(18, 22, 29)")
    if pictures:
        browser.picture(pictures / "dark.png")

    browser.resize(390, 844, 2, True)
    browser.run("location.hash = '#t=0.6'; location.reload()")
    wait_for("the page", lambda: count("#heads [data-lane]") == len(lanes))
    browser.settle()
    expect("the page is as wide as a phone", browser.run("return [innerWidth, document.documentElement.scrollWidth]"), [390, 390])
    if pictures:
        browser.picture(pictures / "phone.png")
    browser.run("document.querySelector('[data-kind=client] text').setAttribute('id', 'wanted')")
    browser.click("#wanted")
    browser.settle()
    expect("details on a phone", browser.run("return getComputedStyle(document.getElementById('side')).display"), "block")
    if pictures:
        browser.picture(pictures / "phone-details.png")
    expect("no errors", browser.errors(), [])


def main(page, pictures=None):
    browser = Browser()
    try:
        browser.resize(1440, 900)
        browser.theme("light")
        browser.call("POST", "/url", {"url": pathlib.Path(page).resolve().as_uri()})
        check(browser, pictures and pathlib.Path(pictures))
    finally:
        browser.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
