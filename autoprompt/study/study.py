"""All of Optuna's study: ask, score, tell, stop, resume."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from safetensors.numpy import load_file

from autoprompt.data import Example
from autoprompt.errors import AutopromptError, StudyError
from autoprompt.events import Confirmed, Listener, TrialFailed, TrialFinished, silent
from autoprompt.metrics import Metric
from autoprompt.prompt import Prompt
from autoprompt.results import repair_tail, write_bytes
from autoprompt.samplers import CoordinateSearch, GivenSampler, discrete_sampler
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import Array, seed_of
from autoprompt.space import Space, Stored

__all__ = ["Candidate", "Study", "StudyOptions", "confirm", "search"]

Kind = Literal["baseline", "discrete", "soft"]
_INTERRUPTED = "interrupted before it was asked completely"


@dataclass(frozen=True)
class StudyOptions:
    """trials: how many prompts to score, the baseline included. batch: prompts asked and scored at
    once. slice: dev examples a trial is scored on (None: all). soft_share: the share of the trials
    that are soft. generations: of a search by coordinates, before the next one starts.
    deviation: the first step size of that search. startup: random trials before TPE.
    """

    trials: int = 80
    batch: int = 8
    slice: int | None = 96
    soft_share: float = 0.4
    generations: int = 4
    deviation: float = 0.5
    startup: int = 16
    finalists: int = 6


@dataclass(frozen=True)
class Candidate:
    """A scored prompt. `value` is the metric, `loss` the mean of -log P(right label)."""

    number: int
    kind: Kind
    prompt: Prompt
    value: float
    loss: float
    margin: float


@dataclass(frozen=True)
class Scored:
    """A trial with its score, or with the reason why it has none; seconds and tokens it took."""

    trial: FrozenTrial
    prompt: Prompt | None
    score: Score | str
    seconds: float = 0.0
    tokens: int = 0


class _NoLock(JournalFileOpenLock):
    """Nothing to lock: the run folder is held by this process alone, by a lock that the kernel frees."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _open(path: Path | None, metric: Metric) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: InMemoryStorage | JournalStorage = InMemoryStorage()
    if path is not None:
        repair_tail(path)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
    return optuna.create_study(
        storage=storage,
        study_name="autoprompt",
        direction="maximize" if metric.maximize else "minimize",
        load_if_exists=True,
    )


