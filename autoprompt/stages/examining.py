"""The doctor, before the search: what may spoil it, and what it has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autoprompt import events
from autoprompt.config import Config, data_options
from autoprompt.data import Splits
from autoprompt.doctor.baselines import Baseline, automatic_baselines
from autoprompt.doctor.data import examine_data
from autoprompt.doctor.labels import suspicious_labels
from autoprompt.doctor.metric import examine_metric
from autoprompt.doctor.noise import noise_floor
from autoprompt.doctor.probe import Embeddings
from autoprompt.doctor.window import context_window
from autoprompt.errors import Halted
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.stages.job import Job

__all__ = ["diagnosed", "examined"]


def diagnosed(
    config: Config, base: Path, splits: Splits, scorer: Scorer, space: Space, embeddings: Embeddings | None = None
) -> Iterator[events.Finding]:
    """All that the doctor finds, the quick things first. No text of the locked test is in it.

    embeddings: what has been read already, or will be again.
    """
    seen = {"train": splits.train, "dev": splits.dev}
    labelled = space.baseline.answer.kind == "label"
    yield from examine_data(splits, data_options(config, base), config.prompt.label_words, classes=labelled)
    if labelled:
        yield from examine_metric(scorer.metric, splits.labels, examples=len(splits.dev), trials=config.study.trials)
    yield context_window(scorer, space, seen)
    yield noise_floor(scorer, space.baseline, splits.dev, config.seed)
    if labelled:
        yield suspicious_labels(scorer, space.baseline, seen, config.seed, embeddings)


def examined(job: Job) -> list[Baseline]:
    """Tell what is found, once in a run, and score the baselines; fewer or none where the time ends before."""
    new, embeddings = job.folder.stage("doctor") is None, Embeddings(job.scorer, job.space.baseline)
    try:
        if new and job.config.doctor.checks:
            for finding in diagnosed(job.config, job.base, job.splits, job.scorer, job.space, embeddings):
                job.tell(finding)
                job.clock.check()
        found = _baselines(job, embeddings)
    except Halted as halted:
        job.tell(events.Notice(f"The doctor is cut short: {halted}"))
        return []
    if new:
        for baseline in found:
            job.tell(baseline.event())
        job.folder.finish_stage("doctor", True)
    return found


def _baselines(job: Job, embeddings: Embeddings) -> list[Baseline]:
    """Those that are not the user's own prompt."""
    if not job.config.doctor.baselines:
        return []
    splits, seed = job.splits, job.config.seed
    found = automatic_baselines(job.scorer, job.space, splits.train, splits.dev, seed, embeddings=embeddings)
    return [baseline for baseline in found if baseline.prompt != job.space.baseline]
