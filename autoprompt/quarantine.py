"""Examples that cannot be scored at all, found before the search and left out of it with their reasons.

One text on which the tokenizer breaks, or for which the model returns NaN, would fail every trial.
The user's own prompt tells: what even it cannot be scored on is no matter of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprompt.data import Example
from autoprompt.errors import StudyError
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer, preview

__all__ = ["Quarantined", "examine"]

_LONGEST = 200  # characters of a reason
_SHOWN = 3  # examples named in an error


@dataclass(frozen=True)
class Quarantined:
    """An example that is left out. number: its own; preview: how it begins, in 60 characters at most."""

    number: int
    preview: str
    reason: str


def examine(
    scorer: Scorer, prompt: Prompt, examples: Sequence[Example], split: str = "dev", most: float = 0.05
) -> tuple[list[Example], list[Quarantined]]:
    """The examples that a prompt can be scored on, and the others, both in their order.

    All are scored in one grid; a grid that raises is scored in halves, down to single examples. What was
    scored is remembered by the scorer, and by its engine's memory. split: its name, for the error.
    most: the share of the examples that may be left out.

    Raises StudyError when more have to be; MetricError never, as no metric is asked.
    """
    found: dict[int, str] = {}
    groups = [list(range(len(examples)))] if examples else []
    while groups and len(found) <= most * len(examples):
        group = groups.pop()
        try:
            places = scorer.unscored(prompt, [examples[at] for at in group])
        except Exception as error:  # an example may break template, tokenizer and model in any way
            if len(group) == 1:
                found[group[0]] = _reason(error)
            else:
                middle = len(group) // 2
                groups += [group[middle:], group[:middle]]  # the first half next
        else:
            found |= {group[place]: f"the model returns NaN or infinity ({_dtype(scorer)})" for place in places}
    out = [Quarantined(examples[at].number, preview(examples[at].fields), found[at]) for at in sorted(found)]
    if len(out) > most * len(examples):
        raise StudyError(_too_many(out, len(examples), split, most, bool(groups)))
    return [example for at, example in enumerate(examples) if at not in found], out


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_LONGEST].rstrip(" :")


def _dtype(scorer: Scorer) -> str:
    return str(scorer.model.dtype).removeprefix("torch.")


def _too_many(found: Sequence[Quarantined], size: int, split: str, most: float, unfinished: bool) -> str:
    shown = "".join(f"\n  - example {f.number} ({f.preview!r}): {f.reason}" for f in found[:_SHOWN])
    more = f"\n  - and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{'At least ' if unfinished else ''}{len(found)} of the {size} examples of {split} cannot be scored with your "
        f"own prompt; {int(most * size)} may be left out. Mend the data, the prompt or the [model]:{shown}{more}"
    )
