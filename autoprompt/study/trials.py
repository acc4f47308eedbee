"""What is stored of a search: one record when a trial is asked, a few when it is told.

Everything that the search decides by is stored with the trials: a resumed search reads its past
from here and scores nothing again. Vectors lie beside the study, by the fingerprint of their prompt,
written through to the disk before the trial that names them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from safetensors.numpy import load_file

from autoprompt.prompt import Prompt
from autoprompt.racing import Lane
from autoprompt.results import repair_tail, write_bytes
from autoprompt.space import Space, Stored

__all__ = ["Asked", "Brief", "Kind", "Told", "Trials", "by_batch"]

Kind = Literal["baseline", "discrete", "soft"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A candidate before it is scored.

    params, distributions: what Optuna knows of it. operator, parents: its lineage. notes: what its
    branch must know of it later. reason: why it cannot be scored, if it cannot.
    """

    prompt: Prompt | None
    branch: str
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    operator: str = ""
    parents: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def kind(self) -> Kind:
        if self.branch == "baseline":
            return "baseline"
        return "discrete" if self.prompt is None else self.prompt.kind


@dataclass(frozen=True)
class Told:
    """What a candidate got, on as many examples as it was scored on.

    lane: per example. loss, margin: means. gain: mean advantage over the baseline in evidence. looks:
    the metric after each slice. work: tokens, counted as if nothing were remembered; tokens, seconds:
    what it really took.
    """

    lane: Lane
    loss: float
    margin: float
    gain: float
    looks: Mapping[int, float]
    work: int
    tokens: int = 0
    seconds: float = 0.0


