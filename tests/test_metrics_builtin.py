"""The built-in metrics against the libraries and programs that define them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats
from sklearn import metrics as sk

from autoprompt.errors import MetricError
from autoprompt.metrics import Metric, Outcome
from autoprompt.metrics.builtin import METRICS


def written(
    targets: Sequence[str],
    answers: Sequence[str | None],
    references: Sequence[tuple[str, ...]] = (),
    labels: tuple[str, ...] = (),
) -> Outcome:
    return Outcome(tuple(targets), np.zeros((len(targets), 0)), labels, tuple(answers), tuple(references))


def drawn(seed: int = 0, size: int = 200, classes: str = "abcd") -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    targets = generator.choice(list(classes), size, p=[0.6, 0.25, 0.1, 0.05])
    predictions = np.where(generator.random(size) < 0.6, targets, generator.choice(list(classes), size))
    return targets.tolist(), predictions.tolist()


# -- labels ----------------------------------------------------------------------------------------

SKLEARN = {
    "balanced_accuracy": lambda t, p: sk.balanced_accuracy_score(t, p),
    "micro_f1": lambda t, p: sk.f1_score(t, p, average="micro"),
    "weighted_f1": lambda t, p: sk.f1_score(t, p, average="weighted"),
    "mcc": lambda t, p: sk.matthews_corrcoef(t, p),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SKLEARN)
def test_metrics_of_labels_are_those_of_scikit_learn_to_the_last_digit(name: str, seed: int) -> None:
    targets, predictions = drawn(seed)
    assert METRICS[name](written(targets, predictions, labels=tuple("dcba"))) == SKLEARN[name](targets, predictions)


@pytest.mark.parametrize("seed", range(4))
def test_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    targets, predictions = drawn(seed)
    expected = sk.f1_score(targets, predictions, average="macro")
    for labels in ("abcd", "abcdz", ""):
        found = METRICS["macro_f1"](written(targets, predictions, labels=tuple(labels)))
        assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", *SKLEARN])
def test_an_answer_that_could_not_be_read_is_wrong_and_no_label(name: str) -> None:
    targets = ["a", "b", "a", "b"]
    whole, less = (
        written(targets, targets, labels=("a", "b")),
        written(targets, ["a", "b", "a", None], labels=("a", "b")),
    )
    assert METRICS[name](whole) == 1
    assert METRICS[name](less) < 1
    if name.endswith("f1"):
        average = name.removesuffix("_f1")
        expected = sk.f1_score(targets, ["a", "b", "a", ""], labels=["a", "b"], average=average)
        assert METRICS[name](less) == expected


@pytest.mark.parametrize("name", ["balanced_accuracy", "micro_f1", "weighted_f1", "mcc", "macro_f1"])
@pytest.mark.parametrize(("targets", "predictions"), [("", ""), ("a", "a"), ("aa", "aa"), ("aab", "aaa"), ("aa", "bb")])
def test_poor_slices_have_a_finite_value_and_no_warning(name: str, targets: str, predictions: str) -> None:
    outcome = written(list(targets), list(predictions), labels=("a", "b"))
    assert -1 <= METRICS[name](outcome) <= 1
    assert METRICS[name].per_example(outcome) is None
    assert METRICS[name].proxy(outcome).tolist() == [float(t == p) for t, p in zip(targets, predictions, strict=True)]


# -- sets ------------------------------------------------------------------------------------------


def sets(seed: int, size: int = 60) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Targets and answers as texts and as tables (N, 5)."""
    generator = np.random.default_rng(seed)
    wanted = generator.random((size, 5)) < 0.3
    given = np.where(generator.random((size, 5)) < 0.7, wanted, generator.random((size, 5)) < 0.4)
    texts = [[", ".join(np.array(list("vwxyz"))[row]) or "none" for row in table] for table in (wanted, given)]
    return texts[0], texts[1], wanted, given


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_sets_are_those_of_scikit_learn(seed: int) -> None:
    targets, answers, wanted, given = sets(seed)
    outcome = written(targets, answers)
    assert METRICS["subset_accuracy"](outcome) == sk.accuracy_score(wanted, given)
    expected = sk.f1_score(wanted, given, average="samples", zero_division=1.0)
    assert METRICS["example_f1"](outcome) == pytest.approx(expected, abs=1e-15)
    for average in ("micro", "macro"):
        assert METRICS[f"multilabel_{average}_f1"](outcome) == sk.f1_score(wanted, given, average=average)


def test_the_order_of_the_names_of_a_set_does_not_matter() -> None:
    outcome = written(["x, y", "none"], ["y, x", "none"])
    for name in ("subset_accuracy", "example_f1", "multilabel_micro_f1", "multilabel_macro_f1"):
        assert METRICS[name](outcome) == 1


def test_a_set_that_could_not_be_read_is_wrong_even_where_the_target_is_empty() -> None:
    outcome = written(["none", "x"], [None, "x"])
    assert METRICS["subset_accuracy"].values(outcome).tolist() == [0, 1]
    assert METRICS["example_f1"].values(outcome).tolist() == [0, 1]
    assert METRICS["multilabel_micro_f1"](written(["none"], [None])) == 0
    assert METRICS["multilabel_micro_f1"](written(["none"], ["none"])) == 1
    assert METRICS["multilabel_macro_f1"](written(["x", "y"], ["x", None])) == 0.5


