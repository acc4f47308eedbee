"""What follows the search, stage by stage: confirm, verdict, fine-tuning, export.

Each stage's outcome is stored when it is reached; a resumed run takes it from there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import Config
from autoprompt.data import Example, Splits
from autoprompt.export import Exported, export
from autoprompt.finetune import FinetuneOptions, finetune
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.results import RunFolder, write_bytes, write_text
from autoprompt.scorer import Scorer
from autoprompt.study import Candidate, Study
from autoprompt.verdict import Verdict, judge

__all__ = ["Job", "confirmed", "exported", "judged", "tuned"]

VECTORS = "tuned_vectors.safetensors"


@dataclass(frozen=True)
class Job:
    """What all stages of a run share. base: the folder that the config's paths start from."""

    folder: RunFolder
    config: Config
    base: Path
    splits: Splits
    scorer: Scorer
    tell: events.Listener


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


def _open_test(job: Job, reason: str) -> tuple[Example, ...]:
    times = job.folder.openings() + 1
    return job.splits.test.open(reason, lambda why: job.tell(events.TestOpened(why, times)))


def judged(job: Job, baseline: Candidate, winner: Candidate) -> Verdict:
    """The verdict on the locked test; from the folder when it was reached before."""
    stored = job.folder.stage("verdict")
    if stored is not None:
        return Verdict(**{**stored, "interval": tuple(stored["interval"])})
    test = _open_test(job, "verdict: baseline and winner")
    before, after = job.scorer.score([baseline.prompt, winner.prompt], test)
    write_text(job.folder.test_rows, "".join(_row(example, job.config.data.label) for example in test))
    same = baseline.prompt == winner.prompt
    verdict = judge(job.scorer.metric, before.outcome, after.outcome, same, job.config.seed)
    job.folder.finish_stage("verdict", verdict)
    return verdict


def _row(example: Example, label: str) -> str:
    return json.dumps({**example.fields, label: example.label}, ensure_ascii=False) + "\n"


def tuned(job: Job, winner: Candidate) -> dict[str, Any]:
    """Fine-tune from the winner and score it on the locked test; weights lie in the folder's `tuning`."""
    stored = job.folder.stage("finetune")
    if stored is not None:
        return dict(stored)
    options, scorer, place = _options(job.config), job.scorer, job.folder.tuning
    sign = 1 if scorer.metric.maximize else -1

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = scorer.using(model).score([prompt], job.splits.dev)
        return sign * score.value, -score.loss

    found = finetune(scorer.model, winner.prompt, job.splits.train, evaluate, options, job.config.seed, job.tell)
    scorer.engine.count(found.tokens)
    shutil.rmtree(place, ignore_errors=True)
    found.save(place)
    if found.prompt.soft is not None:
        write_bytes(place / VECTORS, found.prompt.vector_bytes() or b"")
    test = _open_test(job, "the fine-tuned model")
    [score] = scorer.using(found.model).score([found.prompt], test)
    outcome = {
        "dev": sign * found.qualities[found.epoch][0],
        "test": score.value,
        "method": options.method,
        "epoch": found.epoch,
        "dev_by_epoch": [sign * value for value, _ in found.qualities],
    }
    job.folder.finish_stage("finetune", outcome)
    return outcome


def _options(config: Config) -> FinetuneOptions:
    options = config.finetune
    assert options.method != "none"
    return FinetuneOptions(
        options.method, options.rank, 2 * options.rank, options.epochs, options.learning_rate,
        options.batch_size, patience=options.patience,
    )  # fmt: skip


def exported(job: Job, winner: Candidate, verdict: Verdict, outcome: Mapping[str, Any] | None) -> None:
    """The winner, with the tuned weights where tuning helped on dev."""
    config, model, folder = job.config, job.scorer.model, job.folder
    helped = outcome is not None and outcome["epoch"] > 0
    scores = {"baseline": verdict.baseline, "winner": verdict.winner}
    tuned_prompt = None
    if helped and outcome is not None:
        scores["tuned"] = outcome["test"]
        tuned_prompt = winner.prompt
        if winner.prompt.soft is not None:
            tuned_prompt = winner.prompt.with_vectors_from(folder.tuning / VECTORS)
    in_file = ".py:" in config.metric
    file, _, function = config.metric.rpartition(":")
    about = Exported(
        model=config.model.name,
        family=model.family,
        dtype=str(model.dtype).removeprefix("torch."),
        metric=f"{Path(file).name}:{function}" if in_file else config.metric,
        fields=tuple(config.data.fields),
        label=config.data.label,
        use="tuned" if helped else "prompt",
        method=outcome["method"] if helped and outcome is not None else None,
        model_fingerprint=model.fingerprint,
        prompt_fingerprint=winner.prompt.fingerprint,
        scores=scores,
    )

    def save_weights(place: Path) -> None:
        shutil.copytree(folder.tuning, place, ignore=shutil.ignore_patterns(VECTORS))

    export(
        folder.winner,
        winner.prompt,
        about,
        tuned_prompt,
        save_weights if helped else None,
        job.base / file if in_file else None,
    )
