"""What a run says around its search: the doctor, the baselines, the verdict's details, the explanation, the page."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from space_file import as_toml

from autoprompt import cli, events
from autoprompt.checkup import checkup
from autoprompt.errors import ConfigError
from autoprompt.predict import predict
from autoprompt.prompt import Prompt
from autoprompt.results import read_journal
from autoprompt.run import run

pytestmark = pytest.mark.model


@pytest.fixture
def space(topics_space: dict[str, Any]) -> dict[str, Any]:
    return {
        **topics_space,
        "space": {
            "instructions": ["Name the topic.", "What is it about?"],
            "templates": ["{{ text }} -> {{ label }}"],
            "demonstrations": {"most": 2, "draws": 4, "orders": 2},
        },
        "study": {"trials": 13, "batch": 4, "slice": 8, "branches": ["discrete"], "sampler": "random"},
        "finetune": {"method": "none"},
        "explain": {"budget": 8},
    }


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_journal(folder / "events.jsonl") if event["event"] == kind]


def test_a_run_tells_what_may_spoil_it_what_it_must_beat_and_why_it_won(space: dict[str, Any]) -> None:
    result = run(space)
    folder = result.folder
    checks = {event["check"] for event in told(folder, "Finding")}
    assert checks >= {"duplicates", "leak", "imbalance", "size", "encoding", "metric", "window", "noise", "labels"}
    names = [event["name"] for event in told(folder, "BaselineScored")]
    assert names[0] == "majority class"
    assert {"linear probe", "nearest demonstrations"} <= set(names)
    [detailed], [flipped] = told(folder, "VerdictDetailed"), told(folder, "ExamplesFlipped")
    test = len((folder / "test.jsonl").read_text().splitlines())
    assert detailed["ledger"]["right"] + detailed["ledger"]["wrong"] == test
    assert sum(row["examples"] for row in detailed["classes"].values()) == test
    gained = flipped["gained"] - flipped["lost"]
    assert gained == pytest.approx(test * (result.values["winner"]["test"] - result.values["baseline"]["test"]))
    assert detailed["rival"]["value"] + detailed["rival"]["difference"] == result.values["winner"]["test"]
    explained = result.values["explained"]
    assert set(explained) <= {"GainExplained", "PromptShortened", "RobustnessMeasured"}
    assert {"PromptShortened", "RobustnessMeasured"} <= set(explained)
    if result.values["winner"]["kind"] != "baseline":
        parts = explained["GainExplained"]["parts"]
        assert sum(part["value"] for part in parts) == pytest.approx(explained["GainExplained"]["total"])
    if explained["PromptShortened"]["dropped"]:
        assert Prompt.load(folder / "short").fingerprint == explained["PromptShortened"]["fingerprint"]
    page = (folder / "report.html").read_text()
    assert result.values["sentence"].partition(" (")[0] in page
    assert "linear probe" in page
    order = [event["stage"] for event in told(folder, "StageStarted")]
    assert order == ["doctor", "search", "confirm", "verdict", "finetune", "export", "explain"]


def test_no_test_text_is_told_before_the_test_is_opened(space: dict[str, Any]) -> None:
    folder = run(space).folder
    texts = [json.loads(line)["text"] for line in (folder / "test.jsonl").read_text().splitlines()]
    before: list[str] = []
    for event in read_journal(folder / "events.jsonl"):
        if event["event"] == "TestOpened":
            break
        before.append(json.dumps(event, ensure_ascii=False))
    assert len(before) > 20
    assert not [text for text in texts if any(text in line for line in before)]


def test_a_run_that_goes_on_tells_the_findings_once(space: dict[str, Any]) -> None:
    fixed = {**space, "explain": False}
    first = run(fixed)
    more = run(fixed, changes={"study": {"trials": 17}}, extend=True)
    assert len(told(more.folder, "VerdictDetailed")) == 2
    counts = [event["check"] for event in told(more.folder, "Finding")]
    assert counts.count("noise") == 2  # once for each time that it was begun from the start
    assert more.values["baseline"] == first.values["baseline"]


def test_doctor_and_explanation_can_be_left_out_and_added_to_the_same_run(space: dict[str, Any]) -> None:
    bare = {**space, "doctor": False, "explain": False}
    result = run(bare)
    assert not told(result.folder, "Finding")
    assert not told(result.folder, "BaselineScored")
    assert told(result.folder, "VerdictDetailed")[0]["rival"] == {}
    assert result.values["explained"] == {}
    assert run(space).values == result.values  # it is the same run, finished


def test_the_finalist_with_the_best_worst_case_can_be_chosen(space: dict[str, Any]) -> None:
    careful = {**space, "doctor": False, "explain": False}
    careful["study"] = {**space["study"], "choose_by": "worst"}
    result = run(careful)
    [said] = [
        e["message"] for e in told(result.folder, "Notice") if "worst accuracy under small changes" in e["message"]
    ]
    numbers = [int(part.split()[0]) for part in said.partition(": ")[2].replace("trial ", "").split(", ")]
    values = [float(part.strip(".").split()[-1]) for part in said.partition(": ")[2].split(", ")]
    assert values == sorted(values, reverse=True)
    assert result.values["winner"]["trial"] == numbers[0]


def test_another_model_that_is_not_there_costs_no_verdict(space: dict[str, Any], tmp_path: Path) -> None:
    asked = {**space, "doctor": False, "explain": {"why": False, "robustness": False, "transfer": [str(tmp_path)]}}
    result = run(asked)
    assert result.values["verdict"]
    assert set(result.values["explained"]) == {"PromptShortened"}
    said = [event["message"] for event in told(result.folder, "Notice")]
    assert any(text.startswith("Not all of the winner is explained: The model") for text in said)


def test_the_top_prompts_are_tried_on_other_models(space: dict[str, Any], gpt2_folder: Path) -> None:
    other = str(gpt2_folder)
    asked = {**space, "doctor": False, "explain": {"why": False, "robustness": False, "transfer": [other]}}
    result = run(asked)
    rows = result.values["explained"]["PromptsTransferred"]["rows"]
    assert [row["model"] for row in rows] == [space["model"], other]
    assert rows[0]["values"]["winner"] == result.values["winner"]["dev"]
    assert set(rows[1]["values"]) >= {"your prompt", "winner"}


def test_the_doctor_writes_nothing_and_opens_no_test(space: dict[str, Any], tmp_path: Path) -> None:
    path, heard = as_toml(space, tmp_path / "topics.toml"), list[events.Event]()
    before = sorted(tmp_path.iterdir())
    found = checkup(path, heard.append)
    assert sorted(tmp_path.iterdir()) == before
    assert [event for event in heard if isinstance(event, events.Finding)] == found
    assert not [event for event in heard if isinstance(event, events.TestOpened)]
    with pytest.raises(ConfigError, match=r"There is no such file\. Did you mean 'topics\.toml'\?"):
        checkup(tmp_path / "topic.toml")


def test_the_verbs_tell_of_findings_of_one_run_and_of_several(
    space: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = as_toml({**space, "explain": False}, tmp_path / "topics.toml")
    assert cli.main(["doctor", str(path)]) == 0
    assert "findings: " in capsys.readouterr().out
    code = cli.main(["run", str(path), "--strict"])
    result = json.loads((tmp_path / "results/topics/result.json").read_text())
    assert code == (0 if result["verdict"] == "improved" else 4)
    assert cli.main(["run", str(path)]) == 0
    capsys.readouterr()
    one, two = tmp_path / "results/topics", tmp_path / "results/other"
    assert cli.main(["run", str(path), "--name", "other"]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(one), str(two)]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 4  # a head, a line, and a row each
    assert result["verdict"] in out
    assert cli.main(["report", str(one), str(two), "--html", str(tmp_path / "both.html")]) == 0
    assert "2 runs" in (tmp_path / "both.html").read_text()
    assert cli.main(["report", str(one), "--html", str(tmp_path / "one.html")]) == 0
    assert result["sentence"].partition(" (")[0] in (tmp_path / "one.html").read_text()
    assert cli.main(["report", str(one), str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_metrics_beside_are_told_at_the_verdict_and_constraints_decide(space: dict[str, Any]) -> None:
    label = next(iter(space["prompt"]["label_words"]))
    metric = {"name": "accuracy", "also": ["macro_f1", "mcc", "mse"], "constraints": [f"recall[{label}] >= 1.5"]}
    result = run({**space, "metric": metric, "doctor": False, "explain": False, "study": {"trials": 2}})
    assert set(result.values["also"]) == {"macro_f1", "mcc"}
    assert result.values["metric"] == "accuracy"
    assert -1.5 <= result.values["winner"]["test"] <= -0.5  # no recall is beyond 1
    notices = [event["message"] for event in told(result.folder, "Notice")]
    assert any("It is not reported beside accuracy: The target" in message for message in notices)
    page = (result.folder / "report.html").read_text()
    assert "Other metrics on the locked test" in page
    assert "mcc" in page
    again = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert again.value == result.values["winner"]["test"]  # the constraint goes along with the export


def test_costs_go_along_with_the_export(space: dict[str, Any]) -> None:
    labels = list(space["prompt"]["label_words"])
    metric = {"name": "cost", "costs": {label: {other: 2.5} for label, other in itertools.pairwise(labels)}}
    result = run({**space, "metric": metric, "doctor": False, "explain": False, "study": {"trials": 2}})
    again = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert (again.metric, again.value) == ("cost", result.values["winner"]["test"])
    assert predict(result.folder / "winner", result.folder / "test.jsonl", prompt_only=True).value == again.value
