"""What the engine is measured against: the same requests, as others score and continue them.

Each scorer takes requests of one model and returns the log-probabilities of their choices, one
(C,) a request. Padding is made here, not borrowed from the engine: the peers are its oracle too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine import Request
from autoprompt.models import LanguageModel

__all__ = ["generate_batches", "lm_eval_scorer", "lm_eval_version", "one_by_one", "padded_batches"]

Ids = tuple[int, ...]
Scores = list[NDArray[np.float64]]
LM_EVAL_WINDOW = 2048


# -- one forward pass a choice ---------------------------------------------------------------


@torch.inference_mode()
def one_by_one(model: LanguageModel, requests: Sequence[Request]) -> Scores:
    """The plain loop: every choice of every request is read alone and whole, with all its logits."""
    return [np.array([_alone(model, request, choice) for choice in request.choices]) for request in requests]


def _alone(model: LanguageModel, request: Request, choice: Ids) -> float:
    network, context = model.network, request.context
    if model.family == "seq2seq":
        written = torch.tensor([[network.config.decoder_start_token_id, *choice[:-1]]])
        rows = network(input_ids=torch.tensor([context]), decoder_input_ids=written).logits[0]
    elif model.family == "masked":
        masks = (model.tokenizer.mask_token_id,) * len(choice)
        logits = network(torch.tensor([context + masks + request.tail])).logits[0]
        rows = logits[len(context) : len(context) + len(choice)]
    else:
        rows = network(torch.tensor([context + choice])).logits[0, len(context) - 1 : -1]
    return float(rows.log_softmax(-1)[range(len(choice)), choice].double().sum())


# -- padded batches --------------------------------------------------------------------------


@torch.inference_mode()
def padded_batches(model: LanguageModel, requests: Sequence[Request], size: int) -> Scores:
    """All choices as rows, sorted by length, in batches of `size` rows padded on the right.

    Only the logits that predict something are normalized.
    """
    rows = [(at, c) for at, request in enumerate(requests) for c in range(len(request.choices))]
    rows.sort(key=lambda row: len(requests[row[0]].context) + len(requests[row[0]].choices[row[1]]))
    found = [np.zeros(len(request.choices)) for request in requests]
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        scores = _batch(model, [(requests[at], requests[at].choices[c]) for at, c in batch])
        for (at, c), score in zip(batch, scores.tolist(), strict=True):
            found[at][c] = score
    return found


def _batch(model: LanguageModel, rows: Sequence[tuple[Request, Ids]]) -> Tensor:
    """Summed log-probability of each row's choice (R,), float64."""
    network = model.network
    if model.family == "seq2seq":
        ids, mask = _padded([request.context for request, _ in rows])
        written, _ = _padded([(network.config.decoder_start_token_id, *choice[:-1]) for _, choice in rows])
        logits = network(input_ids=ids, attention_mask=mask, decoder_input_ids=written).logits
        first = [0] * len(rows)
    elif model.family == "masked":
        blank = model.tokenizer.mask_token_id
        ids, mask = _padded([request.context + (blank,) * len(choice) + request.tail for request, choice in rows])
        logits = network(input_ids=ids, attention_mask=mask).logits
        first = [len(request.context) for request, _ in rows]
    else:
        ids, mask = _padded([request.context + choice[:-1] for request, choice in rows])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = network(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        first = [len(request.context) - 1 for request, _ in rows]
    at_row = torch.tensor([r for r, (_, choice) in enumerate(rows) for _ in choice])
    at_token = torch.tensor(
        [start + j for start, (_, choice) in zip(first, rows, strict=True) for j in range(len(choice))]
    )
    wanted = torch.tensor([token for _, choice in rows for token in choice])
    scores = logits[at_row, at_token].log_softmax(-1).gather(1, wanted[:, None])[:, 0].double()
    return torch.zeros(len(rows), dtype=torch.float64).index_add(0, at_row, scores)


def _padded(rows: Sequence[Ids], left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids (R, T) padded with 0, and their mask (R, T): 1 where there is a token."""
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for at, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[at, place], mask[at, place] = torch.tensor(row), 1
    return ids, mask


# -- lm-evaluation-harness -------------------------------------------------------------------


def lm_eval_version() -> str:
    """The installed version of lm-eval; stops with what to do when there is none."""
    try:
        return metadata.version("lm-eval")
    except metadata.PackageNotFoundError:
        raise SystemExit(
            "lm-eval is not installed, and this benchmark measures against it: pip install 'autoprompt-search[bench]'"
        ) from None


def lm_eval_scorer(model: LanguageModel, size: int) -> Callable[[Sequence[Request]], Scores]:
    """lm-eval's own scoring of token ids, `size` rows a batch, which sorts, and reads equal rows once.

    It is given the network as it lies in memory and ids instead of strings: it pays for no tokenization.
    """
    lm_eval_version()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.huggingface import HFLM

    backend = "seq2seq" if model.family == "seq2seq" else "causal"
    harness: Any = HFLM(
        pretrained=model.network,
        tokenizer=model.tokenizer,
        backend=backend,
        batch_size=size,
        max_length=LM_EVAL_WINDOW,
    )

    def score(requests: Sequence[Request]) -> Scores:
        rows = [
            ((f"context {at}", f"choice {c}"), list(request.context), list(choice))
            for at, request in enumerate(requests)
            for c, choice in enumerate(request.choices)
        ]
        scores = iter(harness._loglikelihood_tokens(rows, disable_tqdm=True))
        return [np.array([next(scores)[0] for _ in request.choices]) for request in requests]

    return score


# -- continuations ---------------------------------------------------------------------------


@torch.inference_mode()
def generate_batches(model: LanguageModel, contexts: Sequence[Ids], new_tokens: int, size: int) -> list[Ids]:
    """Greedy continuations of `new_tokens` ids each: `generate` on batches of like length, padded on the left.

    With a size of 1 nothing is padded: contexts are continued one by one.
    """
    order = sorted(range(len(contexts)), key=lambda at: len(contexts[at]))
    found: list[Ids] = [()] * len(contexts)
    for batch in _chunks(order, size):
        ids, mask = _padded([contexts[at] for at in batch], left=True)
        whole = model.network.generate(
            ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None
        )
        for at, row in zip(batch, whole[:, ids.shape[1] :].tolist(), strict=True):
            found[at] = tuple(row)
    return found


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
