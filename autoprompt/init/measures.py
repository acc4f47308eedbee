"""The metric that fits the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoprompt.init.columns import Column
from autoprompt.init.guess import Guess

__all__ = ["guess_metric"]


def guess_metric(guess: Guess, columns: Sequence[Column], told: str | None = None) -> Guess:
    """The metric that fits the target, and those that are told beside it."""
    if told is not None:
        return replace(guess, metric=told, also=()).because("metric", "as told")
    label = next(column for column in columns if column.name == guess.label)
    name, also, reason = _fitting(guess, label)
    return replace(guess, metric=name, also=also).because("metric", reason)


def _fitting(guess: Guess, label: Column) -> tuple[str, tuple[str, ...], str]:
    if guess.target == "label":
        counts = label.counts.values()
        if max(counts) > 3 * min(counts):
            return "macro_f1", ("accuracy",), "the labels are uneven, and each is to count"
        return "accuracy", (), "the labels are about even"
    if guess.target == "option":
        return "accuracy", (), "one option is right"
    if guess.target == "labels":
        return "example_f1", (), "how well each set is met"
    if guess.target == "number":
        return (
            ("mse", ("mae",), "numbers on a scale")
            if guess.anchored
            else ("numeric_match", (), "a number is right or not")
        )
    if guess.target == "program":
        return "exact_match", (), "nothing is run; --metric pass@1 runs the tests of the rows"
    name = label.name.casefold()
    if any(part in name for part in ("summary", "headline", "title")):
        return "rougeL", (), "as summaries are measured"
    if any(part in name for part in ("translation", "german", "french", "spanish", "target_text")):
        return "chrf", ("bleu",), "as translations are measured"
    if label.words <= 6:
        return "token_f1", ("exact_match",), "short answers"
    return "rougeL", (), "long answers"
