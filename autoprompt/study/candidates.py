"""The candidates that a search found, and how the winner is chosen among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial

from autoprompt.data import Example
from autoprompt.events import Confirmed, Listener, silent
from autoprompt.evidence import bounded
from autoprompt.metrics import Metric
from autoprompt.prompt import Prompt
from autoprompt.racing import Entrant, per_example, standings
from autoprompt.scorer import Scorer
from autoprompt.study.options import StudyOptions
from autoprompt.study.records import Kind

__all__ = ["Candidate", "confirm", "finalists", "pareto_front", "ranked"]


@dataclass(frozen=True)
class Candidate:
    """A scored prompt.

    value: the metric. loss: the mean of -log P(right label). margin: the mean margin. branch,
    operator, parents: where it comes from. size: rendered tokens, where they are an objective.
    estimate: the metric, shrunk toward the group, once it is confirmed. evidence: log wealth of the
    bet against the baseline; certain: whether that promotes it.
    """

    number: int
    kind: Kind
    prompt: Prompt
    value: float
    loss: float
    margin: float
    branch: str = ""
    operator: str = ""
    parents: tuple[int, ...] = ()
    size: float = 0.0
    estimate: float = 0.0
    evidence: float = 0.0
    certain: bool = False

    @classmethod
    def of(cls, trial: FrozenTrial, prompt: Prompt) -> Candidate:
        """The candidate of a told trial."""
        attrs, score = trial.user_attrs, trial.user_attrs["score"]
        return cls(
            trial.number, attrs["kind"], prompt, score["value"], score["loss"], score["margin"],
            attrs["branch"], attrs["operator"], tuple(attrs["parents"]), score["size"],
        )  # fmt: skip


def ranked(candidates: Sequence[Candidate], metric: Metric) -> list[Candidate]:
    """Best first: by the metric, ties by the margin."""
    sign = -1 if metric.maximize else 1
    return sorted(candidates, key=lambda c: (sign * c.value, -c.margin, c.number))


def finalists(candidates: Sequence[Candidate], count: int, several: bool = False) -> list[Candidate]:
    """The best `count`, among them the best of each kind; with two objectives, the whole front too."""
    chosen = list(candidates[:count])
    for kind in ("baseline", "discrete", "soft"):
        first = next((c for c in candidates if c.kind == kind), None)
        if first is not None and all(c.kind != kind for c in chosen):
            chosen.append(first)
    front = pareto_front(candidates) if several else []
    return chosen + [c for c in front if all(c.number != other.number for other in chosen)]


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of candidates sorted best first, those to which none is both as good and smaller; largest first."""
    front: list[Candidate] = []
    for candidate in candidates:
        if not front or candidate.size < front[-1].size:
            front.append(candidate)
    return front


def confirm(
    candidates: Sequence[Candidate],
    scorer: Scorer,
    dev: Sequence[Example],
    options: StudyOptions,
    raced: int,
    scale: float = 1.0,
    listener: Listener = silent,
) -> list[Candidate]:
    """Score the best few, and the best of each kind, on all of dev; the winner first.

    The winner has the best score, ties by the margin; where options.promote is "certain", among those
    that are better than the baseline beyond luck, and else it is the baseline. With two objectives it
    is the smallest of those whose score is within the tolerance of the best. raced: how many
    candidates the search compared. scale: that of bounded margins.
    """
    metric, chosen = scorer.metric, finalists(candidates, options.finalists, options.several)
    scores = scorer.score([c.prompt for c in chosen], dev)
    own = next(at for at, c in enumerate(chosen) if c.kind == "baseline")
    entrants = [Entrant(bounded(s.margins, scale), per_example(metric, s.outcome)) for s in scores]
    stood = standings(entrants, raced, metric.maximize, options.level, own)
    confirmed = []
    for candidate, score, standing in zip(chosen, scores, stood, strict=True):
        confirmed.append(
            replace(
                candidate, value=score.value, loss=score.loss, margin=score.margin, estimate=standing.estimate,
                evidence=standing.evidence, certain=standing.certain,
            )
        )  # fmt: skip
        listener(
            Confirmed(
                candidate.number, candidate.kind, score.value, score.margin, candidate.prompt.fingerprint,
                standing.estimate, standing.evidence, standing.certain, candidate.size,
            )
        )  # fmt: skip
    return _crowned(confirmed, metric, options)


def _crowned(confirmed: Sequence[Candidate], metric: Metric, options: StudyOptions) -> list[Candidate]:
    """The winner first, the others by their scores."""
    order = ranked(confirmed, metric)
    able = [c for c in order if c.certain or options.promote == "best"]
    best = able[0]
    if options.several:
        near = [c for c in able if abs(c.value - best.value) <= options.tolerance]
        best = min(near, key=lambda c: (c.size, order.index(c)))
    return [best, *(c for c in order if c is not best)]
