"""Metrics of the library evaluate, by name or from a folder: called as the module says what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric, metric
from autoprompt.metrics.numbers import number

__all__ = ["MINIMIZED", "load_evaluated"]

# names of modules whose smaller values are better
MINIMIZED = frozenset(
    {"brier_score", "cer", "character", "mae", "mape", "mase", "mse", "perplexity", "smape", "ter", "wer"}
)


def load_evaluated(name: str, key: str | None, maximize: bool | None) -> Metric:
    """A module of evaluate as a metric. Raises what `evaluate.load` raises.

    name: of a module, or its folder. key: which of its numbers counts, where it gives several. maximize: whether
    more is better; None: by its name. A module that takes whole numbers is given the places of labels, -1 for an
    answer that is none; one that takes a list of references is given all right answers.
    """
    import evaluate

    module = evaluate.load(name)
    kinds = module.features[0] if isinstance(module.features, list) else module.features
    short = Path(name).stem
    more = short not in MINIMIZED if maximize is None else maximize

    @metric(maximize=more, name=f"evaluate:{short}")
    def computed(predictions: list[str], references: list[tuple[str, ...]], labels: list[str]) -> Any:
        given = [_cast(kinds.get("predictions"), labels)((answer,)) for answer in predictions]
        wanted = [_cast(kinds.get("references"), labels)(accepted) for accepted in references]
        return _picked(short, module.compute(predictions=given, references=wanted), key)

    return computed


def _cast(kind: Any, labels: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    """How texts become what a module's column takes: all of them where it is a list, else the first."""
    inner = getattr(kind, "feature", None)
    if inner is not None and not isinstance(inner, Mapping):
        one = _cast(inner, labels)
        return lambda texts: [one((text,)) for text in texts]
    dtype = str(getattr(kind, "dtype", "string"))
    if "int" in dtype:
        places = {label: at for at, label in enumerate(labels)}
        return lambda texts: places.get(texts[0], -1) if places else int(number(texts[0]) or 0)
    if "float" in dtype:
        return lambda texts: _float(texts[0])
    return lambda texts: texts[0]


def _float(text: str) -> float:
    value = number(text)
    return 0.0 if value is None else value


def _picked(name: str, result: object, key: str | None) -> Any:
    """The number, or the numbers of the examples, of what a module returned. Raises MetricError where it is unclear."""
    if not isinstance(result, Mapping):
        raise MetricError(f"evaluate:{name} returned {type(result).__name__}; a metric returns numbers by name.")
    if key is None and len(result) != 1:
        names = ", ".join(map(str, result))
        raise MetricError(f'evaluate:{name} returns {names}; say which counts: key = "{next(iter(result), "")}".')
    if key is not None and key not in result:
        raise MetricError(f"evaluate:{name} returns no {key!r}; it returns {', '.join(map(str, result))}.")
    return result[key] if key is not None else next(iter(result.values()))
