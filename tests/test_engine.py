"""engine/, models/, scorer.py: a score is a function of (model, prompt, example) and of nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.engine import Engine, Request, ScoreMemory, causal, plain_log_probabilities, reads_trees
from autoprompt.errors import ModelError, PromptError
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model, model_fingerprint
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta"]
LAW = 1e-4  # the most that a label log-probability may differ, float32
Floats = NDArray[np.float64]


@pytest.fixture(scope="session")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    """Eight examples of different lengths; one is a single letter, one holds signs the tokenizers split."""
    texts = [row["text"] for row in topics_rows[:5]]
    texts += ["A", "Ünï – 漢字 {{ x }} [x]", "The match was good. " * 4]
    return [Example(n, {"text": text}, "sm"[n % 2]) for n, text in enumerate(texts)]


def vectors(model: LanguageModel, count: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(count).standard_normal((count, model.embeddings.shape[1]))
    return (drawn * model.embeddings.std() * 2).astype(np.float32)


def grid(model: LanguageModel) -> dict[str, Prompt]:
    """Prompts with labels of one and of several tokens, every option, and vectors at every position."""
    one, some = {"s": "sports", "m": "money"}, {"s": "weather", "m": "bad luck"}
    mixed = {"s": "good", "m": "the stock exchange"}
    shown = (
        Demonstration({"text": "They won the cup."}, "s"),
        Demonstration({"text": "The market closed."}, "m"),
    )
    plain = Prompt("{{ text }}\nTopic: {{ label }}", one)
    demonstrated = Prompt("{{ text }}\nTopic: {{ label }}\n", mixed, "Which topic?", shown)
    prompts = {
        "one token": plain,
        "several tokens": Prompt("{{ text }}\nTopic: {{ label }}", some, "Which topic?"),
        "no space": Prompt("The text has a topic. {{ text }}\n{{ label }}", mixed),
        "tail": Prompt("{{ text }} It was {{ label }}, they said.", mixed),
        "answer first": Prompt("Topic {{ label }}: {{ text }}", mixed),
        "demonstrations": demonstrated,
        "normalized": dataclasses.replace(demonstrated, normalize=True),
        "calibrated": dataclasses.replace(plain, instruction="Which topic?", calibration="content_free"),
        "both": dataclasses.replace(demonstrated, normalize=True, calibration="content_free"),
    }
    positions: list[Position] = ["start", "example", "answer"]
    for count, position in enumerate(positions, 2):
        prompts[f"vectors at {position}"] = dataclasses.replace(
            demonstrated, soft=SoftPart(vectors(model, count), position)
        )
    prompts["vectors, both"] = dataclasses.replace(prompts["both"], soft=SoftPart(vectors(model, 10), "start"))
    return prompts


# -- the reference: transformers alone, one row at a time ------------------------------------


def reference(model: LanguageModel, prompt: Prompt, fields: dict[str, str]) -> Floats:
    """Label log-likelihoods (C,), normalized and calibrated."""
    row = uncalibrated(model, prompt, fields)
    if prompt.calibration == "none":
        return row
    empty = [uncalibrated(model, prompt, {"text": text}) for text in ("N/A", "", "[MASK]")]
    prior = np.mean([np.exp(found) / np.exp(found).sum() for found in empty], axis=0)
    return np.asarray(row - np.log(prior))


@torch.no_grad()
def uncalibrated(model: LanguageModel, prompt: Prompt, fields: dict[str, str]) -> Floats:
    network, tokenizer = model.network, model.tokenizer
    shown = prompt.render(fields)
    soft = None if prompt.soft is None else torch.from_numpy(prompt.soft.vectors)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def with_marks(text: str) -> list[int]:
        if soft is None or shown.slot is None:
            return ids(text)
        return ids(text[: shown.slot]) + [-1] * len(soft) + ids(text[shown.slot :])

    def inputs(tokens: list[int]) -> dict[str, torch.Tensor]:
        given = torch.tensor([tokens])
        if soft is None:
            return {"input_ids": given}
        table = network.get_input_embeddings()(given.clamp(min=0))
        table[given < 0] = soft
        return {"inputs_embeds": table}

    def read(logits: torch.Tensor, places: Sequence[int], tokens: Sequence[int]) -> float:
        chosen = logits[0].log_softmax(-1)
        return sum(float(chosen[place, token]) for place, token in zip(places, tokens, strict=True))

    scores, lengths = [], []
    if model.family == "causal":
        first = [0] if tokenizer("a")["input_ids"][0] == 0 else []
        wholes = [first + with_marks(shown.context + answer + shown.tail) for answer in shown.answers]
        columns = zip(*wholes, first + with_marks(shown.context), strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
        cut = min(shared, min(map(len, wholes)) - 1)
        for whole in wholes:
            logits = network(**inputs(whole)).logits
            scores.append(read(logits, range(cut - 1, len(whole) - 1), whole[cut:]))
            lengths.append(len(whole) - cut)
    elif model.family == "seq2seq":
        for answer in shown.answers:
            written = ids((answer + shown.tail).strip())
            decoder = torch.tensor([[network.config.decoder_start_token_id, *written[:-1]]])
            logits = network(**inputs([*with_marks(shown.context), 1]), decoder_input_ids=decoder).logits
            scores.append(read(logits, range(len(written)), written))
            lengths.append(len(written))
    else:
        for answer in shown.answers:
            context = [tokenizer.cls_token_id, *with_marks(shown.context)]
            masks = [tokenizer.mask_token_id] * len(ids(answer))
            logits = network(**inputs([*context, *masks, *ids(shown.tail), tokenizer.sep_token_id])).logits
            scores.append(read(logits, range(len(context), len(context) + len(masks)), ids(answer)))
            lengths.append(len(masks))
    return np.array(scores) / (np.array(lengths) if prompt.normalize else 1)


@pytest.fixture(scope="module")
def references(loaded: dict[str, LanguageModel], examples: list[Example]) -> dict[str, dict[str, Floats]]:
    """By family and prompt: (N, C)."""
    return {
        family: {
            name: np.stack([reference(model, prompt, dict(e.fields)) for e in examples])
            for name, prompt in grid(model).items()
        }
        for family, model in loaded.items()
    }


def worst(found: Sequence[Floats], expected: Sequence[Floats]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test tries anew whether its models can be read as trees."""
    monkeypatch.setattr("autoprompt.engine.paths._tried", WeakKeyDictionary())


