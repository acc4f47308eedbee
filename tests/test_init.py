"""`autoprompt init`: what is guessed from a data file, and that the written space file is right."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from autoprompt.check import check
from autoprompt.cli import main
from autoprompt.errors import ConfigError, DataError, ExecutionError
from autoprompt.execution import require_containment
from autoprompt.init import Told, begin
from autoprompt.init.columns import field_name
from autoprompt.init.phrases import readable, words_for
from autoprompt.init.writing import quoted

ROOT = Path(__file__).parents[1]
SPACES = ROOT / "search_spaces"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jsonl(rows: Sequence[dict[str, Any]], name: str = "data.jsonl") -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def made(data: Path, told: Told | None = None, ask: Callable[[str], str] | None = None) -> tuple[dict[str, Any], str]:
    """The space file as values, checked, and what was said."""
    said = begin(data, told, ask)
    out = next(Path(line.removeprefix("written: ")) for line in said.splitlines() if line.startswith("written: "))
    assert check(out).startswith(f"{out} is right")
    return tomllib.loads(out.read_text(encoding="utf-8")), said


def teams(count: int = 12) -> list[dict[str, Any]]:
    return [{"text": f"message number {i}", "team": ("card_arrival", "lostParcel")[i % 2]} for i in range(count)]


# -- what is guessed -------------------------------------------------------------------------------

EXAMPLES = [
    ("support", "team", ["text"], "label", "accuracy"),
    ("many", "intent", ["request"], "label", "accuracy"),
    ("tags", "topics", ["text"], "labels", "example_f1"),
    ("quiz", "answer", ["question"], "option", "accuracy"),
    ("stars", "stars", ["review"], "number", {"name": "mse", "also": ["mae"]}),
    ("likeness", "alike", ["first", "second"], "number", {"name": "mse", "also": ["mae"]}),
    ("sums", "result", ["problem"], "number", "numeric_match"),
    ("translate", "german", ["english"], "text", {"name": "chrf", "also": ["bleu"]}),
    ("headline", "headline", ["story"], "text", "rougeL"),
    ("reading", "answer", ["context", "question"], "text", {"name": "token_f1", "also": ["exact_match"]}),
    ("dialogue", "reply", ["turns"], "text", "rougeL"),
    ("code", "program", ["task"], "text", "rougeL"),
]


@pytest.mark.parametrize(("name", "label", "fields", "target", "metric"), EXAMPLES)
def test_the_examples_are_understood(name: str, label: str, fields: list[str], target: str, metric: Any) -> None:
    values, said = made(SPACES / f"{name}.jsonl")
    data = values["data"]
    assert (data["label"], data["fields"], data["target"], values["metric"]) == (label, fields, target, metric)
    assert data.get("options") == ("choices" if name == "quiz" else None)
    assert data.get("group") == ("context" if name == "reading" else None)
    assert said.endswith(f"\n\nautoprompt check {name}.toml\nautoprompt run {name}.toml")
    assert f"answer: {label} (" in said


def test_label_words_are_the_labels_made_readable() -> None:
    values, said = made(jsonl(teams()))
    assert values["prompt"]["label_words"] == {"card_arrival": "card arrival", "lostParcel": "lost parcel"}
    assert values["prompt"]["template"] == "{{ text }}\nTeam: {{ label }}"
    assert "target: label (2 different values in 12 rows)" in said


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("card_arrival", "card arrival"), ("lost-parcel", "lost parcel"), ("lostParcel", "lost parcel"), ("A", "A"),
        ("New York", "New York"), ("HTTP_error", "HTTP error"), ("_", "_"), ("Straße", "Straße"), ("0", "0"),
    ],
)  # fmt: skip
def test_a_name_becomes_readable(name: str, word: str) -> None:
    assert readable(name) == word


def test_labels_that_would_read_the_same_keep_their_names() -> None:
    assert words_for(["a_b", "a b", "c_d"]) == {"a_b": "a_b", "a b": "a b", "c_d": "c d"}


def test_uneven_labels_are_measured_by_the_mean_over_labels() -> None:
    rows = [{"text": f"a text of number {i}", "label": "rare" if i % 6 == 0 else "common"} for i in range(36)]
    values, said = made(jsonl(rows))
    assert values["metric"] == {"name": "macro_f1", "also": ["accuracy"]}
    assert "metric: macro_f1 and accuracy (the labels are uneven, and each is to count)" in said


def test_identifiers_constants_gaps_and_the_answer_in_other_words_are_no_inputs() -> None:
    rows = [
        {**row, "id": i, "source": "web", "note": "x" if i else "", "team_code": len(row["team"]), "seen": True}
        for i, row in enumerate(teams())
    ]
    values, said = made(jsonl(rows), Told(label="team"))
    assert values["data"]["fields"] == ["text"]
    assert "left out: 'id', which only names the rows" in said
    assert "left out: 'source', which is the same in all rows" in said
    assert "left out: 'note', which is empty at data.jsonl, line 1" in said
    assert "left out: 'team_code', which says the answer in other words" in said
    assert "left out: 'seen', which is neither text nor number" in said


def test_a_column_of_splits_splits() -> None:
    rows = [{**row, "split": ("train", "train", "dev", "dev", "test", "test")[i % 6]} for i, row in enumerate(teams())]
    values, _ = made(jsonl(rows))
    assert values["data"]["split"] == "split"
    assert values["data"]["fields"] == ["text"]
    assert "shares" not in values["data"]


@pytest.mark.parametrize("first", [0, 1])
def test_options_may_be_chosen_by_their_index(first: int) -> None:
    rows = [
        {"question": f"question {i}", "choices": [f"one {i}", f"two {i}", f"three {i}"], "answer": i % 3 + first}
        for i in range(12)
    ]
    values, _ = made(jsonl(rows))
    assert values["data"]["target"] == "option"
    assert values["data"].get("first_option", 0) == first


def test_texts_of_several_lines_are_options_only_where_they_are_called_so() -> None:
    rows = [{"poem": f"line {i}\nend {i}", "label": i % 2} for i in range(12)]
    assert made(jsonl(rows))[0]["data"]["target"] == "label"
    rows = [{"question": f"q {i}", "options": f"yes {i}\nno {i}", "label": "AB"[i % 2]} for i in range(12)]
    assert made(jsonl(rows, "asked.jsonl"))[0]["data"]["target"] == "option"


def test_labels_in_one_text_are_several() -> None:
    sets = ["joy;anger", "joy", "anger;fear", "fear", "joy;fear", "anger"]
    rows = [{"text": f"a text {i}", "emotions": sets[i % 6]} for i in range(24)]
    values, _ = made(jsonl(rows))
    assert values["data"]["target"] == "labels"
    assert set(values["prompt"]["label_words"]) == {"joy", "anger", "fear"}


@pytest.mark.parametrize(("low", "high", "words"), [(1, 5, 5), (0.5, 2.5, 5), (1, 3, 3)])
def test_numbers_on_a_scale_have_words_for_its_steps(low: float, high: float, words: int) -> None:
    steps = [low + (high - low) * i / (words - 1) for i in range(words)]
    values, _ = made(jsonl([{"text": f"a text {i}", "score": steps[i % words]} for i in range(20)]))
    found = values["prompt"]["label_words"]
    assert [float(number) for number in found] == steps
    assert values["metric"]["name"] == "mse"
    assert "answer" not in values


def test_program_targets_are_run_only_where_the_metric_is_asked_for() -> None:
    code = SPACES / "code.jsonl"
    said = begin(code)
    assert "where these are tests of programs: --target program --metric pass@1 runs them" in said
    values, _ = made(code, Told(target="program", name="plain"))
    assert values["metric"] == "exact_match"
    assert "allow_code_execution" not in values
    try:
        require_containment()
    except ExecutionError:
        pytest.skip("this machine cannot contain programs, and runs none")
    values, _ = made(code, Told(target="program", metric="pass@1", name="ran"))
    assert values["allow_code_execution"] is True
    assert values["data"]["aside"] == ["tests"]


# -- formats and names -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_is_read_to_the_same_file(kind: str) -> None:
    rows, path = teams(), Path(f"data.{kind}")
    if kind == "parquet":
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        jsonl(rows)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "team"], delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    values, _ = made(path)
    assert values["data"] == {
        "file": path.name, "fields": ["text"], "label": "team", "target": "label", "shares": [0.4, 0.3, 0.3],
    }  # fmt: skip


def test_unicode_and_names_that_no_template_can_show_are_carried() -> None:
    rows = [
        {
            "Überschrift": f"Größe {i}",
            "der Text": f"日本 {i}",
            "label": f"Text {i}",
            "2nd": f"{i} x",
            "Sparte {{": "äß"[i % 2],
        }
        for i in range(12)
    ]
    data = jsonl(rows, "Täglich neu 日本.jsonl")
    values, _ = made(data, Told(label="Sparte {{"))
    assert values["name"] == "Taglich_neu"
    assert values["data"]["file"] == data.name
    assert values["data"]["fields"] == ["Überschrift", "der_Text", "column_label", "column_2nd"]
    assert values["data"]["columns"] == {"der_Text": "der Text", "column_label": "label", "column_2nd": "2nd"}
    assert values["prompt"]["template"].endswith("\nSparte: {{ label }}")
    assert set(values["prompt"]["label_words"]) == {"ä", "ß"}


@pytest.mark.parametrize("text", ['a "quoted" \\ path', "tab\tline\nnull\x00del\x7f", "日本 {{ x }}", ""])
def test_any_text_can_be_quoted(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}


def test_hostile_cells_stay_texts() -> None:
    labels = ['"]\nmodel = "evil"\n#', "{{ label }}", "\x7f\x1b[31m"]
    rows = [{"text": f"text {i}", "label": labels[i % 3]} for i in range(12)]
    values, said = made(jsonl(rows))
    assert values["model"] == "builtin"
    assert set(values["prompt"]["label_words"]) == {label.strip() for label in labels}
    assert "\x1b" not in said


def test_names_of_fields_do_not_meet() -> None:
    assert field_name("a b") == "a_b"
    assert field_name("a-b", ["a_b"]) == "a_b_2"
    assert field_name("?!") == "field"
    assert field_name("class") == "column_class"
    assert field_name("if") == "column_if"


def test_data_in_another_folder_are_named_from_the_space_file() -> None:
    Path("rows").mkdir()
    Path("spaces").mkdir()
    data = jsonl(teams(), "rows/data.jsonl")
    values, _ = made(data, Told(out=Path("spaces/mine.toml"), name="mine"))
    assert (values["name"], values["data"]["file"]) == ("mine", "../rows/data.jsonl")


def test_a_sentence_encoder_gets_no_examples_and_no_vectors() -> None:
    Path("encoder").mkdir()
    Path("encoder/modules.json").write_text("[]")
    values, _ = made(jsonl(teams()), Told(model="encoder"))
    assert values["model"] == "encoder"
    assert not {"demonstrations", "soft"} & set(values["space"])


# -- what is told and asked ------------------------------------------------------------------------


def test_what_is_told_is_taken() -> None:
    rows = [{**row, "stars": i % 5, "title": f"title {i}"} for i, row in enumerate(teams(24))]
    told = Told("stars", ("title",), "label", "macro_f1", "some/model", "mine")
    values, said = made(jsonl(rows), told)
    assert (values["model"], values["name"], values["metric"]) == ("some/model", "mine", "macro_f1")
    assert (values["data"]["label"], values["data"]["fields"], values["data"]["target"]) == (
        "stars",
        ["title"],
        "label",
    )
    assert said.count("(as told)") == 4
    assert Path("mine.toml").exists()


def answering(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    """A terminal whose user gives these answers, then goes away; what it was asked."""
    left: Iterator[str] = iter(answers)
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask, asked


def test_four_questions_are_asked_and_enter_takes_the_guess() -> None:
    ask, asked = answering("", "", "", "")
    values, _ = made(jsonl(teams()), ask=ask)
    assert [question.split("?")[0].split(":")[0].split(" (")[0] for question in asked] == [
        "Which column is the answer", "What is the answer", "Which columns does the prompt show", "Which metric",
    ]  # fmt: skip
    assert "[team]" in asked[0]
    assert values == made(jsonl(teams()), Told(force=True))[0]


def test_answers_replace_guesses_and_what_follows_from_them() -> None:
    rows = [{**row, "title": f"title {i}", "stars": i % 4} for i, row in enumerate(teams(24))]
    ask, asked = answering("stars", "label", "text, title", "macro_f1")
    values, _ = made(jsonl(rows), ask=ask)
    assert len(asked) == 4
    assert (values["data"]["label"], values["data"]["target"]) == ("stars", "label")
    assert values["data"]["fields"] == ["text", "title"]
    assert values["metric"] == "macro_f1"


def test_a_wrong_answer_is_asked_again() -> None:
    ask, asked = answering("taem", "team")
    values, _ = made(jsonl(teams()), ask=ask)
    assert asked[1].startswith("'taem' is none of text, team. Did you mean 'team'?\nWhich column is the answer?")
    assert values["data"]["label"] == "team"


def test_nobody_at_the_terminal_takes_the_guesses() -> None:
    ask, asked = answering()
    assert made(jsonl(teams()), ask=ask)[0]["data"]["label"] == "team"
    assert len(asked) == 4


def test_what_is_told_is_not_asked() -> None:
    ask, asked = answering()
    made(jsonl(teams()), Told(label="team", fields=("text",), target="label"), ask)
    assert len(asked) == 1


# -- what cannot be ---------------------------------------------------------------------------------


def test_an_existing_file_is_not_overwritten_unless_forced() -> None:
    data = jsonl(teams())
    Path("data.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"There is such a file already\. Give another --out, or --force"):
        begin(data)
    assert Path("data.toml").read_text() == "mine"
    made(data, Told(force=True))


@pytest.mark.parametrize(
    ("rows", "told", "message"),
    [
        ([], Told(), "data.jsonl holds no examples; it needs one a line"),
        ([{"text": f"t {i}"} for i in range(9)], Told(), "There is one column, 'text'; a prompt needs an input"),
        ([{"text": f"t {i}", "label": "x"} for i in range(9)], Told(), "Column 'label' has one value in all 9 rows"),
        (teams(), Told(label="taem"), r"There is no column 'taem'; it has text, team\. Did you mean 'team'\?"),
        (teams(), Told(fields=("txt",)), r"There is no column 'txt'; it has text, team\. Did you mean 'text'\?"),
        (teams(), Told(target="option"), "No column has options of which 'team' is one"),
        (teams(), Told(target="number"), "column 'team' is 'card_arrival'; a finite number is needed"),
        ([{**row, "team": ""} for row in teams()], Told(label="team"), "line 1: the column 'team' is empty. Fill it"),
        ([{"a": "", "b": None}] * 9, Told(), "No column is filled in every row"),
        ([{"id": i, "label": "ab"[i % 2]} for i in range(9)], Told(), "No column is left to show in a prompt"),
        (teams(3), Told(label="team", target="label"), "with fewer than 3 examples"),
    ],
)
def test_what_cannot_be_learned_is_said_with_what_to_do(rows: list[dict[str, Any]], told: Told, message: str) -> None:
    with pytest.raises(DataError, match=message):
        begin(jsonl(rows), told)
    assert not Path("data.toml").exists()


def test_a_file_that_cannot_be_read_is_named() -> None:
    jsonl(teams())
    with pytest.raises(DataError, match=r"There is no data file dat\.jsonl\. Did you mean 'data\.jsonl'\?"):
        begin(Path("dat.jsonl"))
    Path("bad.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1 is not JSON"):
        begin(Path("bad.jsonl"))


@pytest.mark.parametrize("metric", ["acuracy", "bleu"])
def test_a_metric_that_does_not_fit_is_refused_and_nothing_is_written(metric: str) -> None:
    with pytest.raises(ConfigError, match="metric"):
        begin(jsonl(teams()), Told(metric=metric))
    assert not Path("data.toml").exists()


# -- the verb ----------------------------------------------------------------------------------------


def test_the_verb_writes_prints_and_does_not_ask_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(teams())
    assert main(["init", "data.jsonl", "--label", "team", "--out", "mine.toml", "--name", "mine"]) == 0
    assert capsys.readouterr().out.endswith("autoprompt check mine.toml\nautoprompt run mine.toml\n")
    assert main(["init", "data.jsonl", "--out", "mine.toml"]) == 2
    assert "There is such a file already" in capsys.readouterr().err
    assert main(["init", "data.jsonl", "--out", "mine.toml", "--yes", "--force"]) == 0


def test_the_verb_loads_no_heavy_library() -> None:
    jsonl(teams())
    heavy = ("torch", "transformers", "optuna", "peft", "pyarrow", "scipy")
    code = (
        "import sys; from autoprompt.cli import main; code = main(['init', 'data.jsonl']); "
        f"print(code, [name for name in {heavy!r} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.model
def test_a_written_file_runs(tmp_path: Path) -> None:
    from autoprompt.run import run

    begin(SPACES / "quiz.jsonl")
    off = {"checks": False, "baselines": False}
    changes = {
        "study": {"trials": 6, "startup": 4, "steps": 8},
        "doctor": off,
        "explain": {"why": False, "shortest": False, "robustness": False},
        "finetune": {"epochs": 1},
    }
    result = run("quiz.toml", results=tmp_path / "results", changes=changes)
    assert (result.folder / "winner" / "prompt.json").exists()
