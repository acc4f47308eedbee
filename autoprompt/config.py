"""One TOML file, read whole and checked whole: all problems at once, each with its cure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from autoprompt.data import DataOptions
from autoprompt.demonstrations import Selection
from autoprompt.errors import AutopromptError, ConfigError, DataError, nearest
from autoprompt.metrics import load_metric
from autoprompt.prompt import Position, check_template

__all__ = ["Config", "data_options", "read_config", "require_words"]

Text = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
BranchName = Literal[
    "discrete",
    "edits",
    "demonstrations",
    "tuning",
    "coordinates",
    "words",
    "gradients",
    "projection",
    "infill",
    "rewrite",
]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


_S = TypeVar("_S", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSection(_Section):
    """[model]: which model, and how it runs."""

    name: Text = "builtin"
    family: Literal["auto", "causal", "seq2seq", "masked", "encoder"] = "auto"
    device: Text = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Text = "own"
    batch_tokens: Count | None = None
    memory: Annotated[int, Field(ge=0)] = 2_000_000
    trust_remote_code: bool = False


class DataSection(_Section):
    """[data]: the labelled examples and how they are split."""

    label: Text
    fields: Annotated[list[Text], Field(min_length=1)] = ["text"]
    file: Text | None = None
    train: Text | None = None
    dev: Text | None = None
    test: Text | None = None
    split: Text | None = None
    shares: Annotated[list[Share], Field(min_length=3, max_length=3)] = [0.4, 0.3, 0.3]


class PromptSection(_Section):
    """[prompt]: the user's own prompt, the baseline; what is not searched is taken from it."""

    template: Text
    instruction: str = ""
    label_words: dict[str, Text]
    separator: Text = "\n\n"
    normalize: bool = False
    calibration: Literal["none", "content_free"] = "none"
    temperature: Temperature | None = None  # of log-likelihoods; None: 1, and 0.05 for sentence encoders


class DemonstrationsSection(_Section):
    """[space.demonstrations]"""

    most: Annotated[int, Field(ge=0, le=64)] = 4
    draws: Count = 16
    orders: Count = 4
    selection: Annotated[list[Selection], Field(min_length=1)] = ["drawn"]


class SoftSection(_Section):
    """[space.soft]"""

    vectors: Annotated[list[Annotated[int, Field(ge=1, le=256)]], Field(min_length=1)] = [4, 8]
    positions: Annotated[list[Position], Field(min_length=1)] = ["start", "answer"]
    starts: Annotated[list[Literal["random", "vocabulary", "best"]], Field(min_length=1)] = [
        "best",
        "vocabulary",
        "random",
    ]
    dimensions: Annotated[int, Field(ge=2, le=2000)] = 24


class SpaceSection(_Section):
    """[space]: what may vary. The baseline's own template, instruction and words always belong to it."""

    templates: list[Text] = []
    instructions: list[str] = []
    label_words: dict[str, Annotated[list[Text], Field(min_length=1)]] = {}
    calibration: list[Literal["none", "content_free"]] = []
    temperatures: list[Temperature] = []
    demonstrations: DemonstrationsSection | None = None
    soft: SoftSection | None = None


class StudySection(_Section):
    """[study]: how long and how wide to search."""

    trials: Annotated[int, Field(ge=2)] = 80
    evaluations: Count | None = None  # (prompt, example) pairs
    batch: Annotated[int, Field(ge=4)] = 8
    slice: Annotated[int, Field(ge=2)] = 8
    pruner: Literal["racing", "successive_halving", "hyperband", "wilcoxon", "none"] = "racing"
    share: Annotated[float, Field(gt=0, le=1)] = 0.17
    level: Share = 0.05
    promote: Literal["best", "certain"] = "best"
    sampler: Literal["surrogate", "tpe", "gp", "cmaes", "nsgaii", "random"] = "surrogate"
    branches: Annotated[list[BranchName], Field(min_length=1)] | None = None
    floor: Annotated[float, Field(ge=0, le=1)] = 0.2
    startup: Count = 16
    generations: Count = 4
    steps: Count = 40
    finalists: Count = 6
    objectives: Annotated[list[Literal["score", "tokens"]], Field(min_length=1)] = ["score"]
    tolerance: Annotated[float, Field(ge=0)] = 0.01


