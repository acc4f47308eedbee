"""The plan of a run, and its best prompt on disk at every moment."""

from __future__ import annotations

from pathlib import Path

from autoprompt import events
from autoprompt.clock import Clock
from autoprompt.config import Config
from autoprompt.data import Splits
from autoprompt.errors import AutopromptError
from autoprompt.export import put_prompt
from autoprompt.plan import Plan, Training, make_plan
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.setting import study_options
from autoprompt.space import Space
from autoprompt.stages.job import Job
from autoprompt.stages.tuning import finetune_options
from autoprompt.study import Study

__all__ = ["Shelf", "plan_of", "planned"]

_SHORTEST, _ROBUSTNESS = 8, 60  # scores of all of dev, about


def plan_of(config: Config, space: Space, splits: Splits, scorer: Scorer, clock: Clock) -> Plan:
    """Measure what a run will take."""
    options = finetune_options(config, scorer.model.family)
    training = None if options is None else Training(options, 1 + config.finetune.compare)
    explain = config.explain
    explained = explain.budget * explain.why + _SHORTEST * explain.shortest + _ROBUSTNESS * explain.robustness
    return make_plan(space, splits, scorer, study_options(config), training, clock, explained)


def planned(job: Job) -> Plan:
    """Measure, and tell what the run will take."""
    plan = plan_of(job.config, job.space, job.splits, job.scorer, job.clock)
    job.tell(plan.event(job.folder.path, job.clock))
    return plan


class Shelf:
    """A listener that keeps the best prompt so far, by its score on all of dev, in a folder that can be used."""

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder, self._study = folder, study
        self._metric = study.scorer.metric
        whole = [trial for trial in study.trials.all() if trial.state.name == "COMPLETE" and trial.values]
        best = max if self._metric.maximize else min
        found = best(whole, key=lambda trial: trial.values[0], default=None)  # of equal ones the earliest
        self._best = None if found is None else found.values[0]
        if found is not None and self._shown() != found.user_attrs["fingerprint"]:
            self._put(found.number)  # the process that told of it was killed before it wrote it

    def __call__(self, event: events.Event) -> None:
        if not isinstance(event, events.TrialFinished) or event.dropped:
            return
        if self._best is None or self._metric.better(event.value, self._best):
            self._best = event.value
            self._put(event.number)

    def _shown(self) -> str | None:
        """The fingerprint of what lies there; None where there is nothing whole."""
        try:
            return Prompt.load(self._folder).fingerprint
        except AutopromptError:
            return None

    def _put(self, number: int) -> None:
        put_prompt(self._folder, self._study.trials.prompt(self._study.trials.all()[number]))
