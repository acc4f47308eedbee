"""A metric, and the decorator that makes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from autoprompt.errors import MetricError, nearest
from autoprompt.metrics.outcome import Outcome
from autoprompt.metrics.returned import ARGUMENTS, Judged, Returned, called, judged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Metric", "Outcome", "Returned", "an_example", "called", "judged", "metric"]


@dataclass(frozen=True)
class Metric:
    """A named function with its direction; call it on an `Outcome`.

    stand_in: a function that gives one number an example, larger is better, for a metric that has none itself.
    arguments: what the function asks for. worst: the end of the metric's values that no answers go beyond, where
    it has one. also: metrics that are reported beside this one, and never chosen by. engine: what a function that asks
    for it judges with; a scorer gives its own.
    """

    name: str
    function: Callable[..., Any]
    maximize: bool = True
    stand_in: Callable[..., Any] | None = None
    arguments: tuple[str, ...] = ()
    worst: float | None = None
    also: tuple[Metric, ...] = ()
    engine: Any = field(default=None, repr=False, compare=False)

    def with_engine(self, engine: Any) -> Metric:
        """The same with an engine, where the function asks for one and has none yet: a tuned model does not judge
        itself."""
        also = tuple(one.with_engine(engine) for one in self.also)
        if "engine" in self.arguments and self.engine is None:
            return replace(self, engine=engine, also=also)
        return replace(self, also=also) if also else self

    def __call__(self, outcome: Outcome) -> float:
        """One number for all examples. Raises MetricError when the function breaks its contract."""
        return _folded(self.values(outcome))

    def per_example(self, outcome: Outcome) -> Floats | None:
        """One number an example (N,), or None for a metric of the whole set."""
        values = self.values(outcome)
        return values if values.ndim else None

    def proxy(self, outcome: Outcome) -> Floats:
        """One number an example (N,), larger is better, for any metric: what points the way where examples are few.

        That is the declared stand-in; without one the values of the examples, turned round where less is better; and
        for a metric of the whole set whether the prediction is one of the right answers, 1 or 0.
        """
        import numpy as np

        if self.stand_in is not None:
            return self._stood_in(outcome)
        values = self.per_example(outcome)
        if values is not None:
            return values if self.maximize else -values
        pairs = zip(outcome.predictions, outcome.accepted, strict=True)
        return np.array([answer in accepted for answer, accepted in pairs], np.float64)

    def feedback(self, outcome: Outcome) -> list[str] | None:
        """What the metric says in words of each example, in its own characters; None where it says nothing."""
        texts = self.judge([outcome])[0].feedback
        return None if texts is None else list(texts)

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
        return [found.values for found in self.judge(outcomes)]

    def judge(self, outcomes: Sequence[Outcome]) -> list[Judged]:
        """What the function returned for each outcome, checked."""
        return [judged(self.name, self._returned(self.function, outcome), len(outcome.targets)) for outcome in outcomes]

    def _stood_in(self, outcome: Outcome) -> Floats:
        if self.stand_in is None:
            raise MetricError(f"The metric {self.name!r} has no proxy.")
        return an_example(self.name, judged(self.name, self._returned(self.stand_in, outcome), len(outcome.targets)))

    def _returned(self, function: Callable[..., Any], outcome: Outcome) -> Returned:
        try:
            return called(function, outcome, self.engine)
        except MetricError:  # it has found the words itself
            raise
        except Exception as error:  # a user's function may raise anything; it is named, not hidden
            raise MetricError(f"The metric {self.name!r} raised {type(error).__name__}: {error}.") from error


def an_example(name: str, found: Judged) -> Floats:
    """The values (N,) of a proxy. Raises MetricError where it gave one number for all."""
    if not found.values.ndim:
        raise MetricError(f"The proxy of the metric {name!r} returned one number; it must return one an example.")
    return found.values


def _folded(values: Floats) -> float:
    return float(values.mean()) if values.ndim else float(values)


@overload
def metric(function: Callable[..., Any], /) -> Metric: ...
@overload
def metric(
    *,
    maximize: bool = True,
    name: str | None = None,
    proxy: Callable[..., Any] | None = None,
    worst: float | None = None,
) -> Callable[[Callable[..., Any]], Metric]: ...
def metric(
    function: Callable[..., Any] | None = None,
    /,
    *,
    maximize: bool = True,
    name: str | None = None,
    proxy: Callable[..., Any] | None = None,
    worst: float | None = None,
) -> Metric | Callable[[Callable[..., Any]], Metric]:
    """Make a function a metric, checking its signature.

    >>> @metric(maximize=False)
    ... def errors(targets, predictions):
    ...     return [float(t != p) for t, p in zip(targets, predictions)]
    >>> errors.name, errors.maximize
    ('errors', False)

    proxy: a function of the same arguments that gives one number an example, larger is better, for a metric of the
    whole set. worst: the end of its values that no answers go beyond.

    Raises MetricError when a function takes an argument that metrics are not given.
    """

    def made(function: Callable[..., Any]) -> Metric:
        label = name or str(getattr(function, "__name__", "metric"))
        asked = _asked(f"The metric {label!r}", function)
        if proxy is not None:
            asked += _asked(f"The proxy of the metric {label!r}", proxy)
        return Metric(label, function, maximize, proxy, tuple(dict.fromkeys(asked)), worst)

    return made(function) if function is not None else made


def _asked(called: str, function: Callable[..., Any]) -> list[str]:
    """The arguments of a function. Raises MetricError where one is none that metrics are given."""
    if not callable(function) or isinstance(function, Metric):
        raise MetricError(f"{called} is {type(function).__name__}; it must be a plain function.")
    for argument in inspect.signature(function).parameters.values():
        keyword = argument.kind in {argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY}
        if argument.name not in ARGUMENTS or not keyword:
            raise MetricError(
                f"{called} takes {argument.name!r}; allowed are {', '.join(ARGUMENTS)}."
                + nearest(argument.name, ARGUMENTS)
            )
    return list(inspect.signature(function).parameters)