class Study:
    """One search: discrete and soft prompts in one Optuna study.

    A batch is asked whole, then scored whole, then told; telling a trial is what commits it. What
    a killed run had asked and not told is scored again under the same numbers, so that a resumed
    study reaches the trials of one that was never killed.

    folder: where the study and the vectors are kept; None keeps them in memory. heard: numbers of
    trials that the listener was told of by an earlier process; the other finished ones, whose
    process died between committing and telling, are told when the study runs.
    """

    def __init__(
        self,
        space: Space,
        scorer: Scorer,
        examples: Sequence[Example],
        options: StudyOptions | None = None,
        folder: Path | None = None,
        seed: int = 0,
        listener: Listener = silent,
        heard: Collection[int] = (),
    ) -> None:
        self.space, self.scorer, self.seed, self.listener = space, scorer, seed, listener
        self.heard = heard
        self.options = options or StudyOptions()
        self.examples = examples[: self.options.slice]
        self.folder = folder
        self.study = _open(None if folder is None else folder / "study.journal", scorer.metric)
        self._prompts: dict[int, Prompt] = {}
        self._vectors: dict[str, Array] = {}

    def run(self) -> list[Candidate]:
        """Ask, score and tell until all trials are done; all candidates, best first.

        Raises StudyError when the baseline fails or more than half of the trials do.
        """
        for trial in self._trials():
            if trial.state.is_finished() and trial.number not in self.heard:
                self._announce(trial)
        while batch := self.ask():
            for scored in self.scored(batch):
                self.tell(scored)
            self._check_failures()
        return self.candidates()

    # -- ask ---------------------------------------------------------------------------------

    def ask(self) -> list[FrozenTrial]:
        """The trials of the next batch that have no score yet; empty when all trials are done."""
        self._discard_half_asked()
        while True:
            trials = self._trials()
            number = max((t.user_attrs["batch"] for t in trials), default=-1)
            members = [t for t in trials if t.user_attrs["batch"] == number]
            waiting = [t for t in members if not t.state.is_finished()]
            before = len(trials) - len(members)
            if number >= 0 and len(members) < self._size(number, before) and len(waiting) == len(members):
                self._ask_rest(number, len(members), before)
            elif waiting:
                return waiting
            elif self._size(number + 1, len(trials)) == 0:
                return []
            else:
                self._ask_rest(number + 1, 0, len(trials))

    def _trials(self) -> list[FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if "ready" in t.user_attrs]

    def _discard_half_asked(self) -> None:
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.state.is_finished() and "ready" not in trial.user_attrs:
                self._note(trial, "reason", _INTERRUPTED)
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _is_soft(self, batch: int) -> bool:
        """Soft batches are spread evenly; the first two are the baseline and a discrete one.

        A soft batch is a whole generation: where fewer trials are left, the last batch is discrete.
        """
        share = self.options.soft_share if self.space.soft else 0.0
        whole = 1 + batch * self.options.batch <= self.options.trials
        return whole and batch >= 2 and int((batch - 1) * share) > int((batch - 2) * share)

    def _size(self, batch: int, before: int) -> int:
        wanted = 1 if batch == 0 else self.options.batch
        return max(0, min(wanted, self.options.trials - before))

    def _ask_rest(self, batch: int, start: int, before: int) -> None:
        size = self._size(batch, before)
        if batch == 0:
            self._asked("baseline", batch, GivenSampler({}), self.space.baseline)
        elif self._is_soft(batch):
            self._ask_soft(batch, start, size)
        else:
            for slot in range(start, size):
                sampler = discrete_sampler(self.seed, before + slot, self.options.startup)
                self._asked("discrete", batch, sampler)

    def _asked(
        self,
        kind: Kind,
        batch: int,
        sampler: BaseSampler,
        prompt: Prompt | None = None,
        choices: Mapping[str, Sequence[Any]] | None = None,
        **attrs: Any,
    ) -> None:
        """Ask one trial; it counts once its attribute "ready" is written, the last of all."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = sampler
            trial = self.study.ask()
            try:
                if kind == "discrete":
                    prompt = self.space.discrete(trial)
                for name, allowed in (choices or {}).items():
                    trial.suggest_categorical(name, allowed)
            except AutopromptError as error:
                attrs["reason"] = str(error)
        if prompt is not None:
            self._prompts[trial.number] = prompt
            self._keep_vectors(prompt)
            attrs["fingerprint"] = prompt.fingerprint
        for name, value in attrs.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("kind", kind)
        trial.set_user_attr("batch", batch)
        trial.set_user_attr("ready", True)

    # -- the soft branch ---------------------------------------------------------------------

    def _ask_soft(self, batch: int, start: int, size: int) -> None:
        """One generation of a search by coordinates; every `generations` a new one starts."""
        assert self.space.soft is not None
        index = sum(self._is_soft(b) for b in range(batch))
        run, generation = divmod(index, self.options.generations)
        structure = self.space.soft.structure(run, self.seed)
        earlier = [t for t in self._trials() if t.user_attrs.get("run") == run and t.user_attrs["batch"] < batch]
        carrier = earlier[0].user_attrs["carrier"] if earlier else self._carrier(structure.start)
        told = [
            [t.user_attrs.get("score", {}).get("loss") for t in earlier if t.user_attrs["generation"] == g]
            for g in range(generation)
        ]
        searched = CoordinateSearch(
            self.space.soft.dimensions, self.options.batch, self.options.deviation, seed_of(self.seed, "cma", run)
        )
        text = self.prompt(carrier).instruction or self.prompt(carrier).placeholder_text()
        [tokens] = self.scorer.model.ids([text], special=False)
        projection = self.space.projection(run, structure, self.scorer.model.embeddings, tokens)
        fixed = {"soft.vectors": structure.vectors, "soft.position": structure.position, "soft.start": structure.start}
        choices = {
            "soft.vectors": self.space.soft.vectors,
            "soft.position": self.space.soft.positions,
            "soft.start": self.space.soft.starts,
        }
        for coordinates in searched.candidates(told)[start:size]:
            prompt = self.space.with_vectors(self.prompt(carrier), projection.vectors(coordinates), structure.position)
            attrs = {"run": run, "generation": generation, "carrier": carrier}
            self._asked("soft", batch, GivenSampler(fixed), prompt, choices, **attrs)

    def _carrier(self, start: str) -> int:
        """The trial whose text carries the vectors: the best discrete one so far, or the baseline."""
        if start != "best":
            return 0
        found = [c for c in self.candidates() if c.kind != "soft"]
        return found[0].number if found else 0

    def _keep_vectors(self, prompt: Prompt) -> None:
        if prompt.soft is None:
            return
        self._vectors[prompt.fingerprint] = prompt.soft.vectors
        if self.folder is not None:
            write_bytes(self.folder / "vectors" / f"{prompt.fingerprint}.safetensors", prompt.vector_bytes() or b"")

    def prompt(self, number: int) -> Prompt:
        """The prompt of a trial, made again from what is stored of it."""
        if number not in self._prompts:
            trial = self.study.get_trials(deepcopy=False)[number]
            attrs = trial.user_attrs
            if attrs["kind"] == "baseline":
                self._prompts[number] = self.space.baseline
            elif attrs["kind"] == "discrete":
                self._prompts[number] = self.space.discrete(Stored(trial.params))
            else:
                vectors = self._stored_vectors(attrs["fingerprint"])
                self._prompts[number] = self.space.with_vectors(
                    self.prompt(attrs["carrier"]), vectors, trial.params["soft.position"]
                )
        return self._prompts[number]

    def _stored_vectors(self, fingerprint: str) -> Array:
        if fingerprint not in self._vectors:
            assert self.folder is not None
            found = load_file(self.folder / "vectors" / f"{fingerprint}.safetensors")["vectors"]
            self._vectors[fingerprint] = np.asarray(found, dtype=np.float32)
        return self._vectors[fingerprint]

    # -- score and tell ----------------------------------------------------------------------

    def scored(self, batch: Sequence[FrozenTrial]) -> Iterator[Scored]:
        """Each trial with its prompt and its score, or with the reason why it has none.

        The batch is scored in one grid. If that fails, each prompt is scored by itself, so that
        one prompt's failure stays its own.
        """
        prompts: dict[int, Prompt] = {}
        for trial in batch:
            if "reason" in trial.user_attrs:
                yield Scored(trial, None, trial.user_attrs["reason"])
            else:
                prompts[trial.number] = self.prompt(trial.number)
        began, before = time.monotonic(), self.scorer.tokens
        with suppress(Exception):  # if the grid fails, the culprit is found below
            self.scorer.log_likelihoods(list(prompts.values()), self.examples)
        share = max(1, len(prompts))
        seconds, tokens = (time.monotonic() - began) / share, (self.scorer.tokens - before) // share
        for trial in batch:
            if trial.number in prompts:
                prompt = prompts[trial.number]
                try:
                    [score] = self.scorer.score([prompt], self.examples)
                    yield Scored(trial, prompt, score, seconds, tokens)
                except Exception as error:  # failure is data: it is recorded with its reason
                    yield Scored(trial, prompt, f"{type(error).__name__}: {error}")

    def tell(self, scored: Scored) -> None:
        """Commit a trial: attributes first, then its state."""
        trial, score = scored.trial, scored.score
        if isinstance(score, str):
            self._note(trial, "reason", score)
            self.study.tell(trial.number, state=TrialState.FAIL)
        else:
            cost = {"tokens": scored.tokens, "seconds": scored.seconds}
            self._note(trial, "score", {"loss": score.loss, "margin": score.margin, **cost})
            self.study.tell(trial.number, score.value)
        self._announce(self.study.get_trials(deepcopy=False)[trial.number])

    def _announce(self, trial: FrozenTrial) -> None:
        """Tell the listener of a trial that is committed."""
        attrs, kind = trial.user_attrs, trial.user_attrs["kind"]
        if trial.value is None:
            self.listener(TrialFailed(trial.number, kind, attrs["reason"]))
            return
        score = attrs["score"]
        self.listener(
            TrialFinished(
                trial.number, kind, trial.value, score["margin"], len(self.examples), score["tokens"],
                score["seconds"], attrs["fingerprint"], self.prompt(trial.number).placeholder_text(),
            )
        )  # fmt: skip

    def _note(self, trial: FrozenTrial, key: str, value: object) -> None:
        optuna.Trial(self.study, trial._trial_id).set_user_attr(key, value)

    def _check_failures(self) -> None:
        trials = self._trials()
        failed = [t for t in trials if t.state == TrialState.FAIL]
        if failed and failed[0].user_attrs["kind"] == "baseline":
            raise StudyError(f"The baseline, your own prompt, cannot be scored: {failed[0].user_attrs['reason']}")
        if len(trials) >= 10 and len(failed) > len(trials) / 2:
            raise StudyError(
                f"{len(failed)} of {len(trials)} trials failed, the last one with: {failed[-1].user_attrs['reason']} "
                "All are in events.jsonl. Mend the cause and run again; the finished trials are kept."
            )

    # -- what was found ----------------------------------------------------------------------

    def candidates(self) -> list[Candidate]:
        """All finished trials, best first: by the metric, ties by the margin; each prompt once."""
        found = []
        for trial in self._trials():
            if trial.state == TrialState.COMPLETE and trial.value is not None:
                attrs, prompt = trial.user_attrs, self.prompt(trial.number)
                loss, margin = attrs["score"]["loss"], attrs["score"]["margin"]
                found.append(Candidate(trial.number, attrs["kind"], prompt, trial.value, loss, margin))
        first: dict[str, Candidate] = {}
        for candidate in found:
            first.setdefault(candidate.prompt.fingerprint, candidate)
        return _ranked(list(first.values()), self.scorer.metric)

    def counts(self) -> dict[str, dict[str, int]]:
        """Trials by kind and state."""
        table: dict[str, dict[str, int]] = {}
        for trial in self._trials():
            states = table.setdefault(trial.user_attrs["kind"], {})
            name = trial.state.name.lower()
            states[name] = states.get(name, 0) + 1
        return table


def _ranked(candidates: Sequence[Candidate], metric: Metric) -> list[Candidate]:
    sign = -1 if metric.maximize else 1
    return sorted(candidates, key=lambda c: (sign * c.value, -c.margin, c.number))


def finalists(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The best `count`, among them the best of each kind."""
    chosen = list(candidates[:count])
    for kind in ("baseline", "discrete", "soft"):
        first = next((c for c in candidates if c.kind == kind), None)
        if first is not None and all(c.kind != kind for c in chosen):
            chosen.append(first)
    return chosen


