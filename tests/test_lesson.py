"""lesson.py: what is learned is what the scorer predicts, with its gradients, for every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.errors import DataError, ModelError, PromptError
from autoprompt.lesson import Lesson, NumberLesson, TextLesson, untaught
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta", "encoder"]
LAW = 1e-4
PROMPT = Prompt("{{ text }}\nTopic: {{ label }}", {"sports": "a sports match", "weather": "weather"})


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    rows = [row for row in topics_rows if row["topic"] != "money"][:12]
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows)]


def soft(model: LanguageModel, position: Position = "start") -> Prompt:
    drawn = np.random.default_rng(5).standard_normal((3, model.embeddings.shape[1]))
    vectors = (drawn * model.embeddings.std()).astype(np.float32)
    return dataclasses.replace(PROMPT, soft=SoftPart(vectors, position))


@pytest.mark.parametrize("kind", ["plain", "normalized", "calibrated", "tempered", "soft", "retrieving"])
@pytest.mark.parametrize("family", FAMILIES)
def test_its_log_likelihoods_are_those_of_the_scorer(
    family: str, kind: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    prompt = dataclasses.replace(
        soft(model, "answer") if kind == "soft" else PROMPT,
        normalize=kind == "normalized",
        calibration="content_free" if kind == "calibrated" else "none",
        temperature=0.3 if kind == "tempered" else None,
        retrieval=Retrieval(tuple(Demonstration(e.fields, e.label) for e in examples), 2)
        if kind == "retrieving"
        else None,
    )
    lesson = Lesson.of(model, prompt, examples)
    with torch.no_grad():
        found = lesson.log_likelihoods(model, [*range(len(examples))]).numpy()
        loss = lesson.loss(model, [0, 5]).item()
    [expected] = Scorer(model, accuracy).log_likelihoods([prompt], examples)
    assert np.abs(found - expected).max() < LAW
    right = expected[[0, 5], [prompt.labels.index(examples[at].label) for at in (0, 5)]]
    assert loss == pytest.approx((np.logaddexp.reduce(expected[[0, 5]], 1) - right).sum(), abs=2 * LAW)


@pytest.mark.parametrize("position", ["start", "example", "answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_the_vectors_is_the_slope_of_the_loss(
    family: str, position: Position, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    prompt = dataclasses.replace(soft(model, position), calibration="content_free")
    assert prompt.soft is not None
    vectors = torch.from_numpy(prompt.soft.vectors.copy()).requires_grad_()
    lesson = Lesson.of(model, prompt, examples, vectors)
    lesson.loss(model, [0, 1, 2]).backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert (vectors.grad.abs().amax(1) > 0).all()
    way = vectors.grad / vectors.grad.norm()
    step = 0.02 * float(model.embeddings.std())
    ends = []
    for side in (step, -step):
        with torch.no_grad():
            vectors += side * way  # in place: the lesson sees what the vectors hold now
            ends.append(lesson.loss(model, [0, 1, 2]).item())
            vectors -= side * way
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(vectors.grad.norm()), rel=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_part_changes_the_loss_of_another(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    lesson = Lesson.of(model, soft(model), examples)
    with torch.no_grad():
        whole = lesson.loss(model, [*range(len(lesson))]).item()
        single = sum(lesson.loss(model, [at]).item() for at in range(len(lesson)))
    assert len(lesson) == len(examples)
    assert whole == pytest.approx(single, abs=len(lesson) * LAW)


def test_the_tokens_of_a_request_are_those_that_the_model_reads(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    prompt = dataclasses.replace(PROMPT, calibration="content_free")
    for name, way in (("llama", "tree"), ("bert", "rows"), ("encoder", "apart")):
        model = loaded[name]
        lesson = Lesson.of(model, prompt, examples)
        shown = Scorer(model, accuracy).encode(prompt, [*(dict(e.fields) for e in examples), *prompt.content_free()])
        rows = [sum(len(e.context) + len(c) + len(e.tail) for c in e.choices) for e in shown]
        tree = [len(e.context) + sum(len(c) - 1 for c in e.choices) for e in shown]
        sizes = {"tree": tree, "rows": rows, "apart": [len(e.context) for e in shown]}[way]
        labels = sum(map(len, shown[0].choices)) if way == "apart" else 0
        assert [lesson.size(at) for at in range(len(lesson))] == sizes[: len(examples)]
        assert lesson.tokens([0, 2]) == sizes[0] + sizes[2] + sum(sizes[len(examples) :]) + labels


def test_micro_batches_hold_every_request_once_and_few_tokens(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    lesson = Lesson.of(loaded["gpt2"], PROMPT, examples)
    parts = lesson.micro_batches([*range(len(lesson))], tokens=200)
    assert sorted(at for part in parts for at in part) == [*range(len(lesson))]
    assert len(parts) > 1
    assert all(len(part) == 1 or len(part) * max(map(lesson.size, part)) <= 200 for part in parts)


def test_inputs_that_are_too_long_are_shortened_as_in_scoring(loaded: dict[str, LanguageModel]) -> None:
    long = [Example(0, {"text": "The cup was won. " * 200}, "sports")]
    lesson = Lesson.of(loaded["llama"], PROMPT, long)
    [expected] = Scorer(loaded["llama"], accuracy).encode(PROMPT, [dict(long[0].fields)])
    assert lesson.requests[0].context == expected.context
    with pytest.raises(PromptError, match=r"fills the 160 tokens"):
        Lesson.of(loaded["llama"], dataclasses.replace(PROMPT, instruction="Which topic is it? " * 200), long)


def test_what_a_prompt_shows_is_not_taught(examples: list[Example]) -> None:
    shown = tuple(Demonstration(e.fields, e.label) for e in examples[:2])
    assert untaught(dataclasses.replace(PROMPT, demonstrations=shown), examples) == examples[2:]
    assert untaught(dataclasses.replace(PROMPT, demonstrations=shown), examples[:2]) == examples[:2]
    assert untaught(PROMPT, examples) == examples


def test_cosines_are_for_sentence_encoders(loaded: dict[str, LanguageModel]) -> None:
    from autoprompt.engine.encoder import cosines

    with pytest.raises(ModelError, match=r"is causal; only sentence encoders embed"):
        cosines(loaded["gpt2"], [])


# -- numbers and texts ---------------------------------------------------------------------------


def test_a_number_stands_for_its_label_or_else_for_its_word(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    told = [dataclasses.replace(e, label="2.5") for e in examples]
    prompt = Prompt("{{ text }} {{ label }}", {"1": "9", "low": "3", "-1e1": "bad"})
    lesson = NumberLesson.of(loaded["gpt2"], prompt, told)
    assert lesson.values == (1.0, 3.0, -10.0)
    assert set(lesson.targets) == {2.5}
    for label in ("nan", "many"):
        with pytest.raises(DataError, match=rf"^The label '{label}' is no number, and a number is to be learned\.$"):
            NumberLesson.of(loaded["gpt2"], prompt, [dataclasses.replace(examples[0], label=label)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_the_input_of_a_long_text_is_shortened_and_the_text_is_not(
    family: str, loaded: dict[str, LanguageModel]
) -> None:
    model = loaded[family]
    long = [Example(0, {"text": "The cup was won. " * 200}, "It says that the cup was won.")]
    lesson = TextLesson.of(model, soft(model), long)
    [request] = lesson.requests
    assert len(request.context) + len(request.choices[0]) - 1 <= 160
    assert "It says that the cup was won." in model.tokenizer.decode([i for i in request.choices[0] if i >= 0])
    assert lesson.loss(model, [0]).item() > 0
    with pytest.raises(PromptError, match=r"fills the 160 tokens"):
        TextLesson.of(model, soft(model), [dataclasses.replace(long[0], label="The cup was won. " * 200)])


def test_texts_are_learned_by_models_that_write(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    for family in ("bert", "encoder"):
        with pytest.raises(ModelError, match=r"and texts are learned by models that write: causal and seq2seq ones\."):
            TextLesson.of(loaded[family], PROMPT, examples)
