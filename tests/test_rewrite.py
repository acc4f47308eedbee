"""propose/rewrite.py, propose/writing.py: instructions that a model writes, and what is read out of any text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.propose.base import Desk, Known
from autoprompt.propose.checks import objection
from autoprompt.propose.rewrite import Rewrite
from autoprompt.propose.writing import Pen, instruction_in, line_ends, writer_of
from autoprompt.scorer import Scorer
from autoprompt.space import Space

pytestmark = pytest.mark.model

LABELS = {"sports": "sports", "money": "money", "weather": "weather"}
BASELINE = Prompt("{{ text }}\nTopic: {{ label }}", LABELS, "Which topic does the text have?")
OTHERS = [
    replace(BASELINE, instruction="Name the topic of the text."),
    replace(BASELINE, instruction=""),
    replace(BASELINE, instruction="Is it about sports, money or weather?\nAnswer with one word."),
]
CHAT = (
    "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows))


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="module")
def builtin() -> LanguageModel:
    return load_model("builtin", device="cpu")


def desk_of(model: LanguageModel, pool: tuple[Example, ...], writer: LanguageModel | None = None, **given: int) -> Desk:
    space = Space(BASELINE, instructions=(BASELINE.instruction, "Choose the topic."), pool=pool)
    return Desk(space, Scorer(model, accuracy), pool, writer, **given)


def known(*prompts: Prompt) -> list[Known]:
    return [Known(n, prompt, 0.6 - n / 10, 0.0, 20) for n, prompt in enumerate(prompts)]


class Said(Pen):
    """A pen whose writer says what a test gives it; keeps what it was asked."""

    texts: tuple[str, ...] = ()
    asked: list[str] = []  # noqa: RUF012

    def write(self, contexts: object, new_tokens: int, seed: int) -> list[tuple[str, bool]]:
        assert isinstance(contexts, list)
        Said.asked += [self.engine.model.tokenizer.decode(list(ids)) for ids in contexts]
        return [(self.texts[n % len(self.texts)], False) for n in range(len(contexts))]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> type[Said]:
    monkeypatch.setattr("autoprompt.propose.rewrite.Pen", Said)
    monkeypatch.setattr(Said, "asked", [])
    return Said


# -- reading what was written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name the topic of the text.", "Name the topic of the text."),
        (' "Name the topic of the text." ', "Name the topic of the text."),
        ("1. **Name the topic of the text.**", "Name the topic of the text."),
        ("Sure! <INS>Name the topic.\n\nOne word.</INS> Good luck.", "Name the topic.\nOne word."),
        ("<ins>\nName the topic of it", "Name the topic of it"),
        ("<think>It should <INS>be this one here</INS></think>Name the topic of it.", "Name the topic of it."),
        ("Here is a new instruction:\n\nName the topic of it.\n\nIt is better.", "Name the topic of it."),
        ("New instruction: “Name the topic of it.”", "Name the topic of it."),
        ("**Instruction:** Name the topic of it.", "Name the topic of it."),
        ("Name the topic of it. Score: 80\nInstruction: Another one.", "Name the topic of it."),
        ('Say "sports" or "money" or "weather"', 'Say "sports" or "money" or "weather"'),
        ("```\nName the topic of it.\n```", "Name the topic of it."),
        ("3 topics are possible: name one.", "3 topics are possible: name one."),
        ("", ""),
        ("<INS></INS>", ""),
        ("no no no no no no no no", ""),
        ("{{ text }} is the text", ""),
        ("1234 5678 9012 3456", ""),
        ("Topic? Yes", ""),
        ("name the \ufffd\ufffd topic of it", ""),
        ("word " * 200, ""),
    ],
)
def test_the_instruction_is_found_in_what_was_written(text: str, expected: str) -> None:
    assert instruction_in(text) == expected


def test_of_a_text_that_was_cut_off_only_whole_sentences_count() -> None:
    assert instruction_in("Name the topic of it. Then say wh", cut=True) == "Name the topic of it."
    assert instruction_in("Name the topic and then say wh", cut=True) == ""
    assert instruction_in("<INS>Name the topic of it</INS> because th", cut=True) == "Name the topic of it"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='ab .:"\n<>/INS1*-{}`“”', max_size=80), st.booleans())
def test_any_text_gives_a_clean_instruction_or_none(text: str, cut: bool) -> None:
    found = instruction_in(text, cut)
    assert found == found.strip()
    assert not any(mark in found for mark in "{}<>")
    assert not found or len(found.split()) >= 3


# -- who writes ------------------------------------------------------------------------------------


def test_models_that_write_cover_and_others_do_not(
    loaded: dict[str, LanguageModel], encoder_folder: Path, pool: tuple[Example, ...]
) -> None:
    covered = {name for name, model in loaded.items() if Rewrite.covers(desk_of(model, pool))}
    assert covered == {"llama", "gpt2", "t5"}
    encoder = load_model(str(encoder_folder), device="cpu")
    assert not Rewrite.covers(desk_of(encoder, pool))
    assert writer_of(desk_of(encoder, pool, loaded["gpt2"])) is loaded["gpt2"]


def test_the_task_model_writes_on_its_own_engine_and_another_writer_on_one_of_its_own(
    loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    alone, helped = desk_of(loaded["llama"], pool), desk_of(loaded["bert"], pool, loaded["llama"])
    rewrite = Rewrite(helped)
    rewrite.propose(known(BASELINE), 3, 0)
    assert rewrite._engine.model is loaded["llama"]
    assert rewrite._engine.tokens > 0
    assert Rewrite(alone)._engine is alone.scorer.engine


# -- what is asked ---------------------------------------------------------------------------------


def test_scored_instructions_are_shown_in_ascending_order(
    builtin: LanguageModel, pool: tuple[Example, ...], said: type[Said]
) -> None:
    said.texts = ("Name the one topic that fits.",)
    proposals = Rewrite(desk_of(builtin, pool)).propose(known(BASELINE, *OTHERS), 3, 0)
    [text] = [text for text in said.asked if "were scored" in text][:1]
    places = [text.index(f"Score: {score}") for score in (30, 40, 50, 60, 73)]  # the last one is hoped for
    assert places == sorted(places)
    assert "Instruction: (empty)" in text
    assert "A higher score is better." in text
    assert proposals.found[0].prompt == replace(BASELINE, instruction="Name the one topic that fits.")
    opro = Rewrite(desk_of(builtin, pool)).propose(known(BASELINE, *OTHERS), 3, 0).found
    assert {one.parents for one in opro} <= {(0, 1, 2, 3), (0,), (0, 1, 3)}


def test_mistakes_are_shown_with_the_right_and_the_given_answer(
    builtin: LanguageModel, pool: tuple[Example, ...], said: type[Said]
) -> None:
    said.texts = ("It says nothing of the weather.",)
    scorer = Scorer(builtin, accuracy)
    Rewrite(replace(desk_of(builtin, pool), scorer=scorer)).propose(known(BASELINE), 4, 1)
    asked = [text for text in said.asked if "answered these inputs wrongly" in text]
    assert asked
    right = {example.fields["text"]: example.label for example in pool}
    [score] = scorer.score([BASELINE], pool)
    answers = dict(zip((e.fields["text"] for e in pool), score.outcome.predictions, strict=True))
    shown = [block.splitlines() for text in asked for block in text.split("\n\n") if "Right answer:" in block]
    assert shown
    for lines in shown:
        text = lines[0].removeprefix("Input text: ")
        assert lines[1] == f"Right answer: {right[text]}"
        assert lines[2] == f"Given answer: {answers[text]}" != f"Given answer: {right[text]}"
    changed = [text for text in said.asked if "review of its mistakes" in text]
    assert changed
    assert all("It says nothing of the weather." in text and "sports, money, weather" in text for text in changed)


def test_a_list_goes_on_with_instructions_of_the_space_and_of_the_search(
    builtin: LanguageModel, pool: tuple[Example, ...], said: type[Said]
) -> None:
    said.texts = ("Find the topic of it. Instruction: Something else here.",)
    found = Rewrite(desk_of(builtin, pool)).propose(known(BASELINE, *OTHERS), 3, 0).found
    lists = [text for text in said.asked if text.startswith("<") or text.startswith("Instruction:")]
    assert any(text.endswith("\nInstruction:") for text in lists)
    assert any("Instruction: Choose the topic." in text for text in lists)
    assert [one.prompt.instruction for one in found] == ["Find the topic of it."]  # the same thrice
    assert found[0].operator == "continue"
    assert found[0].parents == (0, 1, 3)


def test_a_model_with_a_chat_template_is_asked_in_its_frame(
    llama_folder: Path, builtin: LanguageModel, pool: tuple[Example, ...], said: type[Said]
) -> None:
    said.texts = ("<INS>Name the one topic that fits.</INS>",)
    writer = load_model("builtin", device="cpu")
    writer.tokenizer.chat_template = CHAT
    found = Rewrite(desk_of(builtin, pool, writer)).propose(known(BASELINE), 2, 0).found
    assert [one.operator for one in found] == ["opro"]
    assert all("<user>" in text and text.rstrip().endswith("<bot>") for text in said.asked)
    assert "between <INS> and </INS>" in said.asked[0]


def test_copies_of_training_text_and_known_instructions_are_refused(
    builtin: LanguageModel, pool: tuple[Example, ...], said: type[Said]
) -> None:
    said.texts = (f"Sort this: {pool[0].fields['text']}", OTHERS[0].instruction)
    assert Rewrite(desk_of(builtin, pool)).propose(known(BASELINE, *OTHERS), 4, 0).found == ()


# -- models that write nonsense --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_nonsense_gives_few_or_no_proposals_and_never_an_error(
    name: str, loaded: dict[str, LanguageModel], pool: tuple[Example, ...]
) -> None:
    desk = desk_of(loaded[name], pool)
    proposals = Rewrite(desk).propose(known(BASELINE, *OTHERS), 4, 0)
    assert len(proposals.found) <= 4
    assert proposals.tokens > 0
    assert all(objection(one.prompt, desk) is None for one in proposals.found)


@pytest.mark.model
def test_the_builtin_model_writes_within_its_budget_and_by_the_seed_alone(
    builtin: LanguageModel, pool: tuple[Example, ...]
) -> None:
    before = known(BASELINE, *OTHERS)
    first = Rewrite(desk_of(builtin, pool, writer_tokens=4000)).propose(before, 3, 1)
    again = Rewrite(desk_of(builtin, pool, writer_tokens=4000)).propose(before, 3, 1)
    assert first == again
    assert first.found
    assert {one.operator for one in first.found} <= {"continue", "opro", "reflect"}
    small = Rewrite(desk_of(builtin, pool, writer_tokens=600)).propose(before, 3, 2)
    assert small.tokens < first.tokens
    assert small.found != first.found


@pytest.mark.parametrize("name", ["llama", "builtin"])
def test_a_list_is_written_on_to_the_end_of_the_line(
    name: str, loaded: dict[str, LanguageModel], builtin: LanguageModel
) -> None:
    model = (loaded | {"builtin": builtin})[name]
    ends = line_ends(model)
    assert model.tokenizer.eos_token_id in ends
    assert model.ids(["\n"], special=False)[0][-1] in ends
    assert len(ends) < len(model.tokenizer) // 4
    pen = Pen(Engine(model), 1000, ends)
    asks = [ask for _ in range(4) if (ask := pen.fitting(lambda size: "Instruction: Sort it.\nInstruction:", 12))]
    assert all("\n" not in text for text, _ in pen.write([ids for ids, _ in asks], 12, 0))


@pytest.mark.parametrize("budget", [0, 200, 700, 3000])
def test_a_pen_never_gives_out_more_than_its_budget(budget: int, loaded: dict[str, LanguageModel]) -> None:
    pen = Pen(Engine(loaded["gpt2"]), budget)
    asks = []
    while (ask := pen.fitting(lambda size: "The bank raised its rates. " * size, 20)) is not None:
        asks.append(ask[0])
    assert pen.left >= 0
    pen.write(asks, 20, 1)
    assert sum(map(len, asks)) <= pen.tokens <= budget


def test_more_is_shown_where_there_is_room(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["gpt2"]
    one = len(model.ids(["The bank. " * 2], special=False)[0])

    def size(budget: int) -> int:
        found = Pen(Engine(model), budget).fitting(lambda size: "The bank. " * 2 * size, 20)
        return found[1] if found else 0

    assert [size(20 + part * one) for part in (0, 1, 2, 4, 6)] == [0, 1, 2, 4, 4]
    assert size(10**6) == 8
    long = Pen(Engine(model), 10**6).fitting(lambda size: "The bank. " * 10 * size, 20)
    assert long is not None
    assert len(long[0]) + 20 <= 160  # the window


def test_without_text_prompts_or_a_wish_nothing_is_written(builtin: LanguageModel, pool: tuple[Example, ...]) -> None:
    soft = replace(BASELINE, soft=SoftPart(np.zeros((2, 256), np.float32)))
    assert Rewrite(desk_of(builtin, pool)).propose(known(soft), 4, 0).found == ()
    assert Rewrite(desk_of(builtin, pool)).propose(known(BASELINE), 0, 0).tokens == 0
