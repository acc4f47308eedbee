"""The batches of a shared study: who has which, and what was known when it was asked.

A batch is a trial of a second Optuna study: the storage numbers them, so that no batch is given out
twice, and each has as many candidates at most as are left. That needs no clock and no lock, and works
on every storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoprompt.study.storages import Store

__all__ = ["Board", "Ticket"]


@dataclass(frozen=True)
class Ticket:
    """A batch.

    worker: who asks it. grant: the most candidates that it may have; None until it has looked. upto,
    open: its view: the trials with numbers below `upto`, but for those of the batches that were open.
    size: the candidates that it has, once it is whole. branch, tokens: who made them, and what that
    took. ended: all of it is told.
    """

    batch: int
    worker: int
    grant: int | None = None
    upto: int = 0
    open: tuple[int, ...] = ()
    size: int | None = None
    branch: str = ""
    tokens: int = 0
    ended: bool = False

    def most(self, batch: int) -> int:
        """The most trials that it may come to, in a search with batches of `batch`."""
        known = self.size if self.size is not None else self.grant
        if known is not None:
            return known
        return batch if self.batch else 1


class Board:
    """The tickets of a study. worker: the number of this process."""

    def __init__(self, store: Store, name: str, worker: int) -> None:
        self._store, self._worker = store, worker
        self._storage, self._id = store.beside(f"{name}.batches")
        self._trials: list[FrozenTrial] = []
        self.tickets: list[Ticket] = []
        self.refresh()

    def refresh(self) -> None:
        """See what others have done."""
        self._trials = self._store.steadily(lambda: self._storage.get_all_trials(self._id, deepcopy=False))
        self.tickets = [_ticket(trial) for trial in self._trials]

    def take(self) -> Ticket:
        """A new batch, of this worker."""
        template = create_trial(state=TrialState.RUNNING, user_attrs={"worker": self._worker})
        made = self._store.steadily(lambda: self._storage.create_new_trial(self._id, template))
        self.refresh()
        return next(self.tickets[t.number] for t in self._trials if t._trial_id == made)

    def looked(self, batch: int, grant: int, upto: int, open_: Sequence[int]) -> Ticket:
        """Note how many candidates a batch may have, and its view, which stays as it is."""
        self._note(batch, "view", {"grant": grant, "upto": upto, "open": list(open_)})
        return self._now(batch, grant=grant, upto=upto, open=tuple(open_))

    def asked(self, batch: int, size: int, branch: str = "", tokens: int = 0) -> Ticket:
        """Note that a batch is whole; one that is empty has ended."""
        self._note(batch, "asked", {"size": size, "branch": branch, "tokens": tokens})
        ticket = self._now(batch, size=size, branch=branch, tokens=tokens)
        return ticket if size else self.end(batch)

    def end(self, batch: int) -> Ticket:
        """Note that a batch is told; whoever comes second changes nothing."""
        trial = self._trials[batch]
        with suppress(UpdateFinishedTrialError):
            self._store.steadily(
                lambda: self._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.0]),
                lambda: self._storage.get_trial(trial._trial_id).state.is_finished() or None,
            )
        return self._now(batch, ended=True)

    def _note(self, batch: int, key: str, value: dict[str, Any]) -> None:
        trial = self._trials[batch]
        with suppress(UpdateFinishedTrialError):  # another worker has ended it
            self._store.steadily(lambda: self._storage.set_trial_user_attr(trial._trial_id, key, value))

    def _now(self, batch: int, **changes: Any) -> Ticket:
        self.tickets[batch] = replace(self.tickets[batch], **changes)
        return self.tickets[batch]


def _ticket(trial: FrozenTrial) -> Ticket:
    attrs = trial.user_attrs
    view, asked = attrs.get("view", {}), attrs.get("asked", {})
    return Ticket(
        trial.number, attrs["worker"], view.get("grant"), view.get("upto", 0), tuple(view.get("open", ())),
        asked.get("size"), asked.get("branch", ""), asked.get("tokens", 0), trial.state.is_finished(),
    )  # fmt: skip
