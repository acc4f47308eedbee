"""After the win: why it is one, how short and how sturdy it is, and what it is worth on other models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autoprompt import events
from autoprompt.errors import Halted, MetricError, ModelError, PromptError
from autoprompt.explain import explain_gain, measure_robustness, shortest_equivalent, transfer
from autoprompt.export import put_prompt
from autoprompt.models import load_model
from autoprompt.scorer import Scorer
from autoprompt.stages.job import Job
from autoprompt.study import Candidate

__all__ = ["explained"]

_TRANSFERRED = 4  # of the finalists
_EXAMPLES = 200  # of dev, for what takes many scores


def explained(job: Job, finalists: Sequence[Candidate]) -> dict[str, Any]:
    """What is found out about the winner, the first of the finalists, by event; as far as there is time.

    All of it is measured on dev. The shortest prompt lies in the folder's `short`, where it is another.
    """
    stored = job.folder.stage("explain")
    if stored is not None:
        return dict(stored)
    found: dict[str, Any] = {}
    reason = job.clock.halt()
    try:
        for event in () if reason else _events(job, finalists):
            job.tell(event)
            record = event.record()
            found[record.pop("event")] = record
            if reason := job.clock.halt():
                break
    except (Halted, MetricError, ModelError, PromptError) as error:  # such as another model that is not there
        reason = str(error)
    if reason:
        job.tell(events.Notice(f"Not all of the winner is explained: {reason}"))
    job.folder.finish_stage("explain", found)
    return found


def _events(job: Job, finalists: Sequence[Candidate]) -> Iterator[events.Event]:
    options, scorer, seed = job.config.explain, job.scorer, job.config.seed
    winner, baseline = finalists[0].prompt, next(c for c in finalists if c.kind == "baseline").prompt
    train, dev = job.splits.train, job.splits.dev
    some = dev[:_EXAMPLES]
    if options.why and winner != baseline:
        yield explain_gain(scorer, baseline, winner, some, "dev", seed, options.budget)
    if options.shortest:
        short = shortest_equivalent(scorer, winner, dev, options.margin, seed, train)
        if short.prompt != winner:
            put_prompt(job.folder.short, short.prompt)
        yield short.event
    if options.robustness:
        yield measure_robustness(scorer, winner, baseline, some, seed, job.writer, train)
    if options.transfer:
        yield transfer({job.config.model.name: scorer, **_models(job)}, _named(finalists), some, job.config.model.name)


def _models(job: Job) -> dict[str, Scorer]:
    """The other models, each loaded as the task's model is."""
    options = job.config.model
    found = {}
    for name in job.config.explain.transfer:
        model = load_model(name, None, options.device, options.dtype, options.trust_remote_code, None, options.offline)
        found[name] = Scorer(model, job.scorer.metric, options.batch_tokens)
        found[name].engine.check = job.clock.check
    return found


def _named(finalists: Sequence[Candidate]) -> dict[str, Any]:
    """The top prompts by what they are called."""
    winner, *others = finalists
    named = {"your prompt": next(c for c in finalists if c.kind == "baseline").prompt, "winner": winner.prompt}
    rest = [c for c in others if c.kind != "baseline"][: _TRANSFERRED - 1]
    return named | {f"trial {c.number}": c.prompt for c in rest}
