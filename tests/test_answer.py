"""How prompts are answered: what they show, what they choose between, and how a written text is read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from autoprompt.answer import (
    ByLabel,
    ByLikeness,
    ByNumber,
    ByOption,
    ByText,
    answer_from,
    answer_to_dict,
    number_text,
    options_of,
)
from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt

LETTERS = {"A": "A", "B": "B", "C": "C"}
QUESTION = {"question": "Which is blue?", "options": "sky\ngrass"}


def by_option(style: str = "letters") -> Prompt:
    answer = ByOption("options", style)  # type: ignore[arg-type]
    return Prompt("{{ question }}\n{{ options }}\nAnswer: {{ label }}", LETTERS, answer=answer)


def by_text(**changes: object) -> Prompt:
    return Prompt("English: {{ text }}\nGerman: {{ label }}", {}, answer=ByText(**changes))  # type: ignore[arg-type]


def test_options_are_shown_with_letters_and_answered_by_them() -> None:
    shown = by_option().render(QUESTION)
    assert shown.context == "Which is blue?\nA. sky\nB. grass\nAnswer:"
    assert shown.answers == (" A", " B")


def test_options_are_answered_by_their_texts() -> None:
    shown = by_option("texts").render(QUESTION)
    assert shown.context == "Which is blue?\n- sky\n- grass\nAnswer:"
    assert shown.answers == (" sky", " grass")


@pytest.mark.parametrize(("style", "said"), [("letters", "Answer: B"), ("texts", "Answer: grass")])
def test_a_demonstration_shows_the_right_option_of_its_own(style: str, said: str) -> None:
    prompt = replace(by_option(style), demonstrations=(Demonstration(QUESTION, "B"),))
    assert prompt.render(QUESTION).context.startswith(
        prompt.render(QUESTION).context.split("Answer")[0] + said + "\n\n"
    )


def test_more_options_than_letters_are_refused() -> None:
    with pytest.raises(PromptError, match="An input has 4 options, and the prompt has 3 letters for them"):
        by_option().render({"question": "?", "options": "a\nb\nc\nd"})


def test_options_are_not_cut_to_fit() -> None:
    assert by_option().cut_fields == ("question",)
    assert by_option().fields == ("options", "question")


def test_a_number_is_shown_as_the_nearest_label() -> None:
    prompt = Prompt(
        "{{ text }} {{ label }}", {"0": "bad", "2.5": "fair", "5": "good"}, answer=ByNumber(),
        demonstrations=(Demonstration({"text": "x"}, "3.6"),),
    )  # fmt: skip
    assert prompt.render({"text": "y"}).context == "x fair\n\ny"
    assert prompt.render({"text": "y"}).answers == (" bad", " fair", " good")


def test_a_likeness_renders_what_the_input_is_compared_with() -> None:
    prompt = Prompt("{{ a }} {{ label }}", {}, answer=ByLikeness("query: {{ b }}", 0, 5))
    assert prompt.render({"a": "one", "b": "two"}).answers == (" query: two",)
    assert prompt.fields == ("a", "b")


def test_a_written_answer_has_no_candidates_and_stops_where_the_block_ends() -> None:
    prompt = replace(by_text(), demonstrations=(Demonstration({"text": "dog"}, "Hund"),))
    shown = prompt.render({"text": "cat"})
    assert shown.context == "English: dog\nGerman: Hund\n\nEnglish: cat\nGerman:"
    assert shown.answers == ()
    assert prompt.answered({"text": "cat"}, "Katze").answers == (" Katze",)
    assert prompt.stops == ("\n\n",)
    assert prompt.gap == " "
    assert replace(prompt, template="{{ text }} -> {{ label }}.\n").stops == (".\n", "\n\n")
    assert by_text(stop=("###",)).stops == ("###",)
    assert prompt.placeholder_text().endswith("English: {text}\nGerman: {label}")


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        ("text", "  a b \n", "a b"),
        ("line", "\n first \nsecond", "first"),
        ("line", " \n ", ""),
        ("number", "He has 3 and buys 4. #### 1,007", "1007"),
        ("number", "2 + 2 = 4 apples, said 7 people", "4"),
        ("number", "The answer is $3.50.", "3.5"),
        ("number", "about -2e3", "-2000"),
        ("number", "none at all", None),
        ("number", "9" * 400, None),
        ("json", '{"b": 1, "a": [2]}', '{"a": [2], "b": 1}'),
        ("json", "{'a': 1}", None),
        ("code", "x = 1\n", "x = 1\n"),
        ("regex:answer: (\\w+)", "so, answer: yes.", "yes"),
        ("regex:\\d+", "call 112 now", "112"),
        ("regex:(\\d+)", "no digit", None),
        ("labels", "Sports,  money.", "m, s"),
        ("labels", "none", "none"),
        ("labels", "sports, weather", None),
        ("labels", "", None),
    ],
)
def test_a_text_is_read_by_its_rule(read: str, text: str, expected: str | None) -> None:
    assert ByText(read=read).answer(text, {"s": "sports", "m": "money"}) == expected


def test_several_labels_are_shown_by_their_words() -> None:
    assert ByText(read="labels").shown({"s": "sports", "m": "money"}, {}, "m, s") == "money, sports"
    assert ByText(read="labels").shown({"s": "sports"}, {}, "none") == "none"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"read": "lines"}, "An answer is read as 'lines'; allowed are text, line.*Did you mean 'line'"),
        ({"read": "regex:("}, "is no regular expression"),
        ({"read": "xpath:a"}, "an expression stands behind 'regex:'"),
        ({"tokens": 0}, "must be at least 1"),
        ({"temperature": float("nan")}, "a finite number, 0 or above"),
        ({"form": ("xml", "")}, "allowed are regex and json"),
        ({"form": ("regex", "(")}, r"An answer has to match '\(', which is no regular expression"),
    ],
)
def test_what_is_no_way_to_answer_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(PromptError, match=said):
        ByText(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        ByLabel(),
        ByOption("choices", "texts"),
        ByNumber(),
        ByLikeness("{{ b }}", 0.0, 5.0),
        ByText(9, ("\n", "x"), 0.5, 3, ("regex", "\\d+"), "number"),
        ByText(),
    ],
)
def test_a_way_to_answer_survives_json(answer: ByLabel) -> None:
    assert answer_from(json.loads(json.dumps(answer_to_dict(answer)))) == answer


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ({"kind": "oracle"}, "oracle"),
        ({"kind": "text", "tokens": "9"}, "tokens of the answer is '9', not int"),
        ({"kind": "text", "tokens": True}, "tokens of the answer is True, not int"),
        ({"kind": "text", "stop": "x"}, "stop of the answer is 'x', not a list of texts"),
        ({"kind": "text", "form": ["regex"]}, "not a list of its kind and what has to be matched"),
        ({"kind": "option", "style": "icons"}, "Options are shown as 'icons'; allowed are letters, texts"),
        ({"kind": "option", "field": 1}, "field of the answer is 1, not str"),
        ({"kind": "likeness", "low": "0"}, "low of the answer is '0', not float"),
        ({"kind": "label", "more": 1}, "has the part 'more', which this version does not know"),
    ],
)
def test_a_damaged_way_to_answer_is_refused(damaged: dict[str, object], said: str) -> None:
    with pytest.raises((PromptError, LookupError), match=said):
        answer_from(damaged)


def test_a_prompt_that_is_answered_by_labels_keeps_its_fingerprint() -> None:
    prompt = Prompt("{{ text }}\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    assert "answer" not in prompt.to_dict()
    assert prompt.fingerprint == "667805df1fc23c91"


def test_a_prompt_with_another_answer_is_another_prompt_and_survives_json() -> None:
    prompt = by_option("texts")
    assert prompt.fingerprint != by_option().fingerprint
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt


def test_only_labels_that_all_inputs_share_can_be_calibrated() -> None:
    with pytest.raises(PromptError, match="answered by option; only answers by label words that all inputs share"):
        replace(by_option(), calibration="content_free")


def test_an_answer_by_label_needs_two_words() -> None:
    with pytest.raises(PromptError, match="A prompt needs at least two label words"):
        Prompt("{{ text }} {{ label }}", {})


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.5, "0.5"), (-2.0, "-2"), (1e20, "1e+20")])
def test_a_number_is_told_as_short_as_it_can_be(value: float, text: str) -> None:
    assert number_text(value) == text


def test_options_stand_one_a_line() -> None:
    assert options_of("a\n\n b \n") == ["a", "b"]
