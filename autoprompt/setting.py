"""From a config to what a process works with: the space, the options of the search, the models, the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.chat import Chat
from autoprompt.clock import Clock, parse_until
from autoprompt.config import Config, answer_kind, answers_of, words_of
from autoprompt.data import Splits
from autoprompt.engine import ScoreMemory
from autoprompt.errors import ModelError
from autoprompt.finetune import require_tunable
from autoprompt.metrics import Metric, make_metric
from autoprompt.models import LanguageModel, load_model, model_fingerprint
from autoprompt.prompt import Prompt
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.study import StudyOptions

__all__ = [
    "fingerprints",
    "load_task_metric",
    "load_task_model",
    "load_writer",
    "make_clock",
    "make_space",
    "open_memory",
    "study_options",
    "tell_task",
]


def make_space(config: Config, base: Path, splits: Splits, chat: bool) -> Space:
    """The space of a config, whose files lie in `base`; the baseline's own parts are the first candidates.

    chat: whether the model has a chat template, which makes a chat of a prompt that does not say otherwise.
    """
    prompt, space = config.prompt, config.space
    own: Chat = prompt.chat if prompt.chat != "auto" else "turns" if chat else "none"
    answers = answers_of(config.data, prompt, config.answer, base)
    baseline = Prompt(
        prompt.template, words_of(config.data, prompt, splits.labels), prompt.instruction, (),
        prompt.calibration, prompt.normalize, prompt.separator, temperature=prompt.temperature, answer=answers[0],
        chat=own,
    )  # fmt: skip
    words = {
        label: _distinct([word, *space.label_words.get(label, [])]) for label, word in baseline.label_words.items()
    }
    shown = space.demonstrations
    return Space(
        baseline,
        templates=_distinct([prompt.template, *space.templates]),
        instructions=_distinct([prompt.instruction, *space.instructions]),
        label_words=words,
        calibrations=_distinct([prompt.calibration, *space.calibration]),
        temperatures=_distinct([prompt.temperature, *space.temperatures]),
        answers=answers,
        chats=_distinct([own, *space.chats]) if space.chats else (),
        demonstrations=DemonstrationSpace(shown.most, shown.draws, shown.orders, _distinct(shown.selection))
        if shown
        else DemonstrationSpace(0),
        pool=splits.train,
        soft=None
        if space.soft is None
        else SoftSpace(
            tuple(space.soft.vectors), tuple(space.soft.positions), tuple(space.soft.starts), space.soft.dimensions
        ),
        seed=config.seed,
    )


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def study_options(config: Config) -> StudyOptions:
    """The options of the search; where time or tokens end it, trials do so only if they are given."""
    study, budget = config.study, config.budget
    names = {field.name for field in fields(StudyOptions)} & set(type(study).model_fields)
    given = {name: getattr(study, name) for name in names}
    given |= {"branches": study.branches and tuple(study.branches), "objectives": tuple(study.objectives)}
    if "trials" not in study.model_fields_set and (budget.hours or budget.until or budget.tokens):
        given["trials"] = events.UNBOUNDED
    return StudyOptions(**given, tokens=budget.tokens, writer_tokens=config.propose.tokens)


def make_clock(config: Config, spent: float) -> Clock:
    """The clock of a run whose earlier processes took `spent` seconds. Raises ConfigError."""
    budget = config.budget
    seconds = None if budget.hours is None else 3600 * budget.hours
    return Clock(seconds, spent, None if budget.until is None else parse_until(budget.until))


def load_task_metric(config: Config, base: Path, labels: Sequence[str]) -> Metric:
    """The metric of a config, whose files lie in `base`. Raises MetricError."""
    return make_metric(
        config.metric, base, labels, config.metric_seconds, allow_code_execution=config.allow_code_execution
    )


def load_task_model(config: Config, tell: events.Listener) -> LanguageModel:
    """The model of a config. Raises ModelError."""
    options = config.model
    family = None if options.family == "auto" else options.family
    model = load_model(
        options.name,
        family,
        options.device,
        options.dtype,
        options.trust_remote_code,
        options.revision,
        options.offline,
    )
    _require_answers(model, answer_kind(config.data, config.prompt, config.answer))
    _require_chat(model, {config.prompt.chat, *config.space.chats})
    if config.finetune.method != "none":
        require_tunable(model)
    dtype = str(model.dtype).removeprefix("torch.")
    tell(events.ModelLoaded(options.name, model.family, str(model.device), dtype, model.parameters))
    return model


def _require_answers(model: LanguageModel, kind: str) -> None:
    """Raise ModelError when a model cannot answer so."""
    if kind == "text" and model.family not in ("causal", "seq2seq"):
        raise ModelError(
            f"The model {model.name!r} is {model.family}, and answers are to be written: only causal and seq2seq "
            "models write. Use one of those, or another data.target."
        )
    if kind == "likeness" and model.family != "encoder":
        raise ModelError(
            f"The model {model.name!r} is {model.family}, and answer.compare asks how alike two texts are: only "
            "sentence encoders tell. Use one of those, or give prompt.label_words for numbers to answer between."
        )


def _require_chat(model: LanguageModel, wanted: set[str]) -> None:
    """Raise ModelError when prompts are to be chats and the model cannot."""
    if model.chat is not None and wanted != {"none"}:
        model.chat.require()
    if model.chat is None and (asked := sorted(wanted & {"turns", "one"})):
        why = f"it is {model.family}" if model.family != "causal" else "its tokenizer has no chat template"
        raise ModelError(
            f"The model {model.name!r} does not chat ({why}), and prompt.chat or space.chats asks for "
            f'{" and ".join(map(repr, asked))}. Use a causal model with a chat template, or chat = "none".'
        )


def load_writer(config: Config, tell: events.Listener) -> LanguageModel | None:
    """The model of the proposers, where it is another than the task's. Raises ModelError."""
    name, options = config.propose.model, config.model
    if name is None or name == options.name:
        return None
    model = load_model(name, None, options.device, options.dtype, options.trust_remote_code, None, options.offline)
    tell(events.Notice(f"The search writes and fills in with {name} ({model.family}, {model.parameters / 1e6:.1f} M)."))
    return model


def open_memory(path: Path, model: LanguageModel, config: Config) -> ScoreMemory:
    """What was scored before, in all runs that share the file `path`."""
    rows = config.model.memory
    name = f"{model.identity} {config.model.engine}"
    return ScoreMemory(path, name, rows) if rows else ScoreMemory(None, name)


def fingerprints(config: Config, splits: Splits) -> dict[str, Any]:
    """What the data and models of a run and of its workers must have in common."""
    return {
        "data": {split: splits.fingerprints[split] for split in ("train", "dev")},
        "model": model_fingerprint(config.model.name),
        "writer": None if config.propose.model is None else model_fingerprint(config.propose.model),
    }


def tell_task(
    config: Config,
    splits: Splits,
    metric: Metric,
    tell: events.Listener,
    name: str | None = None,
    resumed: bool = False,
) -> None:
    """What is told of a run before its model is loaded."""
    trials = study_options(config).trials
    tell(events.RunStarted(name or config.name, resumed, metric.name, metric.maximize, config.seed, trials))
    sizes = len(splits.train), len(splits.dev), len(splits.test)
    tell(events.DataRead(*sizes, splits.labels, splits.duplicates_removed))
    for notice in (*splits.notes, *config.notices):
        tell(events.Notice(notice))
