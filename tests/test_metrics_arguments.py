"""What a metric of the user's own may ask for and return: here and in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoprompt.errors import MetricError
from autoprompt.metrics import Metric, Outcome, load_metric, metric
from autoprompt.metrics.returned import FEEDBACK

LABELS = ("a", "b")
Loader = Callable[..., Metric]


def outcome() -> Outcome:
    return Outcome(
        ("a", "b", "a"),
        np.zeros((3, 0)),
        LABELS,
        ("a", None, "b"),
        (("A",), (), ("b", "\ud800")),
        ({"text": "one", "weight": "2"}, {"text": "two", "weight": "1"}, {"text": "tr\u00eas", "weight": "0.5"}),
    )


@pytest.fixture(params=["here", "in a process of its own"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Loader:
    """A metric from its source, loaded in either way."""

    def loaded(source: str) -> Metric:
        (tmp_path / "m.py").write_text(f"from autoprompt.metrics import metric\n{source}\n", encoding="utf-8")
        if request.param != "here":
            return load_metric("m.py:f", tmp_path, LABELS)
        space: dict[str, object] = {"metric": metric}
        exec(source, space)
        found = space["f"]
        assert isinstance(found, Metric)
        return found

    return loaded


# -- what it asks for ------------------------------------------------------------------------------


def test_references_begin_with_the_target(own: Loader) -> None:
    found = own("@metric\ndef f(references): return [len(r) + 10 * (r[0] in 'ab') for r in references]")
    assert found.values(outcome()).tolist() == [12, 11, 13]
    assert found.values(Outcome(("a",), np.zeros((1, 0)), LABELS, ("a",))).tolist() == [11]


def test_answers_tell_what_could_not_be_read_and_predictions_do_not(own: Loader) -> None:
    found = own(
        "@metric\ndef f(answers, predictions): return [(a is None) + 2 * (p == '') for a, p in zip(answers, predictions)]"
    )
    assert found.values(outcome()).tolist() == [0, 3, 0]


def test_answers_are_the_predictions_where_labels_are_weighed(own: Loader) -> None:
    found = own("@metric\ndef f(answers): return [float(a == 'b') for a in answers]")
    assert found.values(Outcome(("a", "b"), np.eye(2), LABELS)).tolist() == [0, 1]


def test_rows_are_the_columns_of_each_example(own: Loader) -> None:
    found = own("@metric\ndef f(rows): return [float(row['weight']) for row in rows]")
    assert found.arguments == ("rows",)
    assert found.values(outcome()).tolist() == [2, 1, 0.5]


def test_rows_follow_their_examples(own: Loader) -> None:
    found = own("@metric\ndef f(rows): return [float(row['weight']) for row in rows]")
    taken = outcome().take(np.array([2, 0, 2]))
    assert found.values(taken).tolist() == [0.5, 2, 0.5]
    assert taken.references == (("b", "\ud800"), ("A",), ("b", "\ud800"))
    assert taken.answers == ("b", "a", "b")


def test_rows_are_empty_where_there_are_none(own: Loader) -> None:
    found = own("@metric\ndef f(rows): return [float(len(row)) for row in rows]")
    assert found.values(Outcome(("a", "b"), np.eye(2), LABELS)).tolist() == [0, 0]


# -- proxies ---------------------------------------------------------------------------------------


def test_a_metric_of_the_whole_set_without_a_proxy_counts_answers_that_are_right(own: Loader) -> None:
    found = own("@metric\ndef f(targets): return 0.5")
    assert found.proxy(outcome()).tolist() == [1, 0, 1]  # "b" is a reference of the last


def test_a_proxy_may_be_declared(own: Loader) -> None:
    found = own(
        "def half(answers): return [0.5 * (a is not None) for a in answers]\n@metric(proxy=half)\ndef f(targets): return 0.5"
    )
    assert found.proxy(outcome()).tolist() == [0.5, 0, 0.5]
    assert found.per_example(outcome()) is None
    assert found(outcome()) == 0.5


def test_the_values_of_the_examples_are_the_proxy_where_there_are_such(own: Loader) -> None:
    source = "@metric{}\ndef f(targets, predictions): return [float(t == p) for t, p in zip(targets, predictions)]"
    assert own(source.format("")).proxy(outcome()).tolist() == [1, 0, 0]
    assert own(source.format("(maximize=False)")).proxy(outcome()).tolist() == [-1, 0, 0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("lambda targets: 1.0", r"The proxy of the metric 'f' returned one number; it must return one an example\."),
        ("lambda targets: [1.0]", r"The metric 'f' returned shape \(1,\) for"),
        ("lambda target: [1.0]", r"The proxy of the metric 'f' takes 'target'; allowed are targets,"),
        ("0.5", r"The proxy of the metric 'f' is float; it must be a plain function\."),
        ("lambda targets: 1 / 0", r"The metric 'f' raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_proxy_that_breaks_the_contract_is_told(body: str, words: str, own: Loader) -> None:
    with pytest.raises(MetricError, match=words):
        own(f"@metric(proxy={body})\ndef f(targets): return 0.5").proxy(outcome())


def test_the_worst_value_that_is_declared_is_known(own: Loader) -> None:
    assert own("@metric(worst=-1)\ndef f(targets): return 0.5").worst == -1
    assert own("@metric\ndef f(targets): return 0.5").worst is None


# -- feedback --------------------------------------------------------------------------------------

TOLD = "@metric\ndef f(targets): return {{'value': {value}, 'feedback': {feedback}}}"


@pytest.mark.parametrize("value", ["0.5", "[0.5] * len(targets)"])
def test_a_metric_may_say_something_of_each_example(value: str, own: Loader) -> None:
    found = own(TOLD.format(value=value, feedback="['well: ' + t + chr(233) + chr(0x1F600) for t in targets]"))
    assert found(outcome()) == 0.5
    assert found.feedback(outcome()) == [
        "well: a\u00e9\U0001f600",
        "well: b\u00e9\U0001f600",
        "well: a\u00e9\U0001f600",
    ]


def test_a_metric_that_says_nothing_has_no_feedback(own: Loader) -> None:
    assert own("@metric\ndef f(targets): return 0.5").feedback(outcome()) is None
    assert own("@metric\ndef f(targets): return {'value': 0.5}").feedback(outcome()) is None


def test_long_feedback_is_cut_and_what_cannot_be_written_is_replaced(own: Loader) -> None:
    found = own(
        TOLD.format(
            value="0.5",
            feedback="[chr(0x1F600) * 9999, chr(0xD800), ''] * (len(targets) // 3) + [''] * (len(targets) % 3)",
        )
    )
    texts = found.feedback(Outcome(("a",) * 300, np.zeros((300, 0)), LABELS, ("a",) * 300))
    assert texts is not None
    assert texts[:3] == ["\U0001f600" * FEEDBACK, "?", ""]


@pytest.mark.parametrize(
    ("value", "feedback", "words"),
    [
        (
            "0.5",
            "['x']",
            r"The metric 'f' returned 1 texts of feedback for \d examples; it must return one an example\.",
        ),
        ("0.5", "['x'] * 999", r"returned \d+ texts of feedback for \d examples"),
        ("0.5", "'good'", r"The metric 'f' returned feedback of the type str; it must be a list of texts\."),
        ("0.5", "[1] * len(targets)", r"returned feedback whose item 0 is int; each must be a text\."),
        ("'x'", "['x'] * len(targets)", r"The metric 'f' returned str \('x'\); it must return numbers: one an example"),
        ("float('nan')", "['x'] * len(targets)", "returned NaN or infinity"),
        ("0.5, 'more': 1", "[]", r"The metric 'f' returned the key 'more'; allowed are value, feedback\."),
    ],
)
def test_feedback_that_breaks_the_contract_is_told(value: str, feedback: str, words: str, own: Loader) -> None:
    with pytest.raises(MetricError, match=words):
        own(TOLD.format(value=value, feedback=feedback)).feedback(outcome())
