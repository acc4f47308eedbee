"""Prompts that are answered by an option, a number, a likeness or a text: scored, learned, judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autoprompt.answer import ByLikeness, ByNumber, ByOption, ByText
from autoprompt.data import Example
from autoprompt.doctor.noise import noise_floor
from autoprompt.engine import Request, ScoreMemory
from autoprompt.errors import ModelError
from autoprompt.finetune import FinetuneOptions, finetune
from autoprompt.lesson import LikenessLesson, NumberLesson, OptionLesson, TextLesson, lesson_of
from autoprompt.metrics import Metric, Outcome
from autoprompt.metrics.builtin import METRICS
from autoprompt.models import LanguageModel, load_model
from autoprompt.models.base import common_length
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.verdict import details, exact_p, flips, judge, paired_interval
from autoprompt.written import answered_encodings

accuracy, mse, chrf, match = METRICS["accuracy"], METRICS["mse"], METRICS["chrf"], METRICS["match"]
OPTIONS = Prompt(
    "{{ question }}\n{{ options }}\nAnswer: {{ label }}", {"A": "A", "B": "B", "C": "C"}, answer=ByOption("options")
)
QUIZ = [
    Example(0, {"question": "Which is blue?", "options": "the sky\nsome grass"}, "A"),
    Example(1, {"question": "Which swims?", "options": "a stone\nthe carp\nthis chair"}, "B"),
    Example(2, {"question": "Which is hot?", "options": "snow\nan oven\nice"}, "B"),
]
NUMBERS = Prompt("{{ text }}\nStars: {{ label }}", {"0": "bad", "2.5": "fair", "5": "good"}, answer=ByNumber())
REVIEWS = [Example(at, {"text": f"It was {word}."}, value) for at, (word, value) in enumerate(
    [("great", "4.5"), ("awful", "0"), ("fine", "3"), ("so-so", "2.25")])]  # fmt: skip
TEXTS = Prompt("English: {{ text }}\nGerman: {{ label }}", {}, answer=ByText(tokens=5))
WORDS = [Example(0, {"text": "dog"}, "Hund"), Example(1, {"text": "cat"}, "Katze", ("Kater",)),
         Example(2, {"text": "tree"}, "Baum")]  # fmt: skip


@pytest.fixture(scope="module")
def model(llama_folder: Path) -> LanguageModel:
    return load_model(str(llama_folder), device="cpu")


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> LanguageModel:
    return load_model(str(encoder_folder), device="cpu")


# -- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["letters", "texts"])
def test_an_option_that_an_input_does_not_have_has_no_probability(model: LanguageModel, style: str) -> None:
    prompt = Prompt(OPTIONS.template, OPTIONS.label_words, answer=ByOption("options", style))  # type: ignore[arg-type]
    [score] = Scorer(model, accuracy).score([prompt], QUIZ)
    assert score.outcome.probabilities.shape == (3, 3)
    assert score.outcome.probabilities[0, 2] == 0
    assert (score.outcome.probabilities[1:] > 0).all()
    assert score.outcome.probabilities.sum(1) == pytest.approx(1)
    assert set(score.outcome.predictions) <= {"A", "B", "C"}
    assert np.isfinite(score.margins).all()


def test_options_score_the_same_alone_as_together(model: LanguageModel) -> None:
    [together] = Scorer(model, accuracy).score([OPTIONS], QUIZ)
    alone = [Scorer(model, accuracy).score([OPTIONS], [one])[0] for one in QUIZ]
    assert together.margins == pytest.approx(np.concatenate([one.margins for one in alone]), abs=1e-4)


def test_a_number_is_the_mean_of_the_labels_by_their_probabilities(model: LanguageModel) -> None:
    [score] = Scorer(model, mse).score([NUMBERS], REVIEWS)
    told = score.outcome.probabilities @ np.array([0, 2.5, 5])
    assert [float(text) for text in score.outcome.predictions] == pytest.approx(told)
    errors = told - np.array([4.5, 0, 3, 2.25])
    assert score.value == pytest.approx(float((errors**2).mean()))
    assert score.margins == pytest.approx(0.5 - (errors / 5) ** 2)
    assert score.losses == pytest.approx((errors / 5) ** 2)


def test_a_likeness_is_a_cosine_on_the_scale(encoder: LanguageModel) -> None:
    prompt = Prompt("{{ a }} {{ label }}", {}, answer=ByLikeness("{{ b }}", 0, 5))
    examples = [
        Example(0, {"a": "a dog barks", "b": "a dog barks"}, "5"),
        Example(1, {"a": "snow", "b": "a bill"}, "1"),
    ]
    scorer = Scorer(encoder, mse)
    [score] = scorer.score([prompt], examples)
    vectors = scorer.engine.embed([Request(e.context, ()) for e in encoder.encode(
        ["a dog barks", "snow", "a bill"], [()] * 3, [""] * 3, [None] * 3, 0)])  # fmt: skip
    assert float(score.outcome.predictions[0]) == pytest.approx(5, abs=1e-3)
    assert float(score.outcome.predictions[1]) == pytest.approx(5 * float(vectors[1] @ vectors[2]), abs=1e-3)
    assert score.outcome.probabilities.shape == (2, 0)


def test_a_text_is_written_read_and_scored_by_the_metric(model: LanguageModel) -> None:
    [score] = Scorer(model, chrf).score([TEXTS], WORDS)
    assert score.outcome.answers is not None
    assert len(score.outcome.answers) == 3
    assert score.value == pytest.approx(chrf(score.outcome))
    assert score.outcome.references == ((), ("Kater",), ())
    assert [row["text"] for row in score.outcome.rows] == ["dog", "cat", "tree"]
    assert (score.losses > 0).all()
    assert score.margins == pytest.approx(chrf.proxy(score.outcome) - 0.5 + 0.1 * np.exp(-score.losses))


def test_losses_are_those_of_scores_and_nothing_is_written_for_them(model: LanguageModel) -> None:
    other = Prompt("{{ text }} in German: {{ label }}", {}, answer=ByText(tokens=5))
    scorer, whole = Scorer(model, chrf), Scorer(model, chrf)
    found = scorer.losses([TEXTS, other], WORDS)
    scores = whole.score([TEXTS, other], WORDS)
    for losses, score in zip(found, scores, strict=True):
        assert losses == pytest.approx(score.losses, abs=1e-4)
    assert scorer.tokens < whole.tokens
    lengths = [len(e.context) + len(e.choices[0]) for e in answered_encodings(model, TEXTS, WORDS, 0)[0]]
    first = scorer.encode(TEXTS, [dict(e.fields) for e in WORDS[:2]])
    shared = common_length([e.context for e in first])
    assert scorer.work(TEXTS, WORDS, losses=True) == sum(lengths) - 2 * shared
    [labels] = Scorer(model, accuracy).losses([OPTIONS], QUIZ)
    assert labels == pytest.approx(Scorer(model, accuracy).score([OPTIONS], QUIZ)[0].losses, abs=1e-4)


def test_a_text_is_the_same_whatever_is_written_beside_it(model: LanguageModel) -> None:
    [together] = Scorer(model, chrf).score([TEXTS], WORDS)
    alone = [Scorer(model, chrf).score([TEXTS], [one])[0] for one in WORDS]
    assert together.outcome.predictions == [one.outcome.predictions[0] for one in alone]
    assert together.losses == pytest.approx(np.concatenate([one.losses for one in alone]), abs=1e-4)


def test_an_answer_that_cannot_be_read_is_none_and_wrong(model: LanguageModel) -> None:
    prompt = Prompt(TEXTS.template, {}, answer=ByText(tokens=4, read="regex:(\\d{9})"))
    [score] = Scorer(model, match).score([prompt], WORDS)
    assert score.outcome.answers == (None, None, None)
    assert score.value == 0


def test_what_ran_out_of_tokens_is_marked(model: LanguageModel) -> None:
    [short] = Scorer(model, chrf).score([Prompt(TEXTS.template, {}, answer=ByText(tokens=1))], WORDS)
    assert short.cut.all()
    [stopped] = Scorer(model, chrf).score(
        [Prompt(TEXTS.template, {}, answer=ByText(tokens=9, stop=("e", "a", " ")))], WORDS
    )
    assert not stopped.cut.all()


def test_texts_are_written_once_and_remembered(model: LanguageModel, tmp_path: Path) -> None:
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        scorer = Scorer(model, chrf, memory=memory)
        [first] = scorer.score([TEXTS], WORDS)
        tokens = scorer.tokens
        scorer.score([TEXTS], WORDS)
        assert scorer.tokens == tokens > 0
        assert scorer.work(TEXTS, WORDS) > 0
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        later = Scorer(model, chrf, memory=memory)
        [again] = later.score([TEXTS], WORDS)
        assert later.tokens == 0
    assert again.outcome.answers == first.outcome.answers
    assert again.margins == pytest.approx(first.margins)


def test_a_model_that_does_not_write_says_so(encoder: LanguageModel) -> None:
    with pytest.raises(ModelError, match="only causal and seq2seq models write"):
        Scorer(encoder, chrf).score([TEXTS], [Example(0, {"text": "dog"}, "")])


# -- what is learned -------------------------------------------------------------------------------


def test_every_kind_has_its_lesson(model: LanguageModel, encoder: LanguageModel) -> None:
    likeness = Prompt("{{ text }} {{ label }}", {}, answer=ByLikeness("{{ text }}", 0, 5))
    assert isinstance(lesson_of(model, OPTIONS, QUIZ), OptionLesson)
    assert isinstance(lesson_of(model, NUMBERS, REVIEWS), NumberLesson)
    assert isinstance(lesson_of(model, TEXTS, WORDS), TextLesson)
    assert isinstance(lesson_of(encoder, likeness, REVIEWS), LikenessLesson)


def test_the_option_lesson_reads_what_the_scorer_reads(model: LanguageModel) -> None:
    lesson = lesson_of(model, OPTIONS, QUIZ)
    [expected] = Scorer(model, accuracy).log_likelihoods([OPTIONS], QUIZ)
    with torch.no_grad():
        found = lesson.log_likelihoods(model, range(3))
    assert found.numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(lesson.loss(model, [0, 1, 2]))


@pytest.mark.model
@pytest.mark.parametrize("kind", ["option", "number", "text", "likeness"])
def test_training_lowers_the_loss_of_every_kind(model: LanguageModel, encoder: LanguageModel, kind: str) -> None:
    likeness = Prompt("{{ text }} {{ label }}", {}, answer=ByLikeness("It was fine.", 0, 5))
    prompt, examples, metric = {
        "option": (OPTIONS, QUIZ, accuracy),
        "number": (NUMBERS, REVIEWS, mse),
        "text": (TEXTS, WORDS, chrf),
        "likeness": (likeness, REVIEWS, mse),
    }[kind]
    own = encoder if kind == "likeness" else model

    def evaluate(now: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = Scorer(now, metric).score([prompt], examples)
        return -score.loss, 0.0

    options = FinetuneOptions("full" if kind == "likeness" else "lora", epochs=4, learning_rate=5e-3, patience=0)
    tuned = finetune(own, prompt, examples, evaluate, options)
    assert evaluate(tuned.model, tuned.prompt)[0] > evaluate(own, prompt)[0]


# -- the verdict -----------------------------------------------------------------------------------


def answered(*answers: str | None) -> Outcome:
    return Outcome(("a b", "c d", "e f", "g h"), np.empty((4, 0)), (), answers)


@pytest.mark.parametrize("metric", [match, chrf, METRICS["token_f1"]])
def test_texts_are_judged_in_pairs(metric: Metric) -> None:
    worse, better = answered("x", "x", "x", None), answered("a b", "c d", "e f", "x")
    low, high = paired_interval(metric, worse, better)
    assert low < metric(better) - metric(worse) <= high + 1e-9
    test, p = exact_p(metric, worse, better)
    assert 0 < p <= 1
    assert test
    assert paired_interval(metric, better, better) == (0.0, 0.0)
    assert exact_p(metric, better, better)[1] == 1
    assert judge(metric, worse, better, False).baseline == metric(worse)


def test_the_ledger_of_texts_counts_what_cannot_be_read_and_what_was_cut() -> None:
    told = details(match, answered("x", "x", "x", "x"), answered("a b", "x", None, "g h"), truncated=(1,))
    assert told.ledger == {"right": 2, "wrong": 1, "unparseable": 1, "truncated": 1, "too long": 0}
    assert told.classes == {}
    assert told.calibration == {}


def test_texts_are_gained_and_lost_by_what_they_are_worth() -> None:
    examples = [Example(at, {"text": str(at)}, label) for at, label in enumerate(("a b", "c d", "e f", "g h"))]
    token_f1 = METRICS["token_f1"]
    told = flips(token_f1, examples, answered("x", "c d", "e", "y"), answered("a b", "c", "e f", "z"))
    assert (told.gained, told.lost) == (2, 1)
    assert [row["turn"] for row in told.examples] == ["gained", "lost", "gained", "other"]
    assert told.examples[0]["shift"] == pytest.approx(1.0)


@pytest.mark.model
@pytest.mark.parametrize(("prompt", "examples", "metric"), [(TEXTS, WORDS, chrf), (NUMBERS, REVIEWS, mse),
                                                            (OPTIONS, QUIZ, accuracy)])  # fmt: skip
def test_the_noise_floor_of_any_answer_is_measured(
    model: LanguageModel, prompt: Prompt, examples: list[Example], metric: Metric
) -> None:
    found = noise_floor(Scorer(model, metric), prompt, examples, seed=1)
    assert found.level == "fine"
    assert found.details["floor"] == pytest.approx(0, abs=1e-3)
    assert found.details["ways"]["nothing shared"]["changed"] == 0
