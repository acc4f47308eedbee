"""Self-training: the prompt labels texts that have none, and those that it is sure of are trained on.

An old way (Yarowsky 1995), and how PET turns a prompt into training data (Schick & Schütze 2021, sections
3.3 and 3.4). Here dev says what "sure" means: how sure a prediction has to be for the labels to be right
as often as they should.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.finetune.seen import Seen, shown_by
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.soft import seed_of

__all__ = ["Pseudo", "PseudoOptions", "pseudo_labelled"]

Floats = NDArray[np.float64]
_COOLEST, _HOTTEST = 1 / 20, 20.0  # temperatures that are tried
_REASONS = ("empty", "duplicate", "near_duplicate", "unsure", "class_full", "most")


@dataclass(frozen=True)
class PseudoOptions:
    """What may be kept.

    precision: the share of labels that should be right. certainty: how certain dev has to make it: the
    one-sided lower bound of so much confidence must reach it. per_class: the most of one label. balance:
    how many times the examples of the rarest label any label may have, training examples counted. most:
    of all labels together.
    """

    precision: float = 0.9
    certainty: float = 0.9
    per_class: int = 200
    balance: float = 2.0
    most: int = 1000


@dataclass(frozen=True)
class Pseudo:
    """examples: texts with the labels that the prompt gives them, numbered behind train and dev.

    record: plain numbers. "read" texts are those "kept" and those "refused", by reason. "threshold" is the
    least P(label) that is kept, None where none is good enough; "temperature" what log-likelihoods were
    divided by first. "dev_accuracy" is that of the dev predictions above the threshold, "dev_bound" its
    lower bound, and "dev_coverage" the share of dev that they are. "labels" counts the kept by label.
    """

    examples: tuple[Example, ...]
    record: dict[str, Any]


def pseudo_labelled(
    scorer: Scorer,
    prompt: Prompt,
    texts: Sequence[Example],
    dev: Sequence[Example],
    options: PseudoOptions | None = None,
    seed: int = 0,
    train: Sequence[Example] = (),
) -> Pseudo:
    """Those of `texts` whose label the prompt is sure of; the labels that they come with are not read.

    Left out are texts that stand in train or dev, in the prompt's demonstrations, or among the texts
    before them, also if they are only nearly the same (see `Seen`). Where no threshold is good enough on
    dev nothing is kept, and no text goes through the model. Raises PromptError when the prompt cannot
    show a text.
    """
    options = options or PseudoOptions()
    judge = _Judge.of(scorer.log_likelihoods([prompt], dev)[0], _gold(prompt, dev), options)
    refused = Counter(dict.fromkeys(_REASONS, 0))
    new = _new(texts, Seen([*train, *dev, *shown_by(prompt)]), refused)
    available: dict[str, list[int]] = {label: [] for label in prompt.labels}
    if judge.limit is not None and new:
        rows = scorer.log_likelihoods([prompt], new)[0]
        for at, doubt in enumerate(_doubts(rows, judge.temperature)):
            if doubt <= judge.limit:
                available[prompt.labels[int(rows[at].argmax())]].append(at)
    refused["unsure"] = len(new) - sum(map(len, available.values()))
    given = Counter(example.label for example in train)
    chosen = _balanced(available, given, options, seed, refused)
    first = max((example.number for example in (*train, *dev)), default=-1) + 1
    kept = tuple(Example(first + n, new[at].fields, label) for n, (at, label) in enumerate(sorted(chosen.items())))
    labels = Counter(example.label for example in kept)
    record = {
        "read": len(texts),
        "kept": len(kept),
        "labels": {label: labels[label] for label in prompt.labels},
        "refused": dict(refused),
        **judge.record(),
    }
    return Pseudo(kept, record)


def _gold(prompt: Prompt, examples: Sequence[Example]) -> NDArray[np.intp]:
    return np.array([prompt.labels.index(example.label) for example in examples], dtype=np.intp)


def _new(texts: Sequence[Example], seen: Seen, refused: Counter[str]) -> list[Example]:
    """The texts not seen before, each of them once."""
    found = []
    for text in texts:
        if not any(value.strip() for value in text.fields.values()):
            refused["empty"] += 1
        elif likeness := seen.like(text.fields):
            refused[likeness] += 1
        else:
            seen.add(text.fields)
            found.append(text)
    return found


# -- how sure is sure enough -------------------------------------------------------------------


@dataclass(frozen=True)
class _Judge:
    """limit: the greatest log(1 - P(label)) that is sure enough, or None. accuracy, bound and coverage:
    of the dev predictions within it."""

    temperature: float
    limit: float | None
    accuracy: float = 0.0
    bound: float = 0.0
    coverage: float = 0.0

    @classmethod
    def of(cls, rows: Floats, gold: NDArray[np.intp], options: PseudoOptions) -> _Judge:
        """From dev's label log-likelihoods (N, C) and the right labels' numbers (N,).

        The lowest threshold that is good enough is taken: as many texts as the aim allows.
        """
        if not len(gold):
            return cls(1.0, None)
        temperature = _temperature(rows, gold)
        doubts = _doubts(rows, temperature)
        order = np.argsort(doubts, kind="stable")
        sorted_doubts, right = doubts[order], (rows.argmax(1) == gold)[order].cumsum()
        for size in range(len(gold), 0, -1):
            if size < len(gold) and sorted_doubts[size] == sorted_doubts[size - 1]:
                continue  # no threshold parts predictions of the same probability
            bound = _wilson(int(right[size - 1]), size, options.certainty)
            if bound >= options.precision:
                accuracy = float(right[size - 1]) / size
                return cls(temperature, float(sorted_doubts[size - 1]), accuracy, bound, size / len(gold))
        return cls(temperature, None)

    def record(self) -> dict[str, float | None]:
        return {
            "threshold": None if self.limit is None else -math.expm1(self.limit),
            "temperature": self.temperature,
            "dev_accuracy": self.accuracy,
            "dev_bound": self.bound,
            "dev_coverage": self.coverage,
        }


def _doubts(rows: Floats, temperature: float) -> Floats:
    """log(1 - P(likeliest label)) of label log-likelihoods (N, C); it still orders where P rounds to 1."""
    ordered = np.sort(rows / temperature, axis=1)
    return np.asarray(np.logaddexp.reduce(ordered[:, :-1], 1) - np.logaddexp.reduce(ordered, 1))


def _wilson(right: int, count: int, certainty: float) -> float:
    """The lower end of Wilson's interval (1927) for a share, one-sided."""
    z, share = statistics.NormalDist().inv_cdf(certainty), right / count
    spread = z * math.sqrt(share * (1 - share) / count + (z / count) ** 2 / 4)
    return (share + z * z / (2 * count) - spread) / (1 + z * z / count)


