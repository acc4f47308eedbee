"""What a search must beat: answers that take no search, made and scored by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.doctor.probe import MOST, Embeddings, Floats, Probe
from autoprompt.errors import ModelError, PromptError
from autoprompt.events import BaselineScored
from autoprompt.metrics import Metric, Outcome
from autoprompt.prompt import Prompt
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import seed_of
from autoprompt.space import DemonstrationSpace, Space

__all__ = ["BASELINES", "Baseline", "automatic_baselines", "strongest"]

BASELINES = (
    "majority class",
    "best starting prompt",
    "random demonstrations",
    "nearest demonstrations",
    "calibrated",
    "linear probe",
)
_USUAL = 4  # demonstrations, where the space has none
_DRAWS = 5
_SHOWN = 100  # characters of a prompt's part
_FIRST, _WHOLE = 32, 3  # examples of the first look at starting prompts, and prompts that see all

Answering = Callable[[Scorer, Sequence[Example]], Outcome]
_Scored = tuple[Prompt, Score]


@dataclass(frozen=True, eq=False)
class Baseline:
    """An answer that a search must beat.

    value: the metric on dev. predictions: the outcome there. prompt: None where none answers. text: what it is, in
    a few words. tokens: what scoring it takes, when nothing is remembered. answering: its outcome on examples.
    """

    name: str
    value: float
    predictions: Outcome
    answering: Answering = field(repr=False)
    prompt: Prompt | None = None
    text: str = ""
    tokens: int = 0

    def outcome_on(self, scorer: Scorer, examples: Sequence[Example]) -> Outcome:
        """What it answers on other examples, such as the locked test when it is open. Raises as scoring does."""
        return self.answering(scorer, examples)

    def event(self) -> BaselineScored:
        return BaselineScored(self.name, self.value, self.text)


@dataclass(frozen=True)
class _Task:
    """All that baselines are made from."""

    scorer: Scorer
    space: Space
    train: Sequence[Example]
    dev: Sequence[Example]
    seed: int
    embeddings: Embeddings


def automatic_baselines(
    scorer: Scorer,
    space: Space,
    train: Sequence[Example],
    dev: Sequence[Example],
    seed: int,
    names: Collection[str] = BASELINES,
    embeddings: Embeddings | None = None,
) -> list[Baseline]:
    """Those of `names` that can be had here, in the order of BASELINES; the same for the same seed.

    Demonstrations come from train, as many as the space allows, 4 where it has none, and fewer where so many
    leave no room for the input; a sentence encoder has none. What is calibrated already is not so again.
    embeddings: what others have read already.
    """
    task = _Task(scorer, space, train, dev, seed, embeddings or Embeddings(scorer, space.baseline))
    kind = space.baseline.answer.kind
    made = (_MAKERS[name](task) for name in BASELINES if name in names and kind in _KINDS.get(name, (kind,)))
    return [baseline for baseline in made if baseline is not None]


def strongest(baselines: Sequence[Baseline], metric: Metric) -> Baseline | None:
    """The best on dev, of equal ones the first; None of none."""
    return max(baselines, key=lambda baseline: metric.gain(baseline.value, 0.0), default=None)


# -- without a prompt ------------------------------------------------------------------------


def _answered(task: _Task, name: str, probable: Callable[[Sequence[Example]], Floats], text: str) -> Baseline:
    """probable: the labels' probabilities (N, C) of examples."""
    labels = task.space.baseline.labels

    def answering(scorer: Scorer, examples: Sequence[Example]) -> Outcome:
        return Outcome(tuple(example.label for example in examples), probable(examples), labels)

    outcome = answering(task.scorer, task.dev)
    return Baseline(name, task.scorer.metric(outcome), outcome, answering, None, text)


def _majority(task: _Task) -> Baseline:
    """Always the class that most training examples have, with the classes' shares as probabilities."""
    labels, counts = task.space.baseline.labels, Counter(example.label for example in task.train)
    shares = np.array([counts[label] for label in labels], dtype=float) / max(1, len(task.train))

    def probable(examples: Sequence[Example]) -> Floats:
        return np.tile(shares, (len(examples), 1))

    return _answered(task, "majority class", probable, f"always {labels[int(shares.argmax())]!r}")


def _probe(task: _Task) -> Baseline | None:
    """Logistic regression on the model's own embeddings of the training texts."""
    labels, embeddings = task.space.baseline.labels, task.embeddings
    shown = task.train[:MOST]
    gold = np.array([labels.index(example.label) for example in shown], dtype=np.int64)
    if len(set(gold.tolist())) < 2:
        return None
    rows = embeddings.of(shown)
    probe = Probe.of(rows, gold, len(labels), seed_of(task.seed, "linear probe"))

    def probable(examples: Sequence[Example]) -> Floats:
        return probe.probabilities(embeddings.of(examples))

    text = f"logistic regression on {rows.shape[1]} numbers of each of {len(shown)} training texts"
    return replace(_answered(task, "linear probe", probable, text), tokens=embeddings.tokens)


# -- prompts ---------------------------------------------------------------------------------


