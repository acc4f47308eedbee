"""The whole job through the command line, on small models of each family."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autoprompt import cli
from autoprompt.predict import predict
from autoprompt.prompt import Prompt
from autoprompt.results import read_journal
from autoprompt.run import run

pytestmark = pytest.mark.model

SPACE = """
name = "topics"
model = "{model}"
metric = "{metric}"
seed = 3
doctor = {around}
explain = {around}
[data]
file = "topics.jsonl"
label = "topic"
[prompt]
template = "{{{{ text }}}}\\nTopic: {{{{ label }}}}"
[prompt.label_words]
{words}
[space]
templates = ["{{{{ text }}}} -> {{{{ label }}}}", "It is {{{{ label }}}}: {{{{ text }}}}"]
instructions = ["", "Name the topic."]
calibration = ["none", "content_free"]
[space.demonstrations]
most = 2
draws = 4
[space.soft]
vectors = [2]
dimensions = 4
[study]
trials = {trials}
batch = 4
slice = 8
startup = 4
generations = 2
steps = 8
finalists = 3
{study}
[finetune]
method = "{method}"
epochs = 2
learning_rate = 0.01
"""


def written(
    folder: Path,
    model: Path,
    rows: list[dict[str, str]],
    trials: int = 29,
    metric: str = "accuracy",
    method: str = "lora",
    study: str = "",
    around: bool = False,
) -> Path:
    """A space file and its data in `folder`. study: more lines of [study]. around: with doctor and explanation."""
    folder.mkdir(parents=True, exist_ok=True)
    key = next(k for k in rows[0] if k != "text")
    lines = [json.dumps({"text": row["text"], "topic": row[key]}) for row in rows]
    (folder / "topics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = "\n".join(f'{label} = "{label}"' for label in sorted({row[key] for row in rows}))
    path = folder / "topics.toml"
    text = SPACE.format(
        model=model, metric=metric, words=words, trials=trials, method=method, study=study, around=str(around).lower()
    )
    path.write_text(text, encoding="utf-8")
    return path


def command(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "autoprompt", *map(str, arguments)],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(*arguments: object, cwd: Path) -> tuple[int, str, str]:
    process = command(*arguments, cwd=cwd)
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def trials_of(folder: Path) -> list[tuple[Any, ...]]:
    """What each trial was and what it got, dropped ones included, by number, each once."""
    found = {e["number"]: e for e in read_journal(folder / "events.jsonl") if e["event"] == "TrialFinished"}
    keys = ("kind", "branch", "operator", "parents", "fingerprint", "value", "examples", "dropped")
    return [(n, *(found[n][key] for key in keys)) for n in sorted(found)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path, topics_rows: list[dict[str, str]]) -> Path:
    """The working folder of one run that was never disturbed."""
    folder = tmp_path_factory.mktemp("done")
    code, out, error = finished("run", written(folder, llama_folder, topics_rows, around=True), cwd=folder)
    assert code == 0, error
    assert "winner" in out
    return folder


def test_a_run_leaves_everything_that_it_promises(done: Path) -> None:
    result = json.loads((done / "results/topics/result.json").read_text())
    for name in ("baseline", "winner", "tuned"):
        assert 0.0 <= result[name]["dev"] <= 1.0
        assert 0.0 <= result[name]["test"] <= 1.0
    low, high = result["interval"]
    assert low <= result["winner"]["test"] - result["baseline"]["test"] <= high
    assert result["verdict"] in {"improved", "no improvement", "worse"}
    assert result["trials"]["baseline"] == {"complete": 1}
    assert sum(result["trials"]["soft"].values()) == 8
    assert sum(n for states in result["trials"].values() for n in states.values()) == 29
    assert sum(states.get("pruned", 0) for states in result["trials"].values()) >= 8
    first = ("baseline", "discrete", "edits", "demonstrations", "tuning", "coordinates", "words", "gradients")
    assert tuple(result["branches"]) == first
    assert {branch: sum(states.values()) for branch, states in result["branches"].items()} == {
        **dict.fromkeys(first, 4),
        "baseline": 1,
    }
    assert 18 + 28 * 8 < result["evaluations"] < 29 * 18
    winner = result["winner"]
    assert (winner["branch"] in first, isinstance(winner["operator"], str)) == (True, True)
    assert all(parent < winner["trial"] for parent in winner["parents"])
    assert 0.0 <= winner["estimate"] <= 1.0
    assert isinstance(winner["evidence"], float)
    assert set(result["seconds"]) == {"doctor", "search", "confirm", "verdict", "finetune", "export", "explain"}
    assert result["tokens"] > 0
    assert result["test_openings"] == 2
    assert set(result["data"]["fingerprints"]) == {"train", "dev", "test"}
    assert {"torch", "optuna", "transformers"} <= set(result["versions"])
    report = (done / "results/topics/report.md").read_text()
    assert "| discrete |" in report
    assert "| soft |" in report
    assert "| coordinates | 4 |" in report
    exported = done / "results/topics/winner"
    assert {"prompt.json", "prompt.txt", "README.md", "autoprompt.json"} <= {p.name for p in exported.iterdir()}


def test_a_dropped_trial_is_pruned_in_optunas_study(done: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(done / "results/topics/study.journal")))
    study = optuna.load_study(study_name="autoprompt", storage=storage)
    dropped = [row[-1] for row in trials_of(done / "results/topics")]
    assert [t.state for t in study.trials] == [TrialState.PRUNED if d else TrialState.COMPLETE for d in dropped]
    assert True in dropped
    assert all(t.intermediate_values for t in study.trials if t.state == TrialState.PRUNED)


def test_prompts_that_the_space_cannot_make_again_are_stored_with_their_trials(done: Path) -> None:
    folder = done / "results/topics"
    events = [e for e in read_journal(folder / "events.jsonl") if e["event"] == "TrialFinished"]
    made = {e["fingerprint"] for e in events if e["branch"] not in ("baseline", "discrete")}
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.load_study(study_name="autoprompt", storage=storage)
    assert {t.user_attrs["fingerprint"] for t in study.trials if "prompt" in t.user_attrs} == made
    soft = {e["fingerprint"] for e in events if e["kind"] == "soft"}
    assert {path.stem for path in (folder / "vectors").iterdir()} == soft


def test_the_test_split_is_not_read_before_the_verdict(done: Path) -> None:
    names = [e["event"] for e in read_journal(done / "results/topics/events.jsonl")]
    assert names.index("TestOpened") > max(i for i, name in enumerate(names) if name == "Confirmed")
    early = list(read_journal(done / "results/topics/events.jsonl"))[: names.index("TestOpened")]
    tests = [json.loads(line)["text"] for line in (done / "results/topics/test.jsonl").read_text().splitlines()]
    told = json.dumps(early, ensure_ascii=False)
    assert tests
    assert not [text for text in tests if text in told]


@pytest.mark.parametrize("prompt_only", [False, True])
def test_predict_reproduces_the_test_score_to_the_last_digit(done: Path, prompt_only: bool) -> None:
    result = json.loads((done / "results/topics/result.json").read_text())
    folder = done / "results/topics"
    found = predict(folder / "winner", folder / "test.jsonl", prompt_only)
    assert found.value == result["tuned" if found.part == "tuned" else "winner"]["test"]
    assert len(found.rows) == result["data"]["sizes"]["test"]
    assert all(row["prediction"] in row["probabilities"] for row in found.rows)


def test_predict_writes_rows_without_labels_too(done: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('text\n"The match, again"\nRates rose\n', encoding="utf-8")
    winner = done / "results/topics/winner"
    code, out, error = finished("predict", winner, "new.csv", "--out", "answers.jsonl", cwd=tmp_path)
    assert (code, out, error) == (0, "", "")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert abs(sum(rows[0]["probabilities"].values()) - 1) < 1e-4


def test_the_same_run_twice_is_read_back_and_changes_nothing(done: Path) -> None:
    def kept() -> dict[Path, bytes]:
        files = (p for p in (done / "results/topics").rglob("*") if p.is_file() and p.name != ".lock")
        return {p: p.read_bytes() for p in files}

    before = kept()
    code, out, _ = finished("run", "topics.toml", cwd=done)
    assert code == 0
    assert "This run is finished" in out
    assert "your prompt" in out
    assert kept() == before


def test_a_run_with_other_settings_refuses_the_folder_and_says_what_differs(
    done: Path, tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    changed = written(tmp_path, llama_folder, topics_rows, metric="macro_f1")
    code, _, error = finished("run", changed, "--results", done / "results", cwd=tmp_path)
    assert code == 2
    assert 'settings.metric: "accuracy" -> "macro_f1"' in error
    assert "another --name" in error


@pytest.mark.parametrize("kills", [(7, 18)])
def test_a_run_killed_with_9_goes_on_to_the_same_trials_and_winner(
    done: Path, tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]], kills: tuple[int, ...]
) -> None:
    space = written(tmp_path, llama_folder, topics_rows)
    folder = tmp_path / "results/topics"
    for count in kills:
        process = command("run", space, cwd=tmp_path)
        until = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < until:
            if (folder / "events.jsonl").exists() and len(trials_of(folder)) >= count:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        acknowledged = trials_of(folder)
        assert len(acknowledged) >= count
    code, _, error = finished("run", space, cwd=tmp_path)
    assert code == 0, error
    assert trials_of(folder)[: len(acknowledged)] == acknowledged
    assert trials_of(folder) == trials_of(done / "results/topics")
    first, second = (json.loads((f / "results/topics/result.json").read_text()) for f in (done, tmp_path))
    assert second["winner"] == first["winner"]
    assert second["baseline"] == first["baseline"]
    assert [second[key] for key in ("trials", "branches", "evaluations")] == [
        first[key] for key in ("trials", "branches", "evaluations")
    ]
    assert second["tuned"]["test"] == first["tuned"]["test"]


def begun(space: Path, cwd: Path) -> subprocess.Popen[str]:
    """A run of the space in which trials have been told."""
    process = command("run", space, cwd=cwd)
    journal = cwd / "results/topics/events.jsonl"
    until = time.monotonic() + 240
    while not (journal.exists() and b"TrialFinished" in journal.read_bytes()) and time.monotonic() < until:
        time.sleep(0.002)
    return process


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_exit_code_is_that_of_the_signal(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(options: object) -> int:
        raise KeyboardInterrupt(name)

    monkeypatch.setattr(cli, "_check", stopped)
    assert cli.main(["check", "space.toml"]) == code


def test_the_second_signal_stops_at_once_and_the_same_command_goes_on(
    done: Path, tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    space = written(tmp_path, llama_folder, topics_rows)
    process = begun(space, tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM):  # two of a kind that wait at once would be one
        process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "The same command goes on from here" in error
    assert "Traceback" not in error
    assert not (tmp_path / "results/topics/result.json").exists()
    assert finished("run", space, cwd=tmp_path)[0] == 0
    assert trials_of(tmp_path / "results/topics") == trials_of(done / "results/topics")


def test_the_first_signal_leads_to_the_verdict_and_an_extended_run_reaches_the_same_trials(
    done: Path, tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    space, folder = written(tmp_path, llama_folder, topics_rows), tmp_path / "results/topics"
    process = begun(space, tmp_path)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 3, error
    early = json.loads((folder / "result.json").read_text())
    assert early["stopped"].startswith("it was asked to stop (SIGINT)")
    assert early["halted"] == early["stopped"]
    assert early["tuned"] is None
    assert "Nothing is fine-tuned: it was asked to stop" in out
    assert len(trials_of(folder)) < len(trials_of(done / "results/topics"))
    assert (folder / "winner/prompt.json").exists()
    assert finished("run", space, cwd=tmp_path)[0] == 3  # read back
    code, out, error = finished("run", space, "--extend", cwd=tmp_path)
    assert code == 0, error
    assert trials_of(folder) == trials_of(done / "results/topics")
    late, never = (json.loads((place / "result.json").read_text()) for place in (folder, done / "results/topics"))
    for key in ("baseline", "winner", "tuned", "interval", "sentence", "trials", "evaluations"):
        assert late[key] == never[key], key
    assert (late["test_openings"], never["test_openings"]) == (3, 2)
    assert json.loads((folder / "earlier/1/result.json").read_text()) == early


def test_the_best_prompt_so_far_lies_on_disk(done: Path) -> None:
    told = [e for e in read_journal(done / "results/topics/events.jsonl") if e["event"] == "TrialFinished"]
    best = max(e["value"] for e in told if not e["dropped"])
    first = next(e for e in told if not e["dropped"] and e["value"] == best)
    assert Prompt.load(done / "results/topics/best").fingerprint == first["fingerprint"]


def test_status_says_where_a_run_stands(done: Path) -> None:
    code, out, _ = finished("status", "results/topics", cwd=done)
    assert code == 0
    result = json.loads((done / "results/topics/result.json").read_text())
    assert out.splitlines()[0] == "topics: finished"
    assert result["sentence"] in out
    assert f"trials: {sum(sum(states.values()) for states in result['trials'].values())} of 29" in out


# one batch of each, and of every batch someone sees all examples
BOTH_KINDS = 'branches = ["discrete", "tuning", "coordinates"]\nshare = 1.0'


@pytest.mark.parametrize("family", ["gpt2", "t5", "bert", "roberta"])
def test_the_whole_job_runs_for_every_family(
    family: str, model_folders: dict[str, Path], topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    method = "full" if family == "bert" else "lora"
    space = written(tmp_path, model_folders[family], topics_rows, 13, method=method, study=BOTH_KINDS)
    result = run(space, results=tmp_path / "results")
    assert set(result.values["best_by_kind"]) == {"baseline", "discrete", "soft"}
    found = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert found.value == result.values["tuned" if found.part == "tuned" else "winner"]["test"]


def test_a_custom_metric_runs_through_and_is_exported(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "metrics.py").write_text(
        "from autoprompt.metrics import metric\n\n\n@metric(maximize=False)\n"
        "def cost(targets, predictions):\n"
        "    return [0.0 if t == p else 2.5 for t, p in zip(targets, predictions)]\n"
    )
    space = written(tmp_path, llama_folder, topics_rows, 5, "metrics.py:cost", "none")
    result = run(space, results=tmp_path / "results")
    assert result.values["metric"] == "cost"
    assert result.values["maximize"] is False
    assert result.values["tuned"] is None
    found = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert found.value == result.values["winner"]["test"]


def test_a_search_that_finds_nothing_better_says_so(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    space = written(tmp_path, llama_folder, topics_rows, method="none")
    text = space.read_text()
    space.write_text(
        text[: text.index("[space]")] + "[study]\ntrials = 2\nbranches = ['discrete']\n[finetune]\nmethod = 'none'\n"
    )
    result = run(space, results=tmp_path / "results")
    assert result.values["verdict"] == "no improvement"
    assert result.values["sentence"] == "No improvement found: the search ends with your own prompt."
    assert result.values["interval"] == [0.0, 0.0]


BAD: dict[str, tuple[str, str]] = {
    "not there": ("", "There is no such file"),
    "empty": ("topics.jsonl=", "holds no examples; it needs one a line"),
    "not json": ("topics.jsonl=hello\n", "line 1 is not JSON"),
    "wrong column": ('topics.jsonl={"texts": "a", "topic": "b"}\n', "there is no column 'text'; it has texts, topic"),
    "empty text": ('topics.jsonl={"text": " ", "topic": "b"}\n', "column 'text' is empty"),
    "one class": ('topics.jsonl={"text": "a", "topic": "b"}\n{"text": "c", "topic": "b"}\n', "has only one class, 'b'"),
    "no model": ("model", "is not there. Give 'builtin', a folder"),
    "unknown key": ("key", "study.trails is not a key here"),
    "unknown metric": ("metric", "There is no metric 'acuracy'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_one_clear_error(
    case: str, llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    change, message = BAD[case]
    space = written(tmp_path, llama_folder, topics_rows)
    if change == "":
        space = tmp_path / "topic.toml"
    elif change == "model":
        space = written(tmp_path, tmp_path / "nowhere", topics_rows)
    elif change == "key":
        space.write_text(space.read_text().replace("trials =", "trails ="))
    elif change == "metric":
        space = written(tmp_path, llama_folder, topics_rows, metric="acuracy")
    else:
        file, _, content = change.partition("=")
        (tmp_path / file).write_text(content)
    code, out, error = finished("run", space, cwd=tmp_path)
    assert code == 2
    assert message in " ".join(error.split())
    assert "Traceback" not in out + error
    assert len(error.splitlines()) < 24


def test_a_results_folder_that_cannot_be_written_is_an_error(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    code, _, error = finished("run", written(tmp_path, llama_folder, topics_rows), cwd=tmp_path)
    assert code == 2
    assert "cannot be written" in error
    assert "--results FOLDER" in error


def test_a_very_long_and_a_strange_example_do_not_stop_a_run(
    llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    key = next(k for k in topics_rows[0] if k != "text")
    strange = [
        "x " * 5000,
        "{{ 7 * 7 }} {% raw %} [bold]",
        "\u202e \U0001f9ea e\u0301 \ue0a1 \x00",
        "</s><s>[MASK]<mask>",
    ]
    rows = [*topics_rows, *({"text": text, key: topics_rows[0][key]} for text in strange)]
    result = run(written(tmp_path, llama_folder, rows, 5, method="none"), results=tmp_path / "results")
    assert sum(result.values["trials"]["discrete"].values()) == 4
    assert set(result.values["trials"]["discrete"]) <= {"complete", "pruned"}
    notices = [e["message"] for e in read_journal(result.folder / "events.jsonl") if e["event"] == "Notice"]
    assert any("shortened to the model's window" in message for message in notices)


def test_a_real_pretrained_model_runs_where_one_is_at_hand(topics_rows: list[dict[str, str]], tmp_path: Path) -> None:
    shared = Path(os.environ.get("AUTOPROMPT_SHARED", Path(__file__).parents[2] / "shared"))
    model = next(iter(sorted((shared / "models").glob("TinyStories*"))), None)
    if model is None:
        pytest.skip("no pretrained model at hand")
    result = run(written(tmp_path, model, topics_rows, 13, study=BOTH_KINDS), results=tmp_path / "results")
    assert result.values["trials"]["discrete"]["complete"] > 0
    assert result.values["trials"]["soft"]["complete"] > 0
