"""The plan of a run, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import data_options, read_config, require_words
from autoprompt.data import read_splits
from autoprompt.metrics import load_metric
from autoprompt.plan import Plan, Training, make_plan
from autoprompt.scorer import Scorer
from autoprompt.setting import load_task_model, make_clock, make_space, study_options
from autoprompt.stages import finetune_options

__all__ = ["preview"]


def preview(
    file: Path, listener: events.Listener = events.silent, changes: dict[str, dict[str, Any]] | None = None
) -> Plan:
    """Load the model, measure it on training examples, and tell what a run of the file would take.

    Nothing is written. Raises what the run would raise before its search.
    """
    config = read_config(file, file.parent, changes)
    splits = read_splits(data_options(config, file.parent), config.seed)
    require_words(config, splits.labels)
    clock = make_clock(config, 0.0)
    metric = load_metric(config.metric, file.parent, splits.labels, config.metric_seconds)
    options = study_options(config)
    listener(events.RunStarted(config.name, False, metric.name, metric.maximize, config.seed, options.trials))
    sizes = len(splits.train), len(splits.dev), len(splits.test)
    listener(events.DataRead(*sizes, splits.labels, splits.duplicates_removed))
    model = load_task_model(config, listener)
    tuning = finetune_options(config, model.family)
    training = None if tuning is None else Training(tuning, 1 + config.finetune.compare)
    scorer = Scorer(model, metric, config.model.batch_tokens)
    plan = make_plan(make_space(config, splits), splits, scorer, options, training, clock)
    listener(plan.event(Path(config.results), clock))
    return plan
