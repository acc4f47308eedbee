"""Engine.write_and_score: a text and the choices' scores, each context read once for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprompt.answer import ByText
from autoprompt.data import Example
from autoprompt.engine import Engine, Form, Request, ScoreMemory, WritingRules
from autoprompt.metrics.builtin import METRICS
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

NEW = 10
TOLERANCE = 1e-4  # of a log-probability


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(model_folders[name]), device="cpu") for name in ("llama", "gpt2", "t5", "bert")}


def requests_of(seed: int, many: int = 14) -> list[Request]:
    """Contexts that share beginnings or not, of 3 to 60 tokens, with one or two choices of 1 to 6 tokens."""
    drawn = np.random.default_rng(seed)

    def some(most: int, least: int = 1) -> tuple[int, ...]:
        return tuple(map(int, drawn.integers(5, 90, drawn.integers(least, most + 1))))

    head = some(20, 20)
    found = [Request((0, *head[: drawn.integers(0, 21)], *some(40, 2)), (some(6),)) for _ in range(many)]
    twice = [replace(found[2], choices=(some(3), some(5))), found[1]]  # contexts that stand above, with other choices
    return [*found, *twice]


def differ(engine: Engine, requests: Sequence[Request], rules: WritingRules) -> float:
    """How far the scores are from those of `score`; the texts are those of `write`."""
    found = engine.write_and_score(requests, rules)
    alone = Engine(engine.model)
    assert [(text,) for text, _ in found] == alone.write(requests, rules)
    pairs = zip([scores for _, scores in found], alone.score(requests), strict=True)
    return max(float(np.abs(one - other).max()) if one is not None else np.inf for one, other in pairs)


@pytest.mark.parametrize("budget", [1, 40, 4000])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_and_scores_are_those_of_each_by_itself(
    family: str, budget: int, loaded: dict[str, LanguageModel]
) -> None:
    model = loaded[family]
    stop = (Engine(model).write(requests_of(1)[:1], WritingRules(NEW))[0][0].text[2:4],)
    for rules in (
        WritingRules(NEW),
        WritingRules(NEW, stop),
        WritingRules(NEW, temperature=1.2, seed=3),
        WritingRules(NEW, form=Form("regex", r"[ a-z]{1,8}")),
    ):
        assert differ(Engine(model, budget), requests_of(1), rules) < TOLERANCE


def test_vectors_are_part_of_what_is_read(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    width = model.network.get_input_embeddings().weight.shape[1]
    rows = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
    soft = [replace(r, context=(0, -1, *r.context[1:], -2), vectors=rows) for r in requests_of(2, 5)]
    assert differ(Engine(model), [*soft, *requests_of(2, 5)], WritingRules(NEW)) < TOLERANCE


def test_a_context_is_read_once_for_both(loaded: dict[str, LanguageModel]) -> None:
    requests = [replace(r, choices=r.choices[:1]) for r in requests_of(3, 20)[:20]]
    together, apart = Engine(loaded["llama"]), Engine(loaded["llama"])
    together.write_and_score(requests, WritingRules(2))
    apart.write(requests, WritingRules(2))
    written = apart.tokens
    apart.score(requests)
    right = sum(len(request.choices[0]) - 1 for request in requests)  # nothing follows the last token
    assert together.tokens == written + right < apart.tokens


@pytest.mark.parametrize("what", ["samples", "tail", "no choices", "no tokens", "t5"])
def test_what_cannot_be_had_together_is_left_to_each_by_itself(what: str, loaded: dict[str, LanguageModel]) -> None:
    requests, rules = requests_of(4, 3), WritingRules(NEW)
    model = loaded["t5" if what == "t5" else "llama"]
    if what == "samples":
        rules = WritingRules(NEW, temperature=1.0, samples=2)
    elif what == "tail":
        requests = [replace(request, tail=(7,)) for request in requests]
    elif what == "no choices":
        requests = [*requests, Request((0, 8), ())]
    elif what == "no tokens":
        rules = WritingRules(0)
    engine = Engine(model)
    assert engine.write_and_score(requests, rules) == [(None, None)] * len(requests)
    assert engine.tokens == 0


def test_without_packed_passes_there_is_a_text_alone(loaded: dict[str, LanguageModel]) -> None:
    requests = requests_of(5, 4)
    found = Engine(loaded["llama"], share=False).write_and_score(requests, WritingRules(NEW))
    assert [scores for _, scores in found] == [None] * len(requests)
    assert [(text,) for text, _ in found] == Engine(loaded["llama"]).write(requests, WritingRules(NEW))


def test_nothing_that_is_known_is_read_again_and_both_are_kept(
    tmp_path: Path, loaded: dict[str, LanguageModel]
) -> None:
    model, requests, rules = loaded["llama"], requests_of(6, 6), WritingRules(NEW)
    memory = ScoreMemory(tmp_path / "scores.sqlite", model.identity)
    found = Engine(model, memory=memory).write_and_score(requests, rules)
    later = Engine(model, memory=memory)
    assert later.write_and_score(requests, rules) == [(None, None)] * len(requests)
    assert later.write(requests, rules) == [(text,) for text, _ in found]
    for scores, (_, expected) in zip(later.score(requests), found, strict=True):
        assert (scores == expected).all()
    assert later.tokens == 0
    other = ScoreMemory(None, model.identity)
    Engine(model, memory=other).score(requests[:2])
    half = Engine(model, memory=other).write_and_score(requests, rules)
    assert half[:2] == [(None, None)] * 2
    assert all(text is not None for text, _ in half[2:6])


def test_a_request_that_is_no_number_leaves_the_others_as_they_are(loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded["llama"], requests_of(7, 5)
    width = model.network.get_input_embeddings().weight.shape[1]
    bad = Request((0, -1, 7), ((8,),), (), np.full((1, width), np.nan, np.float32))
    found = Engine(model).write_and_score([*requests, bad], WritingRules(NEW))
    assert found[-1] == (None, None)
    assert [(text,) for text, _ in found[:-1]] == Engine(model).write(requests, WritingRules(NEW))


def test_a_scorer_reads_each_input_of_a_written_answer_once(loaded: dict[str, LanguageModel]) -> None:
    prompt = Prompt("English: {{ text }}\nGerman: {{ label }}", {}, answer=ByText(tokens=2, stop=("\n",)))
    words = ["dog", "cat", "the market closed", "a late goal after the break"]
    examples = [Example(at, {"text": text}, "Hund") for at, text in enumerate(words)]
    scorer = Scorer(loaded["llama"], METRICS["chrf"])
    [score] = scorer.score([prompt], examples)
    contexts = scorer.encode(prompt, [dict(example.fields) for example in examples])
    assert scorer.tokens < 2 * sum(len(encoding.context) for encoding in contexts)
    other = Scorer(loaded["llama"], METRICS["chrf"])
    assert score.losses == pytest.approx(other.losses([prompt], examples)[0], abs=TOLERANCE)
    [again] = other.score([prompt], examples)  # the texts are written now, and nothing is weighed twice
    assert again.outcome.answers == score.outcome.answers
    assert again.value == score.value
