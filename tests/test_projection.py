"""propose/projection.py: soft prompts become text where their vectors stood, for every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from autoprompt.data import Example
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.propose import Desk, Known, Proposals
from autoprompt.propose.projection import SoftToText, placements
from autoprompt.propose.vocabulary import vocabulary
from autoprompt.scorer import Scorer
from autoprompt.space import SoftSpace, Space

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta", "encoder"]
# random networks are far too sure of themselves: at a high temperature their losses are not flat
BARE = Prompt(
    "{{ text }}\nTopic: {{ label }}",
    {"sports": "sports", "weather": "weather"},
    "Which topic does the text have?",
    temperature=20,
)


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    rows = [row for row in topics_rows if row["topic"] != "money"]
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows))


def desk(model: LanguageModel, pool: tuple[Example, ...], soft: SoftSpace | None = SoftSpace()) -> Desk:  # noqa: B008
    return Desk(Space(BARE, soft=soft), Scorer(model, accuracy), pool)


def soft(model: LanguageModel, position: Position = "start", count: int = 3) -> Prompt:
    """Vectors near to readable tokens, longer than these."""
    words = np.random.default_rng(5).choice(vocabulary(model).ids, count, replace=False)
    noise = np.random.default_rng(6).standard_normal((count, model.embeddings.shape[1]))
    vectors = 3 * (model.embeddings[words] + 0.1 * model.embeddings.std() * noise)
    return dataclasses.replace(BARE, soft=SoftPart(vectors.astype(np.float32), position))


def proposed(at: Desk, prompt: Prompt, count: int = 9, seed: int = 1) -> Proposals:
    known = [Known(7, prompt, 0.9, 0.2, 24), Known(0, BARE, 0.5, 0.0, 24)]
    return SoftToText(at, steps=8, batch=6, held=12).propose(known, count, seed)


# -- places ----------------------------------------------------------------------------------


def test_text_stands_where_the_vectors_stood() -> None:
    made = {
        position: placements(dataclasses.replace(BARE, soft=SoftPart(np.zeros((2, 4), np.float32), position)), "it is")
        for position in get_args(Position)
    }
    assert [prompt.instruction for prompt in made["start"]] == [f"it is {BARE.instruction}", "it is"]
    assert [prompt.template for prompt in made["example"]] == ["it is\n{{ text }}\nTopic: {{ label }}"]
    assert [prompt.template for prompt in made["answer"]] == ["{{ text }}\nTopic: it is {{ label }}"]
    assert all(prompt.soft is None for prompts in made.values() for prompt in prompts)


def test_a_prompt_without_instruction_gets_one() -> None:
    bare = dataclasses.replace(BARE, instruction="", soft=SoftPart(np.zeros((2, 4), np.float32)))
    assert [prompt.instruction for prompt in placements(bare, "it is")] == ["it is"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ text }}\n{{ label }}", "{{ text }}\nit is {{ label }}"),
        ("{{ text }} ({{label}})", "{{ text }} (it is {{label}})"),
        ("{{ text }} -> {{ label }}", "{{ text }} -> it is {{ label }}"),
        ("{{ text }}: {{ label | upper }}", "{{ text }}: it is {{ label | upper }}"),
    ],
)
def test_text_before_the_answer_keeps_its_distance(template: str, expected: str) -> None:
    vectors = SoftPart(np.zeros((2, 4), np.float32), "answer")
    [made] = placements(dataclasses.replace(BARE, template=template, soft=vectors), "it is")
    assert made.template == expected


def test_text_that_a_template_would_read_has_no_place_in_it() -> None:
    for position in ("example", "answer"):
        prompt = dataclasses.replace(BARE, soft=SoftPart(np.zeros((2, 4), np.float32), position))
        assert placements(prompt, "{{ x }}") == []
    assert (
        placements(dataclasses.replace(BARE, soft=SoftPart(np.zeros((2, 4), np.float32))), "{ x")[1].instruction
        == "{ x"
    )


def test_a_discrete_prompt_has_no_place_for_it() -> None:
    assert placements(BARE, "it is") == []


# -- proposals -------------------------------------------------------------------------------


@pytest.mark.parametrize("position", get_args(Position))
@pytest.mark.parametrize("family", FAMILIES)
def test_proposals_are_discrete_and_change_one_part_of_the_text(
    family: str, position: Position, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model, at = loaded[family], desk(loaded[family], pool)
    assert SoftToText.covers(at)
    answer = proposed(at, soft(model, position))
    assert answer.tokens > 0
    assert all(proposal.prompt.kind == "discrete" for proposal in answer.found)
    assert {proposal.parents for proposal in answer.found} <= {(7,)}
    assert {proposal.operator for proposal in answer.found} <= {"project", "pez"}
    changed = {
        name
        for proposal in answer.found
        for name in ("template", "instruction")
        if getattr(proposal.prompt, name) != getattr(BARE, name)
    }
    assert changed <= {"instruction" if position == "start" else "template"}
    texts = [proposal.prompt.placeholder_text() for proposal in answer.found]
    assert not [text for text in texts for example in pool if example.fields["text"] in text]


@pytest.mark.parametrize("family", FAMILIES)
def test_proposals_are_a_function_of_the_seed(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model, at = loaded[family], desk(loaded[family], pool)
    first = proposed(at, soft(model))
    proposed(at, soft(model, count=2), seed=2)
    assert proposed(at, soft(model)) == first  # with a scorer that remembers
    assert proposed(desk(model, pool), soft(model)) == first


def test_vectors_that_are_tokens_give_these_tokens(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    model = loaded["gpt2"]
    [ids] = model.ids([" good and bad"], special=False)
    prompt = dataclasses.replace(BARE, soft=SoftPart(2 * model.embeddings[list(ids)]))
    (operator, text), *rest = SoftToText(desk(model, pool), steps=4, batch=4)._texts(prompt, pool)[0]
    assert (operator, text) == ("project", "good and bad")
    assert {operator for operator, _ in rest} <= {"pez"}


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_steps_find_texts_with_a_lower_loss(
    family: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    prompt = soft(loaded[family], "start", 4)
    at = SoftToText(desk(loaded[family], pool), steps=16, batch=len(pool) // 2)
    texts, _ = at._texts(prompt, pool)
    losses = [s.loss for s in at.desk.scorer.score([placements(prompt, text)[1] for _, text in texts], pool)]
    assert len(losses) > 2
    assert min(losses) < losses[0] - 0.003


def test_what_is_proposed_is_better_than_the_text_without_vectors(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    gains = []
    for family in ("gpt2", "bert", "roberta"):
        at = desk(loaded[family], pool)
        prompts = [proposal.prompt for proposal in proposed(at, soft(loaded[family])).found[:1]]
        start, *best = at.scorer.score([BARE, *prompts], pool)
        gains += [start.loss - score.loss for score in best]
    assert len(gains) >= 2
    assert np.mean(gains) > 0.01


def test_only_the_best_soft_prompts_are_looked_at(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> None:
    model = loaded["bert"]
    known = [Known(n, soft(model, "start", n), 1.0 - n / 9, 0.0, 9) for n in (2, 3, 4)]
    at = SoftToText(desk(model, pool), parents=2, steps=4, batch=4, held=8)
    assert {parent for proposal in at.propose(known, 30, 1).found for parent in proposal.parents} <= {2, 3}


def test_without_a_soft_prompt_there_is_nothing_to_write(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    at = desk(loaded["llama"], pool)
    assert proposed(at, BARE) == Proposals()
    assert proposed(at, soft(loaded["llama"]), count=0) == Proposals()
    assert at.scorer.tokens == 0
    assert not SoftToText.covers(desk(loaded["llama"], pool, soft=None))
    assert not SoftToText.covers(desk(loaded["llama"], ()))
