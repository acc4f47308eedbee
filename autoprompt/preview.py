"""The plan of a run, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import read_task
from autoprompt.plan import Plan
from autoprompt.scorer import Scorer
from autoprompt.setting import load_task_metric, load_task_model, make_clock, make_space, tell_task
from autoprompt.stages import plan_of

__all__ = ["preview"]


def preview(
    file: Path, listener: events.Listener = events.silent, changes: dict[str, dict[str, Any]] | None = None
) -> Plan:
    """Load the model, measure it on training examples, and tell what a run of the file would take.

    Nothing is written. Raises what the run would raise before its search.
    """
    config, splits = read_task(file, file.parent, changes)
    clock = make_clock(config, 0.0)
    metric = load_task_metric(config, file.parent, splits.labels)
    tell_task(config, splits, metric, listener)
    scorer = Scorer(load_task_model(config, listener), metric, config.model.batch_tokens)
    space = make_space(config, file.parent, splits, scorer.model.chat is not None)
    plan = plan_of(config, space, splits, scorer, clock)
    listener(plan.event(Path(config.results), clock))
    return plan
