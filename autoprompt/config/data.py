"""What is well-formed in [data] and still wrong."""

from __future__ import annotations

from pathlib import Path

from autoprompt.config.datasection import DataSection
from autoprompt.config.wording import short
from autoprompt.errors import nearest

__all__ = ["data_problems", "file_problems"]

_HUB = "hf:"


def data_problems(data: DataSection, folder: Path) -> list[str]:
    """What is well-formed and still wrong."""
    return [
        *_place_problems(data, folder),
        *_split_problems(data),
        *_name_problems(data),
        *_target_problems(data),
    ]


def _place_problems(data: DataSection, folder: Path) -> list[str]:
    problems = []
    three = {"train": data.train, "dev": data.dev, "test": data.test}
    if data.file is not None and any(value is not None for value in three.values()):
        problems.append("data.file and data.train, dev, test are both given; give one or the other.")
    elif data.file is None:
        problems += [
            f"data.{name} is missing; give data.file, or train, dev and test." for name, v in three.items() if v is None
        ]
    for name, value in {"file": data.file, **three}.items():
        if isinstance(value, str):
            problems += file_problems(f"data.{name}", value, folder, hub=True)
    return problems


def file_problems(key: str, value: str, folder: Path, hub: bool = False) -> list[str]:
    """What is wrong with the name of a file. hub: it may be a folder, or a data set's name on the hub, too."""
    if hub and value.startswith(_HUB):
        parts = value.removeprefix(_HUB).partition(":")[0].split("/")
        right = len(parts) <= 3 and all(part.strip() for part in parts)
        return [] if right else [f"{key} is {short(value)}; names of the hub are hf:NAME or hf:NAME/CONFIG."]
    try:
        place = folder / value
        if place.is_file() or (hub and place.is_dir()):
            return []
        parent = place.parent
        near = nearest(Path(value).name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""
    except (OSError, ValueError):  # a name that no file can have
        return [f"{key} is {short(value)}, which is not a file's name."]
    return [f"{key} is {value!r}, and there is no file {folder / value}.{near}"]


def _split_problems(data: DataSection) -> list[str]:
    problems = []
    if data.split is not None and data.file is None:
        problems.append("data.split is given without data.file; it names a column of that file.")
    if abs(sum(data.shares) - 1) > 1e-6:
        problems.append(f"data.shares is {data.shares}; train, dev and test must add up to 1.")
    own = {"data.split": data.split is not None, "data.train, dev and test": data.file is None}
    shares = {"data.shares": "shares" in data.model_fields_set}
    for key, given, others in (("folds", data.folds, own | shares), ("group", data.group, own)):
        clash = next((name for name, is_given in others.items() if is_given), None)
        if given is not None and clash is not None:
            problems.append(f"data.{key} and {clash} are both given; give one or the other.")
    if data.fold is not None and data.folds is None:
        problems.append("data.fold is given without data.folds; say how many folds there are.")
    elif data.folds is not None and data.fold is not None and data.fold > data.folds:
        problems.append(f"data.fold is {data.fold}; there are {data.folds} folds, counted from 1.")
    if "cut" in data.model_fields_set and data.longest is None:
        problems.append("data.cut is given without data.longest; say how many characters a text may have.")
    return problems


def _name_problems(data: DataSection) -> list[str]:
    problems = [
        f"data.fields has {name!r}, which means something else in a template; rename that column."
        for name in ("label", "instruction")
        if name in data.inputs and name != data.label
    ]
    if data.label in data.inputs:
        problems.append(f"data.label {data.label!r} is also one of data.fields: the answer would stand in the prompt.")
    problems += [
        f"data.aside has {name!r}, which is also {'data.label' if name == data.label else 'one of data.fields'}; "
        "it is for the metric alone."
        for name in data.aside
        if name == data.label or name in data.inputs
    ]
    names = [*data.inputs, data.label, *data.aside]
    problems += [
        f"data.columns.{name} is not one of fields, label, options and aside "
        f"({', '.join(names)}).{nearest(name, names)}"
        for name in data.columns
        if name not in names
    ]
    column = data.columns.get(data.label, data.label)
    shown = [name for name in data.inputs if name != data.label and data.columns.get(name, name) == column]
    if shown:
        problems.append(
            f"data.columns reads {data.label!r} and {shown[0]!r} from {column!r}: the answer would be shown."
        )
    return problems


def _target_problems(data: DataSection) -> list[str]:
    if data.target == "option":
        if data.options is None:
            return ["data.options is missing; with target = 'option' it names the column of each example's options."]
        return []
    problems = []
    if data.options is not None:
        problems.append(f"data.options is given, and data.target is {data.target!r}; it goes with target = 'option'.")
    if "first_option" in data.model_fields_set:
        problems.append("data.first_option is given, and data.target is not 'option'; leave it out.")
    return problems
