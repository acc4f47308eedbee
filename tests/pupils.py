"""What the tests of fine-tuning share: a small task, how it is scored, and how weights are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from autoprompt.data import Example
from autoprompt.finetune import FinetuneOptions, Tuned
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import EncoderModel, LanguageModel
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.scorer import Scorer

PROMPT = Prompt("{{ text }}\nTopic: {{ label }}", {"sports": "sports", "weather": "weather"})
OTHER = Prompt("What is it about? {{ text }} -> {{ label }}", {"weather": "rain", "sports": "cup"})
OPTIONS = FinetuneOptions(epochs=3, learning_rate=1e-2, batch_size=8, patience=0)


def topics(rows: Sequence[dict[str, str]], count: int = 24) -> list[Example]:
    chosen = [row for row in rows if row["topic"] != "money"][:count]
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(chosen)]


def on(examples: Sequence[Example]) -> Callable[[LanguageModel, Prompt], tuple[float, float]]:
    """What a run evaluates with: the metric and minus the loss on dev."""

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = Scorer(model, accuracy).score([prompt], examples)
        return score.value, -score.loss

    return evaluate


def unscored(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
    return 0.0, 0.0


def soft(model: LanguageModel, position: Position = "start", prompt: Prompt = PROMPT) -> Prompt:
    drawn = np.random.default_rng(5).standard_normal((3, model.embeddings.shape[1]))
    return dataclasses.replace(prompt, soft=SoftPart((drawn * model.embeddings.std()).astype(np.float32), position))


def rows(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> Any:
    [found] = Scorer(model, accuracy).log_likelihoods([prompt], examples)
    return found


def everything(tuned: Tuned) -> dict[str, torch.Tensor]:
    """All that training may have changed."""
    found = {name: weight.clone() for name, weight in tuned.model.network.state_dict().items()}
    if tuned.prompt.soft is not None:
        found["vectors"] = torch.from_numpy(tuned.prompt.soft.vectors)
    if isinstance(tuned.model, EncoderModel) and tuned.model.labels is not None:
        found |= {"labels": tuned.model.labels.vectors, "bias": tuned.model.labels.bias}
    return found


def same(first: Tuned, second: Tuned) -> bool:
    """Whether two trainings came to the same, bit for bit."""
    one, two = everything(first), everything(second)
    plain = [(t.epoch, t.qualities, t.losses, t.tokens, t.method, t.prompt) for t in (first, second)]
    return plain[0] == plain[1] and one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def distance(first: Tuned, second: Tuned) -> float:
    """How far the weights of two trainings are from each other at most."""
    one, two = everything(first), everything(second)
    return max(float((one[key] - two[key]).abs().max()) for key in one)
