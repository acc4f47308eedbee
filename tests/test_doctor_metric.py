"""What the doctor finds in metrics that cannot steer a search, built-in and in a process of their own."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.doctor.answers import made_up, strange
from autoprompt.doctor.metric import examine_metric
from autoprompt.events import UNBOUNDED, Finding
from autoprompt.metrics import Metric, load_metric, metric
from autoprompt.metrics.builtin import METRICS
from autoprompt.metrics.classes import CLASSES
from autoprompt.metrics.numbers import NUMBERS
from autoprompt.metrics.sets import SETS
from autoprompt.metrics.texts import TEXTS

pytestmark = pytest.mark.process

LABELS = ("a", "b", "c")


def own(function: Callable[..., Any], maximize: bool = True) -> Metric:
    return Metric("own", function, maximize)


def right(targets: Sequence[str], predictions: Sequence[str]) -> float:
    return float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


WHOLE = {  # metrics without a number an example
    "balanced_accuracy", "bleu", "chrf", "macro_f1", "mcc", "micro_f1", "multilabel_macro_f1", "multilabel_micro_f1",
    "pearson", "spearman", "weighted_f1",
}  # fmt: skip


def only(function: Callable[..., Any], maximize: bool = True, labels: Sequence[str] = LABELS) -> Finding:
    [found] = examine_metric(own(function, maximize), labels)
    assert found.check == "metric"
    assert json.dumps(found.record(), allow_nan=False)
    return found


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "log_loss", "match"])
@pytest.mark.parametrize("labels", [LABELS, ("yes", "no"), tuple(f"label {i}" for i in range(150))])
def test_the_built_in_metrics_are_fine(name: str, labels: Sequence[str]) -> None:
    found = examine_metric(METRICS[name], labels)
    assert found == [fine_of(found, name)]


NUMERIC = ("1", "2.5", "4", "-3")
SENTENCES = ("It rains a lot in May.", "The match ended two to one today.", "Shares fell by three percent at noon.")
SETS_OF_NAMES = ("none", "joy", "joy, anger", "fear")
FITTING = {
    **{found.name: LABELS for found in CLASSES},
    **{found.name: SETS_OF_NAMES for found in SETS},
    **{found.name: NUMERIC for found in NUMBERS},
    **{found.name: SENTENCES for found in TEXTS},
    "numeric_match": NUMERIC,
}


@pytest.mark.parametrize("name", sorted(FITTING))
def test_each_built_in_metric_is_fine_with_answers_of_its_kind(name: str) -> None:
    found = examine_metric(METRICS[name], FITTING[name])
    assert found == [fine_of(found, name)]


def fine_of(findings: list[Finding], name: str) -> Finding:
    """The one finding that says that a metric is fine, and what it should say."""
    [found] = findings
    assert found.level == "fine", found.message
    assert found.details["per_example"] is (name not in WHOLE)
    assert found.details["distinct"] > 10
    assert found.details["ms"] > 0
    return found


def test_a_constant_metric_is_a_problem() -> None:
    found = only(lambda targets: 0.5)
    assert (found.level, found.details["right"]) == ("problem", 0.5)
    assert "is constant" in found.message


def test_a_metric_that_sees_no_answers_is_a_problem() -> None:
    found = only(lambda probabilities, targets: float(len(targets)) if probabilities.max() > 0 else 0.0)
    assert found.level == "problem"

    def of_the_middle(targets: list[str], predictions: list[str]) -> float:
        return abs(right(targets, predictions) - 0.5)

    assert "does not see whether answers are right" in only(of_the_middle).message


@pytest.mark.parametrize(("maximize", "advice"), [(True, "maximize=False"), (False, "maximize=True")])
def test_a_metric_that_is_the_wrong_way_round_is_a_problem(maximize: bool, advice: str) -> None:
    sign = -1 if maximize else 1
    found = only(lambda targets, predictions: sign * right(targets, predictions), maximize)
    assert found.level == "problem"
    assert advice in found.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_a_problem(value: float) -> None:
    found = only(lambda targets, predictions: value if right(targets, predictions) == 0 else 1.0)
    assert found.level == "problem"
    assert "NaN or infinity" in found.message


def test_a_metric_that_is_not_finite_on_poor_answers_alone_is_a_warning() -> None:
    def mean_recall(targets: list[str], predictions: list[str]) -> float:
        shares = [
            np.mean(
                [float(p == label) for t, p in zip(targets, predictions, strict=True) if t == label] or [float("nan")]
            )
            for label in LABELS
        ]
        return float(np.mean(shares))

    found = only(mean_recall)
    assert (found.level, found.details["edge"]) == ("warning", "one example")


def test_a_metric_that_is_not_finite_where_a_label_is_never_answered_is_a_problem() -> None:
    def precision_of_a(targets: list[str], predictions: list[str]) -> float:
        hits = [t == "a" for t, p in zip(targets, predictions, strict=True) if p == "a"]
        return sum(hits) / len(hits) if hits else float("nan")

    assert only(precision_of_a).level == "problem"


def test_a_metric_that_raises_is_a_problem() -> None:
    found = only(lambda targets: 1 / 0)
    assert found.level == "problem"
    assert "ZeroDivisionError" in found.message


def test_a_metric_of_chance_is_a_problem() -> None:
    draws = itertools.count()
    found = only(lambda targets, predictions: right(targets, predictions) + next(draws) * 1e-4)
    assert found.level == "problem"
    assert "is not the same twice" in found.message


def test_a_metric_of_the_order_is_a_warning() -> None:
    def first_half(targets: list[str], predictions: list[str]) -> float:
        half = len(targets) // 2 or 1
        return right(targets[:half], predictions[:half])

    found = only(first_half)
    assert found.level == "warning"
    assert "depends on the order" in found.message


def test_a_metric_that_changes_what_it_is_given_is_a_problem() -> None:
    def spoils(targets: list[str], predictions: list[str], probabilities: Any) -> float:
        probabilities[:] = np.round(probabilities)
        return right(targets, predictions)

    found = only(spoils)
    assert found.level == "problem"
    assert "changes the probabilities" in found.message


def test_a_saturated_metric_is_a_warning() -> None:
    found = only(lambda targets, predictions: min(0.8, right(targets, predictions)))
    assert found.level == "warning"
    assert "saturated" in found.message


def test_a_metric_of_few_values_is_a_warning() -> None:
    found = examine_metric(own(lambda targets, predictions: round(right(targets, predictions), 1)), LABELS)
    assert {f.level for f in found} == {"warning"}
    assert any("most prompts will tie" in f.message for f in found)


def test_a_metric_that_falls_on_the_way_up_is_a_warning() -> None:
    found = only(lambda targets, predictions: right(targets, predictions) ** 2 - 0.7 * right(targets, predictions))
    assert found.level == "warning"
    assert "can be worse where more is right" in found.message


def test_a_metric_that_does_not_see_a_label_is_a_warning() -> None:
    def without_c(targets: list[str], predictions: list[str]) -> list[float]:
        return [float(t == p or t == "c") for t, p in zip(targets, predictions, strict=True)]

    found = only(without_c)
    assert (found.level, found.details["unseen"]) == ("warning", ["c"])


def test_a_slow_metric_is_told_with_what_a_search_takes() -> None:
    def slow(targets: list[str], predictions: list[str]) -> float:
        time.sleep(0.015)
        return right(targets, predictions)

    began = time.monotonic()
    [found] = examine_metric(own(slow), LABELS, seconds=5)
    assert time.monotonic() - began < 4
    assert found.level == "warning"
    assert found.details["calls"] == 44_000
    assert "44,000 times: 1" in found.message
    assert "one number an example" in found.message


def test_a_search_without_a_number_of_trials_is_not_told_as_a_million() -> None:
    [found] = examine_metric(METRICS["macro_f1"], LABELS, trials=UNBOUNDED)
    assert (found.level, found.details["calls"]) == ("fine", 44_000)


def test_the_time_limit_ends_the_examination() -> None:
    def slower(targets: list[str], predictions: list[str]) -> float:
        time.sleep(0.2)
        return right(targets, predictions)

    began = time.monotonic()
    found = examine_metric(own(slower), LABELS, seconds=0.5)
    assert time.monotonic() - began < 2
    assert [f.level for f in found] == ["warning"]
    assert found[0].details["cut_short"]
    began = time.monotonic()
    found = examine_metric(own(slower), LABELS, seconds=0.0)
    assert time.monotonic() - began < 2
    assert found[0].level == "problem"


def test_a_name_that_steers_a_terminal_is_shown_inert() -> None:
    [found] = examine_metric(Metric("\x1b[31m\u202e", lambda targets: 0.5), LABELS)
    assert found.message.isprintable()


# -- in a process of its own ------------------------------------------------------------------------------


def isolated(folder: Path, *body: str, seconds: float = 60.0) -> Metric:
    lines = "\n    ".join(body)
    text = f"import os, random, time\nfrom autoprompt.metrics import metric\n@metric\ndef f(targets, predictions):\n    {lines}\n"
    (folder / "m.py").write_text(text, encoding="utf-8")
    return load_metric("m.py:f", folder, LABELS, seconds)


def test_a_metric_in_a_process_of_its_own_is_examined_alike(tmp_path: Path) -> None:
    found = examine_metric(isolated(tmp_path, "return [float(t == p) for t, p in zip(targets, predictions)]"), LABELS)
    assert [f.level for f in found] == ["fine"]
    assert found[0].details["per_example"]


def test_chance_in_a_process_of_its_own_is_seen(tmp_path: Path) -> None:
    chance = isolated(tmp_path, "return sum(t == p for t, p in zip(targets, predictions)) + random.random()")
    [found] = examine_metric(chance, LABELS)
    assert found.level == "problem"
    assert "is not the same twice" in found.message


def test_a_metric_that_hangs_or_dies_is_a_problem(tmp_path: Path) -> None:
    hangs = isolated(tmp_path, "time.sleep(60 * (len(targets) > 100))", "return 1.0", seconds=1)
    [found] = examine_metric(hangs, LABELS)
    assert found.level == "problem"
    assert "did not answer within 1 seconds" in found.message
    dies = isolated(tmp_path, "os._exit(3) if len(targets) > 100 else None", "return 1.0")
    [found] = examine_metric(dies, LABELS)
    assert "exit code 3" in found.message


# -- made-up answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_made_up_answers_are_right_as_often_as_was_asked(share: float) -> None:
    outcome = made_up(LABELS, 90, share)
    assert np.mean([t == p for t, p in zip(outcome.targets, outcome.predictions, strict=True)]) == pytest.approx(share)
    assert outcome.probabilities.sum(1) == pytest.approx(np.ones(90))
    assert np.array_equal(outcome.probabilities, made_up(LABELS, 90, share).probabilities)
    assert not np.array_equal(outcome.probabilities, made_up(LABELS, 90, share, 1).probabilities)


def test_a_missed_label_is_always_answered_wrong() -> None:
    outcome = made_up(LABELS, 90, 1.0, blind="b")
    pairs = list(zip(outcome.targets, outcome.predictions, strict=True))
    assert all((t == p) is (t != "b") for t, p in pairs)


def test_strange_answers_are_sound() -> None:
    for outcome in strange(LABELS, 90).values():
        assert outcome.probabilities.sum(1) == pytest.approx(np.ones(len(outcome.targets)))
    assert len(strange(LABELS, 90)["one example"].targets) == 1


def test_one_example_and_the_decorator_do(tmp_path: Path) -> None:
    @metric(maximize=False)
    def errors(targets: list[str], predictions: list[str]) -> list[float]:
        return [float(t != p) for t, p in zip(targets, predictions, strict=True)]

    found = examine_metric(errors, ("x", "y"), examples=1)
    assert found[0].details["maximize"] is False
    assert found[0].details["examples"] == 4


def test_a_metric_that_asks_for_rows_is_not_tried_on_answers_without_any() -> None:
    [found] = examine_metric(metric(lambda rows: [float(row["weight"]) for row in rows]), LABELS)
    assert (found.level, "asks for rows" in found.message) == ("fine", True)
