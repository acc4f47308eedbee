"""What a metric's function returns, and whether it keeps the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from autoprompt.errors import MetricError
from autoprompt.metrics.outcome import Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["ARGUMENTS", "FEEDBACK", "Judged", "Returned", "called", "judged"]

ARGUMENTS = ("targets", "predictions", "probabilities", "labels", "references", "rows", "answers", "engine")
FEEDBACK = 2000  # characters kept of the feedback on one example
_KEYS = ("value", "feedback")


@dataclass(frozen=True)
class Returned:
    """What a metric's function returned: as numbers, or None where they are none; its type, and how it begins.

    feedback: its texts, where it gave any. wrong: what is wrong with these, or with the keys beside them.
    """

    values: Floats | None
    kind: str = ""
    shown: str = ""
    feedback: tuple[str, ...] | None = None
    wrong: str = ""


@dataclass(frozen=True)
class Judged:
    """What a metric returned, checked: values (N,) or (), and a text an example, where it gave any."""

    values: Floats
    feedback: tuple[str, ...] | None = None


def called(function: Callable[..., Any], outcome: Outcome, engine: Any = None) -> Returned:
    """What a function returns for an outcome, given the arguments that it names. Raises what it raises.

    engine: of the task's model, for a metric that judges with it.
    """
    given: dict[str, Callable[[], Any]] = {
        "targets": lambda: list(outcome.targets),
        "predictions": lambda: outcome.predictions,
        "probabilities": lambda: outcome.probabilities,
        "labels": lambda: list(outcome.labels),
        "references": lambda: outcome.accepted,
        "rows": lambda: [dict(row) for row in outcome.rows] or [{} for _ in outcome.targets],
        "engine": lambda: engine,
        "answers": lambda: outcome.predictions if outcome.answers is None else list(outcome.answers),
    }
    found = function(**{name: given[name]() for name in inspect.signature(function).parameters})
    if not isinstance(found, Mapping) or "value" not in found:
        return _plain(found)
    plain, others = _plain(found["value"]), [key for key in found if key not in _KEYS]
    if others:
        wrong = f"the key {str(others[0])[:40]!r}; allowed are {', '.join(_KEYS)}"
        return Returned(plain.values, plain.kind, plain.shown, None, wrong)
    texts, wrong = _texts(found.get("feedback"))
    return Returned(plain.values, plain.kind, plain.shown, texts, wrong)


def _plain(found: object) -> Returned:
    values = _numbers(found)
    return Returned(values, type(found).__name__, "" if values is not None else str(found)[:40])


def _texts(found: object) -> tuple[tuple[str, ...] | None, str]:
    """Feedback as texts that can be written anywhere, each cut; or what is wrong with it."""
    if found is None:
        return None, ""
    if isinstance(found, str) or not isinstance(found, Sequence):
        return None, f"feedback of the type {type(found).__name__}; it must be a list of texts"
    for at, text in enumerate(found):
        if not isinstance(text, str):
            return None, f"feedback whose item {at} is {type(text).__name__}; each must be a text"
    return tuple(text[:FEEDBACK].encode("utf-8", "replace").decode() for text in found), ""


def judged(name: str, returned: Returned, size: int) -> Judged:
    """What metric `name` returned for `size` examples, its values of the shape (size,) or ().

    Raises MetricError where it is not that.
    """
    import numpy as np  # here, so that checking a file with a built-in metric answers in a blink

    values = returned.values
    if values is None:
        raise MetricError(
            f"The metric {name!r} returned {returned.kind} "
            f"({returned.shown!r}); it must return numbers: one an example, or one for all; "
            'or {"value": numbers, "feedback": texts}.'
        )
    if values.ndim > 1 or (values.ndim == 1 and len(values) != size):
        raise MetricError(
            f"The metric {name!r} returned shape {values.shape} for {size} examples; "
            "it must return one number an example, or one for all."
        )
    if not np.isfinite(values).all():
        raise MetricError(f"The metric {name!r} returned NaN or infinity; every value must be finite.")
    if returned.wrong:
        raise MetricError(f"The metric {name!r} returned {returned.wrong}.")
    if returned.feedback is not None and len(returned.feedback) != size:
        raise MetricError(
            f"The metric {name!r} returned {len(returned.feedback)} texts of feedback for {size} examples; "
            "it must return one an example."
        )
    return Judged(values, returned.feedback)


def _numbers(returned: object) -> Floats | None:
    """What a metric returned as an array, or None when it is no number."""
    import numpy as np

    try:
        values = np.asarray(returned)
    except (TypeError, ValueError):
        return None
    return values.astype(np.float64) if values.dtype.kind in "biuf" else None
