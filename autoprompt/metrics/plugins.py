"""The plug-in door: a metric by its name, by its file, or from an installed package."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from autoprompt.errors import MetricError, nearest
from autoprompt.metrics import builtin
from autoprompt.metrics.base import Metric, Outcome

__all__ = ["load_metric"]


def load_metric(name: str, folder: Path, labels: Sequence[str] = ("yes", "no", "maybe")) -> Metric:
    """A built-in by name, `file.py:function` relative to `folder`, or an entry point; then tried.

    Raises MetricError when it is not there, breaks its contract on sample answers, or raises.
    """
    if name in builtin.METRICS:
        return builtin.METRICS[name]
    found = _from_file(name, folder) if ".py:" in name else _entry_point(name)
    _try(found, tuple(labels))
    return found


def _from_file(name: str, folder: Path) -> Metric:
    file, _, attribute = name.rpartition(":")
    try:
        path = (folder / file).resolve()
        there = path.is_file()
    except (OSError, ValueError):
        path, there = folder / "?", False
    if not there:
        raise MetricError(f"The metric {name[:80]!r} names {path}, which is not a file.")
    specification = importlib.util.spec_from_file_location(f"autoprompt_metric_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise MetricError(f"The metric {name!r} names {path}, which Python cannot load.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own file may raise anything, and may call exit
        raise MetricError(f"The metric file {path} raised {type(error).__name__}: {error}.") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Metric):
        names = sorted(k for k, v in vars(module).items() if isinstance(v, Metric))
        raise MetricError(
            f"{path} has no metric {attribute!r}; it has {', '.join(names) or 'none'}.{nearest(attribute, names)} "
            "A metric is a function decorated with @autoprompt.metrics.metric."
        )
    return found


def _entry_point(name: str) -> Metric:
    import importlib.metadata

    points = {point.name: point for point in importlib.metadata.entry_points(group="autoprompt.metrics")}
    if name not in points:
        allowed = sorted({*builtin.METRICS, *points})
        raise MetricError(
            f"There is no metric {name!r}; allowed are {', '.join(allowed)}, or your own as "
            f"'file.py:function'.{nearest(name, allowed)}"
        )
    try:
        found = points[name].load()
    except (Exception, SystemExit) as error:  # somebody's package may raise anything when it is imported
        raise MetricError(f"The entry point {name!r} raised {type(error).__name__}: {error}.") from error
    if not isinstance(found, Metric):
        raise MetricError(f"The entry point {name!r} is {type(found).__name__}, not a Metric.")
    return found


def _try(found: Metric, labels: tuple[str, ...]) -> None:
    """Call the metric on right, wrong and mixed answers, before any trial depends on it."""
    import numpy as np

    targets = labels * 2
    right = np.full((len(targets), len(labels)), 0.1 / max(1, len(labels) - 1))
    right[np.arange(len(targets)), np.arange(len(targets)) % len(labels)] = 0.9
    for probabilities in (right, np.roll(right, 1, axis=1), np.full_like(right, 1 / len(labels))):
        if math.isnan(found(Outcome(targets, probabilities, labels))):
            raise MetricError(f"The metric {found.name!r} returned NaN.")
