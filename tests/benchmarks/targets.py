"""Every kind of task from data to export, on public data: baseline, winner and tuned model in one table.

Each task is cut to a few hundred examples, searched, judged on its locked test, fine-tuned and exported by `run`, as
a space file would be. A sentence encoder does what it can do (classes, options, how alike two texts are); what has to
be written is written by a chat model, in its own template: SmolLM2-135M-Instruct, or --model. With --quick the embedded
model writes, which is far too small for it: those figures only show that the way is open.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from record import bar, write_record
from tasks import DATA, SEED, chat_folder, encoder_folder
from wordings import WORDINGS

from autoprompt.predict import predict
from autoprompt.run import run

Row = dict[str, Any]
_OPTION = re.compile(r"^- ?(?:\(([A-Z])\) ?)?(.*)$")


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    files: of the data. rows: what makes a space's row of one of the data's, or None to leave it out. space: the rest
    of the space file. encoder: whether a sentence encoder answers. most: examples.
    """

    task: str
    metric: str
    files: tuple[str, ...]
    rows: Callable[[Row], Row | None]
    space: Mapping[str, Any]
    encoder: bool = False
    most: int = 200
    data: Mapping[str, Any] = field(default_factory=dict)


def _labelled(row: Row) -> Row:
    return {"text": row["text"], "label": str(row["label"])}


def _optional(row: Row) -> Row | None:
    """A question whose options stand behind it as lines."""
    question, found, listed = row["input"].partition("\nOptions:\n")
    options = [_OPTION.match(line) for line in listed.splitlines() if line.strip()]
    if not found or not all(options):
        return None
    texts = [match[2].strip() for match in options if match]
    marks = [match[1] for match in options if match]
    target = row["target"].strip("()")
    answer = marks.index(target) if target in marks else texts.index(target) if target in texts else None
    if answer is None or len(set(texts)) < len(texts) or len(texts) < 2:
        return None
    return {"question": question, "options": texts, "answer": answer}


def _written(row: Row) -> Row:
    return {"input": row["input"], "target": row.get("targets") or row["target"]}


def _question(row: Row) -> Row:
    target = row.get("targets") or row.get("answers") or row["target"]
    return {"context": row["context"], "question": row["input"], "target": target}


def _program(row: Row) -> Row:
    tests = row["test_list"]
    # the first test names the function that is asked for
    task = f"{row['input']}\n{tests[0]}"
    return {"task": task, "target": row["target"], "tests": tests, "setup": row.get("test_setup_code", "")}


def _function(row: Row) -> Row:
    return {
        "task": row["input"], "target": row["target"], "test": row["test"], "entry_point": row["entry_point"],
        "prompt": row["input"],
    }  # fmt: skip


def _classes(data: str, labels: Sequence[str]) -> dict[str, Any]:
    """The labels' own names, or descriptions where this project has written some, each with its rivals."""
    found = WORDINGS.get(data)
    if found is None:
        words = {label: re.sub(r"[_\W]+", " ", label).strip() for label in labels}
        rest = {"templates": ["This is about: {{ text }} {{ label }}", "query: {{ text }} {{ label }}"]}
        return {"prompt": {"template": "{{ text }} {{ label }}", "label_words": words}, "space": rest}
    prompt = {
        "template": found.templates[0],
        "instruction": found.instructions[0],
        "label_words": {label: found.words[label][0] for label in labels},
    }
    space = {
        "templates": list(found.templates),
        "instructions": list(found.instructions),
        "label_words": {label: list(found.words[label]) for label in labels},
    }
    return {"prompt": prompt, "space": space}


