"""finetune: texts that the prompt labels, examples that a model writes, and other prompts to train under."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.errors import ModelError, PromptError
from autoprompt.finetune import writing
from autoprompt.finetune.seen import Seen
from autoprompt.finetune.sheets import Sheet
from autoprompt.finetune.unlabelled import Pseudo, PseudoOptions, pseudo_labelled
from autoprompt.finetune.variants import variants
from autoprompt.finetune.writing import WritingOptions, Written, written_examples
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.propose.writing import Pen
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

WORDS = {"sports": "sports", "money": "money", "weather": "weather"}
PROMPT = Prompt("Text: {{ text }}\nTopic: {{ label }}", WORDS, "Which topic?")
LABELS = tuple(WORDS)
CHAT = (
    "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


def example(number: int, text: str, label: str = "?") -> Example:
    return Example(number, {"text": text}, label)


@pytest.fixture(scope="module")
def rows(topics_rows: list[dict[str, str]]) -> list[Example]:
    return [example(at, row["text"], row["topic"]) for at, row in enumerate(topics_rows)]


@pytest.fixture(scope="module")
def builtin() -> LanguageModel:
    return load_model("builtin", device="cpu")


# -- texts that the prompt labels ------------------------------------------------------------


class Told:
    """A scorer that is told P(label) of each text, as (label, P); the others share the rest."""

    def __init__(self, sure: dict[str, tuple[str, float]]) -> None:
        self.sure = sure
        self.asked: list[str] = []

    def log_likelihoods(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Any]:
        self.asked += [one.fields["text"] for one in examples]
        rows = np.empty((len(examples), len(LABELS)))
        for row, one in zip(rows, examples, strict=True):
            label, share = self.sure[one.fields["text"]]
            row[:] = math.log((1 - share) / (len(LABELS) - 1))
            row[LABELS.index(label)] = math.log(share)
        return [rows] * len(prompts)


class Made:
    """Dev and texts with constructed predictions."""

    def __init__(self) -> None:
        self.scorer = Told({})
        self.dev: list[Example] = []
        self.texts: list[Example] = []

    def add(self, kind: list[Example], count: int, share: float, right: float = 1.0) -> Made:
        for at in range(count):
            label = LABELS[at % len(LABELS)]
            one = example(len(kind), f"{'dev' if kind is self.dev else 'new'} {share} {at}", label)
            wrong = LABELS[(at + 1) % len(LABELS)]
            # the wrong ones are spread over the group
            told = label if math.floor((at + 1) * right) > math.floor(at * right) else wrong
            self.scorer.sure[one.fields["text"]] = (told, share)
            kind.append(one)
        return self

    def labelled(self, options: PseudoOptions | None = None, seed: int = 0, train: Sequence[Example] = ()) -> Pseudo:
        hidden = [replace(one, label="?") for one in self.texts]
        return pseudo_labelled(cast(Scorer, self.scorer), PROMPT, hidden, self.dev, options, seed, train)


@pytest.fixture
def made() -> Made:
    """Of dev, 60 sure predictions are right and 60 unsure ones half; 30 texts of each kind."""
    made = Made()
    made.add(made.dev, 60, 0.9).add(made.dev, 60, 0.5, right=0.5)
    return made.add(made.texts, 30, 0.9).add(made.texts, 30, 0.5)


def test_the_threshold_is_the_lowest_one_that_is_good_enough_on_dev(made: Made) -> None:
    found = made.labelled()
    assert {one.fields["text"].split()[1] for one in found.examples} == {"0.9"}
    assert found.record["kept"] == 30
    assert found.record["refused"]["unsure"] == 30
    assert (found.record["dev_accuracy"], found.record["dev_coverage"]) == (1.0, 0.5)
    assert 0.95 < found.record["dev_bound"] < 1.0


def test_a_lower_aim_keeps_more(made: Made) -> None:
    found = made.labelled(PseudoOptions(precision=0.65))
    assert found.record["kept"] == 60
    assert (found.record["dev_accuracy"], found.record["dev_coverage"]) == (0.75, 1.0)


def test_a_small_dev_has_to_be_better_than_the_aim() -> None:
    kept = {}
    for size in (12, 60):
        small = Made()
        kept[size] = small.add(small.dev, size, 0.9).add(small.texts, 9, 0.9).labelled().record["kept"]
    assert kept == {12: 0, 60: 9}  # 12 right ones of 12 do not show that 9 of 10 are


def test_a_prompt_that_cannot_separate_keeps_nothing_and_reads_no_text() -> None:
    made = Made()
    made.add(made.dev, 90, 0.5, right=1 / 3).add(made.texts, 20, 0.99)
    found = made.labelled()
    assert found.examples == ()
    assert (found.record["threshold"], found.record["dev_coverage"]) == (None, 0.0)
    assert found.record["refused"]["unsure"] == 20
    assert len(made.scorer.asked) == 90


def test_without_dev_nothing_is_kept() -> None:
    made = Made()
    assert made.add(made.texts, 5, 0.99).labelled().examples == ()


def test_labels_are_those_of_the_prompt_and_numbers_go_on(made: Made) -> None:
    train = [example(500 + at, f"old {at}", label) for at, label in enumerate(LABELS)]
    found = made.labelled(train=train).examples
    assert all(one.label == made.scorer.sure[one.fields["text"]][0] for one in found)
    assert [one.number for one in found] == list(range(503, 503 + len(found)))
    assert len(found) == 30


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_of_dev_is_found(factor: float) -> None:
    generator = np.random.default_rng(1)
    logs = generator.normal(0, 1.5, (3000, 3))
    shares = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    gold = [LABELS[generator.choice(3, p=row)] for row in shares]

    class Scaled(Told):
        def log_likelihoods(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Any]:
            return [factor * logs]

    dev = [example(at, f"text {at}", label) for at, label in enumerate(gold)]
    found = pseudo_labelled(cast(Scorer, Scaled({})), PROMPT, [], dev)
    assert found.record["temperature"] == pytest.approx(factor, rel=0.1)


def test_no_text_of_train_or_dev_or_the_prompt_is_kept_nor_any_twice(made: Made) -> None:
    long = "the bank on the corner of the market square raised its rates for the third time this year again"
    train = [example(0, long, "money")]
    shown = replace(PROMPT, demonstrations=(Demonstration({"text": "Shown to the model."}, "money"),))
    texts = ["DEV  0.9 0", long + " and again", "shown to the model", "A new one", "a NEW one", " ", "Another new one"]
    made.scorer.sure.update(dict.fromkeys(texts, ("money", 0.95)))
    hidden = [example(at, text) for at, text in enumerate(texts)]
    found = pseudo_labelled(cast(Scorer, made.scorer), shown, hidden, made.dev, train=train)
    assert [one.fields["text"] for one in found.examples] == ["A new one", "Another new one"]
    refused = {reason: count for reason, count in found.record["refused"].items() if count}
    assert refused == {"empty": 1, "duplicate": 2, "near_duplicate": 2}


def test_no_label_gets_far_more_examples_than_the_rarest() -> None:
    made = Made()
    made.add(made.dev, 60, 0.9)
    for at in range(50):
        text = f"all of one label {at}"
        made.texts.append(example(at, text))
        made.scorer.sure[text] = ("money", 0.95)
    train = [example(at, f"old {at}", LABELS[at % 3]) for at in range(30)]
    found = made.labelled(train=train)
    assert found.record["labels"] == {"sports": 0, "money": 10, "weather": 0}  # 10 + 10 are twice 10
    assert found.record["refused"]["class_full"] == 40


def test_what_is_too_much_is_taken_from_the_label_that_has_most(made: Made) -> None:
    train = [example(at, f"old {at}", "sports") for at in range(4)]
    found = made.labelled(PseudoOptions(most=8), train=train)
    assert found.record["labels"] == {"sports": 0, "money": 4, "weather": 4}
    assert found.record["refused"]["most"] == 22
    assert made.labelled(PseudoOptions(per_class=2)).record["labels"] == dict.fromkeys(LABELS, 2)


def test_the_same_seed_keeps_the_same_texts(made: Made) -> None:
    options = PseudoOptions(most=12)
    assert made.labelled(options, 1) == made.labelled(options, 1)
    assert made.labelled(options, 1).examples != made.labelled(options, 2).examples


@pytest.mark.parametrize("name", ["llama", "t5", "bert", "encoder"])
def test_every_family_labels_and_the_counts_add_up(
    name: str, rows: list[Example], model_folders: dict[str, Path], encoder_folder: Path
) -> None:
    scorer = Scorer(load_model(str({**model_folders, "encoder": encoder_folder}[name]), device="cpu"), accuracy)
    texts = [*rows[30:], rows[0]]
    found = pseudo_labelled(scorer, PROMPT, texts, rows[:30], PseudoOptions(precision=0.2), train=())
    record = json.loads(json.dumps(found.record))
    assert record == found.record
    assert record["read"] == 31 == record["kept"] + sum(record["refused"].values())
    assert record["kept"] == len(found.examples) == sum(record["labels"].values())
    assert record["refused"]["duplicate"] == 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=14), max_size=12))
def test_near_duplicates_are_just_those_above_four_fifths(texts: list[list[str]]) -> None:
    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}

    seen = Seen()
    for at, words in enumerate(texts):
        before = texts[:at]
        near = any(len(runs(words) & runs(o)) > 0.8 * len(runs(words) | runs(o)) + 1e-9 for o in before)
        expected = "duplicate" if words in before else "near_duplicate" if near else ""
        assert seen.like({"text": " ".join(words)}) == expected
        seen.add({"text": " ".join(words)})


def test_inputs_of_several_fields_are_compared_whole() -> None:
    seen = Seen([Example(0, {"a": "one two", "b": "three"}, "x")])
    assert seen.like({"b": "THREE", "a": "one  two"}) == "duplicate"
    assert seen.like({"a": "one", "b": "two three"}) == ""
    assert Seen([example(0, "!!!")]).like({"text": "???"}) == ""


# -- examples turned round ---------------------------------------------------------------------

TWO = {"p": "good", "n": "bad"}


@pytest.mark.parametrize(
    ("template", "head", "body"),
    [
        ("{{ text }}\nLabel: {{ label }}", "Label: good\n", "Text: Nice."),
        ("Message: {{ text }}\nTeam: {{ label }}", "Team: good\n", "Message: Nice."),
        ('"{{ text }}"\nThis is about {{ label }}', "This is about good\n", '"Nice."'),
        ("{{ text }} It was {{ label }}.", "It was good.\n", "Text: Nice."),
        ("{{ text }}\n{{ instruction }}\nAnswer: {{ label }}", "Answer: good\n", "Text: Nice."),
        ("Message: {{ text }} -> {{ label }}", "Label: good\n", "Message: Nice."),
        ("{{ label }}: {{ text }}", "good:\n", "Text: Nice."),
        ("Answer: {{ label }}\nInput: {{ text }}", "Answer: good\n", "Input: Nice."),
        ("{{ text }} {{ text }}\nTone: {{ label }}", "Tone: good\n", "Text: Nice."),
    ],
)
def test_the_label_stands_first_in_the_words_of_the_template(template: str, head: str, body: str) -> None:
    sheet = Sheet.of(Prompt(template, TWO, "Is it?"))
    text = sheet.beginning("p", [example(0, "Nice.", "p")])
    opening = body.partition("Nice.")[0].rstrip()
    assert text == f"{head}{body}\n\n{head}{opening}"
    assert sheet.read(f"{body}\nMore.") == {"text": "Nice."}
    assert sheet.read(" Nice." + body.partition("Nice.")[2]) == {"text": "Nice."}


def test_several_fields_have_a_line_each() -> None:
    sheet = Sheet.of(Prompt("{{ a }} and {{ b }}?\nSame: {{ label }}", TWO))
    shown = [Example(0, {"a": "It\nrains.", "b": "Wet."}, "p")]
    assert sheet.beginning("p", shown) == "Same: good\na: It rains.\nb: Wet.\n\nSame: good\na:"
    assert sheet.read(" It snows.\nb: 'Cold.'\n\nSame: good\na: no") == {"a": "It snows.", "b": "Cold."}
    assert sheet.read("A: It snows.") == {"a": "It snows.", "b": ""}
    assert "as lines a: ..., b: ..." in sheet.request("p", shown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Here is another input:\n\n"It\'s fine."', "It's fine."),
        ("<think>Hm.\nYes.</think>\nText: Fine by me.", "Fine by me."),
        ("", ""),
        ("\n \n", ""),
    ],
)
def test_what_is_said_around_an_input_is_left_out(text: str, expected: str) -> None:
    assert Sheet.of(Prompt("Text: {{ text }}\nTone: {{ label }}", TWO)).read(text) == {"text": expected}


# -- examples that a model writes ------------------------------------------------------------------


class Said(Pen):
    """A pen whose writer says what a test gives it."""

    texts: tuple[tuple[str, bool], ...] = ()
    asked: list[str] = []  # noqa: RUF012

    def write(self, contexts: Sequence[Any], new_tokens: int, seed: int) -> list[tuple[str, bool]]:
        Said.asked += [self.engine.model.tokenizer.decode(list(ids)) for ids in contexts]
        return [self.texts[at % len(self.texts)] for at in range(len(contexts))]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> type[Said]:
    monkeypatch.setattr(writing, "Pen", Said)
    monkeypatch.setattr(Said, "asked", [])
    return Said


def wrote(said: type[Said], scorer: Scorer, pool: list[Example], *texts: str, cut: bool = False) -> Written:
    said.texts = tuple((text, cut) for text in texts)
    return written_examples(scorer, PROMPT, pool, WritingOptions(per_label=1, rounds=1, agreement=0.0), dev=DEV)


DEV = [example(100, "The pound lost a little against the dollar today.", "money")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("...", "empty"),
        ("Hm.", "too_short"),
        ("The bank, " * 12, "too_long"),
        ("no no no no no no no no", "loops"),
        ("The bank  RAISED its rates.", "duplicate"),
        ("The pound lost a little against the dollar today", "near_duplicate"),
        ("They spent their money on a car.", "giveaway"),
        ("They spend all of it on a car.", ""),
    ],
)
def test_what_is_refused_is_counted_by_its_reason(
    text: str, reason: str, said: type[Said], rows: list[Example], builtin: LanguageModel
) -> None:
    pool = [one for one in rows if one.label == "money"]  # of other labels nothing can be shown, or asked
    found = wrote(said, Scorer(builtin, accuracy), pool, text)
    refused = {name for name, count in found.record["refused"].items() if count}
    assert refused <= {reason, "disagreement"}
    assert (reason in refused) == bool(reason)
    assert found.record["asked"] == 1 == found.record["kept"] + sum(found.record["refused"].values())


def test_a_text_that_was_cut_off_is_refused(said: type[Said], rows: list[Example], builtin: LanguageModel) -> None:
    found = wrote(said, Scorer(builtin, accuracy), rows, "It would go on and on", cut=True)
    assert found.record["refused"]["too_long"] == 3


def test_a_word_that_training_texts_say_too_gives_nothing_away(said: type[Said], builtin: LanguageModel) -> None:
    pool = [example(at, f"My money went to bank number {at} today.", "money") for at in range(4)]
    found = wrote(said, Scorer(builtin, accuracy), pool, "All of the money is in my bank.")
    assert found.record["refused"]["giveaway"] == 0


def test_the_prompt_has_to_agree_with_the_label(said: type[Said], rows: list[Example], builtin: LanguageModel) -> None:
    scorer = Scorer(builtin, accuracy)
    said.texts = (("Shares of the bank fell by four percent.", False),)
    found = written_examples(scorer, PROMPT, rows, WritingOptions(per_label=1, rounds=1))
    # the same text for three labels: the first is asked for, the others repeat it
    [score] = scorer.score([PROMPT], [example(0, "Shares of the bank fell by four percent.", "sports")])
    assert score.outcome.predictions[0] == "money"
    assert (found.examples, found.record["refused"]["disagreement"]) == ((), 1)
    pool = [one for one in rows if one.label == "money"]
    [kept] = written_examples(scorer, PROMPT, pool, WritingOptions(per_label=1, rounds=1, agreement=0.4)).examples
    assert (kept.label, kept.number) == ("money", max(one.number for one in pool) + 1)
    assert written_examples(scorer, PROMPT, pool, WritingOptions(per_label=1, agreement=1.1)).examples == ()


def test_only_training_examples_of_the_label_are_shown(
    said: type[Said], rows: list[Example], builtin: LanguageModel
) -> None:
    said.texts = (("", False),)
    written_examples(Scorer(builtin, accuracy), PROMPT, rows[:40], WritingOptions(3, 2), dev=rows[40:])
    assert len(said.asked) == 18
    for text in said.asked:
        label = text.rpartition("Topic: ")[2].split()[0]
        found = {one.label for one in rows[:40] if one.fields["text"] in text}
        assert found == {label}
        assert not any(one.fields["text"] in text for one in rows[40:])


def test_a_model_that_answers_is_asked_for_an_input(said: type[Said], rows: list[Example]) -> None:
    model = load_model("builtin", device="cpu")
    model.tokenizer = copy.deepcopy(model.tokenizer)
    model.tokenizer.chat_template = CHAT
    said.texts = (("", False),)
    pool = [one for one in rows if one.label == "money"]
    written_examples(Scorer(model, accuracy), PROMPT, pool, WritingOptions(1, 1, shown=2))
    assert said.asked
    assert all("Write nothing but the input." in text and text.endswith("<bot>") for text in said.asked)


@pytest.fixture(scope="module")
def real(rows: list[Example], builtin: LanguageModel) -> Written:
    return written_examples(Scorer(builtin, accuracy), PROMPT, rows[:40], WritingOptions(4, 2), 3, dev=rows[40:])


def test_the_builtin_model_writes_and_the_counts_add_up(real: Written, rows: list[Example]) -> None:
    record = json.loads(json.dumps(real.record))
    assert record == real.record
    assert 12 <= record["asked"] <= 24
    assert record["asked"] == record["kept"] + sum(record["refused"].values())
    assert record["kept"] == len(real.examples) == sum(record["labels"].values())
    assert 0 < record["tokens"] <= WritingOptions().tokens
    seen = Seen(rows)
    assert not any(seen.like(one.fields) for one in real.examples)
    assert all(count <= 4 for count in Counter(one.label for one in real.examples).values())


def test_the_same_seed_writes_the_same(real: Written, rows: list[Example], builtin: LanguageModel) -> None:
    scorer = Scorer(builtin, accuracy)
    again = written_examples(scorer, PROMPT, rows[:40], WritingOptions(4, 2), 3, dev=rows[40:])
    assert again == real


def test_no_more_tokens_are_used_than_allowed(rows: list[Example], builtin: LanguageModel) -> None:
    found = written_examples(Scorer(builtin, accuracy), PROMPT, rows, WritingOptions(4, 2, tokens=600))
    assert 0 < found.record["tokens"] <= 600
    assert found.record["asked"] < 24
    none = written_examples(Scorer(builtin, accuracy), PROMPT, rows, WritingOptions(4, 2, tokens=5))
    assert (none.record["asked"], none.record["tokens"], none.examples) == (0, 0, ())


@pytest.mark.parametrize("name", ["bert", "encoder"])
def test_a_model_that_cannot_write_says_so_and_another_one_writes_for_it(
    name: str, rows: list[Example], model_folders: dict[str, Path], encoder_folder: Path
) -> None:
    scorer = Scorer(load_model(str({**model_folders, "encoder": encoder_folder}[name]), device="cpu"), accuracy)
    with pytest.raises(ModelError, match=r"cannot write examples; causal and seq2seq models can\. Name one"):
        written_examples(scorer, PROMPT, rows)
    writer = load_model(str(model_folders["llama"]), device="cpu")
    found = written_examples(scorer, PROMPT, rows, WritingOptions(1, 1), writer=writer)
    assert found.record["asked"] == 3


@pytest.mark.parametrize("prompt", [PROMPT, replace(PROMPT, soft=SoftPart(np.ones((2, 32), np.float32)))])
def test_an_encoder_decoder_and_soft_prompts_write_too(prompt: Prompt, rows: list[Example], t5_folder: Path) -> None:
    scorer = Scorer(load_model(str(t5_folder), device="cpu"), accuracy)
    record = written_examples(scorer, prompt, rows, WritingOptions(1, 1)).record
    assert record["asked"] == 3 == record["kept"] + sum(record["refused"].values())


# -- other prompts to train under ------------------------------------------------------------------

SHOWN = replace(
    PROMPT,
    demonstrations=tuple(
        Demonstration({"text": f"Shown {at}."}, LABELS[at]) for at in range(3)
    ),
)  # fmt: skip


def test_variants_are_distinct_and_never_the_prompt(rows: list[Example]) -> None:
    found = variants(SHOWN, rows, ["demonstrations", "formats"], 24, 5)
    assert len(found) == 24 == len({one.fingerprint for one in found})
    assert SHOWN not in found
    assert found == variants(SHOWN, rows, ["demonstrations", "formats"], 24, 5)
    assert found != variants(SHOWN, rows, ["demonstrations", "formats"], 24, 6)


def test_demonstrations_are_none_fewer_others_or_in_another_order(rows: list[Example]) -> None:
    found = variants(SHOWN, rows, ["demonstrations"], 40)
    assert {replace(one, demonstrations=SHOWN.demonstrations) for one in found} == {SHOWN}
    assert {len(one.demonstrations) for one in found} == {0, 1, 2, 3}
    known = {(one.fields["text"], one.label) for one in rows}
    shown = {(d.fields["text"], d.label) for d in SHOWN.demonstrations}
    sets = [{(d.fields["text"], d.label) for d in one.demonstrations} for one in found]
    assert all(one <= known or one <= shown for one in sets)
    assert shown in sets
    assert all(len(one) == len(prompt.demonstrations) for one, prompt in zip(sets, found, strict=True))


def test_a_prompt_without_demonstrations_gets_a_few(rows: list[Example]) -> None:
    found = variants(PROMPT, rows, ["demonstrations"], 20)
    assert {len(one.demonstrations) for one in found} == {1, 2, 3, 4}


def test_formats_keep_fields_words_and_demonstrations(rows: list[Example]) -> None:
    two = replace(SHOWN, template="A: {{ text }}\nB: {{ more }}\nTopic: {{ label }}", demonstrations=())
    for prompt in (SHOWN, two):
        found = variants(prompt, rows, ["formats"], 30)
        assert len(found) == 30
        for one in found:
            assert (one.fields, one.label_words) == (prompt.fields, prompt.label_words)
            assert one.demonstrations == prompt.demonstrations
            assert one.instruction.casefold() == prompt.instruction.casefold()
            one.render(dict.fromkeys(one.fields, "x"))


def test_an_instruction_that_names_the_answers_keeps_its_case(rows: list[Example]) -> None:
    prompt = replace(PROMPT, instruction="Is it sports, money or weather?")
    assert {one.instruction for one in variants(prompt, rows, ["formats"], 30)} == {prompt.instruction}


def test_a_soft_prompt_varies_its_demonstrations_only(rows: list[Example]) -> None:
    soft = replace(SHOWN, soft=SoftPart(np.ones((2, 4), np.float32), "example"))
    assert variants(soft, rows, ["formats"], 5) == ()
    found = variants(soft, rows, ["formats", "demonstrations"], 5)
    assert {replace(one, demonstrations=soft.demonstrations) for one in found} == {soft}
    assert len(found) == 5


def test_a_prompt_that_retrieves_goes_on_retrieving(rows: list[Example]) -> None:
    pool = tuple(Demonstration(one.fields, one.label) for one in rows)
    prompt = replace(PROMPT, retrieval=Retrieval(pool, 3))
    found = variants(prompt, rows, ["demonstrations", "formats"], 8)
    assert len(found) == 8
    assert all(one.retrieval is not None and one.retrieval.pool == pool for one in found)
    numbers = {one.retrieval.number for one in variants(prompt, rows, ["demonstrations"], 8) if one.retrieval}
    assert numbers == {1, 2}


def test_variants_that_do_not_exist_are_not_made_up(rows: list[Example]) -> None:
    assert len(variants(PROMPT, rows[:1], ["demonstrations"], 9)) == 1
    assert variants(PROMPT, rows, [], 3) == variants(PROMPT, rows, ["formats"], 0) == ()
    with pytest.raises(PromptError, match=r"kind of variant 'format'; allowed are demonstrations, formats\. Did you"):
        variants(PROMPT, rows, cast(Any, ["format"]), 3)
