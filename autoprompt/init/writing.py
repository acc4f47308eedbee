"""A space file as commented TOML, from what was guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from autoprompt.data.targets import NO_LABELS
from autoprompt.init.columns import Column, field_name
from autoprompt.init.guess import Guess
from autoprompt.init.phrases import anchors, instructions_for, template_pair, words_for

__all__ = ["quoted", "space_file"]

_MOST_TOKENS = 256
_TARGETS = {
    "label": "one of a few labels",
    "labels": "several labels, or none",
    "option": "one of the row's own options",
    "number": "a number",
    "text": "a text; where the column has lists, each text in it is right",
    "program": "a program",
}


def quoted(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(quoted, texts)) + "]"


def space_file(
    name: str, model: str, file: str, guess: Guess, columns: Sequence[Column], labels: Sequence[str], encoder: bool
) -> str:
    """The text of a space file.

    file: where the data lie, from the space file's folder. labels: those of the data. encoder: whether the model is a
    sentence encoder, which shows no examples.
    """
    label = next(column for column in columns if column.name == guess.label)
    inputs = _Names(guess)
    words = _words(guess, label, labels)
    top = [
        f"# Written by autoprompt init from {_on_a_line(Path(file).name)}; change what you like.",
        "",
        f"name = {quoted(name)}",
        f'model = {quoted(model)} # a folder in the Hugging Face layout, a hub name, or "builtin"',
    ]
    if guess.metric.startswith("pass@"):
        top.append("allow_code_execution = true # asked for by the metric: programs run contained")
    blocks = [
        top + ([f"metric = {quoted(guess.metric)}"] if not guess.also else []),
        _metric(guess),
        _data(file, guess, columns, inputs),
        *_prompt(guess, inputs, words),
        _answer(guess, label),
        _space(guess, inputs, words, encoder),
        ["[study]", "trials = 60 # prompts to score; more find more"],
        ["[finetune]", "epochs = 4"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


class _Names:
    """The names under which a template shows the columns."""

    def __init__(self, guess: Guess) -> None:
        self.columns: dict[str, str] = {}
        for column in [*guess.fields, *([guess.options] if guess.options else [])]:
            self.columns[field_name(column, tuple(self.columns))] = column
        self.options = next((name for name, column in self.columns.items() if column == guess.options), None)
        self.fields = [name for name in self.columns if name != self.options]

    @property
    def renamed(self) -> dict[str, str]:
        return {name: column for name, column in self.columns.items() if name != column}


def _on_a_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def _words(guess: Guess, label: Column, labels: Sequence[str]) -> dict[str, str]:
    """The label words, where the prompt needs some."""
    if guess.target == "number" and guess.anchored:
        return anchors(label.numbers)
    return words_for([one for one in labels if one != NO_LABELS]) if guess.target in ("label", "labels") else {}


def _metric(guess: Guess) -> list[str]:
    if not guess.also:
        return []
    return ["[metric]", f"name = {quoted(guess.metric)}", f"also = {_texts(guess.also)} # told beside it"]


def _data(file: str, guess: Guess, columns: Sequence[Column], names: _Names) -> list[str]:
    lines = [
        "[data]",
        f"file = {quoted(file)}",
        f"fields = {_texts(names.fields)} # what the prompt shows",
        f"label = {quoted(guess.label)} # the answer",
        f"target = {quoted(guess.target)} # {_TARGETS[guess.target]}",
    ]
    if names.options is not None:
        lines.append(f"options = {quoted(names.options)}")
    if guess.first_option:
        lines.append("first_option = 1 # the answer counts from 1")
    if guess.aside:
        lines.append(f"aside = {_texts(guess.aside)} # for the metric alone")
    if names.renamed:
        pairs = ", ".join(f"{quoted(name)} = {quoted(column)}" for name, column in names.renamed.items())
        lines.append(f"columns = {{ {pairs} }} # the file's own names")
    if guess.split is not None:
        lines.append(f"split = {quoted(guess.split)} # train, dev or test")
    else:
        lines.append("shares = [0.4, 0.3, 0.3] # train, dev, locked test")
    if guess.group is not None:
        lines.append(f"group = {quoted(guess.group)} # rows that share it stay in one split")
    longest = max((c.longest for c in columns if c.name in guess.fields), default=0)
    lines.append(f"# longest = 2000 # characters of a text; here it has up to {longest:,}")
    return lines


def _prompt(guess: Guess, names: _Names, words: dict[str, str]) -> list[list[str]]:
    template, _ = template_pair(names.fields, names.options, guess.label)
    lines = ["[prompt] # your own prompt: what the winner is measured against", f"template = {quoted(template)}"]
    if not words:
        return [lines]
    why = "an answer lies between the numbers of these" if guess.target == "number" else "what the model says for each"
    return [
        lines,
        [f"[prompt.label_words] # {why}", *(f"{quoted(one)} = {quoted(word)}" for one, word in words.items())],
    ]


def _answer(guess: Guess, label: Column) -> list[str]:
    if guess.target == "option":
        return ["[answer]", 'style = ["letters", "texts"] # answered by its letter, or by itself: both are tried']
    if guess.target in ("label", "number") and not (guess.target == "number" and not guess.anchored):
        return []
    return ["[answer]", f"tokens = {_tokens(guess, label)} # the most to write", *_ends(guess, label)]


def _tokens(guess: Guess, label: Column) -> int:
    """About two a word, or one for three characters, of the longest answer."""
    longest = max(max(map(len, label.texts)) if guess.target == "labels" else label.longest, 3) // 3
    return min(_MOST_TOKENS, 8 if guess.target == "number" else longest + 4)


def _ends(guess: Guess, label: Column) -> list[str]:
    if guess.target == "program":
        return [r'stop = ["\n\n\n", "```"]']
    if guess.target == "number":
        return ['read = "number" # the last number that is written']
    one_line = not any("\n" in str(cell) for cell in label.cells)
    return [r'stop = ["\n"]'] if one_line else []


def _space(guess: Guess, names: _Names, words: dict[str, str], encoder: bool) -> list[str]:
    _, template = template_pair(names.fields, names.options, guess.label)
    written = guess.target == "number" and not guess.anchored
    told = instructions_for(guess.target, guess.label, list(words.values()), written)
    lines = [
        "[space] # what may vary besides",
        "instructions = [",
        *(f"    {quoted(text)}," for text in told),
        "]",
        f"templates = [{quoted(template)}]",
    ]
    if guess.target == "label":
        lines.append('calibration = ["none", "content_free"]')
    if encoder:
        return lines
    return [
        *lines,
        'demonstrations = { most = 4, selection = ["drawn", "similar"] } # worked examples',
        "soft = { vectors = [4] } # vectors in front of the prompt, learned",
    ]
