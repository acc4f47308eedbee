"""Metrics against hand-computed values, and the door for the user's own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoprompt.errors import MetricError
from autoprompt.metrics import Metric, Outcome, load_metric, metric

LABELS = ("a", "b", "c")


def outcome(targets: str, predictions: str, labels: tuple[str, ...] = LABELS, sure: float = 0.8) -> Outcome:
    """The outcome of answers given as letters, each with the probability `sure`."""
    rows = np.full((len(targets), len(labels)), (1 - sure) / (len(labels) - 1))
    for row, answer in zip(rows, predictions, strict=True):
        row[labels.index(answer)] = sure
    return Outcome(tuple(targets), rows, labels)


def builtin(name: str) -> Metric:
    return load_metric(name, Path())


# -- outcomes ------------------------------------------------------------------------------------


def test_the_prediction_is_the_most_probable_label() -> None:
    assert outcome("abc", "bca").predictions == ["b", "c", "a"]
    assert Outcome((), np.zeros((0, 3)), LABELS).predictions == []


def test_the_first_of_equal_labels_is_predicted() -> None:
    assert Outcome(("c",), np.full((1, 3), 1 / 3), LABELS).predictions == ["a"]


def test_rows_are_taken_in_their_order_and_may_repeat() -> None:
    taken = outcome("abc", "bca").take(np.array([2, 0, 2]))
    assert taken.targets == ("c", "a", "c")
    assert taken.predictions == ["a", "b", "a"]


# -- the three that come with the package --------------------------------------------------------


def test_accuracy_is_the_share_of_right_answers() -> None:
    found = outcome("aabbc", "abbbc")
    assert builtin("accuracy").values(found).tolist() == [1, 0, 1, 1, 1]
    assert builtin("accuracy")(found) == 0.8
    assert builtin("accuracy").maximize


@pytest.mark.parametrize(
    ("targets", "predictions", "expected"),
    [
        ("abc", "abc", 1.0),
        ("abc", "bca", 0.0),
        # a: 1 hit, 2 + 1 occurrences -> 2/3; b: 2 hits, 2 + 3 -> 4/5; c: 1 hit, 1 + 1 -> 1
        ("aabbc", "abbbc", (2 / 3 + 4 / 5 + 1) / 3),
        ("aab", "aaa", (4 / 5 + 0) / 2),  # c occurs nowhere and does not count
        ("aaa", "bbb", 0.0),
    ],
)
def test_macro_f1_is_the_mean_of_the_labels_f1(targets: str, predictions: str, expected: float) -> None:
    assert builtin("macro_f1")(outcome(targets, predictions)) == pytest.approx(expected, abs=1e-12)
    assert builtin("macro_f1").per_example(outcome(targets, predictions)) is None
    assert builtin("macro_f1").maximize


def test_log_loss_is_minus_the_logarithm_of_the_targets_probability() -> None:
    found = outcome("ab", "aa", sure=0.5)
    assert builtin("log_loss").values(found).tolist() == pytest.approx([math.log(2), math.log(4)])
    assert builtin("log_loss")(found) == pytest.approx(math.log(8) / 2)
    assert not builtin("log_loss").maximize


def test_log_loss_of_a_probability_of_zero_is_finite() -> None:
    found = Outcome(("a",), np.array([[0.0, 1.0]]), ("a", "b"))
    assert builtin("log_loss")(found) == pytest.approx(-math.log(1e-15))


def test_log_loss_follows_the_order_of_the_labels() -> None:
    first = Outcome(("b",), np.array([[0.25, 0.75]]), ("a", "b"))
    second = Outcome(("b",), np.array([[0.75, 0.25]]), ("b", "a"))
    assert builtin("log_loss")(first) == builtin("log_loss")(second) == pytest.approx(-math.log(0.75))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "log_loss"])
def test_the_order_of_the_examples_changes_no_metric(name: str) -> None:
    found = outcome("aabbc", "abbbc")
    order = np.array([4, 2, 0, 1, 3])
    assert builtin(name)(found.take(order)) == pytest.approx(builtin(name)(found), abs=1e-12)


# -- directions ----------------------------------------------------------------------------------


def test_better_and_gain_follow_the_direction() -> None:
    up, down = Metric("up", len), Metric("down", len, maximize=False)
    assert up.better(2, 1)
    assert not up.better(1, 2)
    assert not up.better(1, 1)
    assert down.better(1, 2)
    assert not down.better(1, 1)
    assert (up.gain(3, 1), down.gain(3, 1)) == (2, -2)


# -- the user's own ------------------------------------------------------------------------------

OWN = """
from autoprompt.metrics import metric

@metric
def cost_weighted(targets, predictions):
    return [0.0 if t == p else -5.0 if t == "a" else -1.0 for t, p in zip(targets, predictions)]

@metric
def whole(targets, predictions, labels):
    return sum(t == p for t, p in zip(targets, predictions)) / len(labels)

