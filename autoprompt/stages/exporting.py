"""The winner's export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprompt.config import JUDGED
from autoprompt.export import Exported, export
from autoprompt.prompt import Prompt
from autoprompt.stages.job import Job
from autoprompt.stages.tuning import PROMPT
from autoprompt.study import Candidate
from autoprompt.verdict import Verdict

__all__ = ["exported"]


def exported(job: Job, winner: Candidate, verdict: Verdict, outcome: Mapping[str, Any] | None) -> None:
    """The winner, with what fine-tuning trained where it helped on dev."""
    config, model, folder = job.config, job.scorer.model, job.folder
    helped = outcome is not None and outcome["helped"]
    scores = {"baseline": verdict.baseline, "winner": verdict.winner}
    tuned_prompt = None
    if helped and outcome is not None:
        scores["tuned"] = outcome["test"]
        tuned_prompt = Prompt.load(folder.tuning / PROMPT)
    name = config.metric_name
    in_file = ".py:" in name
    file, _, function = name.rpartition(":")
    table = config.metric
    judged = {} if isinstance(table, str) else table.model_dump(include=JUDGED, exclude_defaults=True)
    about = Exported(
        model=config.model.name,
        family=model.family,
        dtype=str(model.dtype).removeprefix("torch."),
        metric=f"{Path(file).name}:{function}" if in_file else name,
        fields=tuple(config.data.inputs),
        label=config.data.label,
        use="tuned" if helped else "prompt",
        method=outcome["method"] if helped and outcome is not None else None,
        model_fingerprint=model.fingerprint,
        prompt_fingerprint=winner.prompt.fingerprint,
        scores=scores,
        target=config.data.target,
        options=config.data.options,
        first_option=config.data.first_option,
        aside=tuple(config.data.aside),
        columns=dict(config.data.columns),
        judged=judged,
    )
    export(
        folder.winner, winner.prompt, about, tuned_prompt, folder.tuning if helped else None,
        job.base / file if in_file else None,
    )  # fmt: skip