def confirm(
    candidates: Sequence[Candidate], scorer: Scorer, dev: Sequence[Example], count: int, listener: Listener = silent
) -> list[Candidate]:
    """Score the best few, and the best of each kind, again on all of dev; best first."""
    chosen = finalists(candidates, count)
    confirmed = []
    for candidate, score in zip(chosen, scorer.score([c.prompt for c in chosen], dev), strict=True):
        confirmed.append(replace(candidate, value=score.value, loss=score.loss, margin=score.margin))
        listener(Confirmed(candidate.number, candidate.kind, score.value, score.margin, candidate.prompt.fingerprint))
    return _ranked(confirmed, scorer.metric)


def search(
    space: Space,
    scorer: Scorer,
    examples: Sequence[Example],
    options: StudyOptions | None = None,
    folder: Path | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> list[Candidate]:
    """Search a space and confirm the best on all examples; the confirmed candidates, best first.

    Raises StudyError as `Study.run` does.

    >>> from autoprompt.metrics.builtin import accuracy
    >>> from autoprompt.models import load_model
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> space = Space(prompt, instructions=("", "Sports or money?"))
    >>> examples = [Example(0, {"text": "They won the match."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
    >>> found = search(space, Scorer(load_model("builtin"), accuracy), examples, StudyOptions(trials=3))
    >>> found[0].kind in ("baseline", "discrete")
    True
    """
    study = Study(space, scorer, examples, options, folder, seed, listener)
    return confirm(study.run(), scorer, examples, study.options.finalists, listener)
