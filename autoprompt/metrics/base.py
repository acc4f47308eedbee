"""A metric, what it is called on, and the decorator that makes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from autoprompt.errors import MetricError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Metric", "Outcome", "Returned", "called", "judged", "metric"]

_ARGUMENTS = ("targets", "predictions", "probabilities", "labels")


@dataclass(frozen=True)
class Outcome:
    """What was answered, beside the targets.

    probabilities is (N, C), its columns in the order of `labels`; where answers are written, C is 0. answers: what
    was answered, where it is not the likeliest label: a written text as it was read, or a number; None where it
    could not be read. references: for each example other texts that are right too. rows: for each example its columns.
    """

    targets: tuple[str, ...]
    probabilities: Floats
    labels: tuple[str, ...]
    answers: tuple[str | None, ...] | None = None
    references: tuple[tuple[str, ...], ...] = ()
    rows: Sequence[Mapping[str, str]] = ()

    @property
    def predictions(self) -> list[str]:
        """The answers; one that could not be read is empty."""
        if self.answers is not None:
            return ["" if answer is None else answer for answer in self.answers]
        return [self.labels[i] for i in self.probabilities.argmax(1)] if len(self.targets) else []

    def take(self, rows: NDArray[np.int64]) -> Outcome:
        """The outcome of some examples, in the order of `rows`; repeats are allowed."""
        at = [int(row) for row in rows]
        return Outcome(
            tuple(self.targets[i] for i in at),
            self.probabilities[rows],
            self.labels,
            None if self.answers is None else tuple(self.answers[i] for i in at),
            tuple(self.references[i] for i in at) if self.references else (),
            tuple(self.rows[i] for i in at) if self.rows else (),
        )


@dataclass(frozen=True)
class Returned:
    """What a metric's function returned: as numbers, or None where they are none; its type, and how it begins."""

    values: Floats | None
    kind: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Metric:
    """A named function with its direction; call it on an `Outcome`."""

    name: str
    function: Callable[..., Any]
    maximize: bool = True

    def __call__(self, outcome: Outcome) -> float:
        """One number for all examples. Raises MetricError when the function breaks its contract."""
        return _folded(self.values(outcome))

    def per_example(self, outcome: Outcome) -> Floats | None:
        """One number an example (N,), or None for a metric of the whole set."""
        values = self.values(outcome)
        return values if values.ndim else None

    def many(self, outcomes: Sequence[Outcome]) -> list[float]:
        """One number for each outcome. Raises as a call does.

        A metric that runs in a process of its own is sent them all at once, which takes less time
        than as many calls.
        """
        return [_folded(values) for values in self.each(outcomes)]

    def better(self, first: float, second: float) -> bool:
        return first > second if self.maximize else first < second

    def gain(self, new: float, old: float) -> float:
        """How much `new` is better than `old`; negative when it is worse."""
        return new - old if self.maximize else old - new

    def values(self, outcome: Outcome) -> Floats:
        """What the function returned, checked: shape (N,) or ()."""
        return self.each([outcome])[0]

    def each(self, outcomes: Sequence[Outcome]) -> list[Floats]:
        """The `values` of each outcome."""
        return [judged(self.name, self._returned(outcome), len(outcome.targets)) for outcome in outcomes]

    def _returned(self, outcome: Outcome) -> Returned:
        try:
            return called(self.function, outcome)
        except Exception as error:  # a user's function may raise anything; it is named, not hidden
            raise MetricError(f"The metric {self.name!r} raised {type(error).__name__}: {error}.") from error


def called(function: Callable[..., Any], outcome: Outcome) -> Returned:
    """What a function returns for an outcome, given the arguments that it names. Raises what it raises."""
    given = {
        "targets": list(outcome.targets),
        "predictions": outcome.predictions,
        "probabilities": outcome.probabilities,
        "labels": list(outcome.labels),
    }
    found = function(**{name: given[name] for name in inspect.signature(function).parameters})
    values = _numbers(found)
    return Returned(values, type(found).__name__, "" if values is not None else str(found)[:40])


def judged(name: str, returned: Returned, size: int) -> Floats:
    """What metric `name` returned for `size` examples, shape (size,) or (). Raises MetricError where it is not that."""
    import numpy as np  # here, so that checking a file with a built-in metric answers in a blink

    values = returned.values
    if values is None:
        raise MetricError(
            f"The metric {name!r} returned {returned.kind} "
            f"({returned.shown!r}); it must return numbers: one an example, or one for all."
        )
    if values.ndim > 1 or (values.ndim == 1 and len(values) != size):
        raise MetricError(
            f"The metric {name!r} returned shape {values.shape} for {size} examples; "
            "it must return one number an example, or one for all."
        )
    if not np.isfinite(values).all():
        raise MetricError(f"The metric {name!r} returned NaN or infinity; every value must be finite.")
    return values


def _folded(values: Floats) -> float:
    return float(values.mean()) if values.ndim else float(values)


def _numbers(returned: object) -> Floats | None:
    """What a metric returned as an array, or None when it is no number."""
    import numpy as np

    try:
        values = np.asarray(returned)
    except (TypeError, ValueError):
        return None
    return values.astype(np.float64) if values.dtype.kind in "biuf" else None


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
            keyword = argument.kind in {argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY}
            if argument.name not in _ARGUMENTS or not keyword:
                raise MetricError(
                    f"The metric {label!r} takes {argument.name!r}; allowed are {', '.join(_ARGUMENTS)}."
                    + nearest(argument.name, _ARGUMENTS)
                )
        return Metric(label, function, maximize)

    return made(function) if function is not None else made
