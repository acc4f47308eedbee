"""New rows scored from an exported folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from autoprompt.data import Example, fields_of, read_rows
from autoprompt.errors import DataError, ExportError, nearest
from autoprompt.export import read_export
from autoprompt.finetune import load_tuned
from autoprompt.metrics import Outcome, load_metric
from autoprompt.metrics.chosen import COST
from autoprompt.models import Family, load_model
from autoprompt.scorer import Scorer

__all__ = ["Predictions", "predict"]


@dataclass(frozen=True)
class Predictions:
    """rows: for each input its prediction and probabilities. value: the metric, when the file has
    labels. part: "tuned" or "prompt", what made them."""

    rows: list[dict[str, Any]]
    metric: str
    value: float | None
    part: str


def predict(
    folder: Path, file: Path, prompt_only: bool = False, device: str = "auto", offline: bool | None = None
) -> Predictions:
    """Score the rows of a JSONL or CSV file with an exported winner.

    prompt_only: leave the fine-tuned weights away. offline: take a hub model from the cache alone. Raises
    ExportError when the folder is no export, ModelError when its model cannot be loaded, DataError when the
    file lacks an input column.
    """
    about, prompt, tuned_prompt = read_export(folder)
    tuned = about.use == "tuned" and about.method is not None and not prompt_only
    name = str(folder / "model") if tuned and about.method == "full" else about.model
    model = load_model(name, _family(about.family), device, about.dtype, offline=offline, revision=about.commit)
    if not (tuned and about.method == "full") and model.fingerprint != about.model_fingerprint:
        raise ExportError(
            f"The model {about.model!r} is not the one that {folder} was made with; its scores would differ."
        )
    if tuned and about.method == "lora":
        model = load_tuned(model, folder / "adapter")
    rows = read_rows(file)
    labelled = all(about.label in row for _, row in rows)
    examples = [
        _example(number, place, row, about.fields, about.label if labelled else None, prompt.labels)
        for number, (place, row) in enumerate(rows)
    ]
    # what mistakes cost is the space file's, and not exported
    metric = load_metric("accuracy" if about.metric == COST else about.metric, folder, prompt.labels)
    [score] = Scorer(model, metric).score([tuned_prompt if tuned else prompt], examples)
    return Predictions(
        [_answer(score.outcome, i) for i in range(len(examples))],
        metric.name,
        score.value if labelled else None,
        "tuned" if tuned else "prompt",
    )


def _family(name: str) -> Any:
    if name not in get_args(Family):
        raise ExportError(f"The export names the family {name!r}; allowed are {', '.join(get_args(Family))}.")
    return name


def _example(
    number: int, place: str, row: Any, fields: tuple[str, ...], label: str | None, labels: tuple[str, ...]
) -> Example:
    shown = fields_of(place, row, fields)
    found = labels[0] if label is None else str(row[label]).strip()
    if found not in labels:
        raise DataError(f"{place}: the label is {found!r}; allowed are {', '.join(labels)}.{nearest(found, labels)}")
    return Example(number, shown, found)


def _answer(outcome: Outcome, at: int) -> dict[str, Any]:
    probabilities = {
        label: round(float(p), 6) for label, p in zip(outcome.labels, outcome.probabilities[at], strict=True)
    }
    return {"prediction": outcome.predictions[at], "probabilities": probabilities}