def _scored(task: _Task, name: str, found: _Scored, text: str, tokens: int = 0) -> Baseline:
    prompt, score = found

    def answering(scorer: Scorer, examples: Sequence[Example]) -> Outcome:
        return scorer.score([prompt], examples)[0].outcome

    tokens = tokens or task.scorer.work(prompt, task.dev)
    return Baseline(name, score.value, score.outcome, answering, prompt, text, tokens)


def _starting(task: _Task) -> Baseline | None:
    """The best of the user's prompt and of those that differ from it in one template or instruction of the space.

    Of many a third goes on, each time on thrice as many examples (successive halving, Jamieson & Talwalkar 2016).
    """
    own = task.space.baseline
    templates = [replace(own, template=template) for template in task.space.templates]
    instructions = [replace(own, instruction=instruction) for instruction in task.space.instructions]
    prompts = list(dict.fromkeys([own, *templates, *instructions]))
    count, size, tokens = len(prompts), min(_FIRST, len(task.dev)), 0
    while True:
        size = size if len(prompts) > _WHOLE else len(task.dev)
        scores = _each(task.scorer, prompts, task.dev[:size])
        tokens += sum(task.scorer.work(prompt, task.dev[:size]) for prompt, _ in scores)
        gain = task.scorer.metric.gain
        scores.sort(key=lambda pair: (-gain(pair[1].value, 0.0), pair[1].loss))
        if size == len(task.dev) or not scores:
            break
        prompts = [prompt for prompt, _ in scores[: max(_WHOLE, (len(scores) + 2) // 3)]]
        size = min(3 * size, len(task.dev))
    if not scores:
        return None
    prompt = scores[0][0]
    what = "your own"
    if prompt != own:
        part = "template" if prompt.template != own.template else "instruction"
        text = getattr(prompt, part)
        what = f"the {part} {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'!r}"
    return _scored(task, "best starting prompt", scores[0], f"{what}, of {count}", tokens)


def _each(scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[_Scored]:
    """The scores of those prompts that can be scored."""
    found = []
    for prompt in prompts:
        try:
            found.append((prompt, scorer.score([prompt], examples)[0]))
        except (PromptError, ModelError):  # a template of the space that does not fit is no baseline
            continue
    return found


def _calibrated(task: _Task) -> Baseline | None:
    """The user's prompt, divided by what it says of inputs without content (Zhao et al. 2021)."""
    own = task.space.baseline
    if own.calibration != "none":
        return None
    found = _each(task.scorer, [replace(own, calibration="content_free")], task.dev)
    return _scored(task, "calibrated", found[0], "your own, calibrated without content") if found else None


def _shown(task: _Task, number: int) -> Space:
    """The space with the training examples to show, drawn by the doctor's own seed."""
    options = DemonstrationSpace(number, _DRAWS)
    return replace(task.space, demonstrations=options, pool=tuple(task.train), seed=seed_of(task.seed, "baselines"))


def _random(task: _Task) -> Baseline | None:
    """The median of five draws, each with the classes in turns."""

    def draws(space: Space, number: int) -> list[Prompt]:
        drawn = [space.drawn(draw) for draw in range(_DRAWS)]
        shown = [tuple(Demonstration(example.fields, example.label) for example in chosen) for chosen in drawn]
        return [replace(space.baseline, demonstrations=chosen, retrieval=None) for chosen in shown]

    found, number = _fitting(task, draws)
    if not found:
        return None
    tokens = sum(task.scorer.work(prompt, task.dev) for prompt, _ in found)
    found.sort(key=lambda pair: pair[1].value)
    low, high = found[0][1].value, found[-1][1].value
    text = f"{number} examples, the median of {_DRAWS} draws ({low:.4f} to {high:.4f})"
    return _scored(task, "random demonstrations", found[len(found) // 2], text, tokens)


def _nearest(task: _Task) -> Baseline | None:
    """For each input the training examples that are most like it."""

    def retrieving(space: Space, number: int) -> list[Prompt]:
        return [replace(space.baseline, demonstrations=(), retrieval=space.retrieved(number))]

    found, number = _fitting(task, retrieving)
    return (
        _scored(task, "nearest demonstrations", found[0], f"{number} examples most like the input") if found else None
    )


def _fitting(task: _Task, make: Callable[[Space, int], list[Prompt]]) -> tuple[list[_Scored], int]:
    """Prompts with demonstrations, scored; half as many are shown where they leave no room for the input."""
    number = min(task.space.demonstrations.most or _USUAL, len(task.train))
    while number and task.scorer.model.family != "encoder":
        prompts = make(_shown(task, number), number)
        try:
            return list(zip(prompts, task.scorer.score(prompts, task.dev), strict=True)), number
        except PromptError:
            number //= 2
    return [], 0


# how a prompt is answered, where that decides whether there is a baseline
_KINDS = {
    "majority class": ("label", "option"),
    "random demonstrations": ("label", "option", "number", "text"),
    "nearest demonstrations": ("label", "option", "number", "text"),
    "calibrated": ("label", "number"),
    "linear probe": ("label",),
}
_MAKERS: dict[str, Callable[[_Task], Baseline | None]] = {
    "majority class": _majority,
    "best starting prompt": _starting,
    "random demonstrations": _random,
    "nearest demonstrations": _nearest,
    "calibrated": _calibrated,
    "linear probe": _probe,
}
