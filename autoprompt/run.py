"""The story of a run, top to bottom.

config → space → (study asks) prompt → rendered requests → engine → answers → metric → score →
(study told) → winner → verdict on the locked test → fine-tuning → export + report
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import Config, data_options, read_config, require_words
from autoprompt.data import Splits, read_splits
from autoprompt.engine import ScoreMemory, load_engine
from autoprompt.finetune import require_tunable
from autoprompt.metrics import load_metric
from autoprompt.models import LanguageModel, load_model, model_fingerprint
from autoprompt.prompt import Prompt
from autoprompt.report import write_report
from autoprompt.results import RunFolder, read_journal, write_json, write_text
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.stages import Job, confirmed, exported, finetune_options, judged, read_material, tuned
from autoprompt.study import Candidate, Study, StudyOptions, ranked
from autoprompt.verdict import Verdict

__all__ = ["Result", "make_space", "run"]


@dataclass(frozen=True)
class Result:
    """The outcome of a run: `values` is result.json; `folder` holds everything."""

    folder: Path
    values: Mapping[str, Any]


def run(
    source: Path | str | Mapping[str, Any],
    name: str | None = None,
    results: Path | str | None = None,
    listener: events.Listener = events.silent,
) -> Result:
    """Search, confirm, judge, fine-tune and export, as a space file says.

    source: a TOML file, or the same as nested mappings. name, results: override the file's. A run
    of the same name and settings is resumed; one that is finished is read back. Raises an
    AutopromptError when the file, the data, the model or the folder cannot be used.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lines = ["text,label"] + [f"{a} {i} times,{b}" for i in range(9) for a, b in
    ...          (("We won the match", "sports"), ("The bank raised rates", "money"))]
    >>> _ = (folder / "topics.csv").write_text("\\n".join(lines))
    >>> result = run({
    ...     "name": "topics", "data": {"file": str(folder / "topics.csv"), "label": "label"},
    ...     "prompt": {"template": "{{ text }}\\nTopic: {{ label }}",
    ...                "label_words": {"sports": "sports", "money": "money"}},
    ...     "space": {"instructions": ["Sports or money?"]},
    ...     "study": {"trials": 2}, "finetune": {"method": "none"}, "results": str(folder)})
    >>> sorted(result.values["baseline"])
    ['dev', 'test']
    """
    base = Path.cwd() if isinstance(source, Mapping) else Path(source).parent
    config = read_config(source, base)
    splits = read_splits(data_options(config, base), config.seed)
    require_words(config, splits.labels)
    metric = load_metric(config.metric, base, splits.labels)
    began = time.monotonic()
    with ExitStack() as opened:
        folder = opened.enter_context(RunFolder(Path(results or config.results), name or config.name))

        def tell(event: events.Event) -> None:
            folder(event)
            listener(event)

        resumed = folder.claim(_manifest(config, splits))
        if folder.result.exists():
            return _finished(folder, config, listener)
        tell(events.RunStarted(folder.name, resumed, metric.name, metric.maximize, config.seed, config.study.trials))
        _tell_data(splits, tell)
        model = _load(config, tell)
        trains = finetune_options(config, model.family) is not None  # what is not allowed is said now
        memory = opened.enter_context(_memory(folder, model, config))
        other = None if config.model.engine == "own" else load_engine(config.model.engine, model)
        scorer = Scorer(model, metric, config.model.batch_tokens, memory, other)
        writer = _writer(config, tell)
        job = Job(folder, config, base, splits, scorer, tell, writer)
        read_material(job)  # what is wrong in its files is said before the search, not after
        search = Study(
            make_space(config, splits), scorer, splits.dev, _study_options(config), folder.path, config.seed, tell,
            _heard(folder), writer,
        )  # fmt: skip

        with _stage("search", scorer, tell):
            found = search.run()
        with _stage("confirm", scorer, tell):
            finalists = confirmed(job, found, search)
        winner, baseline = finalists[0], next(c for c in finalists if c.kind == "baseline")
        _tell_winner(winner, tell)
        with _stage("verdict", scorer, tell):
            verdict = judged(job, baseline, winner)
        outcome = None
        if trains:
            with _stage("finetune", scorer, tell):
                outcome = tuned(job, finalists)
        with _stage("export", scorer, tell):
            exported(job, winner, verdict, outcome)

        tell(_verdict_event(verdict, outcome))
        failed = sum(states.get("fail", 0) for states in search.counts().values())
        tell(events.RunFinished(time.monotonic() - began, failed))
        for number in sorted(scorer.truncated, key=str)[:1]:
            tell(
                events.Notice(
                    f"{len(scorer.truncated)} inputs were shortened to the model's window, e.g. {str(number)[:60]}"
                )
            )
        values = _result(job, finalists, verdict, outcome, search)
        write_text(folder.report, write_report(read_journal(folder.journal)))
        write_json(folder.result, values)
        return Result(folder.path, values)


# -- from config to plain values --------------------------------------------------------------


def make_space(config: Config, splits: Splits) -> Space:
    """The space of a config; the baseline's own parts are the first candidates."""
    prompt, space = config.prompt, config.space
    baseline = Prompt(
        prompt.template, {label: prompt.label_words[label] for label in splits.labels}, prompt.instruction, (),
        prompt.calibration, prompt.normalize, prompt.separator, temperature=prompt.temperature,
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


def _study_options(config: Config) -> StudyOptions:
    study = config.study
    names = {field.name for field in fields(StudyOptions)} & set(type(study).model_fields)
    given = {name: getattr(study, name) for name in names}
    given |= {"branches": study.branches and tuple(study.branches), "objectives": tuple(study.objectives)}
    return StudyOptions(**given, writer_tokens=config.propose.tokens)


def _writer(config: Config, tell: events.Listener) -> LanguageModel | None:
    """The model of the proposers, where it is another than the task's."""
    name, options = config.propose.model, config.model
    if name is None or name == options.name:
        return None
    model = load_model(name, None, options.device, options.dtype, options.trust_remote_code)
    tell(events.Notice(f"The search writes and fills in with {name} ({model.family}, {model.parameters / 1e6:.1f} M)."))
    return model


def _manifest(config: Config, splits: Splits) -> dict[str, Any]:
    """What this run is; two runs with the same settings, data and model are the same run."""
    settings = config.model_dump(mode="json", exclude={"name", "results"})
    return {
        "settings": settings,
        "data": dict(splits.fingerprints),
        "model": model_fingerprint(config.model.name),
        "writer": None if config.propose.model is None else model_fingerprint(config.propose.model),
        "versions": _versions(),
        "git": _revision(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("autoprompt-search", "optuna", "transformers", "torch", "peft", "numpy", "cmaes"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _revision() -> str | None:
    """The git revision of this package's checkout, or None."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


# -- stages ------------------------------------------------------------------------------------


@contextmanager
def _stage(name: str, scorer: Scorer, tell: events.Listener) -> Iterator[None]:
    began, tokens = time.monotonic(), scorer.tokens
    tell(events.StageStarted(name))
    yield
    tell(events.StageFinished(name, round(time.monotonic() - began, 2), scorer.tokens - tokens))


def _tell_data(splits: Splits, tell: events.Listener) -> None:
    tell(
        events.DataRead(len(splits.train), len(splits.dev), len(splits.test), splits.labels, splits.duplicates_removed)
    )


def _heard(folder: RunFolder) -> set[int]:
    """The trials that the journal knows."""
    ended = ("TrialFinished", "TrialFailed")
    return {event["number"] for event in read_journal(folder.journal) if event["event"] in ended}


def _load(config: Config, tell: events.Listener) -> LanguageModel:
    options = config.model
    family = None if options.family == "auto" else options.family
    model = load_model(options.name, family, options.device, options.dtype, options.trust_remote_code)
    if config.finetune.method != "none":
        require_tunable(model)
    dtype = str(model.dtype).removeprefix("torch.")
    tell(events.ModelLoaded(options.name, model.family, str(model.device), dtype, model.parameters))
    return model


def _memory(folder: RunFolder, model: LanguageModel, config: Config) -> ScoreMemory:
    """What was scored before, in all runs of this results folder."""
    rows = config.model.memory
    name = f"{model.identity} {config.model.engine}"
    return ScoreMemory(folder.scores, name, rows) if rows else ScoreMemory(None, name)


def _tell_winner(winner: Candidate, tell: events.Listener) -> None:
    text = winner.prompt.placeholder_text()
    tell(events.WinnerChosen(winner.number, winner.kind, winner.value, winner.prompt.fingerprint, text))


# -- the outcome -------------------------------------------------------------------------------


def _verdict_event(verdict: Verdict, tuned: Mapping[str, Any] | None) -> events.VerdictReached:
    return events.VerdictReached(
        verdict.outcome,
        verdict.sentence,
        verdict.baseline,
        verdict.winner,
        verdict.interval,
        None if tuned is None else tuned["test"],
    )


def _result(
    job: Job, finalists: Sequence[Candidate], verdict: Verdict, tuned: Mapping[str, Any] | None, search: Study
) -> dict[str, Any]:
    """result.json."""
    folder, config, splits, metric = job.folder, job.config, job.splits, job.scorer.metric
    winner, baseline = finalists[0], next(c for c in finalists if c.kind == "baseline")
    by_value = ranked(finalists, metric)
    seconds: dict[str, float] = {}
    tokens = 0
    for event in read_journal(folder.journal):
        if event["event"] == "StageFinished":
            seconds[event["stage"]] = round(seconds.get(event["stage"], 0.0) + event["seconds"], 2)
            tokens += event["tokens"]
    return {
        "name": folder.name,
        "metric": metric.name,
        "maximize": metric.maximize,
        "baseline": {"dev": baseline.value, "test": verdict.baseline},
        "winner": {
            "dev": winner.value,
            "test": verdict.winner,
            "kind": winner.kind,
            "trial": winner.number,
            "fingerprint": winner.prompt.fingerprint,
            "branch": winner.branch,
            "operator": winner.operator,
            "parents": list(winner.parents),
            "estimate": winner.estimate,
            "evidence": winner.evidence,
        },
        "tuned": None if tuned is None else dict(tuned),
        "interval": list(verdict.interval),
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "best_by_kind": {
            kind: {"dev": best.value, "trial": best.number}
            for kind in ("baseline", "discrete", "soft")
            if (best := next((c for c in by_value if c.kind == kind), None))
        },
        "trials": search.counts(),
        "branches": search.counts_by_branch(),
        "evaluations": search.evaluations(),
        "test_openings": folder.openings(),
        "tokens": tokens,
        "seconds": seconds,
        "versions": _versions(),
        "seed": config.seed,
        "git": _revision(),
        "data": {
            "fingerprints": dict(splits.fingerprints),
            "sizes": {"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
            "duplicates_removed": splits.duplicates_removed,
        },
    }


def _finished(folder: RunFolder, config: Config, listener: events.Listener) -> Result:
    """Read a finished run back and tell its verdict again, to the screen alone."""
    values = folder.read_json(folder.result)
    listener(
        events.RunStarted(folder.name, True, values["metric"], values["maximize"], config.seed, config.study.trials)
    )
    listener(events.Notice(f"This run is finished; its results are in {folder.path}."))
    verdict = Verdict(
        values["verdict"],
        values["sentence"],
        values["baseline"]["test"],
        values["winner"]["test"],
        (values["interval"][0], values["interval"][1]),
    )
    listener(_verdict_event(verdict, values["tuned"]))
    return Result(folder.path, values)
