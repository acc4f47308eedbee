"""tuning.py: vectors are trained, the network is not; text becomes vectors without a change of scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MBartConfig, MBartForConditionalGeneration

from autoprompt import lesson as lessons
from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.engine import Request, choice_log_probabilities
from autoprompt.errors import ModelError, PromptError
from autoprompt.lesson import Lesson
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.scorer import Scorer
from autoprompt.soft import start_vocabulary
from autoprompt.tuning import Checkpoint, Reparameterization, TuningOptions, exact_text_start, tune_vectors

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta", "encoder"]
KINDS: list[Reparameterization] = ["none", "mlp", "lstm"]
LAW = 1e-4
PROMPT = Prompt("Text: {{ text }}\nTopic: {{ label }}", {"sports": "sports", "weather": "weather"})
SHORT = TuningOptions(steps=4, checkpoints=2, batch_size=4)


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    rows = [row for row in topics_rows if row["topic"] != "money"][:16]
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows)]


def soft(model: LanguageModel, position: Position = "start") -> Prompt:
    return dataclasses.replace(PROMPT, soft=SoftPart(start_vocabulary(model.embeddings, 3, 1), position))


def tuned(prompt: Prompt, checkpoint: Checkpoint) -> Prompt:
    assert prompt.soft is not None
    return dataclasses.replace(prompt, soft=dataclasses.replace(prompt.soft, vectors=checkpoint.vectors))


def rows(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> Any:
    [found] = Scorer(model, accuracy).log_likelihoods([prompt], examples)
    return found


def loss(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> float:
    lesson = Lesson.of(model, prompt, examples)
    with torch.no_grad():
        return lesson.loss(model, [*range(len(lesson))]).item() / len(lesson)


# -- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["start", "answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls(
    family: str, position: Position, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    start = soft(model, position)
    options = TuningOptions(steps=16, checkpoints=2, batch_size=8, learning_rate=0.3)
    checkpoints, _ = tune_vectors(model, start, examples, options, 0)
    losses = [loss(model, prompt, examples) for prompt in (start, *(tuned(start, found) for found in checkpoints))]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.95 * losses[0]
    assert checkpoints[0].loss > checkpoints[1].loss


@pytest.mark.parametrize("kind", KINDS)
def test_every_reparameterization_begins_at_the_start_and_learns(
    kind: Reparameterization, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded["llama"]
    start = soft(model)
    options = TuningOptions(steps=16, checkpoints=16, batch_size=16, learning_rate=0.3, reparameterization=kind)
    checkpoints, _ = tune_vectors(model, start, examples, options, 0)
    assert checkpoints[0].loss == pytest.approx(loss(model, start, examples), abs=LAW)
    assert loss(model, tuned(start, checkpoints[-1]), examples) < 0.9 * checkpoints[0].loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_measured_in_deviations_of_the_embeddings(
    kind: Reparameterization, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    for name in ("llama", "t5"):
        model = loaded[name]
        start = soft(model)
        options = TuningOptions(steps=1, learning_rate=0.8, reparameterization=kind)  # a first step has 1/8 of the rate
        [found], _ = tune_vectors(model, start, examples, options, 0)
        assert start.soft is not None
        moved = np.abs(found.vectors - start.soft.vectors) / model.embeddings.std()
        assert 0.05 < moved.max() < 0.25
        assert (moved.max(1) > 0).all()


def test_decay_pulls_back_to_the_start(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["gpt2"]
    start = soft(model)
    assert start.soft is not None
    free, held = (
        tune_vectors(model, start, examples, dataclasses.replace(SHORT, steps=16, weight_decay=decay), 0)[0][-1]
        for decay in (0.0, 5.0)
    )
    far, near = (np.linalg.norm(found.vectors - start.soft.vectors) for found in (free, held))
    assert near < 0.9 * far


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_is_left_as_it_was(family: str, loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    network = loaded[family].network
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    weights, modules = list(network.parameters()), list(network.modules())
    weights[1].requires_grad_(not weights[1].requires_grad)
    modules[2].training = not modules[2].training
    flags = [weight.requires_grad for weight in weights], [module.training for module in modules]
    try:
        with torch.no_grad():
            tune_vectors(loaded[family], soft(loaded[family]), examples, SHORT, 0)
        after = [weight.requires_grad for weight in weights], [module.training for module in modules]
    finally:
        network.requires_grad_(False).eval()
    assert after == flags
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert all(weight.grad is None for weight in weights)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_vectors_whatever_else_is_drawn(
    kind: Reparameterization, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded["gpt2"]
    options = dataclasses.replace(SHORT, reparameterization=kind)
    state = torch.random.get_rng_state()
    first, _ = tune_vectors(model, soft(model), examples, options, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(7)
    again, _ = tune_vectors(model, soft(model), examples, options, 3)
    other, _ = tune_vectors(model, soft(model), examples, options, 4)
    assert all(np.array_equal(a.vectors, b.vectors) and a.loss == b.loss for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[-1].vectors, other[-1].vectors)


def test_fewer_steps_are_the_beginning_of_more(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["llama"]
    many, _ = tune_vectors(model, soft(model), examples, TuningOptions(12, 4, 5), 0)
    few, _ = tune_vectors(model, soft(model), examples, TuningOptions(6, 2, 5), 0)
    assert [found.step for found in many] == [3, 6, 9, 12]
    assert [found.step for found in few] == [3, 6]
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.vectors, b.vectors)


@pytest.mark.parametrize(
    ("steps", "checkpoints", "kept"),
    [(64, 8, (8, 16, 24, 32, 40, 48, 56, 64)), (10, 3, (4, 7, 10)), (2, 8, (1, 2)), (5, 1, (5,))],
)
def test_the_last_step_is_kept_and_the_others_are_evenly_spaced(
    steps: int, checkpoints: int, kept: tuple[int, ...]
) -> None:
    assert TuningOptions(steps, checkpoints).kept == kept


def test_tokens_are_those_of_three_passes(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["bert"]
    options = TuningOptions(steps=6, batch_size=8)
    _, tokens = tune_vectors(model, soft(model), examples, options, 0)
    lesson = Lesson.of(model, soft(model), examples)
    assert len(examples) == 16
    assert tokens == 3 * 3 * sum(map(lesson.size, range(16)))


def test_demonstrations_are_left_out(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = loaded["llama"], list[Request]()

    def recorded(model: LanguageModel, requests: Sequence[Request], *more: Any) -> torch.Tensor:
        seen.extend(requests)
        return choice_log_probabilities(model, requests, *more)

    monkeypatch.setattr(lessons, "choice_log_probabilities", recorded)
    shown = tuple(Demonstration(e.fields, e.label) for e in examples[:2])
    prompt = dataclasses.replace(soft(model), demonstrations=shown)
    tune_vectors(model, prompt, examples, TuningOptions(steps=2, batch_size=14), 0)
    expected = Scorer(model, accuracy).encode(prompt, [dict(e.fields) for e in examples[2:]])
    assert sorted(request.context for request in seen[:14]) == sorted(e.context for e in expected)
    assert sorted(r.context for r in seen[14:]) == sorted(r.context for r in seen[:14])
    assert [r.context for r in seen[14:]] != [r.context for r in seen[:14]]


@pytest.mark.fault("out of memory in training")
def test_a_pass_that_runs_out_of_memory_is_read_in_parts(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded["llama"]
    expected, tokens = tune_vectors(model, soft(model), examples, SHORT, 0)
    whole = Lesson.loss

    def narrow(self: Lesson, model: LanguageModel, part: Sequence[int]) -> torch.Tensor:
        if len(part) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, model, part)

    monkeypatch.setattr(Lesson, "loss", narrow)
    found, again = tune_vectors(model, soft(model), examples, SHORT, 0)
    assert np.abs(found[-1].vectors - expected[-1].vectors).max() < 1e-3 * model.embeddings.std()
    assert again == tokens


# -- errors ----------------------------------------------------------------------------------


def test_a_prompt_without_vectors_cannot_be_tuned(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    with pytest.raises(PromptError, match=r"^The prompt is not soft; it has no vectors to tune\."):
        tune_vectors(loaded["gpt2"], PROMPT, examples, SHORT, 0)


def test_vectors_of_another_size_cannot_be_tuned(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    prompt = dataclasses.replace(PROMPT, soft=SoftPart(np.zeros((2, 7), np.float32)))
    with pytest.raises(PromptError, match=r"^The prompt's vectors have 7 numbers, and the embeddings of .* have 32\."):
        tune_vectors(loaded["gpt2"], prompt, examples, SHORT, 0)


def test_a_loss_that_is_no_number_is_a_model_error(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    options = dataclasses.replace(SHORT, learning_rate=1e38)
    with pytest.raises(ModelError, match=r"not a number at step \d\. Use a learning_rate below 1e\+38, or \[model\]"):
        tune_vectors(loaded["gpt2"], soft(loaded["gpt2"]), examples, options, 0)


@pytest.mark.parametrize(
    ("wrong", "wording"),
    [
        ({"steps": 0}, "^steps of tuning is 0; use a whole number above 0"),
        ({"checkpoints": 0}, "^checkpoints of tuning is 0;"),
        ({"batch_size": -1}, "^batch_size of tuning is -1;"),
        ({"learning_rate": float("nan")}, "^learning_rate of tuning is nan; use a finite number above 0"),
        ({"weight_decay": -0.1}, "^weight_decay of tuning is -0.1; use a finite number, 0 or above"),
        ({"reparameterization": "gru"}, "^reparameterization of tuning is 'gru'; allowed are none, mlp, lstm"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], wording: str) -> None:
    with pytest.raises(ModelError, match=wording):
        TuningOptions(**wrong)


# -- text -> soft ----------------------------------------------------------------------------


def carrier(family: str, **more: Any) -> Prompt:
    # the pieces of T5 know no line break
    separator = " " if family in ("t5", "mbart") else "\n\n"
    return dataclasses.replace(PROMPT, instruction="Which topic does the text have?", separator=separator, **more)


@pytest.mark.parametrize("kind", ["plain", "calibrated", "demonstrations", "retrieving"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_as_vectors_scores_the_same(
    family: str, kind: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    shown = tuple(Demonstration(e.fields, e.label) for e in examples[:6])
    prompt = carrier(
        family,
        calibration="content_free" if kind == "calibrated" else "none",
        demonstrations=shown[:2] if kind == "demonstrations" else (),
        retrieval=Retrieval(shown, 2) if kind == "retrieving" else None,
    )
    found = exact_text_start(model, prompt)
    assert found is not None
    assert found.soft is not None
    assert (found.instruction, found.soft.position) == ("", "start")
    assert dataclasses.replace(found, soft=None, instruction=prompt.instruction) == prompt
    assert np.abs(rows(model, found, examples) - rows(model, prompt, examples)).max() < LAW
    assert np.abs(rows(model, prompt, examples) - rows(model, PROMPT, examples)).max() > 10 * LAW


def test_a_text_as_vectors_scores_the_same_where_a_model_scales_its_embeddings(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 400, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    torch.manual_seed(0)
    gemma = Gemma3ForCausalLM(
        Gemma3TextConfig(
            **sizes, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, initializer_range=0.3, max_position_embeddings=160,
        )
    )  # fmt: skip
    mbart = MBartForConditionalGeneration(
        MBartConfig(
            **sizes, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, init_std=0.3,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=160,
            scale_embedding=True, decoder_start_token_id=1, forced_eos_token_id=None,
        )
    )  # fmt: skip
    for network, like, name in ((gemma, "llama", "gemma3"), (mbart, "t5", "mbart")):
        network.eval().requires_grad_(False)
        model = type(loaded[like])(network, loaded[like].tokenizer, name, name)
        prompt = carrier(name)
        found = exact_text_start(model, prompt)
        assert found is not None
        assert found.soft is not None
        assert np.abs(rows(model, found, examples) - rows(model, prompt, examples)).max() < LAW
        assert np.abs(found.soft.vectors).max() > 2 * np.abs(model.embeddings).max()


def test_a_text_that_is_no_beginning_of_the_tokens_is_not_turned_into_vectors(
    loaded: dict[str, LanguageModel],
) -> None:
    joined = dataclasses.replace(carrier("llama"), separator="", template="ext: {{ text }}\nTopic: {{ label }}")
    assert exact_text_start(loaded["llama"], dataclasses.replace(joined, instruction="Which t")) is None
    assert exact_text_start(loaded["t5"], carrier("llama")) is None  # "\nText" is one piece there
    inside = "{{ instruction }}\n{{ text }}\nTopic: {{ label }}"
    assert exact_text_start(loaded["bert"], dataclasses.replace(carrier("bert"), template=inside)) is None
    assert exact_text_start(loaded["bert"], PROMPT) is None
    assert exact_text_start(loaded["bert"], dataclasses.replace(soft(loaded["bert"]), instruction="Which?")) is None
    strict = "{{ text.split('@')[1] }}\nTopic: {{ label }}"
    assert exact_text_start(loaded["bert"], dataclasses.replace(carrier("bert"), template=strict)) is None