# -- law 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tiny_models_tell_labels_and_examples_apart(family: str, references: dict[str, dict[str, Floats]]) -> None:
    for rows in references[family].values():
        assert (rows[:, 0] - rows[:, 1]).std() > 0.05


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_batch_size_or_prefix_reuse(
    family: str,
    batch_tokens: int,
    share: bool,
    loaded: dict[str, LanguageModel],
    references: dict[str, dict[str, Floats]],
    examples: list[Example],
) -> None:
    model = loaded[family]
    scorer = Scorer(model, accuracy)
    scorer.engine = Engine(model, batch_tokens, share)
    found = scorer.log_likelihoods(list(grid(model).values()), examples)
    assert worst(found, list(references[family].values())) < LAW


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_order(
    family: str,
    loaded: dict[str, LanguageModel],
    references: dict[str, dict[str, Floats]],
    examples: list[Example],
) -> None:
    model = loaded[family]
    found = Scorer(model, accuracy).log_likelihoods(list(grid(model).values())[::-1], examples[::-1])
    assert worst(found[::-1], [rows[::-1] for rows in references[family].values()]) < LAW


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_neighbours(
    family: str,
    loaded: dict[str, LanguageModel],
    references: dict[str, dict[str, Floats]],
    examples: list[Example],
) -> None:
    model = loaded[family]
    for name, prompt in grid(model).items():
        for at in (0, 5, 7):
            [alone] = Scorer(model, accuracy).log_likelihoods([prompt], [examples[at]])
            assert np.abs(alone[0] - references[family][name][at]).max() < LAW, name


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_what_was_scored_before(
    family: str,
    loaded: dict[str, LanguageModel],
    references: dict[str, dict[str, Floats]],
    examples: list[Example],
) -> None:
    model = loaded[family]
    scorer, prompts = Scorer(model, accuracy), list(grid(model).values())
    scorer.log_likelihoods(prompts[:4], examples[:3])
    scorer.log_likelihoods(prompts[2:], examples[2:4])
    found = scorer.log_likelihoods(prompts, examples)
    assert worst(found, list(references[family].values())) < LAW


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("other", ["", "<pad>", "</s>", "[MASK]", "[PAD]", "<mask>", "\ue0a1", "A" * 3000])
def test_a_strange_neighbour_does_not_change_a_score(
    other: str, family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    prompts = [grid(model)["one token"], Prompt("{{ text }} {{ label }}", {"s": "sports", "m": "weather"})]
    prompts.append(grid(model)["vectors at answer"])
    for prompt in prompts:
        [alone] = Scorer(model, accuracy).log_likelihoods([prompt], examples[:3])
        strange = Example(99, {"text": other}, "s")
        [among] = Scorer(model, accuracy).log_likelihoods([prompt], [strange, *examples[:3]])
        assert worst([among[1:]], [alone]) < LAW
        [itself] = Scorer(model, accuracy).log_likelihoods([prompt], [strange])
        both = Scorer(model, accuracy).log_likelihoods([*prompts, prompt], [*examples[:2], strange])
        assert worst([both[-1][2:]], [itself]) < LAW


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_context_can_be_scored(family: str, loaded: dict[str, LanguageModel]) -> None:
    prompt = Prompt("{{ text }} {{ label }}", {"s": "sports", "m": "weather"}, calibration="content_free")
    [found] = Scorer(loaded[family], accuracy).log_likelihoods([prompt], [Example(0, {"text": ""}, "s")])
    assert np.isfinite(found).all()


def test_calibration_divides_by_the_mean_of_the_inputs_without_content(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    plain = grid(loaded["llama"])["one token"]
    calibrated = dataclasses.replace(plain, calibration="content_free")
    empty = [Example(n, {"text": text}, "s") for n, text in enumerate(("N/A", "", "[MASK]"))]
    raw, without = (Scorer(loaded["llama"], accuracy).log_likelihoods([plain], e)[0] for e in (examples, empty))
    prior = (np.exp(without) / np.exp(without).sum(1, keepdims=True)).mean(0)
    [found] = Scorer(loaded["llama"], accuracy).log_likelihoods([calibrated], examples)
    assert worst([found], [raw - np.log(prior)]) < LAW


@pytest.mark.parametrize(
    ("words", "why"),
    [({"s": "Good", "m": "good"}, "the same tokens"), ({"s": "good", "m": "\u200b"}, "no tokens")],
)
def test_label_words_that_the_tokenizer_does_not_tell_apart_are_refused(
    words: dict[str, str], why: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    # BERT's tokenizer is uncased and drops control characters; a choice of no tokens would have probability 1
    prompt = Prompt("{{ text }}\n{{ label }}", words)
    with pytest.raises(PromptError, match=why):
        Scorer(loaded["bert"], accuracy).score([prompt], examples)


# -- the score -------------------------------------------------------------------------------


def test_a_score_holds_probabilities_margins_and_loss(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    prompt = grid(loaded["llama"])["one token"]
    scorer = Scorer(loaded["llama"], accuracy)
    [rows], [score] = scorer.log_likelihoods([prompt], examples), scorer.score([prompt], examples)
    gold = np.array([prompt.labels.index(e.label) for e in examples])
    picked = np.arange(len(examples))
    assert score.outcome.probabilities.sum(1) == pytest.approx(np.ones(len(examples)))
    assert score.margins == pytest.approx(rows[picked, gold] - rows[picked, 1 - gold])
    assert score.margin == pytest.approx(score.margins.mean())
    assert score.value == pytest.approx((rows.argmax(1) == gold).mean())
    assert score.loss == pytest.approx(np.log1p(np.exp(-score.margins)).mean())


def test_what_was_scored_once_is_not_read_again(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    scorer, prompts = Scorer(loaded["gpt2"], accuracy), list(grid(loaded["gpt2"]).values())
    first = scorer.score(prompts, examples)
    tokens = scorer.tokens
    again = scorer.score(prompts, examples[::-1])
    assert scorer.tokens == tokens > 0
    assert [s.value for s in again] == [s.value for s in first]


def test_the_same_prompt_twice_is_read_once(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    prompt = grid(loaded["bert"])["demonstrations"]
    once, twice = Scorer(loaded["bert"], accuracy), Scorer(loaded["bert"], accuracy)
    [expected] = once.log_likelihoods([prompt], examples)
    found = twice.log_likelihoods([prompt, prompt], [*examples, *examples])
    assert twice.tokens == once.tokens
    assert worst(found, [np.concatenate([expected, expected])] * 2) == 0


# -- examples that are too long --------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_an_example_too_long_is_shortened_counted_and_scored(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    assert model.window == 160
    long = Example(9, {"text": ("The bank raised its rates again. " * 400)[:10_000]}, "m")
    prompts = grid(model)
    for prompt in (prompts[name] for name in ("tail", "both", "vectors at answer")):
        scorer = Scorer(model, accuracy)
        [score] = scorer.score([prompt], [*examples[:2], long])
        assert len(scorer.truncated) == 1
        assert np.isfinite(score.margins).all()
        [encoding] = scorer.encode(prompt, [dict(long.fields)])
        assert 150 <= encoding.length <= 160


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shortened_example_scores_as_its_beginning_does(family: str, loaded: dict[str, LanguageModel]) -> None:
    model, prompt = loaded[family], grid(loaded[family])["demonstrations"]
    scorer = Scorer(model, accuracy)
    text = "The market closed. " * 500
    [encoding] = scorer.encode(prompt, [{"text": text}])
    same = [n for n in range(100, 700) if model.encode(*one(prompt, text[:n])) == [encoding]]
    assert same
    [long], [short] = (
        Scorer(model, accuracy).log_likelihoods([prompt], [Example(0, {"text": t}, "s")])
        for t in (text, text[: same[-1]])
    )
    assert worst([long], [short]) < LAW


def one(prompt: Prompt, text: str) -> tuple[Any, ...]:
    shown = prompt.render({"text": text})
    return [shown.context], [shown.answers], [shown.tail], [shown.slot], 0


def test_examples_that_fit_are_not_counted_as_shortened(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorer = Scorer(loaded["llama"], accuracy)
    scorer.score(list(grid(loaded["llama"]).values()), examples)
    assert scorer.truncated == set()


def test_a_prompt_that_fills_the_window_alone_is_refused(loaded: dict[str, LanguageModel]) -> None:
    prompt = Prompt("{{ text }}\n{{ label }}", {"s": "sports", "m": "money"}, "Which topic is it? " * 200)
    with pytest.raises(PromptError, match=r"^The prompt alone fills the 160 tokens that the model reads\. Use fewer"):
        Scorer(loaded["llama"], accuracy).score([prompt], [Example(0, {"text": "x"}, "s")])


def test_a_field_that_the_template_does_not_show_is_not_the_one_to_shorten(loaded: dict[str, LanguageModel]) -> None:
    prompt = grid(loaded["llama"])["one token"]
    example = Example(0, {"text": "The match ended. " * 100, "notes": "not shown " * 1000}, "s")
    scorer = Scorer(loaded["llama"], accuracy)
    [score] = scorer.score([prompt], [example])
    assert np.isfinite(score.margins).all()
    assert len(scorer.truncated) == 1


def test_two_long_fields_are_both_shortened(loaded: dict[str, LanguageModel]) -> None:
    prompt = Prompt("{{ premise }}\n{{ hypothesis }}\n{{ label }}", {"s": "sports", "m": "money"})
    example = Example(0, {"premise": "The match ended. " * 100, "hypothesis": "They won the cup. " * 90}, "s")
    scorer = Scorer(loaded["llama"], accuracy)
    [score] = scorer.score([prompt], [example])
    assert np.isfinite(score.margins).all()


# -- prefix reuse, batches, memory -----------------------------------------------------------


def requests_of(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> list[Request]:
    soft = None if prompt.soft is None else prompt.soft.vectors
    encodings = Scorer(model, accuracy).encode(prompt, [dict(e.fields) for e in examples])
    return [Request(e.context, e.choices, e.tail, soft) for e in encodings]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["demonstrations", "vectors at start"])
def test_a_shared_prefix_is_read_once(
    name: str, family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)[name], examples)
    columns = zip(*(r.context for r in requests), strict=False)
    prefix = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    assert prefix > 20
    plain = sum(len(r.context) + len(choice) for r in requests for choice in r.choices)
    shared = prefix + sum(len(r.context) - prefix + sum(len(c) - 1 for c in r.choices) for r in requests)
    with_sharing, without = Engine(model), Engine(model, share=False)
    assert worst(with_sharing.score(requests), without.score(requests)) < LAW
    assert without.tokens == plain
    assert with_sharing.tokens == shared
    assert shared * 3 < plain


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["plain", "vectors at start"])
def test_contexts_that_begin_unlike_are_each_read_once_with_all_their_choices(
    name: str, family: str, loaded: dict[str, LanguageModel]
) -> None:
    model, generator = loaded[family], np.random.default_rng(3)
    vectors = grid(model)["vectors at start"].soft.vectors if name != "plain" else None  # type: ignore[union-attr]
    marks = () if vectors is None else tuple(-1 - k for k in range(len(vectors)))
    contexts = [(5 + n, *marks, *map(int, generator.integers(5, 60, 3 + 4 * n))) for n in range(6)]
    requests = [Request(c, ((40,), (41, 42, 43), (41, 44)), (), vectors) for c in contexts]
    trees, plain = Engine(model), Engine(model, share=False)
    assert worst(trees.score(requests), plain.score(requests)) < LAW
    assert trees.tokens == sum(len(c) + 2 for c in contexts)  # 41 is read once for both of its choices
    assert worst([trees.score([r])[0] for r in requests], plain.score(requests)) < LAW


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_here_is_read_the_fast_way(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)["several tokens"], examples)
    fast, plain = Engine(model), Engine(model, share=False)
    assert worst(fast.score(requests), plain.score(requests)) < LAW
    assert fast.tokens < plain.tokens or (model.family == "masked" and fast.tokens == plain.tokens)
    assert reads_trees(model, requests)
    assert caplog.records == []


def test_equal_requests_are_computed_once(loaded: dict[str, LanguageModel]) -> None:
    for model in loaded.values():
        request = Request((3, 4, 5, 6), ((7,), (8, 9)), (10,) if model.family == "masked" else ())
        once, thrice = Engine(model), Engine(model)
        [expected] = once.score([request])
        found = thrice.score([request, dataclasses.replace(request), request])
        assert thrice.tokens == once.tokens
        assert worst(found, [expected] * 3) == 0


def test_no_requests_give_no_scores(loaded: dict[str, LanguageModel]) -> None:
    engine = Engine(loaded["llama"])
    assert engine.score([]) == []
    assert engine.tokens == 0


def test_requests_with_different_numbers_of_choices_can_share_a_batch(loaded: dict[str, LanguageModel]) -> None:
    prefix = tuple(range(5, 25))
    requests = [Request((*prefix, 30 + n), tuple((40 + c, 50)[: 1 + c % 2] for c in range(n + 1))) for n in range(4)]
    model = loaded["llama"]
    shared, plain = Engine(model).score(requests), Engine(model, share=False).score(requests)
    assert [len(scores) for scores in shared] == [1, 2, 3, 4]
    assert worst(shared, plain) < LAW


def test_a_batch_stays_within_the_budget(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in loaded.values():
        sizes: list[int] = []
        forward = model.network.forward

        def seen(*args: Any, _forward: Any = forward, _sizes: list[int] = sizes, **given: Any) -> Any:
            ids = given.get("input_ids", given.get("decoder_input_ids"))
            _sizes.append(ids.numel() if len(ids) > 2 else 0)  # a single request may be larger
            return _forward(*args, **given)

        monkeypatch.setattr(model.network, "forward", seen)
        engine = Engine(model, batch_tokens=300, share=False)
        engine.score(requests_of(model, grid(model)["several tokens"], examples))
        assert 0 < max(sizes) <= 300
        assert len(sizes) > 1


class Forgetful:
    """Runs out of memory at the calls whose numbers it is given, counting from 1."""

    def __init__(self, model: LanguageModel, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
        self.calls, self.fails, self.depth = 0, fails, 0
        parts = [model.network, model.network.base_model] if model.family == "causal" else [model.network]
        for part in {id(part): part for part in parts}.values():
            monkeypatch.setattr(part, "forward", self._around(part.forward))

    def _around(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **given: Any) -> Any:
            if not self.depth:
                self.calls += 1
                if self.fails(self.calls):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            self.depth += 1
            try:
                return forward(*args, **given)
            finally:
                self.depth -= 1

        return around


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.fault("out of memory")
def test_out_of_memory_halves_the_batch_and_changes_no_score(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)["several tokens"], examples)
    expected = Engine(model, share=False).score(requests)
    engine = Engine(model, 2000, share=False)
    Forgetful(model, monkeypatch, lambda call: call == 1)
    assert worst(engine.score(requests), expected) < LAW
    assert engine.batch_tokens == 1000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.fault("out of memory")
def test_the_batch_is_halved_until_it_fits(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)["several tokens"], examples)
    expected = Engine(model, share=False).score(requests)
    engine = Engine(model, 2048, share=False)
    Forgetful(model, monkeypatch, lambda call: call <= 3)
    assert worst(engine.score(requests), expected) < LAW
    assert engine.batch_tokens == 256


@pytest.mark.parametrize("call", range(1, 8))
@pytest.mark.fault("out of memory")
def test_out_of_memory_anywhere_on_the_shared_path_changes_no_score(
    call: int, loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # call 1 to 5: the trial of the shared path; 6: the prefix; 7: the first batch
    model = loaded["llama"]
    requests = requests_of(model, grid(model)["demonstrations"], examples)
    expected = Engine(model, share=False).score(requests)
    engine = Engine(model, 2048)
    forgetful = Forgetful(model, monkeypatch, lambda number: number == call)
    assert worst(engine.score(requests), expected) < LAW
    assert forgetful.calls > call


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_request_that_does_not_fit_is_a_model_error(
    family: str,
    share: bool,
    loaded: dict[str, LanguageModel],
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)["demonstrations"], examples)
    Forgetful(model, monkeypatch, lambda call: True)
    wording = r"^One request of \d+ tokens does not fit into the memory of cpu\. Use shorter prompts, a smaller model"
    with pytest.raises(ModelError, match=wording):
        Engine(model, 2048, share).score(requests)


def test_an_error_that_is_not_about_memory_is_not_swallowed(
    loaded: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **given: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loaded["bert"].network, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Engine(loaded["bert"]).score([Request((3, 4), ((5,), (6,)))])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.fault("NaN or inf on all examples")
def test_a_model_that_returns_nan_is_a_model_error(
    family: str, share: bool, model_folders: dict[str, Path], examples: list[Example]
) -> None:
    model = load_model(str(model_folders[family]), device="cpu")
    for weight in model.network.parameters():
        weight.fill_(float("nan"))
    requests = requests_of(model, grid(model)["one token"], examples)
    wording = r"^The model '.*' returned NaN or infinite log-probabilities in float32\. Try \[model\] dtype"
    with pytest.raises(ModelError, match=wording):
        Engine(model, share=share).score(requests)


def test_a_model_that_cannot_share_prefixes_keeps_the_plain_path(
    loaded: dict[str, LanguageModel],
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = loaded["llama"]
    requests = requests_of(model, grid(model)["demonstrations"], examples)
    expected = Engine(model, share=False).score(requests)
    shared = causal.label_scores
    monkeypatch.setattr(causal, "label_scores", lambda *given: shared(*given) + 0.01)
    engine = Engine(model)
    with caplog.at_level(logging.WARNING, "autoprompt"):
        assert worst(engine.score(requests), expected) == 0
        engine.score(requests[:3])
    assert [record.getMessage() for record in caplog.records] == [
        f"{model.name} cannot share prefixes (its scores differ from the plain path's); the plain path is used"
    ]


tokens = st.integers(2, 339)
sequences = st.lists(tokens, min_size=1, max_size=6).map(tuple)
drawn_requests = st.lists(
    st.tuples(sequences, st.lists(st.lists(tokens, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefix=st.lists(tokens, max_size=20).map(tuple),
    drawn=drawn_requests,
    soft=st.booleans(),
    budget=st.integers(1, 400),
)
def test_any_token_requests_score_the_same_with_and_without_sharing(
    loaded: dict[str, LanguageModel],
    prefix: tuple[int, ...],
    drawn: list[tuple[tuple[int, ...], list[tuple[int, ...]]]],
    soft: bool,
    budget: int,
) -> None:
    model = loaded["llama"]
    found = vectors(model, 2) if soft else None
    start = (0, -1, -2, *prefix) if soft else (0, *prefix)
    requests = [Request(start + item, tuple(choices), (), found) for item, choices in drawn]
    plain = [plain_log_probabilities(model, [row]).double().numpy() for request in requests for row in request.rows()]
    shared = Engine(model, budget).score(requests)
    assert worst([np.concatenate(shared)], [np.concatenate(plain)]) < LAW


# -- what was scored before, and real weights -------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_another_engine_scored_is_not_read_again(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    model = loaded[family]
    requests = requests_of(model, grid(model)["vectors at example"], examples)
    expected = Engine(model, share=False).score(requests)
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        assert worst(Engine(model, memory=memory).score(requests[:5]), expected[:5]) < LAW
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        again, fresh = Engine(model, memory=memory), Engine(model)
        assert worst(again.score(requests), expected) < LAW
        fresh.score(requests[5:])
        assert again.tokens == fresh.tokens
    with ScoreMemory(tmp_path / "scores.sqlite", f"{model.identity} of other weights") as memory:
        other = Engine(model, memory=memory)
        other.score(requests)
        assert other.tokens > again.tokens


def test_prompts_that_render_alike_are_one_request(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["llama"]
    words = {"s": "sports", "m": "money"}
    first = Prompt("Which topic?\n\n{{ text }}\nTopic: {{ label }}", words)
    second = Prompt("{{ text }}\nTopic: {{ label }}", words, "Which topic?")
    scorer = Scorer(model, accuracy, memory=ScoreMemory(None, model.identity))
    scorer.score([first], examples)
    tokens = scorer.tokens
    scorer.score([second], examples)
    assert first.fingerprint != second.fingerprint
    assert scorer.tokens == tokens > 0


def test_a_trained_copy_does_not_remember_what_its_model_scored(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    request = Request((3, 4, 5), ((6,), (7,)))
    engine = Engine(model, memory=ScoreMemory(None, model.identity))
    [before] = engine.score([request])
    trained = load_model(str(model.name), device="cpu")
    with torch.no_grad():
        for weight in trained.network.parameters():
            weight.mul_(1.5)
    [after] = engine.on(trained).score([request])
    assert np.abs(after - before).max() > 0.01


REAL = ["builtin", *(str(path) for path in sorted((Path(__file__).parents[2] / "shared" / "models").glob("*/")))]


@pytest.mark.parametrize("name", REAL)
def test_real_weights_score_the_same_packed_and_one_by_one(name: str) -> None:
    model = load_model(name, device="cpu")
    texts = [
        "Once upon a time there was a small dog.",
        "The parcel has not arrived.",
        "Hello!",
        "It rained all day. " * 9,
    ]
    words = {"a": "happy", "b": "the end of the story", "c": "sad and alone", "d": "sad"}
    prompts = [
        Prompt("Text: {{ text }}\nMood: {{ label }}", words, "How does the text feel?"),
        Prompt("Text: {{ text }}\nMood: {{ label }}", words, "How does the text feel?", calibration="content_free"),
        Prompt("{{ text }}\nHow does it feel? {{ label }}", words),
        Prompt("{{ text }}\nIs it happy or sad? {{ label }}", words),
        Prompt("{{ text }}\n{{ label }}", words, soft=SoftPart(vectors(model, 4), "start")),
        Prompt("{{ text }}\n{{ label }}", words, soft=SoftPart(vectors(model, 4), "answer")),
    ]
    requests = [request for prompt in prompts for request in requests_of_texts(model, prompt, texts)]
    alone = [plain_log_probabilities(model, [row]).double().numpy() for r in requests for row in r.rows()]
    engine = Engine(model)
    assert worst([np.concatenate(engine.score(requests))], [np.concatenate(alone)]) < LAW
    assert reads_trees(model, requests)


def requests_of_texts(model: LanguageModel, prompt: Prompt, texts: Sequence[str]) -> list[Request]:
    return requests_of(model, prompt, [Example(n, {"text": text}, "a") for n, text in enumerate(texts)])


# -- loading ---------------------------------------------------------------------------------


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    wording = (
        r"^The model folder .*nowhere is not there\. Give 'builtin', a folder in the Hugging Face layout, or a hub"
    )
    with pytest.raises(ModelError, match=wording):
        load_model(str(tmp_path / "nowhere"))


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^The model folder .* is no model \(no config\.json\)\. Give 'builtin', a"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("left", [0, 7, 1000, -50])
def test_cut_weights_are_refused(left: int, bert_folder: Path, tmp_path: Path) -> None:
    path = copied(bert_folder, tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        ModelError, match=r"^The model '.*' cannot be loaded: its file model\.safetensors (is empty|ends after)"
    ):
        load_model(str(path.parent))


def test_weights_that_lack_a_tensor_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    path = copied(llama_folder, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(path.parent))


def test_weights_that_are_no_safetensors_are_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copied(gpt2_folder, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"^The model '.*' cannot be loaded \(OSError: .*safetensors"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_json_file_is_refused(name: str, llama_folder: Path, tmp_path: Path) -> None:
    folder = copied(llama_folder, tmp_path)
    (folder / name).write_text("{")
    with pytest.raises(ModelError, match=rf"cannot be loaded: its file {name} is no JSON \(.*\)\. Copy or download"):
        load_model(str(folder))


@pytest.mark.parametrize("device", ["gpu7", "cuda:99", ""])
def test_an_unknown_device_is_refused(device: str, llama_folder: Path) -> None:
    wording = rf"^The device '{device}' cannot be used here: .+\. Use auto, cpu, cuda or mps\.$"
    with pytest.raises(ModelError, match=wording):
        load_model(str(llama_folder), device=device)


def test_a_model_of_no_family_has_to_be_given_one(bert_folder: Path, tmp_path: Path) -> None:
    folder = copied(bert_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    wording = (
        r"^The family of the model '.*' cannot be told from its architectures \['BertModel'\]\. Give \[model\] fam"
    )
    with pytest.raises(ModelError, match=wording):
        load_model(str(folder))
    assert load_model(str(folder), family="masked").family == "masked"


def test_a_model_asked_for_as_the_wrong_family_is_refused(gpt2_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"^The model '.*' cannot be loaded \(ValueError: "):
        load_model(str(gpt2_folder), family="seq2seq")


def test_a_masked_model_needs_a_mask_token(bert_folder: Path, tmp_path: Path) -> None:
    folder = copied(bert_folder, tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            config = json.loads((folder / name).read_text())
            config.pop("mask_token", None)
            (folder / name).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"^The tokenizer of '.*' has no mask token; a masked model needs one\.$"):
        load_model(str(folder))


def test_a_hub_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^The model 'nobody/nothing' cannot be loaded \(\w+: "):
        load_model("nobody/nothing")


def test_code_of_a_model_repository_is_not_run(llama_folder: Path, tmp_path: Path) -> None:
    folder = copied(llama_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="strange", auto_map={"AutoConfig": "code.Strange", "AutoModelForCausalLM": "code.Strange"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match=r"^The model '.*' cannot be loaded \(ValueError: .* contains custom code"):
        load_model(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_ready_to_be_read(family: str, loaded: dict[str, LanguageModel]) -> None:
    model = loaded[family]
    kinds = {"llama": "causal", "gpt2": "causal", "t5": "seq2seq", "bert": "masked", "roberta": "masked"}
    assert model.family == kinds[family]
    assert not model.network.training
    assert not any(weight.requires_grad for weight in model.network.parameters())
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert model.embeddings.shape == (len(model.tokenizer), 32)
    assert model.parameters == sum(weight.numel() for weight in model.network.parameters())


def test_a_dtype_can_be_asked_for(llama_folder: Path) -> None:
    assert load_model(str(llama_folder), dtype="bfloat16").dtype == torch.bfloat16


def test_the_fingerprint_of_a_model_follows_its_files(llama_folder: Path, tmp_path: Path) -> None:
    folder = copied(llama_folder, tmp_path)
    before = model_fingerprint(str(folder))
    assert before == model_fingerprint(str(llama_folder)) == load_model(str(folder)).fingerprint
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert model_fingerprint(str(folder)) != before
