"""The locked test: paired intervals, and "no improvement" as a legal answer."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import scipy.stats

from autoprompt.data import Example
from autoprompt.metrics import Metric, Outcome, load_metric, metric
from autoprompt.metrics.builtin import accuracy as accuracy_itself
from autoprompt.metrics.builtin import log_loss, macro_f1
from autoprompt.verdict import (
    Verdict,
    details,
    detectable,
    detectable_before,
    exact_p,
    flips,
    judge,
    judge_parts,
    paired_interval,
)
from autoprompt.verdict.details import calibration_error, worst_label
from autoprompt.verdict.exact import mcnemar
from autoprompt.verdict.paired import standard_error
from autoprompt.verdict.quantiles import student


def given(right: np.ndarray) -> Outcome:
    """An outcome that is right where `right` is 1; the target is always "yes"."""
    sure = np.where(np.asarray(right) > 0.5, 0.9, 0.1)
    return Outcome(("yes",) * len(sure), np.stack([sure, 1 - sure], 1), ("yes", "no"))


def some(size: int, correct: int, seed: int = 0) -> np.ndarray:
    right = np.zeros(size)
    right[:correct] = 1
    return np.random.default_rng(seed).permutation(right)


@pytest.fixture(scope="module")
def accuracy() -> Metric:
    from pathlib import Path

    return load_metric("accuracy", Path())


@metric(maximize=False)
def errors(targets: list[str], predictions: list[str]) -> list[float]:
    return [float(t != p) for t, p in zip(targets, predictions, strict=True)]


@metric
def whole_accuracy(targets: list[str], predictions: list[str]) -> float:
    return float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


@metric
def first_column(probabilities: np.ndarray) -> list[float]:
    return list(probabilities[:, 0])


# -- the interval --------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_agrees_with_the_normal_approximation(confidence: float) -> None:
    z = {0.8: 1.2816, 0.95: 1.9600, 0.99: 2.5758}[confidence]
    generator = np.random.default_rng(1)
    first, second = generator.random(2000), generator.random(2000)
    labels = ("yes", "no")
    outcomes = [Outcome(("yes",) * 2000, np.stack([column, 1 - column], 1), labels) for column in (first, second)]
    difference = second - first
    half = z * difference.std() / np.sqrt(2000)
    low, high = paired_interval(first_column, *outcomes, confidence=confidence)
    assert low == pytest.approx(difference.mean() - half, abs=0.08 * half)
    assert high == pytest.approx(difference.mean() + half, abs=0.08 * half)


def test_the_interval_of_paired_answers_is_that_of_their_differences(accuracy: Metric) -> None:
    """Both are right on the same examples but for ten: the interval knows of the pairing."""
    first = some(400, 200)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:10]] = 1
    low, high = paired_interval(accuracy, given(first), given(second))
    # Wilson's interval of 10 of 400, which Tango's is where nothing is lost
    z, share = 1.959964, 0.025
    middle, half = share + z**2 / 800, z * np.sqrt(share * (1 - share) / 400 + z**2 / (4 * 400**2))
    wilson = [(middle + side * half) / (1 + z**2 / 400) for side in (-1, 1)]
    assert high == pytest.approx(wilson[1], abs=1e-3)
    assert low == pytest.approx(wilson[0], abs=1e-3)


@pytest.mark.parametrize(("gained", "lost", "size"), [(8, 2, 40), (0, 7, 30), (3, 3, 25), (1, 0, 50), (20, 0, 20)])
def test_each_end_of_the_interval_of_answers_is_where_the_score_test_stops_rejecting(
    gained: int, lost: int, size: int, accuracy: Metric
) -> None:
    """The likeliest share of lost examples for a given difference is searched for here on a grid."""
    first, second = np.ones(size), np.ones(size)
    first[:gained], second[gained : gained + lost] = 0, 0
    shares = np.linspace(1e-9, 1, 200_001)
    for end in paired_interval(accuracy, given(first), given(second)):
        if abs(end) > 1 - 1e-9:
            continue
        both = shares + end
        allowed = (both > 0) & (both + shares < 1)
        tied = np.log(np.maximum(1 - both - shares, 1e-300)) * (size - gained - lost)
        fit = gained * np.log(np.maximum(both, 1e-300)) + lost * np.log(shares) + tied
        share = shares[np.where(allowed, fit, -np.inf).argmax()]
        deviation = np.sqrt(size * (2 * share + end * (1 - end)))
        assert abs(gained - lost - size * end) / deviation == pytest.approx(1.96, abs=0.01)


def test_the_interval_of_equal_answers_is_zero(accuracy: Metric) -> None:
    right = some(100, 60)
    assert paired_interval(accuracy, given(right), given(right)) == (0.0, 0.0)
    assert paired_interval(whole_accuracy, given(right), given(right)) == (0.0, 0.0)


def test_the_interval_of_a_metric_of_the_whole_set_agrees_with_that_of_its_mean(accuracy: Metric) -> None:
    first, second = given(some(200, 100, 1)), given(some(200, 130, 2))
    assert whole_accuracy.per_example(first) is None
    single = paired_interval(accuracy, first, second)
    whole = paired_interval(whole_accuracy, first, second)
    assert whole == pytest.approx(single, abs=0.015)


def test_the_interval_turns_with_the_sides(accuracy: Metric) -> None:
    first, second = given(some(300, 150, 1)), given(some(300, 180, 2))
    low, high = paired_interval(accuracy, first, second)
    back = paired_interval(accuracy, second, first)
    assert back == pytest.approx((-high, -low), abs=0.01)
    assert low <= 0.1 <= high


def test_more_confidence_makes_a_wider_interval(accuracy: Metric) -> None:
    outcomes = given(some(100, 50, 1)), given(some(100, 60, 2))
    narrow, wide = (paired_interval(accuracy, *outcomes, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_the_interval_is_the_same_for_the_same_seed(name: str) -> None:
    from pathlib import Path

    found = load_metric(name, Path())
    outcomes = given(some(80, 40, 1)), given(some(80, 50, 2))
    assert paired_interval(found, *outcomes, seed=3) == paired_interval(found, *outcomes, seed=3)
    low, high = paired_interval(found, *outcomes, seed=3)
    assert paired_interval(found, *outcomes, seed=4) == pytest.approx((low, high), abs=0.03)


def test_the_interval_leaves_the_global_generator_alone(accuracy: Metric) -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    paired_interval(accuracy, given(some(50, 25)), given(some(50, 30)))
    assert np.random.random() == expected


@pytest.mark.parametrize("found", [accuracy_itself, log_loss, macro_f1])
def test_one_example_shows_next_to_nothing_and_breaks_nothing(found: Metric) -> None:
    outcomes = given(np.zeros(1)), given(np.ones(1))
    verdict = judge(found, *outcomes)
    low, high = verdict.interval
    assert np.isfinite([low, high]).all()
    assert high - low > 1
    assert verdict.outcome == "no improvement"
    assert 0 < detectable(found, *outcomes) < np.inf


def test_answers_that_agree_on_few_examples_leave_room_for_a_difference(accuracy: Metric) -> None:
    """Alike on all of 20, by different probabilities: the next may tell them apart."""
    first = given(np.ones(20))
    second = Outcome(first.targets, np.tile([0.8, 0.2], (20, 1)), first.labels)
    low, high = paired_interval(accuracy, first, second)
    assert high == pytest.approx(1.96**2 / (20 + 1.96**2), abs=1e-4)
    assert low == pytest.approx(-high)


def test_the_interval_covers_the_true_difference_as_often_as_it_says(accuracy: Metric) -> None:
    """300 simulated pairs of prompts, correlated, with a true difference of 0.06."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        hardness = generator.random(120)
        first, second = (hardness < 0.60).astype(float), (hardness < 0.66).astype(float)
        flips = generator.random((2, 120)) < 0.1
        first, second = np.abs(first - flips[0]), np.abs(second - flips[1])
        low, high = paired_interval(accuracy, given(first), given(second), seed=int(generator.integers(1 << 30)))
        covered += low <= 0.06 * 0.8 <= high  # each answer is flipped in one of ten
    assert 0.90 <= covered / 300 <= 0.99


