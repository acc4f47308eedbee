"""Metrics that judge with the task's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoprompt.answer import ByText
from autoprompt.data import Example
from autoprompt.errors import MetricError
from autoprompt.metrics import load_metric
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

JUDGE = '''
from autoprompt.engine import Request
from autoprompt.metrics import metric


@metric
def likely(predictions, references, engine):
    """How likely the model finds the right text behind the one that was written."""
    model, found = engine.model, []
    for answer, (right, *_) in zip(predictions, references):
        [encoding] = model.encode([answer], [[" " + right]], [""], [None], 0)
        [scores] = engine.score([Request(encoding.context, encoding.choices)])
        found.append(float(scores[0]))
    return found


@metric
def plain(targets, predictions):
    return [float(t == p) for t, p in zip(targets, predictions)]
'''
PROMPT = Prompt("{{ text }} {{ label }}", {}, answer=ByText(tokens=3))
EXAMPLES = [Example(0, {"text": "one"}, "two"), Example(1, {"text": "red"}, "blue")]


def test_a_metric_judges_with_the_engine_of_the_scorer(tmp_path: Path, llama_folder: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    found = load_metric("judge.py:likely", tmp_path, ())
    assert found.arguments == ("predictions", "references", "engine")
    scorer = Scorer(load_model(str(llama_folder), device="cpu"), found)
    assert scorer.metric.engine is scorer.engine
    [score] = scorer.score([PROMPT], EXAMPLES)
    assert score.value < 0
    assert score.margins == pytest.approx(scorer.metric.proxy(score.outcome) - 0.5 + 0.1 * np.exp(-score.losses))


def test_a_tuned_model_does_not_judge_itself(tmp_path: Path, llama_folder: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    model = load_model(str(llama_folder), device="cpu")
    scorer = Scorer(model, load_metric("judge.py:likely", tmp_path, ()))
    other = scorer.using(load_model(str(llama_folder), device="cpu"))
    assert other.metric.engine is scorer.engine


def test_other_metrics_of_the_file_run_in_a_process_of_their_own(tmp_path: Path, llama_folder: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    found = load_metric("judge.py:plain", tmp_path)
    assert type(found).__name__ == "Isolated"
    scorer = Scorer(load_model(str(llama_folder), device="cpu"), found)
    assert scorer.metric is found


def test_a_file_that_breaks_when_it_is_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("1 / 0\n" + JUDGE)
    with pytest.raises(MetricError, match=r"judge.py raised ZeroDivisionError"):
        load_metric("judge.py:likely", tmp_path)
