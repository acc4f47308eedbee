"""A space file and its data, checked without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprompt.config import read_task

__all__ = ["check"]


def check(file: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """What a run of the file would do, in a few lines. Raises what a run would raise before its model.

    changes: keys by section that override the file's.
    """
    config, splits = read_task(file, file.parent, changes)
    space = config.space
    words = [1 + len(set(w) - {config.prompt.label_words[label]}) for label, w in space.label_words.items()]
    varied = [
        f"{1 + len(set(space.templates) - {config.prompt.template})} templates",
        f"{1 + len(set(space.instructions) - {config.prompt.instruction})} instructions",
        f"{'x'.join(map(str, words)) or '1'} label words",
        f"up to {space.demonstrations.most if space.demonstrations else 0} demonstrations",
        "soft prompts" if space.soft else "no soft prompts",
    ]
    told = (
        f"{file} is right: {', '.join(varied)}; {config.study.trials} trials; "
        f"{len(splits.train)} train, {len(splits.dev)} dev, {len(splits.test)} locked test examples, "
        f"{len(splits.labels)} labels, {splits.duplicates_removed} duplicates removed."
    )
    return "\n".join([told, *splits.notes])
