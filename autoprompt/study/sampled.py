"""The discrete branch: prompts of the space, by a sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from autoprompt.errors import AutopromptError
from autoprompt.models import LanguageModel, text_vectors
from autoprompt.samplers import Surrogate, ask_parameters
from autoprompt.space import Space, Stored
from autoprompt.study.branches import Found
from autoprompt.study.history import History
from autoprompt.study.records import Asked, by_batch
from autoprompt.study.trials import Trials

__all__ = ["Sampled", "SurrogateBranch"]


class _Recorded(Stored):
    """Plays parameters, and notes their distributions."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.distributions[name] = IntDistribution(low, high)
        return super().suggest_int(name, low, high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.distributions[name] = CategoricalDistribution(choices)
        return super().suggest_categorical(name, choices)


def _asked(space: Space, params: Mapping[str, Any], branch: str) -> Asked:
    """The candidate of parameters; one that is no prompt is asked with its reason."""
    recorded = _Recorded(params)
    prompt, reason = None, ""
    try:
        prompt = space.discrete(recorded)
    except AutopromptError as error:
        reason = str(error)
    kept = {name: params[name] for name in recorded.distributions}
    return Asked(prompt, branch, kept, recorded.distributions, reason=reason)


class SurrogateBranch:
    """Prompts of the space, by a surrogate that knows what their parts say."""

    name = "discrete"
    whole = False

    def __init__(self, space: Space, model: LanguageModel, seed: int, startup: int) -> None:
        self._space = space
        self._surrogate = Surrogate(space, lambda texts: text_vectors(model, texts), seed, startup)

    def find(self, history: History, count: int, number: int) -> Found:
        # what other workers are on is left out behind this: so a few more
        wanted = count + min(count, len(history.taken))
        params = self._surrogate.suggest(history.observations(), wanted, number, history.observations)
        return Found([_asked(self._space, values, self.name) for values in params])


class Sampled:
    """Prompts of the space, by one of Optuna's samplers.

    It works on a copy of the study in memory, where asking costs nothing and where samplers may
    keep their notes. A resumed search runs the earlier batches through it again. What other workers
    asked is put in as it was told, and the notes of a sampler are of this worker's own trials.
    """

    name = "discrete"
    whole = False

    def __init__(self, space: Space, sampler: str, trials: Trials, seed: int, startup: int) -> None:
        self._space, self._sampler, self._seed, self._startup = space, sampler, seed, startup
        self._copy = optuna.create_study(directions=trials.study.directions)
        self._followed: set[int] = set()  # batches
        self._copies: dict[int, int] = {}  # numbers of trials, and of their copies
        self._asking: tuple[int, list[int]] = (-1, [])  # the last batch, and the numbers of its copies

    def find(self, history: History, count: int, number: int) -> Found:
        for batch, members in by_batch(history.ended).items():
            if batch not in self._followed:
                self._followed.add(batch)
                self._follow(batch, members, history.alone)
        asked = [self._ask(number + slot) for slot in range(count)]
        self._asking = history.batch, [trial.number for trial in asked]
        return Found([_asked(self._space, trial.params, self.name) for trial in asked])

    def _ask(self, number: int) -> optuna.Trial:
        return ask_parameters(self._copy, self._space, self._sampler, self._seed, number, self._startup)

    def _follow(self, batch: int, members: Sequence[FrozenTrial], alone: bool) -> None:
        """Take a batch over, all of it asked before any of it is told, as it was."""
        own = self._asking[1] if self._asking[0] == batch else []
        for at, trial in enumerate(members):
            if at < len(own) and _same(self._copy.get_trials(deepcopy=False)[own[at]], trial):
                self._copies[trial.number] = own[at]
            elif not alone and trial.user_attrs["branch"] == self.name and trial.state != TrialState.FAIL:
                self._copies[trial.number] = -1
                self._copy.add_trial(_finished(trial, integers=self._sampler == "cmaes"))
            else:
                sampled = alone and trial.user_attrs["branch"] == self.name
                self._copies[trial.number] = (self._ask(trial.number) if sampled else self._copy.ask()).number
        for trial in members:
            self._tell(trial, self._copies[trial.number])

    def _tell(self, trial: FrozenTrial, number: int) -> None:
        copy = self._copy.get_trials(deepcopy=False)[number] if number >= 0 else None
        if copy is None or copy.state.is_finished():
            return
        values = trial.values if trial.state == TrialState.COMPLETE else None
        for step, value in trial.intermediate_values.items():
            optuna.Trial(self._copy, copy._trial_id).report(value, step)
        self._copy.tell(number, values, state=trial.state)


def _same(copy: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether a trial was asked for by its copy; it may need fewer parameters than were asked for."""
    return all(copy.params.get(name) == value for name, value in trial.params.items())


def _finished(trial: FrozenTrial, integers: bool) -> FrozenTrial:
    """A trial that another worker asked, for the copy. integers: its categories are asked for by number."""
    distributions = dict(trial.distributions)
    if integers:
        for name, among in trial.distributions.items():
            if isinstance(among, CategoricalDistribution):
                distributions[name] = IntDistribution(0, len(among.choices) - 1)
    return optuna.trial.create_trial(
        state=trial.state, values=trial.values if trial.state == TrialState.COMPLETE else None, params=trial.params,
        distributions=distributions, intermediate_values=trial.intermediate_values,
    )  # fmt: skip