# -- numbers ---------------------------------------------------------------------------------------


def numbers(seed: int = 0, size: int = 100) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.uniform(0, 5, size).round(2)
    return targets, (targets + generator.normal(0, 1, size)).round(1)


def as_texts(side: np.ndarray) -> list[str]:
    return [repr(float(value)) for value in side]


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_numbers_are_those_of_the_libraries(seed: int) -> None:
    targets, answers = numbers(seed)
    outcome = written(as_texts(targets), as_texts(answers))
    assert METRICS["mse"](outcome) == pytest.approx(sk.mean_squared_error(targets, answers), rel=1e-14)
    assert METRICS["mae"](outcome) == pytest.approx(sk.mean_absolute_error(targets, answers), rel=1e-14)
    assert METRICS["pearson"](outcome) == stats.pearsonr(targets, answers).statistic
    assert METRICS["spearman"](outcome) == stats.spearmanr(targets, answers).statistic
    assert [METRICS[name].maximize for name in ("mse", "mae", "pearson", "spearman")] == [False, False, True, True]


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("answers", [["2", "2", "2"], ["0.1", "0.1", "0.1"], [None, None, None]])
def test_a_correlation_with_a_constant_is_zero(name: str, answers: list[str | None]) -> None:
    assert METRICS[name](written(["1", "2", "3"], answers)) == (0 if answers[0] else pytest.approx(-0.87, abs=0.01))
    assert METRICS[name](written(["1", "1", "1"], ["1", "2", "3"])) == 0
    assert METRICS[name](written(["1"], ["1"])) == 0
    assert METRICS[name](written([], [])) == 0


@pytest.mark.parametrize("text", [None, "", "about 3", "nan", "inf", "1e300", "3 or 4"])
def test_a_number_that_could_not_be_read_is_the_farther_end_of_the_range(text: str | None) -> None:
    outcome = written(["0", "4", "10"], [text, text, text])
    assert METRICS["mae"].values(outcome).tolist() == [10, 6, 10]
    assert METRICS["mse"].values(outcome).tolist() == [100, 36, 100]


def test_a_number_that_could_not_be_read_is_wrong_even_where_there_is_no_range() -> None:
    assert METRICS["mae"].values(written(["7", "7"], [None, "7"])).tolist() == [7, 0]
    assert METRICS["mae"].values(written(["0"], [None])).tolist() == [1]


def test_a_target_that_is_no_number_is_told() -> None:
    with pytest.raises(MetricError, match=r"^The target 'warm' is no number; metrics of numbers need one as each"):
        METRICS["mse"](written(["1", "warm"], ["1", "2"]))


def test_proxies_of_numbers_are_larger_where_the_answer_is_nearer() -> None:
    outcome = written(["0", "4", "10"], ["0", "9", "-1e90"])
    assert METRICS["mse"].proxy(outcome).tolist() == [1, 0.75, 0]
    assert METRICS["mae"].proxy(outcome).tolist() == [1, 0.5, 0]


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_proxies_of_correlations_order_answers_as_the_correlation_does(name: str) -> None:
    targets = numbers(0)[0]
    found = []
    for noise in (0.1, 0.5, 1.0, 3.0):
        answers = targets * 7 + np.random.default_rng(1).normal(0, 7 * noise, len(targets))
        outcome = written(as_texts(targets), as_texts(answers))
        proxy = METRICS[name].proxy(outcome)
        assert ((proxy >= 0) & (proxy <= 1)).all()
        found.append((METRICS[name](outcome), float(proxy.mean())))
    assert found == sorted(found, reverse=True)


# -- texts -----------------------------------------------------------------------------------------

ANSWERS = [
    "The cat sat on the mat.", "It is going to rain today, I think.", "Prices rose by 3.5% in May.",
    "He said: \"no comment\".", "completely unrelated words", "", "Grüße aus Köln!", "a",
]  # fmt: skip
FIRST = [
    "The cat is sitting on the mat.", "I think it will rain today.", "Prices rose by 3.5 percent in May.",
    "He said: \"No comment.\"", "something else entirely here", "An empty answer.", "Viele Grüße aus Köln!", "a b c d",
]  # fmt: skip
SECOND = [
    "A cat sat on a mat.", "It is going to rain, I think.", "In May prices rose 3.5%.", "\"No comment,\" he said.",
    "quite different", "Nothing.", "Grüße aus Köln!", "b",
]  # fmt: skip


def command_line(name: str, folder: Path, *references: list[str]) -> float:
    files = []
    for number, lines in enumerate([ANSWERS, *references]):
        files.append(folder / f"{number}.txt")
        files[-1].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", *map(str, files[1:]), "-i", str(files[0]), "-m", name]
    result = subprocess.run([*command, "-b", "-w", "12"], capture_output=True, text=True, check=True)
    return float(result.stdout)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