class _Journal(JournalFileBackend):
    """Optuna's journal file, whose lines reach the disk when `sync` is called and not one by one.

    A process that is killed loses none of what it wrote. What a machine loses that goes down, at most
    the batch that was not committed yet, is asked and scored again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))  # with a lock that nothing takes: the run folder is held by this process alone
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._path.open("ab") as file:
            file.writelines(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)

    def sync(self) -> None:
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())


class Brief(NamedTuple):
    """What is asked for of every told trial again and again. examples: that it was scored on."""

    prompt: Prompt
    fingerprint: str
    value: float
    examples: int
    complete: bool


class Trials:
    """The trials of one search, in Optuna's storage.

    folder: where they are kept; None keeps them in memory. directions: of the metric, and of the
    prompt's size where that is an objective.
    """

    def __init__(self, folder: Path | None, space: Space, directions: tuple[StudyDirection, ...]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._space = folder, space
        storage: InMemoryStorage | JournalStorage = InMemoryStorage()
        self._journal: _Journal | None = None
        if folder is not None:
            path = folder / "study.journal"
            repair_tail(path)
            self._journal = _Journal(path)
            storage = JournalStorage(self._journal)
        self.study = optuna.create_study(
            storage=storage, study_name="autoprompt", directions=list(directions), load_if_exists=True
        )
        self._storage = storage
        self._all = self.study.get_trials(deepcopy=False)
        self._prompts: dict[int, Prompt] = {}
        self._lanes: dict[int, Lane] = {}
        self._briefs: dict[int, Brief] = {}

    # -- ask -------------------------------------------------------------------------------------

    def add(self, asked: Asked, batch: int, size: int, tokens: int = 0) -> FrozenTrial:
        """Store a candidate as a running trial, in one record. size: candidates of its batch.

        tokens: what the branch took to find the batch, counted as if nothing were remembered.
        """
        attrs = {
            "kind": asked.kind,
            "branch": asked.branch,
            "batch": batch,
            "size": size,
            "tokens": tokens,
            "operator": asked.operator,
            "parents": list(asked.parents),
            **asked.notes,
        }
        if asked.prompt is not None:
            attrs["fingerprint"] = asked.prompt.fingerprint
            attrs |= self._kept(asked.prompt, asked)
        if asked.reason:
            attrs["reason"] = asked.reason
        now = datetime.now()
        template = FrozenTrial(
            number=-1, trial_id=-1, state=TrialState.RUNNING, value=None, datetime_start=now, datetime_complete=None,
            params=dict(asked.params), distributions=dict(asked.distributions), user_attrs=attrs, system_attrs={},
            intermediate_values={},
        )  # fmt: skip
        # the storage's own call: `study.ask` would write every parameter and attribute by itself
        trial = self._storage.get_trial(self._storage.create_new_trial(self.study._study_id, template))
        self._all.append(trial)
        if asked.prompt is not None:
            self._prompts[trial.number] = asked.prompt
        return trial

    def _kept(self, prompt: Prompt, asked: Asked) -> dict[str, Any]:
        """The prompt as an attribute, where the space cannot make it again; its vectors go to a file."""
        if self._folder is None or asked.branch == "baseline" or (asked.params and prompt.soft is None):
            return {}
        if prompt.soft is not None:
            write_bytes(self._vectors_of(prompt.fingerprint), prompt.vector_bytes() or b"")
        record = prompt.to_dict()
        if prompt.retrieval is not None and prompt.retrieval.pool == self._space.shown:
            record["retrieval"]["pool"] = None  # the space has it, and it is long
        return {"prompt": record}

    def _vectors_of(self, fingerprint: str) -> Path:
        assert self._folder is not None
        return self._folder / "vectors" / f"{fingerprint}.safetensors"

    # -- tell ------------------------------------------------------------------------------------

    def tell(self, trial: FrozenTrial, told: Told, complete: bool) -> None:
        """What a trial got, then its state. A trial that was dropped is PRUNED. It stands when it is committed."""
        lane = told.lane
        record = {
            "examples": len(lane.evidence), "value": lane.value, "loss": told.loss, "margin": told.margin,
            "gain": told.gain, "work": told.work, "tokens": told.tokens,
            "seconds": told.seconds, "size": lane.size, "looks": {str(n): v for n, v in told.looks.items()},
            "evidence": _packed(lane.evidence), "values": None if lane.values is None else _packed(lane.values),
        }  # fmt: skip
        self._storage.set_trial_user_attr(trial._trial_id, "score", record)
        self._lanes[trial.number] = lane
        several = len(self.study.directions) > 1
        values = [lane.value, lane.size] if several else [lane.value]
        if complete:
            self._end(trial, TrialState.COMPLETE, values)
        elif several:  # of a pruned trial with two objectives Optuna keeps no values
            self._end(trial, TrialState.PRUNED)
        else:  # its value is that of the last report
            self._storage.set_trial_intermediate_value(trial._trial_id, len(lane.evidence), lane.value)
            self._end(trial, TrialState.PRUNED, values)

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """What a trial is told that could not be scored."""
        self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        self._end(trial, TrialState.FAIL)

    def commit(self) -> None:
        """Write what was told through to the disk."""
        if self._journal is not None:
            self._journal.sync()

    def _end(self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None = None) -> None:
        # the storage's own call: `study.tell` would copy the trial, with all that it carries, several times
        self._storage.set_trial_state_values(trial._trial_id, state, values)
        self._all[trial.number] = self._storage.get_trial(trial._trial_id)

    # -- read ------------------------------------------------------------------------------------

    def all(self) -> Sequence[FrozenTrial]:
        """Every trial, by number, as it is now."""
        return self._all

    def lane(self, trial: FrozenTrial) -> Lane:
        """What a told trial got on the examples that it was scored on."""
        if trial.number not in self._lanes:
            self._lanes[trial.number] = _lane_of(trial)
        return self._lanes[trial.number]

    def brief(self, trial: FrozenTrial) -> Brief:
        """A told trial in brief."""
        found = self._briefs.get(trial.number)
        if found is None:
            score, prompt = trial.user_attrs["score"], self.prompt(trial)
            whole = trial.state == TrialState.COMPLETE
            found = Brief(prompt, trial.user_attrs["fingerprint"], score["value"], score["examples"], whole)
            self._briefs[trial.number] = found
        return found

    def prompt(self, trial: FrozenTrial) -> Prompt:
        """The prompt of a trial, made again from what is stored of it."""
        if trial.number not in self._prompts:
            self._prompts[trial.number] = self._read(trial)
        return self._prompts[trial.number]

    def _read(self, trial: FrozenTrial) -> Prompt:
        attrs = trial.user_attrs
        if attrs["kind"] == "baseline":
            return self._space.baseline
        if attrs["kind"] == "discrete" and trial.params:
            return self._space.discrete(Stored(trial.params))
        record = attrs["prompt"]
        vectors = None
        if record["soft"]:
            vectors = np.asarray(load_file(self._vectors_of(attrs["fingerprint"]))["vectors"], dtype=np.float32)
        retrieval = record["retrieval"]
        if retrieval is None or retrieval["pool"] is not None:
            return Prompt.from_dict(record, vectors)
        prompt = Prompt.from_dict({**record, "retrieval": None}, vectors)
        return replace(prompt, retrieval=self._space.retrieved(retrieval["number"]))

    # -- notes of the search itself --------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        self.study.set_user_attr(key, value)

    def noted(self, key: str) -> Any | None:
        return self.study.user_attrs.get(key)

    def empty(self) -> dict[int, tuple[str, int]]:
        """Batches for which the branch of the turn had nothing to propose: the branch, and the tokens it took."""
        return {int(batch): (turn[0], turn[1]) for batch, turn in (self.noted("empty") or {}).items()}


def by_batch(trials: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Trials by the number of their batch, both in order."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs["batch"], []).append(trial)
    return found


def _lane_of(trial: FrozenTrial) -> Lane:
    score = trial.user_attrs["score"]
    values = None if score["values"] is None else _unpacked(score["values"])
    return Lane(trial.number, _unpacked(score["evidence"]), score["value"], values, score["size"])


def _packed(numbers: Floats) -> str:
    return base64.b64encode(np.asarray(numbers, dtype="<f8").tobytes()).decode()


@lru_cache(maxsize=64)
def _unpacked(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), dtype="<f8")
