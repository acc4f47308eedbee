"""propose/gradients.py: swaps of an instruction's tokens go where the loss falls, for every family."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.engine import Request
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.propose import Desk, Known, Proposals
from autoprompt.propose.gradients import TokenGradients, loss_and_gradient, opened, slope
from autoprompt.propose.vocabulary import swapped, vocabulary
from autoprompt.scorer import Scorer
from autoprompt.space import Space

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta", "encoder"]
INSTRUCTION = "Which topic does the text have?"
# random networks are far too sure of themselves: at a high temperature their losses are not flat
FRONT = Prompt(
    "{{ text }}\nTopic: {{ label }}", {"sports": "sports", "weather": "weather"}, INSTRUCTION, temperature=20
)
INSIDE = dataclasses.replace(FRONT, template="{{ text }}\n{{ instruction }}\nTopic: {{ label }}")


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    rows = [row for row in topics_rows if row["topic"] != "money"]
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows))


def desk(model: LanguageModel, pool: tuple[Example, ...], instructions: tuple[str, ...] = (INSTRUCTION,)) -> Desk:
    return Desk(Space(FRONT, instructions=instructions), Scorer(model, accuracy), pool)


def proposed(at: Desk, prompt: Prompt = FRONT, count: int = 4, seed: int = 1) -> Proposals:
    proposer = TokenGradients(at, steps=2, swaps=12, examples=8)
    return proposer.propose([Known(3, prompt, 0.5, 0.0, 24)], count, seed)


# -- the gradient ----------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", ["none", "content_free"])
@pytest.mark.parametrize("prompt", [FRONT, INSIDE], ids=["front", "inside"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_with_vectors_for_tokens_is_that_of_the_text(
    family: str, prompt: Prompt, calibration: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model = loaded[family]
    prompt = dataclasses.replace(prompt, calibration=calibration, normalize=True, temperature=8)
    found = slope(model, prompt, pool[:6])
    [score] = Scorer(model, accuracy).score([prompt], pool[:6])
    assert found is not None
    assert found.loss == pytest.approx(score.loss, abs=1e-4)
    assert len(found.gradient) >= len(found.ids) - 2


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_agrees_with_finite_differences(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model = loaded[family]
    found = opened(model, INSIDE, pool[:6])
    assert found is not None
    lesson, vectors, _, _ = found
    _, gradient = loss_and_gradient(model, lesson, vectors, range(6))
    step = 0.02 * gradient / gradient.norm()
    at = vectors.detach().clone()
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            vectors.copy_(at + sign * step)
            losses.append(lesson.loss(model, range(6)).item() / 6)
    assert losses[0] - losses[1] == pytest.approx(2 * float((gradient * step).sum()), rel=0.05, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_estimated_changes_are_those_of_a_small_step_to_the_other_token(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model = loaded[family]
    at_prompt, found = slope(model, FRONT, pool[:6]), opened(model, FRONT, pool[:6])
    assert at_prompt is not None
    assert found is not None
    lesson, vectors, _, _ = found
    changes, start = at_prompt.changes(), vectors.detach().clone()
    generator = np.random.default_rng(0)
    estimated, true = [], []
    for _ in range(24):
        at, word = int(generator.integers(len(changes))), int(generator.integers(changes.shape[1]))
        if np.isfinite(changes[at, word]):
            other = torch.from_numpy(model.embeddings[vocabulary(model).ids[word]])
            moved = start.clone()
            moved[at] += 0.02 * (other - start[at])
            with torch.no_grad():
                vectors.copy_(moved)
                true.append(lesson.loss(model, range(6)).item() / 6 - at_prompt.loss)
            estimated.append(0.02 * changes[at, word])
    assert np.corrcoef(estimated, true)[0, 1] > 0.97


def correlation(model: LanguageModel, prompt: Prompt, examples: tuple[Example, ...]) -> float:
    """Of estimated and true changes of the loss, over random swaps."""
    found, words = slope(model, prompt, examples), vocabulary(model).ids
    assert found is not None
    changes, generator = found.changes(), np.random.default_rng(1)
    pairs = [(int(generator.integers(len(changes))), int(generator.integers(changes.shape[1]))) for _ in range(96)]
    pairs = [pair for pair in pairs if np.isfinite(changes[pair])]
    texts = [swapped(model, prompt.instruction, found.first + at, int(words[word])) for at, word in pairs]
    prompts = [dataclasses.replace(prompt, instruction=text) for text in texts]
    true = [score.loss - found.loss for score in Scorer(model, accuracy).score(prompts, examples)]
    return float(np.corrcoef([changes[pair] for pair in pairs], true)[0, 1])


@pytest.mark.parametrize("family", ["t5", "bert", "roberta"])
def test_estimated_and_true_changes_of_whole_swaps_correlate(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    assert correlation(loaded[family], FRONT, pool[:8]) > 0.2


@pytest.mark.model
def test_estimated_and_true_changes_correlate_on_the_builtin_model(pool: tuple[Example, ...]) -> None:
    prompt = dataclasses.replace(FRONT, temperature=None)
    assert correlation(load_model("builtin"), prompt, pool[:6]) > 0.1


def test_the_token_that_stands_there_is_no_swap(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    model = loaded["llama"]
    found = slope(model, FRONT, pool[:4])
    assert found is not None
    changes, words = found.changes(), vocabulary(model).ids
    assert all(np.isinf(row[words == own]).all() for row, own in zip(changes, found.ids[found.first :], strict=False))
    assert np.isinf(changes).sum() <= len(changes)


def test_an_instruction_that_is_not_in_the_context_has_no_slope(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    prompt = dataclasses.replace(
        FRONT, template="{{ instruction | upper }} {{ text }} {{ label }}", instruction="say it"
    )
    assert slope(loaded["llama"], prompt, pool[:4]) is None
    assert proposed(desk(loaded["llama"], pool), prompt).found == ()


# -- tokens as text --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_readable_tokens_are_text(family: str, loaded: dict[str, LanguageModel]) -> None:
    model = loaded[family]
    words = vocabulary(model)
    texts = [words.texts[at] for at in words.ids]
    assert len(texts) > 60
    assert all(text.strip() and text.isprintable() and "\ufffd" not in text for text in texts)
    assert not set(words.ids.tolist()) & set(model.tokenizer.all_special_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_swap_leaves_the_rest_as_it_was_written(family: str, loaded: dict[str, LanguageModel]) -> None:
    model = loaded[family]
    [ids], [[bad, *rest]] = (
        model.ids(["Is the TEXT good, or not?"], special=False),
        model.ids([" bad"], special=False),
    )
    if rest:  # the space is a token of its own
        bad = rest[0]
    texts = [swapped(model, "Is the TEXT good, or not?", at, bad) for at in range(len(ids))]
    assert any(text.startswith("Is the TEXT") and text.endswith(", or not?") and "good" not in text for text in texts)
    assert all(text and text == text.strip() for text in texts)


# -- proposals -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> dict[str, Proposals]:
    return {family: proposed(desk(loaded[family], pool)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_proposals_lower_the_loss_and_change_the_instruction_alone(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...], answers: dict[str, Proposals]
) -> None:
    assert TokenGradients.covers(desk(loaded[family], pool))
    found = answers[family].found
    prompts = [proposal.prompt for proposal in found]
    assert 1 <= len({p.fingerprint for p in prompts}) == len(prompts) <= 4
    assert all(p != FRONT and dataclasses.replace(p, instruction=INSTRUCTION) == FRONT for p in prompts)
    assert {(proposal.operator, proposal.parents) for proposal in found} == {("token gradient", (3,))}
    start, best = Scorer(loaded[family], accuracy).score([FRONT, prompts[0]], pool)
    assert best.loss < start.loss


@pytest.mark.parametrize("family", FAMILIES)
def test_proposals_are_a_function_of_the_seed(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...], answers: dict[str, Proposals]
) -> None:
    at = desk(loaded[family], pool)
    assert proposed(at, seed=2) != answers[family]
    assert proposed(at) == answers[family]  # with a scorer that remembers
    assert answers[family].tokens > 0


def test_a_prompt_without_instruction_is_begun_with_one_of_the_space(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    bare = dataclasses.replace(FRONT, instruction="")
    answer = proposed(desk(loaded["gpt2"], pool, ("", "Is the text good or bad?")), bare)
    assert answer.found
    assert all(proposal.prompt.instruction for proposal in answer.found)
    words = proposed(desk(loaded["gpt2"], pool, ("",)), bare)
    assert any("sports" in p.prompt.instruction or "weather" in p.prompt.instruction for p in words.found)


def test_soft_prompts_are_passed_over(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    model = loaded["llama"]
    soft = dataclasses.replace(FRONT, soft=SoftPart(model.embeddings[:3].copy()))
    proposer = TokenGradients(desk(model, pool), steps=1, swaps=8, examples=6)
    assert proposer.propose([Known(1, soft, 1.0, 0.0, 9)], 4, 1) == Proposals()
    answer = proposer.propose([Known(1, soft, 1.0, 0.0, 9), Known(0, FRONT, 0.5, 0.0, 9)], 4, 1)
    assert {proposal.parents for proposal in answer.found} <= {(0,)}
    assert all(proposal.prompt.soft is None for proposal in answer.found)


def test_nothing_wanted_costs_nothing(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    at = desk(loaded["llama"], pool)
    assert proposed(at, count=0) == Proposals()
    assert at.scorer.tokens == 0
    assert not TokenGradients.covers(desk(loaded["llama"], ()))


def test_a_small_dev_is_not_outdone_by_what_finding_candidates_costs(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    wide = desk(loaded["llama"], pool)
    narrow = dataclasses.replace(desk(loaded["llama"], pool), dev=8)
    assert [narrow.few(most) for most in (3, 5, 24)] == [3, 4, 4]
    assert dataclasses.replace(narrow, dev=20).few(24) == 5
    assert dataclasses.replace(narrow, dev=210).few(48) == 48
    assert wide.few(24) == 24
    assert 0 < proposed(narrow).tokens < 0.7 * proposed(wide).tokens


def test_demonstrations_are_not_what_is_learned_from(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = desk(loaded["llama"], pool[:6])
    shown = tuple(Demonstration(example.fields, example.label) for example in pool[:2])
    prompt = dataclasses.replace(FRONT, demonstrations=shown)
    asked: list[str] = []
    losses = at.scorer.losses

    def noted(prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Any]:
        asked.extend(example.fields["text"] for example in examples)
        return losses(prompts, examples)

    monkeypatch.setattr(at.scorer, "losses", noted)
    answer = proposed(at, prompt)
    assert set(asked) == {example.fields["text"] for example in pool[2:6]}
    assert all(proposal.prompt.demonstrations == shown for proposal in answer.found)


def test_no_example_gets_into_an_instruction(answers: dict[str, Proposals], pool: tuple[Example, ...]) -> None:
    texts = [proposal.prompt.instruction for answer in answers.values() for proposal in answer.found]
    assert texts
    assert not [text for text in texts for example in pool if example.fields["text"] in text]


def test_fluency_holds_instructions_back(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    at = desk(loaded["llama"], pool)
    known = [Known(0, FRONT, 0.5, 0.0, 9)]
    found = [TokenGradients(at, weight, 1, 12, 8).propose(known, 4, 1) for weight in (0.0, 100.0)]
    assert found[0] != found[1]

    def likelihood(text: str) -> float:
        [ids] = at.model.ids([text], special=False)
        [[total]] = at.scorer.engine.score([Request(at.model.specials[0], (ids,))])
        return float(total) / len(ids)

    assert all(likelihood(proposal.prompt.instruction) > likelihood(INSTRUCTION) for proposal in found[1].found)
