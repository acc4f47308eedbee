"""The noise floor: what a prompt's score differs by when nothing but the way of computing it does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprompt.data import Example
from autoprompt.doctor.probe import Floats, softmax
from autoprompt.engine import Engine
from autoprompt.engine.attention import attending
from autoprompt.errors import ModelError
from autoprompt.events import Finding
from autoprompt.metrics import Outcome
from autoprompt.prompt import Prompt
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import seed_of

__all__ = ["noise_floor"]

_MOST = 256  # examples that are computed again, those nearest to another answer first
_ROWS = 256  # where each label of each is a row of its own: without what they share they take far longer
_FLIPPED = 16  # of them that are tried with the other answer
_ANSWERED = 64  # of answers that are no labels
_ROUNDING = 1e-3
_KERNELS = ("sdpa", "eager")


@dataclass(frozen=True)
class _Way:
    """A way to compute the same scores."""

    name: str
    batch_tokens: int
    share: bool = True
    shuffled: bool = False
    kernel: str = ""


def noise_floor(scorer: Scorer, prompt: Prompt, examples: Sequence[Example], seed: int) -> Finding:
    """Score a prompt as ever, and again in other batches, another order, without sharing what rows begin with,
    and with other attention kernels that the loaded model has; no memory of scores is asked.

    Those examples are computed again whose two best answers are nearest to each other, 256 at most, fewer where
    nothing is shared: others do not turn. details: "floor", in the metric's units: the spread of the metric, and
    at least half of what one turned prediction would change, where there is one within the noise of turning;
    "low" and "high" of the metric; "log_probability", the largest difference of a label's one; "changed"
    predictions and those "near" to it; "examples", and how many are computed "again"; "ways" by name with each
    one's "value", "difference" and "changed"; "failed", ways and why; "tokens".

    Where answers are texts, numbers or options, the first 64 examples are answered again, and "log_probability" is how
    far margins lie apart.

    Raises ModelError when the model returns NaN in the usual way, MetricError when the metric fails.
    """
    if prompt.answer.kind != "label":
        return _answered_again(scorer, prompt, examples[:_ANSWERED], seed)
    usual = scorer.log_likelihoods([prompt], examples)[0]
    nearest = _gaps(usual).argsort(kind="stable")[:_MOST]
    before, found, failed = scorer.tokens, dict[str, Floats](), dict[str, str]()
    for way in _ways(scorer):
        again = np.sort(nearest if way.share else nearest[: max(8, _ROWS // len(prompt.labels))])
        try:
            rows = _computed(scorer, prompt, [examples[at] for at in again], way, seed)
        except ModelError as error:
            failed[way.name] = str(error)
            continue
        found[way.name] = usual.copy()
        found[way.name][again] = rows
    details = _compared(scorer, [example.label for example in examples], prompt.labels, usual, found)
    details |= {"again": len(nearest), "failed": failed, "tokens": scorer.tokens - before}
    return Finding("noise", "warning" if details["changed"] or failed else "fine", _message(details), details)


def _answered_again(scorer: Scorer, prompt: Prompt, examples: Sequence[Example], seed: int) -> Finding:
    """The noise floor of answers that are no labels, from what they are in each way."""
    [usual] = scorer.score([prompt], examples)
    before, failed = scorer.tokens, dict[str, str]()
    values, changed, ways = [usual.value], set[int](), dict[str, dict[str, float]]()
    for way in _ways(scorer):
        try:
            other = _scored(scorer, prompt, examples, way, seed)
        except ModelError as error:
            failed[way.name] = str(error)
            continue
        pairs = zip(usual.outcome.predictions, other.outcome.predictions, strict=True)
        turned = {at for at, (a, b) in enumerate(pairs) if _apart(a, b)}
        changed |= turned
        values.append(other.value)
        far = float(np.abs(other.margins - usual.margins).max(initial=0.0))
        ways[way.name] = {"value": other.value, "difference": far, "changed": len(turned)}
    low, high = min(values), max(values)
    details: dict[str, Any] = {
        "floor": high - low,
        "low": low,
        "high": high,
        "log_probability": max((way["difference"] for way in ways.values()), default=0.0),
        "changed": len(changed),
        "near": 0,
        "examples": len(examples),
        "ways": ways,
        "again": len(examples),
        "failed": failed,
        "tokens": scorer.tokens - before,
    }
    return Finding("noise", "warning" if changed or failed else "fine", _message(details), details)


def _apart(one: str, other: str) -> bool:
    """Whether two answers differ by more than rounding, where both are numbers."""
    try:
        return abs(float(one) - float(other)) > _ROUNDING * max(1.0, abs(float(one)))
    except ValueError:
        return one != other


def _scored(scorer: Scorer, prompt: Prompt, examples: Sequence[Example], way: _Way, seed: int) -> Score:
    """The score of examples in one way, in their own order."""
    order = list(range(len(examples)))
    if way.shuffled:
        random.Random(seed_of(seed, "noise", way.name)).shuffle(order)
    with _other(scorer, way) as other:
        other.read([prompt], [examples[at] for at in order])
        [score] = other.score([prompt], examples)  # what was read is remembered
    return score


def _compared(
    scorer: Scorer, targets: Sequence[str], labels: tuple[str, ...], usual: Floats, found: Mapping[str, Floats]
) -> dict[str, Any]:
    """What label log-likelihoods (N, C) in other ways make of the usual ones."""
    outcomes = [Outcome(tuple(targets), softmax(rows), labels) for rows in (usual, *found.values())]
    values = scorer.metric.many(outcomes)
    turned = {name: set(np.flatnonzero(rows.argmax(1) != usual.argmax(1))) for name, rows in found.items()}
    ways = {
        name: {"value": value, "difference": float(np.abs(rows - usual).max()), "changed": len(turned[name])}
        for (name, rows), value in zip(found.items(), values[1:], strict=True)
    }
    noise = max((way["difference"] for way in ways.values()), default=0.0)
    gaps = _gaps(usual)
    near = [int(at) for at in gaps.argsort(kind="stable") if gaps[at] <= 2 * noise]
    low, high = min(values), max(values)
    return {
        "floor": max(high - low, _worth(scorer, outcomes[0], near[:_FLIPPED]) / 2),
        "low": low,
        "high": high,
        "log_probability": noise,
        "changed": len(set().union(*turned.values())),
        "near": len(near),
        "examples": len(targets),
        "ways": ways,
    }


def _ways(scorer: Scorer) -> Iterator[_Way]:
    """All that this model can be read in."""
    most = scorer.engine.budget.ceiling
    yield _Way("the same again", most)
    yield _Way("small batches", max(1, most // 8))
    yield _Way("another order", most, shuffled=True)
    if scorer.engine.other is not None:
        return  # the rest is about our own engine
    if scorer.model.family != "encoder":
        yield _Way("nothing shared", most, share=False)
    network = scorer.model.network
    own = getattr(network.config, "_attn_implementation", None)
    for kernel in _KERNELS:
        if own in _KERNELS and kernel != own and (kernel == "eager" or getattr(network, "_supports_sdpa", False)):
            yield _Way(f"{kernel} attention", most, share=False, kernel=kernel)


def _computed(scorer: Scorer, prompt: Prompt, examples: Sequence[Example], way: _Way, seed: int) -> Floats:
    """Label log-likelihoods (N, C) in one way."""
    order = list(range(len(examples)))
    if way.shuffled:
        random.Random(seed_of(seed, "noise", way.name)).shuffle(order)
    with _other(scorer, way) as other:
        rows = other.log_likelihoods([prompt], [examples[at] for at in order])[0]
    return np.asarray(rows[np.argsort(order)])


@contextmanager
def _other(scorer: Scorer, way: _Way) -> Iterator[Scorer]:
    """A scorer that computes in one way and remembers nothing; its tokens count."""
    other = scorer.using(scorer.model)
    other.engine = Engine(scorer.model, way.batch_tokens, way.share, other=scorer.engine.other)
    other.engine.check = scorer.engine.check
    try:
        with _kernel(scorer.model.network, way.kernel):
            yield other
    finally:
        scorer.engine.count(other.tokens)


def _kernel(network: Any, name: str) -> AbstractContextManager[None]:
    """While open, the network's attention is that of a kernel; "" leaves it as it is."""
    if not name:
        return nullcontext()
    configs = {id(part.config): part.config for part in network.modules() if hasattr(part, "config")}
    return attending(name, *(c for c in configs.values() if hasattr(c, "_attn_implementation")))