def test_equal_prompts_are_seldom_called_better(accuracy: Metric) -> None:
    generator = np.random.default_rng(5)
    called = 0
    for _ in range(200):
        first, second = (generator.random((2, 100)) < 0.7).astype(float)
        called += (
            judge(accuracy, given(first), given(second), seed=int(generator.integers(1 << 30))).outcome == "improved"
        )
    assert called / 200 < 0.06


# -- the verdict ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "outcome"), [(160, "improved"), (104, "no improvement"), (40, "worse")])
@pytest.mark.parametrize("name", ["accuracy", "errors", "whole_accuracy"])
def test_the_verdict_follows_the_interval(name: str, right: int, outcome: str, accuracy: Metric) -> None:
    found = {"accuracy": accuracy, "errors": errors, "whole_accuracy": whole_accuracy}[name]
    verdict = judge(found, given(some(200, 100, 1)), given(some(200, right, 2)))
    assert verdict.outcome == outcome
    low, high = verdict.interval
    assert low <= verdict.winner - verdict.baseline <= high
    sign = -1 if name == "errors" else 1
    assert verdict.winner - verdict.baseline == pytest.approx(sign * (right - 100) / 200)


def test_the_sentence_of_an_improvement_gives_the_difference_and_its_interval(accuracy: Metric) -> None:
    verdict = judge(accuracy, given(some(200, 100, 1)), given(some(200, 160, 2)))
    low, high = verdict.interval
    span = f"(+0.300 accuracy, 95 % interval {low:+.3f} to {high:+.3f}, p < 0.001, 200 test examples)"
    assert verdict.sentence == f"The winner is better than your prompt {span}."
    assert (verdict.baseline, verdict.winner) == (0.5, 0.8)


