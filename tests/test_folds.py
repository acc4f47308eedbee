"""Cross-validation: a run a fold, one budget, one sum."""

from __future__ import annotations

import html
import json
import os
import re
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from space_file import as_toml

from autoprompt import cli, cross_validate, events
from autoprompt.config import read_config
from autoprompt.errors import ConfigError
from autoprompt.folds import _judged, _part, difference_of_folds
from autoprompt.run import run


@pytest.fixture
def space(topics_space: dict[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in topics_space["data"].items() if key != "shares"} | {"folds": 3}
    return {
        **topics_space,
        "data": data,
        "space": {"instructions": ["Name the topic."]},
        "study": {"trials": 2},
        "finetune": {"method": "none"},
        "doctor": False,
        "explain": False,
    }


# -- the sum -------------------------------------------------------------------------------------


def test_the_interval_covers_where_folds_share_their_training_examples() -> None:
    """Differences whose correlation is that of K folds, test examples among all: Nadeau and Bengio's assumption."""
    generator, folds, covered = np.random.default_rng(1), 5, 0
    share = 1 / (folds - 1)
    correlation = share / (1 + share)
    for _ in range(2000):
        drawn = np.sqrt(correlation) * generator.normal() + np.sqrt(1 - correlation) * generator.normal(size=folds)
        interval = difference_of_folds(list(0.3 + drawn), share)[1]
        assert interval is not None
        covered += interval[0] <= 0.3 <= interval[1]
    assert 0.94 <= covered / 2000 <= 0.97


def test_folds_that_agree_leave_no_doubt_and_one_fold_says_nothing() -> None:
    assert difference_of_folds([0.25] * 4, 0.3) == (0.25, (0.25, 0.25))
    assert difference_of_folds([0.25], 0.3) == (0.25, None)


@pytest.mark.parametrize(
    ("maximize", "interval", "outcome", "sentence"),
    [
        (
            True,
            (0.01, 0.2),
            "improved",
            r"is better than your prompt \(\+0\.105 m in the mean of 3 folds, 95 % interval",
        ),
        (False, (0.01, 0.2), "worse", r"is worse than your prompt"),
        (False, (-0.2, -0.01), "improved", r"is better than your prompt"),
        (True, (-0.1, 0.3), "no improvement", r"is not certainly better than your prompt"),
    ],
)
def test_the_outcome_follows_the_metrics_direction(
    maximize: bool, interval: tuple[float, float], outcome: str, sentence: str
) -> None:
    found = _judged("m", maximize, 0.105, interval, 3, 3)
    assert found[0] == outcome
    assert re.search(sentence, found[1])


# -- the budget ----------------------------------------------------------------------------------


def test_folds_share_hours_tokens_and_the_time_until_the_end(space: dict[str, Any]) -> None:
    config = read_config({**space, "budget": {"hours": 6, "tokens": 100}})
    assert _part(config, None, 3) == {"hours": 2.0, "tokens": 33}
    assert _part(config, None, 1) == {"hours": 2.0, "tokens": 33}
    end = datetime.now() + timedelta(hours=3)
    first, last = (datetime.fromisoformat(_part(config, end, left)["until"]) for left in (3, 1))
    assert abs(first - datetime.now() - timedelta(hours=1)) < timedelta(seconds=30)
    assert last == end


# -- whole runs ----------------------------------------------------------------------------------


@pytest.mark.model
def test_every_example_is_once_in_the_locked_test_and_the_sum_is_that_of_the_runs(
    space: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = as_toml(space, tmp_path / "topics.toml")
    assert cli.main(["run", str(file)]) == 0
    out = capsys.readouterr().out
    place = Path(space["results"])
    values = json.loads((place / "topics-folds/folds.json").read_text())
    assert [row["run"] for row in values["runs"]] == ["topics-fold1", "topics-fold2", "topics-fold3"]
    tests, each = [], []
    for row in values["runs"]:
        tests += (place / row["run"] / "test.jsonl").read_text().splitlines()
        result = json.loads((place / row["run"] / "result.json").read_text())
        each.append(result["winner"]["test"])
        assert row["winner"] == result["winner"]["test"]
    assert len(tests) == len(set(tests)) == 60
    assert values["winner"] == pytest.approx(np.mean(each), abs=1e-12)
    assert "Fold 3 of 3" in out
    assert values["sentence"] in out
    assert "mean" in out
    page = (place / "topics-folds/report.html").read_text()
    assert "3 folds of a cross-validation" in page
    assert html.escape(values["sentence"]) in page
    before = (place / "topics-fold2/result.json").read_bytes()
    assert cli.main(["run", str(file), "--strict"]) == (0 if values["verdict"] == "improved" else 4)
    assert (place / "topics-fold2/result.json").read_bytes() == before  # finished folds are read back


@pytest.mark.model
def test_a_signal_ends_the_fold_and_the_folds_and_the_next_call_goes_on(space: dict[str, Any]) -> None:
    def stops(event: events.Event) -> None:
        if isinstance(event, events.TrialFinished):
            os.kill(os.getpid(), signal.SIGINT)

    first = cross_validate(space, listener=stops)
    assert [one.folder.name for one in first.runs] == ["topics-fold1"]
    assert first.values["stopped"].startswith("it was asked to stop (SIGINT)")
    assert first.values["interval"] is None
    assert "one fold has no interval" in first.values["sentence"]
    found = cross_validate(space)
    assert len(found.runs) == 3
    assert found.values["stopped"] == ""
    assert found.values["runs"][0] == first.values["runs"][0]


def test_a_single_run_asks_for_its_fold_and_a_cross_validation_for_folds(space: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold is missing: which of the folds is test\. Allowed are 1 to 3"):
        run(space)
    with pytest.raises(ConfigError, match=r"needs data\.folds, and no data\.fold"):
        cross_validate({**space, "data": {**space["data"], "fold": 1}})
