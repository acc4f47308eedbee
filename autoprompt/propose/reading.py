"""What proposers read with a model: whole distributions over its tokens, and what reading costs."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.engine.request import Ids, padded
from autoprompt.models import Encoding, LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer

__all__ = ["answer_distributions", "in_turns", "mask_distributions", "tokens_read"]


def in_turns(pool: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Up to `count` examples of a pool: the classes take turns, in a shuffled order."""
    generator = random.Random(f"{seed} in turns")
    by_label: dict[str, list[Example]] = {}
    for example in generator.sample(pool, len(pool)):
        by_label.setdefault(example.label, []).append(example)
    found: list[Example] = []
    while len(found) < min(count, len(pool)):
        labels = [label for label, left in sorted(by_label.items()) if left]
        found += [by_label[label].pop() for label in generator.sample(labels, len(labels))]
    return found[:count]


def tokens_read(scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example]) -> int:
    """The tokens that scoring takes when nothing is remembered: each distinct context once, and its choices."""
    contexts: dict[tuple[Ids, Ids], set[Ids]] = {}
    for prompt in dict.fromkeys(prompts):
        inputs = [dict(example.fields) for example in examples]
        for encoding in scorer.encode(prompt, inputs + (prompt.content_free() if prompt.calibration != "none" else [])):
            contexts.setdefault((encoding.context, encoding.tail), set()).update(encoding.choices)
    return sum(len(context) + len(tail) + sum(map(len, choices)) for (context, tail), choices in contexts.items())


@torch.inference_mode()
def answer_distributions(engine: Engine, encodings: Sequence[Encoding]) -> Tensor:
    """log P(token) where the answer begins (N, V), float32: behind the context, at the one mask, or first
    in the decoder. The encodings hold no vectors."""
    model = engine.model
    rows: list[Tensor] = [torch.empty(0)] * len(encodings)

    def forward(batch: list[int]) -> None:
        chosen = [encodings[at] for at in batch]
        logits = _ANSWERS[model.family](model, chosen)
        engine.count(sum(len(encoding.context) + len(encoding.tail) + 1 for encoding in chosen))
        for at, found in zip(batch, logits.float().log_softmax(-1), strict=True):
            rows[at] = found

    order = sorted(range(len(encodings)), key=lambda at: len(encodings[at].context) + len(encodings[at].tail))
    engine.budget.run(order, lambda at: (1, len(encodings[at].context) + len(encodings[at].tail) + 1), forward)
    return torch.stack(rows)


def _behind(model: LanguageModel, encodings: Sequence[Encoding]) -> Tensor:
    ids, mask = padded([encoding.context for encoding in encodings], model.device)
    lasts, places = torch.unique(mask.sum(1) - 1, return_inverse=True)
    kept: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.network.forward).parameters:
        kept["logits_to_keep"] = lasts  # or the logits of all tokens are computed
    logits: Tensor = model.network(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
    return logits[torch.arange(len(ids), device=ids.device), places if kept else lasts[places]]


def _masked(model: LanguageModel, encodings: Sequence[Encoding]) -> Tensor:
    mask = (int(model.tokenizer.mask_token_id),)
    rows = [encoding.context + mask + encoding.tail for encoding in encodings]
    return _at_places(model, rows, [(len(encoding.context),) for encoding in encodings])


def _at_places(model: LanguageModel, rows: Sequence[Ids], places: Sequence[Sequence[int]]) -> Tensor:
    """The logits (M, V) at all places of all rows, row by row."""
    ids, mask = padded(rows, model.device)
    logits: Tensor = model.network(input_ids=ids, attention_mask=mask).logits
    at = [(row, place) for row, chosen in enumerate(places) for place in chosen]
    row_of, place_of = torch.tensor(at, device=ids.device).T
    return logits[row_of, place_of]


def _decoded(model: LanguageModel, encodings: Sequence[Encoding]) -> Tensor:
    ids, mask = padded([encoding.context for encoding in encodings], model.device)
    start = torch.full((len(ids), 1), model.network.config.decoder_start_token_id, device=ids.device)
    logits: Tensor = model.network(input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=False).logits
    return logits[:, 0]


_ANSWERS: dict[str, Callable[[LanguageModel, Sequence[Encoding]], Tensor]] = {
    "causal": _behind,
    "masked": _masked,
    "seq2seq": _decoded,
}


@torch.inference_mode()
def mask_distributions(engine: Engine, rows: Sequence[Ids], places: Sequence[Sequence[int]]) -> Tensor:
    """log P(token) at all places of all rows (M, V), row by row, float32, of a masked model."""
    found: list[Tensor] = [torch.empty(0)] * len(rows)

    def forward(batch: list[int]) -> None:
        logits = _at_places(engine.model, [rows[at] for at in batch], [places[at] for at in batch])
        engine.count(sum(len(rows[at]) for at in batch))
        parts = torch.split(logits.float().log_softmax(-1), [len(places[at]) for at in batch])
        for at, part in zip(batch, parts, strict=True):
            found[at] = part

    engine.budget.run(range(len(rows)), lambda at: (1, len(rows[at])), forward)
    return torch.cat(found)
