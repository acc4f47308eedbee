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
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.clock import signals
from autoprompt.config import Config, read_task
from autoprompt.data import Splits
from autoprompt.energy import Meter, open_meter
from autoprompt.engine import load_engine
from autoprompt.errors import ConfigError, ResultsError
from autoprompt.metrics import Metric
from autoprompt.models import gpu_uuid, model_fingerprint
from autoprompt.report import write_page, write_report
from autoprompt.results import RunFolder, read_journal, spent, write_json, write_text
from autoprompt.scorer import Scorer
from autoprompt.setting import (
    load_task_metric,
    load_task_model,
    load_writer,
    make_clock,
    make_space,
    open_memory,
    tell_task,
)
from autoprompt.stages import (
    Job,
    Shelf,
    confirmed,
    examined,
    explained,
    exported,
    finetune_options,
    judged,
    opened_search,
    planned,
    read_material,
    require_baseline,
    tuned,
)
from autoprompt.study import Candidate, Study, ranked
from autoprompt.verdict import Verdict

__all__ = ["Result", "run"]

_LAST = 3.0  # seconds that the report takes at the end


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
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    extend: bool = False,
) -> Result:
    """Search, confirm, judge, fine-tune and export, as a space file says.

    source: a TOML file, or the same as nested mappings. name, results: override the file's; changes: keys by
    section that do, such as {"budget": {"hours": 8}}. A run of the same name and settings is resumed, under
    another budget too; one that is finished is read back, or searches on with `extend`.

    The first SIGINT or SIGTERM ends the search, and the verdict is reached with what there is; the second raises
    KeyboardInterrupt. Raises an AutopromptError when the file, the data, the model or the folder cannot be used.

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
    config, splits = read_task(source, base, changes)
    if config.data.folds is not None and config.data.fold is None:
        allowed = f"1 to {config.data.folds}; cross_validate runs all of them"
        raise ConfigError("The run", [f"data.fold is missing: which of the folds is test. Allowed are {allowed}."])
    metric = load_task_metric(config, base, splits.labels)
    with ExitStack() as opened:
        folder = opened.enter_context(RunFolder(Path(results or config.results), name or config.name))
        resumed = folder.claim(_manifest(config, splits))
        if folder.result.exists() and not extend:
            return _finished(folder, config, listener)
        clock = make_clock(config, spent(read_journal(folder.journal)))
        opened.enter_context(signals(clock))
        if folder.result.exists():
            folder.reopen()
        tell = events.Listeners(folder, listener)
        tell_task(config, splits, metric, tell, folder.name, resumed)
        scorer = _scorer(opened, folder.scores, config, metric, tell)
        scorer.engine.check = clock.check
        space = make_space(config, base, splits, scorer.model.chat is not None)
        writer, meter = load_writer(config, tell), _meter(opened, scorer)
        job = Job(folder, config, base, splits, scorer, tell, clock, space, writer, meter).cleaned()
        read_material(job)  # what is wrong in its files is said before the search, not after
        with _stage("doctor", job), clock.keeping(clock.left / 2, hard=clock.limited):
            rivals = examined(job)
        plan = planned(job)
        with (
            _stage("search", job),
            clock.keeping(plan.reserve(clock.left), hard=True),
            opened_search(job, _heard(folder)) as search,
        ):
            tell.also(Shelf(folder.best, search))
            found = search.run()
        require_baseline(found)
        with _stage("confirm", job):
            finalists = confirmed(job, found, search)
        winner, baseline = finalists[0], next(c for c in finalists if c.kind == "baseline")
        _tell_winner(winner, tell)
        with _stage("verdict", job) as took:
            verdict = judged(job, baseline, winner, rivals)
        # than it was measured, where others need the machine too; the verdict's own arithmetic takes some of a second
        slower = max(1.0, took.seconds / (plan.seconds["verdict"] + 1.0))
        with _stage("finetune", job), clock.keeping(slower * plan.last("verdict", "export")):
            outcome = tuned(job, finalists, slower * plan.training)
        with _stage("export", job):
            exported(job, winner, verdict, outcome)

        tell(_verdict_event(verdict, outcome))
        with _stage("explain", job), clock.keeping(_LAST, hard=clock.limited):
            why = explained(job, finalists)
        failed = sum(states.get("fail", 0) for states in search.counts().values())
        tell(events.RunFinished(round(clock.gone, 3), failed))
        _tell_shortened(job)
        values = _result(job, finalists, verdict, outcome, search) | {"explained": why}
        write_text(folder.report, write_report(read_journal(folder.journal)))
        write_text(folder.page, write_page(read_journal(folder.journal)))
        write_json(folder.result, values)
        return Result(folder.path, values)


def _scorer(opened: ExitStack, scores: Path, config: Config, metric: Metric, tell: events.Listener) -> Scorer:
    """The scorer of the task's model; `opened` closes its memory."""
    model = load_task_model(config, tell)
    finetune_options(config, model.family)  # what is not allowed is said now
    memory = opened.enter_context(open_memory(scores, model, config))
    other = None if config.model.engine == "own" else load_engine(config.model.engine, model)
    return Scorer(model, metric, config.model.batch_tokens, memory, other)


