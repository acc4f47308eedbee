"""New rows scored from an exported folder alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from autoprompt.config import read_metric
from autoprompt.data import Example, fields_of, labelled_rows, read_inputs, read_rows
from autoprompt.errors import DataError, ExportError, nearest
from autoprompt.export import Exported, read_export
from autoprompt.finetune import load_tuned
from autoprompt.metrics import Outcome, make_metric
from autoprompt.models import Family, load_model
from autoprompt.prompt import Prompt
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
    folder: Path,
    file: Path,
    prompt_only: bool = False,
    device: str = "auto",
    offline: bool | None = None,
    *,
    allow_code_execution: bool = False,
) -> Predictions:
    """Score the rows of a JSONL or CSV file with an exported winner.

    prompt_only: leave the fine-tuned weights away. offline: take a hub model from the cache alone.
    allow_code_execution: run the programs that are written, where the metric is "pass@k" and the file has tests. Raises
    ExportError when the folder is no export, ModelError when its model cannot be loaded, ConfigError or MetricError
    when its metric cannot, DataError when the file lacks an input column.
    """
    about, prompt, tuned_prompt = read_export(folder)
    chosen = read_metric(about.metric, about.judged, f"The metric in {folder / 'autoprompt.json'}")
    tuned = about.use == "tuned" and about.method is not None and not prompt_only
    name = str(folder / "model") if tuned and about.method == "full" else about.model
    model = load_model(name, _family(about.family), device, about.dtype, offline=offline, revision=about.commit)
    if not (tuned and about.method == "full") and model.fingerprint != about.model_fingerprint:
        raise ExportError(
            f"The model {about.model!r} is not the one that {folder} was made with; its scores would differ."
        )
    if tuned and about.method == "lora":
        model = load_tuned(model, folder / "adapter")
    examples, labelled = _examples(file, about, prompt)
    metric = make_metric(  # without targets nobody is told what it says
        chosen if labelled else "accuracy", folder, prompt.labels, allow_code_execution=allow_code_execution
    )
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


def _examples(file: Path, about: Exported, prompt: Prompt) -> tuple[list[Example], bool]:
    """The rows of a file as examples, and whether they have targets."""
    rows = read_rows(file)
    reading = about.reading(file, rows[0][1])
    if all(reading.column(about.label) in row for _, row in rows):
        if about.target == "label":
            return [
                _example(number, place, row, about, prompt.labels) for number, (place, row) in enumerate(rows)
            ], True
        return [row.example for row in labelled_rows(reading)], True
    stands = prompt.labels[0] if prompt.answer.kind in ("label", "option") else "0" if about.target == "number" else ""
    if about.target == "option":
        return [replace(example, label=stands) for example in read_inputs(file, reading)], False
    shown = [fields_of(place, row, about.fields) for place, row in rows]
    return [Example(number, fields, stands) for number, fields in enumerate(shown)], False


def _example(number: int, place: str, row: Any, about: Exported, labels: tuple[str, ...]) -> Example:
    shown = fields_of(place, row, about.fields)
    found = str(row[about.label]).strip()
    if found not in labels:
        raise DataError(f"{place}: the label is {found!r}; allowed are {', '.join(labels)}.{nearest(found, labels)}")
    return Example(number, shown, found)


def _answer(outcome: Outcome, at: int) -> dict[str, Any]:
    probabilities = {
        label: round(float(p), 6) for label, p in zip(outcome.labels, outcome.probabilities[at], strict=True)
    }
    if outcome.answers is not None:
        return {"prediction": outcome.answers[at], **({"probabilities": probabilities} if probabilities else {})}
    return {"prediction": outcome.predictions[at], "probabilities": probabilities}