def test_the_sentence_of_a_loss_says_to_keep_the_prompt(accuracy: Metric) -> None:
    verdict = judge(accuracy, given(some(200, 160, 1)), given(some(200, 100, 2)))
    assert verdict.sentence.startswith("The winner is worse than your prompt on the test split (-0.300 accuracy, ")
    assert verdict.sentence.endswith(": keep your prompt.")


def test_the_sentence_of_no_improvement_says_to_keep_the_prompt(accuracy: Metric) -> None:
    verdict = judge(accuracy, given(some(200, 100, 1)), given(some(200, 102, 2)))
    assert verdict.sentence.startswith("No improvement found: the interval holds zero (+0.010 accuracy, 95 % interval ")
    assert verdict.sentence.endswith("Keep your prompt.")


def test_the_same_prompt_is_no_improvement(accuracy: Metric) -> None:
    right = some(100, 60)
    verdict = judge(accuracy, given(right), given(right), same_prompt=True)
    assert verdict.outcome == "no improvement"
    assert verdict.sentence == "No improvement found: the search ends with your own prompt."
    assert (verdict.baseline, verdict.winner, verdict.interval) == (0.6, 0.6, (0.0, 0.0))


def test_a_gain_that_only_touches_zero_is_no_improvement(accuracy: Metric) -> None:
    """One example better, none worse."""
    first, second = np.ones(50), np.ones(50)
    first[0] = 0
    verdict = judge(accuracy, given(first), given(second))
    assert verdict.interval[0] < 0.0 < verdict.interval[1]
    assert verdict.outcome == "no improvement"


def test_the_verdict_is_the_same_for_the_same_seed(accuracy: Metric) -> None:
    outcomes = given(some(80, 40, 1)), given(some(80, 50, 2))
    assert judge(accuracy, *outcomes, seed=3) == judge(accuracy, *outcomes, seed=3)


# -- what each part was worth ----------------------------------------------------------------------


def cells(**right: int) -> dict[Any, Outcome]:
    return {name: given(np.arange(200) < number) for name, number in right.items()}


def test_the_parts_are_the_scores_of_the_cells_and_their_paired_differences(accuracy: Metric) -> None:
    outcomes = cells(base=80, prompt=120, tuning=100, both=160)
    parts = judge_parts(accuracy, outcomes, seed=3)
    assert parts.cells == {"base": 0.4, "prompt": 0.6, "tuning": 0.5, "both": 0.8}
    assert {name: round(found[0], 6) for name, found in parts.differences.items()} == {
        "prompt - base": 0.2,
        "tuning - base": 0.1,
        "both - base": 0.4,
        "both - prompt": 0.2,
        "both - tuning": 0.3,
    }
    expected = paired_interval(accuracy, outcomes["prompt"], outcomes["both"], 3)
    assert parts.differences["both - prompt"][1:] == expected