KINDS = (
    Kind("classification", "accuracy", ("agnews/train",), _labelled, {}, encoder=True, most=900),
    Kind("classification", "macro_f1", ("trec/train",), _labelled, {}, encoder=True, most=900),
    Kind("classification", "accuracy", ("agnews/train",), _labelled, {}),
    Kind("many labels (77)", "accuracy", ("banking77/train",), _labelled, {}, encoder=True, most=900),
    Kind("many labels, out of scope", "macro_f1", ("clinc150/train", "clinc150/oos_test"), _labelled, {}, encoder=True, most=900),
    Kind(
        "multiple choice", "accuracy", ("flan_cot/ecqa",), _optional,
        {"prompt": {"template": "{{ question }} {{ label }}\n{{ options }}"}, "answer": {"style": ["texts"]},
         "space": {"templates": ["{{ question }} {{ label }}{# {{ options }} #}"]}},
        encoder=True, most=900, data={"target": "option", "options": "options", "fields": ["question"], "label": "answer"},
    ),
    Kind(
        "multiple choice", "accuracy", ("flan_cot/qasc",), _optional,
        {"prompt": {"template": "{{ question }}\n{{ options }}\nAnswer: {{ label }}"},
         "answer": {"style": ["letters", "texts"]}, "space": {"instructions": ["Choose the right answer."]}},
        data={"target": "option", "options": "options", "fields": ["question"], "label": "answer"},
    ),
    Kind(
        "regression", "spearman", ("stsb/train",),
        lambda row: {"one": row["text"], "other": row["text_b"], "score": row["score"]},
        {"prompt": {"template": "{{ one }} {{ label }}"},
         "answer": {"compare": "{{ other }}", "scale": [0.0, 5.0]},
         "space": {"templates": ["This sentence means: {{ one }} {{ label }}", "query: {{ one }} {{ label }}"]}},
        encoder=True, most=900, data={"target": "number", "fields": ["one", "other"], "label": "score"},
    ),
    Kind(
        "translation", "bleu", ("multi30k_en_de/train",), _written,
        {"prompt": {"template": "English: {{ input }}\nGerman: {{ label }}"}, "answer": {"tokens": 24, "stop": ["\n"]},
         "space": {"instructions": ["Translate into German."], "demonstrations": {"most": 2}}},
        data={"target": "text", "fields": ["input"], "label": "target"},
    ),
    Kind(
        "translation", "chrf", ("instruction_induction/translation_en-de.train",
                                "instruction_induction/translation_en-de.test"), _written,
        {"prompt": {"template": "English: {{ input }}\nGerman: {{ label }}"}, "answer": {"tokens": 8, "stop": ["\n"]},
         "space": {"instructions": ["Translate the word."], "demonstrations": {"most": 4}}},
        data={"target": "text", "fields": ["input"], "label": "target"},
    ),
    Kind(
        "rewriting", "rougeL", ("instruction_induction/active_to_passive.train",
                                "instruction_induction/active_to_passive.test"), _written,
        {"prompt": {"template": "{{ input }}\nPassive: {{ label }}"}, "answer": {"tokens": 16, "stop": ["\n"]},
         "space": {"instructions": ["Write it in the passive."], "demonstrations": {"most": 3}}},
        data={"target": "text", "fields": ["input"], "label": "target"},
    ),
    Kind(
        "question answering", "token_f1", ("xquad_en/test",), _question,
        {"prompt": {"template": "{{ context }}\nQ: {{ question }}\nA: {{ label }}"},
         "answer": {"tokens": 12, "stop": ["\n"]}, "space": {"instructions": ["Answer from the text."]}},
        most=80, data={"target": "text", "fields": ["context", "question"], "label": "target"},
    ),
    *(
        Kind(
            "maths", "numeric_match", (name,), lambda row: {"input": row["input"], "target": row["target"]},
            {"prompt": {"template": "{{ input }}\nAnswer: {{ label }}"},
             "answer": {"tokens": 8, "stop": ["\n"], "pattern": r"-?\d{1,6}"},
             "space": {"instructions": ["Solve it."], "demonstrations": {"most": 2}}},
            most=100, data={"target": "number", "fields": ["input"], "label": "target"},
        )
        for name in ("gsm8k/train", "svamp/test")
    ),
    Kind(
        "code", "pass@1", ("mbpp/train", "mbpp/dev"), _program,
        {"prompt": {"template": "{{ task }}\n{{ label }}"}, "answer": {"tokens": 48}, "allow_code_execution": True,
         "space": {"instructions": ["Write Python."]}},
        most=100, data={"target": "program", "fields": ["task"], "label": "target", "aside": ["tests", "setup"]},
    ),
    Kind(
        "code", "pass@1", ("humaneval/test",), _function,
        {"prompt": {"template": "{{ task }}{{ label }}"}, "answer": {"tokens": 48}, "allow_code_execution": True,
         "space": {"instructions": ["Write Python."]}},
        most=100, data={"target": "program", "fields": ["task"], "label": "target", "aside": ["test", "entry_point", "prompt"]},
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", help="what writes")
    parser.add_argument("--only", nargs="+", help="tasks, such as maths; the others stay in --out as they are")
    parser.add_argument("--quick", action="store_true", help="fewer examples and trials: under 5 minutes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        writer = options.model or (
            "builtin" if options.quick else str(chat_folder(Path(place) / "SmolLM2-135M-Instruct"))
        )
        _measure(options, writer)


def _measure(options: argparse.Namespace, writer: str) -> None:
    known = options.only and options.out is not None and options.out.is_file()
    rows: list[Row] = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if known else []
    for kind in KINDS:
        if options.only and kind.task not in options.only:
            continue
        row = measured(kind, options.data, writer, options.quick)
        rows = [*(one for one in rows if _name(one) != _name(row)), row]
        print(_line(row), flush=True)
        if options.out is not None:  # what is measured is not lost, and the next call joins it
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    write_record("targets", SEED, {"rows": rows, "bars": bars(rows)}, options.out)


def _name(row: Row) -> tuple[str, ...]:
    return row["task"], row["data"], row["model"], row["metric"]


def measured(kind: Kind, data: Path, model: str, quick: bool) -> Row:
    """A task's row: what came of it, or why nothing did."""
    began = time.perf_counter()
    row: Row = {
        "task": kind.task,
        "data": kind.files[0].replace("/", " ").removesuffix(" train"),
        "model": "encoder" if kind.encoder else Path(model).name,
        "metric": kind.metric,
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        examples = _examples(kind, data, 40 if quick else kind.most, 10 if quick else 10**6)
        (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in examples), encoding="utf-8")
        space = _space(kind, folder, examples, str(encoder_folder()) if kind.encoder else model, quick)
        result = run(space).values
        winner = folder / "results" / "task" / "winner"
        allowed = bool(kind.space.get("allow_code_execution"))
        again = predict(winner, winner.parent / "test.jsonl", allow_code_execution=allowed)
    tuned = result["tuned"]
    expected = tuned["test"] if again.part == "tuned" else result["winner"]["test"]
    return row | {
        "examples": len(examples),
        "baseline": result["baseline"]["test"],
        "winner": result["winner"]["test"],
        "tuned": None if tuned is None else tuned["test"],
        "interval": result["interval"],
        "verdict": result["verdict"],
        "exported": again.part,
        "export_off_by": abs((again.value or 0.0) - expected),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _examples(kind: Kind, data: Path, most: int, classes: int) -> list[Row]:
    """At most so many rows, of at most so many classes as many of each as there can be."""
    read = [
        row for name in kind.files for line in _lines(data / f"{name}.jsonl") if (row := kind.rows(json.loads(line)))
    ]
    random.Random(f"{SEED} {kind.files}").shuffle(read)
    if "target" in kind.data:
        return read[:most]
    by_label: dict[str, list[Row]] = {}
    for row in read:
        by_label.setdefault(row["label"], []).append(row)
    kept = list(by_label.values())[:classes]
    each = max(6, most // len(kept))
    return [row for rows in kept for row in rows[:each]]


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _space(kind: Kind, folder: Path, examples: Sequence[Row], model: str, quick: bool) -> dict[str, Any]:
    data = {"file": str(folder / "rows.jsonl"), "label": "label", "shares": [0.4, 0.2, 0.4], **kind.data}
    labels = sorted({row["label"] for row in examples} if "target" not in kind.data else ())
    rest = _classes(kind.files[0].partition("/")[0], labels) if labels else kind.space
    return {
        "name": "task",
        "results": str(folder / "results"),
        "seed": SEED,
        "metric": kind.metric,
        "model": model,
        "data": data,
        "study": {"trials": 6 if quick else 60 if kind.encoder else 24},
        "doctor": False,
        "explain": False,
        "finetune": {"epochs": 1 if quick else 3 if kind.encoder else 2, "compare": False},
        **rest,
    }


def bars(rows: Sequence[Row]) -> dict[str, Any]:
    found = {
        "tasks that run from data to export": bar(len(rows), len(KINDS)),
        "an export's score on the test file against the run's, largest difference": bar(
            max((row["export_off_by"] for row in rows), default=0.0), 1e-9, at_most=True
        ),
    }
    alike = [row for row in rows if row["data"].startswith("stsb")]
    if alike:
        found["STS-B, Spearman's correlation of the winner"] = bar(alike[0]["winner"], 0.8)
    return found


def _line(row: Row) -> str:
    tuned = "–" if row["tuned"] is None else f"{row['tuned']:.3f}"
    return (
        f"| {row['task']} | {row['data']} | {row['model']} | {row['metric']} | {row['baseline']:.3f} | {row['winner']:.3f} | {tuned} | "
        f"{row['seconds']:.0f} s |"
    )


if __name__ == "__main__":
    main()
