"""The top prompts on other models: whether what was found is a good prompt, or one that fits one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.data import Example
from autoprompt.events import PromptsTransferred
from autoprompt.explain.attempts import attempted
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer

__all__ = ["transfer"]


def transfer(
    models: Mapping[str, Scorer], prompts: Mapping[str, Prompt], examples: Sequence[Example], home: str = ""
) -> PromptsTransferred:
    """The metric of each prompt on each model, in the order of both, on dev examples.

    home: the model that the prompts were searched with. A soft prompt's vectors lie in the space of its own model's
    embeddings and say nothing in another's, so that it is scored on that one alone. What is left out
    stands with its reason in the row's "left_out", by the prompt's name: soft prompts, prompts that do not fit
    the model's window, label words that are the same tokens to it. Raises DataError without examples.
    """
    return PromptsTransferred(tuple(_row(name, scorer, prompts, examples, home) for name, scorer in models.items()))


def _row(
    model: str, scorer: Scorer, prompts: Mapping[str, Prompt], examples: Sequence[Example], home: str
) -> dict[str, Any]:
    left_out = {name: why for name, prompt in prompts.items() if (why := _stranger(scorer, prompt, model == home))}
    able = {name: prompt for name, prompt in prompts.items() if name not in left_out}
    values: dict[str, float] = {}
    for name, found in zip(able, attempted(scorer, list(able.values()), examples), strict=True):
        if isinstance(found, str):
            left_out[name] = found
        else:
            values[name] = found.value
    return {"model": model, "values": values, "left_out": left_out}


def _stranger(scorer: Scorer, prompt: Prompt, home: bool) -> str:
    """Why a soft prompt's vectors are none of this model's, or an empty text."""
    if prompt.soft is None:
        return ""
    if not home:
        return "Its vectors were made for the embeddings of another model."
    width, own = prompt.soft.vectors.shape[1], scorer.model.network.get_input_embeddings().weight.shape[1]
    return "" if width == own else f"Its vectors have {width} numbers, and the embeddings of this model {own}."