def _gaps(rows: Floats) -> Floats:
    """By how much the best answer of each row (N, C) is ahead of the second (N,)."""
    two = np.partition(rows, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def _worth(scorer: Scorer, outcome: Outcome, near: Sequence[int]) -> float:
    """The most that the metric changes when one of the answers turns to the second best."""
    turned = []
    for at in near:
        probabilities = outcome.probabilities.copy()
        best, second = probabilities[at].argsort(kind="stable")[::-1][:2]
        probabilities[at, [best, second]] = probabilities[at, [second, best]]
        turned.append(Outcome(outcome.targets, probabilities, outcome.labels))
    if not turned:
        return 0.0
    now, *then = scorer.metric.many([outcome, *turned])
    return max(abs(value - now) for value in then)


def _message(details: Mapping[str, Any]) -> str:
    names = ", ".join(details["ways"])
    said = f"The same prompt scores {details['low']:.4f} to {details['high']:.4f} computed in other ways ({names})"
    floor = f"no gain below {details['floor']:.4f} is one" if details["floor"] else "no gain comes from computing alone"
    if details["changed"]:
        said += f", and {details['changed']} of {details['examples']} predictions change"
    if details["failed"]:
        name, reason = next(iter(details["failed"].items()))
        return f"{said}; {floor}. In one way it cannot be computed ({name}): {reason}"
    return f"{said}; {floor}."
