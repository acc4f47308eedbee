"""What is well-formed in a space file and still wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autoprompt.clock import parse_until
from autoprompt.config.joining import library_problems
from autoprompt.config.sections import (
    BudgetSection,
    Config,
    DataSection,
    FinetuneSection,
    ModelSection,
    PromptSection,
    SpaceSection,
    StudySection,
)
from autoprompt.config.wording import short
from autoprompt.errors import AutopromptError, ConfigError, nearest
from autoprompt.metrics import load_metric
from autoprompt.prompt import check_template

__all__ = ["meaning", "meaning_of_parts"]

_S = TypeVar("_S", bound=BaseModel)


def meaning(config: Config, folder: Path) -> list[str]:
    """What is well-formed and still wrong."""
    return [
        *_model_problems(config.model),
        *_data_problems(config.data, folder),
        *_prompt_problems(config.prompt, config.space, config.data.fields),
        *_metric_problems(config.metric, list(config.prompt.label_words), folder, config.metric_seconds),
        *_finetune_problems(config.finetune, config.model, folder),
        *_study_problems(config.study),
        *_budget_problems(config.budget),
    ]


def meaning_of_parts(values: Mapping[str, Any], folder: Path) -> list[str]:
    """The same for those sections of a malformed file that are well-formed by themselves."""
    problems: list[str] = []
    data = _section(DataSection, values.get("data"))
    prompt, space = _section(PromptSection, values.get("prompt")), _section(SpaceSection, values.get("space", {}))
    if data is not None:
        problems += _data_problems(data, folder)
    if data is not None and prompt is not None and space is not None:
        problems += _prompt_problems(prompt, space, data.fields)
        problems += library_problems(space, prompt, data.fields, folder)
    if isinstance(values.get("metric", "accuracy"), str) and prompt is not None:
        problems += _metric_problems(values.get("metric", "accuracy"), list(prompt.label_words), folder)
    finetune = _section(FinetuneSection, values.get("finetune", {}))
    model = _section(ModelSection, values.get("model", {}))
    study = _section(StudySection, values.get("study", {}))
    budget = _section(BudgetSection, values.get("budget", {}))
    if study is not None:
        problems += _study_problems(study)
    if budget is not None:
        problems += _budget_problems(budget)
    if model is not None:
        problems += _model_problems(model)
    if finetune is not None and model is not None:
        problems += _finetune_problems(finetune, model, folder)
    return problems


def _section(kind: type[_S], value: object) -> _S | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _model_problems(model: ModelSection) -> list[str]:
    problems = []
    # found again and loaded by the engine, whose room needs torch
    known = ["own", *sorted(point.name for point in entry_points(group="autoprompt.engines"))]
    if model.engine not in known:
        near = nearest(model.engine, known)
        problems.append(f"model.engine is {model.engine!r}; installed are {', '.join(known)}.{near}")
    if model.revision is not None and (model.name == "builtin" or _is_folder(model.name)):
        problems.append(
            f"model.revision is {model.revision!r}, and the model {model.name!r} is a folder; "
            "only hub models have revisions."
        )
    return problems


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # a name that no folder can have
        return False


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
        return [f"{key} is {short(value)}, which is not a file's name."]
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


def _metric_problems(metric: str, labels: list[str], folder: Path, seconds: float = 60.0) -> list[str]:
    try:
        load_metric(metric, folder, labels if len(labels) > 1 else ("a", "b"), seconds)
    except AutopromptError as error:
        return [f"metric: {error}"]
    return []


def _finetune_problems(finetune: FinetuneSection, model: ModelSection, folder: Path) -> list[str]:
    problems = []
    if finetune.unlabelled is not None:
        problems += _file_problems("finetune.unlabelled", finetune.unlabelled, folder)
    second = finetune.second
    if second is not None:
        problems += _file_problems("finetune.second.file", second.file, folder)
        try:
            check_template(second.template, second.fields)
        except AutopromptError as error:
            problems.append(f"finetune.second.template: {error}")
    known = model.family != "auto" or model.name == "builtin"
    if known and not _is_encoder(model):
        given = {"head": finetune.head not in (None, "none"), "contrastive": bool(finetune.contrastive)}
        problems += [
            f"finetune.{key} is given, and the model {model.name!r} is no sentence encoder; leave it out."
            for key, is_given in given.items()
            if is_given
        ]
    return problems


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


def _budget_problems(budget: BudgetSection) -> list[str]:
    if budget.until is None:
        return []
    try:
        parse_until(budget.until)
    except ConfigError as error:
        return [f"budget.{problem}" for problem in error.problems]
    return []


def _is_encoder(model: ModelSection) -> bool:
    """Whether the file says so, or the files of the model's folder do; of a hub model it is not known here."""
    try:
        files = [Path(model.name) / file for file in ("modules.json", "1_Pooling/config.json")]
        return model.family == "encoder" or (model.family == "auto" and any(file.is_file() for file in files))
    except (OSError, ValueError):  # a name that no folder can have
        return False