def _temperature(rows: Floats, gold: NDArray[np.intp]) -> float:
    """What dividing by makes dev's log loss least, or 1 where nothing is less (Guo et al. 2017, section 4.2).

    The loss is convex in 1 / T, so that it has one valley in log T, which a golden section finds.
    """

    def loss(log_temperature: float) -> float:
        scaled = rows / math.exp(log_temperature)
        return float((np.logaddexp.reduce(scaled, 1) - scaled[np.arange(len(gold)), gold]).mean())

    found = _golden(loss, math.log(_COOLEST), math.log(_HOTTEST))
    return math.exp(found) if loss(found) < loss(0.0) else 1.0


def _golden(function: Callable[[float], float], low: float, high: float, steps: int = 50) -> float:
    """Where a function with one valley between two numbers is least (Kiefer 1953)."""
    share = (math.sqrt(5) - 1) / 2
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = function(right)
    return (low + high) / 2


# -- how many of each label ----------------------------------------------------------------------


def _balanced(
    available: Mapping[str, Sequence[int]],
    given: Mapping[str, int],
    options: PseudoOptions,
    seed: int,
    refused: Counter[str],
) -> dict[int, str]:
    """The numbers of the texts that are kept, with their labels.

    What has to be balanced is what is trained on, so training examples count: no label may have more than
    `balance` times the examples of the rarest one that has any. A label that no text was given surely then
    holds the others back only as far as it has few training examples itself. Where there are too many,
    the label with the fewest examples takes the next one. Which of a label's texts are kept is drawn: the
    surest would teach the least, and are not those whose accuracy was measured.
    """
    within = {label: min(len(found), options.per_class) for label, found in available.items()}
    totals = [total for label, count in within.items() if (total := given.get(label, 0) + count)]
    limit = int(options.balance * min(totals, default=0))
    left: dict[str, list[int]] = {}
    for label, found in available.items():
        quota = max(0, min(within[label], limit - given.get(label, 0)))
        left[label] = random.Random(seed_of(seed, "unlabelled", label)).sample(list(found), quota)
        refused["class_full"] += len(found) - quota
    have = {label: given.get(label, 0) for label in available}
    chosen: dict[int, str] = {}
    while len(chosen) < options.most and (open_ := [label for label, found in left.items() if found]):
        label = min(open_, key=have.__getitem__)
        chosen[left[label].pop()] = label
        have[label] += 1
    refused["most"] += sum(map(len, left.values()))
    return chosen
