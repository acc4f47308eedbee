"""The locked test: paired intervals, and "no improvement" as a legal answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autoprompt.metrics import Metric, Outcome, load_metric, metric
from autoprompt.verdict import judge, judge_parts, paired_interval


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
    deviation = np.sqrt(0.025 * 0.975 / 400)
    assert low == pytest.approx(0.025 - 1.96 * deviation, abs=0.003)
    assert high == pytest.approx(0.025 + 1.96 * deviation, abs=0.003)


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


def test_one_example_makes_an_interval_of_one_point(accuracy: Metric) -> None:
    assert paired_interval(accuracy, given(np.zeros(1)), given(np.ones(1))) == (1.0, 1.0)


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
    span = f"(+0.300 accuracy, 95 % interval {low:+.3f} to {high:+.3f}, 200 test examples)"
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
    """One example better, none worse: a third of the resamples do not hold it."""
    first, second = np.ones(50), np.ones(50)
    first[0] = 0
    verdict = judge(accuracy, given(first), given(second))
    assert verdict.interval[0] == 0.0
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
        (160, "Fine-tuning improves on the prompt alone (+0.200 accuracy, 95 % interval +0.145 to +0.255)."),
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
