"""What is well-formed in a space file and still wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autoprompt.clock import parse_until
from autoprompt.config.answering import answer_problems
from autoprompt.config.data import data_problems, file_problems
from autoprompt.config.datasection import DataSection
from autoprompt.config.sections import (
    AnswerSection,
    BudgetSection,
    Config,
    FinetuneSection,
    MetricSection,
    ModelSection,
    PromptSection,
    SpaceSection,
    StudySection,
)
from autoprompt.errors import AutopromptError, ConfigError, ExecutionError, nearest
from autoprompt.execution import require_containment
from autoprompt.metrics import make_metric
from autoprompt.metrics.programs import samples_wanted
from autoprompt.prompt import check_template

__all__ = ["meaning", "meaning_of_parts"]

_S = TypeVar("_S", bound=BaseModel)


def meaning(config: Config, folder: Path) -> list[str]:
    """What is well-formed and still wrong."""
    return [
        *_model_problems(config.model),
        *data_problems(config.data, folder),
        *_prompt_problems(config.prompt, config.space, config.data.inputs),
        *answer_problems(config.data, config.prompt, config.answer, folder),
        *_execution_problems(config.metric, config.allow_code_execution),
        *_metric_problems(config.metric, list(config.prompt.label_words), folder, config.metric_seconds),
        *_finetune_problems(config.finetune, config.model, folder),
        *_study_problems(config.study),
        *_budget_problems(config.budget),
        *_table_problems(config),
    ]


def meaning_of_parts(values: Mapping[str, Any], folder: Path) -> list[str]:
    """The same for those sections of a malformed file that are well-formed by themselves."""
    problems: list[str] = []
    data = _section(DataSection, values.get("data"))
    prompt, space = _section(PromptSection, values.get("prompt")), _section(SpaceSection, values.get("space", {}))
    if data is not None:
        problems += data_problems(data, folder)
    answer = _section(AnswerSection, values.get("answer", {}))
    if data is not None and prompt is not None and space is not None:
        problems += _prompt_problems(prompt, space, data.inputs)
    if data is not None and prompt is not None and answer is not None:
        problems += answer_problems(data, prompt, answer, folder)
    metric = values.get("metric", "accuracy")
    chosen = metric if isinstance(metric, str) else _section(MetricSection, metric)
    if chosen is not None and prompt is not None:
        problems += _metric_problems(chosen, list(prompt.label_words), folder)
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


def _execution_problems(metric: str, allowed: bool) -> list[str]:
    if samples_wanted(metric) is None:
        return []
    if not allowed:
        return [
            f"metric is {metric!r}, which runs programs that a language model wrote; to allow it, put "
            "allow_code_execution = true at the top (they run contained: see README, Programs)."
        ]
    try:
        require_containment()
    except ExecutionError as error:
        return [f"metric is {metric!r}. {error}"]
    return []


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


def _metric_problems(metric: str | MetricSection, labels: list[str], folder: Path, seconds: float = 60.0) -> list[str]:
    try:
        make_metric(metric, folder, labels if len(labels) > 1 else ("a", "b"), seconds)
    except AutopromptError as error:
        return [f"metric: {error}"]
    return []


def _finetune_problems(finetune: FinetuneSection, model: ModelSection, folder: Path) -> list[str]:
    problems = []
    if finetune.unlabelled is not None:
        problems += file_problems("finetune.unlabelled", finetune.unlabelled, folder)
    second = finetune.second
    if second is not None:
        problems += file_problems("finetune.second.file", second.file, folder)
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


def _table_problems(config: Config) -> list[str]:
    data, study = config.data, config.study
    tables = [name for name in ("file", "train", "dev", "test") if not isinstance(getattr(data, name), str | None)]
    if tables and (study.workers > 1 or study.storage is not None):
        return [
            f"data.{tables[0]} is a table in memory, which other processes cannot read; "
            "write it to a file, or give study.workers = 1 and no study.storage."
        ]
    return []


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
