"""How sensitive the builtin model is to its prompt, on the demo task.

    python tests/benchmarks/builtin.py [--quick] [--out FILE]

Prints accuracy by prompt: zero-shot over hand-written prompts, with 4 demonstrations drawn at
random, with the 4 that are most like the input, and over sets of label words. Only the train and
dev splits are used; the test split stays locked.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from record import bar, write_record

from autoprompt.data import DataOptions, Example, read_splits
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, Space

SEED = 7
DATA = Path(__file__).parents[2] / "search_spaces" / "support.jsonl"
TEAMS = ("billing", "shipping", "returns", "technical", "account", "sales", "feedback")
LISTED = ", ".join(TEAMS)
LETTERS = "ABCDEFG"
LETTERED = "\n".join(f"{letter}) {team}" for letter, team in zip(LETTERS, TEAMS, strict=True))

# (name, instruction, template): of the kinds that users write, from bare to elaborate
PROMPTS = (
    ("bare", "", "{{ text }}\n{{ label }}"),
    ("label tag", "", "{{ text }}\nLabel: {{ label }}"),
    ("input/output", "", "Input: {{ text }}\nOutput: {{ label }}"),
    ("arrow", "", "{{ text }} -> {{ label }}"),
    ("sort", "Sort the message.", "{{ text }}\nLabel: {{ label }}"),
    ("which team", "Which team should get the message?", "Message: {{ text }}\nTeam: {{ label }}"),
    ("options", f"Classify the message.\nOptions: {LISTED}", "Text: {{ text }}\nCategory: {{ label }}"),
    ("route", f"Route each customer message to the right team.\nTeams: {LISTED}", "Message: {{ text }}\nTeam: {{ label }}"),
    (
        "role",
        "You work at the help desk of an online shop. Read the message and name the department that handles it.",
        "Customer: {{ text }}\nDepartment: {{ label }}",
    ),
    ("about", "", '"{{ text }}"\nThis is about {{ label }}'),
    ("question behind", f"Which team should answer? Choose from: {LISTED}.", "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}"),
    ("options behind", f"Options: {LISTED}", "Message: {{ text }}\n{{ instruction }}\nTeam: {{ label }}"),
    ("letters", f"Which team should get the message?\n{LETTERED}", "Message: {{ text }}\nAnswer: {{ label }}"),
    ("sentence", "", "A customer wrote: {{ text }}\nThe team for this is {{ label }}"),
)  # fmt: skip
WORD_SETS: dict[str, tuple[str, ...]] = {
    "own names": TEAMS,
    "plain words": ("money", "delivery", "exchange", "technical support", "login", "product advice", "opinion"),
    "departments": ("payments", "parcels", "returns", "troubleshooting", "passwords", "stock", "complaints"),
    "initials": ("b", "s", "r", "t", "a", "p", "f"),
    "numbers": ("1", "2", "3", "4", "5", "6", "7"),
}


def prompt(name: str, instruction: str, template: str) -> Prompt:
    words = LETTERS if name == "letters" else TEAMS
    return Prompt(template, dict(zip(TEAMS, words, strict=True)), instruction)


def demonstrated(base: Prompt, pool: tuple[Example, ...], draw: int) -> Prompt:
    space = Space(base, demonstrations=DemonstrationSpace(most=4), pool=pool, seed=SEED)
    return replace(base, demonstrations=tuple(Demonstration(e.fields, e.label) for e in space.drawn(draw)))


def retrieving(base: Prompt, pool: tuple[Example, ...]) -> Prompt:
    return replace(base, retrieval=Retrieval(tuple(Demonstration(e.fields, e.label) for e in pool), 4))


def measure(model_name: str, quick: bool) -> dict[str, Any]:
    splits = read_splits(DataOptions(label="team", file=DATA), SEED)
    scorer = Scorer(load_model(model_name), accuracy)
    examples = splits.dev[:120] if quick else splits.dev
    draws = 2 if quick else 4
    rows = []
    for name, instruction, template in PROMPTS:
        base = prompt(name, instruction, template)
        [zero] = scorer.score([base], examples)
        shown = scorer.score([demonstrated(base, splits.train, draw) for draw in range(draws)], examples)
        [similar] = scorer.score([retrieving(base, splits.train)], examples)
        drawn = statistics.mean(score.value for score in shown)
        rows.append({"prompt": name, "zero_shot": zero.value, "four_drawn": drawn, "four_similar": similar.value})
        print(
            f"{name:16} zero-shot {zero.value:.3f}   4 demonstrations: drawn {drawn:.3f}, similar {similar.value:.3f}",
            flush=True,
        )
    by_words = {}
    route = prompt(*PROMPTS[5])
    for name, words in WORD_SETS.items():
        [score] = scorer.score([replace(route, label_words=dict(zip(TEAMS, words, strict=True)))], examples)
        by_words[name] = score.value
        print(f"label words: {name:12} {score.value:.3f}", flush=True)
    zeros = [row["zero_shot"] for row in rows]
    medians = {
        kind: statistics.median(row[kind] for row in rows) for kind in ("zero_shot", "four_drawn", "four_similar")
    }
    gain = medians["four_drawn"] - medians["zero_shot"]
    bars = {
        "best minus worst prompt, zero-shot": bar(max(zeros) - min(zeros), 0.25),
        "best prompt, zero-shot": bar(max(zeros), 0.85, at_most=True),
        "4 demonstrations raise the median prompt": bar(gain, 0.05),
        "label words alone": bar(max(by_words.values()) - min(by_words.values()), 0.10),
    }
    return {"prompts": rows, "medians": medians, "label_words": by_words, "examples": len(examples), "bars": bars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    write_record("builtin", SEED, measure(options.model, options.quick), options.out)


if __name__ == "__main__":
    main()
