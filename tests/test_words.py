"""propose/words.py, propose/reading.py: label words from the model's distribution at the answer's place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.engine import Engine, Request
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.propose.base import Desk, Known
from autoprompt.propose.reading import answer_distributions, in_turns, mask_distributions, tokens_read
from autoprompt.propose.words import LabelWords
from autoprompt.scorer import Scorer
from autoprompt.space import Space

pytestmark = pytest.mark.model

FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta"]
BASELINE = Prompt(
    "{{ text }}\nTopic: {{ label }}", {"sports": "a", "money": "b", "weather": "c"}, "Which topic does the text have?"
)


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows))


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture
def desk(loaded: dict[str, LanguageModel], pool: tuple[Example, ...]) -> Callable[[str], Desk]:
    return lambda name: Desk(Space(BASELINE, pool=pool), Scorer(loaded[name], accuracy), pool)


def known(*prompts: Prompt) -> list[Known]:
    return [Known(n, prompt, 0.5 - n / 10, 0.0, 20) for n, prompt in enumerate(prompts)]


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 4000])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_distribution_holds_what_scoring_gives(
    name: str, budget: int, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    model = loaded[name]
    encodings = Scorer(model, accuracy).encode(BASELINE, [dict(example.fields) for example in pool[:6]])
    engine = Engine(model, budget)
    logs = answer_distributions(engine, encodings)
    assert torch.allclose(logs.exp().sum(1), torch.ones(6), atol=1e-5)
    assert engine.tokens == sum(len(e.context) + len(e.tail) + 1 for e in encodings)
    ids = [7, 30, 50]
    expected = Engine(model).score([Request(e.context, tuple((i,) for i in ids), e.tail) for e in encodings])
    assert np.allclose(logs[:, ids].numpy(), np.stack(expected), atol=1e-4)


def test_several_masks_are_read_at_their_places(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["bert"]
    mask = int(model.tokenizer.mask_token_id)
    rows = [(2, 10, mask, 12, mask, 3), (2, mask, 14, 3)]
    logs = mask_distributions(Engine(model, 1), rows, [(2, 4), (1,)])
    together = mask_distributions(Engine(model), rows, [(2, 4), (1,)])
    assert logs.shape == (3, len(model.tokenizer))
    assert torch.allclose(logs, together, atol=1e-4)
    [single] = Engine(model).score([Request((2,), ((20,),), (14, 3))])
    assert float(logs[2, 20]) == pytest.approx(single[0], abs=1e-4)


def test_a_sample_takes_the_classes_in_turns(pool: tuple[Example, ...]) -> None:
    found = in_turns(pool, 10, 3)
    assert len({example.number for example in found}) == 10
    assert all(len({example.label for example in found[at : at + 3]}) == 3 for at in (0, 3, 6))
    assert found == in_turns(pool, 10, 3) != in_turns(pool, 10, 4)
    assert len(in_turns(pool, 100, 3)) == len(pool)
    assert in_turns(pool, 0, 3) == []


def test_tokens_count_a_context_once_however_often_it_was_scored(
    desk: Callable[[str], Desk], pool: tuple[Example, ...]
) -> None:
    scorer = desk("bert").scorer
    other = replace(BASELINE, label_words={"sports": "d", "money": "e", "weather": "f"})
    one = tokens_read(scorer, [BASELINE], pool[:4])
    scorer.score([BASELINE], pool[:4])
    assert tokens_read(scorer, [BASELINE, BASELINE], pool[:4]) == one
    assert tokens_read(scorer, [BASELINE, other], pool[:4]) == one + 4 * 3
    assert tokens_read(scorer, [replace(BASELINE, calibration="content_free")], pool[:4]) > one


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_new_words_are_readable_and_single_tokens_of_every_family(name: str, desk: Callable[[str], Desk]) -> None:
    proposals = LabelWords(desk(name)).propose(known(BASELINE), 4, 1)
    assert 0 < len(proposals.found) <= 4
    assert proposals.tokens > 0
    for one in proposals.found:
        words = one.prompt.label_words
        assert one.operator == "label words"
        assert one.parents == (0,)
        assert one.prompt == replace(BASELINE, label_words=words)
        assert words != BASELINE.label_words
        assert len({word.casefold() for word in words.values()}) == 3
        assert all(re.fullmatch("[A-Za-z]+", word) for word in words.values())
        encoding = desk(name).scorer.encode(one.prompt, [{"text": "The match ended."}])[0]
        new = [word != BASELINE.label_words[label] for label, word in words.items()]
        assert all(len(choice) == 1 for choice, fresh in zip(encoding.choices, new, strict=True) if fresh)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_same_seed_finds_the_same_words_whatever_was_scored_before(
    name: str, desk: Callable[[str], Desk], pool: tuple[Example, ...]
) -> None:
    first, second = desk(name), desk(name)
    second.scorer.score([BASELINE], pool)
    found = LabelWords(first).propose(known(BASELINE), 4, 5)
    again = LabelWords(second).propose(known(BASELINE), 4, 5)
    assert [one.prompt for one in found.found] == [one.prompt for one in again.found]
    assert found.tokens == again.tokens
    other = LabelWords(first).propose(known(BASELINE), 4, 6)
    assert [one.prompt for one in other.found] != [one.prompt for one in found.found]


def test_words_that_are_known_already_are_not_found_again(desk: Callable[[str], Desk]) -> None:
    proposer = LabelWords(desk("llama"))
    found = [one.prompt for one in proposer.propose(known(BASELINE), 4, 1).found]
    later = proposer.propose(known(BASELINE, *found), 4, 1).found
    assert not {one.prompt for one in later} & set(found)


def test_the_answer_s_place_decides_how_a_word_is_written(desk: Callable[[str], Desk]) -> None:
    for template in ("{{ text }}\n{{ label }}", "{{ text }} ({{ label }})"):
        tight = replace(BASELINE, template=template)
        found = LabelWords(desk("gpt2")).propose(known(tight), 3, 1).found
        assert found
        assert all(one.prompt.template == template for one in found)


def test_calibration_and_demonstrations_stay(desk: Callable[[str], Desk], pool: tuple[Example, ...]) -> None:
    shown = tuple(Demonstration(example.fields, example.label) for example in pool[:2])
    rich = replace(BASELINE, calibration="content_free", demonstrations=shown, normalize=True)
    found = LabelWords(desk("llama")).propose(known(rich), 3, 0).found
    assert found
    assert all(replace(one.prompt, label_words=rich.label_words) == rich for one in found)


def test_a_label_without_examples_keeps_its_word(desk: Callable[[str], Desk], pool: tuple[Example, ...]) -> None:
    two = tuple(example for example in pool if example.label != "weather")
    found = LabelWords(replace(desk("llama"), pool=two)).propose(known(BASELINE), 4, 0).found
    assert found
    assert {one.prompt.label_words["weather"] for one in found} == {"c"}


def test_without_examples_or_text_prompts_nothing_is_found(
    desk: Callable[[str], Desk], pool: tuple[Example, ...]
) -> None:
    soft = replace(BASELINE, soft=SoftPart(np.zeros((2, 32), np.float32)))
    assert LabelWords(desk("llama")).propose(known(soft), 4, 0).found == ()
    assert LabelWords(desk("llama")).propose(known(BASELINE), 0, 0).found == ()
    assert LabelWords(replace(desk("llama"), pool=())).propose(known(BASELINE), 4, 0).found == ()
    assert len(LabelWords(replace(desk("llama"), pool=pool[:2])).propose(known(BASELINE), 4, 0).found) <= 4


def test_a_sentence_encoder_has_no_words(encoder_folder: Path, pool: tuple[Example, ...]) -> None:
    model = load_model(str(encoder_folder), device="cpu")
    assert not LabelWords.covers(Desk(Space(BASELINE, pool=pool), Scorer(model, accuracy), pool))


@pytest.mark.model
def test_the_builtin_model_s_words_beat_letters(pool: tuple[Example, ...]) -> None:
    scorer = Scorer(load_model("builtin"), accuracy)
    found = LabelWords(Desk(Space(BASELINE, pool=pool), scorer, pool)).propose(known(BASELINE), 3, 1).found
    letters, best = scorer.score([BASELINE, found[0].prompt], pool)
    assert best.value > letters.value + 0.2