@metric(maximize=False, name="mistakes")
def errors(*, targets, predictions):
    return [float(t != p) for t, p in zip(targets, predictions)]

@metric
def brier(probabilities, targets, labels):
    import numpy
    wanted = numpy.array([[t == l for l in labels] for t in targets])
    return -((probabilities - wanted) ** 2).sum(1)

def plain(targets):
    return 1.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.py").write_text(OWN, encoding="utf-8")
    return tmp_path


def test_a_metric_of_the_users_file_gives_a_number_an_example(folder: Path) -> None:
    found = load_metric("metrics.py:cost_weighted", folder, LABELS)
    assert (found.name, found.maximize) == ("cost_weighted", True)
    assert found.values(outcome("aabc", "abcc")).tolist() == [0, -5, -1, 0]
    assert found(outcome("aabc", "abcc")) == -1.5


def test_a_metric_of_the_whole_set_gives_one_number(folder: Path) -> None:
    found = load_metric("metrics.py:whole", folder, LABELS)
    assert found(outcome("aabc", "abcc")) == pytest.approx(2 / 3)
    assert found.per_example(outcome("aabc", "abcc")) is None


def test_a_metric_may_be_minimized_and_named(folder: Path) -> None:
    found = load_metric("metrics.py:errors", folder, LABELS)
    assert (found.name, found.maximize) == ("mistakes", False)
    assert found(outcome("aabc", "abcc")) == 0.5


def test_a_metric_may_ask_for_probabilities(folder: Path) -> None:
    found = load_metric("metrics.py:brier", folder, LABELS)
    assert found.values(outcome("a", "a", sure=0.8)).tolist() == pytest.approx([-(0.04 + 0.01 + 0.01)])


def test_a_metric_in_a_folder_below_is_found(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "metrics.py").rename(folder / "below" / "mine.py")
    assert load_metric("below/mine.py:errors", folder).name == "mistakes"


def test_two_files_of_one_name_do_not_mix(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "metrics.py").write_text(OWN.replace("-5.0", "-9.0"), encoding="utf-8")
    first, second = (load_metric("metrics.py:cost_weighted", place) for place in (folder, other))
    assert (first(outcome("a", "b")), second(outcome("a", "b"))) == (-5, -9)