def test_without_tuning_from_the_own_prompt_its_differences_are_left_out(accuracy: Metric) -> None:
    parts = judge_parts(accuracy, cells(base=80, prompt=120, both=160))
    assert set(parts.differences) == {"prompt - base", "both - base", "both - prompt"}
    assert "Starting it from the winner" not in parts.sentence


@pytest.mark.parametrize(
    ("both", "said"),
    [
        (160, "Fine-tuning improves on the prompt alone (+0.200 accuracy, 95 % interval +0.150 to +0.261)."),
        (121, "Fine-tuning does not certainly improve on the prompt alone (+0.005 accuracy,"),
        (80, "Fine-tuning is worse than the prompt alone (-0.200 accuracy, "),
    ],
)
def test_the_sentence_of_the_parts_follows_the_interval(both: int, said: str, accuracy: Metric) -> None:
    assert judge_parts(accuracy, cells(base=80, prompt=120, both=both)).sentence.startswith(said)


def test_of_errors_fewer_are_an_improvement() -> None:
    sentence = judge_parts(errors, cells(base=80, prompt=120, both=160)).sentence
    assert sentence.startswith("Fine-tuning improves on the prompt alone (-0.200 errors")
    assert "use the prompt alone" in judge_parts(errors, cells(base=80, prompt=120, both=60)).sentence


# -- exact tests ---------------------------------------------------------------------------------


@metric
def graded(probabilities: np.ndarray) -> list[float]:
    """1 where the first label is sure, 1/2 where it is likely, else 0."""
    return [1.0 if row[0] > 0.8 else 0.5 if row[0] > 0.5 else 0.0 for row in probabilities]


def valued(values: Any) -> Outcome:
    """An outcome whose `first_column` is the values."""
    values = np.asarray(values, dtype=np.float64)
    return Outcome(("yes",) * len(values), np.stack([values, 1 - values], 1), ("yes", "no"))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (0, 6), (14, 3), (130, 90), (2600, 2400)])
def test_mcnemar_is_the_binomial_test_of_the_examples_that_differ(gained: int, lost: int) -> None:
    expected = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_right_and_wrong_answers_are_tested_by_mcnemar(accuracy: Metric) -> None:
    first, second = np.ones(30), np.ones(30)
    first[:9], second[9:11] = 0, 0
    name, p = exact_p(accuracy, given(first), given(second))
    assert name == "McNemar's exact test"
    assert p == pytest.approx(scipy.stats.binomtest(9, 11).pvalue)
    assert exact_p(errors, given(first), given(second)) == (name, p)


