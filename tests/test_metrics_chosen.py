"""What the table [metric] chooses: costs, constraints, and metrics beside the one that is chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.config.sections import MetricSection
from autoprompt.errors import MetricError
from autoprompt.metrics import Metric, Outcome, make_metric

LABELS = ("spam", "billing", "other things")


def answered(targets: str, answers: str) -> Outcome:
    """Labels by their first letters; "-" could not be read."""
    full = {label[0]: label for label in LABELS}
    given = tuple(full.get(letter) for letter in answers)
    return Outcome(tuple(full[letter] for letter in targets), np.zeros((len(targets), 0)), LABELS, given)


def chosen(name: str, folder: Path | None = None, **keys: Any) -> Metric:
    return make_metric(MetricSection(name=name, **keys), folder or Path(), LABELS)


def test_a_table_with_a_name_alone_is_the_metric_of_that_name() -> None:
    assert chosen("mcc") == make_metric("mcc", Path(), LABELS)


# -- costs -----------------------------------------------------------------------------------------


def test_a_cost_is_the_mean_of_what_pairs_cost() -> None:
    cost = chosen("cost", costs={"billing": {"spam": 5}, "spam": {"billing": 0.25}}, default=2.0)
    assert (cost.name, cost.maximize) == ("cost", False)
    assert cost.values(answered("bsobs", "bssso")).tolist() == [0, 0, 2, 5, 2]
    assert cost.values(answered("sb", "bo")).tolist() == [0.25, 2]


def test_an_answer_that_could_not_be_read_costs_the_dearest() -> None:
    cost = chosen("cost", costs={"billing": {"spam": 5.0}, "spam": {"billing": 0.25}})
    assert cost.values(answered("bso", "---")).tolist() == [5, 1, 1]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"costs": {"biling": {"spam": 1.0}}},
            r"The costs name no label 'biling'; allowed are spam, .* mean 'billing'\?",
        ),
        ({"costs": {"spam": {"biling": 1.0}}}, r"The costs name no label 'biling'; allowed are"),
        ({"costs": {"spam": {"spam": 1.0}}}, r"The costs give 1 for 'spam' answered right; that costs nothing\."),
        ({}, r"The metric 'cost' needs costs, such as costs ="),
    ],
)
def test_wrong_costs_are_told(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(MetricError, match=words):
        chosen("cost", **keys)


def test_costs_belong_to_the_metric_cost() -> None:
    with pytest.raises(
        MetricError, match=r"costs are given, and the metric is 'accuracy'; they belong to name = \"cost\""
    ):
        chosen("accuracy", costs={"spam": {"billing": 1.0}})
    with pytest.raises(MetricError, match=r"The metric 'cost' needs costs: \[metric\] with name"):
        make_metric("cost", Path(), LABELS)


# -- constraints -----------------------------------------------------------------------------------


def test_a_constraint_that_holds_changes_nothing() -> None:
    found, outcome = (
        chosen("accuracy", constraints=["recall[billing] >= 0.5", "accuracy>=.1"]),
        answered("bbso", "bsso"),
    )
    assert found(outcome) == 0.75
    assert found.name == "accuracy"


@pytest.mark.parametrize(
    ("constraint", "shortfall"),
    [
        ("recall[billing] >= 0.9", 0.4),
        ("precision[spam] >= 0.8", 0.8 - 1 / 2),
        ("f1[other things] >= 1", 0.0),
        ("f1[ billing ] >= 1.0", 1 - 2 / 3),
        ("recall[spam] <= 0.25", 0.75),
        ("accuracy >= 1e0", 0.25),
    ],
)
def test_a_broken_constraint_makes_a_prompt_worth_less_than_any_that_breaks_none(
    constraint: str, shortfall: float
) -> None:
    found, outcome = chosen("accuracy", constraints=[constraint]), answered("bbso", "bsso")
    assert found(outcome) == pytest.approx(0.75 if not shortfall else -shortfall)
    values = found.per_example(outcome)
    assert values is not None
    assert values.tolist() == found.proxy(outcome).tolist() == [1, 0, 1, 1]


def test_shortfalls_add_up_and_less_missing_is_better() -> None:
    found = chosen("mcc", constraints=["recall[billing] >= 1", "recall[spam] >= 1"])
    both, one, none = (found(answered("bbss", answers)) for answers in ("bsbs", "bbbs", "bbss"))
    assert (both, one, none) == (-1 - 1.0, -1 - 0.5, 1.0)


def test_where_less_is_better_a_broken_constraint_is_worth_more_than_the_worst() -> None:
    found = chosen("cost", costs={"billing": {"spam": 5.0}}, constraints=["recall[billing] >= 0.5", "cost <= 4"])
    assert found(answered("bb", "bs")) == 2.5
    assert found(answered("bb", "ss")) == 5 + 0.5 + 1
    assert found.gain(found(answered("bb", "bs")), found(answered("bb", "ss"))) > 0


@pytest.mark.parametrize("constraint", ["recall[billing] >= 1", "precision[billing] >= 1", "f1[billing] >= 1"])
def test_a_constraint_on_what_does_not_occur_holds(constraint: str) -> None:
    assert chosen("accuracy", constraints=[constraint])(answered("ss", "so")) == 0.5


def test_a_metric_without_a_worst_value_needs_one_for_constraints(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "from autoprompt.metrics import metric\n@metric\ndef f(targets, predictions): "
        "return [2.0 if t == p else -9.0 for t, p in zip(targets, predictions)]\n",
        encoding="utf-8",
    )
    with pytest.raises(MetricError, match=r"The metric 'f' has no worst value, .* give one: worst = \.\.\. beside"):
        chosen("m.py:f", tmp_path, constraints=["accuracy >= 0.5"])
    found = chosen("m.py:f", tmp_path, constraints=["accuracy >= 0.5"], worst=-2.0)
    assert found(answered("ss", "ss")) == 2
    assert found(answered("ss", "sb")) == -2  # the worst that a prompt can be that breaks none
    assert found(answered("ss", "bb")) == -2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "recall[biling] >= 0.9",
            r"names no label 'biling'; allowed are spam, billing, other things\. Did you mean 'billing'",
        ),
        (
            "recal[billing] >= 0.9",
            r"has 'recal' of a label; allowed are recall, precision, f1\. Did you mean 'recall'\?",
        ),
        ("acuracy >= 0.9", r"names no metric 'acuracy'; allowed are .*Did you mean 'accuracy'\?"),
        ("recall >= 0.9", r"names no metric 'recall'; .* Write 'recall\[LABEL\] >= 0\.9'\."),
        ("recall[billing] > 0.9", r"cannot be read; write it as 'recall\[LABEL\] >= 0\.9', also with precision or f1"),
        ("recall[billing] >= ninety", "cannot be read"),
        ("recall[billing] >= 0.9 and accuracy >= 1", "cannot be read"),
        ("recall[[billing]] >= 0.9", "cannot be read"),
        ("recall[] >= 0.9", "cannot be read"),
        ("__import__('os') >= 1", "cannot be read"),
        ("accuracy >= \u0661", "cannot be read"),
        (">= 1", "cannot be read"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_told(text: str, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        chosen("accuracy", constraints=[text])


def test_constraints_on_sets_of_labels_look_into_the_sets() -> None:
    found = make_metric(
        MetricSection(name="subset_accuracy", constraints=["recall[joy] >= 0.9"]), Path(), ("joy", "fear")
    )
    given = Outcome(("joy, fear", "joy", "none"), np.zeros((3, 0)), (), ("joy", "joy, fear", "none"))
    assert found(given) == pytest.approx(1 / 3)


# -- beside ----------------------------------------------------------------------------------------


def test_metrics_beside_are_carried_and_change_nothing() -> None:
    found = chosen("macro_f1", also=["accuracy", "mcc"], constraints=["accuracy >= 0.1"])
    assert [one.name for one in found.also] == ["accuracy", "mcc"]
    assert found(answered("bs", "bs")) == 1


def test_a_metric_beside_that_is_not_there_is_told() -> None:
    with pytest.raises(MetricError, match=r"There is no metric 'acuracy'; .* Did you mean 'accuracy'\?"):
        chosen("macro_f1", also=["acuracy"])


@pytest.mark.parametrize("key", [{"maximize": False}, {"key": "f1"}])
def test_keys_of_the_library_evaluate_are_refused_elsewhere(key: dict[str, Any]) -> None:
    with pytest.raises(
        MetricError, match=r"(maximize|key) is given, and the metric is 'accuracy'; it belongs to metrics of"
    ):
        chosen("accuracy", **key)
