"""How long the examples are, as the model reads them, against what it can read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.doctor.finding import percent
from autoprompt.events import Finding
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import Space

__all__ = ["context_window"]

_MOST = 2000  # examples of a split that are measured
_RETRIEVED = 300  # and under a prompt that retrieves: each is compared with the whole pool
_DRAWS = 32  # of demonstrations
_MANY, _SOME = 0.2, 0.05  # shares of the examples

Lengths = NDArray[np.int64]


def context_window(scorer: Scorer, space: Space, examples: Mapping[str, Sequence[Example]]) -> Finding:
    """How many examples are shortened to fit the window, by the user's prompt and by the longest of the space.

    examples: by split, such as {"train": ..., "dev": ...}, never the locked test. details, in tokens: "window"
    (None: no limit), "prompt" (the user's prompt without an input), "longest", "median" and "p95" of the
    examples under it; "examined", "shortened" (examples) and "by_split"; "demonstrations": empty, or the
    space's "most", their "shortened" under the longest draw and "share" of those examined, "tokens" that one
    takes on the average, and how many "fit" beside 95 % of the examples.

    Raises PromptError when the user's prompt cannot be rendered or has no tokens for a label word.
    """
    window = scorer.model.window
    prompt = space.baseline
    found = {split: _lengths(scorer, prompt, several[:_MOST]) for split, several in examples.items()}
    lengths = np.concatenate([*found.values(), np.zeros(0, dtype=np.int64)])
    alone = _alone(scorer, prompt)
    details: dict[str, Any] = {"window": window, "prompt": alone, "examined": len(lengths)}
    if not len(lengths):
        return Finding("window", "fine", "There are no examples to measure.", details)
    shortened = {split: _over(several, window) for split, several in found.items()}
    details |= {
        "longest": int(lengths.max()),
        "median": int(np.median(lengths)),
        "p95": int(np.quantile(lengths, 0.95, method="higher")),
        "shortened": sum(shortened.values()),
        "by_split": shortened,
        "demonstrations": {},
    }
    if space.demonstrations.most:
        whole = [example for several in examples.values() for example in several[:_MOST]]
        details["demonstrations"] = _with_demonstrations(scorer, space, whole, details)
    return Finding("window", _level(details), _message(details), details)


def _lengths(scorer: Scorer, prompt: Prompt, examples: Sequence[Example]) -> Lengths:
    """Tokens (N,) of the longest row of each example, nothing shortened."""
    vectors = 0 if prompt.soft is None else len(prompt.soft.vectors)
    shown = [prompt.render(dict(example.fields)) for example in examples]
    return np.array([e.length for e in scorer.model.encode_shown(shown, vectors)], dtype=np.int64)


def _alone(scorer: Scorer, prompt: Prompt) -> int:
    """Tokens of the prompt with an empty input."""
    return int(_lengths(scorer, prompt, [Example(0, dict.fromkeys(prompt.fields, ""), "")])[0])


def _over(lengths: Lengths, window: int | None) -> int:
    return 0 if window is None else int((lengths > window).sum())


def _with_demonstrations(
    scorer: Scorer, space: Space, whole: Sequence[Example], details: Mapping[str, Any]
) -> dict[str, Any]:
    """What the most demonstrations make of the examples: of all draws the longest counts."""
    options, alone, window = space.demonstrations, details["prompt"], details["window"]
    found: dict[str, Any] = {"most": options.most}
    counts: list[tuple[int, int]] = []  # shortened, of so many
    sizes: list[int] = []
    if "drawn" in options.selections:
        prompts = [_showing(space, draw) for draw in range(min(options.draws, _DRAWS))]
        sizes = [_alone(scorer, prompt) for prompt in prompts]
        longest = prompts[int(np.argmax(sizes))]
        counts.append((_over(_lengths(scorer, longest, whole), window), len(whole)))
    if "similar" in options.selections:
        prompt = replace(space.baseline, demonstrations=(), retrieval=space.retrieved(options.most))
        some = whole[:: max(1, len(whole) // _RETRIEVED)][:_RETRIEVED]
        lengths, own = _lengths(scorer, prompt, some), _lengths(scorer, space.baseline, some)
        counts.append((_over(lengths, window), len(some)))
        sizes += [] if sizes else [alone + int((lengths - own).mean())]
    shortened, size = max(counts, key=lambda pair: (pair[0] / pair[1], pair[0]))
    each = max(1.0, float(np.mean(sizes) - alone) / options.most)
    room = np.inf if window is None else (window - details["p95"]) / each
    return found | {
        "shortened": shortened,
        "share": shortened / size,
        "tokens": round(each, 1),
        "fit": int(max(0, min(options.most, room))),
    }


def _showing(space: Space, draw: int) -> Prompt:
    chosen = space.drawn(draw)
    return replace(
        space.baseline, demonstrations=tuple(Demonstration(example.fields, example.label) for example in chosen)
    )


def _level(details: Mapping[str, Any]) -> str:
    if details["window"] is None:
        return "fine"
    if details["prompt"] > details["window"] or details["shortened"] > _MANY * details["examined"]:
        return "problem"
    return "warning" if details["shortened"] or details["demonstrations"].get("share", 0) > _SOME else "fine"


def _message(details: Mapping[str, Any]) -> str:
    window, size = details["window"], details["examined"]
    sizes = f"the longest of {size} examples takes {details['longest']:,}"
    if window is None:
        return f"The model names no limit of tokens; {sizes} under your prompt."
    if details["prompt"] > window:
        return (
            f"Your prompt without an input takes {details['prompt']:,} tokens, and the model reads {window:,}. "
            "Shorten it."
        )
    cut = details["shortened"]
    said = f"The model reads {window:,} tokens; {sizes} under your prompt, "
    said += f"and {cut} ({percent(cut, size)}) are cut at their end to fit." if cut else "and none is cut."
    shown = details["demonstrations"]
    if shown.get("share"):
        many = percent(shown["share"])
        said += f" With {shown['most']} demonstrations {many} are cut; {shown['fit']} fit beside most inputs."
    return said