@pytest.mark.parametrize("size", [1, 2, 7, 12])
@pytest.mark.parametrize("kind", ["any", "grid", "ties"])
def test_the_sign_flip_test_agrees_with_every_flip_in_turn(size: int, kind: str) -> None:
    generator = np.random.default_rng(size)
    differences = generator.normal(0.3, 1, size)
    if kind != "any":
        differences = generator.integers(-3, 5, size) / 4
    if kind == "ties":
        differences[size // 2 :] = 0
    differences[0] = 0.75
    flips_of = np.array(list(itertools.product((-1, 1), repeat=size)))
    expected = (np.abs(flips_of @ differences) >= abs(differences.sum()) - 1e-9).mean()
    found = exact_p(first_column, valued(np.zeros(size)), valued(differences))
    assert found == ("exact sign-flip test", pytest.approx(expected, rel=1e-9))


def test_enumeration_meets_in_the_middle_and_draws_beyond_agree() -> None:
    values = np.random.default_rng(3).normal(0.35, 1, 33)
    zeros = valued(np.zeros(33))
    name, drawn = exact_p(first_column, zeros, valued(values), seed=1)
    assert name == "sign-flip test"
    few = values.copy()
    few[np.abs(few).argmin()] = 0  # one fewer: every one of 2^32 flips counts
    name, exact = exact_p(first_column, zeros, valued(few))
    assert name == "exact sign-flip test"
    assert drawn == pytest.approx(exact, abs=0.015)
    assert exact_p(first_column, zeros, valued(values), seed=1)[1] == drawn
    assert exact_p(first_column, zeros, valued(values), seed=2)[1] == pytest.approx(drawn, abs=0.02)


def test_many_graded_answers_are_tested_exactly() -> None:
    generator = np.random.default_rng(4)
    first, second = (valued(generator.choice([0.3, 0.6, 0.9], 600)) for _ in range(2))
    name, p = exact_p(graded, first, second)
    difference = np.asarray(graded.values(second) - graded.values(first))
    drawn = np.abs(generator.choice([-1, 1], (20_000, 600)) @ difference)
    assert name == "exact sign-flip test"
    assert p == pytest.approx((drawn >= abs(difference.sum())).mean(), abs=0.012)


def test_a_metric_of_the_whole_set_is_tested_by_swaps(accuracy: Metric) -> None:
    first, second = given(some(150, 90, 1)), given(some(150, 112, 2))
    name, p = exact_p(whole_accuracy, first, second, seed=5)
    assert name == "permutation test"
    assert p == pytest.approx(exact_p(accuracy, first, second)[1], abs=0.03)
    assert exact_p(whole_accuracy, first, second, seed=5)[1] == p
    assert exact_p(whole_accuracy, second, first, seed=5)[1] == pytest.approx(p, abs=0.02)


def test_swaps_do_not_mind_in_which_order_the_labels_stand() -> None:
    first, second = given(some(60, 30, 1)), given(some(60, 40, 2))
    turned = Outcome(second.targets, second.probabilities[:, ::-1].copy(), second.labels[::-1])
    assert exact_p(macro_f1, first, turned) == exact_p(macro_f1, first, second)
    assert paired_interval(macro_f1, first, turned) == pytest.approx(paired_interval(macro_f1, first, second))


@pytest.mark.parametrize("found", [accuracy_itself, first_column, macro_f1])
def test_the_same_answers_have_p_1(found: Metric) -> None:
    assert exact_p(found, given(some(40, 20)), given(some(40, 20)))[1] == 1.0


def test_equal_prompts_of_a_metric_of_the_whole_set_are_seldom_called_better() -> None:
    generator = np.random.default_rng(8)
    called = [
        judge(macro_f1, *(given(generator.random(20) < 0.7) for _ in range(2)), seed=i).outcome for i in range(25)
    ]
    assert sum(outcome == "improved" for outcome in called) <= 2


def test_without_an_exact_test_that_agrees_there_is_no_improvement(accuracy: Metric) -> None:
    """Five gained, none lost, of 40: the interval is above zero, and a coin falls so in one of 16 cases."""
    first, second = np.ones(40), np.ones(40)
    first[:5] = 0
    verdict = judge(accuracy, given(first), given(second))
    assert verdict.interval[0] > 0
    assert verdict.outcome == "no improvement"
    assert verdict.sentence.startswith(
        "No improvement found: by McNemar's exact test it may be luck (+0.125 accuracy, "
    )
    assert ", p = 0.062, 40 test examples). Keep your prompt." in verdict.sentence
    assert (verdict.p, verdict.test) == (0.0625, "McNemar's exact test")


def test_a_verdict_that_was_stored_without_p_is_read_back() -> None:
    stored = {"outcome": "worse", "sentence": "s", "baseline": 0.5, "winner": 0.4, "interval": (-0.2, -0.01)}
    assert (Verdict(**stored).p, Verdict(**stored).test) == (1.0, "")


# -- intervals of other metrics ------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 5, 19, 99, 499, 5000])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.975, 0.995])
def test_the_quantile_of_t_is_that_of_scipy(freedom: int, share: float) -> None:
    assert student(share, freedom) == pytest.approx(scipy.stats.t.ppf(share, freedom), rel=1e-6)


def test_the_interval_of_numbers_without_ties_is_that_of_student() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random(25), generator.random(25)
    low, high = paired_interval(first_column, valued(first), valued(second))
    expected = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_few_differences_among_ties_make_a_wide_interval() -> None:
    """One of 20 gained a half: its own deviation alone would say that the true gain is at most 0.08."""
    second = np.full(20, 0.4)
    second[3] = 0.6
    low, high = paired_interval(graded, valued(np.full(20, 0.4)), valued(second))
    assert low < -0.03
    assert high > 0.1


def test_the_jackknife_of_a_mean_is_its_standard_error(accuracy: Metric) -> None:
    """Also of more than 500 examples, which are left out in groups."""
    for size in (80, 1300):
        generator = np.random.default_rng(size)
        first, second = (given(generator.random(size) < share) for share in (0.5, 0.6))
        expected, found = (standard_error(m, first, second) for m in (accuracy, whole_accuracy))
        assert found == pytest.approx(expected, rel=0.02 if size == 80 else 0.12)
        assert standard_error(whole_accuracy, first, second) == found


# -- what so many examples can show --------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "discordant"), [(20, 0.1), (30, 0.2), (100, 0.1), (200, 0.2), (1000, 0.3), (3000, 0.05)]
)
def test_the_detectable_difference_is_found_in_four_of_five_cases(size: int, discordant: float) -> None:
    difference = detectable_before(size, discordant)
    share = max(discordant, difference)
    pairs = np.random.default_rng(size).multinomial(
        size, [(share + difference) / 2, (share - difference) / 2, 1 - share], 3000
    )
    found = np.mean([mcnemar(int(gained), int(lost)) <= 0.05 for gained, lost, _ in pairs])
    assert found == pytest.approx(0.8, abs=0.03)


