"""The loop of a search: ask, score, tell, stop, resume."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprompt.clock import Halt, never
from autoprompt.data import Example
from autoprompt.errors import Halted
from autoprompt.events import Listener, Notice, silent
from autoprompt.models import LanguageModel
from autoprompt.racing import in_class_turns
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study.asking import Asking, Plan
from autoprompt.study.beats import Beats
from autoprompt.study.candidates import Candidate, confirm, ranked
from autoprompt.study.counts import check_failures, counted, evaluations, event_of, tokens
from autoprompt.study.heats import Heats, Runner
from autoprompt.study.history import History
from autoprompt.study.options import StudyOptions
from autoprompt.study.plan import branches_of
from autoprompt.study.records import Told
from autoprompt.study.sharing import Roll, Shared
from autoprompt.study.together import AskingTogether
from autoprompt.study.trials import Trials

__all__ = ["Study"]


class Study:
    """One search: discrete and soft prompts in one Optuna study.

    A batch is asked whole by one branch, then raced, then told; telling a trial is what commits it.
    Which branch gets the next batch is decided by what each has lately earned. What a killed run had
    asked and not told is raced again under the same numbers, so that a resumed study reaches the
    trials of one that was never killed.

    place: the folder where the study and what is large are kept; a study that several processes work
    on, each with such a loop; None keeps all in memory. heard: numbers of trials that the listener was
    told of by an earlier process; the other finished ones, whose process died between committing and
    telling, are told when the study runs. The main process tells of those of all workers. writer: the
    model that writes and fills in for the proposers; None takes the task model. halt: asked before each
    batch and after each look of a race; what it says ends the search, and leaves the batch to be raced
    again by a run that goes on. So does `Halted`, raised while something is scored.
    """

    def __init__(
        self,
        space: Space,
        scorer: Scorer,
        examples: Sequence[Example],
        options: StudyOptions | None = None,
        place: Path | Shared | None = None,
        seed: int = 0,
        listener: Listener = silent,
        heard: Collection[int] = (),
        writer: LanguageModel | None = None,
        halt: Halt = never,
    ) -> None:
        self.space, self.scorer, self.seed, self.listener = space, scorer, seed, listener
        self.options = options or StudyOptions()
        self.examples = in_class_turns(examples, seed)
        self.halted = ""  # why the search was ended from outside
        self._heard, self._halt = set(heard), halt
        metric = scorer.metric
        direction = StudyDirection.MAXIMIZE if metric.maximize else StudyDirection.MINIMIZE
        directions = (direction, StudyDirection.MINIMIZE) if self.options.several else (direction,)
        self.trials = Trials(place, space, directions)
        self.study = self.trials.study
        self._roll = Roll(self.trials.store, place.name) if isinstance(place, Shared) else None
        self._beats: Beats | None = None
        branches = branches_of(space, scorer, self.options, self.trials, seed, writer, len(self.examples))
        plan = Plan(space.baseline, branches, self.options, metric, seed, listener, self._reason)
        self._asking = Asking(plan, self.trials)
        if isinstance(place, Shared) and self._roll is not None and self.trials.board is not None:
            self._beats = Beats(self._roll, place)
            pause = min(1.0, place.beat / 4)
            self._asking = AskingTogether(plan, self.trials, self.trials.board, self._beats, self._tell_of, pause)
        self._heats = Heats(space, scorer, self.examples, self.options, self.trials, self._reason)

    def run(self) -> list[Candidate]:
        """Ask, score and tell until all trials are done; all candidates that saw every example, best first.

        Raises StudyError when the baseline fails or more than half of the trials do, or when the
        storage stays away.
        """
        with self._alive():
            self._tell_of()
            try:
                while batch := self.ask():
                    raced = self.raced(batch)
                    self.tell(raced)
                    for runner in raced:  # not before all are told: two may have the same prompt
                        if runner.fate != "stays":
                            self.scorer.forget(self.trials.prompt(runner.trial))
                    check_failures(self.trials)
            except Halted as halted:
                self.halted = str(halted)
                self.listener(Notice(f"The search ends after {self._ended()} trials: {self.halted}"))
        return self.candidates()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """While this holds, the other workers see that this one lives; the main process ends them with itself."""
        if self._beats is None or self._roll is None:
            yield
            return
        finished = False
        with self._beats:
            try:
                yield
                finished = not self.halted
            finally:
                if not finished and self.trials.worker == 0:
                    self._roll.write("halt", self.halted or "the main process has stopped.")

    def _reason(self) -> str:
        return self._halt() or ("" if self._beats is None else self._beats.halt)

    def _ended(self) -> int:
        return sum(trial.state.is_finished() for trial in self.trials.all())

    def ask(self) -> list[FrozenTrial]:
        """All trials of the batch that is to be raced, some of which may be told; empty when all is done."""
        return self._asking.ask()

    def raced(self, batch: Sequence[FrozenTrial]) -> list[Runner]:
        """The batch, raced; those that are not told yet."""
        return self._heats.run(batch, self._asking.before(batch[0].user_attrs["batch"]))

    def tell(self, raced: Sequence[Runner]) -> None:
        """Commit trials, and then tell the listener of them."""
        for runner in raced:
            self._tell(runner)
        self.trials.commit()
        self._tell_of([runner.trial.number for runner in raced])
        for batch in {runner.trial.user_attrs["batch"] for runner in raced}:
            self._asking.ended(batch)

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

    def _tell_of(self, numbers: Sequence[int] | None = None) -> None:
        """Tell the listener of trials that are committed, each once; numbers: which; None: all that the
        main process is to tell of."""
        trials = self.trials.all()
        if numbers is None:
            numbers = range(len(trials)) if self.trials.worker == 0 else ()
        for number in numbers:
            if number not in self._heard and trials[number].state.is_finished():
                self._heard.add(number)
                trial = trials[number]
                text = "" if "score" not in trial.user_attrs else self.trials.prompt(trial).placeholder_text()
                self.listener(event_of(trial, text))

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
        history = History.whole(self.trials, self.scorer.metric)
        for known in history.known:
            candidate = Candidate.of(trials[known.number], known.prompt)
            if candidate.kind not in kinds:
                kinds.add(candidate.kind)
                found.append(candidate)
        return found

    def confirm(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best on all examples, the winner first; see `candidates.confirm`."""
        raced = sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in self.trials.all()) - 1
        return confirm(candidates, self.scorer, self.examples, self.options, raced, self._heats.scale, self.listener)

    def counts(self) -> dict[str, dict[str, int]]:
        """Trials by kind and state: complete, pruned (dropped in a race), fail; running in a search that was halted."""
        return counted(self.trials, "kind")

    def counts_by_branch(self) -> dict[str, dict[str, int]]:
        """Trials by branch and state."""
        return counted(self.trials, "branch")

    def evaluations(self) -> int:
        """(prompt, example) pairs that the search scored."""
        return evaluations(self.trials)

    def tokens(self) -> int:
        """Tokens that the trials took, and finding them."""
        return tokens(self.trials)
