"""The plan of a run, and its best prompt on disk at every moment."""

from __future__ import annotations

import shutil
from pathlib import Path

from autoprompt import events
from autoprompt.export import write_prompt
from autoprompt.plan import Plan, Training, make_plan
from autoprompt.setting import study_options
from autoprompt.stages.job import Job
from autoprompt.stages.tuning import finetune_options
from autoprompt.study import Study

__all__ = ["Shelf", "planned"]


def planned(job: Job) -> Plan:
    """Measure, and tell what the run will take."""
    options = finetune_options(job.config, job.scorer.model.family)
    training = None if options is None else Training(options, 1 + job.config.finetune.compare)
    search = study_options(job.config)
    plan = make_plan(job.space.baseline, job.splits, job.scorer, search, training, job.clock)
    job.tell(plan.event(job.folder.path, job.clock))
    return plan


class Shelf:
    """A listener that keeps the best prompt so far, by its score on all of dev, in a folder that can be used."""

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder, self._study = folder, study
        self._metric = study.scorer.metric
        values = [trial.value for trial in study.trials.all() if trial.state.name == "COMPLETE"]
        best = max if self._metric.maximize else min
        self._best = best((value for value in values if value is not None), default=None)

    def __call__(self, event: events.Event) -> None:
        if not isinstance(event, events.TrialFinished) or event.dropped:
            return
        if self._best is None or self._metric.better(event.value, self._best):
            self._best = event.value
            self._put(event.number)

    def _put(self, number: int) -> None:
        """Write the prompt of a trial whole, and then let the link show it, so that there is never half of one."""
        shelf = self._folder.with_name(self._folder.name + "s")
        place = shelf / str(number)
        place.mkdir(parents=True, exist_ok=True)
        write_prompt(place, self._study.trials.prompt(self._study.trials.all()[number]))
        link = shelf / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(shelf.name) / str(number))
        link.replace(self._folder)
        for old in shelf.iterdir():
            if old != place:
                shutil.rmtree(old, ignore_errors=True)
