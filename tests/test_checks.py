"""What may not be scored, and what is not new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.propose import Desk, Known, Proposal
from autoprompt.propose.checks import LONGEST, fresh, objection
from autoprompt.scorer import Scorer
from autoprompt.space import Space

WORDS = {"sports": "sports", "money": "money", "weather": "weather"}
BASE = Prompt("{{ text }}\nTopic: {{ label }}", WORDS, "Which topic does the text have?")


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(topics_rows))


@pytest.fixture(scope="module")
def desk(llama_folder: Path, pool: tuple[Example, ...]) -> Desk:
    space = Space(BASE, instructions=(BASE.instruction, "Is it about the match that ended two to one?"), pool=pool)
    return Desk(space, Scorer(load_model(str(llama_folder)), accuracy), pool)


@pytest.fixture(scope="module")
def uncased(bert_folder: Path, pool: tuple[Example, ...]) -> Desk:
    return Desk(Space(BASE, pool=pool), Scorer(load_model(str(bert_folder)), accuracy), pool)


def shown(examples: tuple[Example, ...]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(example.fields, example.label) for example in examples)


def told(desk: Desk, instruction: str) -> str | None:
    return objection(replace(BASE, instruction=instruction), desk)


def test_a_plain_prompt_has_no_objection(desk: Desk) -> None:
    assert objection(BASE, desk) is None
    assert told(desk, "") is None
    assert told(desk, "Sport, Geld oder Wetter? 👩‍🌾\nیک پاسخ") is None


def test_a_template_must_name_fields_that_there_are(desk: Desk) -> None:
    found = objection(replace(BASE, template="{{ body }}\nTopic: {{ label }}"), desk)
    assert found is not None
    assert "body" in found


def test_a_template_that_fails_when_it_is_rendered_is_refused(desk: Desk) -> None:
    found = objection(replace(BASE, template="{{ text + 1 }}\n{{ label }}"), desk)
    assert found is not None
    assert "cannot be rendered" in found


def test_a_template_must_show_an_input(desk: Desk) -> None:
    found = objection(replace(BASE, template="Topic: {{ label }}"), desk)
    assert found is not None
    assert "no input field" in found


def test_too_many_demonstrations_for_the_window_are_refused(desk: Desk, pool: tuple[Example, ...]) -> None:
    assert objection(replace(BASE, demonstrations=shown(pool[:1])), desk) is None
    found = objection(replace(BASE, demonstrations=shown(pool[:20])), desk)
    assert found is not None
    assert "160 tokens" in found


def test_where_inputs_are_always_cut_half_of_the_window_is_left_to_them(llama_folder: Path) -> None:
    pool = tuple(Example(at, {"text": f"{at} and so on " * 60}, "sports") for at in range(3))
    desk = Desk(Space(BASE), Scorer(load_model(str(llama_folder)), accuracy), pool)
    assert objection(BASE, desk) is None
    found = told(desk, "the team won and the price of the loan went up " * 5)
    assert found is not None
    assert "does not fit" in found


def test_checks_leave_the_record_of_shortened_inputs_alone(llama_folder: Path, pool: tuple[Example, ...]) -> None:
    desk = Desk(Space(BASE), Scorer(load_model(str(llama_folder)), accuracy), pool)
    objection(replace(BASE, demonstrations=shown(pool[:20])), desk)
    assert not desk.scorer.truncated


def test_label_words_must_be_different_tokens(uncased: Desk) -> None:
    found = objection(replace(BASE, label_words={**WORDS, "money": "Sports"}), uncased)
    assert found is not None
    assert "same tokens" in found


def test_a_long_instruction_is_refused_unless_the_space_has_one(desk: Desk) -> None:
    text = "a" * (LONGEST + 1)
    found = told(desk, text)
    assert found is not None
    assert "2,001 characters" in found
    wide = replace(desk, space=replace(desk.space, instructions=(text,)))
    assert "characters" not in (told(wide, text) or "")


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\u202e", "\ufeff", "\ue0a1", "\ufffd", "\r"])
def test_characters_that_nobody_can_read_are_refused(desk: Desk, sign: str) -> None:
    found = told(desk, f"Which{sign} topic?")
    assert found is not None
    assert f"U+{ord(sign):04X}" in found


@pytest.mark.parametrize(
    "instruction",
    [
        "Say the topic, e.g. of: THE GOALKEEPER saved -- a late penalty!",  # a whole text
        "Topics as in: the tax on petrol goes up",
        "It was said that the fans sang for ninety minutes and more.",
    ],
)
def test_training_texts_are_not_copied(desk: Desk, instruction: str) -> None:
    found = told(desk, instruction)
    assert found is not None
    assert "copies training text" in found


def test_eight_words_of_a_long_training_text_are_copied_and_seven_are_not(desk: Desk) -> None:
    text = "one two three four five six seven eight nine ten"
    more = replace(desk, pool=(*desk.pool, Example(99, {"text": text}, "money")))
    assert told(more, "See two three four five six seven eight.") is None
    found = told(more, "See two three four five six seven eight nine.")
    assert found is not None
    assert "'two three four five six seven eight nine'" in found


def test_a_copy_in_the_template_is_seen(desk: Desk) -> None:
    found = objection(replace(BASE, template="He asked for a mortgage.\n{{ text }}\n{{ label }}"), desk)
    assert found is not None
    assert "he asked for a mortgage" in found


def test_what_the_space_says_itself_is_allowed(desk: Desk) -> None:
    assert told(desk, "Is it about the match that ended two to one?") is None


def test_demonstrations_may_show_training_texts(desk: Desk, pool: tuple[Example, ...]) -> None:
    assert objection(replace(BASE, demonstrations=shown(pool[3:5])), desk) is None


def test_a_short_text_with_its_label_gives_an_answer_away(desk: Desk) -> None:
    more = replace(desk, pool=(*desk.pool, Example(99, {"text": "Late goal!"}, "sports")))
    found = told(more, 'Choose, e.g. "late goal" -> sports.')
    assert found is not None
    assert "'late goal sports'" in found
    assert told(more, 'Choose, e.g. "late goal" -> money.') is None


def test_label_words_that_are_inputs_too_may_be_listed(desk: Desk) -> None:
    pool = (*desk.pool, Example(99, {"text": "Money"}, "weather"), Example(100, {"text": "Sports"}, "money"))
    assert told(replace(desk, pool=pool), "Options: sports, money, weather") is None


def test_scripts_without_spaces_are_read_sign_by_sign(desk: Desk) -> None:
    more = replace(desk, pool=(*desk.pool, Example(99, {"text": "昨日の試合はとても面白かった。"}, "sports")))
    found = objection(replace(BASE, template="「昨日の試合はとても」{{ text }}{{ label }}"), more)
    assert found is not None
    assert "copies" in found


def test_a_prompt_without_a_pool_can_be_checked(llama_folder: Path) -> None:
    desk = Desk(Space(BASE), Scorer(load_model(str(llama_folder)), accuracy), ())
    assert objection(BASE, desk) is None


# -- what is new -----------------------------------------------------------------------------


def fresh_texts(desk: Desk, texts: list[str], count: int = 9) -> list[str]:
    known = [Known(0, BASE, 0.5, 0.0, 10)]
    proposals = [Proposal(replace(BASE, instruction=text), "edit") for text in texts]
    return [found.prompt.instruction for found in fresh(proposals, known, desk, count)]


def test_known_and_repeated_prompts_are_dropped_and_the_order_is_kept(desk: Desk) -> None:
    assert fresh_texts(desk, ["B?", "A?", BASE.instruction, "B?", "C?"]) == ["B?", "A?", "C?"]


def test_at_most_count_are_kept(desk: Desk) -> None:
    assert fresh_texts(desk, ["A?", "B?", "C?"], 2) == ["A?", "B?"]
    assert fresh_texts(desk, ["A?"], 0) == []


def test_case_and_spaces_of_an_instruction_make_no_new_prompt(desk: Desk) -> None:
    assert fresh_texts(desk, ["  which topic  does the text have? ", "Name it.", "name  it."]) == ["Name it."]


def test_capitals_and_line_breaks_are_another_format(desk: Desk) -> None:
    new = ["WHICH TOPIC DOES THE TEXT HAVE?", "Which topic\ndoes the text have?"]
    assert fresh_texts(desk, new) == new


def test_prompts_with_an_objection_are_dropped(desk: Desk) -> None:
    assert fresh_texts(desk, ["He asked for a mortgage.", "Name it."]) == ["Name it."]


def test_label_words_in_another_case_are_new_only_to_a_model_that_sees_case(desk: Desk, uncased: Desk) -> None:
    other = Proposal(replace(BASE, label_words={label: word.upper() for label, word in WORDS.items()}), "case")
    known = [Known(0, BASE, 0.5, 0.0, 10)]
    assert fresh([other], known, desk, 1) == (other,)
    assert fresh([other], known, uncased, 1) == ()
