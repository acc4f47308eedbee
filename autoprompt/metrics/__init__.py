"""Metrics: answers and targets in, a number per example and one for all.

A metric is a decorated function:

    from autoprompt.metrics import metric

    @metric
    def cost_weighted(targets, predictions):
        return [0.0 if t == p else -5.0 if t == "fraud" else -1.0 for t, p in zip(targets, predictions)]

It is named in the space file as `metric = "metrics.py:cost_weighted"`, or published as an entry
point in the group `autoprompt.metrics`. It is called with keyword arguments, as many of these as
it names: `targets` and `predictions` (lists of labels), `probabilities` (N, C) and `labels`
(the C labels of its columns). It returns one number an example, folded by their mean, or, for
metrics of the whole set, one number.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from autoprompt.errors import MetricError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Metric", "Outcome", "load_metric", "metric"]

_ARGUMENTS = ("targets", "predictions", "probabilities", "labels")


@dataclass(frozen=True)
class Outcome:
    """What was answered: the predictions with their probabilities, beside the targets.

    probabilities is (N, C), its columns in the order of `labels`.
    """

    targets: tuple[str, ...]
    probabilities: Floats
    labels: tuple[str, ...]

    @property
    def predictions(self) -> list[str]:
        return [self.labels[i] for i in self.probabilities.argmax(1)] if len(self.targets) else []

    def take(self, rows: NDArray[np.int64]) -> Outcome:
        """The outcome of some examples, in the order of `rows`; repeats are allowed."""
        return Outcome(tuple(self.targets[i] for i in rows), self.probabilities[rows], self.labels)


@dataclass(frozen=True)
class Metric:
    """A named function with its direction; call it on an `Outcome`."""

    name: str
    function: Callable[..., Any]
    maximize: bool = True

    def __call__(self, outcome: Outcome) -> float:
        """One number for all examples. Raises MetricError when the function breaks its contract."""
        values = self.values(outcome)
        return float(values.mean()) if values.ndim else float(values)

    def per_example(self, outcome: Outcome) -> Floats | None:
        """One number an example (N,), or None for a metric of the whole set."""
        values = self.values(outcome)
        return values if values.ndim else None

    def better(self, first: float, second: float) -> bool:
        return first > second if self.maximize else first < second

    def gain(self, new: float, old: float) -> float:
        """How much `new` is better than `old`; negative when it is worse."""
        return new - old if self.maximize else old - new

    def values(self, outcome: Outcome) -> Floats:
        """What the function returned, checked: shape (N,) or ()."""
        import numpy as np  # here, so that checking a file with a built-in metric answers in a blink

        given = {
            "targets": list(outcome.targets),
            "predictions": outcome.predictions,
            "probabilities": outcome.probabilities,
            "labels": list(outcome.labels),
        }
        wanted = inspect.signature(self.function).parameters
        try:
            returned = self.function(**{name: given[name] for name in wanted})
        except Exception as error:  # a user's function may raise anything; it is named, not hidden
            raise MetricError(f"The metric {self.name!r} raised {type(error).__name__}: {error}.") from error
        try:
            values = np.asarray(returned, dtype=np.float64)
        except (TypeError, ValueError):
            raise MetricError(
                f"The metric {self.name!r} returned {type(returned).__name__} "
                f"({str(returned)[:40]!r}); it must return numbers: one an example, or one for all."
            ) from None
        if values.ndim > 1 or (values.ndim == 1 and len(values) != len(outcome.targets)):
            raise MetricError(
                f"The metric {self.name!r} returned shape {values.shape} for {len(outcome.targets)} examples; "
                "it must return one number an example, or one for all."
            )
        if not np.isfinite(values).all():
            raise MetricError(f"The metric {self.name!r} returned NaN or infinity; every value must be finite.")
        return values


@overload
def metric(function: Callable[..., Any], /) -> Metric: ...
@overload
def metric(*, maximize: bool = True, name: str | None = None) -> Callable[[Callable[..., Any]], Metric]: ...
def metric(
    function: Callable[..., Any] | None = None, /, *, maximize: bool = True, name: str | None = None
) -> Metric | Callable[[Callable[..., Any]], Metric]:
    """Make a function a metric, checking its signature.

    >>> @metric(maximize=False)
    ... def errors(targets, predictions):
    ...     return [float(t != p) for t, p in zip(targets, predictions)]
    >>> errors.name, errors.maximize
    ('errors', False)

    Raises MetricError when the function takes an argument that metrics are not given.
    """

    def made(function: Callable[..., Any]) -> Metric:
        label = name or str(getattr(function, "__name__", "metric"))
        for argument in inspect.signature(function).parameters.values():
            if argument.name not in _ARGUMENTS or argument.kind is argument.POSITIONAL_ONLY:
                raise MetricError(
                    f"The metric {label!r} takes {argument.name!r}; allowed are {', '.join(_ARGUMENTS)}."
                    + nearest(argument.name, _ARGUMENTS)
                )
        return Metric(label, function, maximize)

    return made(function) if function is not None else made


# -- the door --------------------------------------------------------------------------------


def load_metric(name: str, folder: Path, labels: Sequence[str] = ("yes", "no", "maybe")) -> Metric:
    """A built-in by name, `file.py:function` relative to `folder`, or an entry point; then tried.

    Raises MetricError when it is not there, breaks its contract on sample answers, or raises.
    """
    from autoprompt.metrics import builtin

    if name in builtin.METRICS:
        return builtin.METRICS[name]
    found = _from_file(name, folder) if ".py:" in name else _entry_point(name)
    _try(found, tuple(labels))
    return found


def _from_file(name: str, folder: Path) -> Metric:
    file, _, attribute = name.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        raise MetricError(f"The metric {name!r} names {path}, which is not a file.")
    specification = importlib.util.spec_from_file_location(f"autoprompt_metric_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise MetricError(f"The metric {name!r} names {path}, which Python cannot load.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the user's own file
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

    from autoprompt.metrics import builtin

    points = {point.name: point for point in importlib.metadata.entry_points(group="autoprompt.metrics")}
    if name not in points:
        allowed = sorted({*builtin.METRICS, *points})
        raise MetricError(
            f"There is no metric {name!r}; allowed are {', '.join(allowed)}, or your own as "
            f"'file.py:function'.{nearest(name, allowed)}"
        )
    found = points[name].load()
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
