"""Uses the page of a cluster of three in a headless Chromium: `page.py BINARY [DIRECTORY]`.

With a directory, pictures of it at the widths of a desktop and of a phone are put there.
"""

import pathlib
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

from timeline import Browser, expect, wait_for

HOSTILE = '<img src=x onerror="document.title=\'run\'"><script>document.title="run"</script>'


class Node:
    def __init__(self, binary, name, peers):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        others = [",".join(f"127.0.0.1:{peer.port}" for peer in peers)] if peers else []
        command = [binary, str(self.port), *others, "--name", name, "--advertise", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{self.port}"
        wait_for(name, lambda: self.ask("GET", "/healthz")[0] == 200)

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def path(self, key):
        return "/v1/kv/" + urllib.parse.quote(key, safe="")

    def put(self, key, value, query=""):
        status, _ = self.ask("PUT", self.path(key) + query, value if isinstance(value, bytes) else value.encode())
        assert status in (201, 204), status

    def get(self, key):
        status, body = self.ask("GET", self.path(key))
        return body.decode() if status == 200 else None

    def end(self):
        self.process.kill()
        self.process.wait(10)


def check(browser, nodes, pictures):
    one, two, three = nodes
    text = lambda selector: browser.run("return document.querySelector(arguments[0])?.textContent ?? null", selector)
    value = lambda selector: browser.run("return document.querySelector(arguments[0]).value", selector)
    keys = lambda: browser.run("return [...document.querySelectorAll('#keys button')].map(e => e.textContent)")
    button = lambda key: f"#keys [data-key='{urllib.parse.quote(key, safe='')}']"

    def picture(name):
        if pictures:
            browser.settle()
            browser.picture(pictures / f"{name}.png")

    def type_into(selector, typed):
        found = browser.call("POST", "/element", {"using": "css selector", "value": selector})
        browser.call("POST", f"/element/{next(iter(found.values()))}/clear", {})
        browser.keys(selector, typed)

    wait_for("the stream", lambda: text("#live") == "live")
    wait_for("all nodes", lambda: text("#state") == "all 3 nodes linked")
    expect("the node's name", text("#node"), "one")
    expect("rows of nodes", browser.run("return [...document.querySelectorAll('#nodes tbody tr')].map(e => e.firstChild.textContent)"), ["one", "three", "two"])
    wait_for("the keys that were there", lambda: len(keys()) == 30)
    expect("they are in order", keys(), sorted(keys()))
    wait_for("a rate", lambda: (text("#figures dd") or "-").isdigit())

    two.put("by-two", "first")
    wait_for("a key that another node has written", lambda: "by-two" in keys())
    expect("the change is told", text("#changes li > :last-child"), "by-two")
    browser.click(button("by-two"))
    wait_for("its value", lambda: value("#value") == "first")
    wait_for("who wrote it", lambda: "two" in (text("#why") or ""))
    two.put("by-two", "second")
    wait_for("a newer value, unasked", lambda: value("#value") == "second")
    picture("page-desktop-light")

    type_into("#value", "edited here")
    type_into("#ttl", "600")
    browser.click("#save")
    wait_for("the edit on another node", lambda: three.get("by-two") == "edited here")
    wait_for("that it is saved", lambda: text("#note") == "Saved.")
    ttl = three.ask("GET", "/v1/kv/by-two") and urllib.request.urlopen(three.base + "/v1/kv/by-two").headers["Simple-KV-TTL-Ms"]
    expect("its time to live", 500_000 < int(ttl) <= 600_000, True)

    type_into("#value", "mine")
    three.put("by-two", "theirs")
    wait_for("word of a change in between", lambda: "changed meanwhile" in text("#note"))
    expect("what was typed stays", value("#value"), "mine")
    browser.click("#save")
    wait_for("that nothing was saved", lambda: "nothing was saved" in text("#note"))
    expect("nothing was", one.get("by-two"), "theirs")
    picture("page-conflict")
    browser.click("#newer")
    wait_for("theirs", lambda: value("#value") == "theirs")
    type_into("#value", "mine after all")
    two.put("by-two", "theirs again")
    wait_for("word of it", lambda: "changed meanwhile" in text("#note"))
    browser.click("#overwrite")
    wait_for("mine", lambda: two.get("by-two") == "mine after all")

    wait_for("calm", lambda: text("#note") == "Saved.")
    browser.click("#delete")
    expect("it is asked again", text("#delete"), "Really delete")
    browser.click("#delete")
    wait_for("the delete on another node", lambda: three.get("by-two") is None)
    wait_for("the row to go", lambda: "by-two" not in keys())

    two.put(HOSTILE[:40], HOSTILE)
    three.put("a/key with ü\n", b"\x00\xff\r\n")
    wait_for("both", lambda: HOSTILE[:40] in keys() and "a/key with \\xc3\\xbc\\x0a" in keys())
    browser.click(button(HOSTILE[:40]))
    wait_for("the value as text", lambda: value("#value") == HOSTILE)
    expect("no markup", browser.run("return [document.querySelectorAll('img').length, document.scripts.length, document.title]"), [0, 1, "one, Simple-KV"])
    browser.click(button("a/key with ü\n"))
    wait_for("bytes", lambda: value("#value") == "\\x00\\xff\\x0d\\x0a")
    expect("they are not edited", browser.run("return document.getElementById('save').disabled"), True)

    browser.click("#new")
    type_into("#key", "neu/ä b")
    browser.keys("#value", "made here")
    browser.click("#save")
    wait_for("a key made here", lambda: two.get("neu/ä b") == "made here")
    type_into("#prefix", "user:1")
    browser.keys("#prefix", "\ue007")
    wait_for("those that begin so", lambda: keys() == ["user:1", *(f"user:1{at}" for at in range(10))])
    two.put("user:1x", "v")
    two.put("elsewhere", "v")
    wait_for("one more that begins so", lambda: "user:1x" in keys())
    expect("and no other", "elsewhere" in keys(), False)
    browser.click(button("user:11"))
    two.ask("DELETE", "/v1/kv/user:12")
    wait_for("one less", lambda: "user:12" not in keys())
    two.ask("DELETE", "/v1/kv/user:11")
    wait_for("that the chosen one is gone", lambda: "not there" in text("#note"))

    browser.click(button("user:13"))
    wait_for("its value", lambda: value("#value") == "value 13")
    browser.theme("dark")
    picture("page-desktop-dark")
    expect("dark", browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(20, 23, 27)")
    browser.resize(360, 740, 2, True)
    browser.settle()
    expect("as wide as a phone", browser.run("return [innerWidth, document.documentElement.scrollWidth]"), [360, 360])
    picture("page-phone-dark")
    browser.theme("light")
    browser.run("document.getElementById('edit-title').scrollIntoView()")
    picture("page-phone-light")
    expect("no errors but those that were meant", [entry for entry in browser.errors() if " 404 " not in entry["message"] and " 412 " not in entry["message"]], [])

    three.end()
    wait_for("word of a node that is down", lambda: text("#state") == "1 of 3 nodes not linked")
    one.end()
    wait_for("that it does not answer", lambda: text("#state") == "does not answer" and text("#live") == "reconnecting")
    print("ok: a node that is gone is told")


def main(binary, pictures=None):
    nodes, browser = [], None
    try:
        for name in ("one", "two", "three"):
            nodes.append(Node(binary, name, nodes[:1]))
        for at in range(30):
            nodes[0].put(f"user:{at}", f"value {at}", "?ttl=3600" if at % 3 == 0 else "")
        browser = Browser()
        browser.resize(1280, 900)
        browser.theme("light")
        browser.call("POST", "/url", {"url": nodes[0].base + "/"})
        check(browser, nodes, pictures and pathlib.Path(pictures))
    finally:
        if browser:
            browser.end()
        for node in nodes:
            node.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
