"""The classes of a data set, and whether its splits have what they need of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from autoprompt.data.examples import Example
from autoprompt.data.options import DataOptions, Target
from autoprompt.data.targets import single_labels
from autoprompt.errors import DataError, nearest

__all__ = ["check_classes", "labels_of", "require_known"]

_WRITTEN = ("number", "text", "program")  # targets without classes


def check_classes(examples: Sequence[Example], target: Target, minimum: int, what: str) -> None:
    """Raise DataError when there are fewer than two classes, or a class has fewer than `minimum` examples.

    Options need no minimum: which letter is right says nothing of the example.
    """
    if target in _WRITTEN:
        if len(examples) < minimum:
            raise DataError(f"{what} has {len(examples)} different examples; at least {minimum} are needed.")
        return
    counts = Counter(label for e in examples for label in _classes(e, target))
    if len(counts) < 2:
        has = f"only one class, {next(iter(counts))!r}" if counts else "no label at all"
        raise DataError(f"{what} has {has}; at least two are needed. Is [data] label the right column?")
    few = sorted(label for label, count in counts.items() if count < minimum) if target == "label" else []
    if few:
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in few[:5]) + (", …" if len(few) > 5 else "")
        raise DataError(
            f"{what} has {len(few)} of {len(counts)} classes with fewer than {minimum} examples: {shown}. "
            "Add examples, merge classes, or check that [data] label is the column of the classes."
        )


def require_known(splits: Mapping[str, Sequence[Example]], target: Target) -> None:
    """Raise DataError when dev or test has a class that no training example has."""
    if target not in ("label", "labels"):
        return
    known = sorted({label for e in splits["train"] for label in _classes(e, target)})
    for name in ("dev", "test"):
        strange = sorted({label for e in splits[name] for label in _classes(e, target)} - set(known))
        if strange:
            raise DataError(
                f"The {name} split has the class {strange[0]!r}, which no training example has "
                f"(there: {', '.join(known[:8])}).{nearest(strange[0], known)}"
            )


def labels_of(splits: Mapping[str, Sequence[Example]], options: DataOptions) -> tuple[str, ...]:
    """The classes: of train, or the letters of the longest list of options; none of written targets."""
    if options.target in _WRITTEN:
        return ()
    if options.target == "option":
        most = max(e.fields[str(options.options)].count("\n") + 1 for part in splits.values() for e in part)
        return tuple(ascii_uppercase[:most])
    return tuple(sorted({label for e in splits["train"] for label in _classes(e, options.target)}))


def _classes(example: Example, target: Target) -> list[str]:
    return single_labels(example.label) if target == "labels" else [example.label]
