"""Sixteen examples of a class: prompt, fine-tuning, both, and SetFit, on the same backbone and examples.

    python tests/benchmarks/fewshot.py [--quick] [--out FILE] [--sets NAME ...] [--seeds N ...] [--methods NAME ...]
                                       [--setfit PYTHON] [--data FOLDER]

The public sets run on all-MiniLM-L6-v2 (see tasks.py), the demo (`support`) on the embedded model. The
method `effects` compares the options of fine-tuning, one at a time. Each method of each set and seed runs
in a process of its own, one after the other, so that its seconds and its peak memory are its own. PYTHON
is an interpreter that has setfit; without one the peer is left out. With --out, what an earlier call
wrote there of other cells is kept. --quick takes one seed, the smallest set, 500 test examples of it,
and leaves the comparison of options out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here comes from the network
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from record import bar, write_record
from shots import SHOTS, effects, prompts_and_tuning, shots_of, tuning_alone
from tasks import DATA, TASKS, encoder_folder

from autoprompt.models import BUILTIN

HERE = Path(__file__).parent
SEEDS = (13, 21, 42, 87, 100)
QUICK_SETS, QUICK_SEEDS, QUICK_TEST = ("sst2",), (13,), 500
OWN = {"ours": prompts_and_tuning, "tuning": tuning_alone, "effects": effects}
METHODS = (*OWN, "setfit")
EFFECTS = ("support", "sst2")  # the sets on which the options are compared
TUNED, ALONE, PEER = "search + tuning", "tuning without prompt", "SetFit"
ROWS = ("first prompt", "best starting prompt", "search", TUNED, ALONE, PEER)

Cells = dict[str, dict[str, dict[str, Any]]]  # by set, then by seed, then by row of the table


def main() -> None:
    options = _options()
    if options.cell:
        print(json.dumps(_cell(*options.cell, options)))
        return
    cells = _earlier(options.out, options.quick)
    for name in options.sets:
        for seed in options.seeds:
            found = cells.setdefault(name, {}).setdefault(str(seed), {})
            for method in options.methods:
                if method == "effects" and name not in EFFECTS:
                    continue
                rows = _child(method, name, seed, options)
                found |= rows
                for row, got in rows.items():
                    print(
                        f"{name:10} seed {seed:3} {row:22} {np.mean(got['right']):.4f}  {got['seconds']:7.1f} s "
                        f"{got['peak_mb']:6.0f} MB",
                        flush=True,
                    )
                _write(cells, options, quiet=True)
    _write(cells, options)
    for line in _table(cells):
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--setfit", help="an interpreter that has setfit")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)  # one method, set and seed
    options = parser.parse_args()
    options.sets = options.sets or (QUICK_SETS if options.quick else TASKS)
    options.seeds = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    options.methods = options.methods or [m for m in METHODS if not (options.quick and m == "effects")]
    if options.setfit is None:
        options.methods = [method for method in options.methods if method != "setfit"]
        if not options.cell:
            print("SetFit does not run: name an interpreter that has it with --setfit.")
    return options


# -- one cell, in a process of its own -----------------------------------------------------------


def _child(method: str, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--cell", method, name, str(seed), "--data", str(options.data)]
    command += ["--quick"] if options.quick else []
    command += ["--setfit", options.setfit] if options.setfit else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} on {name} with seed {seed} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cell(method: str, name: str, seed: str, options: argparse.Namespace) -> dict[str, Any]:
    with contextlib.redirect_stdout(sys.stderr):
        shots = shots_of(name, int(seed), options.data, QUICK_TEST if options.quick else None)
        if method == "setfit":
            return {PEER: _peer(name, shots, int(seed), options)}
        found = OWN[method](shots, int(seed))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {row: got | {"peak_mb": round(peak)} for row, got in found.items()}


def _peer(name: str, shots: Any, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """SetFit on the same examples; each is shown to it as one text."""
    pairs = {
        part: [["\n".join(example.fields.values()), example.label] for example in examples]
        for part, examples in (("train", shots.train), ("test", shots.test))
    }
    model = BUILTIN if name == "support" else encoder_folder()
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "given.json"
        given.write_text(json.dumps({**pairs, "seed": seed}), encoding="utf-8")
        command = [options.setfit, str(HERE / "setfit_peer.py"), str(model), str(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"SetFit failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {**found, "accuracy": float(np.mean(found["right"])), "peak_mb": round(peak)}


# -- the record ------------------------------------------------------------------------------------


def _earlier(out: Path | None, quick: bool) -> Cells:
    if out is None or not out.exists():
        return {}
    record = json.loads(out.read_text(encoding="utf-8"))
    cells: Cells = record["cells"] if record["quick"] == quick else {}
    for seeds in cells.values():
        for rows in seeds.values():
            for got in rows.values():
                got["right"] = [int(c) for c in got["right"]]
    return cells


def _write(cells: Cells, options: argparse.Namespace, quiet: bool = False) -> None:
    if quiet and options.out is None:
        return
    packed = {
        name: {
            seed: {row: got | {"right": "".join(map(str, got["right"]))} for row, got in rows.items()}
            for seed, rows in seeds.items()
        }
        for name, seeds in cells.items()
    }
    found = {name: _summary(seeds) for name, seeds in cells.items()}
    measured = {
        "quick": options.quick, "shots": SHOTS, "bars": _bars(found), "summary": found, "cells": packed,
    }  # fmt: skip
    with contextlib.redirect_stdout(None) if quiet else contextlib.nullcontext():
        write_record("fewshot", SEEDS[0], measured, options.out)


def _summary(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over the seeds of each row, and paired intervals, over the seeds that have both."""
    names = dict.fromkeys([*ROWS, *(row for found in seeds.values() for row in found)])
    rows = {row: [found[row] for found in seeds.values() if row in found] for row in names}
    summary: dict[str, Any] = {
        row: {
            "accuracy": round(float(np.mean([got["accuracy"] for got in found])), 4),
            "deviation": round(float(np.std([got["accuracy"] for got in found])), 4),
            "seconds": round(float(np.mean([got["seconds"] for got in found])), 1),
            "peak_mb": round(float(np.mean([got["peak_mb"] for got in found]))),
            "seeds": len(found),
            **_worked(found),
        }
        for row, found in rows.items()
        if found
    }
    for other in (ALONE, PEER, "search"):
        both = [found for found in seeds.values() if TUNED in found and other in found]
        if both:
            apart = np.mean([np.subtract(found[TUNED]["right"], found[other]["right"]) for found in both], axis=0)
            summary[f"{TUNED} minus {other}"] = _interval(apart)
    return summary


