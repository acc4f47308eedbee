"""The study of a run: alone in its folder, or shared with more workers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from autoprompt.config import Config
from autoprompt.crew import crew
from autoprompt.models import gpu_count
from autoprompt.results import RunFolder
from autoprompt.setting import fingerprints, study_options
from autoprompt.stages.job import Job
from autoprompt.study import Posting, Shared, Study, publish

__all__ = ["opened_search"]


@contextmanager
def opened_search(job: Job, heard: Collection[int]) -> Iterator[Study]:
    """The study of a run, with its workers while this is open. heard: trials that the journal knows.

    Raises StudyError when its storage cannot be used.
    """
    config, folder = job.config, job.folder
    place = _place(config, folder)
    search = Study(
        job.space, job.scorer, job.splits.dev, study_options(config), place, config.seed, job.tell, heard, job.writer,
        job.clock.halt,
    )  # fmt: skip
    with ExitStack() as opened:
        if isinstance(place, Shared):
            publish(place, _posting(job))
            more = config.study.workers - 1
            opened.enter_context(crew(place, more, folder.path / "workers.log", gpu_count()))
        yield search


def _place(config: Config, folder: RunFolder) -> Path | Shared:
    if config.study.storage is None and config.study.workers == 1:
        return folder.path
    return Shared(config.study.storage or f"journal:{folder.study.absolute()}", folder.name)


def _posting(job: Job) -> Posting:
    """What a worker must know."""
    config = job.config
    settings: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True, exclude={"results", "budget"})
    options = study_options(config)
    settings["study"] = {**settings.get("study", {}), "trials": options.trials}
    if options.tokens is not None:
        settings["budget"] = {"tokens": options.tokens}
    left_out = {split: job.folder.stage(f"quarantine {split}") or [] for split in ("train", "dev")}
    scores = str(job.folder.scores.absolute())
    return Posting(settings, str(job.base.absolute()), fingerprints(config, job.splits), left_out, scores)
