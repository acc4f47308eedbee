"""engine/ on many architectures: every score is what transformers alone gives for one row at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from architectures import CAUSAL, END, FIRST, LONG, MASK, MASKED, PAD, SEQ2SEQ, VOCABULARY, WIDE, small_model
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from autoprompt.engine import Engine, Request
from autoprompt.engine.choosing import Writing

pytestmark = pytest.mark.model

LAW = 1e-4  # the most that a label log-probability may differ, float32
BATCHES = (1, 64, 100_000)
EVERY = [*CAUSAL, *SEQ2SEQ, *MASKED]
# models of full attention, with windows and with experts that must not fall back to reading every row
SHARING = ["llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "phi", "phi3", "opt", "mixtral", "qwen2_moe", "deepseek_v3"]
SHARING += ["mistral", "qwen2, sliding", "gemma2", "gemma3"]
Floats = NDArray[np.float64]
Ids = tuple[int, ...]


# -- the reference: transformers alone, one row at a time ------------------------------------

_known: dict[tuple[object, ...], float] = {}


def reference(name: str, request: Request) -> Floats:
    """log P(choice | context) of each choice (C,); remembered, as all ways of reading are asked the same."""
    vectors = None if request.vectors is None else request.vectors.tobytes()
    scores = []
    for choice in request.choices:
        key = (name, request.context, choice, request.tail, vectors)
        if key not in _known:
            _known[key] = read_alone(name, request, choice)
        scores.append(_known[key])
    return np.array(scores)


@torch.no_grad()
def read_alone(name: str, request: Request, choice: Ids) -> float:
    network, family = small_model(name).network, small_model(name).family
    if family == "causal":
        given = inputs(network, request.context + choice, request.vectors)
        logits = network(**given, use_cache=False).logits[0, len(request.context) - 1 :]
    elif family == "seq2seq":
        written = torch.tensor([[network.config.decoder_start_token_id, *choice]])
        given = inputs(network, request.context, request.vectors)
        logits = network(**given, decoder_input_ids=written, use_cache=False).logits[0]
    else:
        masks = (MASK,) * len(choice)
        given = inputs(network, request.context + masks + request.tail, request.vectors)
        logits = network(**given).logits[0, len(request.context) :]
    scores = logits[: len(choice)].float().log_softmax(-1).gather(1, torch.tensor(choice)[:, None])
    return float(scores.double().sum())


def inputs(network: Any, ids: Ids, vectors: NDArray[np.float32] | None) -> dict[str, torch.Tensor]:
    given = torch.tensor([ids])
    if vectors is None:
        return {"input_ids": given}
    embedded = network.get_input_embeddings()(given.clamp(min=0))
    embedded[given < 0] = torch.from_numpy(vectors)[-1 - given[given < 0]]
    return {"inputs_embeds": embedded}


# -- requests of every shape -----------------------------------------------------------------


def text(rng: Generator, shortest: int, longest: int, alphabet: int = VOCABULARY) -> Ids:
    """Random ids; with a small alphabet many texts begin alike by chance."""
    ids: list[int] = rng.integers(VOCABULARY - alphabet, VOCABULARY, rng.integers(shortest, longest + 1)).tolist()
    return tuple(ids)


def some_choices(rng: Generator) -> tuple[Ids, ...]:
    """1 to 4 choices of 1 to 4 tokens, some with a shared beginning, one the beginning of another."""
    stem, (a, b, c) = text(rng, 1, 2), rng.choice(VOCABULARY, 3, replace=False).tolist()
    pool = [stem, (*stem, a), (*stem, b, c), (*stem, b), (a,), (c, a), text(rng, 3, 4)]
    picked = [pool[i] for i in rng.permutation(len(pool))[: rng.integers(1, 5)]]
    return tuple(dict.fromkeys(picked))


def some_vectors(rng: Generator, name: str, count: int) -> NDArray[np.float32]:
    table = small_model(name).embeddings
    return (rng.standard_normal((count, table.shape[1])) * table.std() * 2).astype(np.float32)


def put_in(context: Ids, count: int, place: str) -> Ids:
    """A context with the ids of `count` vectors at its start, in its middle or at its end."""
    at = {"start": 0, "middle": (len(context) + 1) // 2, "end": len(context)}[place]
    return context[:at] + tuple(-1 - k for k in range(count)) + context[at:]


@st.composite
def grids(draw: st.DrawFn) -> Any:
    """A grid of requests, as a function of the model's name."""
    alphabet = draw(st.sampled_from([VOCABULARY, 2]), "alphabet")
    shown = draw(st.integers(9, 24), "tokens of demonstrations")
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 3)), "instructions, items")
    places = draw(st.permutations(["start", "middle", "end"]), "places of vectors")
    count = draw(st.integers(1, 3), "vectors")
    number = draw(st.integers(0, 2**32 - 1), "seed")

    def grid(name: str) -> list[Request]:
        rng = default_rng(number)
        begin = (FIRST, *text(rng, shown, shown, alphabet))
        instructions = [text(rng, 1, 12, alphabet) for _ in range(shape[0])]
        items = [text(rng, 1, 15, alphabet) for _ in range(shape[1])]
        tail = (*text(rng, 0, 5), END) if name in MASKED else ()
        choices = some_choices(rng)
        tree = [Request(begin + instruction + item, choices, tail) for instruction in instructions for item in items]
        first = [
            Request((FIRST, *item, *suffix), some_choices(rng), tail)
            for item in items[:2]
            for suffix in (instructions[0], text(rng, 2, 6, alphabet))
        ]
        odd = [
            Request(begin, choices, tail),  # the beginning of others
            Request(tree[-1].context, some_choices(rng), tail),  # the same with other choices
            Request(tree[0].context, choices, tail),
            Request(text(rng, 1, 1), some_choices(rng), tail),
            Request(text(rng, 20, 50), some_choices(rng), (*tail, *tail)),
            tree[0],
        ]
        soft = [
            Request(put_in(begin + item, count, place), choices, tail, vectors)
            for n, place in enumerate([places[0], places[0], places[1]])  # the same ids with other vectors too
            for vectors in [some_vectors(rng, name, count)]
            for item in items[: 2 - n // 2]
        ]
        every = [*tree, *first, *odd, *soft]
        return [every[i] for i in rng.permutation(len(every))]

    return grid


def plain_grid(number: int, name: str, shortest: int = 9) -> list[Request]:
    """Two instructions times three items behind the same demonstrations, all with the same choices."""
    rng = default_rng(number)
    begin, tail = (FIRST, *text(rng, shortest, max(shortest, 20))), ((END,) if name in MASKED else ())
    stem = text(rng, 2, 2)
    choices = (stem[:1], (*stem, 7), (*stem, 8, 9))
    return [
        Request(begin + instruction + item, choices, tail)
        for instruction in [text(rng, 5, 9), text(rng, 5, 9)]
        for item in [text(rng, 2, 9) for _ in range(3)]
    ]


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """What the package warns of in the meantime."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("autoprompt")
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)


def furthest(name: str, engine: Engine, requests: Sequence[Request]) -> float:
    """The largest difference of a score to the reference's."""
    found = engine.score(requests)
    assert len(found) == len(requests)
    differences = []
    for scores, request in zip(found, requests, strict=True):
        expected = reference(name, request)
        assert scores.dtype == np.float64
        assert scores.shape == expected.shape
        differences.append(float(np.abs(scores - expected).max()))
    return max(differences)


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test tries anew whether its models can be read as trees."""
    monkeypatch.setattr("autoprompt.engine.paths._tried", WeakKeyDictionary())


# -- law 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_the_models_tell_contexts_and_choices_apart(name: str) -> None:
    scores = np.stack([reference(name, request) for request in plain_grid(0, name)])
    assert scores[:, :2].std(0).min() > 0.1
    assert (scores[:, 0] - scores[:, 1]).std() > 0.1


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", EVERY)
@seed(0)  # the same requests for all, whose references are read once
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a failing example is told whole: to make it smaller takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(grid=grids())
def test_every_score_is_that_of_its_row_alone(name: str, share: bool, grid: Any) -> None:
    requests = grid(name)
    for batch_tokens in BATCHES:
        assert furthest(name, Engine(small_model(name), batch_tokens, share), requests) < LAW


@pytest.mark.parametrize("name", EVERY)
def test_what_an_engine_read_before_does_not_change_what_it_reads_later(name: str) -> None:
    # short contexts with choices of one token are read right by ways that read others wrong
    tail = (END,) if name in MASKED else ()
    easy = [Request((FIRST, 5 + n), ((7,), (8,)), tail) for n in range(3)]
    hard = [*plain_grid(1, name), *plain_grid(2, name, 20)]
    engine = Engine(small_model(name))
    for requests in (easy, hard, easy, [*hard[3:], *easy, *hard[:2]]):
        assert furthest(name, engine, requests) < LAW


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", LONG)
def test_what_a_model_does_to_long_inputs_only_is_done_to_them_and_not_to_their_neighbours(
    name: str, share: bool
) -> None:
    short = plain_grid(9, name)
    long = plain_grid(10, name, 2 * WIDE)
    assert max(len(r.context) for r in short) < WIDE
    engine = Engine(small_model(name), share=share)
    for requests in (short, [*short, *long], short[::-1]):
        assert furthest(name, engine, requests) < LAW


@pytest.mark.parametrize("name", EVERY)
def test_padding_ids_inside_contexts_are_tokens_like_others(name: str) -> None:
    tail = (PAD, END) if name in MASKED else ()
    choices = ((7,), (PAD, 8), (8, PAD))
    begin = (FIRST, 9, PAD, PAD, *range(10, 20))
    contexts = [(*begin, 30, PAD), (*begin, PAD, 31, 32, 33), (*begin, PAD), (PAD, PAD, 40, 41, 42), (PAD,)]
    requests = [Request(context, choices, tail) for context in contexts]
    for share in (True, False):
        assert furthest(name, Engine(small_model(name), share=share), requests) < LAW


@pytest.mark.parametrize("name", SHARING)
def test_what_requests_share_is_read_once(name: str) -> None:
    requests = plain_grid(3, name, 20)
    sharing, alone = Engine(small_model(name)), Engine(small_model(name), share=False)
    with warnings_heard() as heard:
        assert furthest(name, sharing, requests) < LAW
        assert furthest(name, alone, requests) < LAW
    assert heard == []
    assert sharing.tokens * 4 < alone.tokens


@pytest.mark.parametrize("name", SHARING)
def test_scores_beside_a_text_are_those_of_the_row_alone(name: str) -> None:
    requests = plain_grid(3, name, 20)
    engine = Engine(small_model(name))
    with torch.inference_mode():
        texts = engine._texts(requests, Writing(4, weigh=True))
    for text, request in zip(texts, requests, strict=True):
        assert np.abs(np.array(text.scores) - reference(name, request)).max() < LAW
    assert [text.ids for text in texts] == engine.generate(requests, 4, ends=())


# -- models that cannot be read together -----------------------------------------------------


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_at_most_one_warning_comes_from_an_engine_and_none_without_sharing(name: str, share: bool) -> None:
    alone = Request((FIRST, 5), ((7,), (8, 9)), (END,))
    vectors = some_vectors(default_rng(0), name, 1)
    soft = Request(put_in((FIRST, *range(9, 30)), 1, "start"), alone.choices, (END,), vectors)
    engine = Engine(small_model(name), share=share)
    with warnings_heard() as heard:
        for requests in ([alone], [*plain_grid(7, name), *plain_grid(8, name, 20)], [soft]):
            engine.score(requests)
    assert len(heard) <= (1 if share else 0)


def test_a_model_that_cannot_share_is_read_plainly_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    requests = [*plain_grid(4, "recurrent"), *plain_grid(5, "recurrent", 20)]
    rng = default_rng(6)
    soft = [
        Request(put_in(r.context, 2, "middle"), r.choices, (), some_vectors(rng, "recurrent", 2)) for r in requests[:2]
    ]
    engine = Engine(small_model("recurrent"))
    with caplog.at_level(logging.WARNING, "autoprompt"):
        assert furthest("recurrent", engine, requests) < LAW
        assert furthest("recurrent", engine, [*soft, *requests[::-1]]) < LAW
    [record] = [record for record in caplog.records if record.name == "autoprompt"]
    assert record.levelno == logging.WARNING
    assert "recurrent" in record.getMessage()


def test_a_model_that_cannot_share_says_nothing_where_sharing_is_off(caplog: pytest.LogCaptureFixture) -> None:
    assert furthest("recurrent", Engine(small_model("recurrent"), share=False), plain_grid(4, "recurrent")) < LAW
    assert not [record for record in caplog.records if record.name == "autoprompt"]