def _worked(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean seconds of the processor, where all have them: those of a machine that others used too."""
    if any("cpu_seconds" not in got for got in found):
        return {}
    return {"cpu_seconds": round(float(np.mean([got["cpu_seconds"] for got in found])), 1)}


def _interval(apart: Any) -> dict[str, float]:
    """The mean of the differences (N,) of examples, averaged over seeds, and its 95 % bootstrap interval over examples."""
    generator = np.random.default_rng(SEEDS[0])
    means = [apart[generator.integers(0, len(apart), len(apart))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(apart.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _bars(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    peers = [one for one in found.values() if TUNED in one and PEER in one]
    alone = [one for one in found.values() if f"{TUNED} minus {ALONE}" in one]
    bars = {}
    if peers:
        gains = [one[f"{TUNED} minus {PEER}"]["mean"] for one in peers]
        # the peer's is the smaller of its two times: where others used the machine, it waited for them
        theirs = [min(one[PEER]["seconds"], one[PEER].get("cpu_seconds", np.inf)) for one in peers]
        slower = [one[TUNED]["seconds"] / seconds for one, seconds in zip(peers, theirs, strict=True)]
        sets = f"of {len(peers)} sets"
        bars[f"search + tuning minus SetFit, mean {sets}"] = bar(round(float(np.mean(gains)), 4), 0.0)
        bars[f"sets not below SetFit, {sets}"] = bar(
            sum(gain >= 0 for gain in gains), 3 if len(peers) == 5 else len(peers) / 2
        )
        bars["seconds over SetFit's, slowest set"] = bar(round(max(slower), 3), 1.0, at_most=True)
    if alone:
        worst = min(one[f"{TUNED} minus {ALONE}"]["high"] for one in alone)
        bars["search + tuning minus tuning without prompt, upper end of the interval, worst set"] = bar(worst, 0.0)
    return bars


def _table(cells: Cells) -> Sequence[str]:
    lines = ["", "| set | " + " | ".join(ROWS) + " |", "| --- |" + " --- |" * len(ROWS)]
    for name, seeds in cells.items():
        found = _summary(seeds)
        shown = [
            f"{found[row]['accuracy']:.3f} ± {found[row]['deviation']:.3f} ({found[row]['seconds']:.0f} s)"
            if row in found
            else "–"
            for row in ROWS
        ]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines


if __name__ == "__main__":
    main()