def test_a_function_may_be_made_a_metric_without_a_file() -> None:
    @metric(maximize=False)
    def wrong(targets: list[str], predictions: list[str]) -> list[float]:
        return [float(t != p) for t, p in zip(targets, predictions, strict=True)]

    assert isinstance(wrong, Metric)
    assert (wrong.name, wrong.maximize) == ("wrong", False)
    assert wrong(outcome("ab", "aa")) == 0.5


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package that publishes metrics: its source, and what each entry point names in it."""

    def installed(source: str, **points: str) -> None:
        (tmp_path / "publisher.py").write_text(f"from autoprompt.metrics import metric\n{source}\n", encoding="utf-8")
        about = tmp_path / "publisher-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: publisher\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = publisher:{attribute}" for name, attribute in points.items()]
        (about / "entry_points.txt").write_text("\n".join(["[autoprompt.metrics]", *lines]), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))

    return installed


def test_a_metric_published_as_an_entry_point_is_found(publish: Callable[..., None]) -> None:
    publish("@metric(maximize=False)\ndef two(targets): return [2.0] * len(targets)", published="two")
    found = load_metric("published", Path())
    assert (found.name, found.maximize) == ("two", False)
    assert found.values(outcome("ab", "ab")).tolist() == [2, 2]
    assert "publisher" not in sys.modules


def test_an_entry_point_that_is_not_there_is_told(publish: Callable[..., None]) -> None:
    publish("", published="len")
    with pytest.raises(MetricError, match=r"^The entry point 'published' raised AttributeError: .*has no attribute"):
        load_metric("published", Path())


def test_an_entry_point_that_names_something_else_is_told(publish: Callable[..., None]) -> None:
    publish("length = len", published="length")
    with pytest.raises(MetricError, match="The entry point 'published' is builtin_function_or_method, not a Metric"):
        load_metric("published", Path())


def test_an_unknown_metric_is_told_with_all_there_are(publish: Callable[..., None]) -> None:
    publish("@metric\ndef one(targets): return 1.0", published="one")
    with pytest.raises(
        MetricError,
        match=r"no metric 'acuracy'; allowed are accuracy, balanced_accuracy, .*, published, rouge1, .*, or .* mean 'accuracy'\?",
    ):
        load_metric("acuracy", Path())


def test_an_entry_point_that_cannot_be_loaded_is_told(publish: Callable[..., None]) -> None:
    publish("raise ImportError(\"no module named 'gone'\")", published="one")
    with pytest.raises(MetricError, match=r"^The entry point 'published' raised ImportError: no module named 'gone'"):
        load_metric("published", Path())


def test_an_installed_entry_point_does_not_hide_a_builtin(publish: Callable[..., None]) -> None:
    publish("@metric\ndef nothing(targets): return 0.0", accuracy="nothing")
    assert load_metric("accuracy", Path())(outcome("a", "a")) == 1.0


# -- breaks of the contract ----------------------------------------------------------------------

HEAD = "from autoprompt.metrics import metric\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "@metric\ndef f(targets, predicted): ...",
            r"m\.py raised MetricError: The metric 'f' takes 'predicted'; allowed are targets, predictions, "
            r"probabilities, labels, references, rows, answers, engine\. Did you mean 'predictions'\?",
        ),
        ("@metric\ndef f(targets, /): ...", "The metric 'f' takes 'targets'; allowed are"),
        ("@metric\ndef f(*targets): return 1.0", "The metric 'f' takes 'targets'; allowed are"),
        ("@metric\ndef f(**labels): return 1.0", "The metric 'f' takes 'labels'; allowed are"),
        ("@metric\ndef f(targets): return [float('nan')] * len(targets)", "The metric 'f' returned NaN or infinity"),
        ("@metric\ndef f(targets): return float('inf')", "'f' returned NaN or infinity; every value must be finite"),
        ("@metric\ndef f(targets): return [1.0]", r"'f' returned shape \(1,\) for 6 examples; it must return one"),
        ("@metric\ndef f(targets): return []", r"'f' returned shape \(0,\) for 6 examples"),
        ("@metric\ndef f(probabilities): return probabilities", r"'f' returned shape \(6, 3\) for 6 examples"),
        ("@metric\ndef f(targets): return 'good'", r"'f' returned str \('good'\); it must return numbers: one an"),
        ("@metric\ndef f(targets): return '0.5'", r"'f' returned str \('0.5'\); it must return numbers"),
        ("@metric\ndef f(targets): return ['1'] * len(targets)", r"'f' returned list .*; it must return numbers"),
        ("@metric\ndef f(targets): return None", "'f' returned NoneType .*; it must return numbers"),
        ("@metric\ndef f(targets): return {'a': 1}", "'f' returned dict .*; it must return numbers"),
        ("@metric\ndef f(targets): return 1j", "'f' returned complex .*; it must return numbers"),
        ("@metric\ndef f(targets): return [[1.0], [1.0, 2.0]]", "'f' returned list .*; it must return numbers"),
        ("@metric\ndef f(targets): return (1.0 for t in targets)", "'f' returned generator .*; it must return numbers"),
        ("@metric\ndef f(targets): return 1 / 0", "The metric 'f' raised ZeroDivisionError: division by zero"),
        ("@metric\ndef f(targets): return targets['x']", "The metric 'f' raised TypeError: list indices must be"),
        ("def f(targets): return 1.0", r"m\.py has no metric 'f'; it has none\. A metric is a function decorated with"),
        ("@metric\ndef g(targets): return 1.0", r"m\.py has no metric 'f'; it has g\."),
        ("@metric\ndef ff(targets): return 1.0", r"has no metric 'f'; it has ff\. Did you mean 'ff'\?"),
        ("f = 1", r"m\.py has no metric 'f'; it has none"),
        ("import gone_module_x", r"m\.py raised ModuleNotFoundError: No module named 'gone_module_x'"),
        ("def f(:", r"m\.py raised SyntaxError"),
        ("1 / 0", r"m\.py raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(1)", r"m\.py raised SystemExit: 1 \(line 2\)\."),
        ("@metric\ndef f(targets): exit('enough')", r"The metric 'f' raised SystemExit: enough \(line 3\)\."),
    ],
)
def test_a_break_of_the_contract_is_told_in_words(body: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(f"{HEAD}{body}\n", encoding="utf-8")
    with pytest.raises(MetricError, match=words):
        load_metric("m.py:f", tmp_path, LABELS)


def test_a_break_that_shows_only_on_other_answers_is_told_then() -> None:
    @metric
    def mean_of_a(targets: list[str], predictions: list[str]) -> float:
        return 1 / sum(p == "a" for p in predictions)

    with pytest.raises(MetricError, match="The metric 'mean_of_a' raised ZeroDivisionError: division by zero"):
        mean_of_a(outcome("ab", "bb"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"The metric 'gone\.py:f' names .*gone\.py, which is not a file"):
        load_metric("gone.py:f", tmp_path)


def test_a_file_without_a_function_is_told(folder: Path) -> None:
    with pytest.raises(MetricError, match=r"has no metric ''; it has brier, cost_weighted, errors, whole"):
        load_metric("metrics.py:", folder)


def test_a_path_without_a_function_is_told() -> None:
    with pytest.raises(MetricError, match=r"no metric 'metrics\.py'; .* or your own as 'file\.py:function'"):
        load_metric("metrics.py", Path())
