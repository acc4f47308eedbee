"""Prompts that nobody has searched for, scored where they can be: mixtures, shortened and disturbed ones."""

from __future__ import annotations

from collections.abc import Sequence

from autoprompt.data import Example
from autoprompt.errors import DataError, ModelError, PromptError
from autoprompt.prompt import Prompt
from autoprompt.scorer import Score, Scorer

__all__ = ["attempted", "required", "said"]


def attempted(scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Score | str]:
    """The score of each prompt, or why it has none: it cannot show an example, or the model has no number for it.

    All go through the model in one grid; where that fails, each by itself. Raises DataError where there are
    no examples.
    """
    if not examples:
        raise DataError("There are no examples to score prompts on. Give at least one.")
    shortened = set(scorer.truncated)  # of these prompts nobody has to hear that they cut an input
    try:
        return list(scorer.score(prompts, examples))
    except (PromptError, ModelError):
        return [_alone(scorer, prompt, examples) for prompt in prompts]
    finally:
        scorer.truncated = shortened


def _alone(scorer: Scorer, prompt: Prompt, examples: Sequence[Example]) -> Score | str:
    try:
        return scorer.score([prompt], examples)[0]
    except (PromptError, ModelError) as error:
        return str(error)


def required(found: Score | str) -> Score:
    """A score that nothing can be said without. Raises PromptError with the reason where there is none."""
    if isinstance(found, str):
        raise PromptError(found)
    return found


def said(text: str, most: int = 60) -> str:
    """A text in a sentence: quoted, on one line, cut where it is long."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return f'"{line if len(line) <= most else line[: most - 3] + "..."}"'
