"""The exported folder: written whole, read back checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from autoprompt.data import DataOptions, Target
from autoprompt.errors import ExportError
from autoprompt.export.card import Trained, card
from autoprompt.models.labels import LABELS_FILE
from autoprompt.prompt import VECTORS_FILE, Prompt
from autoprompt.results import clear, replace_folder

__all__ = ["Exported", "export", "put_prompt", "read_export", "write_prompt"]

FORMAT = "autoprompt.export/1"
WEIGHTS = ("adapter", "model", "merged")
TUNED = "tuned_prompt"  # the prompt as fine-tuning left it, where it is another one


@dataclass(frozen=True)
class Exported:
    """What an exported folder says of itself.

    model, family: what to load. dtype: how its scores were made. metric: its name, or a file beside and its function.
    judged: what else a space file's [metric] says of it, such as costs and constraints. fields, label: the columns.
    use: "tuned" or "prompt", which of the two is the better one on dev. scores: the test scores by part. method: of
    fine-tuning, or None. target, options, first_option, aside, columns: how rows are read, as `DataOptions` has them.
    """

    model: str
    family: str
    dtype: str
    metric: str
    fields: tuple[str, ...]
    label: str
    use: str
    method: str | None = None
    model_fingerprint: str = ""
    prompt_fingerprint: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    target: Target = "label"
    options: str | None = None
    first_option: Literal[0, 1] = 0
    aside: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    judged: Mapping[str, Any] = field(default_factory=dict)

    def reading(self, file: Path, row: Mapping[str, Any]) -> DataOptions:
        """How the rows of a file are read, of which `row` is one: its columns may have the data's names, or ours."""
        columns = {name: column for name, column in self.columns.items() if name not in row}
        fields = tuple(name for name in self.fields if name != self.options)
        return DataOptions(
            self.label, fields or self.fields, file, target=self.target, options=self.options,
            first_option=self.first_option, aside=self.aside, columns=columns,
        )  # fmt: skip

    @property
    def commit(self) -> str | None:
        """Of a hub model, the commit that its fingerprint names."""
        return self.model_fingerprint.rpartition("@")[2] if "@" in self.model_fingerprint else None


def export(
    folder: Path,
    prompt: Prompt,
    about: Exported,
    tuned: Prompt | None = None,
    weights: Path | None = None,
    metric_file: Path | None = None,
) -> None:
    """Write the winner; an older export in `folder` is replaced when the new one is complete.

    tuned: the prompt as fine-tuning left it. weights: a folder whose `adapter`, `model` and `merged`,
    as far as it has them, go into the export.

    >>> import tempfile
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> about = Exported("builtin", "causal", "float32", "accuracy", ("text",), "topic", "prompt")
    >>> folder = Path(tempfile.mkdtemp()) / "winner"
    >>> export(folder, prompt, about)
    >>> read_export(folder)[1] == prompt
    True
    """
    part = folder.with_name(folder.name + ".part")
    clear(part)
    part.mkdir(parents=True)
    write_prompt(part, prompt)
    for name in WEIGHTS if weights is not None else ():
        if weights is not None and (weights / name).is_dir():
            shutil.copytree(weights / name, part / name)
    if tuned is not None and tuned != prompt:
        write_prompt(part / TUNED, tuned)
    if metric_file is not None:
        shutil.copy(metric_file, part / metric_file.name)
    (part / "autoprompt.json").write_text(
        json.dumps({"format": FORMAT, **asdict(about)}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    found = [path for name in (*WEIGHTS, TUNED) if (path := part / name).is_dir()]
    labels = any((path / LABELS_FILE).is_file() for path in found)
    trained = Trained(about.method, frozenset(path.name for path in found), labels)
    (part / "README.md").write_text(
        card(tuned or prompt, about.model, about.family, about.scores, trained), encoding="utf-8"
    )
    replace_folder(part, folder)


def write_prompt(folder: Path, prompt: Prompt) -> None:
    """Write a prompt as `Prompt.load` reads it, with its vectors, and as text beside."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(prompt.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (folder / "prompt.json").write_text(text, encoding="utf-8")
    (folder / "prompt.txt").write_text(prompt.placeholder_text() + "\n", encoding="utf-8")
    vectors = prompt.vector_bytes()
    if vectors is not None:
        (folder / VECTORS_FILE).write_bytes(vectors)


def put_prompt(folder: Path, prompt: Prompt) -> None:
    """Write a prompt as a folder that is there whole or not at all; an older one gives way to it."""
    part = folder.with_name(folder.name + ".part")
    clear(part)
    part.mkdir(parents=True)
    write_prompt(part, prompt)
    replace_folder(part, folder)


def read_export(folder: Path) -> tuple[Exported, Prompt, Prompt]:
    """What an exported folder says, its prompt, and the prompt that goes with the tuned weights.

    Raises ExportError when the folder is no export or is damaged.
    """
    path = folder / "autoprompt.json"
    if not path.is_file():
        raise ExportError(f"{folder} is not an exported winner: it has no autoprompt.json. Give results/NAME/winner.")
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = value.pop("format") == FORMAT
        lists = {name: tuple(value[name]) for name in ("fields", "aside") if isinstance(value.get(name), list)}
        about = Exported(**{**value, **lists})
        if not known or not isinstance(about.fields, tuple) or not _is_typed(about):
            raise ValueError(f"it is of another format than {FORMAT!r}, or a part of it is of a wrong kind")
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ExportError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Export the winner again."
        ) from None
    _require_inside(folder, about.metric)
    prompt = Prompt.load(folder, about.prompt_fingerprint)
    tuned = folder / TUNED
    return about, prompt, Prompt.load(tuned) if tuned.is_dir() else prompt


def _is_typed(about: Exported) -> bool:
    texts = [about.model, about.family, about.dtype, about.metric, about.label, about.use, about.method or ""]
    texts += [about.model_fingerprint, about.prompt_fingerprint, *about.fields]
    texts += [*about.aside, about.options or "", *about.columns, *about.columns.values()]
    right = isinstance(about.scores, dict) and isinstance(about.judged, dict) and about.use in ("prompt", "tuned")
    right = right and about.target in get_args(Target) and about.first_option in (0, 1)
    return right and all(isinstance(text, str) for text in texts)


def _require_inside(folder: Path, metric: str) -> None:
    """Raise ExportError when the metric's file does not lie in the folder itself: it would be run."""
    file, _, _ = metric.rpartition(":")
    if ".py:" not in metric:
        return
    try:
        inside = (folder / file).resolve().parent == folder.resolve()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise ExportError(
            f"{folder / 'autoprompt.json'} names the metric {metric!r}, which lies outside. It is not run."
        )
