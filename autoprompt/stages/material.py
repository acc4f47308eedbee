"""More training examples, made with the winner: labels for texts without any, and written ones."""

from __future__ import annotations

from typing import Any

from autoprompt import events
from autoprompt.config import data_options
from autoprompt.data import Example, read_inputs
from autoprompt.errors import ModelError
from autoprompt.finetune.unlabelled import PseudoOptions, pseudo_labelled
from autoprompt.finetune.writing import WritingOptions, written_examples
from autoprompt.prompt import Prompt
from autoprompt.soft import seed_of
from autoprompt.stages.job import Job
from autoprompt.stages.second import second_examples

__all__ = ["added_examples", "read_material"]

Counts = dict[str, dict[str, Any]]


def added_examples(job: Job, winner: Prompt) -> tuple[list[Example], Counts]:
    """The examples that `[finetune] unlabelled` and `write` ask for, and what became of the rest, by source."""
    section, found, counts = job.config.finetune, list[Example](), Counts()
    train, dev = job.splits.train, job.splits.dev
    seed = seed_of(job.config.seed, "more examples")
    if section.unlabelled is not None:
        options = PseudoOptions(precision=section.confidence)
        texts = _unlabelled_texts(job)
        new = job.splits.test.without(texts)
        labelled = pseudo_labelled(job.scorer, winner, new, dev, options, seed, train)
        found += labelled.examples
        counts["unlabelled"] = labelled.record | {"read": len(texts)}
        counts["unlabelled"]["refused"] |= {"in_test": len(texts) - len(new)}
    if section.write:
        try:
            written = written_examples(
                job.scorer, winner, train, WritingOptions(per_label=section.write), seed, job.writer, [*dev, *found]
            )
        except ModelError as error:
            job.tell(events.Notice(f"No examples are written: {error}"))
        else:
            found += written.examples
            counts["written"] = written.record
    for source, record in counts.items():
        job.tell(events.ExamplesAdded(source, record["kept"], record))
    return found, counts


def _unlabelled_texts(job: Job) -> list[Example]:
    """The rows of `[finetune] unlabelled`; what they may say of a label is not read. Raises DataError."""
    section = job.config.finetune
    assert section.unlabelled is not None
    return read_inputs(job.base / section.unlabelled, data_options(job.config, job.base))


def read_material(job: Job) -> None:
    """Read the files that fine-tuning will read, and raise DataError where they do not fit."""
    if job.config.finetune.method == "none":
        return
    if job.config.finetune.unlabelled is not None:
        _unlabelled_texts(job)
    second_examples(job)
