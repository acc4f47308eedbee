"""From a TOML file to a checked configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoprompt.config.answering import USUAL_METRICS
from autoprompt.config.joining import with_libraries
from autoprompt.config.meaning import meaning, meaning_of_parts
from autoprompt.config.sections import Config, MetricSection
from autoprompt.config.wording import problem
from autoprompt.data import DataOptions, Frame, Source, Splits, read_splits
from autoprompt.errors import ConfigError, DataError, nearest

__all__ = ["JUDGED", "data_options", "read_config", "read_metric", "read_task", "require_words"]


JUDGED = {"constraints", "costs", "default", "worst", "maximize", "key"}  # what of [metric] changes a metric's values
# sections that a single word turns off: doctor = false
_SWITCHES = {"doctor": ("checks", "baselines"), "explain": ("why", "shortest", "robustness")}


def read_config(
    source: Path | str | Mapping[str, Any],
    folder: Path | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read and check a space file, or the same as nested mappings.

    folder: where relative paths of a mapping begin; a file's own folder otherwise. changes: keys by section
    that override it. Raises ConfigError with every problem: the key, what was given, what is allowed.
    """
    if isinstance(source, Mapping):
        values, where, folder = dict(source), "the configuration", folder or Path.cwd()
    else:
        path = Path(source)
        values, where, folder = _toml(path), str(path), path.parent
    if isinstance(values.get("model"), str):
        values["model"] = {"name": values["model"]}
    for name, switches in _SWITCHES.items():
        if isinstance(values.get(name), bool):
            values[name] = dict.fromkeys(switches, values[name])
    if "metric" not in values and isinstance(values.get("data"), dict):
        values["metric"] = USUAL_METRICS.get(str(values["data"].get("target")), "accuracy")
    for section, keys in (changes or {}).items():
        given = values.get(section, {})
        values[section] = {**given, **keys} if isinstance(given, dict) else given
    values = _library_alone(values)
    try:
        config = Config.model_validate(_lists_to_floats(values))
    except ValidationError as error:
        found = [problem(dict(e), values) for e in error.errors() if _is_of_its_kind(e["loc"], values)]
        raise ConfigError(where, [*found, *meaning_of_parts(values, folder)]) from None
    joined, of_libraries = with_libraries(config, folder)
    problems = [*meaning(config, folder), *of_libraries]
    if problems:
        raise ConfigError(where, problems)
    return joined


def read_metric(name: str, judged: Mapping[str, Any], where: str) -> str | MetricSection:
    """A metric as [metric] would have it: its name, or a table with some of JUDGED. Raises ConfigError."""
    if not judged:
        return name
    others = sorted(set(judged) - JUDGED)
    if others:  # a name, or metrics beside it, would be files to run
        allowed = ", ".join(sorted(JUDGED))
        raise ConfigError(where, [f"{key} is not a key here; allowed are {allowed}." for key in others])
    try:
        return MetricSection.model_validate({"name": name, **judged})
    except ValidationError as error:
        kind = MetricSection.__name__
        found = [{**dict(e), "loc": ("metric", kind, *e["loc"])} for e in error.errors()]
        raise ConfigError(where, [problem(e, {}) for e in found]) from None


def _library_alone(values: dict[str, Any]) -> dict[str, Any]:
    """A single text where the instructions are a list names a library."""
    space = values.get("space")
    if not isinstance(space, dict) or not isinstance(space.get("instructions"), str):
        return values
    others = space.get("libraries", [])
    if not isinstance(others, list):
        return values
    return {**values, "space": {**space, "instructions": [], "libraries": [space["instructions"], *others]}}


def _is_of_its_kind(place: tuple[int | str, ...], values: Mapping[str, Any]) -> bool:
    """Whether an error is of the kind that was given, where a key may be a text or a table."""
    is_table = isinstance(values.get("metric"), Mapping)
    return place[:1] != ("metric",) or (place[1:2] == (MetricSection.__name__,)) == is_table


def _toml(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            if path.is_dir():
                raise ConfigError(str(path), ["It is a folder. Give a space file (TOML)."])
            near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")]) if path.parent.is_dir() else ""
            raise ConfigError(str(path), [f"There is no such file.{near}"])
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise ConfigError(str(path), [f"It is not valid TOML: {error}. Texts stand in quotes."]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"It cannot be read: {error.strerror}."]) from None


def _lists_to_floats(values: dict[str, Any]) -> dict[str, Any]:
    """TOML writes 1 for 1.0: whole numbers are allowed where a number with a point is."""
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("shares"), list):
        whole = [isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**53 for v in data["shares"]]
        shares = [float(v) if is_whole else v for v, is_whole in zip(data["shares"], whole, strict=True)]
        return {**values, "data": {**data, "shares": shares}}
    return values


# -- for the data --------------------------------------------------------------------------------


def data_options(config: Config, base: Path) -> DataOptions:
    """Where the data are, relative to the space file's folder, and how they are read."""
    data = config.data

    def place(source: str | Frame | None) -> Source | None:
        if not isinstance(source, str) or source.startswith("hf:"):
            return source
        return base / source

    return DataOptions(
        label=data.label,
        fields=tuple(data.fields),
        file=place(data.file),
        train=place(data.train),
        dev=place(data.dev),
        test=place(data.test),
        split=data.split,
        shares=(data.shares[0], data.shares[1], data.shares[2]),
        target=data.target,
        options=data.options,
        first_option=data.first_option,
        aside=tuple(data.aside),
        columns=dict(data.columns),
        group=data.group,
        folds=data.folds,
        fold=data.fold,
        longest=data.longest,
        cut=data.cut,
        offline=config.model.offline,
    )


def read_task(
    source: Path | str | Mapping[str, Any],
    folder: Path,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Config, Splits]:
    """A space file and its data, checked against each other; the arguments of `read_config`.

    Raises ConfigError, and DataError when the data cannot be used or a label has no word.
    """
    config = read_config(source, folder, changes)
    splits = read_splits(data_options(config, folder), config.seed)
    require_words(config, splits.labels)
    return config, splits


def require_words(config: Config, labels: Sequence[str]) -> None:
    """Raise DataError when a label of the data has no word, and needs one."""
    if config.data.target != "label":
        return
    missing = [label for label in labels if label not in config.prompt.label_words]
    if missing:
        raise DataError(
            f"The data have the label {missing[0]!r}, which has no word in [prompt.label_words] "
            f"(there: {', '.join(config.prompt.label_words)}). Add it, or mend [data] label."
        )