class ProposeSection(_Section):
    """[propose]: the model that writes and fills in for the proposers; the task model, where none is named."""

    model: Text | None = None
    tokens: Count = 20_000  # the most that one turn may read and write with it


class FinetuneSection(_Section):
    """[finetune]: the final pass."""

    method: Literal["lora", "full", "none"] = "lora"
    rank: Count = 8
    epochs: Count = 6
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    batch_size: Count = 16
    patience: Count = 2


class Config(_Section):
    """A whole space file."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    metric: Text = "accuracy"
    seed: Annotated[int, Field(ge=0)] = 0
    results: Text = "results"
    model: ModelSection = ModelSection()
    data: DataSection
    prompt: PromptSection
    space: SpaceSection = SpaceSection()
    study: StudySection = StudySection()
    propose: ProposeSection = ProposeSection()
    finetune: FinetuneSection = FinetuneSection()


def read_config(source: Path | str | Mapping[str, Any], folder: Path | None = None) -> Config:
    """Read and check a space file, or the same as nested mappings.

    folder: where relative paths of a mapping begin; a file's own folder otherwise. Raises
    ConfigError with every problem: the key, what was given, what is allowed.
    """
    if isinstance(source, Mapping):
        values, where, folder = dict(source), "the configuration", folder or Path.cwd()
    else:
        path = Path(source)
        values, where, folder = _toml(path), str(path), path.parent
    if isinstance(values.get("model"), str):
        values["model"] = {"name": values["model"]}
    try:
        config = Config.model_validate(_lists_to_floats(values))
    except ValidationError as error:
        found = [_problem(dict(e), values) for e in error.errors()]
        raise ConfigError(where, [*found, *_meaning_of_parts(values, folder)]) from None
    problems = _meaning(config, folder)
    if problems:
        raise ConfigError(where, problems)
    return config


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")]) if path.parent.is_dir() else ""
        raise ConfigError(str(path), [f"There is no such file.{near}"])
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(str(path), [f"It is not valid TOML: {error}. Texts stand in quotes."]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"It cannot be read: {error.strerror}."]) from None


def _lists_to_floats(values: dict[str, Any]) -> dict[str, Any]:
    """TOML writes 1 for 1.0: whole numbers are allowed where a number with a point is."""
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("shares"), list):
        shares = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in data["shares"]]
        return {**values, "data": {**data, "shares": shares}}
    return values


# -- for the data --------------------------------------------------------------------------------


def data_options(config: Config, base: Path) -> DataOptions:
    """Where the data are, relative to the space file's folder."""
    data = config.data

    def place(name: str | None) -> Path | None:
        return None if name is None else base / name

    return DataOptions(
        label=data.label,
        fields=tuple(data.fields),
        file=place(data.file),
        train=place(data.train),
        dev=place(data.dev),
        test=place(data.test),
        split=data.split,
        shares=(data.shares[0], data.shares[1], data.shares[2]),
    )


def require_words(config: Config, labels: Sequence[str]) -> None:
    """Raise DataError when a label of the data has no word."""
    missing = [label for label in labels if label not in config.prompt.label_words]
    if missing:
        raise DataError(
            f"The data have the label {missing[0]!r}, which has no word in [prompt.label_words] "
            f"(there: {', '.join(config.prompt.label_words)}). Add it, or mend [data] label."
        )


# -- problems in words ---------------------------------------------------------------------------


