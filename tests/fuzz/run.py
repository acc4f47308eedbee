"""Fuzz every target, and write a record: inputs, crashes and seconds of each (of the clock, of the processor).

python tests/fuzz/run.py --inputs 10000 --out fuzz.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

try:
    from fuzz.inputs import inputs
    from fuzz.targets import SEEDS, TARGETS, FoundError, tried
except ImportError:  # run as a script of this folder
    from inputs import inputs  # type: ignore[no-redef]
    from targets import SEEDS, TARGETS, FoundError, tried  # type: ignore[no-redef]


def fuzzed(name: str, number: int, folder: Path) -> dict[str, Any]:
    """Run so many inputs of a target; what came of them. The seeds come first, and must be readable."""
    crashes: list[str] = []
    ran, slowest, began, cpu = 0, (0.0, b""), time.perf_counter(), time.process_time()

    def one(data: bytes) -> None:
        nonlocal ran, slowest
        ran += 1
        try:
            slowest = max(slowest, (tried(TARGETS[name], data, folder), data))
        except FoundError as failure:
            crashes.append(str(failure))

    for seed in SEEDS[name]:
        TARGETS[name](seed, folder)  # raises where a seed is no right file; what is imported late is imported now
        one(seed)
    drawn = settings(
        max_examples=max(1, number - ran), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )(given(inputs(name))(one))  # fmt: skip
    drawn()
    return {
        "inputs": ran,
        "crashes": crashes[:5],
        "crashed": len(crashes),
        "seconds": round(time.perf_counter() - began, 2),
        "processor": round(time.process_time() - cpu, 2),
        "slowest": [round(slowest[0], 3), repr(slowest[1][:200])],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one")
    parser.add_argument("--out", type=Path, help="the record, as JSON")
    options = parser.parse_args()
    chosen = options.target or list(TARGETS)
    with tempfile.TemporaryDirectory() as folder:
        record = {name: fuzzed(name, -(-options.inputs // len(chosen)), Path(folder)) for name in chosen}
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return 1 if any(found["crashed"] for found in record.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