def _meter(opened: ExitStack, scorer: Scorer) -> Meter:
    device = scorer.model.device
    return opened.enter_context(open_meter(device.type, gpu_uuid(device)))


# -- what this run is -----------------------------------------------------------------------------


def _manifest(config: Config, splits: Splits) -> dict[str, Any]:
    """What this run is; two runs with the same settings, data and model are the same run."""
    ends: Any = {"study": {"trials", "evaluations", "workers"}}  # a run may go on under another budget
    ends |= dict.fromkeys(("name", "results", "budget", "doctor", "explain"), True)
    settings = config.model_dump(mode="json", exclude=ends)
    settings["study"]["shared"] = config.study.workers > 1 or config.study.storage is not None
    return {
        "settings": settings,
        "data": dict(splits.fingerprints),
        "model": model_fingerprint(config.model.name, config.model.revision, config.model.offline),
        "writer": None
        if config.propose.model is None
        else model_fingerprint(config.propose.model, None, config.model.offline),
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


@dataclass
class _Took:
    seconds: float = 0.0


@contextmanager
def _stage(name: str, job: Job) -> Iterator[_Took]:
    began, tokens, energy, took = time.monotonic(), job.scorer.tokens, job.meter.kwh(), _Took()
    job.tell(events.StageStarted(name))
    yield took
    took.seconds = round(time.monotonic() - began, 2)
    after = job.meter.kwh()
    kwh = None if energy is None or after is None else round(after - energy, 9)
    job.tell(events.StageFinished(name, took.seconds, job.scorer.tokens - tokens, kwh))


def _heard(folder: RunFolder) -> set[int]:
    """The trials that the journal knows."""
    ended = ("TrialFinished", "TrialFailed")
    return {event["number"] for event in read_journal(folder.journal) if event["event"] in ended}


def _tell_shortened(job: Job) -> None:
    for number in sorted(job.scorer.truncated, key=str)[:1]:
        count = len(job.scorer.truncated)
        job.tell(events.Notice(f"{count} inputs were shortened to the model's window, e.g. {str(number)[:60]}"))


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
    also: dict[str, list[float]] = {}
    for event in read_journal(folder.journal):
        also = event.get("also", also) if event["event"] == "VerdictDetailed" else also
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
        "also": also,
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
        "halted": search.halted,
        "stopped": job.clock.stopped,
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
    try:
        trials, tests = config.study.trials, (values["baseline"]["test"], values["winner"]["test"])
        started = events.RunStarted(folder.name, True, values["metric"], values["maximize"], config.seed, trials)
        interval = float(values["interval"][0]), float(values["interval"][1])
        reached = _verdict_event(Verdict(values["verdict"], values["sentence"], *tests, interval), values["tuned"])
    except (LookupError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{folder.result} is not as it was written ({type(error).__name__}: {error}). Delete that file and run the "
            "same command again: it is made anew, all else is kept."
        ) from None
    listener(started)
    more = "autoprompt run --extend searches on."
    listener(events.Notice(f"This run is finished; its results are in {folder.path}. {more}"))
    listener(reached)
    return Result(folder.path, values)
