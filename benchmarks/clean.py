#!/usr/bin/env python3
"""Rows a second and peak memory of `burnish clean`, beside the guide's way and beside datasketch.

    python benchmarks/clean.py                            # 10,000 and 100,000 rows
    python benchmarks/clean.py --rows 1000000 --peers guide
    pip install pandas datasketch                         # what the peers need

Each measurement is a process of its own. Memory is the most that it and its children held together
(proportional set size, looked at five times a second). `guide` is pandas and two regular
expressions: collapse white space, remove `<.*?>`, drop equal rows. `datasketch` only looks for
near-duplicates (64 permutations), without reading or cleaning.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made_up_rows import write_csv

BURNISH = """
import sys
from pathlib import Path
from burnish.cleaning.clean import clean
from burnish.recipe import CleanSection, DataSection, Source
from burnish.run_dir import RunDir
if __name__ == "__main__":
    report = clean(DataSection(sources=[Source(path=sys.argv[1])]), CleanSection(),
                   RunDir(Path(sys.argv[2])))
    print(report.num_kept)
"""
GUIDE = """
import re, sys
import pandas as pd
def clean_text(text):
    text = re.sub(r"\\\\s+", " ", str(text))
    return re.sub(r"<.*?>", "", text).strip()
rows = pd.read_csv(sys.argv[1]).drop_duplicates().dropna(subset=["instruction", "output"])
for name in ("instruction", "input", "output"):
    rows[name] = rows[name].fillna("").map(clean_text)
rows.to_csv(sys.argv[2] + ".csv", index=False)
print(len(rows))
"""
DATASKETCH = """
import csv, re, sys
from datasketch import MinHash, MinHashLSH
index, kept = MinHashLSH(threshold=0.6, num_perm=64), 0
for number, row in enumerate(csv.DictReader(open(sys.argv[1], encoding="utf-8", newline=""))):
    text = re.sub(r"[\\\\W_]+", "", (row["instruction"] + row["output"]).lower())
    sketch = MinHash(num_perm=64)
    sketch.update_batch([text[i : i + 4].encode() for i in range(max(1, len(text) - 3))])
    if not index.query(sketch):
        index.insert(number, sketch)
        kept += 1
print(kept)
"""
PEERS = {"burnish": BURNISH, "guide": GUIDE, "datasketch": DATASKETCH}


def measure(code: str, data: Path, folder: Path) -> tuple[float, float, float, int]:
    """Wall seconds, CPU seconds, peak GiB and rows kept."""
    script = folder / "measured.py"
    script.write_text(code.replace("\\\\", "\\"), encoding="utf-8")
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, str(script), str(data), str(folder / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _held(process.pid))
            time.sleep(0.2)
        seconds = time.monotonic() - started
        out = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit("this measurement failed; run it alone to see why")
    return seconds, _cpu_of_children(), peak, int(out.split()[-1])


def _held(pid: int) -> float:
    """GiB of memory that a process and its descendants hold together."""
    total = 0
    queue = [pid]
    while queue:
        one = queue.pop()
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
    return total / 2**20


_cpu_before = 0.0


def _cpu_of_children() -> float:
    import resource

    global _cpu_before
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = usage.ru_utime + usage.ru_stime - _cpu_before
    _cpu_before += spent
    return spent


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--peers", nargs="*", default=["guide", "datasketch"], choices=PEERS)
    parser.add_argument("--data", type=Path, help="a CSV of instruction, input, output instead")
    asked = parser.parse_args()
    print("| rows | what | seconds | rows/s | CPU seconds | peak GiB | rows kept |")
    print("|---|---|---|---|---|---|---|")
    for num_rows in asked.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            data = asked.data or folder / "rows.csv"
            if not asked.data:
                write_csv(data, num_rows)
            for peer in ["burnish", *asked.peers]:
                seconds, cpu, peak, kept = measure(PEERS[peer], data, folder)
                print(
                    f"| {num_rows:,} | {peer} | {seconds:.1f} | {num_rows / seconds:,.0f} "
                    f"| {cpu:.1f} | {peak:.2f} | {kept:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
