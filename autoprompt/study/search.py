"""A whole search as one function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprompt.data import Example
from autoprompt.events import Listener, silent
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study.candidates import Candidate
from autoprompt.study.options import StudyOptions
from autoprompt.study.study import Study

__all__ = ["search"]


def search(
    space: Space,
    scorer: Scorer,
    examples: Sequence[Example],
    options: StudyOptions | None = None,
    folder: Path | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> list[Candidate]:
    """Search a space and confirm the best; the confirmed candidates, the winner first.

    Raises StudyError as `Study.run` does.

    >>> from autoprompt.metrics.builtin import accuracy
    >>> from autoprompt.models import load_model
    >>> from autoprompt.prompt import Prompt
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> space = Space(prompt, instructions=("", "Sports or money?"))
    >>> examples = [Example(0, {"text": "They won the match."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
    >>> found = search(space, Scorer(load_model("builtin"), accuracy), examples, StudyOptions(trials=3))
    >>> found[0].kind in ("baseline", "discrete")
    True
    """
    study = Study(space, scorer, examples, options, folder, seed, listener)
    return study.confirm(study.run())
