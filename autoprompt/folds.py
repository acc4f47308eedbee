"""A whole cross-validation: a run a fold, so that each example is in the locked test of one of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.clock import parse_until
from autoprompt.config import Config, read_config
from autoprompt.errors import ConfigError
from autoprompt.report import write_comparison
from autoprompt.results import read_journal, write_json, write_text
from autoprompt.run import Result, run
from autoprompt.verdict.quantiles import student

__all__ = ["Folds", "cross_validate", "difference_of_folds", "told"]

Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Folds:
    """folder: of `folds.json`, which holds `values`, and of the folds' reports side by side. runs: fold by fold; fewer
    than there are folds where one was asked to stop."""

    folder: Path
    values: Mapping[str, Any]
    runs: tuple[Result, ...]


def cross_validate(
    source: Path | str | Mapping[str, Any],
    name: str | None = None,
    results: Path | str | None = None,
    listener: events.Listener = events.silent,
    changes: Changes | None = None,
    *,
    extend: bool = False,
) -> Folds:
    """Run every fold of a space with `folds`, as `run` does, and sum up.

    The folds' runs are called NAME-fold1 and so on and share a budget: each takes an equal part of hours and tokens,
    and of the time that is left until an end. Each finds a winner of its own, so the sum says what the search is worth
    on such data, and not what one prompt is. Called again, it goes on with the first fold that is not finished. Raises
    what `run` raises, and ConfigError where no folds are given.
    """
    base = Path.cwd() if isinstance(source, Mapping) else Path(source).parent
    config = read_config(source, base, changes)
    if config.data.folds is None or config.data.fold is not None:
        raise ConfigError("The cross-validation", ["It needs data.folds, and no data.fold: it runs all of them."])
    name, place = name or config.name, Path(results or config.results)
    end = None if config.budget.until is None else parse_until(config.budget.until)
    folder, count = place / f"{name}-folds", config.data.folds
    runs: list[Result] = []
    values: dict[str, Any] = {}
    for fold in range(1, count + 1):
        if runs and end is not None and end <= datetime.now():
            listener(events.Notice(f"The time is over: {len(runs)} of {count} folds are judged."))
            break
        called = f"{name}-fold{fold}"
        listener(events.Notice(f"Fold {fold} of {count}: {place / called}"))
        change = {"data": {"fold": fold}, "budget": _part(config, end, count - fold + 1)}
        read_back = (place / called / "result.json").exists() and not extend
        runs.append(run(source, called, place, listener, _joined(changes or {}, change), extend=extend))
        stopped = "" if read_back else runs[-1].values["stopped"]
        values = {**_summed(name, config, runs), "stopped": stopped}
        write_json(folder / "folds.json", values)
        journals = {one.folder.name: read_journal(one.folder / "events.jsonl") for one in runs}
        write_text(folder / "report.html", write_comparison(journals, values))
        if stopped:
            break
    return Folds(folder, values, tuple(runs))


def _joined(changes: Changes, more: Changes) -> dict[str, dict[str, Any]]:
    return {name: {**changes.get(name, {}), **more.get(name, {})} for name in {**changes, **more}}


def _part(config: Config, end: datetime | None, left: int) -> dict[str, Any]:
    """A fold's part of the budget. end: of all. left: folds that are not finished."""
    count, part = config.data.folds or 1, dict[str, Any]()
    if config.budget.hours is not None:
        part["hours"] = config.budget.hours / count
    if config.budget.tokens is not None:
        part["tokens"] = max(1, config.budget.tokens // count)
    if end is not None:
        now = datetime.now()
        part["until"] = (now + max((end - now) / left, timedelta(seconds=1))).isoformat(" ")
    return part


def _summed(name: str, config: Config, runs: Sequence[Result]) -> dict[str, Any]:
    values = [one.values for one in runs]
    rows = [
        {
            "run": one.folder.name,
            "baseline": one.values["baseline"]["test"],
            "winner": one.values["winner"]["test"],
            "tuned": None if one.values["tuned"] is None else one.values["tuned"]["test"],
            "verdict": one.values["verdict"],
        }
        for one in runs
    ]
    tests = sum(one["data"]["sizes"]["test"] for one in values)
    others = sum(one["data"]["sizes"]["train"] + one["data"]["sizes"]["dev"] for one in values)
    found: dict[str, Any] = {"name": name, "metric": values[0]["metric"], "maximize": values[0]["maximize"]}
    for part in ("baseline", "winner", "tuned"):
        numbers = [row[part] for row in rows]
        found[part] = None if None in numbers else math.fsum(numbers) / len(numbers)
    mean, interval = difference_of_folds([row["winner"] - row["baseline"] for row in rows], tests / others)
    verdict, sentence = _judged(found["metric"], found["maximize"], mean, interval, len(rows), config.data.folds or 1)
    return {
        **found, "folds": config.data.folds, "runs": rows, "difference": mean, "interval": interval,
        "verdict": verdict, "sentence": sentence,
    }  # fmt: skip


def _judged(
    metric: str, maximize: bool, mean: float, interval: tuple[float, float] | None, done: int, count: int
) -> tuple[str, str]:
    """The outcome in a run's words, and the sentence."""
    if interval is None:
        return "no improvement", f"{mean:+.3f} {metric} on the first fold; one fold has no interval."
    low, high = interval if maximize else (-interval[1], -interval[0])
    outcome = "improved" if low > 0 else "worse" if high < 0 else "no improvement"
    said = {"improved": "is better", "worse": "is worse", "no improvement": "is not certainly better"}[outcome]
    of = f"{done} of {count} folds" if done < count else f"{count} folds"
    span = f"95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}"
    return outcome, f"What the search finds {said} than your prompt ({mean:+.3f} {metric} in the mean of {of}, {span})."


def difference_of_folds(differences: Sequence[float], share: float) -> tuple[float, tuple[float, float] | None]:
    """The mean of the folds' differences, and its 95 % interval; None for a single fold.

    The folds share most of their training examples, so that their differences vary less than those of independent
    sets would: the variance of the mean is that of the differences times 1 / K + share, not times 1 / K (Nadeau and
    Bengio, Inference for the generalization error, 2003, equation 9). share: test examples per example that is not.

    >>> mean, (low, high) = difference_of_folds([0.0, 0.1, 0.2], 0.5)
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.1, -0.293, 0.493)
    """
    count = len(differences)
    mean = math.fsum(differences) / count
    if count == 1:
        return mean, None
    half = student(0.975, count - 1) * math.sqrt((1 / count + share) * statistics.variance(differences))
    return mean, (mean - half, mean + half)


def told(values: Mapping[str, Any]) -> str:
    """The folds' table for a terminal, and what it comes to."""
    width = max(len(row["run"]) for row in values["runs"])
    lines = [f"{'locked test':{width}}  your prompt  winner  winner + fine-tuning  verdict"]
    for row in [*values["runs"], {**values, "run": "mean", "verdict": ""}]:
        tuned = "–" if row["tuned"] is None else f"{row['tuned']:.4f}"
        cells = f"{row['baseline']:11.4f}  {row['winner']:6.4f}  {tuned:>20}  {row['verdict']}"
        lines.append(f"{row['run']:{width}}  {cells}".rstrip())
    return "\n".join([*lines, values["sentence"]])
