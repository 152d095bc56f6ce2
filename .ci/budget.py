"""Holds the paths that every operation takes to the instructions that core/benches/budget.json says.

    python3 .ci/budget.py            counts, and fails where a count is more than 3 % off, either way
    python3 .ci/budget.py --record   writes what it counts

Each scenario of core/benches/budget.rs is run under callgrind, which counts while its rounds are carried out. Seeds,
clocks and data are fixed, so a count is the same each time. It is of one compiler, C library and kind of processor;
those are in the file too. A machine of another kind counts something else, and a count that is off there says nothing;
after another compiler the counts are to be recorded anew.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "core/benches/budget.json"
TOLERANCE = 0.03
SKIPPED = 77
MACHINE = ["libc", "avx2", "valgrind"]


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def counted_with():
    """What a count depends on besides the code."""
    rustc = output("rustc", "-vV")
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return {
        "host": re.search(r"^host: (.*)$", rustc, re.MULTILINE)[1],
        "rustc": rustc.splitlines()[0],
        "libc": " ".join(platform.libc_ver()),
        "avx2": "avx2" in flags,
        "valgrind": output("valgrind", "--version").strip(),
    }


def build():
    """The program, built as it is for a release."""
    lines = output("cargo", "bench", "--quiet", "--locked", "--no-run", "--message-format=json", "-p", "kv-core",
                   "--bench", "budget")
    messages = [json.loads(line) for line in lines.splitlines()]
    return next(message["executable"] for message in messages if message.get("executable"))


def instructions(program, scenario):
    """What all of its rounds take."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "callgrind.out"
        # Nothing of the environment, which lies on the program's stack.
        run = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=*counted_round*", f"--callgrind-out-file={file}",
             program, scenario],
            cwd=folder, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        counted = re.search(r"^(?:summary|totals): (\d+)$", file.read_text() if file.exists() else "", re.MULTILINE)
        if run.returncode != 0 or not counted or counted[1] == "0":
            sys.exit(f"{scenario} could not be counted:\n{run.stdout}")
        return int(counted[1])


def count(program):
    """By scenario: instructions for an operation."""
    rows = [row.split() for row in output(program).splitlines()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = [pool.submit(instructions, program, name) for name, _ in rows]
    return {name: round(counted.result() / int(ops), 1) for (name, ops), counted in zip(rows, counts)}


def compare(budget, counts):
    """Tells of each scenario; what is not as recorded."""
    print(f"{'instructions an operation':26} {'budget':>9} {'counted':>9}")
    faults = []
    for name in sorted({**budget, **counts}):
        was, now = budget.get(name), counts.get(name)
        change = now / was - 1 if was and now else None
        print(f"{name:26} {was or '-':>9} {now or '-':>9}" + ("" if change is None else f" {change:+8.1%}"))
        if change is None:
            faults.append(f"{name} is not in the file" if now else f"{name} is in the file, and no scenario any more")
        elif change > TOLERANCE:
            faults.append(f"{name} takes {change:.1%} more than its budget: callgrind_annotate tells where it goes")
        elif change < -TOLERANCE:
            faults.append(f"{name} takes {-change:.1%} less than its budget: record the gain, so that it is kept")
    return faults


def main():
    is_to_record = sys.argv[1:] == ["--record"]
    if sys.argv[1:] and not is_to_record:
        sys.exit(__doc__)
    ours = counted_with()
    is_new = is_to_record and not FILE.exists()
    recorded = {"counted_with": {}, "instructions": {}} if is_new else json.loads(FILE.read_text())
    theirs = recorded["counted_with"]
    if not is_to_record and theirs["host"] != ours["host"]:
        print(f"SKIPPED: the budget is for {theirs['host']}, and this is {ours['host']}")
        sys.exit(SKIPPED)
    counts = count(build())
    faults = compare(recorded["instructions"], counts)
    if is_to_record:
        FILE.write_text(json.dumps({"counted_with": ours, "instructions": counts}, indent=2) + "\n")
        print(f"written to {FILE.relative_to(ROOT)}")
    elif faults:
        print("\n".join(faults))
        for what in ours:
            if theirs[what] != ours[what]:
                print(f"it was recorded with another {what}, which may be why: {theirs[what]}, here {ours[what]}")
        if any(theirs[what] != ours[what] for what in MACHINE):
            print("SKIPPED: the budget is that of another kind of machine")
            sys.exit(SKIPPED)
        print("if what changed is meant: python3 .ci/budget.py --record, and say in the commit what it gave or cost")
        sys.exit(1)


if __name__ == "__main__":
    main()
