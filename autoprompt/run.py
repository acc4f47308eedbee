"""The story of a run, top to bottom.

config → space → (study asks) prompt → rendered requests → engine → answers → metric → score →
(study told) → winner → verdict on the locked test → fine-tuning → export + report
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from autoprompt import events
from autoprompt.config import Config, data_options, read_config, require_words
from autoprompt.data import Example, Splits, read_splits
from autoprompt.export import Exported, export
from autoprompt.finetune import FinetuneOptions, finetune
from autoprompt.metrics import Metric, load_metric
from autoprompt.models import LanguageModel, load_model, model_fingerprint
from autoprompt.prompt import Prompt
from autoprompt.report import write_report
from autoprompt.results import RunFolder, read_journal, write_json, write_text
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.study import Candidate, Study, StudyOptions, confirm
from autoprompt.verdict import Verdict, judge

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
    with RunFolder(Path(results or config.results), name or config.name) as folder:

        def tell(event: events.Event) -> None:
            folder(event)
            listener(event)

        resumed = folder.claim(_manifest(config, splits))
        if folder.result.exists():
            return _finished(folder, config, listener)
        tell(events.RunStarted(folder.name, resumed, metric.name, metric.maximize, config.seed, config.study.trials))
        _tell_data(splits, tell)
        model = _load(config, tell)
        scorer = Scorer(model, metric, config.model.batch_tokens)
        search = Study(
            make_space(config, splits), scorer, splits.dev, _study_options(config), folder.path, config.seed, tell
        )

        with _stage("search", scorer, tell):
            found = search.run()
        with _stage("confirm", scorer, tell):
            confirmed = _confirmed(folder, found, scorer, splits, config, tell)
        winner, baseline = confirmed[0], next(c for c in confirmed if c.kind == "baseline")
        _tell_winner(winner, tell)
        with _stage("verdict", scorer, tell):
            verdict = _judged(folder, scorer, splits, baseline, winner, config, tell)
        tuned = None
        if config.finetune.method != "none":
            with _stage("finetune", scorer, tell):
                tuned = _tuned(folder, scorer, splits, winner, config, tell)
        with _stage("export", scorer, tell):
            _export(folder, config, base, model, winner, verdict, tuned)

        tell(_verdict_event(verdict, tuned))
        failed = sum(states.get("fail", 0) for states in search.counts().values())
        tell(events.RunFinished(time.monotonic() - began, failed))
        for number in sorted(scorer.truncated, key=str)[:1]:
            tell(
                events.Notice(
                    f"{len(scorer.truncated)} inputs were shortened to the model's window, e.g. {str(number)[:60]}"
                )
            )
        values = _result(folder, config, splits, metric, confirmed, verdict, tuned, search)
        write_text(folder.report, write_report(read_journal(folder.journal)))
        write_json(folder.result, values)
        return Result(folder.path, values)


# -- from config to plain values --------------------------------------------------------------


def make_space(config: Config, splits: Splits) -> Space:
    """The space of a config; the baseline's own parts are the first candidates."""
    prompt, space = config.prompt, config.space
    baseline = Prompt(
        prompt.template, {label: prompt.label_words[label] for label in splits.labels}, prompt.instruction, (),
        prompt.calibration, prompt.normalize, prompt.separator,
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
        demonstrations=DemonstrationSpace(shown.most, shown.draws, shown.orders) if shown else DemonstrationSpace(0),
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
    return StudyOptions(
        study.trials, study.batch, study.slice, study.soft_share, study.generations, finalists=study.finalists
    )


def _manifest(config: Config, splits: Splits) -> dict[str, Any]:
    """What this run is; two runs with the same settings, data and model are the same run."""
    settings = config.model_dump(mode="json", exclude={"name", "results"})
    return {
        "settings": settings,
        "data": dict(splits.fingerprints),
        "model": model_fingerprint(config.model.name),
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


def _load(config: Config, tell: events.Listener) -> LanguageModel:
    options = config.model
    family = None if options.family == "auto" else options.family
    model = load_model(options.name, family, options.device, options.dtype, options.trust_remote_code)
    dtype = str(model.dtype).removeprefix("torch.")
    tell(events.ModelLoaded(options.name, model.family, str(model.device), dtype, model.parameters))
    return model


def _confirmed(
    folder: RunFolder, found: Sequence[Candidate], scorer: Scorer, splits: Splits, config: Config, tell: events.Listener
) -> list[Candidate]:
    """The finalists on all of dev, best first; from the folder when they were scored before."""
    stored = folder.stage("confirm")
    if stored is not None:
        by_number = {candidate.number: candidate for candidate in found}
        return [
            Candidate(
                s["number"],
                by_number[s["number"]].kind,
                by_number[s["number"]].prompt,
                s["value"],
                s["loss"],
                s["margin"],
            )
            for s in stored
        ]
    confirmed = confirm(found, scorer, splits.dev, config.study.finalists, tell)
    keys = ("number", "value", "loss", "margin")
    folder.finish_stage("confirm", [{key: getattr(c, key) for key in keys} for c in confirmed])
    return confirmed


def _tell_winner(winner: Candidate, tell: events.Listener) -> None:
    text = winner.prompt.placeholder_text()
    tell(events.WinnerChosen(winner.number, winner.kind, winner.value, winner.prompt.fingerprint, text))


def _open_test(folder: RunFolder, splits: Splits, reason: str, tell: events.Listener) -> tuple[Example, ...]:
    times = folder.openings() + 1
    return splits.test.open(reason, lambda why: tell(events.TestOpened(why, times)))


def _judged(
    folder: RunFolder,
    scorer: Scorer,
    splits: Splits,
    baseline: Candidate,
    winner: Candidate,
    config: Config,
    tell: events.Listener,
) -> Verdict:
    """The verdict on the locked test; from the folder when it was reached before."""
    stored = folder.stage("verdict")
    if stored is not None:
        return Verdict(**{**stored, "interval": tuple(stored["interval"])})
    test = _open_test(folder, splits, "verdict: baseline and winner", tell)
    before, after = scorer.score([baseline.prompt, winner.prompt], test)
    write_text(folder.test_rows, "".join(_row(example, config.data.label) for example in test))
    same = baseline.prompt == winner.prompt
    verdict = judge(scorer.metric, before.outcome, after.outcome, same, config.seed)
    folder.finish_stage("verdict", verdict)
    return verdict


def _row(example: Example, label: str) -> str:
    return json.dumps({**example.fields, label: example.label}, ensure_ascii=False) + "\n"


def _tuned(
    folder: RunFolder, scorer: Scorer, splits: Splits, winner: Candidate, config: Config, tell: events.Listener
) -> dict[str, Any]:
    """Fine-tune from the winner and score it on the locked test; weights lie in the folder's `tuning`."""
    stored = folder.stage("finetune")
    if stored is not None:
        return dict(stored)
    options = config.finetune
    sign = 1 if scorer.metric.maximize else -1

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = scorer.using(model).score([prompt], splits.dev)
        return sign * score.value, -score.loss

    assert options.method != "none"
    tuned = finetune(
        scorer.model,
        winner.prompt,
        splits.train,
        evaluate,
        FinetuneOptions(
            options.method,
            options.rank,
            2 * options.rank,
            options.epochs,
            options.learning_rate,
            options.batch_size,
            patience=options.patience,
        ),
        config.seed,
        tell,
    )
    scorer.engine.count(tuned.tokens)
    shutil.rmtree(folder.tuning, ignore_errors=True)
    tuned.save(folder.tuning)
    if tuned.prompt.soft is not None:
        (folder.tuning / "tuned_vectors.safetensors").write_bytes(tuned.prompt.vector_bytes() or b"")
    test = _open_test(folder, splits, "the fine-tuned model", tell)
    [score] = scorer.using(tuned.model).score([tuned.prompt], test)
    outcome = {
        "dev": sign * tuned.qualities[tuned.epoch][0],
        "test": score.value,
        "method": options.method,
        "epoch": tuned.epoch,
        "dev_by_epoch": [sign * value for value, _ in tuned.qualities],
    }
    folder.finish_stage("finetune", outcome)
    return outcome


def _export(
    folder: RunFolder,
    config: Config,
    base: Path,
    model: LanguageModel,
    winner: Candidate,
    verdict: Verdict,
    tuned: Mapping[str, Any] | None,
) -> None:
    """The winner, with the tuned weights where tuning helped on dev."""
    helped = tuned is not None and tuned["epoch"] > 0
    scores = {"baseline": verdict.baseline, "winner": verdict.winner}
    tuned_prompt = None
    if helped and tuned is not None:
        scores["tuned"] = tuned["test"]
        tuned_prompt = _tuned_prompt(folder, winner.prompt)
    in_file = ".py:" in config.metric
    file, _, function = config.metric.rpartition(":")
    about = Exported(
        model=config.model.name,
        family=model.family,
        dtype=str(model.dtype).removeprefix("torch."),
        metric=f"{Path(file).name}:{function}" if in_file else config.metric,
        fields=tuple(config.data.fields),
        label=config.data.label,
        use="tuned" if helped else "prompt",
        method=tuned["method"] if helped and tuned is not None else None,
        model_fingerprint=model.fingerprint,
        prompt_fingerprint=winner.prompt.fingerprint,
        scores=scores,
    )

    def save_weights(place: Path) -> None:
        shutil.copytree(folder.tuning, place, ignore=shutil.ignore_patterns("tuned_vectors.safetensors"))

    export(
        folder.winner,
        winner.prompt,
        about,
        tuned_prompt,
        save_weights if helped else None,
        base / file if in_file else None,
    )


def _tuned_prompt(folder: RunFolder, prompt: Prompt) -> Prompt:
    path = folder.tuning / "tuned_vectors.safetensors"
    return prompt if prompt.soft is None else prompt.with_vectors_from(path)


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
    folder: RunFolder,
    config: Config,
    splits: Splits,
    metric: Metric,
    confirmed: Sequence[Candidate],
    verdict: Verdict,
    tuned: Mapping[str, Any] | None,
    search: Study,
) -> dict[str, Any]:
    """result.json."""
    winner, baseline = confirmed[0], next(c for c in confirmed if c.kind == "baseline")
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
        },
        "tuned": None if tuned is None else dict(tuned),
        "interval": list(verdict.interval),
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "best_by_kind": {
            kind: {"dev": best.value, "trial": best.number}
            for kind in ("baseline", "discrete", "soft")
            if (best := next((c for c in confirmed if c.kind == kind), None))
        },
        "trials": search.counts(),
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