def test_more_examples_show_smaller_differences_and_five_show_none() -> None:
    found = [detectable_before(size) for size in (1, 5, 10, 50, 200, 1000, 10_000)]
    assert found[:2] == [1.0, 1.0]
    assert found == sorted(found, reverse=True)
    assert detectable_before(200) == pytest.approx(0.09, abs=0.01)


def test_the_measured_detectable_difference_knows_how_often_the_prompts_differ(accuracy: Metric) -> None:
    right = some(200, 120)
    near, far = right.copy(), some(200, 120, 9)
    near[np.flatnonzero(right)[:4]] = 0
    assert detectable(accuracy, given(right), given(near)) < 0.07 < detectable(accuracy, given(right), given(far))
    share = float(np.mean(right != far))
    assert detectable(accuracy, given(right), given(far)) == detectable_before(200, share)


@pytest.mark.parametrize("found", [first_column, whole_accuracy])
def test_the_detectable_difference_of_other_metrics_is_2_8_standard_errors(found: Metric) -> None:
    generator = np.random.default_rng(6)
    outcomes = valued(generator.random(100)), valued(generator.random(100))
    assert detectable(found, *outcomes) == pytest.approx(2.8016 * standard_error(found, *outcomes), rel=1e-4)


# -- details -------------------------------------------------------------------------------------


def answered(targets: str, said: str, sure: float = 0.7) -> Outcome:
    """Targets and answers as letters; "?" is an answer without any probability."""
    labels = ("a", "b", "c")
    rows = np.full((len(said), 3), (1 - sure) / 2)
    for at, letter in enumerate(said):
        rows[at] = 0 if letter == "?" else rows[at]
        if letter != "?":
            rows[at, labels.index(letter)] = sure
    return Outcome(tuple(targets), rows, labels)


def test_the_details_count_by_label_with_the_worst_first(accuracy: Metric) -> None:
    """No example has the label c: it is left out."""
    told = details(accuracy, answered("aaaabb", "abbbbb"), answered("aaaabb", "aaabac"))
    assert list(told.classes.items()) == [
        ("b", {"examples": 2.0, "baseline": 1.0, "winner": 0.0}),
        ("a", {"examples": 4.0, "baseline": 0.25, "winner": 0.75}),
    ]
    assert worst_label(told.classes) == "b"
    assert (told.test, told.p) == ("McNemar's exact test", mcnemar(2, 2))
    assert told.rival == {}
    assert json.loads(json.dumps(told.record(), allow_nan=False))["event"] == "VerdictDetailed"


def test_the_ledger_counts_answers_that_are_no_label(accuracy: Metric) -> None:
    winner = answered("aabbcc", "aab?c?")
    told = details(accuracy, answered("aabbcc", "aaaaaa"), winner, truncated={0, 3}, left_out=2)
    assert told.ledger == {"right": 4, "wrong": 0, "unparseable": 2, "truncated": 2, "too long": 2}


@pytest.mark.parametrize("empty", [np.nan, 0.0, np.inf])
def test_probabilities_that_are_none_are_unparseable_and_leave_no_trace_in_json(empty: float, accuracy: Metric) -> None:
    winner = answered("aab", "aab")
    winner.probabilities[1] = empty
    told = details(accuracy, answered("aab", "aab"), winner)
    assert told.ledger["unparseable"] == 1
    json.dumps(told.record(), allow_nan=False)
    [row] = flips(
        accuracy, [Example(i, {"text": "x"}, t) for i, t in enumerate("aab")], answered("aab", "aab"), winner
    ).examples
    assert (row["before"], row["after"], row["turn"], row["shift"]) == ("a", "", "lost", -0.7)


