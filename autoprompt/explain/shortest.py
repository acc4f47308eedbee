"""The shortest prompt that is as good as the winner: backward elimination with a margin of non-inferiority.

Which parts fall, and in which order, is found on some examples; that the shorter prompts hold is tested on
others, in that order, until one fails. Tests in an order that the data of the tests had no part
in need no correction for their number (Maurer, Hothorn & Lehmacher 1995; Westfall & Krishen 2001): a prompt that
is worse by the margin or more is accepted with a probability of 5 % at most, however many were looked at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprompt.data import Example
from autoprompt.events import PromptShortened
from autoprompt.explain.attempts import attempted, required
from autoprompt.explain.removals import Shorter, call_tokens
from autoprompt.metrics import Metric
from autoprompt.prompt import Prompt
from autoprompt.racing import per_example
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import seed_of
from autoprompt.verdict import paired_interval

__all__ = ["Shortest", "lower_bound", "shortest_equivalent", "showable_margin"]

_SOUGHT, _MEASURED = 128, 32  # examples that the order is found on, and tokens are counted on
_DEVIATIONS = 1.75  # see `lower_bound`
_FEWEST = 62  # of fewer examples even equal answers do not tell a loss of a twentieth of the metric's range


@dataclass(frozen=True)
class Shortest:
    """The short prompt, the winner itself where nothing can be left out, and what to say of it."""

    prompt: Prompt
    event: PromptShortened


def shortest_equivalent(
    scorer: Scorer,
    winner: Prompt,
    examples: Sequence[Example],
    margin: float,
    seed: int,
    pool: Sequence[Example] = (),
) -> Shortest:
    """The shortest prompt that is not worse than the winner by more than `margin`, in units of the metric.

    examples: of dev; never of the test. pool: training examples, on which the order is found: of all single
    removals, scored in one grid, always the one that saves most tokens among those that are no worse there,
    or else among those that are not worse by more than the margin. Without a pool half of the examples, drawn
    by `seed`, serve for that, and the other half for the tests. A margin smaller than what so many
    examples can show (`showable_margin`) is raised to it, which the sentence tells; with fewer than 62 tested
    examples it is not, and nothing is left out. "interval" is that of the tested examples, "value" of all.

    Raises PromptError when the winner cannot be scored, DataError without examples.
    """
    sought, tested = _parted(winner, examples, pool, seed)
    [found] = attempted(scorer, [winner], tested)
    own = required(found)
    least = showable_margin(scorer.metric, own)
    few = not sought or (len(tested) < _FEWEST and margin < least)
    terms = _Terms(scorer.metric, margin, margin if few else max(margin, least), len(tested), few)
    path = [] if few else _path(scorer, winner, sought, terms.margin)
    best, score = _held(scorer, Shorter.whole(winner), own, path, tested, terms.margin)
    interval = paired_interval(scorer.metric, own.outcome, score.outcome, seed_of(seed, "shortest"))
    values = [required(one).value for one in attempted(scorer, [winner, best.prompt], examples)]
    tokens = tuple(call_tokens(scorer, one, examples[:_MEASURED]) for one in (winner, best.prompt))
    event = PromptShortened(
        best.dropped, best.prompt.placeholder_text(), best.prompt.fingerprint, (tokens[0], tokens[1]),
        (values[0], values[1]), interval, terms.margin, _sentence(best, tokens, interval, terms),
    )  # fmt: skip
    return Shortest(best.prompt, event)


@dataclass(frozen=True)
class _Terms:
    """What non-inferiority means. asked, margin: as given, and as used; size: of the tested examples; few: whether
    these are too few to show anything."""

    metric: Metric
    asked: float
    margin: float
    size: int
    few: bool

    def __str__(self) -> str:
        text = f"{self.margin:.3f} {self.metric.name}"
        if self.margin > self.asked:
            text += f" (the least that {self.size} dev examples can show; {self.asked:g} was asked for)"
        return text


def _held(
    scorer: Scorer, whole: Shorter, own: Score, path: Sequence[Shorter], tested: Sequence[Example], margin: float
) -> tuple[Shorter, Score]:
    """The last prompt of the path before one fails its test, and its score; at first the whole one."""
    best, score = whole, own
    for step, one in zip(path, attempted(scorer, [step.prompt for step in path], tested), strict=True):
        if isinstance(one, str) or not lower_bound(scorer.metric, own, one) > -margin:
            break
        best, score = step, one
    return best, score


def _parted(
    winner: Prompt, examples: Sequence[Example], pool: Sequence[Example], seed: int
) -> tuple[Sequence[Example], Sequence[Example]]:
    """The examples on which the order is found, and those of the tests."""
    shown = {tuple(sorted(one.fields.items())) for one in winner.demonstrations}
    pool = [example for example in pool if example.key not in shown]  # their answers stand in the prompt
    generator = random.Random(seed_of(seed, "shortest"))
    if pool:
        return generator.sample(pool, min(_SOUGHT, len(pool))), examples
    drawn = set(generator.sample(range(len(examples)), len(examples) // 2))
    halves: tuple[list[Example], list[Example]] = [], []
    for at, example in enumerate(examples):
        halves[at not in drawn].append(example)
    return halves


def _path(scorer: Scorer, winner: Prompt, sought: Sequence[Example], margin: float) -> list[Shorter]:
    """Shorter and shorter prompts, each with one thing less than the one before it."""
    metric, state = scorer.metric, Shorter.whole(winner)
    [found] = attempted(scorer, [winner], sought)
    least = required(found).value
    some = sought[:_MEASURED]
    path: list[Shorter] = []
    size = call_tokens(scorer, winner, some)
    while removals := state.removals():
        scores = attempted(scorer, [one.prompt for one in removals], sought)
        able = [
            (metric.gain(score.value, least) >= 0, size - call_tokens(scorer, one.prompt, some), -at)
            for at, (one, score) in enumerate(zip(removals, scores, strict=True))
            if not isinstance(score, str) and metric.gain(score.value, least) > -margin
        ]
        able = [row for row in able if row[1] > 0]
        if not able:
            break
        _, saved, at = max(able)
        state, size = removals[-at], size - saved
        path.append(state)
    return path


# -- what is shown ---------------------------------------------------------------------------------


def lower_bound(metric: Metric, winner: Score, short: Score) -> float:
    """A one-sided 95 % lower bound of what the short prompt gains over the winner on the same examples.

    Wilson's (1927) argument for a paired difference: were the truth lower by x, it would be by losses as large as
    r, the range of the winner's own values, so that the variance would be higher by about r x. So x solves
    x^2 = z^2 (s^2 + r x) / n. With z = 1.75, a little above the normal 1.645, answers that are all the same give
    -3.06 r / n, the "rule of three", and a few losses without gains the exact Poisson bound. For a metric of
    the whole set, n pseudo-values take the place of the examples' values.
    """
    own, new = per_example(metric, winner.outcome), per_example(metric, short.outcome)
    gains = (new - own) if metric.maximize else (own - new)
    return float(gains.mean()) - _below(float(gains.var()), _reach(metric, winner), len(own))


def showable_margin(metric: Metric, winner: Score) -> float:
    """The smallest margin within which a prompt with the very same answers is shown to be, in units of the metric."""
    return math.nextafter(_below(0.0, _reach(metric, winner), len(winner.margins)), math.inf)


def _below(variance: float, reach: float, size: int) -> float:
    step = _DEVIATIONS**2 / size
    return (step * reach + math.sqrt((step * reach) ** 2 + 4 * step * variance)) / 2


def _reach(metric: Metric, score: Score) -> float:
    """How far the values of examples lie apart; where all are right, how far they would if some were not."""
    outcome = score.outcome
    reach = np.ptp(per_example(metric, outcome))
    if reach == 0:
        said = outcome.answers
        turned = replace(
            outcome,
            probabilities=np.roll(outcome.probabilities, 1, axis=1),
            answers=said and (*said[1:], said[0]),  # each one's is another's
        )
        reach = np.ptp(np.concatenate([per_example(metric, one) for one in (outcome, turned)]))
    return float(reach)


def _sentence(best: Shorter, tokens: Sequence[float], interval: tuple[float, float], terms: _Terms) -> str:
    if terms.few:
        return f"Nothing is left out of the winner: {terms.size} dev examples are too few to show that nothing is lost."
    if not best.dropped:
        return f"Nothing can be left out of the winner and shown to cost less than {terms}."
    saved = f"{tokens[1]:.0f} tokens a call and not {tokens[0]:.0f} ({100 * (1 - tokens[1] / tokens[0]):.0f} % less)"
    return (
        f"Without {_listed([_the(part) for part in best.dropped])} the winner reads {saved}, and is not worse by more "
        f"than {terms}: 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f} on {terms.size} dev examples. "
        "It was chosen on dev; the locked test has not judged it."
    )


def _the(part: str) -> str:
    return f"the {part}" if part.startswith(("instruction", "sentence", "phrase")) else part


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
