"""Whether a metric can steer a search: tried on made-up answers, without a model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from autoprompt.doctor.answers import made_up, strange
from autoprompt.doctor.finding import fine, number_of, problem, quoted, warning
from autoprompt.errors import MetricError
from autoprompt.events import UNBOUNDED, Finding
from autoprompt.metrics import Metric, Outcome
from autoprompt.soft import seed_of

__all__ = ["examine_metric"]

_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)  # of right answers
_RANDOM, _FEW_VALUES = 48, 5  # outcomes about 70 % right, and how few values are too few for them
_BLIND_UP_TO = 12  # labels that are each looked at
_TIMED, _LONG = 8, 600.0  # outcomes that are timed; seconds of a search that are long
_TRIALS = 200  # of a search whose number is not known
_LOOKS, _RESAMPLES = 3, 4_000  # of a race at a prompt; of the verdict at a metric of the whole set
_SAME = 1e-9


@dataclass
class _Trial:
    """A metric under examination.

    ends: when, on the monotonic clock, nothing more is begun. known: what came out so far, for the record.
    """

    metric: Metric
    labels: tuple[str, ...]
    examples: int
    ends: float
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.ends

    def made(self, right: float, number: int = 0, blind: str | None = None) -> Outcome:
        return made_up(self.labels, self.examples, right, number, blind)

    def values(self, outcomes: Iterable[Outcome]) -> list[float]:
        """The metric of outcomes, of as many as there is time for, but of one at least."""
        found: list[float] = []
        for outcome in outcomes:
            found.append(self.metric(outcome))
            if self.late:
                break
        low, high = self.known.get("low", np.inf), self.known.get("high", -np.inf)
        self.known |= {"low": min(low, *found), "high": max(high, *found)}
        return found


def examine_metric(
    metric: Metric, labels: Sequence[str], seconds: float = 10.0, examples: int = 200, trials: int = 200
) -> list[Finding]:
    """What a metric does on made-up outcomes: its range and direction, whether it is the same twice, tells prompts
    apart, is finite, and how long it takes.

    seconds: for all of it; a call under way is not stopped. examples, trials: those of the search whose time is told;
    of a search without a number of trials, 200. Labels are two or more. A metric that breaks its contract is a
    finding, not an error.
    """
    if "rows" in metric.arguments:
        return [fine("metric", f"The metric {quoted(metric.name)} asks for rows, and is not tried on made-up answers.")]
    trial = _Trial(metric, tuple(labels), max(examples, 2 * len(labels)), time.monotonic() + seconds)
    trial.known |= {"maximize": metric.maximize, "examples": trial.examples}
    found: list[Finding] = []
    try:
        for look in (_direction, _steadiness, _grading, _sight, _spread):
            found += look(trial)
            trial.known["cut_short"] = trial.late
            if trial.late or any(finding.level == "problem" for finding in found):
                break
        else:
            found += _edges(trial)
        found += _speed(trial, trials if trials < UNBOUNDED else _TRIALS)
    except MetricError as error:
        found.append(problem("metric", f"{error} That was with {number_of(trial.examples, 'made-up answer')}."))
    found = found or [_well(trial)]
    return [Finding(f.check, f.level, f.message, {**trial.known, **f.details}) for f in found]


def _well(trial: _Trial) -> Finding:
    known, best = trial.known, "higher" if trial.metric.maximize else "lower"
    told = (
        f"The metric {quoted(trial.metric.name)}: {known['wrong']:.4g} where all is wrong, {known['right']:.4g} where "
        f"all is right, {best} is better; {known['ms']:.2g} ms a call"
    )
    told += "; there was no time to try all" if known["cut_short"] else "; the same twice"
    if "distinct" in known:
        told += f"; {known['distinct']} values for {_RANDOM} made-up outcomes that are about as good"
    return fine("metric", told + ".")


# -- each look: what it found, and into `known` what it saw ------------------------------------------


def _direction(trial: _Trial) -> list[Finding]:
    name = quoted(trial.metric.name)
    values = trial.values(trial.made(share) for share in (1.0, 0.0, 0.5))
    if len(values) < 2:
        message = f"One call of the metric {name} took all the time there is to examine it: make it faster."
        return [problem("metric", message)]
    right, wrong = values[:2]
    trial.known |= {"right": right, "wrong": wrong}
    gain = trial.metric.gain(right, wrong)
    if abs(gain) <= _SAME:
        what = "is constant" if max(values) - min(values) <= _SAME else "does not see whether answers are right"
        message = (
            f"The metric {name} {what}: {right:.4g} where all is right and where all is wrong. "
            "Nothing can be searched for with it."
        )
        return [problem("metric", message)]
    if gain < 0:
        now, other = ("higher", "False") if trial.metric.maximize else ("lower", "True")
        return [
            problem(
                "metric",
                f"The metric {name} is the wrong way round: {right:.4g} where all is right, {wrong:.4g} where all is "
                f"wrong, and {now} counts as better. Write @metric(maximize={other}).",
            )
        ]
    return []


def _steadiness(trial: _Trial) -> list[Finding]:
    """Whether the same answers have the same value: again, and in another order; and stay as they are."""
    name, outcome = quoted(trial.metric.name), trial.made(0.7)
    order = np.random.default_rng(seed_of("doctor", "order")).permutation(trial.examples)
    first, *more = trial.values([outcome, trial.made(0.7), trial.made(0.7), trial.made(0.7).take(order)])
    if not np.array_equal(outcome.probabilities, trial.made(0.7).probabilities):
        return [problem("metric", f"The metric {name} changes the probabilities it is given: let it work on a copy.")]
    other = next((value for value in more[:2] if abs(value - first) > _SAME), None)
    if other is not None:
        message = (
            f"The metric {name} is not the same twice: {first:.6g}, then {other:.6g} for the same answers. "
            "Take chance and clock out of it, else luck decides and a resumed run goes another way."
        )
        return [problem("metric", message)]
    if len(more) == 3 and abs(more[2] - first) > 1e-6 * max(1.0, abs(first)):
        message = (
            f"The metric {name} depends on the order of the examples: {first:.6g}, in another order {more[2]:.6g}. "
            "Races and intervals reorder them; let it not matter."
        )
        return [warning("metric", message)]
    return []


def _grading(trial: _Trial) -> list[Finding]:
    """Whether more right answers are better, all the way up."""
    curve = trial.values(trial.made(share) for share in _SHARES)
    gains = [trial.metric.gain(new, old) for old, new in pairwise(curve)]
    trial.known["curve"] = dict(zip(map(str, _SHARES), curve, strict=False))
    worse = [at for at, gain in enumerate(gains) if gain < -_SAME]
    name = quoted(trial.metric.name)
    if worse:
        at = worse[0]
        message = (
            f"The metric {name} can be worse where more is right: {curve[at]:.4g} with {100 * _SHARES[at]:.0f} % "
            f"right, {curve[at + 1]:.4g} with {100 * _SHARES[at + 1]:.0f} %. Look whether that is meant."
        )
        return [warning("metric", message, falls=len(worse))]
    flat = len(_SHARES) - 1
    while len(curve) == len(_SHARES) and flat > 0 and abs(curve[flat - 1] - curve[-1]) <= _SAME:
        flat -= 1
    if len(curve) == len(_SHARES) and flat < len(_SHARES) - 1:
        message = (
            f"The metric {name} is saturated: {curve[-1]:.4g} with {100 * _SHARES[flat]:.0f} % right and more. "
            "Prompts beyond that cannot be told apart."
        )
        return [warning("metric", message, saturated_from=_SHARES[flat])]
    return []


def _sight(trial: _Trial) -> list[Finding]:
    """Whether it sees when one label is always missed."""
    if len(trial.labels) > _BLIND_UP_TO:
        return []
    values = trial.values(trial.made(1.0, blind=label) for label in trial.labels)
    unseen = [
        label
        for label, value in zip(trial.labels, values, strict=False)
        if trial.metric.gain(trial.known["right"], value) <= _SAME
    ]
    if not unseen:
        return []
    told = ", ".join(map(quoted, unseen))
    message = f"The metric {quoted(trial.metric.name)} does not see it where {told} is always answered wrong."
    return [warning("metric", f"{message} Look whether that is meant.", unseen=unseen)]


def _spread(trial: _Trial) -> list[Finding]:
    """How many values it has for prompts that are about as good."""
    trial.known["per_example"] = trial.metric.per_example(trial.made(0.7)) is not None
    shares = np.random.default_rng(seed_of("doctor", "shares")).uniform(0.6, 0.8, _RANDOM)
    values = trial.values(trial.made(float(share), number) for number, share in enumerate(shares))
    if len(values) < _RANDOM:
        return []
    distinct = len(np.unique(np.round(values, 9)))
    trial.known["distinct"] = distinct
    if distinct > _FEW_VALUES:
        return []
    message = (
        f"The metric {quoted(trial.metric.name)} has {number_of(distinct, 'value')} for {_RANDOM} made-up outcomes, "
        "60 to 80 % right: most prompts will tie. A finer one finds more."
    )
    return [warning("metric", message)]


def _edges(trial: _Trial) -> list[Finding]:
    """Outcomes that small slices and resamples can have."""
    for what, outcome in strange(trial.labels, trial.examples).items():
        try:
            trial.values([outcome])
        except MetricError as error:
            message = (
                f"{error} That was with {what}, which slices and resamples of a run can have: give it a value there."
            )
            return [warning("metric", message, edge=what)]
    return []


def _speed(trial: _Trial, trials: int) -> list[Finding]:
    """Milliseconds a call, and what a search takes of them."""
    outcomes = [trial.made(0.7, number) for number in range(1 if trial.late else _TIMED)]
    began = time.perf_counter()
    trial.metric.many(outcomes)
    each = (time.perf_counter() - began) / len(outcomes)
    single = trial.known.setdefault("per_example", trial.metric.per_example(outcomes[0]) is not None)
    # one of the whole set is called with each example left out and for each resample; most prompts see few examples
    calls = trials * 2 * _LOOKS if single else trials * trial.examples + _RESAMPLES
    trial.known |= {"ms": 1000 * each, "calls": calls, "search_seconds": calls * each}
    if calls * each < _LONG:
        return []
    message = (
        f"The metric {quoted(trial.metric.name)} takes {1000 * each:.3g} ms a call on {trial.examples} examples; a "
        f"search of {trials:,} trials calls it about {calls:,} times: {calls * each / 60:,.0f} minutes."
    )
    if not single:
        message += " Let it return one number an example, if it can: then far fewer calls are needed."
    return [warning("metric", message)]
