"""The search itself: its races replayed on recorded scores, whole searches beside others, and what the loop takes.

    python tests/benchmarks/search.py [--quick] [--out FILE] [--only PART ...] [--tasks NAME ...] [--seeds N]
                                      [--cache FOLDER] [--data FOLDER] [--picture FILE]

PART is replay, live or overhead. With --out the record is written after each task of each part, and
what an earlier call wrote there of other parts and tasks is kept, so that they can run one by one;
the picture of the searches' courses is drawn beside it. The public tasks need data and an encoder
(see tasks.py); `--tasks support` runs on the project alone. --quick takes two tasks and small
budgets for the searches, and small tables where the cache has none.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here comes from the network
sys.path.insert(0, str(Path(__file__).parent))

import torch
from curves import bars_of_live, draw_curves
from live import Plan, live
from overhead import Long, bars_of_overhead, overhead
from record import write_record
from replay import Replayed, bars_of_replay, replay
from tables import CACHE
from tasks import DATA, SEED, TASKS

PARTS = ("replay", "live", "overhead")
QUICK_TASKS = ("support", "sst2")
QUICK_LIVE = Plan(seeds=1, full=17, dev=60, test=200)
QUICK_LONG = Long(trials=1000, seconds=45, least=200, real=32)

Parts = dict[str, Any]


def main() -> None:
    options = _options()
    parts = _earlier(options.out, options.quick)
    for part in options.only:
        started = time.perf_counter()
        if part == "overhead":
            parts[part] = overhead(QUICK_LONG if options.quick else Long())
            _write(parts, options)
        for name in options.tasks[part] if part != "overhead" else ():
            parts.setdefault(part, {})[name] = _on_task(part, name, options)
            _write(parts, options)
        print(f"{part} took {time.perf_counter() - started:.0f} s", flush=True)
    write_record("search", SEED, _record(parts, options), options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.picture is None and options.out is not None:
        options.picture = options.out.with_suffix(".png")
    if options.picture is not None and importlib.util.find_spec("matplotlib") is None:
        print("No picture is drawn without matplotlib: pip install 'autoprompt-search[bench]'")
        options.picture = None
    options.tasks = {
        "replay": options.tasks or TASKS,
        "live": options.tasks or (QUICK_TASKS if options.quick else TASKS),
    }
    return options


def _on_task(part: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    if part == "replay":
        seeds = options.seeds or (60 if options.quick else 240)
        return replay(name, options.data, options.cache, Replayed(seeds=seeds), options.quick)
    plan = QUICK_LIVE if options.quick else Plan()
    return live(name, options.data, Plan(options.seeds or plan.seeds, plan.full, plan.dev, plan.test))


def _earlier(out: Path | None, quick: bool) -> Parts:
    """What the file has of a run of the same kind."""
    if out is None or not out.exists():
        return {}
    record = json.loads(out.read_text(encoding="utf-8"))
    return {part: record[part] for part in PARTS if part in record} if record.get("quick") == quick else {}


def _record(parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    bars = {"replay": bars_of_replay, "live": bars_of_live, "overhead": bars_of_overhead}
    found = {title: value for part in PARTS if part in parts for title, value in bars[part](parts[part]).items()}
    return {"quick": options.quick, "threads": torch.get_num_threads(), "bars": found, **parts}


def _write(parts: Parts, options: argparse.Namespace) -> None:
    """Keep what there is so far, and draw it."""
    if options.out is not None:
        with contextlib.redirect_stdout(None):  # the bars are told at the end
            write_record("search", SEED, _record(parts, options), options.out)
    if options.picture is not None and "live" in parts:
        draw_curves(parts["live"], options.picture)


if __name__ == "__main__":
    main()
