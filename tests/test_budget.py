"""Runs that end by a budget: of time, of tokens, and what they leave."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from space_file import as_toml

from autoprompt import events
from autoprompt.clock import Clock
from autoprompt.errors import ConfigError, StudyError
from autoprompt.notify import notify
from autoprompt.preview import preview
from autoprompt.results import read_journal, spent
from autoprompt.run import run

pytestmark = pytest.mark.model

GRACE = 60.0  # seconds that a run may be late


@pytest.fixture
def space(topics_space: dict[str, Any]) -> dict[str, Any]:
    """A space that a search does not exhaust in a minute."""
    return {
        **topics_space,
        "space": {
            "instructions": [f"Name the topic {n}." for n in range(40)],
            "demonstrations": {"most": 3, "draws": 64, "orders": 8},
        },
        "study": {"batch": 4, "slice": 8, "branches": ["discrete"], "sampler": "random"},
        "finetune": {"epochs": 2, "method": "lora"},
        "doctor": False,
        "explain": False,
    }


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_journal(folder / "events.jsonl") if event["event"] == kind]


def test_a_run_of_some_seconds_ends_in_time_with_verdict_tuning_and_export(space: dict[str, Any]) -> None:
    seconds = 40.0
    result = run(space, changes={"budget": {"hours": seconds / 3600}, "finetune": {"epochs": 4000}})
    assert result.values["halted"] == "what is left of the run's time is kept for what follows."
    assert result.values["stopped"] == ""
    assert spent(read_journal(result.folder / "events.jsonl")) < seconds + GRACE
    [plan] = told(result.folder, "PlanMade")
    assert set(plan["seconds"]) == {"search", "confirm", "verdict", "finetune", "export", "explain"}
    assert plan["ends"] <= seconds
    assert 1 <= plan["trials"] < events.UNBOUNDED
    assert len(told(result.folder, "TrialFinished")) > 4  # no 80: time is the only limit
    [notice] = [e["message"] for e in told(result.folder, "Notice") if e["message"].startswith("Fine-tuning has")]
    fitting = re.fullmatch(r"Fine-tuning has (\d+) of 4000 epochs, for which there is time\.", notice)
    assert fitting
    assert {e["epochs"] for e in told(result.folder, "EpochFinished")} == {int(fitting[1])}  # what its schedule knows
    assert (result.folder / "winner/prompt.json").exists()
    assert result.values["verdict"] in {"improved", "no improvement", "worse"}


def test_tokens_end_a_search(space: dict[str, Any]) -> None:
    limited = {**space, "finetune": {"method": "none"}}
    result = run(limited, changes={"budget": {"tokens": 20_000}})
    used = sum(event["tokens"] for event in told(result.folder, "TrialFinished"))
    assert used >= 20_000
    assert any("tokens" in event["message"] for event in told(result.folder, "Notice"))


def test_a_budget_that_is_over_before_the_users_own_prompt_is_scored_is_an_error(
    space: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "left", property(lambda self: 0.0))
    with pytest.raises(
        StudyError, match=r"The run's time ends before your own prompt is scored on all of dev\. Give it"
    ):
        run(space, changes={"budget": {"hours": 1.0}})


def test_a_run_goes_on_under_another_budget(space: dict[str, Any]) -> None:
    fixed = {**space, "finetune": {"method": "none"}}
    first = run(fixed, changes={"study": {"trials": 5}})
    again = run(fixed, changes={"study": {"trials": 13}})
    assert again.values == first.values  # finished: read back
    more = run(fixed, changes={"study": {"trials": 13}}, extend=True)
    whole = run({**fixed, "name": "whole"}, changes={"study": {"trials": 13}})
    assert more.values["evaluations"] > first.values["evaluations"]
    for key in ("baseline", "winner", "interval", "trials", "evaluations"):
        assert more.values[key] == whole.values[key], key


def test_a_plan_is_told_and_nothing_is_written(space: dict[str, Any], tmp_path: Path) -> None:
    as_toml(space, tmp_path / "topics.toml")
    heard: list[events.Event] = []
    before = sorted(tmp_path.iterdir())
    plan = preview(tmp_path / "topics.toml", heard.append, {"budget": {"hours": 2.0}})
    assert sorted(tmp_path.iterdir()) == before
    assert plan.trials > 80
    assert isinstance(heard[-1], events.PlanMade)
    assert heard[-1].ends <= 7200
    assert heard[-1].memory > 0
    assert heard[-1].disk > 0


@pytest.mark.parametrize(
    ("changes", "wording"),
    [
        ({"budget": {"hours": -1.0}}, r"budget\.hours"),
        ({"budget": {"until": "later"}}, r"until is 'later'; give a time of day"),
        ({"study": {"trials": 1}}, r"study\.trials"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(changes: dict[str, Any], wording: str, space: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=wording):
        run(space, changes=changes)


# -- the command at the end ------------------------------------------------------------------------


def test_the_users_command_is_told_the_outcome(tmp_path: Path) -> None:
    script = "import os, pathlib; pathlib.Path('told').write_text(os.environ['AUTOPROMPT_OUTCOME'])"
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert notify([sys.executable, "-c", script], {"outcome": "The winner is better; $(touch x)"}) == ""
    finally:
        os.chdir(here)
    assert (tmp_path / "told").read_text() == "The winner is better; $(touch x)"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["told"]


@pytest.mark.parametrize(
    ("command", "wording"),
    [
        (["/no/such/command"], "The command '/no/such/command' of [budget] notify did not run"),
        ([sys.executable, "-c", "raise SystemExit(4)"], "notify ended with 4."),
    ],
)
def test_a_command_that_fails_is_told_and_stops_nothing(command: list[str], wording: str) -> None:
    assert wording in notify(command, {})
