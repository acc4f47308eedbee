"""What a prompt is worth under changes that should not matter: the worst beside the mean.

Whitespace, case, marks and the order of what is shown move scores by many points (Sclar et al. 2024; Lu et
al. 2022); the user will change such things without thinking of it, and so will those who type the inputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.events import RobustnessMeasured
from autoprompt.explain.attempts import attempted, required
from autoprompt.explain.changes import Change, changes, two_spaces
from autoprompt.explain.inputs import input_changes
from autoprompt.explain.paraphrase import paraphrased
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.scorer import Score, Scorer

__all__ = ["measure_robustness", "robust_choice", "worst_case"]

_WRITTEN = 2  # wordings by a writer
_CHEAP = 100_000_000  # parameters; a processor without bfloat16 imitates it slowly
# beside two spaces for one in the template: what every prompt can be put under
_FEW = (
    "no mark behind the input",
    "input in small letters",
    "two spaces for one in the input",
    "typing errors in 2 % of the letters",
)


def measure_robustness(
    scorer: Scorer,
    prompt: Prompt,
    baseline: Prompt,
    examples: Sequence[Example],
    seed: int,
    writer: LanguageModel | None = None,
    pool: Sequence[Example] = (),
) -> RobustnessMeasured:
    """The metric of `prompt` on dev examples under every change that applies, and the worst of the user's prompt.

    Changed are the prompt (whitespace, case, marks, order of demonstrations and of listed labels, other
    demonstrations from the training examples `pool`, other words and formats; two more wordings by `writer`), the
    inputs (whitespace, case, marks, typing errors), and the numbers that the model computes with (bfloat16). A
    changed prompt that cannot be scored is left out, and counted in the sentence. Raises PromptError when
    either prompt cannot be scored as it is, DataError without examples.
    """
    both = (prompt, baseline)
    own, _ = map(required, attempted(scorer, both, examples))
    made = [[*changes(one, seed, pool), *_written(scorer, writer, one, seed)] for one in both]
    tables = [_scored(scorer, one, examples) for one in made]
    lost = sum(map(len, made)) - sum(map(len, tables))
    for altered in input_changes(examples, seed):
        _add(tables, altered.kind, altered.name, attempted(scorer, both, altered.examples))
    half, without = _half(scorer, both, examples)
    _add(tables, "precision", "bfloat16", half)
    maximize = scorer.metric.maximize
    worst, least = (worst_case([row["value"] for row in table], maximize) for table in tables)
    mean = sum(row["value"] for row in tables[0]) / len(tables[0])
    reached = _Reached(scorer.metric.name, own.value, mean, worst, least)
    sentence = _sentence(reached, tables[0], prompt == baseline) + _notes(lost, without)
    return RobustnessMeasured(own.value, mean, worst, least, tuple(tables[0]), sentence)


def worst_case(values: Sequence[float], maximize: bool = True) -> float:
    """The worst of some values of a metric; NaN is worse than any number, and of none it is NaN.

    >>> worst_case([0.7, 0.6, 0.8]), worst_case([0.7, 0.6, 0.8], maximize=False)
    (0.6, 0.8)
    """
    if not values:
        return math.nan
    bottom = -math.inf if maximize else math.inf
    known = [bottom if math.isnan(value) else value for value in values]
    return min(known) if maximize else max(known)


def robust_choice(scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example], seed: int) -> list[float]:
    """The worst value of each prompt, as it is and under five small changes, for choosing among finalists.

    They are such as apply to every prompt, soft ones too: the worst of many is lower than the worst of few. A
    prompt that cannot be scored under one of them is worth less than any other.
    """
    groups = [list(prompts), [two_spaces(prompt) for prompt in prompts]]
    tried = [attempted(scorer, group, examples) for group in groups]
    tried += [
        attempted(scorer, prompts, altered.examples)
        for altered in input_changes(examples, seed)
        if altered.name in _FEW
    ]
    values = [[math.nan if isinstance(one, str) else one.value for one in row] for row in tried]
    return [worst_case(row, scorer.metric.maximize) for row in zip(*values, strict=True)]


# -- the rows --------------------------------------------------------------------------------------


def _written(scorer: Scorer, writer: LanguageModel | None, prompt: Prompt, seed: int) -> list[Change]:
    """The prompt with its instruction as the writer says it."""
    if writer is None:
        return []
    engine = scorer.engine if writer is scorer.model else Engine(writer)
    texts = paraphrased(engine, prompt, _WRITTEN, seed)
    return [
        Change("paraphrase", f"instruction by {writer.name}, {at}", replace(prompt, instruction=text))
        for at, text in enumerate(texts, 1)
    ]


def _scored(scorer: Scorer, made: Sequence[Change], examples: Sequence[Example]) -> list[dict[str, Any]]:
    tried = attempted(scorer, [change.prompt for change in made], examples)
    for change in made:
        scorer.forget(change.prompt)
    return [
        _row(change.kind, change.name, one) for change, one in zip(made, tried, strict=True) if not isinstance(one, str)
    ]


def _add(tables: Sequence[list[dict[str, Any]]], kind: str, change: str, tried: Sequence[Score | str]) -> None:
    """Add what both prompts are worth under one change, unless one of them cannot be scored."""
    scores = [one for one in tried if not isinstance(one, str)]
    if len(scores) == len(tables):
        for table, score in zip(tables, scores, strict=True):
            table.append(_row(kind, change, score))


def _row(kind: str, change: str, score: Score) -> dict[str, Any]:
    return {"kind": kind, "change": change, "value": score.value}


def _half(scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example]) -> tuple[Sequence[Score | str], str]:
    """Scores on a copy of the model whose weights are bfloat16, or why there are none."""
    model = scorer.model
    if (dtype := str(model.dtype).removeprefix("torch.")) != "float32":
        return (), f"the model computes in {dtype} already"
    if model.device.type == "cpu" and model.parameters > _CHEAP:
        return (), f"{model.parameters / 1e9:.1f} billion parameters in bfloat16 take too long on a processor"
    try:
        network = copy.deepcopy(model.network)
        for weight in network.parameters():
            weight.data = weight.data.bfloat16()  # buffers stay, as where a model is loaded in bfloat16
    except (RuntimeError, MemoryError):
        return (), "there is no memory for a copy of the model"
    tried = attempted(scorer.using(model.with_network(network)), prompts, examples)
    return tried, next((one for one in tried if isinstance(one, str)), "")


# -- in words --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reached:
    """The metric's name, and its value unchanged, in the mean, at worst, and at worst with the user's prompt."""

    name: str
    value: float
    mean: float
    worst: float
    least: float


def _sentence(found: _Reached, rows: Sequence[dict[str, Any]], same: bool) -> str:
    where = next((row["change"] for row in rows if row["value"] == found.worst), "")
    whose = "your prompt" if same else "the winner"
    text = (
        f"Under {len(rows)} changes that should not matter {whose} is worth {found.mean:.3f} {found.name} in the "
        f"mean and {found.worst:.3f} at worst ({where}); unchanged {found.value:.3f}."
    )
    return text if same else text + f" Your prompt's worst is {found.least:.3f}."


def _notes(lost: int, without: str) -> str:
    text = f" {lost} changed prompts could not be scored." if lost else ""
    return text + (f" Half precision was not measured: {without.rstrip('.')}." if without else "")
