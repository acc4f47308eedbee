"""Edits of instructions and formats."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt, check_template
from autoprompt.propose import Desk, Known, Proposals, formats, phrases
from autoprompt.propose.checks import objection
from autoprompt.propose.edits import Edits
from autoprompt.scorer import Scorer
from autoprompt.space import Space

WORDS = {"sports": "sports", "money": "money", "weather": "weather"}
BASE = Prompt("{{ text }}\nTopic: {{ label }}", WORDS, "Read the text and name the topic that it has.")
TEMPLATES = [
    "{{ text }}\nTopic: {{ label }}",
    'Text: "{{ text }}"\nThis is about {{ label }}',
    "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}",
    "{{ instruction }}\nInput: {{ text }}\nOutput: {{ label }}.",
    "News: {{ text | trim }} -> {{ label }}",
    '"{{ text }}"\n{{ instruction }} {{ label }}',
    "{{text}}{{label}}",
]
PAIR = "Premise: {{ premise }}\nHypothesis: {{ hypothesis }}\nTrue? {{ label }}"
BLOCK = "{% if text %}Text: {{ text }}\n{% endif %}Topic: {{ label }}"
INSTRUCTIONS = [
    "",
    "Sports?",
    "Classify the text.\nOptions: sports, money, weather",
    "You read the news. Decide which topic the text has, and answer with one word.",
]
SEEDS = st.integers(0, 2**32)
ANY_TEXT = st.text(st.sampled_from("ab AB.,;:!?\n{}%'"), max_size=60) | st.sampled_from(INSTRUCTIONS)
EDITS = [formats.spaced, formats.punctuated, formats.instruction_moved, lambda g, t: formats.names_changed(g, t, {})]


@pytest.fixture(scope="module")
def desk(llama_folder: Path, topics_rows: list[dict[str, str]]) -> Desk:
    pool = tuple(Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(topics_rows))
    space = Space(BASE, templates=tuple(TEMPLATES), instructions=(BASE.instruction, *INSTRUCTIONS), pool=pool)
    return Desk(space, Scorer(load_model(str(llama_folder)), accuracy), pool)


@pytest.fixture(scope="module")
def known(desk: Desk) -> list[Known]:
    shown = tuple(Demonstration(example.fields, example.label) for example in desk.pool[:2])
    prompts = [
        BASE,
        replace(BASE, template=TEMPLATES[2], instruction=INSTRUCTIONS[3], demonstrations=shown),
        replace(BASE, instruction=INSTRUCTIONS[2], label_words={**WORDS, "money": "loan"}, calibration="content_free"),
        replace(BASE, template=TEMPLATES[1], instruction=""),
    ]
    return [Known(at + 3, prompt, 0.5, 0.0, 10) for at, prompt in enumerate(prompts)]


# -- the proposer ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(desk: Desk, known: list[Known]) -> Proposals:
    return Edits(desk).propose(known, 26, 1)


def test_as_many_children_come_as_are_wanted(found: Proposals) -> None:
    assert len(found.found) == 26
    assert found.tokens == 0


def test_children_are_distinct_and_new(found: Proposals, known: list[Known]) -> None:
    prompts = {proposal.prompt for proposal in found.found}
    assert len(prompts) == len(found.found)
    assert not prompts & {one.prompt for one in known}


def test_children_can_be_scored(found: Proposals, desk: Desk) -> None:
    assert [objection(proposal.prompt, desk) for proposal in found.found] == [None] * len(found.found)
    scores = desk.scorer.score([proposal.prompt for proposal in found.found[:4]], desk.pool[:2])
    assert len(scores) == 4


def test_children_name_their_parents_and_what_was_done(found: Proposals, known: list[Known]) -> None:
    numbers = {one.number for one in known}
    for proposal in found.found:
        assert set(proposal.parents) <= numbers
        assert len(proposal.parents) == (2 if proposal.operator.startswith("cross") else 1)


def test_a_batch_has_several_operators(found: Proposals, desk: Desk, known: list[Known]) -> None:
    assert len({proposal.operator for proposal in found.found}) >= 10
    assert len({proposal.operator for proposal in Edits(desk).propose(known, 4, 2).found}) == 4


def test_children_keep_the_fields_and_the_labels(found: Proposals) -> None:
    for proposal in found.found:
        assert proposal.prompt.fields == ("text",)
        assert proposal.prompt.labels == BASE.labels
        assert len(set(proposal.prompt.label_words.values())) == len(WORDS)


def test_the_answer_depends_on_the_seed_alone(found: Proposals, desk: Desk, known: list[Known]) -> None:
    again = Edits(Desk(desk.space, desk.scorer, desk.pool)).propose(known, 26, 1)
    assert again == found
    assert Edits(desk).propose(known, 26, 2) != found


def test_better_parents_have_more_children(desk: Desk) -> None:
    texts = [f"Name the topic, as number {at} says." for at in range(12)]
    known = [Known(at, replace(BASE, instruction=text), 0.5, 0.0, 10) for at, text in enumerate(texts)]
    parents = [p for seed in range(4) for child in Edits(desk).propose(known, 24, seed).found for p in child.parents]
    assert sum(p < 4 for p in parents) > 2 * sum(p >= 8 for p in parents)


def test_a_single_baseline_without_an_instruction_has_children(desk: Desk) -> None:
    bare = Known(0, replace(BASE, instruction=""), 0.5, 0.0, 10)
    assert len(Edits(desk).propose([bare], 8, 3).found) == 8


def test_a_template_with_statements_keeps_them(desk: Desk) -> None:
    one = Known(0, replace(BASE, template=BLOCK), 0.5, 0.0, 10)
    children = Edits(desk).propose([one], 12, 4).found
    assert children
    assert {child.prompt.template for child in children} == {BLOCK}


def test_nothing_is_made_of_nothing(desk: Desk, known: list[Known]) -> None:
    assert Edits(desk).propose([], 4, 0) == Proposals()
    assert Edits(desk).propose(known, 0, 0) == Proposals()


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_whatever_the_instructions_children_can_be_scored(desk: Desk, seed: int, texts: list[str]) -> None:
    known = [Known(at, replace(BASE, instruction=text), 0.5, 0.0, 10) for at, text in enumerate(texts)]
    children = Edits(desk).propose(known, 5, seed).found
    assert all(objection(child.prompt, desk) is None for child in children)
    assert len({child.prompt for child in children}) == len(children)


# -- phrases ---------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_phrases_and_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(phrases.phrases(text)) == text
    assert "".join(phrases.sentences(text)) == text


@given(SEEDS, ANY_TEXT, ANY_TEXT)
def test_every_edit_of_a_text_is_repeatable(seed: int, text: str, other: str) -> None:
    for edit in (
        phrases.deleted, phrases.swapped, phrases.reworded,
        lambda g, t: phrases.added(g, t, [other]),
        lambda g, t: phrases.replaced(g, t, [other]),
        lambda g, t: phrases.crossed(g, t, other),
    ):  # fmt: skip
        assert edit(random.Random(seed), text) == edit(random.Random(seed), text)


def drawn(edit: object, *arguments: object) -> set[str]:
    assert callable(edit)
    return {edit(random.Random(seed), *arguments) for seed in range(60)}


def test_lists_of_options_are_one_phrase() -> None:
    text = "Choose one of money, delivery, returns, sales."
    assert phrases.phrases(text) == ["Choose one ", "of money, delivery, returns, sales."]


def test_a_phrase_is_deleted_and_the_rest_is_a_sentence() -> None:
    found = drawn(phrases.deleted, BASE.instruction)
    assert found == {"Name the topic that it has.", "Read the text that it has.", "Read the text and name the topic."}


def test_sentences_are_swapped() -> None:
    assert drawn(phrases.swapped, "Read this. Name it.") == {"Name it. Read this."}


def test_a_sentence_is_added_at_any_place() -> None:
    found = drawn(phrases.added, "Read this. Name it.", ["Be brief. Name it."])
    assert found == {"Be brief. Read this. Name it.", "Read this. Be brief. Name it.", "Read this. Name it. Be brief."}


def test_a_phrase_is_replaced_by_one_of_its_kind() -> None:
    found = drawn(phrases.replaced, "Read the text and name it.", ["Look at this and sort it by topic."])
    assert found == {
        "Look at this and name it.",
        "Read the text and name it.",  # no phrase of the other ends a sentence with "and"
    }


def test_words_are_said_in_another_way_and_keep_their_case() -> None:
    found = drawn(phrases.reworded, "Classify it.")
    assert found == {"Categorize it.", "Sort it.", "Label it.", "Assign a label to it."}
    assert drawn(phrases.reworded, "PICK IT.") == {"CHOOSE IT.", "SELECT IT."}


def test_sentences_of_two_instructions_are_crossed() -> None:
    found = drawn(phrases.crossed, "One is here. Two is here.", "Three is here. One is here.")
    assert "One is here. Three is here." in found
    assert all(text.count("One is here.") <= 1 for text in found)


def test_label_words_are_renamed_only_where_all_are_named() -> None:
    new = {"sports": "money", "money": "cash", "weather": "sky"}
    assert phrases.renamed("Options: sports, money, weather", WORDS, new) == "Options: money, cash, sky"
    assert phrases.renamed("Is it sports?", WORDS, new) == "Is it sports?"


# -- formats ---------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from([*TEMPLATES, PAIR, BLOCK]), st.lists(st.sampled_from(EDITS), min_size=1, max_size=6))
def test_placeholders_survive_every_change_of_format(seed: int, template: str, edits: list) -> None:  # type: ignore[type-arg]
    fields = ("premise", "hypothesis") if template == PAIR else ("text",)
    generator, made = random.Random(seed), template
    for edit in edits:
        made = edit(generator, made)
    check_template(made, fields)
    values = {name: f"<{name} stands here>" for name in fields}
    context = Prompt(made, WORDS, "Do it.").render(values).context
    places = [context.index(value) for value in values.values()]
    assert places == sorted(places)
    assert context.count("Do it.") == 1
    if template == BLOCK:
        assert made == BLOCK


def test_names_of_fields_are_read_from_templates() -> None:
    found = formats.field_names(TEMPLATES)
    assert found["text"] == ["Text", "Input", "News"]
    assert found["label"] == ["Topic", "This is about", "Answer", "Output"]


def test_a_value_without_a_name_gets_one() -> None:
    found = drawn(formats.names_changed, "{{ text }}\n{{ label }}", {"text": ["News"]})
    assert {"News: {{ text }}\n{{ label }}", "{{ text }}\nCategory: {{ label }}"} <= found


def test_with_two_inputs_a_name_says_which_it_is() -> None:
    found = drawn(formats.names_changed, PAIR, {})
    assert not any(line.startswith(("Text", "Input")) for template in found for line in template.splitlines())


def test_the_instruction_moves_before_or_behind_the_input_and_out() -> None:
    found = drawn(formats.instruction_moved, "{{ text }}\nTopic: {{ label }}")
    assert {"{{ instruction }}\n{{ text }}\nTopic: {{ label }}", TEMPLATES[2].replace("Answer", "Topic")} <= found
    assert "{{ text }}\nAnswer: {{ label }}" in drawn(formats.instruction_moved, TEMPLATES[2])


def test_quotes_are_taken_off_where_they_are() -> None:
    assert drawn(formats.punctuated, 'Text: "{{ text }}"\nTopic: {{ label }}') == {
        "Text: {{ text }}\nTopic: {{ label }}"
    }
    assert 'Text: "{{ text }}" {{ label }}' in drawn(formats.punctuated, "Text: {{ text }} {{ label }}")
