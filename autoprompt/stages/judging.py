"""Confirmation on all of dev, and the verdict on the locked test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from autoprompt import events
from autoprompt.data import Example
from autoprompt.doctor.baselines import Baseline, strongest
from autoprompt.errors import MetricError, StudyError
from autoprompt.explain import robust_choice
from autoprompt.metrics import Outcome
from autoprompt.results import write_text
from autoprompt.stages.job import Job
from autoprompt.study import Candidate, Study
from autoprompt.verdict import Verdict, details, flips, judge

__all__ = ["confirmed", "judged", "require_baseline"]


def require_baseline(found: Sequence[Candidate]) -> None:
    """Raise StudyError where a search ended before it scored the user's own prompt, which all is compared with."""
    if not any(candidate.kind == "baseline" for candidate in found):
        raise StudyError(
            "The run's time ends before your own prompt is scored on all of dev. Give it more: --hours, or --until."
        )


def confirmed(job: Job, found: Sequence[Candidate], search: Study) -> list[Candidate]:
    """The finalists on all of dev, the winner first; from the folder when they were scored before."""
    stored = job.folder.stage("confirm")
    if stored is not None:
        by_number = {candidate.number: candidate for candidate in found}
        return [replace(by_number[scores["number"]], **scores) for scores in stored]
    chosen = search.confirm(found)
    if job.config.study.choose_by == "worst":
        chosen = _by_worst(job, chosen)
    keys = ("number", "value", "loss", "margin", "estimate", "evidence", "certain")
    job.folder.finish_stage("confirm", [{key: getattr(c, key) for key in keys} for c in chosen])
    return chosen


def _by_worst(job: Job, chosen: Sequence[Candidate]) -> list[Candidate]:
    """The finalists by their worst score under small changes, and of equal ones as they were."""
    metric = job.scorer.metric
    values = robust_choice(job.scorer, [c.prompt for c in chosen], job.splits.dev, job.config.seed)
    paired = sorted(zip(values, chosen, strict=True), key=lambda pair: -metric.gain(pair[0], 0.0))
    told = ", ".join(f"trial {c.number} {value:.4f}" for value, c in paired)
    job.tell(events.Notice(f"The winner is chosen by its worst {metric.name} under small changes: {told}."))
    return [candidate for _, candidate in paired]


def judged(job: Job, baseline: Candidate, winner: Candidate, rivals: Sequence[Baseline] = ()) -> Verdict:
    """The verdict on the locked test, and its details, by event; from the folder when it was reached before.

    rivals: other baselines, of which the winner is compared with the strongest.
    """
    stored = job.folder.stage("verdict")
    if stored is not None:
        return Verdict(**{**stored, "interval": tuple(stored["interval"])})
    test = job.open_test("verdict: baseline and winner", winner.prompt)
    before, after = job.scorer.score([baseline.prompt, winner.prompt], test)
    write_text(job.folder.test_rows, "".join(_row(example, job.config.data.label) for example in test))
    metric, seed = job.scorer.metric, job.config.seed
    verdict = judge(metric, before.outcome, after.outcome, baseline.prompt == winner.prompt, seed)
    rival = strongest(rivals, metric)
    against = None if rival is None else (rival.name, rival.outcome_on(job.scorer, test))
    short = [at for at, one in enumerate(test) if one.key in job.scorer.truncated or after.cut[at]]
    left_out = len(job.splits.test) - len(test)
    told = details(metric, before.outcome, after.outcome, against, short, left_out, seed)
    job.tell(replace(told, also=_also(job, before.outcome, after.outcome)))
    job.tell(flips(metric, test, before.outcome, after.outcome))
    job.folder.finish_stage("verdict", verdict)
    return verdict


def _also(job: Job, before: Outcome, after: Outcome) -> dict[str, list[float]]:
    """The metrics beside the one that is chosen by, of baseline and winner; one that fails is told and left out."""
    found = {}
    for metric in job.scorer.metric.also:
        try:
            found[metric.name] = metric.many([before, after])
        except MetricError as error:
            job.tell(events.Notice(f"It is not reported beside {job.scorer.metric.name}: {error}"))
    return found


def _row(example: Example, label: str) -> str:
    """A test example as a line of a file that `predict` scores to the same number."""
    target = [example.label, *example.references] if example.references else example.label
    return json.dumps({**example.aside, **example.fields, label: target}, ensure_ascii=False) + "\n"
