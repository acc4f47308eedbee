"""What the doctor finds, without a run."""

from __future__ import annotations

from pathlib import Path

from autoprompt import events
from autoprompt.config import read_task
from autoprompt.scorer import Scorer
from autoprompt.setting import load_task_metric, load_task_model, make_space, tell_task
from autoprompt.stages import diagnosed

__all__ = ["checkup"]


def checkup(file: Path, listener: events.Listener = events.silent) -> list[events.Finding]:
    """Look at the data, the metric, the model and the prompt of a file, and tell what is found.

    Nothing is written, and the locked test is not opened. Raises what a run would raise before its search.
    """
    config, splits = read_task(file, file.parent, None)
    metric = load_task_metric(config, file.parent, splits.labels)
    tell_task(config, splits, metric, listener)
    scorer = Scorer(load_task_model(config, listener), metric, config.model.batch_tokens)
    found = []
    space = make_space(config, file.parent, splits, scorer.model.chat is not None)
    for finding in diagnosed(config, file.parent, splits, scorer, space):
        listener(finding)
        found.append(finding)
    return found
