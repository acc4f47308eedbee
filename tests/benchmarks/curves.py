"""What comes of searches beside each other: means over seeds, how early one is as good as another, bars, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import bar

__all__ = ["METHODS", "OURS", "STARTING", "bars_of_live", "draw_curves", "summary"]

OURS, TPE, RANDOM, STARTING = "ours", "tpe", "random", "best of the starting prompts"
METHODS = {RANDOM: "tab:gray", TPE: "tab:orange", OURS: "tab:blue"}  # in their order, and how they are drawn


def _steps(
    runs: Sequence[dict[str, Any]], axis: str = "evaluations", of: str = "test"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x (n,) at which anything changed in any run, and the values (runs, n) there; curves are steps."""
    curves = [run["curve"] for run in runs]
    begin = max(curve[axis][0] for curve in curves)
    x = np.unique([at for curve in curves for at in curve[axis] if at >= begin])
    rows = [np.array(c[of])[np.searchsorted(c[axis], x, side="right") - 1] for c in curves]
    return x.astype(np.float64), np.array(rows)


def _reached(runs: Sequence[dict[str, Any]], goal: float, whole: float, axis: str = "evaluations") -> float:
    """The first x at which the mean test accuracy is `goal`, as a share of `whole`; 2 if that is never."""
    x, values = _steps(runs, axis)
    there = x[values.mean(0) >= goal - 1e-9]
    return round(float(there[0] / whole), 4) if len(there) else 2.0


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds, the standard error of ours minus the others', and how early ours is as good."""
    runs = measured["runs"]
    tests = {method: np.array([run["test"] for run in found]) for method, found in runs.items()}
    finals = {method: float(values.mean()) for method, values in tests.items()}
    tokens = float(np.mean([run["tokens"] for run in runs[TPE]]))
    few = len(tests[OURS]) < 2
    return {
        "test": {method: round(value, 4) for method, value in finals.items()},
        "test_deviation": {method: round(float(values.std()), 4) for method, values in tests.items()},
        "dev": {method: round(float(np.mean([run["dev"] for run in found])), 4) for method, found in runs.items()},
        "ours_minus": {
            method: {
                "mean": round(finals[OURS] - finals[method], 4),
                "error": 0.0 if few else round(float((tests[OURS] - tests[method]).std(ddof=1) / len(runs[OURS]) ** 0.5), 4),
            }
            for method in (TPE, RANDOM)
        },
        "to_tpe": _reached(runs[OURS], finals[TPE], measured["budget"]),
        "to_random": _reached(runs[OURS], finals[RANDOM], measured["budget"]),
        "to_tpe_in_tokens": _reached(runs[OURS], finals[TPE], tokens, "tokens"),
    }  # fmt: skip


def bars_of_live(tasks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """On the tasks that were searched; of all five, random search may win one."""
    found = [task["summary"] for task in tasks.values()]
    below = sum(task["summary"]["test"][OURS] < task["starting"]["test"] for task in tasks.values())
    above = sum(one["test"][OURS] > one["test"][RANDOM] for one in found)
    median = float(np.median([one["to_tpe"] for one in found]))
    return {
        "live, evaluations to reach tpe's final test accuracy, median over tasks": bar(median, 0.15, at_most=True),
        "live, tasks below the best starting prompt": bar(below, 0, at_most=True),
        "live, tasks above random": bar(above, 4 if len(tasks) == 5 else len(tasks)),
    }


def draw_curves(tasks: dict[str, Any], path: Path) -> None:
    """The anytime curves, one panel a task: the mean over the seeds, and their range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.6), squeeze=False, layout="constrained")
    for panel, (name, task) in zip(panels[0], tasks.items(), strict=True):
        starting = task["starting"]
        panel.axhline(starting["test"], color="0.4", linestyle=":", label=STARTING)
        for method, color in METHODS.items():
            x, values = _steps(task["runs"][method])
            x = x / task["dev"]
            panel.step(x, values.mean(0), where="post", color=color, label=method)
            panel.fill_between(x, values.min(0), values.max(0), step="post", color=color, alpha=0.15, linewidth=0)
        panel.set(title=name, xlabel="evaluations, in full passes over dev", xscale="log")
    panels[0][0].set_ylabel("test accuracy of the best so far")
    panels[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
