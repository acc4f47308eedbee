"""propose/infill.py, propose/filling.py: gaps filled with what is likeliest between all examples together."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.engine import Engine, Row, plain_log_probabilities
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known
from autoprompt.propose.checks import objection
from autoprompt.propose.filling import Gap, MaskFiller, SentinelFiller, fills
from autoprompt.propose.infill import GAP, Infill, layouts
from autoprompt.scorer import Scorer
from autoprompt.space import Space

pytestmark = pytest.mark.model

LABELS = {"sports": "sports", "money": "money", "weather": "weather"}
BASELINE = Prompt("{{ text }}\nTopic: {{ label }}", LABELS, "Which topic does the text have?")
OTHER = Prompt("The text: {{ text }} It was {{ label }}.", LABELS, "Say which of the two it is.")


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows))


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="module")
def sentinel(t5_folder: Path) -> LanguageModel:
    """The small T5 with four sentinels."""
    model = load_model(str(t5_folder), device="cpu")
    model.tokenizer.add_tokens([AddedToken(f"<extra_id_{n}>", special=True) for n in range(4)])
    torch.manual_seed(0)
    model.network.resize_token_embeddings(len(model.tokenizer))
    return model


def desk_of(model: LanguageModel, pool: tuple[Example, ...], writer: LanguageModel | None = None, **given: int) -> Desk:
    return Desk(Space(BASELINE, pool=pool), Scorer(model, accuracy), pool, writer, **given)


def known(*prompts: Prompt) -> list[Known]:
    return [Known(n, prompt, 0.6 - n / 10, 0.0, 20) for n, prompt in enumerate(prompts)]


# -- who can ---------------------------------------------------------------------------------------


def test_models_with_masks_or_sentinels_fill_gaps(loaded: dict[str, LanguageModel], sentinel: LanguageModel) -> None:
    assert {name for name, model in loaded.items() if fills(model)} == {"bert", "roberta"}
    assert fills(sentinel)


def test_a_writer_fills_gaps_for_a_task_model_that_cannot(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    assert not Infill.covers(desk_of(loaded["llama"], pool))
    assert not Infill.covers(desk_of(loaded["t5"], pool))
    assert Infill.covers(desk_of(loaded["llama"], pool, loaded["bert"]))
    assert Infill.covers(desk_of(loaded["roberta"], pool, loaded["llama"]))
    assert Infill(desk_of(loaded["llama"], pool)).propose(known(BASELINE), 3, 0).found == ()


# -- gaps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "causal", "expected"),
    [
        ("{{ text }}\nTopic: {{ label }}", True, ["{{ text }}\n_ {{ label }}"]),
        ("{{ text }} {{ label }}", False, ["{{ text }} _ {{ label }}_", "_ {{ label }}_ {{ text }}"]),
        ('"{{ text }}" is {{ label }}', True, ['"{{ text }}" _ {{ label }}']),
        ("Say: {{ a }} or {{ b }}? {{ label }}.", True,
         ["Say: {{ a }} _ {{ b }}? _ {{ label }}.", "_ {{ a }} _ {{ b }}? _ {{ label }}."]),
        ("{{ a }}, {{ b }}: {{ label }}.", False, ["{{ a }}, _ {{ b }}: _ {{ label }}_"]),
        ("{% if text %}{{ text }}{% endif %} {{ label }}", False, []),
    ],
)  # fmt: skip
def test_fixed_text_between_fields_and_answer_becomes_gaps(template: str, causal: bool, expected: list[str]) -> None:
    assert [found.replace(GAP, "_") for found in layouts(template, causal)] == expected


# -- masks -----------------------------------------------------------------------------------------


TEXTS = [("The match ended. It was ", " good"), ("The bank raised its rates. It was ", " bad")]


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_single_mask_takes_the_word_that_is_likeliest_in_all_texts(
    name: str, loaded: dict[str, LanguageModel]
) -> None:
    model = loaded[name]
    [filling], tokens = MaskFiller(Engine(model)).fill(Gap(TEXTS, 1), 1, 10_000, None)
    before, after = model.specials
    rows = [
        (before + model.ids([head.rstrip()], special=False)[0], model.ids([tail], special=False)[0] + after)
        for head, tail in TEXTS
    ]
    vocabulary = model.tokenizer.get_vocab()
    begins = [
        at for word, at in vocabulary.items()
        if (word.removeprefix("Ġ") if name == "roberta" else word).isalpha() and (name == "bert" or word[0] == "Ġ")
    ]  # fmt: skip
    with torch.inference_mode():
        logs = sum(
            plain_log_probabilities(model, [Row(head, (at,), tail) for at in begins]) / len(rows) for head, tail in rows
        )
    assert isinstance(logs, torch.Tensor)
    assert filling.score == pytest.approx(float(logs.max()), abs=1e-4)
    assert filling.texts == (model.tokenizer.decode([begins[int(logs.argmax())]]).strip(),)
    assert tokens == sum(len(head) + 1 + len(tail) for head, tail in rows)


def test_words_that_stood_in_the_gap_do_not_come_back(loaded: dict[str, LanguageModel]) -> None:
    filler = MaskFiller(Engine(loaded["bert"]))
    [first], _ = filler.fill(Gap(TEXTS, 2), 1, 10_000, None)
    barred = frozenset(first.texts[0].split())
    [second], _ = filler.fill(Gap(TEXTS, 2, barred), 1, 10_000, None)
    assert len(second.texts[0].split()) == 2
    assert not barred & set(second.texts[0].split())


def test_drawn_words_follow_the_seed(loaded: dict[str, LanguageModel]) -> None:
    filler = MaskFiller(Engine(loaded["roberta"]))
    drawn = [filler.fill(Gap(TEXTS, 3), 1, 10_000, seed)[0][0].texts for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_a_gap_beyond_the_budget_or_the_window_stays_open(
    loaded: dict[str, LanguageModel], sentinel: LanguageModel
) -> None:
    long = [("good " * 200, " bad")]
    for filler in (MaskFiller(Engine(loaded["bert"])), SentinelFiller(Engine(sentinel))):
        assert filler.fill(Gap(TEXTS, 2), 1, 20, None) == ([], 0)
        assert filler.fill(Gap(long, 2), 1, 10_000, None) == ([], 0)


# -- sentinels -------------------------------------------------------------------------------------


def exhaustive(
    model: LanguageModel, heads: list[tuple[int, ...]], ids: list[int], ends: int
) -> dict[tuple[int, ...], float]:
    """The mean log-probability of every text of one token, and of none, between two sentinels."""
    first = model.tokenizer.convert_tokens_to_ids("<extra_id_0>")
    found: dict[tuple[int, ...], float] = {}
    with torch.inference_mode():
        for text in [(), *((at,) for at in ids)]:
            whole = plain_log_probabilities(model, [Row(head, (first, *text, ends)) for head in heads])
            lead = plain_log_probabilities(model, [Row(head, (first,)) for head in heads])
            found[text] = float((whole - lead).mean())
    return found


def test_the_beam_finds_the_filling_that_is_likeliest_in_all_texts(sentinel: LanguageModel) -> None:
    filler = SentinelFiller(Engine(sentinel))
    filler.width = 400  # wide enough to hold every text of one token
    marks = [sentinel.tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in (0, 1)]
    heads = [
        (
            *sentinel.ids([head], special=False)[0],
            marks[0],
            *sentinel.ids([tail], special=False)[0],
            *sentinel.specials[1],
        )
        for head, tail in TEXTS
    ]
    size = len(sentinel.tokenizer)
    special = {*sentinel.tokenizer.all_special_ids, *(size - 1 - n for n in range(4))}
    every = exhaustive(sentinel, heads, [at for at in range(size) if at not in special], marks[1])
    readable = {text: score for text, score in every.items() if sentinel.tokenizer.decode(list(text)).strip()}
    best = sorted(readable, key=lambda text: -readable[text])[:5]
    fillings, _ = filler.fill(Gap(TEXTS, 1), 5, 10**6, None)
    assert [one.texts[0] for one in fillings] == [sentinel.tokenizer.decode(list(text)).strip() for text in best]
    assert [2 * one.score for one in fillings] == pytest.approx([readable[text] for text in best], abs=1e-3)


def test_two_gaps_are_written_in_their_order_and_within_their_length(sentinel: LanguageModel) -> None:
    engine = Engine(sentinel)
    three = [("The match ended.", " sports", " or so"), ("The bank raised its rates.", " money", " or so")]
    fillings, tokens = SentinelFiller(engine).fill(Gap(three, 3), 6, 10**6, None)
    assert fillings
    assert all(len(one.texts) == 2 and any(one.texts) for one in fillings)
    assert all(len(sentinel.ids([text], special=False)[0]) <= 4 for one in fillings for text in one.texts)
    assert all(math.isfinite(one.score) and "extra_id" not in "".join(one.texts) for one in fillings)
    assert engine.tokens == tokens


def test_the_beam_stops_at_the_budget(sentinel: LanguageModel) -> None:
    for budget in (60, 100, 400):
        _, tokens = SentinelFiller(Engine(sentinel)).fill(Gap(TEXTS, 8), 6, budget, None)
        assert tokens <= budget


# -- proposals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "roberta", "sentinel"])
def test_new_templates_and_instructions_keep_fields_and_answer(
    name: str, loaded: dict[str, LanguageModel], sentinel: LanguageModel, pool: tuple[Example, ...]
) -> None:
    desk = desk_of((loaded | {"sentinel": sentinel})[name], pool)
    before = known(BASELINE, OTHER)
    proposals = Infill(desk).propose(before, 6, 3)
    assert 0 < len(proposals.found) <= 6
    assert 0 < proposals.tokens <= desk.writer_tokens
    for one in proposals.found:
        assert GAP not in one.prompt.template + one.prompt.instruction
        assert len(re.findall(r"\{\{ (text|label) \}\}", one.prompt.template)) == 2
        assert objection(one.prompt, desk) is None
        parent = before[one.parents[0]].prompt
        kept = "instruction" if one.operator == "fill template" else "template"
        assert getattr(one.prompt, kept) == getattr(parent, kept)
    assert len({one.prompt for one in proposals.found}) == len(proposals.found)


def test_a_seed_gives_the_same_proposals_and_another_seed_others(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    def found(seed: int) -> list[str]:
        proposals = Infill(desk_of(loaded["llama"], pool, loaded["bert"])).propose(known(BASELINE, OTHER), 5, seed)
        return [one.prompt.fingerprint for one in proposals.found]

    assert found(1) == found(1)
    assert found(1) != found(2)


def test_demonstrations_stay_and_are_not_shown_to_the_model_that_fills(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    shown = tuple(Demonstration(example.fields, example.label) for example in pool[:2])
    infill = Infill(desk_of(loaded["llama"], pool, loaded["bert"]))
    with_them = infill.propose(known(replace(BASELINE, demonstrations=shown)), 4, 0)
    without = infill.propose(known(BASELINE), 4, 0)
    assert with_them.found
    assert all(one.prompt.demonstrations == shown for one in with_them.found)
    assert [one.prompt.instruction for one in with_them.found] == [one.prompt.instruction for one in without.found]


def test_nothing_is_proposed_where_nothing_can_be_filled(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    bare = Prompt("{{ text }} {{ label }}", LABELS)
    assert Infill(desk_of(loaded["bert"], pool)).propose(known(bare), 4, 0).found == ()
    assert Infill(desk_of(loaded["bert"], pool)).propose(known(BASELINE), 0, 0).found == ()
    assert Infill(desk_of(loaded["bert"], pool, writer_tokens=30)).propose(known(BASELINE), 4, 0).found == ()