def test_a_column_that_is_no_label_of_the_task_is_unparseable(accuracy: Metric) -> None:
    winner = Outcome(("a", "b"), np.array([[0.1, 0.2, 0.7], [0.1, 0.8, 0.1]]), ("a", "b", "neither"))
    baseline = Outcome(("a", "b"), np.array([[0.9, 0.1], [0.9, 0.1]]), ("a", "b"))
    assert details(accuracy, baseline, winner).ledger == {
        "right": 1, "wrong": 0, "unparseable": 1, "truncated": 0, "too long": 0,
    }  # fmt: skip


def test_the_strongest_baseline_is_compared_like_the_own_prompt(accuracy: Metric) -> None:
    baseline, rival, winner = given(some(200, 100, 1)), given(some(200, 130, 3)), given(some(200, 160, 2))
    told = details(accuracy, baseline, winner, ("linear probe", rival), seed=4)
    verdict = judge(accuracy, rival, winner, seed=4)
    assert told.rival == {
        "name": "linear probe",
        "value": 0.65,
        "difference": pytest.approx(0.15),
        "interval": verdict.interval,
        "p": verdict.p,
    }
    assert told.p == judge(accuracy, baseline, winner, seed=4).p
    assert told.detectable == detectable(accuracy, baseline, winner)


def test_the_calibration_error_is_what_confidence_is_off() -> None:
    generator = np.random.default_rng(7)
    confidence = generator.uniform(0.5, 1, 6000)
    honest = generator.random(6000) < confidence
    rows = np.stack([confidence, 1 - confidence], 1)
    for shift in (0.0, 0.2):
        right = honest if not shift else generator.random(6000) < confidence - shift
        outcome = Outcome(tuple(np.where(right, "yes", "no").tolist()), rows, ("yes", "no"))
        assert calibration_error(outcome, outcome.predictions) == pytest.approx(shift, abs=0.03)


def test_the_calibration_error_does_not_hang_on_the_order_of_ties() -> None:
    """All answers are given with 0.7, half of them are right."""
    for targets in ("a" * 30 + "b" * 30, "ab" * 30):
        outcome = answered(targets, "a" * 60)
        assert calibration_error(outcome, outcome.predictions) == pytest.approx(0.2)
    one = answered("a", "a")
    assert calibration_error(one, one.predictions) == pytest.approx(0.3)


# -- flips -----------------------------------------------------------------------------------------


def test_flips_come_with_the_most_telling_first() -> None:
    examples = [Example(10 + i, {"text": f"t{i}"}, label) for i, label in enumerate("aaabb")]
    baseline, winner = answered("aaabb", "bbaba"), answered("aaabb", "aacbc", 0.8)
    winner.probabilities[1] = 0.5, 0.3, 0.2
    told = flips(accuracy, examples, baseline, winner)
    assert (told.gained, told.lost) == (2, 1)
    assert [(row["number"], row["turn"]) for row in told.examples] == [
        (10, "gained"),
        (12, "lost"),
        (11, "gained"),
        (14, "other"),
    ]
    first = told.examples[0]
    assert (first["fields"], first["label"], first["before"], first["after"]) == ({"text": "t0"}, "a", "b", "a")
    assert first["shift"] == pytest.approx(0.8 - 0.15)
    assert [row["number"] for row in flips(accuracy, examples, baseline, winner, most=1).examples] == [10]
    assert flips(accuracy, examples, baseline, winner, most=1).gained == 2


def test_long_fields_of_flips_are_cut_at_500_characters() -> None:
    texts = {"long": "\N{EARTH GLOBE EUROPE-AFRICA}" * 501, "fits": "é" * 500, "empty": ""}
    [row] = flips(accuracy, [Example(0, texts, "a")], answered("a", "b"), answered("a", "a")).examples
    assert row["fields"] == {"long": texts["long"][:499] + "…", "fits": texts["fits"], "empty": ""}


def test_the_same_outcome_has_no_flips() -> None:
    told = flips(accuracy, [Example(0, {"text": "x"}, "a")], answered("a", "b"), answered("a", "b"))
    assert (told.gained, told.lost, told.examples) == (0, 0, ())