@pytest.mark.parametrize("count", [1, 2])
def test_bleu_and_chrf_are_what_sacrebleu_prints(name: str, count: int, tmp_path: Path) -> None:
    further = [(text,) for text in SECOND] if count == 2 else []
    value = METRICS[name](written(FIRST, ANSWERS, further))
    assert 5 < value < 95
    assert round(value, 12) == command_line(name, tmp_path, *[FIRST, SECOND][:count])


def test_some_examples_may_have_more_references_than_others() -> None:
    import sacrebleu

    further = [(text,) if at % 2 else () for at, text in enumerate(SECOND)]
    streams = [FIRST, [texts[0] if texts else None for texts in further]]
    outcome = written(FIRST, ANSWERS, further)
    assert METRICS["bleu"](outcome) == sacrebleu.BLEU().corpus_score(ANSWERS, streams).score
    assert METRICS["chrf"](outcome) == sacrebleu.CHRF().corpus_score(ANSWERS, streams).score


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_proxy_of_a_translation_is_the_chrf_of_its_sentence(name: str) -> None:
    import sacrebleu

    outcome = written(FIRST, ANSWERS, [(text,) for text in SECOND])
    expected = [
        sacrebleu.CHRF().sentence_score(answer, list(texts)).score / 100
        for answer, *texts in zip(ANSWERS, FIRST, SECOND, strict=True)
    ]
    assert METRICS[name].proxy(outcome).tolist() == expected
    assert METRICS[name].per_example(outcome) is None
    assert METRICS[name](written([], [])) == 0


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_that_of_rouge_score_and_the_best_reference_counts(name: str) -> None:
    scorer = RougeScorer([name], use_stemmer=True)
    pairs = list(zip(ANSWERS, FIRST, SECOND, strict=True))
    single = [scorer.score(first, answer)[name].fmeasure for answer, first, _ in pairs]
    both = [max(scorer.score(text, answer)[name].fmeasure for text in texts) for answer, *texts in pairs]
    assert METRICS[name].values(written(FIRST, ANSWERS)).tolist() == single
    assert METRICS[name].values(written(FIRST, ANSWERS, [(text,) for text in SECOND])).tolist() == both
    assert both != single


@pytest.mark.parametrize(
    ("answer", "texts", "exact", "shared"),
    [
        ("The Eiffel Tower!", ("eiffel tower",), 1, 1),
        ("in the  Eiffel tower", ("Eiffel Tower",), 0, 0.8),
        ("an apple", ("a apple",), 1, 1),
        ("U.S.", ("US",), 1, 1),
        ("blue blue", ("blue",), 0, 2 / 3),
        ("red", ("blue", "Red."), 1, 1),
        (None, ("x",), 0, 0),
        (
            "the",
            ("a",),
            1,
            0,
        ),  # nothing is left of either: equal, and no word is shared, as the official program has it
    ],
)
def test_short_answers_are_compared_by_the_rules_of_squad(
    answer: str | None, texts: tuple[str, ...], exact: float, shared: float
) -> None:
    outcome = written(texts[:1], [answer], [texts[1:]])
    assert METRICS["exact_match"](outcome) == exact
    assert METRICS["token_f1"](outcome) == pytest.approx(shared)


def test_a_match_is_letter_by_letter() -> None:
    outcome = written(["Paris", "Paris", "Paris", "b"], [" Paris\n", "paris", None, "a"], [(), (), (), ("a",)])
    assert METRICS["match"].values(outcome).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("$1,234.50", "1234.5", 1), ("12%", "12", 1), ("0", "-0.0", 1), ("3.1415926", "3.1415927", 1),
        ("3.14", "3.1415927", 0), ("twelve", "12", 0), (None, "12", 0), ("12", "twelve", 0), ("nan", "nan", 0),
        ("1e400", "1e400", 0),
    ],
)  # fmt: skip
def test_numbers_match_to_one_in_a_million(answer: str | None, target: str, right: int) -> None:
    assert METRICS["numeric_match"](written([target], [answer])) == right


# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_the_name_of_a_metric_is_its_key(name: str) -> None:
    assert METRICS[name].name == name


@pytest.mark.parametrize("found", METRICS.values(), ids=METRICS)
def test_no_examples_have_no_proxies(found: Metric) -> None:
    assert found.proxy(written([], [])).shape == (0,)


def test_a_metric_of_the_examples_is_its_own_proxy_turned_so_that_larger_is_better() -> None:
    outcome = Outcome(("a", "b"), np.array([[0.5, 0.5], [0.2, 0.8]]), ("a", "b"))
    assert METRICS["accuracy"].proxy(outcome).tolist() == [1, 1]
    assert np.array_equal(METRICS["log_loss"].proxy(outcome), -METRICS["log_loss"].values(outcome))


def test_listing_the_metrics_imports_no_heavy_library() -> None:
    code = (
        "import sys; from autoprompt.metrics.builtin import METRICS; "
        "print([m for m in ('sklearn', 'scipy', 'sacrebleu', 'rouge_score', 'numpy', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
