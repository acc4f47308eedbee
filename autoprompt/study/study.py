"""The loop of a search: ask, score, tell, stop, resume."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from pathlib import Path

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprompt.data import Example
from autoprompt.errors import AutopromptError, StudyError
from autoprompt.events import BatchPlanned, Listener, Notice, TrialFailed, TrialFinished, silent
from autoprompt.models import LanguageModel
from autoprompt.racing import in_class_turns
from autoprompt.samplers import next_branch
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study.branches import Found
from autoprompt.study.candidates import Candidate, confirm, ranked
from autoprompt.study.heats import Heats, Runner
from autoprompt.study.history import History
from autoprompt.study.options import StudyOptions
from autoprompt.study.plan import branches_of
from autoprompt.study.trials import Asked, Told, Trials

__all__ = ["Study"]


class Study:
    """One search: discrete and soft prompts in one Optuna study.

    A batch is asked whole by one branch, then raced, then told; telling a trial is what commits it.
    Which branch gets the next batch is decided by what each has lately earned. What a killed run had
    asked and not told is raced again under the same numbers, so that a resumed study reaches the
    trials of one that was never killed.

    folder: where the study and what is large are kept; None keeps them in memory. heard: numbers of
    trials that the listener was told of by an earlier process; the other finished ones, whose
    process died between committing and telling, are told when the study runs. writer: the model that
    writes and fills in for the proposers; None takes the task model.
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
        writer: LanguageModel | None = None,
    ) -> None:
        self.space, self.scorer, self.seed, self.listener = space, scorer, seed, listener
        self.heard = heard
        self.options = options or StudyOptions()
        self.examples = in_class_turns(examples, seed)
        metric = scorer.metric
        direction = StudyDirection.MAXIMIZE if metric.maximize else StudyDirection.MINIMIZE
        directions = (direction, StudyDirection.MINIMIZE) if self.options.several else (direction,)
        self.trials = Trials(folder, space, directions)
        self.study = self.trials.study
        self._branches = branches_of(space, scorer, self.options, self.trials, seed, writer)
        self._history: History | None = None
        self._heats = Heats(space, scorer, self.examples, self.options, self.trials)

    def run(self) -> list[Candidate]:
        """Ask, score and tell until all trials are done; all candidates that saw every example, best first.

        Raises StudyError when the baseline fails or more than half of the trials do.
        """
        for trial in self.trials.all():
            if trial.state.is_finished() and trial.number not in self.heard:
                self._announce(trial)
        while batch := self.ask():
            raced = self.raced(batch)
            self.tell(raced)
            for runner in raced:  # not before all are told: two may have the same prompt
                if runner.fate != "stays":
                    self.scorer.forget(self.trials.prompt(runner.trial))
            self._check_failures()
        return self.candidates()

    # -- ask ---------------------------------------------------------------------------------

    def ask(self) -> list[FrozenTrial]:
        """All trials of the batch that is to be raced, some of which may be told; empty when all is done."""
        while True:
            members = self._last_batch()
            batch = members[0].user_attrs["batch"] if members else -1
            if members and len(members) < self._whole(members):
                history = self._before(batch)
                self._ask_by(members[0].user_attrs["branch"], history, members[0].user_attrs["size"], len(members))
            elif any(not t.state.is_finished() for t in members):
                return members
            elif not self._ask_next(max([batch, *self.trials.empty()]) + 1):
                return []

    def _last_batch(self) -> list[FrozenTrial]:
        trials = self.trials.all()
        if not trials:
            return []
        last = trials[-1].user_attrs["batch"]
        return list(trials[bisect_left(trials, last, key=lambda trial: trial.user_attrs["batch"]) :])

    def _before(self, batch: int) -> History:
        """What is known before a batch, which does not change while it is asked and raced."""
        if self._history is None or self._history.batch != batch:
            self._history = History.before(batch, self.trials, self.scorer.metric)
        return self._history

    def _whole(self, members: Sequence[FrozenTrial]) -> int:
        """How many candidates a batch has when it is asked; fewer, where its branch could not make them again."""
        attrs = members[0].user_attrs
        return int((self.trials.noted("short") or {}).get(str(attrs["batch"]), attrs["size"]))

    def _ask_next(self, batch: int) -> bool:
        """Ask the batch of the next branch; whether there is anything left to do."""
        if batch == 0:
            self.trials.add(Asked(self.space.baseline, "baseline"), 0, 1)
            return True
        history = self._before(batch)
        size = min(self.options.batch, self.options.trials - len(history.ended))
        names = [name for name, branch in self._branches.items() if size == self.options.batch or not branch.whole]
        end = self._end(history) if size > 0 and names else ""
        if end:
            self.listener(Notice(f"The search ends after {len(history.ended)} trials: {end}"))
        if end or size <= 0 or not names:
            return False
        self._ask_by(self._turn_of(names, history), history, size, 0)
        return True

    def _end(self, history: History) -> str:
        """Why a search ends before its trials are done, or nothing."""
        if self.options.evaluations is not None and (spent := self.evaluations()) >= self.options.evaluations:
            return f"{spent:,} evaluations are spent, and {self.options.evaluations:,} are allowed."
        barren = [at for at in self.trials.empty() if at > history.ended[-1].user_attrs["batch"]]
        if len(barren) > 4 * len(self._branches):
            return f"none of the branches {', '.join(self._branches)} finds anything new."
        return ""

    def _turn_of(self, names: Sequence[str], history: History) -> str:
        """The branch of a batch: the space itself until it is known a little, then whoever earns."""
        exhausted = any(turn.branch == "discrete" for _, turn in history.empty)
        if "discrete" in names and not exhausted and len(history.told) <= self.options.startup:
            return "discrete"
        turns = [turn for turn in history.turns() if turn.branch in names]
        return next_branch(names, turns, self.seed, self.options.floor)

    def _ask_by(self, branch: str, history: History, size: int, start: int) -> None:
        """Let a branch make the batch behind `history`, and store it from number `start` on; an empty one is noted."""
        batch = history.batch
        try:
            found = self._branches[branch].find(history, size, len(history.ended))
        except AutopromptError as error:  # such as a training that ran away: the others go on
            self.listener(Notice(f"The branch {branch!r} of the search made nothing this time: {error}"))
            found = Found()
        for asked in found.asked[start:]:
            self.trials.add(asked, batch, len(found.asked), found.tokens)
        if start and len(found.asked) < size:  # it had made more when an earlier process asked it
            self.trials.note("short", {**(self.trials.noted("short") or {}), str(batch): max(start, len(found.asked))})
        elif not found.asked:
            self.trials.note("empty", {**(self.trials.noted("empty") or {}), str(batch): [branch, found.tokens]})
        self.listener(BatchPlanned(batch, branch, max(start, len(found.asked))))

    # -- race and tell ------------------------------------------------------------------------

    def raced(self, batch: Sequence[FrozenTrial]) -> list[Runner]:
        """The batch, raced; those that are not told yet."""
        return self._heats.run(batch, self._before(batch[0].user_attrs["batch"]))

    def tell(self, raced: Sequence[Runner]) -> None:
        """Commit trials, and then tell the listener of them."""
        for runner in raced:
            self._tell(runner)
        self.trials.commit()
        for runner in raced:
            self._announce(self.trials.all()[runner.trial.number])

    def _tell(self, runner: Runner) -> None:
        trial, score, lane = runner.trial, runner.score, runner.lane
        if runner.reason or score is None or lane is None:
            self.trials.fail(trial, runner.reason)
        else:
            baseline = lane if trial.number == 0 else self.trials.lane(self.trials.all()[0])
            seen = len(lane.evidence)
            advantage = lane.evidence - baseline.evidence[:seen]
            prompt = self.trials.prompt(trial)
            told = Told(
                lane, score.loss, score.margin, float(advantage.mean()), runner.looks,
                self.scorer.work(prompt, self.examples[:seen]), round(runner.tokens), runner.seconds,
            )  # fmt: skip
            self.trials.tell(trial, told, complete=seen == len(self.examples))

    def _announce(self, trial: FrozenTrial) -> None:
        """Tell the listener of a trial that is committed."""
        attrs = trial.user_attrs
        if trial.state == TrialState.FAIL:
            self.listener(TrialFailed(trial.number, attrs["kind"], attrs["reason"]))
            return
        score = attrs["score"]
        self.listener(
            TrialFinished(
                trial.number, attrs["kind"], score["value"], score["margin"], score["examples"], score["tokens"],
                score["seconds"], attrs["fingerprint"], self.trials.prompt(trial).placeholder_text(), attrs["branch"],
                trial.state == TrialState.PRUNED, attrs["operator"], tuple(attrs["parents"]), score["gain"],
                score["size"],
            )
        )  # fmt: skip

    def _check_failures(self) -> None:
        trials = self.trials.all()
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
        """All that saw every example, best first: by the metric, ties by the margin; each prompt once.

        Behind them, of a kind that none of them has, the most promising that was dropped.
        """
        first: dict[str, Candidate] = {}
        trials = self.trials.all()
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                candidate = Candidate.of(trial, self.trials.prompt(trial))
                first.setdefault(candidate.prompt.fingerprint, candidate)
        found = ranked(list(first.values()), self.scorer.metric)
        if not found:
            return []
        kinds = {candidate.kind for candidate in found}
        history = History.before(1 + trials[-1].user_attrs["batch"], self.trials, self.scorer.metric)
        for known in history.known:
            candidate = Candidate.of(trials[known.number], known.prompt)
            if candidate.kind not in kinds:
                kinds.add(candidate.kind)
                found.append(candidate)
        return found

    def confirm(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best on all examples, the winner first; see `candidates.confirm`."""
        raced = len([t for t in self.trials.all() if "score" in t.user_attrs]) - 1
        return confirm(candidates, self.scorer, self.examples, self.options, raced, self._heats.scale, self.listener)

    def counts(self) -> dict[str, dict[str, int]]:
        """Trials by kind and state: complete, pruned (dropped in a race), fail."""
        return self._counted("kind")

    def evaluations(self) -> int:
        """(prompt, example) pairs that the search scored."""
        return sum(t.user_attrs["score"]["examples"] for t in self.trials.all() if "score" in t.user_attrs)

    def counts_by_branch(self) -> dict[str, dict[str, int]]:
        """Trials by branch and state."""
        return self._counted("branch")

    def _counted(self, by: str) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for trial in self.trials.all():
            states = table.setdefault(trial.user_attrs[by], {})
            name = trial.state.name.lower()
            states[name] = states.get(name, 0) + 1
        return table
