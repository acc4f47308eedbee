"""The examples of every kind of task: their rows are sound, their files are right, and each runs from end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.check import check
from autoprompt.config import read_config, read_task
from autoprompt.errors import ExecutionError
from autoprompt.execution import require_containment, run_programs
from autoprompt.metrics import Outcome, load_metric
from autoprompt.metrics.programs import program_with_tests
from autoprompt.predict import predict
from autoprompt.results import read_journal
from autoprompt.run import run

SPACES = Path(__file__).parents[1] / "search_spaces"
README = (SPACES.parent / "README.md").read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in SPACES.glob("*.toml"))
NEW = [name for name in NAMES if name != "support"]  # which has tests of its own, and takes minutes
THOROUGH = ("stars",)  # with doctor and explanation
try:
    CONTAINS = bool(require_containment())
except ExecutionError:
    CONTAINS = False

contains = pytest.mark.skipif(not CONTAINS, reason="this machine cannot contain programs, and runs none")
named = [pytest.param(name, marks=contains) if name == "code" else name for name in NEW]


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SPACES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def inputs_of(name: str) -> list[str]:
    config = read_config(SPACES / f"{name}.toml")
    return ["\n".join(map(str, (row[field] for field in config.data.fields))) for row in rows_of(name)]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def test_there_is_an_example_for_every_target_and_one_with_many_labels() -> None:
    targets = {read_config(SPACES / f"{name}.toml").data.target for name in NAMES if name != "code" or CONTAINS}
    assert targets | {"program"} == {"label", "labels", "option", "number", "text", "program"}
    assert len(read_config(SPACES / "many.toml").prompt.label_words) >= 12


def test_every_example_is_in_the_readme() -> None:
    assert [name for name in NAMES if f"(search_spaces/{name}.toml)" not in README] == []


@pytest.mark.parametrize("name", named)
def test_a_file_is_right(name: str) -> None:
    assert check(SPACES / f"{name}.toml").startswith(f"{SPACES / name}.toml is right: ")


@pytest.mark.parametrize("name", named)
def test_no_two_rows_are_alike(name: str) -> None:
    found = inputs_of(name)
    assert 40 <= len(found) <= 80
    assert len({" ".join(sorted(words(text))) for text in found}) == len(found)
    if name == "reading":  # whose rows share their text
        return
    bags = [words(text) for text in found]
    near = [(found[i], found[j]) for i, a in enumerate(bags) for j, b in enumerate(bags[:i]) if _alike(a, b)]
    assert near == []


def _alike(first: frozenset[str], second: frozenset[str]) -> bool:
    return len(first & second) > 0.7 * len(first | second)


@pytest.mark.parametrize("name", named)
def test_the_splits_share_no_text(name: str) -> None:
    config, splits = read_task(SPACES / f"{name}.toml", SPACES)
    test = splits.test.open("the rows of the examples", lambda reason: None)
    assert splits.duplicates_removed == 0
    assert min(len(splits.train), len(splits.dev), len(test)) >= 12
    told = config.data.fields[:1] if name == "reading" else config.data.fields
    shown = [{tuple(e.fields[field] for field in told) for e in part} for part in (splits.train, splits.dev, test)]
    assert not shown[0] & shown[2]
    assert not shown[1] & shown[2]
    assert not shown[0] & shown[1]


@contains
def test_the_reference_programs_pass_their_tests() -> None:
    rows = rows_of("code")
    programs = [program_with_tests(row["program"], row, at) for at, row in enumerate(rows, 1)]
    ran = run_programs(programs)
    assert [row["task"] for row, one in zip(rows, ran, strict=True) if not one.passed] == []


def test_the_tests_of_a_program_tell_it_from_others() -> None:
    for row in rows_of("code"):
        assert len(row["tests"]) >= 2
        assert all(test.startswith("assert ") for test in row["tests"])


def test_the_metric_of_the_dialogue_says_what_is_missing() -> None:
    metric = load_metric("dialogue.py:reply", SPACES)
    right = "The pool has twenty-eight degrees."
    said = (right, "The pool is closed.", "", "pool " * 50)
    outcome = Outcome((right,) * len(said), np.zeros((len(said), 0)), (), answers=said)
    values, feedback = metric.per_example(outcome), metric.feedback(outcome)
    assert values is not None
    assert feedback is not None
    assert values[0] == 1
    assert values[0] > values[1] > values[3] > values[2] == 0
    assert feedback[0] == "Good."
    assert feedback[1] == "Nothing is said of: degrees, eight, has, twenty."
    assert feedback[2] == "The clerk says nothing."
    assert feedback[3] == "50 words are too many for a turn; 25 are enough."


# -- whole runs ----------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize("name", named)
def test_an_example_runs_from_search_to_prediction(name: str, encoder_folder: Path, tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "study": {"trials": 6, "startup": 4, "steps": 8},
        "finetune": {"epochs": 1, "compare": False},
        "model": {"name": str(encoder_folder) if name == "likeness" else "builtin", "device": "cpu"},
    }
    if read_config(SPACES / f"{name}.toml").answer.tokens is not None:
        changes["answer"] = {"tokens": 6}
    if name not in THOROUGH:
        changes["doctor"] = {"checks": False, "baselines": False}
        changes["explain"] = {"why": False, "shortest": False, "robustness": False}
    result = run(SPACES / f"{name}.toml", results=tmp_path, changes=changes)
    found = predict(
        result.folder / "winner",
        result.folder / "test.jsonl",
        offline=True,
        allow_code_execution=name == "code",
    )
    part = "tuned" if found.part == "tuned" else "winner"
    assert found.value == result.values[part]["test"]
    assert len(found.rows) == result.values["data"]["sizes"]["test"]
    assert not any(states.get("fail") for states in result.values["trials"].values())
    told = [e["dev"] for e in read_journal(result.folder / "events.jsonl") if e["event"] == "EpochFinished"]
    assert told == result.values["tuned"]["dev_by_epoch"][1:]  # in the metric's own direction