def _problem(error: dict[str, Any], values: Mapping[str, Any]) -> str:
    """One line: the key, what was given, what is allowed."""
    path = [str(part) for part in error["loc"]]
    key, given = ".".join(path), _short(error["input"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys(path[:-1])
        return f"{key} is not a key here; allowed are {', '.join(allowed)}.{nearest(path[-1], allowed)}"
    if kind == "missing":
        return f"{key} is missing; it is required.{_hint(path, values)}"
    if kind == "literal_error":
        near = nearest(str(error["input"]), _choices(context["expected"]))
        return f"{key} is {given}; allowed are {context['expected']}.{near}"
    if kind == "string_pattern_mismatch":
        return f"{key} is {given}; allowed are letters, digits, '.', '_' and '-', up to 100, no leading dot."
    limits = {
        "greater_than_equal": "at least",
        "greater_than": "more than",
        "less_than_equal": "at most",
        "less_than": "less than",
    }
    if kind in limits:
        bound = next(iter(context.values()))
        return f"{key} is {given}; it must be {limits[kind]} {bound}."
    if kind in {"too_short", "string_too_short"}:
        return f"{key} is empty or too short; it needs at least {context.get('min_length', 1)}."
    return f"{key} is {given}; {error['msg'][:1].lower() + error['msg'][1:]}."


def _choices(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(path: Sequence[str]) -> list[str]:
    """The allowed keys of a section."""
    section: Any = Config
    for part in path:
        if not part.isdigit():
            field = section.model_fields[part]
            kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)]
            section = next(k for k in kinds if issubclass(k, BaseModel))
    return sorted(section.model_fields)


def _hint(path: Sequence[str], values: Mapping[str, Any]) -> str:
    found: Any = values
    for part in path[:-1]:
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return nearest(path[-1], map(str, found)) if isinstance(found, Mapping) else ""


def _meaning(config: Config, folder: Path) -> list[str]:
    """What is well-formed and still wrong."""
    return [
        *_engine_problems(config.model.engine),
        *_data_problems(config.data, folder),
        *_prompt_problems(config.prompt, config.space, config.data.fields),
        *_metric_problems(config.metric, list(config.prompt.label_words), folder),
        *_finetune_problems(config.finetune, config.model),
        *_study_problems(config.study),
    ]


def _meaning_of_parts(values: Mapping[str, Any], folder: Path) -> list[str]:
    """The same for those sections of a malformed file that are well-formed by themselves."""
    problems: list[str] = []
    data = _section(DataSection, values.get("data"))
    prompt, space = _section(PromptSection, values.get("prompt")), _section(SpaceSection, values.get("space", {}))
    if data is not None:
        problems += _data_problems(data, folder)
    if data is not None and prompt is not None and space is not None:
        problems += _prompt_problems(prompt, space, data.fields)
    if isinstance(values.get("metric", "accuracy"), str) and prompt is not None:
        problems += _metric_problems(values.get("metric", "accuracy"), list(prompt.label_words), folder)
    finetune = _section(FinetuneSection, values.get("finetune", {}))
    model = _section(ModelSection, values.get("model", {}))
    study = _section(StudySection, values.get("study", {}))
    if study is not None:
        problems += _study_problems(study)
    if model is not None:
        problems += _engine_problems(model.engine)
    if finetune is not None and model is not None:
        problems += _finetune_problems(finetune, model)
    return problems


def _section(kind: type[_S], value: object) -> _S | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _engine_problems(name: str) -> list[str]:
    # found again and loaded by the engine, whose room needs torch
    known = ["own", *sorted(point.name for point in entry_points(group="autoprompt.engines"))]
    if name in known:
        return []
    return [f"model.engine is {name!r}; installed are {', '.join(known)}.{nearest(name, known)}"]


def _data_problems(data: DataSection, folder: Path) -> list[str]:
    problems = []
    three = {"train": data.train, "dev": data.dev, "test": data.test}
    if data.file is not None and any(three.values()):
        problems.append("data.file and data.train, dev, test are both given; give one or the other.")
    elif data.file is None:
        problems += [
            f"data.{name} is missing; give data.file, or train, dev and test." for name, v in three.items() if v is None
        ]
    for name, value in {"file": data.file, **three}.items():
        if value is not None:
            problems += _file_problems(f"data.{name}", value, folder)
    if data.split is not None and data.file is None:
        problems.append("data.split is given without data.file; it names a column of that file.")
    if abs(sum(data.shares) - 1) > 1e-6:
        problems.append(f"data.shares is {data.shares}; train, dev and test must add up to 1.")
    problems += [
        f"data.fields has {name!r}, which means something else in a template; rename that column."
        for name in ("label", "instruction")
        if name in data.fields and name != data.label
    ]
    if data.label in data.fields:
        problems.append(f"data.label {data.label!r} is also one of data.fields: the answer would stand in the prompt.")
    return problems


def _file_problems(key: str, value: str, folder: Path) -> list[str]:
    try:
        if (folder / value).is_file():
            return []
        parent = (folder / value).parent
        near = nearest(Path(value).name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""
    except (OSError, ValueError):  # a name that no file can have
        return [f"{key} is {_short(value)}, which is not a file's name."]
    return [f"{key} is {value!r}, and there is no file {folder / value}.{near}"]


def _prompt_problems(prompt: PromptSection, space: SpaceSection, fields: Sequence[str]) -> list[str]:
    problems = []
    templates = {"prompt.template": prompt.template}
    templates |= {f"space.templates.{i}": text for i, text in enumerate(space.templates)}
    for key, template in templates.items():
        try:
            check_template(template, fields)
        except AutopromptError as error:
            problems.append(f"{key}: {error}")
    own, more = prompt.label_words, space.label_words
    if len(own) < 2:
        problems.append(f"prompt.label_words has {len(own)} labels; it needs a word for each of at least two.")
    owner: dict[str, str] = {}
    for label in {**own, **more}:
        if label not in own:
            problems.append(f"space.label_words.{label} is not a label of prompt.label_words.{nearest(label, own)}")
        for word in dict.fromkeys([*([own[label]] if label in own else []), *more.get(label, [])]):
            if not word.strip():
                place = "prompt" if word == own.get(label) else "space"
                problems.append(f"{place}.label_words.{label} has the blank word {word!r}; a word must show something.")
            if owner.setdefault(word, label) != label:
                problems.append(
                    f"The word {word!r} stands for {owner[word]!r} and {label!r}; each word belongs to one label."
                )
    return problems


def _metric_problems(metric: str, labels: list[str], folder: Path) -> list[str]:
    try:
        load_metric(metric, folder, labels if len(labels) > 1 else ("a", "b"))
    except AutopromptError as error:
        return [f"metric: {error}"]
    return []


def _finetune_problems(finetune: FinetuneSection, model: ModelSection) -> list[str]:
    if finetune.method == "none" or not _is_encoder(model):
        return []
    return [
        f"finetune.method is {finetune.method!r}, and the model {model.name!r} is a sentence encoder, "
        "which cannot be fine-tuned yet; give 'none'."
    ]


def _study_problems(study: StudySection) -> list[str]:
    problems = []
    if "score" not in study.objectives:
        problems.append(f"study.objectives is {study.objectives}; 'score' must be among them.")
    if "tokens" in study.objectives and study.sampler == "cmaes":
        problems.append(
            f"study.sampler is {study.sampler!r}, which knows one objective; "
            'give another one, or objectives = ["score"].'
        )
    return problems


def _is_encoder(model: ModelSection) -> bool:
    """Whether the file says so, or the files of the model's folder do; of a hub model it is not known here."""
    try:
        files = [Path(model.name) / file for file in ("modules.json", "1_Pooling/config.json")]
        return model.family == "encoder" or (model.family == "auto" and any(file.is_file() for file in files))
    except (OSError, ValueError):  # a name that no folder can have
        return False
