"""What is stored of a search: one record when a trial is asked, a few when it is told.

Everything that the search decides by is stored with the trials: a resumed search, or another worker,
reads the past from here and scores nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprompt.prompt import Prompt
from autoprompt.racing import Lane
from autoprompt.space import Space
from autoprompt.study.board import Board
from autoprompt.study.keeping import Keeper
from autoprompt.study.records import Asked, Brief, Told, lane_of
from autoprompt.study.sharing import Shared
from autoprompt.study.storages import Store, open_storage

__all__ = ["Trials"]


class Trials:
    """The trials of one search, in Optuna's storage.

    place: the folder where they are kept, of this process alone; a study that several share; None
    keeps them in memory. directions: of the metric, and of the prompt's size where that is an objective.
    """

    def __init__(self, place: Path | Shared | None, space: Space, directions: tuple[StudyDirection, ...]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are told in our own words
        shared = place if isinstance(place, Shared) else None
        file = place / "study.journal" if isinstance(place, Path) else None
        self.store: Store = open_storage(shared.storage if shared else file)
        name = shared.name if shared else "autoprompt"
        self.study = self.store.steadily(
            lambda: optuna.create_study(
                storage=self.store.storage, study_name=name, directions=list(directions), load_if_exists=True
            )
        )
        self._storage, self._id = self.study._storage, self.study._study_id
        self.worker = shared.worker if shared else 0
        self.board = Board(self.store, name, self.worker) if shared else None
        self._keeper = Keeper(space, self.store.folder)
        self._prompts: dict[int, Prompt] = {}
        self._lanes: dict[int, Lane] = {}
        self._briefs: dict[int, Brief] = {}
        self._made: dict[int, Prompt] = {}  # by the storage's own number of the trial
        self._all: list[FrozenTrial] = []
        self.refresh()

    def refresh(self) -> None:
        """See what others have stored."""
        self._all = self.store.steadily(lambda: self._storage.get_all_trials(self._id, deepcopy=False))
        if self._made:
            self._prompts |= {t.number: self._made.pop(t._trial_id) for t in self._all if t._trial_id in self._made}

    # -- ask -------------------------------------------------------------------------------------

    def add(self, asked: Asked, batch: int, size: int, tokens: int = 0, slot: int = 0) -> None:
        """Store a candidate as a running trial, in one record. size: candidates of its batch; slot: its place there.

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
        if self.board is not None:
            attrs |= {"worker": self.worker, "mark": [batch, slot]}
        if asked.prompt is not None:
            attrs["fingerprint"] = asked.prompt.fingerprint
            attrs |= {} if self.store.kind == "memory" else self._keeper.kept(asked)
        if asked.reason:
            attrs["reason"] = asked.reason
        now = datetime.now()
        template = FrozenTrial(
            number=-1, trial_id=-1, state=TrialState.RUNNING, value=None, datetime_start=now, datetime_complete=None,
            params=dict(asked.params), distributions=dict(asked.distributions), user_attrs=attrs, system_attrs={},
            intermediate_values={},
        )  # fmt: skip
        # the storage's own call: `study.ask` would write every parameter and attribute by itself
        made = self.store.steadily(
            lambda: self._storage.create_new_trial(self._id, template), lambda: self._marked([batch, slot])
        )
        if asked.prompt is not None:
            self._made[made] = asked.prompt
        if self.board is None:
            self._all.append(self._storage.get_trial(made))
            self._prompts |= {self._all[-1].number: self._made.pop(made)} if made in self._made else {}

    def _marked(self, mark: list[int]) -> int | None:
        """The storage's number of a trial, where it was stored although the answer was lost."""
        trials = self._storage.get_all_trials(self._id, deepcopy=False)
        return next((t._trial_id for t in trials if t.user_attrs.get("mark") == mark), None)

    # -- tell ------------------------------------------------------------------------------------

    def tell(self, trial: FrozenTrial, told: Told, complete: bool) -> None:
        """What a trial got, then its state; where another worker has told it, that stands.

        A trial that was dropped is PRUNED. All stands when it is committed.
        """
        lane = told.lane
        several = len(self.study.directions) > 1
        values = [lane.value, lane.size] if several else [lane.value]
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        try:
            self._put(trial, "score", told.record())
            if not complete and not several:  # its value is that of the last report
                self.store.steadily(
                    lambda: self._storage.set_trial_intermediate_value(trial._trial_id, len(lane.evidence), lane.value)
                )
            # of a pruned trial with two objectives Optuna keeps no values
            self._end(trial, state, None if several and not complete else values)
            self._lanes[trial.number] = lane
        except UpdateFinishedTrialError:
            return

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """What a trial is told that could not be scored."""
        try:
            self._put(trial, "reason", reason)
            self._end(trial, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return

    def commit(self) -> None:
        """Write what was told through to the disk."""
        self.store.commit()
        if self.board is not None:
            self.refresh()

    def _put(self, trial: FrozenTrial, key: str, value: Any) -> None:
        self.store.steadily(lambda: self._storage.set_trial_user_attr(trial._trial_id, key, value))

    def _end(self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None = None) -> None:
        # the storage's own call: `study.tell` would copy the trial, with all that it carries, several times
        self.store.steadily(
            lambda: self._storage.set_trial_state_values(trial._trial_id, state, values),
            lambda: self._storage.get_trial(trial._trial_id).state.is_finished() or None,
        )
        if self.board is None:
            self._all[trial.number] = self._storage.get_trial(trial._trial_id)

    # -- read ------------------------------------------------------------------------------------

    def all(self) -> Sequence[FrozenTrial]:
        """Every trial, by number, as it was when last looked at; of a study of this process alone, as it is."""
        return self._all

    def members(self, batch: int) -> list[FrozenTrial]:
        """The trials of a batch, in the order in which its branch made them."""
        found = [t for t in self._all if t.user_attrs["batch"] == batch]
        return sorted(found, key=lambda t: t.user_attrs.get("mark", [batch, t.number])[1])

    def lane(self, trial: FrozenTrial) -> Lane:
        """What a told trial got on the examples that it was scored on."""
        if trial.number not in self._lanes:
            self._lanes[trial.number] = lane_of(trial)
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
            self._prompts[trial.number] = self._keeper.prompt(trial)
        return self._prompts[trial.number]

    # -- notes of the search itself --------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        self.store.steadily(lambda: self._storage.set_study_user_attr(self._id, key, value))

    def noted(self) -> dict[str, Any]:
        return self.store.steadily(lambda: self._storage.get_study_user_attrs(self._id))

    def empty(self) -> dict[int, tuple[str, int]]:
        """Batches for which the branch of the turn had nothing to propose: the branch, and the tokens it took."""
        if self.board is not None:
            return {t.batch: (t.branch, t.tokens) for t in self.board.tickets if t.size == 0 and t.branch}
        return {batch: (turn[0], turn[1]) for batch, turn in self._noted_by_batch("empty").items()}

    def short(self) -> dict[int, int]:
        """Batches that have fewer candidates than they were to have, and how many."""
        return self._noted_by_batch("short")

    def _noted_by_batch(self, what: str) -> dict[int, Any]:
        """Notes of batches, each with a key of its own; an older study has them all in one."""
        notes = self.noted()
        found = {int(key.partition(":")[2]): value for key, value in notes.items() if key.startswith(f"{what}:")}
        return {int(batch): value for batch, value in (notes.get(what) or {}).items()} | found
