"""What fine-tuning did, from its events: the epochs, the 2 x 2, added examples, another task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["finetune_sections"]

Record = Mapping[str, Any]
Seen = Mapping[str, list[Record]]

_WIDTH = 24  # characters of the longest bar of a loss curve
_CELLS = {
    "base": "your prompt",
    "prompt": "the winner",
    "tuning": "your prompt + fine-tuning",
    "both": "the winner + fine-tuning",
}
_DIFFERENCES = {
    "prompt - base": "the winner, without fine-tuning",
    "tuning - base": "fine-tuning, from your prompt",
    "both - base": "both together",
    "both - prompt": "fine-tuning, on top of the winner",
    "both - tuning": "starting from the winner, not from your prompt",
}


def finetune_sections(seen: Seen) -> list[str]:
    """The sections on fine-tuning; an empty one is left out by the caller."""
    return [_parts(seen), _second(seen), _added(seen), *_curves(seen)]


def _parts(seen: Seen) -> str:
    if "PartsCompared" not in seen:
        return ""
    event = seen["PartsCompared"][-1]
    lines = [
        "## What each part was worth",
        "",
        event["sentence"],
        "",
        "| locked test | score |",
        "| --- | --- |",
        *(f"| {name} | {event['cells'][cell]:.4f} |" for cell, name in _CELLS.items() if cell in event["cells"]),
        "",
        "| part | worth | 95 % paired interval |",
        "| --- | --- | --- |",
    ]
    for key, name in _DIFFERENCES.items():
        if key in event["differences"]:
            value, low, high = event["differences"][key]
            lines.append(f"| {name} | {value:+.4f} | {low:+.4f} to {high:+.4f} |")
    return "\n".join(lines)


def _second(seen: Seen) -> str:
    if "SecondTask" not in seen:
        return ""
    event = seen["SecondTask"][-1]
    low, high = event["interval"]
    said = "lost" if high < 0 else "gained" if low > 0 else "is not certain to have lost or gained"
    return (
        f"## The other task\n\nOn the {event['examples']} examples of {event['file']} the accuracy was "
        f"{event['before']:.4f} before fine-tuning and is {event['after']:.4f} after it: the model {said} there "
        f"({low:+.4f} to {high:+.4f}, 95 % paired interval)."
    )


def _added(seen: Seen) -> str:
    lines = []
    for event in {e["source"]: e for e in seen.get("ExamplesAdded", [])}.values():
        counts = event["counts"]
        refused = ", ".join(
            f"{number} {reason.replace('_', ' ')}" for reason, number in counts["refused"].items() if number
        )
        if event["source"] == "unlabelled":
            what = f"{event['kept']} of {counts['read']} unlabelled texts, with the labels that the winner gives them"
            if counts["threshold"] is not None:
                what += f" with P >= {counts['threshold']:.3f}: on dev {counts['dev_accuracy']:.1%} of such labels"
                what += " are right"
        else:
            what = f"{event['kept']} of {counts['asked']} examples that the model was asked to write"
        lines.append(f"- {what}." + (f" Left out: {refused}." if refused else ""))
    return "\n".join(["## Examples added to training", "", *lines]) if lines else ""


def _curves(seen: Seen) -> list[str]:
    """Loss and dev score by epoch, a table for each start."""
    runs: dict[str, dict[int, Record]] = {}
    for event in seen.get("EpochFinished", []):
        runs.setdefault(event.get("start", "winner"), {})[event["epoch"]] = event
    return [_curve(start, [found[n] for n in sorted(found)]) for start, found in runs.items()]


def _curve(start: str, epochs: Sequence[Record]) -> str:
    most = max(event["loss"] for event in epochs) or 1.0
    lines = [
        f"## Fine-tuning from {'the ' if start == 'winner' else ''}{start}",
        "",
        "| epoch | dev | training loss | |",
        "| --- | --- | --- | --- |",
    ]
    for event in epochs:
        length = max(1, round(_WIDTH * event["loss"] / most)) if event["loss"] > 0 else 0
        dev = "–" if event["dev"] is None else f"{event['dev']:.4f}"
        lines.append(f"| {event['epoch']} | {dev} | {event['loss']:.4f} | {chr(0x2588) * length} |")
    return "\n".join(lines)
