"""Confirmation on all of dev, and the verdict on the locked test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from autoprompt.data import Example
from autoprompt.errors import StudyError
from autoprompt.results import write_text
from autoprompt.stages.job import Job
from autoprompt.study import Candidate, Study
from autoprompt.verdict import Verdict, judge

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
    keys = ("number", "value", "loss", "margin", "estimate", "evidence", "certain")
    job.folder.finish_stage("confirm", [{key: getattr(c, key) for key in keys} for c in chosen])
    return chosen


def judged(job: Job, baseline: Candidate, winner: Candidate) -> Verdict:
    """The verdict on the locked test; from the folder when it was reached before."""
    stored = job.folder.stage("verdict")
    if stored is not None:
        return Verdict(**{**stored, "interval": tuple(stored["interval"])})
    test = job.open_test("verdict: baseline and winner", winner.prompt)
    before, after = job.scorer.score([baseline.prompt, winner.prompt], test)
    write_text(job.folder.test_rows, "".join(_row(example, job.config.data.label) for example in test))
    same = baseline.prompt == winner.prompt
    verdict = judge(job.scorer.metric, before.outcome, after.outcome, same, job.config.seed)
    job.folder.finish_stage("verdict", verdict)
    return verdict


def _row(example: Example, label: str) -> str:
    return json.dumps({**example.fields, label: example.label}, ensure_ascii=False) + "\n"
