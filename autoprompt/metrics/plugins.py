"""The plug-in door: a metric by its name, by its file, or from an installed package."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprompt.errors import MetricError, nearest
from autoprompt.metrics import builtin
from autoprompt.metrics.base import Metric, Outcome
from autoprompt.metrics.inner import load_inner
from autoprompt.metrics.programs import pass_at_k, samples_wanted

if TYPE_CHECKING:
    from autoprompt.metrics.isolated import Worker

__all__ = ["load_metric"]

_SAMPLE = ("yes", "no", "maybe")  # answers to try a metric on

_EVALUATE = "evaluate:"


def load_metric(
    name: str,
    folder: Path,
    labels: Sequence[str] = ("yes", "no", "maybe"),
    seconds: float = 60.0,
    key: str | None = None,
    maximize: bool | None = None,
    *,
    allow_code_execution: bool = False,
) -> Metric:
    """A built-in by name, `file.py:function` relative to `folder`, `evaluate:NAME` of that library, or an entry point;
    then tried.

    All but the built-in ones run in a process of their own, in which one call may take `seconds`.
    key, maximize: of a metric of evaluate, which of its numbers counts, and whether more is better.
    allow_code_execution: whether "pass@k" may run programs; where it may not, it raises when it is called.
    Raises MetricError when it is not there, breaks its contract on sample answers, or raises.
    """
    if name in builtin.METRICS:
        return builtin.METRICS[name]
    if (k := samples_wanted(name)) is not None:
        return Metric(name, pass_at_k(k, allow_code_execution), arguments=("predictions", "rows"), worst=0.0)
    if name.startswith(_EVALUATE):
        found = _evaluated(name, folder, seconds, key, maximize)
    else:
        found = _from_file(name, folder, seconds) if ".py:" in name else _entry_point(name, seconds)
    if not {"rows", "engine"} & set(found.arguments):  # of which nothing is known here
        _try(found, tuple(labels) or _SAMPLE)
    return found


def _from_file(name: str, folder: Path, seconds: float) -> Metric:
    file, _, attribute = name.rpartition(":")
    try:
        path = (folder / file).resolve()
        there = path.is_file()
    except (OSError, ValueError):
        path, there = folder / "?", False
    if not there:
        raise MetricError(f"The metric {name[:80]!r} names {path}, which is not a file.")
    try:
        source = path.read_bytes().decode("latin-1")  # as it is now, whatever becomes of the file while a run lasts
    except OSError as error:
        raise MetricError(f"The metric {name!r} names {path}, which cannot be read: {error.strerror}.") from None
    worker = _worker({"path": str(path), "source": source, "attribute": attribute}, f"The metric file {path}", seconds)
    said = worker.load()
    if "name" not in said:
        names = said["names"]
        raise MetricError(
            f"{path} has no metric {attribute!r}; it has {', '.join(names) or 'none'}.{nearest(attribute, names)} "
            "A metric is a function decorated with @autoprompt.metrics.metric."
        )
    if "engine" in said["arguments"]:  # a model is not handed to another process
        worker.close()
        return load_inner(path, source, attribute)
    return _isolated(worker, said)


def _evaluated(name: str, folder: Path, seconds: float, key: str | None, maximize: bool | None) -> Metric:
    """A module of the library evaluate: by its name there, or its folder or file relative to `folder`."""
    import importlib.util

    if importlib.util.find_spec("evaluate") is None:
        raise MetricError(
            f"The metric {name[:80]!r} needs the library evaluate, which is not installed: "
            "pip install autoprompt-search[evaluate]."
        )
    wanted = name.removeprefix(_EVALUATE)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        place = (folder / wanted).resolve()
        wanted = str(place) if place.exists() else wanted
    worker = _worker({"evaluate": wanted, "key": key, "maximize": maximize}, f"The metric {name!r}", seconds)
    return _isolated(worker, worker.load())


def _entry_point(name: str, seconds: float) -> Metric:
    import importlib.metadata

    points = {point.name: point for point in importlib.metadata.entry_points(group="autoprompt.metrics")}
    if name not in points:
        allowed = sorted({*builtin.METRICS, *points})
        raise MetricError(
            f"There is no metric {name!r}; allowed are {', '.join(allowed)}, or your own as "
            f"'file.py:function'.{nearest(name, allowed)}"
        )
    wanted = {"module": points[name].module, "attribute": points[name].attr or ""}
    worker = _worker(wanted, f"The entry point {name!r}", seconds)
    said = worker.load()
    if "name" not in said:
        raise MetricError(f"The entry point {name!r} is {said['kind']}, not a Metric.")
    return _isolated(worker, said)


def _worker(wanted: dict[str, Any], place: str, seconds: float) -> Worker:
    from autoprompt.metrics.isolated import Worker  # here: built-in metrics need no process, on any system

    return Worker(wanted, place, seconds)


def _isolated(worker: Worker, said: Mapping[str, Any]) -> Metric:
    from autoprompt.metrics.isolated import Isolated

    proxy = worker if said["proxy"] else None
    return Isolated(said["name"], worker, said["maximize"], proxy, said["arguments"], said["worst"])


def _try(found: Metric, labels: tuple[str, ...]) -> None:
    """Call the metric on right, wrong and mixed answers, before any trial depends on it."""
    import numpy as np

    targets = labels * 2
    right = np.full((len(targets), len(labels)), 0.1 / max(1, len(labels) - 1))
    right[np.arange(len(targets)), np.arange(len(targets)) % len(labels)] = 0.9
    samples = (right, np.roll(right, 1, axis=1), np.full_like(right, 1 / len(labels)))
    outcomes = [Outcome(targets, probabilities, labels) for probabilities in samples]
    found.many(outcomes)
    found.proxy(outcomes[0])
