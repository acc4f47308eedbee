"""What every benchmark writes: machine, versions, seed, and its bars."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def bar(value: float, goal: float, at_most: bool = False) -> dict[str, Any]:
    """A bar: its value, its goal, and whether it holds."""
    return {"value": value, "goal": goal, "holds": value <= goal if at_most else value >= goal}


def write_record(name: str, seed: int, measured: dict[str, Any], out: Path | None) -> None:
    """Print the bars and write the record."""
    import torch

    versions = {p: metadata.version(p) for p in ("torch", "transformers", "optuna", "numpy")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "device": device}
    record = {"benchmark": name, "machine": machine, "versions": versions, "seed": seed, **measured}
    for title, found in record["bars"].items():
        print(f"{'holds' if found['holds'] else 'FAILS'}  {title}: {found['value']:.4g} (goal {found['goal']})")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
