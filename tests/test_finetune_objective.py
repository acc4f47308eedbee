"""finetune/objective.py, course.py and trainer.py: what a step learns, however it is cut into passes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pupils import OPTIONS, OTHER, PROMPT, distance, on, rows, same, soft, topics, unscored

from autoprompt import lesson as lessons
from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.engine import Request, choice_log_probabilities
from autoprompt.errors import ModelError
from autoprompt.finetune import FinetuneOptions, Tuned, finetune
from autoprompt.finetune.course import Course
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "encoder"]
ONE = dataclasses.replace(OPTIONS, epochs=1)
STILL = dataclasses.replace(ONE, learning_rate=1e-12, batch_size=24)
NUMBERS = Prompt("{{ text }}\nHow good? {{ label }}", {"1": "bad", "3.5": "fair", "5": "good"})


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folders[name]), device="cpu") for name in FAMILIES}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return topics(topics_rows)


def losses_of(found: Any, labels: Sequence[str], examples: Sequence[Example]) -> Any:
    gold = [labels.index(e.label) for e in examples]
    return np.logaddexp.reduce(found, 1) - found[range(len(gold)), gold]


def probabilities(found: Any) -> Any:
    return np.exp(found - np.logaddexp.reduce(found, 1)[:, None])


# -- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_label_smoothing_shares_the_target(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    tuned = finetune(model, PROMPT, examples, unscored, dataclasses.replace(STILL, label_smoothing=0.2))
    logs = np.log(probabilities(rows(model, PROMPT, examples)).clip(1e-300))
    gold = [PROMPT.labels.index(e.label) for e in examples]
    expected = -(0.8 * logs[range(len(gold)), gold] + 0.2 * logs.mean(1))
    assert tuned.losses == pytest.approx([expected.mean()], rel=1e-4)


def test_balanced_classes_weigh_the_same(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["llama"]
    uneven = [e for e in examples if e.label == "sports"] + [e for e in examples if e.label == "weather"][:3]
    tuned = finetune(model, PROMPT, uneven, unscored, dataclasses.replace(STILL, class_weights="balanced"))
    losses = losses_of(rows(model, PROMPT, uneven), PROMPT.labels, uneven)
    by_class = [losses[[e.label == label for e in uneven]].mean() for label in PROMPT.labels]
    assert tuned.losses == pytest.approx([np.mean(by_class)], rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_consistency_adds_the_divergence_of_two_prompts(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    options = dataclasses.replace(STILL, consistency=0.7)
    tuned = finetune(model, PROMPT, examples, unscored, options, others=[OTHER])
    first, second = rows(model, PROMPT, examples), rows(model, OTHER, examples)
    losses = losses_of(first, PROMPT.labels, examples) + losses_of(second, OTHER.labels, examples)
    p, q = probabilities(first), probabilities(second)[:, ::-1]  # its labels are in another order
    apart = ((p - q) * (np.log(p) - np.log(q))).sum(1) / 2
    assert tuned.losses == pytest.approx([(losses / 2 + 0.7 * apart).mean()], rel=1e-3)


def test_consistency_under_one_prompt_is_that_of_its_dropout(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    options = dataclasses.replace(OPTIONS, dropout=0.3, batch_size=24)
    without = finetune(loaded["bert"], PROMPT, examples, unscored, options)
    with_it = finetune(loaded["bert"], PROMPT, examples, unscored, dataclasses.replace(options, consistency=5.0))
    assert with_it.losses[0] == pytest.approx(without.losses[0])  # an adapter begins as zero
    assert with_it.losses[1] != without.losses[1]
    assert with_it.tokens == 2 * without.tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_number_is_the_expectation_over_the_labels(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    targets = [dataclasses.replace(e, label=str(0.5 + e.number % 7)) for e in examples]
    tuned = finetune(model, NUMBERS, targets, unscored, STILL, target="number")
    anyhow = [dataclasses.replace(e, label="1") for e in examples]
    told = probabilities(rows(model, NUMBERS, anyhow)) @ np.array([1.0, 3.5, 5.0])
    expected = (told - np.array([float(e.label) for e in targets])) ** 2
    assert tuned.losses == pytest.approx([expected.mean()], rel=1e-3)
    learned = finetune(model, NUMBERS, targets, unscored, dataclasses.replace(OPTIONS, epochs=4), target="number")
    assert learned.losses[-1] < learned.losses[0]


def test_words_are_numbers_where_the_labels_are_none(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    prompt = Prompt("{{ text }} {{ label }}", {"low": "1", "high": "5"})
    targets = [dataclasses.replace(e, label="3") for e in examples]
    found = finetune(loaded["gpt2"], prompt, targets, unscored, STILL, target="number")
    told = probabilities(rows(loaded["gpt2"], prompt, [dataclasses.replace(e, label="low") for e in examples]))
    assert found.losses == pytest.approx([((told @ [1.0, 5.0] - 3.0) ** 2).mean()], rel=1e-3)


# -- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_a_text_is_learned_with_its_end(family: str, loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded[family]
    prompt = Prompt("{{ text }}\nIn other words: {{ label }}!", {"a": "a", "b": "b"})
    told = [dataclasses.replace(e, label=f"It says {e.fields['text'][:9]}") for e in examples[:6]]
    lesson = lessons.TextLesson.of(model, prompt, told)
    end = model.tokenizer.eos_token_id
    for request, example in zip(lesson.requests, told, strict=True):
        [choice] = request.choices
        assert choice[-1] == end
        whole = model.tokenizer.decode((*request.context, *choice) if family != "t5" else choice)
        assert f"{example.label}!" in whole
    with torch.no_grad():
        found = lesson.judged(lesson.log_likelihoods(model, range(6)), range(6))
        plain = [
            choice_log_probabilities(model, [request])[0, 0] / len(request.choices[0]) for request in lesson.requests
        ]
    assert torch.allclose(found, -torch.stack(plain), atol=1e-4)
    tuned = finetune(model, prompt, told, unscored, dataclasses.replace(OPTIONS, epochs=6), target="text")
    assert tuned.losses[0] > tuned.losses[-1]
    assert finetune(model, prompt, told, unscored, STILL, target="text").losses == pytest.approx(
        [float(found.mean())], abs=1e-4
    )


def test_a_text_that_was_learned_is_written(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    from autoprompt.engine import Engine

    told = [dataclasses.replace(e, label="a goal" if e.label == "sports" else "rain") for e in examples[:4]]
    options = dataclasses.replace(OPTIONS, method="full", epochs=30, batch_size=4)
    scores = iter(range(100))
    tuned = finetune(loaded["llama"], PROMPT, told, lambda m, p: (next(scores), 0.0), options, target="text")
    lesson = lessons.TextLesson.of(loaded["llama"], PROMPT, told)
    requests = [dataclasses.replace(request, choices=()) for request in lesson.requests]
    written = Engine(tuned.model).generate(requests, new_tokens=12)
    assert tuned.losses[-1] < 0.05
    decoded = [tuned.model.tokenizer.decode(ids).strip() for ids in written]
    assert decoded == [e.label for e in told]


# -- whose turn it is ----------------------------------------------------------------------------


def readings(course: Course, epoch: int) -> list[tuple[int, tuple[int, ...]]]:
    return sorted((r.example, r.prompts) for step in course.epoch(epoch) for r in step)


def test_prompts_take_turns(examples: list[Example]) -> None:
    third = dataclasses.replace(PROMPT, instruction="Say it.")
    course = Course.of([PROMPT, OTHER, third], examples, FinetuneOptions(batch_size=5), 0)
    for epoch in (1, 2, 3):
        assert readings(course, epoch) == [(n, ((n + epoch) % 3,)) for n in range(24)]
    assert [len(step) for step in course.epoch(1)] == [5, 5, 5, 5, 4]
    assert course.epoch(1) == course.epoch(1)
    assert course.epoch(1) != course.epoch(4)


def test_an_example_is_not_taught_under_a_prompt_that_shows_it(examples: list[Example]) -> None:
    shown = tuple(Demonstration(e.fields, e.label) for e in examples[:2])
    showing = dataclasses.replace(PROMPT, demonstrations=shown)
    course = Course.of([showing, OTHER], examples, FinetuneOptions(batch_size=8, consistency=1.0), 0)
    assert dict(readings(course, 1))[0] == (1, 1)
    assert Counter(p for _, p in readings(course, 2)[2:]) == {(0, 1): 11, (1, 0): 11}
    both = Course.of(
        [showing, dataclasses.replace(OTHER, demonstrations=shown)], examples, FinetuneOptions(batch_size=8), 0
    )
    assert len(readings(both, 1)) == 22


def test_every_prompt_is_trained_and_dev_is_scored_under_the_first(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen, scored = loaded["llama"], list[Request](), list[Prompt]()

    def recorded(model: LanguageModel, requests: Sequence[Request], *more: Any) -> torch.Tensor:
        seen.extend(requests)
        return choice_log_probabilities(model, requests, *more)

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        scored.append(prompt)
        return 0.0, 0.0

    monkeypatch.setattr(lessons, "choice_log_probabilities", recorded)
    finetune(model, PROMPT, examples, evaluate, dataclasses.replace(ONE, epochs=2), others=[OTHER, PROMPT])
    expected = [lessons.Lesson.of(model, prompt, examples).requests for prompt in (PROMPT, OTHER)]
    for epoch in (1, 2):
        own = sorted(request.context for request in seen[24 * (epoch - 1) : 24 * epoch])
        assert own == sorted(expected[(n + epoch) % 2][n].context for n in range(24))
    assert set(scored) == {PROMPT}


def test_vectors_of_other_prompts_stay(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["gpt2"]
    first, other = soft(model), soft(model, prompt=OTHER)
    tuned = finetune(model, first, examples, lambda m, p: (0.0, float(p != first)), ONE, others=[other])
    assert tuned.prompt != first
    assert other == soft(model, prompt=OTHER)


# -- vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_only_vectors_are_trained_where_only_they_are_asked_for(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model, prompt = loaded[family], soft(loaded[family])
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    options = dataclasses.replace(OPTIONS, method="vectors", vector_rate=0.1)
    tuned = finetune(model, prompt, examples, on(examples), options)
    assert tuned.losses[-1] < tuned.losses[0]
    assert tuned.adapter is None
    assert all(torch.equal(before[name], weight) for name, weight in tuned.model.network.state_dict().items())
    assert not model.network.training
    assert not any(weight.requires_grad for weight in model.network.parameters())


def test_vectors_can_stay_as_they_are(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    prompt = soft(loaded["llama"])
    scores = iter(range(9))
    options = dataclasses.replace(ONE, train_vectors=False)
    tuned = finetune(loaded["llama"], prompt, examples, lambda m, p: (next(scores), 0.0), options)
    assert (tuned.epoch, tuned.prompt) == (1, prompt)


def test_vectors_have_a_rate_of_their_own(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    moved = []
    for rate in (None, 1e-4, 1.0):
        prompt, scores = soft(loaded["llama"]), iter([0.0, 1.0])
        options = dataclasses.replace(ONE, vector_rate=rate, batch_size=24)
        tuned = finetune(loaded["llama"], prompt, examples, lambda m, p, s=scores: (next(s), 0.0), options)  # type: ignore[misc]
        assert tuned.prompt.soft is not None
        assert prompt.soft is not None
        moved.append(float(np.abs(tuned.prompt.soft.vectors - prompt.soft.vectors).max()))
    assert moved == pytest.approx([1e-2, 1e-4, 1.0], rel=0.01)  # Adam's first step is as long as the rate


# -- passes, memory and precision ------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_small_passes_learn_the_same(family: str, loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    options = dataclasses.replace(ONE, batch_size=12, optimizer="sgd")
    whole, cut = (
        finetune(loaded[family], PROMPT, examples, unscored,
                 dataclasses.replace(options, micro_tokens=tokens), others=[OTHER])
        for tokens in (10**6, 150)
    )  # fmt: skip
    assert cut.losses == pytest.approx(whole.losses, rel=1e-5)


class Memory:
    """Reading more than so many requests at once, or the call of a number, finds no memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int, at: int = 0) -> None:
        self.most, self.at, self.failed, self.calls = most, at, 0, 0
        monkeypatch.setattr(lessons, "choice_log_probabilities", self)

    def __call__(self, model: LanguageModel, requests: Sequence[Request], *more: Any) -> torch.Tensor:
        self.calls += 1
        if len(requests) > self.most or self.calls == self.at:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return choice_log_probabilities(model, requests, *more)


