#!/usr/bin/env python3
"""Plants each fault of this directory into a copy of the tree and runs the suite until it notices.

A fault is a patch with three lines before its diff: what is broken, which rule that breaks, and what a user would see.
What notices it is looked for in this order: drawn plans, seed by seed from 0; the marks of a thousand of them or more;
the plans of `sim/regressions`; the plans written by hand; the tests of the core. The table of that goes into `sim/README.md`. The tree as it is comes first, and must pass.

    python3 sim/faults/run.py                        all, up to 3,000 seeds each
    python3 sim/faults/run.py --only 01 18 --seeds 500
    python3 sim/faults/run.py --check                only whether every patch applies
"""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import select
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = ROOT / "sim/README.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"

# A run that prints nothing for so long hangs: a seed takes some 50 ms.
SILENCE_S = 120

# What an oracle said is cut to this in the table.
SAID_MAX = 100


class Broken(Exception):
    """Neither found nor survived: the fault could not be tried."""


class Worker:
    """A copy of the tree, with a build of its own that lasts from run to run."""

    def __init__(self, number):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "faults"
        self.tree, self.target = target / f"tree-{number}", target / f"build-{number}"
        self.env = dict(
            os.environ,
            CARGO_TARGET_DIR=str(self.target),
            CARGO_PROFILE_RELEASE_LTO="off",
            CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16",
            CARGO_PROFILE_RELEASE_DEBUG="0",
            CARGO_INCREMENTAL="1",
            CARGO_TERM_COLOR="never",
            # The copy may lie inside of the checkout, whose files are not meant.
            GIT_CEILING_DIRECTORIES=str(target),
        )
        copy_tree(self.tree)

    def call(self, *command):
        return subprocess.run(command, cwd=self.tree, env=self.env, text=True, capture_output=True)

    def plant(self, patch):
        """Applies a patch; how to undo that."""
        names = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text(), re.MULTILINE)
        before = {name: (self.tree / name).read_bytes() for name in names}
        done = self.call("git", "apply", str(patch))
        if done.returncode or any((self.tree / name).read_bytes() == before[name] for name in names):
            raise Broken(f"does not apply: {done.stderr.strip()}")
        return before

    def restore(self, before):
        for name, content in before.items():
            (self.tree / name).write_bytes(content)

    def try_suite(self, seeds):
        """Runs everything until something fails: by what, in how many seconds, which oracle, what it said. None if all
        passes."""
        built = self.call("cargo", "build", "--quiet", "--locked", "--release", "-p", "sim")
        if built.returncode:
            raise Broken(f"does not build:\n{built.stderr}")
        began = time.monotonic()
        found = self.try_seeds(seeds) or self.try_regressions()
        found = found or self.try_tests("plans written by hand", "-p", "sim", "--release", "--test", "scripted")
        found = found or self.try_tests("tests of the core", "-p", "kv-core")
        return (found[0], time.monotonic() - began, *found[1:]) if found else None

    def sim(self, *args):
        return self.call(str(self.target / "release/sim"), *args)

    def try_seeds(self, seeds):
        command = [str(self.target / "release/sim"), "--seeds", f"0..{seeds}", "--hash-only", "--fail-fast", "--require-marks"]
        process = subprocess.Popen(command, cwd=self.tree, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seed, verdict, missing, rest = -1, "passed", [], b""
        try:
            while True:
                if not select.select([process.stdout], [], [], SILENCE_S)[0]:
                    return f"seed {seed + 1}", "hang", f"nothing for {SILENCE_S} s"
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in map(bytes.decode, lines):
                    if line.startswith("mark "):
                        missing.append(line.removeprefix("mark "))
                    else:
                        seed, verdict = int(line.split()[0]), line.split()[1]
        finally:
            process.kill()
            status = process.wait()
        if verdict == "FAILED":
            return (f"seed {seed}", *failure_of(self.sim("--seed", str(seed))))
        if missing:
            return f"the marks of {seeds:,} seeds", "mark", "; ".join(missing)
        if seed + 1 < seeds:
            return (f"seed {seed + 1}", *failure_of(self.sim("--seed", str(seed + 1))))
        return None if status in (0, -9) else ("seeds", "exit", str(status))

    def try_regressions(self):
        for plan in sorted((self.tree / "sim/regressions").glob("*.plan")):
            done = self.sim("--plan", str(plan))
            if done.returncode:
                return (f"plan `{plan.stem}`", *failure_of(done))
        return None

    def try_tests(self, what, *args):
        done = self.call("cargo", "test", "--quiet", "--locked", *args)
        if not done.returncode:
            return None
        failed = re.findall(r"^test (\S+) .*FAILED|^    (\S+)$", done.stdout, re.MULTILINE)
        names = sorted({one or other for one, other in failed})
        if not names:
            raise Broken(f"the {what} do not run:\n{done.stderr[-2000:]}")
        return what, "test", ", ".join(f"`{name}`" for name in names[:3])


def failure_of(done):
    """Which oracle failed, and what it said."""
    if match := re.search(r"^FAILED (\w+) at \S+ s: (.*)", done.stdout, re.MULTILINE):
        return match[1], match[2]
    if match := re.search(r"panicked at (\S+):\d+:\n(.*)", done.stderr):
        return "assertion", f"{match[1]}: {match[2]}"
    return "exit", f"{done.returncode}"


def copy_tree(to):
    """Brings a copy of what git would commit up to date. Files that are the same keep their times, so that cargo builds
    only what has changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    )
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        source, copy = ROOT / name, to / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for old in [path for path in to.rglob("*") if path.is_file() and str(path.relative_to(to)) not in names]:
        old.unlink()


def patches(only):
    every = sorted(HERE.glob("*.patch"))
    chosen = [patch for patch in every if not only or any(patch.name.startswith(name) for name in only)]
    if not chosen:
        sys.exit(f"no patch begins with {' or '.join(only)}")
    return chosen


def check(chosen):
    """Whether every patch still applies, and says what it is."""
    bad = 0
    for patch in chosen:
        head = [line.split(":")[0] for line in patch.read_text().split("\n\n")[0].splitlines()]
        done = subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, text=True, capture_output=True)
        if done.returncode or head != ["Broken", "Breaks", "A user sees"]:
            bad += 1
            print(f"{patch.name}: {done.stderr.strip() or 'its three lines are missing'}")
    print(f"{len(chosen) - bad} of {len(chosen)} patches apply")
    return bad == 0


def cell(text):
    """As it fits into a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= SAID_MAX else text[: SAID_MAX - 1] + "…"


def write_table(rows):
    """Puts rows by name into the table, among those of faults that were not run."""
    head, rest = README.read_text().split(BEGIN)
    table, tail = rest.split(END)
    kept = {line.split("|")[1].strip(): line for line in table.splitlines() if re.match(r"\| \d", line)}
    known = {patch.stem for patch in HERE.glob("*.patch")}
    merged = {name: line for name, line in {**kept, **rows}.items() if name in known}
    survived = sum("| **survived** " in line for line in merged.values())
    lines = [
        BEGIN,
        f"{len(merged) - survived} of {len(merged)} faults were noticed.",
        "",
        "| fault | noticed by | oracle | seconds | what it said |",
        "|---|---|---|---|---|",
        *(merged[name] for name in sorted(merged)),
        END,
    ]
    README.write_text(head + "\n".join(lines) + tail)


def run(chosen, seeds, jobs):
    workers = queue.Queue()
    for number in range(jobs):
        workers.put(Worker(number))
    first = workers.get()
    found = first.try_suite(seeds)
    workers.put(first)
    if found:
        print(f"the tree as it is fails: {found}")
        return False
    print(f"the tree as it is passes {seeds:,} seeds and all that comes behind them", flush=True)

    def try_fault(patch):
        worker = workers.get()
        try:
            before = worker.plant(patch)
            try:
                return worker.try_suite(seeds)
            finally:
                worker.restore(before)
        finally:
            workers.put(worker)

    well, rows = True, {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tried = {pool.submit(try_fault, patch): patch.stem for patch in chosen}
        for future in concurrent.futures.as_completed(tried):
            name = tried[future]
            try:
                found = future.result()
            except Broken as broken:
                print(f"{name}: {broken}", flush=True)
                well = False
                continue
            if found:
                by, took_s, oracle, said = found
                behind = "" if "seed" in by else f", after {seeds:,} seeds"
                rows[name] = f"| {name} | {by}{behind} | {oracle} | {took_s:.0f} | {cell(said)} |"
            else:
                rows[name] = f"| {name} | **survived** {seeds:,} seeds and all that comes behind them | | | |"
                well = False
            print(rows[name], flush=True)
            write_table(rows)
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="faults whose names begin so")
    parser.add_argument("--seeds", type=int, default=3_000, help="drawn plans to run at most (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the tree to build and run at once")
    parser.add_argument("--check", action="store_true", help="only look whether every patch applies")
    args = parser.parse_args()
    chosen = patches(args.only)
    well = check(chosen) if args.check else run(chosen, args.seeds, args.jobs)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
