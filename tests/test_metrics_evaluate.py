"""Metrics of the library evaluate, from folders as its modules are: real loading, without a network."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from autoprompt.config.sections import MetricSection
from autoprompt.errors import MetricError
from autoprompt.metrics import Metric, Outcome, make_metric
from autoprompt.metrics.evaluated import load_evaluated

LABELS = ("no", "yes")
MODULE = """
import datasets
import evaluate

class Found(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="d", citation="c", inputs_description="i",
            features=datasets.Features({{"predictions": {predictions}, "references": {references}}}),
        )

    def _compute(self, predictions, references):
        {body}
"""
TEXT = 'datasets.Value("string")'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HOME", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache" / name))
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    return tmp_path


def made(folder: Path, name: str, body: str, predictions: str = TEXT, references: str = TEXT, **keys: Any) -> Metric:
    (folder / name).mkdir()
    text = MODULE.format(predictions=predictions, references=references, body=body)
    (folder / name / f"{name}.py").write_text(text, encoding="utf-8")
    return make_metric(MetricSection(name=f"evaluate:{name}", **keys), folder, LABELS)


def outcome() -> Outcome:
    return Outcome(("yes", "no", "yes"), np.zeros((3, 0)), LABELS, ("yes", None, "no"), (("yeah",), (), ("no",)))


@pytest.mark.model
def test_a_module_of_a_folder_is_loaded_by_the_library_and_given_all_right_answers(module: Path) -> None:
    body = 'return {"hits": [float(p in r) for p, r in zip(predictions, references)], "size": len(references)}'
    found = made(module, "wer", body, TEXT, f"datasets.Sequence({TEXT})", key="hits")
    assert (found.name, found.maximize) == ("evaluate:wer", False)
    assert found.values(outcome()).tolist() == [1, 0, 1]


# -- what modules take and give, with a library that is as small as can be ---------------------------

INT, FLOAT = SimpleNamespace(dtype="int32"), SimpleNamespace(dtype="float64")


def loaded(
    monkeypatch: pytest.MonkeyPatch, kind: object, compute: Callable[..., Any], name: str = "x", **keys: Any
) -> Metric:
    features = [{"predictions": kind, "references": kind}]
    module = SimpleNamespace(features=features, compute=compute)
    monkeypatch.setitem(sys.modules, "evaluate", cast("ModuleType", SimpleNamespace(load=lambda name: module)))
    return load_evaluated(name, **{"key": None, "maximize": None, **keys})


def test_whole_numbers_are_the_places_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(
        monkeypatch,
        INT,
        lambda predictions, references: {"x": [10 * p + r for p, r in zip(predictions, references, strict=True)]},
    )
    assert found.values(outcome()).tolist() == [11, -10, 1]
    free = Outcome(("3",), np.zeros((1, 0)), (), ("4",))
    assert found.values(free).tolist() == [43]


def test_numbers_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, FLOAT, lambda predictions, references: {"x": predictions[0] - references[0]})
    assert found(Outcome(("1.25",), np.zeros((1, 0)), (), ("4.5",))) == 3.25
    assert found(Outcome(("1.25",), np.zeros((1, 0)), (), (None,))) == -1.25


@pytest.mark.parametrize(
    ("name", "maximize", "expected"),
    [
        ("wer", None, False),
        ("/a/b/wer", None, False),
        ("bleu", None, True),
        ("bleu", False, False),
        ("wer", True, True),
    ],
)
def test_the_direction_is_known_by_name_and_can_be_given(
    name: str, maximize: bool | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(monkeypatch, INT, dict, name, maximize=maximize).maximize is expected


@pytest.mark.parametrize(
    ("result", "key", "words"),
    [
        ({"a": 0.5, "b": 0.25}, None, r"evaluate:x returns a, b; say which counts: key = \"a\"\."),
        ({"a": 0.5, "b": 0.25}, "c", r"evaluate:x returns no 'c'; it returns a, b\."),
        (0.5, None, r"evaluate:x returned float; a metric returns numbers by name\."),
        ({"a": "good"}, None, r"The metric 'evaluate:x' returned str \('good'\); it must return numbers"),
    ],
)
def test_what_is_no_number_is_told(
    result: object, key: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MetricError, match=words):
        loaded(monkeypatch, INT, lambda **given: result, key=key)(outcome())
    assert loaded(monkeypatch, INT, lambda **given: {"a": 0.5, "b": 0.25}, key="b")(outcome()) == 0.25


def test_the_library_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MetricError, match=r"'evaluate:bleu' needs the library evaluate, .* autoprompt-search\[evaluate\]"
    ):
        make_metric("evaluate:bleu", Path())
