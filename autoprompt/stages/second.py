"""Another task, before fine-tuning and after it: what the model forgot."""

from __future__ import annotations

from dataclasses import dataclass

from autoprompt import events
from autoprompt.data import Example, fields_of, read_rows
from autoprompt.errors import DataError, nearest
from autoprompt.metrics import load_metric
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.stages.job import Job
from autoprompt.verdict import paired_interval

__all__ = ["SecondScores", "second_examples", "second_task"]


@dataclass(frozen=True)
class SecondScores:
    """The accuracy on the other task; interval: 95 %, of after minus before."""

    examples: int
    before: float
    after: float
    interval: tuple[float, float]


def second_task(job: Job, model: LanguageModel) -> SecondScores | None:
    """The accuracies of the run's model and of a tuned one on `[finetune.second]`; None where there is none."""
    section = job.config.finetune.second
    if section is None:
        return None
    examples = second_examples(job)
    prompt = Prompt(section.template, dict(section.label_words), section.instruction)
    metric = load_metric("accuracy", job.base, prompt.labels)
    [before], [after] = (
        Scorer(one, metric, job.config.model.batch_tokens).score([prompt], examples)
        for one in (job.scorer.model, model)
    )
    interval = paired_interval(metric, before.outcome, after.outcome, job.config.seed)
    job.tell(events.SecondTask(section.file, len(examples), before.value, after.value, interval))
    return SecondScores(len(examples), before.value, after.value, interval)


def second_examples(job: Job) -> list[Example]:
    """The rows of the other task. Raises DataError when a column or a label does not fit."""
    section = job.config.finetune.second
    if section is None:
        return []
    found = []
    for number, (place, row) in enumerate(read_rows(job.base / section.file)):
        fields = fields_of(place, row, (*section.fields, section.label))
        label = fields[section.label]
        if label not in section.label_words:
            raise DataError(
                f"{place}: the label is {label!r}; [finetune.second] label_words has "
                f"{', '.join(section.label_words)}.{nearest(label, section.label_words)}"
            )
        found.append(Example(number, {name: fields[name] for name in section.fields}, label))
    return found
