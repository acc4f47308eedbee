"""From a data file to a space file that runs."""

from __future__ import annotations

import os
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprompt.config import read_task
from autoprompt.data import DataOptions, Target, read_rows
from autoprompt.data.reading import read_splits
from autoprompt.errors import ConfigError, DataError
from autoprompt.init.asking import Ask, chosen, several
from autoprompt.init.columns import Column, columns_of
from autoprompt.init.guess import TARGETS, Guess
from autoprompt.init.inputs import guess_fields
from autoprompt.init.meaning import guess_column, guess_target
from autoprompt.init.measures import guess_metric
from autoprompt.init.writing import space_file
from autoprompt.metrics.builtin import metrics_for
from autoprompt.results import write_text
from autoprompt.wording import plain

__all__ = ["Told", "begin"]


@dataclass(frozen=True)
class Told:
    """What the user says beforehand; None and nothing: it is guessed. out: of the space file; force: it may exist."""

    label: str | None = None
    fields: tuple[str, ...] = ()
    target: Target | None = None
    metric: str | None = None
    model: str = "builtin"
    name: str | None = None
    out: Path | None = None
    force: bool = False


def begin(data: Path, told: Told | None = None, ask: Ask | None = None) -> str:
    """Write the space file of a data file; what was guessed and what to do next, in a few lines.

    ask: puts a question to the user; without it nothing is asked. Raises DataError when the file cannot be read or
    has nothing to learn from, ConfigError when the space file exists or would not be right; then none is written.
    """
    told = told or Told()
    name = told.name or _name(data)
    out = told.out or Path(f"{name}.toml")
    if out.exists() and not told.force:
        raise ConfigError(str(out), ["There is such a file already. Give another --out, or --force to overwrite it."])
    columns = columns_of(read_rows(data))
    guess, notes = _guessed(columns, told, ask)
    text = _text(data, out, name, told.model, guess, columns)
    read_task(tomllib.loads(text), out.parent)  # it is right, or its problems are told
    write_text(out, text)
    return _summary(data, columns, guess, notes, out)


def _name(data: Path) -> str:
    """A run's name out of a file's."""
    ascii_only = unicodedata.normalize("NFKD", data.stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_only).strip("._-")[:100] or "task"


# -- guesses and questions -------------------------------------------------------------------------


def _guessed(columns: Sequence[Column], told: Told, ask: Ask | None) -> tuple[Guess, list[str]]:
    names = [column.name for column in columns]
    guess = guess_column(columns, told.label)
    if len(names) > 1 and ask is not None and told.label is None:
        guess = guess_column(columns, chosen(ask, "Which column is the answer?", guess.label, names))
    label = next(column for column in columns if column.name == guess.label)
    _require_usable(label)
    guess = guess_target(guess, columns, told.target)
    if ask is not None and told.target is None:
        kind = chosen(ask, f"What is the answer: {', '.join(TARGETS)}?", guess.target, TARGETS)
        if kind != guess.target:
            guess = guess_target(guess, columns, next(one for one in TARGETS if one == kind))
    guess, notes = guess_fields(guess, columns, told.fields)
    if ask is not None and not told.fields:
        others = [name for name in names if name not in (guess.label, guess.options)]
        asked = several(ask, "Which columns does the prompt show?", guess.fields, others)
        if tuple(asked) != guess.fields:
            guess, notes = guess_fields(guess, columns, asked)
    return _measured(guess, columns, told, ask), notes


def _measured(guess: Guess, columns: Sequence[Column], told: Told, ask: Ask | None) -> Guess:
    """The guess with its metric."""
    guess = guess_metric(guess, columns, told.metric)
    if ask is None or told.metric is not None:
        return guess
    usual = ", ".join(metrics_for(guess.target))
    metric = chosen(ask, f"Which metric ({usual}, or your own file.py:function)?", guess.metric)
    return guess if metric == guess.metric else guess_metric(guess, columns, metric)


def _require_usable(label: Column) -> None:
    if label.where:
        raise DataError(
            f"{label.where}: the column {label.name!r} is empty. Fill it, remove the row, or name another column "
            "with --label."
        )
    if not label.is_list and len(label.counts) < 2:
        value = next(iter(label.counts))
        raise DataError(
            f"Column {label.name!r} has one value in all {len(label.texts)} rows, {value[:60]!r}: there is nothing to "
            "learn. Add rows with other answers, or name another column with --label."
        )


# -- the file --------------------------------------------------------------------------------------


def _text(data: Path, out: Path, name: str, model: str, guess: Guess, columns: Sequence[Column]) -> str:
    options = DataOptions(
        label=guess.label,
        fields=guess.fields,
        file=data,
        split=guess.split,
        group=guess.group,
        target=guess.target,
        options=guess.options if guess.target == "option" else None,
        first_option=1 if guess.first_option else 0,
    )
    labels = read_splits(options, 0).labels
    try:
        file = Path(os.path.relpath(data, out.parent)).as_posix()
    except ValueError:  # on another drive
        file = data.resolve().as_posix()
    return space_file(name, model, file, guess, columns, labels, _is_encoder(model))


def _is_encoder(model: str) -> bool:
    """Whether a folder has the layout of sentence-transformers."""
    try:
        return (Path(model) / "modules.json").is_file()
    except (OSError, ValueError):  # a name that no folder can have
        return False


def _summary(data: Path, columns: Sequence[Column], guess: Guess, notes: Sequence[str], out: Path) -> str:
    why = dict(guess.why)

    def line(what: str, value: str, key: str) -> str:
        return f"{what}: {value}" + (f" ({why[key]})" if key in why else "")

    lines = [
        f"{data}: {len(columns[0].cells):,} rows with the columns {', '.join(column.name for column in columns)}",
        line("answer", guess.label, "label"),
        line("shown", ", ".join((*guess.fields, *([guess.options] if guess.options else []))), "fields"),
        *notes,
        line("target", guess.target, "target"),
        line("metric", " and ".join((guess.metric, *guess.also)), "metric"),
        f"written: {out}",
        "",
        f"autoprompt check {out}",
        f"autoprompt run {out}",
    ]
    return "\n".join(map(plain, lines))
