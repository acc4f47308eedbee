"""Batches of a study that several processes work on: taken, taken over, waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from optuna.trial import FrozenTrial

from autoprompt.events import BatchPlanned
from autoprompt.study.asking import Asking, Plan
from autoprompt.study.beats import Beats
from autoprompt.study.board import Board, Ticket
from autoprompt.study.history import History
from autoprompt.study.records import Asked
from autoprompt.study.trials import Trials

__all__ = ["AskingTogether"]


class AskingTogether(Asking):
    """Each worker asks a batch by itself and races it by itself; batches of several interleave.

    What a batch was asked with is stored with its ticket, so that another worker can race it again,
    to the same result, when its own one has died. The main process waits for the others at the end.

    refreshed: called when the trials were looked at again. pause: seconds between two looks while
    there is nothing to do.
    """

    def __init__(
        self, plan: Plan, trials: Trials, board: Board, beats: Beats, refreshed: Callable[[], None], pause: float
    ) -> None:
        super().__init__(plan, trials)
        self._board, self._beats, self._refreshed, self._pause = board, beats, refreshed, pause

    def ask(self) -> list[FrozenTrial]:
        while True:
            self._refresh()
            ticket = self._left() or self._next()
            if ticket is None:
                if self._begun and (not self._open or (self.trials.worker and not self._room)):
                    return []
                self._wait()
            elif ticket.batch and not self._begun:
                self._wait()
            else:
                self.stop_if_told()
                self._beats.busy(ticket.batch)
                if members := self._taken_up(ticket):
                    return members

    @property
    def _begun(self) -> bool:
        """Whether the baseline is told: what all others are compared with comes first. The trials were looked at before
        the batches, and may lack it still."""
        return bool(self._board.tickets) and self._board.tickets[0].ended and bool(self.trials.all())

    @property
    def _open(self) -> bool:
        """Whether any batch is not told."""
        return any(not ticket.ended for ticket in self._board.tickets)

    @property
    def _room(self) -> bool:
        """Whether another batch may have trials, with as many in the others as they can come to."""
        return bool(self._able(self._grant(len(self._board.tickets))))

    def _wait(self) -> None:
        self.stop_if_told()
        time.sleep(self._pause)

    def ended(self, batch: int) -> None:
        """A batch is told."""
        self._board.end(batch)
        self._beats.busy(None)

    def _look_back(self, batch: int) -> History:
        alone = all(ticket.worker == 0 for ticket in self._board.tickets)
        return History.seen(self._board.tickets[batch], self.trials, self.plan.metric, alone)

    def _refresh(self) -> None:
        self.trials.refresh()  # before the batches, see `_looked`
        self._board.refresh()
        self._beats.look()
        self._refreshed()

    # -- whose turn it is ------------------------------------------------------------------------

    def _left(self) -> Ticket | None:
        """A batch of this worker's own, or of one that has died, that has not ended."""
        for ticket in self._board.tickets:
            if ticket.ended:
                continue
            if ticket.worker == self.trials.worker:
                if not self._beats.others_on(ticket.batch):
                    return ticket
            elif not self._beats.others_on(ticket.batch, ticket.worker):
                self._beats.busy(ticket.batch)
                self._beats.look()
                others = self._beats.others_on(ticket.batch)
                if not others or self.trials.worker < others[0]:  # several may find it at once: one goes on
                    return ticket
                self._beats.busy(None)
        return None

    def _next(self) -> Ticket | None:
        """A new batch; None where nothing is left to ask, or what others are on is to be told first."""
        tickets = self._board.tickets
        if tickets:
            last = max(t.batch for t in tickets if t.size != 0)
            if not self._begun or not self._room:
                return None
            if (self._open and self._is_barren(last)) or self.is_at_end(last):  # what others are on may show a way
                return None
        self.stop_if_told()
        return self._board.take()

    def _fruitless(self, last: int) -> list[int]:
        """But for those that did not see a batch that is told by now: after it, they could find something."""
        tickets = self._board.tickets
        told = {ticket.batch for ticket in tickets if ticket.ended and ticket.size}
        return [batch for batch in super()._fruitless(last) if told.isdisjoint(tickets[batch].open)]

    def _grant(self, batch: int) -> int:
        """The most candidates of a batch, so that all batches before it find room too."""
        if batch == 0:
            return 1
        size = self.plan.options.batch
        taken = sum(ticket.most(size) for ticket in self._board.tickets[:batch])
        return max(0, min(size, self.plan.options.trials - taken))

    # -- a batch ---------------------------------------------------------------------------------

    def _taken_up(self, ticket: Ticket) -> list[FrozenTrial]:
        """The trials of a batch, asked as far as they are not; none, where there is nothing to race."""
        if ticket.size is None:
            ticket = self._asked(ticket)
        self.trials.refresh()
        members = self.trials.members(ticket.batch)
        if all(trial.state.is_finished() for trial in members):
            if not ticket.ended:
                self._board.end(ticket.batch)
            return []
        return members

    def _asked(self, ticket: Ticket) -> Ticket:
        """A batch that is whole from now on."""
        batch, own = ticket.batch, ticket.worker == self.trials.worker
        if batch == 0:
            if not self.trials.members(0):
                self.trials.add(Asked(self.plan.baseline, "baseline"), 0, 1)
            return self._board.asked(0, 1, "baseline")
        if own and ticket.grant is None:
            ticket = self._looked(ticket)
        if not own or not ticket.grant:  # who was to make it has died
            return self._board.asked(batch, len(self.trials.members(batch)))
        members, history = self.trials.members(batch), self.before(batch)
        if members and not history.alone:  # killed in the middle; the others may have used what it would make
            return self._board.asked(batch, len(members))
        branch = members[0].user_attrs["branch"] if members else self._turn_of(self._able(ticket.grant), history)
        return self._made(branch, history, ticket.grant)

    def _looked(self, ticket: Ticket) -> Ticket:
        """Its view. The trials were looked at before the batches, so that none is taken for ended that
        is not; what has ended in between is seen now."""
        upto = len(self.trials.all())
        open_ = [t.batch for t in self._board.tickets if not t.ended and t.batch != ticket.batch]
        self.trials.refresh()
        ticket = self._board.looked(ticket.batch, self._grant(ticket.batch), upto, open_)
        return ticket if self._able(ticket.grant or 0) else replace(ticket, grant=0)

    def _made(self, branch: str, history: History, size: int) -> Ticket:
        """Let a branch make a batch, but for what others are on, and store it."""
        batch = history.batch
        found = self._found(branch, history, size)
        self.trials.refresh()
        self._board.refresh()
        if self._board.tickets[batch].size is not None:  # this worker was thought dead, and another closed it
            return self._board.tickets[batch]
        taken = self._look_back(batch).taken  # also what the others asked meanwhile
        asked = [a for a in found.asked if a.prompt is None or a.prompt.fingerprint not in taken][:size]
        start = len(self.trials.members(batch))
        for slot, candidate in enumerate(asked[start:], start):
            self.trials.add(candidate, batch, len(asked), found.tokens, slot)
        self.plan.listener(BatchPlanned(batch, branch, max(start, len(asked))))
        return self._board.asked(batch, max(start, len(asked)), branch, found.tokens)
