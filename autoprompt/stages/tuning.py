"""Fine-tuning from the winner, and what each part of the result was worth."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import Config, answer_kind
from autoprompt.data import Example
from autoprompt.errors import ModelError
from autoprompt.export import write_prompt
from autoprompt.finetune import FinetuneOptions, Tuned, finetune, recommended, target_of_kind
from autoprompt.finetune.variants import variants
from autoprompt.metrics import Outcome
from autoprompt.models import Family, LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.results import flush
from autoprompt.soft import seed_of
from autoprompt.stages.job import Job
from autoprompt.stages.material import added_examples
from autoprompt.stages.second import SecondScores, second_task
from autoprompt.study import Candidate
from autoprompt.tuning import exact_text_start
from autoprompt.verdict import Cell, judge_parts, paired_interval

__all__ = ["PROMPT", "finetune_options", "tuned"]

PROMPT = "prompt"  # in the folder's `tuning`: the prompt as fine-tuning left it


def finetune_options(config: Config, family: Family) -> FinetuneOptions | None:
    """The options of a config for a model; None where nothing is trained. Raises ModelError when one is not allowed."""
    section = config.finetune
    if section.method == "none":
        return None
    names = {field.name for field in fields(FinetuneOptions)} & set(type(section).model_fields)
    given = {name: value for name in names if (value := getattr(section, name)) is not None}
    target = target_of_kind(answer_kind(config.data, config.prompt, config.answer))
    usual = recommended(family, target) if section.method == "auto" else FinetuneOptions(section.method)
    if "rank" in given:
        given.setdefault("alpha", 2 * given["rank"])
    options = replace(usual, **given | {"method": usual.method})
    if options.method == "vectors" and options.head != "none":
        raise ModelError(
            f"[finetune] method = 'vectors' exports a prompt and no model, and head is {options.head!r}. "
            "Leave head away, or use the method lora or full."
        )
    return options


def tuned(job: Job, finalists: Sequence[Candidate], seconds: float) -> dict[str, Any] | None:
    """Fine-tune from the winner, the first of the finalists, and score it on the locked test.

    seconds: what one whole training is expected to take. Where there is less, it has fewer epochs, so that
    its learning rate comes to its end.

    The weights lie in the folder's `tuning`. Where it is asked for, the model is also tuned from the
    user's own prompt, so that what prompt and tuning are worth can be told apart. None when
    there is nothing to train, or no time for it.
    """
    stored = job.folder.stage("finetune")
    if stored is not None:
        return dict(stored) or None
    options = finetune_options(job.config, job.scorer.model.family)
    if options is None:
        return None
    winner, baseline = finalists[0], next(c for c in finalists if c.kind == "baseline")
    start = _start(job, winner.prompt)
    if start is None:
        job.folder.finish_stage("finetune", {})
        return None
    if reason := job.clock.halt():
        job.tell(events.Notice(f"Nothing is fine-tuned: {reason}"))
        job.folder.finish_stage("finetune", {})
        return None
    options = _in_time(job, options, seconds)
    others = _others(job, start, finalists)
    more, counts = added_examples(job, winner.prompt)
    began = job.clock.gone
    found = _train(job, options, start, [*job.splits.train, *more], others, "winner")
    took = job.clock.gone - began
    _save(job, found)
    second = second_task(job, found.model)
    test = job.open_test("the fine-tuned model", winner.prompt)
    outcomes = _on_test(job, baseline.prompt, winner.prompt, found, test)
    values = _values(job, found, outcomes["both"], second)
    values["helped"] = found.epoch > 0 and not _worse_on_dev(job, winner.prompt, found)
    del found  # a large model is not held beside the next one
    if job.config.finetune.compare and baseline.prompt != winner.prompt:
        if reason := job.clock.halt(took):
            job.tell(events.Notice(f"Nothing is fine-tuned from your own prompt, to compare with: {reason}"))
        else:
            outcomes["tuning"] = _tuned_alone(job, options, baseline.prompt, test)
    parts = judge_parts(job.scorer.metric, outcomes, job.config.seed)
    job.tell(events.PartsCompared({str(c): v for c, v in parts.cells.items()}, {**parts.differences}, parts.sentence))
    values |= {"parts": asdict(parts), "prompts": 1 + len(others), "added": counts}
    job.folder.finish_stage("finetune", values)
    shutil.rmtree(_checkpoints(job), ignore_errors=True)
    return values


def _start(job: Job, prompt: Prompt) -> Prompt | None:
    """The prompt to train from; where only vectors are trained and there are none, those of its own text."""
    if job.config.finetune.method != "vectors" or prompt.soft is not None:
        return prompt
    start = exact_text_start(job.scorer.model, prompt)
    if start is None:
        job.tell(
            events.Notice(
                "Nothing is fine-tuned: [finetune] method = 'vectors' trains vectors, and neither the winner nor the "
                "tokens of its instruction are any. Use the method lora or full."
            )
        )
    return start


def _in_time(job: Job, options: FinetuneOptions, seconds: float) -> FinetuneOptions:
    """The options with as many epochs as there is time for. A run that goes on later keeps to them."""
    epochs = job.folder.stage("epochs")
    if epochs is None:
        left = job.clock.left - job.clock.reserve
        epochs = options.epochs if seconds <= left else max(1, int(options.epochs * left / seconds))
        job.folder.finish_stage("epochs", epochs)
    if epochs < options.epochs:
        job.tell(events.Notice(f"Fine-tuning has {epochs} of {options.epochs} epochs, for which there is time."))
    return replace(options, epochs=epochs)


def _others(job: Job, start: Prompt, finalists: Sequence[Candidate]) -> list[Prompt]:
    """Further prompts to train under: the study's next best, and variants of the start.

    All without vectors: those of another prompt are not trained here.
    """
    section = job.config.finetune
    if start.soft is not None:
        ranked: list[Prompt] = []
    else:
        ranked = [c.prompt for c in finalists[1:] if c.prompt.soft is None and c.kind != "baseline"]
    found = dict.fromkeys(ranked[: section.prompts - 1])
    if section.augment:
        seed = seed_of(job.config.seed, "variants")
        found |= dict.fromkeys(variants(start, job.splits.train, section.augment, section.variants, seed))
    return [prompt for prompt in found if prompt != start]


def _train(
    job: Job,
    options: FinetuneOptions,
    start: Prompt,
    examples: Sequence[Example],
    others: Sequence[Prompt],
    name: str,
) -> Tuned:
    scorer = job.scorer
    sign = 1 if scorer.metric.maximize else -1

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = scorer.using(model).score([prompt], job.splits.dev)
        return sign * score.value, -score.loss

    def tell(event: events.Event) -> None:
        if isinstance(event, events.EpochFinished):
            event = replace(event, start=name, dev=None if event.dev is None else sign * event.dev)
        job.tell(event)

    found = finetune(
        scorer.model, start, examples, evaluate, options, job.config.seed, tell, others=others,
        folder=_checkpoints(job) / name.replace(" ", "-"), halt=job.clock.halt,
    )  # fmt: skip
    scorer.engine.count(found.tokens)
    return found


def _checkpoints(job: Job) -> Path:
    return job.folder.path / "checkpoints"


def _save(job: Job, found: Tuned) -> None:
    """Write what is exported later: the adapter or the model, merged weights, vectors."""
    place = job.folder.tuning
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if found.method != "vectors":
        found.save(place / ("adapter" if found.method == "lora" else "model"))
    if found.method == "lora" and job.config.finetune.merge:
        found.save_merged(place / "merged")
    write_prompt(place / PROMPT, found.prompt)
    flush(place)


def _on_test(job: Job, baseline: Prompt, winner: Prompt, found: Tuned, test: Sequence[Example]) -> dict[Cell, Outcome]:
    before, after = job.scorer.score([baseline, winner], test)
    [both] = job.scorer.using(found.model).score([found.prompt], test)
    return {"base": before.outcome, "prompt": after.outcome, "both": both.outcome}


def _worse_on_dev(job: Job, winner: Prompt, found: Tuned) -> bool:
    """Whether fine-tuning is certainly worse on dev than the winner alone, which was chosen there."""
    metric, dev = job.scorer.metric, job.splits.dev
    [before] = job.scorer.score([winner], dev)
    [after] = job.scorer.using(found.model).score([found.prompt], dev)
    low, high = paired_interval(metric, before.outcome, after.outcome, job.config.seed)
    return high < 0 if metric.maximize else low > 0


def _tuned_alone(job: Job, options: FinetuneOptions, baseline: Prompt, test: Sequence[Example]) -> Outcome:
    """The outcome of fine-tuning that starts from the user's own prompt."""
    start = _start(job, baseline) or baseline
    if options.method == "vectors" and start.soft is None:
        [score] = job.scorer.score([baseline], test)  # there is nothing in it to train
        return score.outcome
    found = _train(job, options, start, job.splits.train, (), "your prompt")
    [score] = job.scorer.using(found.model).score([found.prompt], test)
    return score.outcome


def _values(job: Job, found: Tuned, outcome: Outcome, second: SecondScores | None) -> dict[str, Any]:
    sign = 1 if job.scorer.metric.maximize else -1
    return {
        "dev": sign * found.quality[0],
        "test": job.scorer.metric(outcome),
        "method": found.method,
        "epoch": found.epoch,
        "dev_by_epoch": [None if q is None else sign * q[0] for q in found.qualities],
        "loss_by_epoch": list(found.losses),
        "second": None if second is None else asdict(second),
    }
