"""The stage of fine-tuning in a whole run: what each part was worth, more data, another task, the export."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprompt.data import Example
from autoprompt.errors import DataError, ModelError
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.predict import predict
from autoprompt.prompt import Prompt
from autoprompt.results import read_journal
from autoprompt.run import Result, run
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

LEARNING = {"epochs": 12, "patience": 0, "batch_size": 4, "learning_rate": 0.02, "compare": False}  # enough to help
WORDS = {"sports": "sports", "money": "money", "weather": "weather"}


def lines(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def space_file(folder: Path, model: Path, rows: list[dict[str, str]], **finetune: Any) -> dict[str, Any]:
    """A short search with the fine-tuning given; its files lie in `folder`."""
    return {
        "name": "topics",
        "model": {"name": str(model), "device": "cpu"},
        "results": str(folder / "results"),
        "data": {"file": str(folder / lines(folder / "topics.jsonl", rows)), "label": "topic"},
        "prompt": {"template": "{{ text }}\nTopic: {{ label }}", "label_words": WORDS},
        "space": {"templates": ["It is {{ label }}: {{ text }}"], "instructions": ["", "Name the topic."]},
        "seed": 1,
        "study": {"trials": 9, "batch": 4, "startup": 4, "branches": ["discrete"], "finalists": 3},
        "finetune": {"epochs": 2, "learning_rate": 0.01, **finetune},
        "doctor": False,
        "explain": False,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stage")


@pytest.fixture(scope="module")
def done(folder: Path, llama_folder: Path, topics_rows: list[dict[str, str]]) -> Result:
    """A run with everything that fine-tuning can be asked for."""
    bare = [{"text": row["text"].replace(" the ", " this ") + " Again and again."} for row in topics_rows[:20]]
    other = [{"text": row["text"], "topic": row["topic"]} for row in topics_rows[-12:]]
    values = space_file(
        folder, llama_folder, topics_rows,
        prompts=2, augment=["formats"], variants=2, write=1, confidence=0.01,
        unlabelled=str(folder / lines(folder / "bare.jsonl", bare)),
        second={
            "file": str(folder / lines(folder / "other.jsonl", other)), "label": "topic",
            "template": "{{ text }} {{ label }}", "label_words": WORDS,
        },
    )  # fmt: skip
    return run(values)


def test_the_result_tells_what_each_part_was_worth(done: Result) -> None:
    tuned = done.values["tuned"]
    parts = tuned["parts"]
    assert parts["cells"]["base"] == done.values["baseline"]["test"]
    assert parts["cells"]["prompt"] == done.values["winner"]["test"]
    assert parts["cells"]["both"] == tuned["test"]
    assert ("tuning" in parts["cells"]) == (done.values["winner"]["kind"] != "baseline")
    for value, low, high in parts["differences"].values():
        assert low <= value + 1e-9
        assert high >= value - 1e-9
    assert len(tuned["loss_by_epoch"]) == len(tuned["dev_by_epoch"]) - 1
    assert 2 <= tuned["prompts"] <= 4


def test_the_result_and_the_report_tell_of_more_data_and_the_other_task(done: Result) -> None:
    tuned, report = done.values["tuned"], (done.folder / "report.md").read_text(encoding="utf-8")
    assert set(tuned["added"]) == {"unlabelled", "written"}
    for counts in tuned["added"].values():
        assert counts["kept"] == sum(counts["labels"].values())
        assert counts.get("read", counts.get("asked")) == counts["kept"] + sum(counts["refused"].values())
    assert tuned["second"]["examples"] == 12
    assert 0.0 <= tuned["second"]["before"] <= 1.0
    assert "## Examples added to training" in report
    assert "## The other task" in report
    assert "## What each part was worth" in report
    assert "## Fine-tuning from the winner" in report


def test_no_checkpoint_stays(done: Result) -> None:
    assert not (done.folder / "checkpoints").exists()
    assert {"adapter", "merged", "prompt"} <= {path.name for path in (done.folder / "tuning").iterdir()}


PROGRAM = """
import sys
from pathlib import Path
from autoprompt.predict import predict
print(predict(Path(sys.argv[1]), Path(sys.argv[2]), device="cpu").value)
"""


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_exported_scores_the_same_in_another_process(
    method: str, llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    values = space_file(tmp_path, llama_folder, topics_rows, method=method, **LEARNING)
    result = run(values)
    tuned, winner = result.values["tuned"], result.folder / "winner"
    assert tuned["epoch"] > 0  # or nothing would be exported
    expected = {"lora": {"adapter", "merged"}, "full": {"model"}}[method]
    assert {path.name for path in winner.iterdir() if path.is_dir()} == expected
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM, str(winner), str(result.folder / "test.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) == pytest.approx(tuned["test"], abs=1e-9)


def test_merged_weights_score_as_the_adapter_does(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    result = run(space_file(tmp_path, llama_folder, topics_rows, **LEARNING))
    winner = result.folder / "winner"
    rows = [json.loads(line) for line in (result.folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    examples = [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows)]
    model = load_model(str(winner / "merged"), device="cpu")
    [score] = Scorer(model, accuracy).score([Prompt.load(winner)], examples)
    assert score.value == pytest.approx(result.values["tuned"]["test"], abs=1e-9)


def test_vectors_alone_are_trained_from_the_tokens_of_the_winner(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    values = space_file(tmp_path, llama_folder, topics_rows, method="vectors", epochs=8, patience=0)
    values["space"] = {}
    values["prompt"]["instruction"] = "Name the topic."
    values["study"]["trials"] = 2
    result = run(values)
    tuned, winner = result.values["tuned"], result.folder / "winner"
    if tuned["epoch"]:
        assert {path.name for path in winner.iterdir() if path.is_dir()} == {"tuned_prompt"}
        assert predict(winner, result.folder / "test.jsonl", device="cpu").value == pytest.approx(tuned["test"])
    else:
        assert tuned["test"] == pytest.approx(result.values["winner"]["test"])


def test_a_winner_without_an_instruction_has_no_vectors_to_train_and_the_run_says_so(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    values = space_file(tmp_path, llama_folder, topics_rows, method="vectors")
    values["space"] = {}
    values["study"]["trials"] = 2
    result = run(values)
    assert result.values["tuned"] is None
    notices = [e["message"] for e in read_journal(result.folder / "events.jsonl") if e["event"] == "Notice"]
    assert any("Nothing is fine-tuned: [finetune] method = 'vectors' trains vectors" in said for said in notices)


def test_vectors_and_a_head_are_not_exported_together(
    encoder_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"exports a prompt and no model, and head is 'labels'\. Leave head away"):
        run(space_file(tmp_path, encoder_folder, topics_rows, method="vectors", head="labels"))


def test_an_encoder_is_tuned_as_recommended_and_its_export_scores_the_same(
    encoder_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    values = space_file(tmp_path, encoder_folder, topics_rows)
    values["finetune"] = {"epochs": 3, "learning_rate": 1e-3}
    result = run(values)
    tuned, winner = result.values["tuned"], result.folder / "winner"
    assert (tuned["method"], tuned["epoch"], tuned["helped"]) == ("full", 3, True)
    assert {path.name for path in winner.iterdir() if path.is_dir()} == {"model", "tuned_prompt"}
    assert "label_vectors.safetensors" in (winner / "README.md").read_text(encoding="utf-8")
    found = predict(winner, result.folder / "test.jsonl", device="cpu")
    assert found.value == pytest.approx(tuned["test"], abs=1e-9)


@pytest.mark.parametrize(
    ("finetune", "error", "said"),
    [
        ({"optimizer": "adamm"}, ModelError, r"The fine-tuning option optimizer is 'adamm'; allowed are "),
        ({"unlabelled": "{bare}"}, DataError, r"bare\.jsonl, line 1: there is no column 'text'; it has body\."),
        (
            {"second": {"file": "{other}", "label": "topic", "template": "{{ text }} {{ label }}", "label_words": WORDS}},
            DataError,
            r"other\.jsonl, line 1: the label is 'art'; \[finetune\.second\] label_words has sports, money, weather\.",
        ),
    ],
)  # fmt: skip
def test_what_fine_tuning_cannot_read_is_told_before_the_search(
    finetune: dict[str, Any],
    error: type[Exception],
    said: str,
    llama_folder: Path,
    topics_rows: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    places = {
        "{bare}": tmp_path / lines(tmp_path / "bare.jsonl", [{"body": "x"}]),
        "{other}": tmp_path / lines(tmp_path / "other.jsonl", [{"text": "x", "topic": "art"}]),
    }
    given = json.loads(
        json.dumps(finetune).replace("{bare}", str(places["{bare}"])).replace("{other}", str(places["{other}"]))
    )
    with pytest.raises(error, match=said):
        run(space_file(tmp_path, llama_folder, topics_rows, **given))
    assert not (tmp_path / "results/topics/study.journal").exists()
