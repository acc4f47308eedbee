"""engine/generation.py: what is written is what transformers writes one by one, however it is batched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autoprompt.engine import Engine, Request
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel, load_model

pytestmark = pytest.mark.model

NEW = 12


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


def contexts(seed: int = 0) -> list[Request]:
    """Two shared beginnings, items of different lengths, one context alone, one twice."""
    drawn = np.random.default_rng(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(map(int, drawn.integers(5, 90, count)))

    begins = [(0, *some(14)), (0, *some(11))]
    found = [begin + some(count) for begin in begins for count in (1, 3, 8)]
    return [Request(c, ()) for c in [*found, (0, *some(2)), found[1]]]


@torch.inference_mode()
def alone(model: LanguageModel, request: Request, new_tokens: int = NEW, ends: int | None = None) -> tuple[int, ...]:
    """One context through transformers' greedy `generate`."""
    found = model.network.generate(
        input_ids=torch.tensor([request.context]),
        attention_mask=torch.ones(1, len(request.context), dtype=torch.long),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=0,
    )[0].tolist()
    text = found[len(request.context) :] if model.family == "causal" else found[1:]
    return tuple(text[: text.index(ends)] if ends in text else text)


@pytest.mark.parametrize("budget", [1, 40, 4000])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_greedy_texts_are_those_written_one_by_one(family: str, budget: int, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded[family], contexts()
    expected = [alone(model, request) for request in requests]
    assert len(set(expected)) > 2
    assert Engine(model, budget).generate(requests, NEW, ends=()) == expected
    assert Engine(model, budget, share=False).generate(requests, NEW, ends=()) == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_a_text_ends_before_the_id_that_ends_it_and_its_row_leaves(
    family: str, loaded: dict[str, LanguageModel]
) -> None:
    model, requests = loaded[family], contexts(1)
    longest = [alone(model, request) for request in requests]
    end = longest[0][3]
    expected = [alone(model, request, ends=end) for request in requests]
    assert len({len(text) for text in expected}) > 1
    engine = Engine(model)
    assert engine.generate(requests, NEW, ends=[end]) == expected
    if family != "t5":
        read = engine.tokens
        engine.generate(requests, NEW, ends=())
        assert read < engine.tokens - read  # rows that went on to the end


def test_beginnings_are_read_once_before_texts_are_written(loaded: dict[str, LanguageModel]) -> None:
    requests = contexts()[:6]
    engine = Engine(loaded["llama"])
    engine.generate(requests, NEW, ends=())
    items, steps = 2 * (1 + 3 + 8), NEW - 1  # the last token is written and not read
    assert engine.tokens == 15 + 12 + items + len(requests) * steps


@pytest.mark.parametrize("budget", [1, 4000])
def test_drawn_texts_depend_on_the_seed_alone(budget: int, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded["llama"], contexts()
    first = Engine(model).generate(requests, NEW, temperature=1.5, seed=3, ends=())
    assert Engine(model, budget).generate(requests, NEW, temperature=1.5, seed=3, ends=()) == first
    assert Engine(model, share=False).generate(requests, NEW, temperature=1.5, seed=3, ends=()) == first
    assert Engine(model).generate(requests, NEW, temperature=1.5, seed=4, ends=()) != first
    assert first[1] != first[7]  # the same context twice is drawn twice


def test_drawn_tokens_follow_the_distribution(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["gpt2"]
    request = Request((7, 8, 9), ())
    with torch.inference_mode():
        shares = (model.network(torch.tensor([request.context])).logits[0, -1] / 0.5).softmax(-1).numpy()
    drawn = Engine(model).generate([request] * 4000, 1, temperature=0.5, ends=())
    found = np.bincount([text[0] for text in drawn], minlength=len(shares)) / 4000
    assert np.abs(found - shares).max() < 0.03
    assert shares.max() > 0.1  # so that the comparison says something


@pytest.mark.parametrize("share", [True, False])
def test_vectors_stand_in_the_context(share: bool, loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    rows = np.asarray(model.embeddings[[11, 12]] * 1.0)
    soft = [Request((0, -1, -2, 20 + n), (), (), rows) for n in range(3)]
    plain = [Request((0, 11, 12, 20 + n), ()) for n in range(3)]
    found = Engine(model, share=share).generate([*soft, *plain], NEW, ends=())
    assert found[:3] == found[3:]


def test_no_tokens_and_no_requests_give_nothing(loaded: dict[str, LanguageModel]) -> None:
    engine = Engine(loaded["llama"])
    assert engine.generate([], 5) == []
    assert engine.generate(contexts()[:2], 0) == [(), ()]


def test_a_masked_model_does_not_write(loaded: dict[str, LanguageModel]) -> None:
    with pytest.raises(ModelError, match=r"is masked; only causal and seq2seq models write\.$"):
        Engine(loaded["bert"]).generate(contexts(), 3)
