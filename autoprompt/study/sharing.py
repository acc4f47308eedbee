"""A study that several processes work on: where it is, who takes part, and what a new one must know."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from autoprompt.errors import StudyError
from autoprompt.study.storages import Store, open_storage

__all__ = ["Posting", "Roll", "Shared", "joined", "publish", "published"]


@dataclass(frozen=True)
class Shared:
    """A study in a storage that other processes reach too.

    storage: as for `open_storage`. name: of the study there. worker: the number of this process; 0 is
    the main one, which confirms the winner; `joined` gives out the others. beat: seconds between two
    signs of life; grace: after so many without one, another takes a batch over.
    """

    storage: str
    name: str
    worker: int = 0
    beat: float = 10.0
    grace: float = 60.0


class Roll:
    """The workers of a study and the notes that they leave for each other: an Optuna study beside it.

    Its trials are the workers: the storage numbers them, so no number is given out twice. Its
    attributes are notes, each with one writer.
    """

    def __init__(self, store: Store, name: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._store = store
        self._storage, self._id = store.beside(f"{name}.workers")

    def sign(self) -> int:
        """A number that no other worker has, from 1 on."""
        made = self._store.steadily(lambda: self._storage.create_new_trial(self._id))
        number = self._store.steadily(lambda: self._storage.get_trial(made)).number
        self._store.steadily(lambda: self._storage.set_trial_state_values(made, TrialState.COMPLETE, [0.0]))
        return number + 1

    def write(self, key: str, value: Any) -> None:
        self._store.steadily(lambda: self._storage.set_study_user_attr(self._id, key, value))

    def read(self) -> dict[str, Any]:
        return self._store.steadily(lambda: self._storage.get_study_user_attrs(self._id))


def joined(shared: Shared) -> Shared:
    """The same study for a new worker, with a number of its own."""
    return replace(shared, worker=Roll(open_storage(shared.storage), shared.name).sign())


@dataclass(frozen=True)
class Posting:
    """What a worker must know to join a run.

    settings: the space file as nested values, those that were given alone, without anything secret.
    base: the folder in which its relative paths begin. fingerprints: of data and models. left_out: by
    split, numbers of examples that no prompt is scored on. scores: the file of the engine's memory,
    used where the worker can reach it. beat, grace: as in `Shared`.
    """

    settings: Mapping[str, Any]
    base: str
    fingerprints: Mapping[str, Any]
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)
    scores: str | None = None
    beat: float = 10.0
    grace: float = 60.0


def publish(shared: Shared, posting: Posting) -> None:
    """Store what a worker needs to join; the main process does so before it runs its study."""
    roll = Roll(open_storage(shared.storage), shared.name)
    roll.write("halt", "")  # of an earlier process
    roll.write("run", asdict(posting))


def published(shared: Shared, wait: float = 60.0) -> Posting:
    """What `publish` stored; waits for it for so many seconds.

    Raises StudyError when nobody has published such a run.
    """
    roll = Roll(open_storage(shared.storage), shared.name)
    until = time.monotonic() + wait
    while (found := roll.read().get("run")) is None:
        if time.monotonic() >= until:
            raise StudyError(
                f"The storage has no run {shared.name!r} that a worker could join. Start the run first, with this "
                "storage, and give its name."
            )
        time.sleep(0.5)
    return Posting(**found)