def kept(model: LanguageModel, examples: list[Example], options: FinetuneOptions) -> Tuned:
    """The last epoch is kept."""
    scores = iter(range(100))
    return finetune(model, soft(model), examples, lambda m, p: (float(next(scores)), 0.0), options, seed=2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.fault("out of memory in training")
def test_a_step_that_ran_out_of_memory_is_done_again(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(OPTIONS, batch_size=12, epochs=2, micro_tokens=10**6, optimizer="sgd")
    expected = kept(loaded[family], examples, options)
    memory = Memory(monkeypatch, most=3)
    found = kept(loaded[family], examples, options)
    assert memory.failed > 0
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    assert distance(found, expected) < 1e-4


def test_gradients_of_a_step_that_broke_off_are_thrown_away(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(OPTIONS, batch_size=12, epochs=1, micro_tokens=100, optimizer="sgd")
    expected = kept(loaded["llama"], examples, options)
    memory = Memory(monkeypatch, most=100, at=3)  # two passes of the first step had gone well
    found = kept(loaded["llama"], examples, options)
    assert memory.failed == 1
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert distance(found, expected) < 1e-5


def test_one_example_that_does_not_fit_is_a_model_error(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(monkeypatch, most=0)
    with pytest.raises(
        ModelError,
        match=r"^One example does not fit into the memory of cpu with its gradients\. Use gradient_checkpointing",
    ):
        finetune(loaded["llama"], PROMPT, examples, unscored, OPTIONS)


def test_another_runtime_error_is_not_taken_for_memory(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> torch.Tensor:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(lessons, "choice_log_probabilities", broken)
    with pytest.raises(RuntimeError, match=r"^a shape is wrong$"):
        finetune(loaded["llama"], PROMPT, examples, unscored, OPTIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_computed_twice_give_the_same(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    options = dataclasses.replace(OPTIONS, epochs=2, optimizer="sgd")
    expected = kept(loaded[family], examples, options)
    found = kept(loaded[family], examples, dataclasses.replace(options, gradient_checkpointing=True))
    assert distance(found, expected) < 1e-4
    assert not any(getattr(module, "gradient_checkpointing", False) for module in found.model.network.modules())


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_learns_with_float32_weights(
    family: str, method: Any, loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[torch.dtype] = set()
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, out: (
            read.add(out.dtype) if module.training and isinstance(module, torch.nn.Linear) else None
        )
    )
    options = dataclasses.replace(ONE, method=method, precision="bfloat16")
    try:
        tuned = finetune(loaded[family], PROMPT, examples, unscored, options)
    finally:
        hook.remove()
    plain = finetune(loaded[family], PROMPT, examples, unscored, dataclasses.replace(options, precision="float32"))
    assert torch.bfloat16 in read
    assert tuned.losses == pytest.approx(plain.losses, rel=0.03)
    assert {weight.dtype for weight in tuned.model.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_in_16_bits_is_trained_in_32_and_comes_back_in_16(
    method: Any, llama_folder: Path, examples: list[Example]
) -> None:
    model = load_model(str(llama_folder), device="cpu", dtype="bfloat16")
    seen: list[set[torch.dtype]] = []

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        seen.append({weight.dtype for weight in model.network.parameters()})
        return float(len(seen)), 0.0

    tuned = finetune(model, PROMPT, examples, evaluate, dataclasses.replace(OPTIONS, method=method))
    assert tuned.losses[-1] < tuned.losses[0]
    adapter = {torch.float32} if method == "lora" else set()
    assert all(found == {torch.bfloat16} | adapter for found in seen)
    assert {weight.dtype for weight in tuned.model.network.parameters()} == {torch.bfloat16} | adapter
    assert {weight.dtype for weight in model.network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("adapter", ["dora", "rslora"])
def test_other_adapters_are_as_peft_has_them(
    adapter: Any, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    plain = kept(loaded["llama"], examples, ONE)
    found = kept(loaded["llama"], examples, dataclasses.replace(ONE, adapter=adapter))
    config = found.adapter.peft_config["default"]
    assert (config.use_dora, config.use_rslora) == (adapter == "dora", adapter == "rslora")
    assert found.losses[0] < plain.losses[0] + 1.0
    assert not same(found, plain)


def test_where_texts_are_contrasted_each_step_has_pairs_of_a_label(examples: list[Example]) -> None:
    course = Course.of([PROMPT], examples, FinetuneOptions(batch_size=4, contrastive=1.0), 0)
    assert course.epoch(1) != course.epoch(2)
    for epoch in (1, 2):
        steps = course.epoch(epoch)
        assert sorted(r.example for step in steps for r in step) == list(range(len(examples)))
        whole = [step for step in steps if len(step) == 4]
        labels = [[examples[r.example].label for r in step] for step in whole]
        assert all(step[0] == step[1] and step[2] == step[3] for step in labels)
