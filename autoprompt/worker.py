"""A process that joins a run: it asks and scores batches of the run's study, on this machine or another.

It reads from the study's storage what the run is, and nothing of the locked test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.clock import Halt, never
from autoprompt.config import Config, read_task
from autoprompt.data import Splits
from autoprompt.engine import ScoreMemory, load_engine
from autoprompt.errors import ResultsError
from autoprompt.models import LanguageModel
from autoprompt.results import differences
from autoprompt.scorer import Scorer
from autoprompt.setting import (
    fingerprints,
    load_task_metric,
    load_task_model,
    load_writer,
    make_space,
    open_memory,
    study_options,
)
from autoprompt.study import Posting, Shared, Study, joined, published

__all__ = ["work"]


def work(
    storage: str,
    name: str,
    device: str | None = None,
    base: Path | None = None,
    listener: events.Listener = events.silent,
    halt: Halt = never,
) -> int:
    """Work on the study of a run until it is done or the run ends it; the number of trials told.

    storage: as the run has it. name: of the run. device: of the model here, instead of the run's. base:
    where the relative paths of the run begin here, instead of the run's own folder. halt: why this
    worker should leave, or nothing; the others go on.

    Raises StudyError when there is no such run or its storage is away, ResultsError with what differs
    when data or models here are not those of the run, and what their reading raises.
    """
    shared = Shared(storage, name)
    posting = published(shared)
    place = base or Path(posting.base)
    config, splits = read_task(_settings(posting.settings, device), place)
    _check(posting, fingerprints(config, splits))
    splits = _kept(splits, posting)
    heard = _Counting(listener)
    metric = load_task_metric(config, place, splits.labels)
    model = load_task_model(config, heard)
    other = None if config.model.engine == "own" else load_engine(config.model.engine, model)
    with _memory(posting, model, config) as memory:
        scorer = Scorer(model, metric, config.model.batch_tokens, memory, other)
        shared = joined(replace(shared, beat=posting.beat, grace=posting.grace))
        study = Study(
            make_space(config, place, splits, model.chat is not None), scorer, splits.dev, study_options(config),
            shared, config.seed, heard, writer=load_writer(config, heard), halt=halt,
        )  # fmt: skip
        study.run()
    return heard.told


def _settings(given: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """The run's settings; only the device may be another here."""
    settings = dict(given)
    if device is not None:
        model = settings.get("model", {})
        settings["model"] = {**({"name": model} if isinstance(model, str) else model), "device": device}
    return settings


def _check(posting: Posting, here: Mapping[str, Any]) -> None:
    changed = differences(posting.fingerprints, here)
    if changed:
        shown = "\n".join(f"  - {line}" for line in changed)
        raise ResultsError(
            f"Data or models are not those of the run:\n{shown}\nCopy the run's files here, or say where they "
            "are, relative to which folder."
        )


def _kept(splits: Splits, posting: Posting) -> Splits:
    """The splits without what the run leaves out."""
    out = {split: set(numbers) for split, numbers in posting.left_out.items()}
    return replace(
        splits,
        train=tuple(e for e in splits.train if e.number not in out.get("train", ())),
        dev=tuple(e for e in splits.dev if e.number not in out.get("dev", ())),
    )


def _memory(posting: Posting, model: LanguageModel, config: Config) -> ScoreMemory:
    """The run's memory of scores where its folder can be reached, else one of this process."""
    path = None if posting.scores is None else Path(posting.scores)
    if path is not None and path.parent.is_dir():
        return open_memory(path, model, config)
    return ScoreMemory(None, f"{model.identity} {config.model.engine}")


class _Counting:
    """A listener that counts trials."""

    def __init__(self, listener: events.Listener) -> None:
        self._listener = listener
        self.told = 0

    def __call__(self, event: events.Event) -> None:
        self.told += isinstance(event, events.TrialFinished | events.TrialFailed)
        self._listener(event)
