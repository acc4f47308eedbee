"""A metric of the user's file that judges with the engine: it runs in our own process, beside the model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric

__all__ = ["load_inner"]


def load_inner(path: Path, source: str, attribute: str) -> Metric:
    """The metric `attribute` of a file, whose text `source` was read as latin-1. Raises MetricError.

    It was loaded in a process of its own before, so it is there and breaks nothing when it is loaded.
    """
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    code = compile(source.encode("latin-1"), str(path), "exec", dont_inherit=True)
    try:
        exec(code, module.__dict__)
    except Exception as error:  # a user's file may raise anything
        raise MetricError(f"The metric file {path} raised {type(error).__name__}: {error}.") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Metric):
        raise MetricError(f"{path} has no metric {attribute!r} when it is loaded again.")
    return found
