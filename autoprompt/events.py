"""What can happen in a run: small frozen records.

Workers emit events to a `Listener`; the display and the journal listen. An event is written to
the journal as one JSON object: its fields, its name under "event", the time under "at", and
the seconds since its process began under "up".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "UNBOUNDED",
    "BaselineScored",
    "BatchPlanned",
    "Confirmed",
    "DataRead",
    "EpochFinished",
    "Event",
    "ExampleQuarantined",
    "ExamplesAdded",
    "ExamplesFlipped",
    "Finding",
    "GainExplained",
    "Listener",
    "Listeners",
    "ModelLoaded",
    "Notice",
    "PartsCompared",
    "PlanMade",
    "PromptShortened",
    "PromptsTransferred",
    "RobustnessMeasured",
    "RunFinished",
    "RunStarted",
    "SecondTask",
    "StageFinished",
    "StageStarted",
    "TestOpened",
    "TrialFailed",
    "TrialFinished",
    "VerdictDetailed",
    "VerdictReached",
    "WinnerChosen",
    "silent",
]


UNBOUNDED = 1_000_000  # trials of a search that something else ends


@dataclass(frozen=True)
class Event:
    """The base of all events."""

    def record(self) -> dict[str, Any]:
        """The event as plain values, its name under "event"."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    name: str
    resumed: bool
    metric: str
    maximize: bool
    seed: int
    trials: int


@dataclass(frozen=True)
class ModelLoaded(Event):
    name: str
    family: str
    device: str
    dtype: str
    parameters: int


@dataclass(frozen=True)
class DataRead(Event):
    train: int
    dev: int
    test: int
    labels: tuple[str, ...]
    duplicates_removed: int


@dataclass(frozen=True)
class ExampleQuarantined(Event):
    """An example that not even the user's own prompt can be scored on is left out of its split."""

    split: str
    number: int
    preview: str
    reason: str


@dataclass(frozen=True)
class PlanMade(Event):
    """What a run expects to take, from a measurement of its first seconds.

    trials: to expect; example_ms: to score one example; seconds: by stage, in their order. memory, disk:
    bytes. ends: when, in seconds from now, by its budget or by itself.
    """

    trials: int
    example_ms: float
    seconds: dict[str, float]
    memory: int
    disk: int
    disk_free: int
    ends: float


@dataclass(frozen=True)
class StageStarted(Event):
    stage: str


@dataclass(frozen=True)
class StageFinished(Event):
    """kwh: the energy that the machine took meanwhile, other programs' included; None where no device tells."""

    stage: str
    seconds: float
    tokens: int
    kwh: float | None = None


@dataclass(frozen=True)
class BatchPlanned(Event):
    """A branch of the search has made the candidates of a batch; `size` is their number."""

    batch: int
    branch: str
    size: int


@dataclass(frozen=True)
class TrialFinished(Event):
    """A scored prompt; `kind` is "baseline", "discrete" or "soft", `tokens` went through the model.

    branch: which part of the search made it; operator and parents (numbers of trials): how, and of
    what. dropped: a race ended for it after `examples`. gain: mean advantage over the baseline in
    bounded margins, on those examples. size: rendered tokens, where they are an objective. params: what of the space
    it was made of, each part's number among its candidates; of prompts that the space does not have, nothing.
    """

    number: int
    kind: str
    value: float
    margin: float
    examples: int
    tokens: int
    seconds: float
    fingerprint: str
    text: str
    branch: str = ""
    dropped: bool = False
    operator: str = ""
    parents: tuple[int, ...] = ()
    gain: float = 0.0
    size: float = 0.0
    params: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialFailed(Event):
    number: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Confirmed(Event):
    """A finalist, scored on all of dev.

    estimate: the metric, shrunk toward the group of finalists. evidence: log wealth of the bet
    against the baseline; certain: whether that is beyond luck. size: rendered tokens, where they are
    an objective.
    """

    number: int
    kind: str
    value: float
    margin: float
    fingerprint: str
    estimate: float = 0.0
    evidence: float = 0.0
    certain: bool = False
    size: float = 0.0


@dataclass(frozen=True)
class WinnerChosen(Event):
    """The prompt that survived confirmation; `text` is its placeholder text."""

    number: int
    kind: str
    value: float
    fingerprint: str
    text: str


@dataclass(frozen=True)
class TestOpened(Event):
    """The locked test split was read; `times` counts the openings in this folder."""

    reason: str
    times: int

    __test__ = False  # not a pytest class


@dataclass(frozen=True)
class EpochFinished(Event):
    """An epoch of fine-tuning; `start` is the prompt that it started from: "winner" or "your prompt".

    dev: the score, None where dev was not scored.
    """

    epoch: int
    epochs: int
    loss: float
    dev: float | None
    start: str = "winner"


@dataclass(frozen=True)
class ExamplesAdded(Event):
    """Training examples that the winner made: `source` is "unlabelled" or "written", `counts` says what
    was read or written, kept, and refused for which reason."""

    source: str
    kept: int
    counts: dict[str, Any]


@dataclass(frozen=True)
class PartsCompared(Event):
    """What each part was worth on the locked test: scores of the four cells, and by difference its
    value and 95 % interval."""

    cells: dict[str, float]
    differences: dict[str, tuple[float, float, float]]
    sentence: str


@dataclass(frozen=True)
class SecondTask(Event):
    """The score on another task before fine-tuning and after it, and the 95 % interval of the change."""

    file: str
    examples: int
    before: float
    after: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Finding(Event):
    """What the doctor found; `level` is "fine", "warning" or "problem", `details` are plain numbers and examples."""

    check: str
    level: str
    message: str
    details: dict[str, Any]


@dataclass(frozen=True)
class BaselineScored(Event):
    """A baseline that a search must beat, made by itself; `value` is the metric on dev."""

    name: str
    value: float
    text: str = ""


@dataclass(frozen=True)
class VerdictDetailed(Event):
    """What the locked test says beside the verdict.

    test: the exact test that gives `p` (two-sided) of winner against the user's prompt. detectable: the smallest
    difference that so many examples can show. rival: the strongest baseline on dev: its "name", "value" on test,
    the winner's "difference" to it, its "interval" and "p"; empty where there is none. classes: by label its
    "examples", and the share that is right with "baseline" and "winner". calibration: expected calibration error of
    "baseline" and "winner". ledger: the winner's answers, counted: "right", "wrong", "unparseable",
    "truncated", "too long". also: other metrics by name, their values with baseline and winner.
    """

    test: str
    p: float
    detectable: float
    rival: dict[str, Any]
    classes: dict[str, dict[str, float]]
    calibration: dict[str, float]
    ledger: dict[str, int]
    also: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExamplesFlipped(Event):
    """Test examples on which winner and user's prompt do not agree, the most telling first.

    Each has "number", "fields" (the input), "label" (the target), "before" and "after" (the two answers), "shift"
    (how much the right label's probability grew) and "turn": "gained", "lost", or "other" where both are wrong.
    gained, lost: how many there are; `examples` may be cut to fewer.
    """

    gained: int
    lost: int
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class GainExplained(Event):
    """What each part of the winner earned, in points of the metric on `examples` examples of a split.

    parts: each with "part" (such as "demonstration 3"), "kind" (template, instruction, demonstration, label words,
    calibration, temperature, vectors), "value" (its Shapley value), "low" and "high" (95 %), "share" of the gain,
    "alone" (what it earns added alone to the user's prompt), "last" (what is lost when it alone is taken back), "error"
    (the standard error that sampling leaves) and "text". total: the gain of all.
    """

    split: str
    examples: int
    total: float
    parts: tuple[dict[str, Any], ...]
    sentence: str


@dataclass(frozen=True)
class PromptShortened(Event):
    """The shortest prompt that is not worse than the winner by more than `margin`; `text` is its placeholder text.

    dropped: the parts that are left out. tokens: a call's, of the winner and of the short one. value: the metric on
    dev, of both. interval: 95 %, of short minus winner.
    """

    dropped: tuple[str, ...]
    text: str
    fingerprint: str
    tokens: tuple[float, float]
    value: tuple[float, float]
    interval: tuple[float, float]
    margin: float
    sentence: str


@dataclass(frozen=True)
class RobustnessMeasured(Event):
    """The winner under changes that should not matter: `rows` have "kind", "change", "value" (the metric on dev).

    value: unchanged. mean, worst: over the changes. baseline_worst: the worst of the user's prompt under the same.
    """

    value: float
    mean: float
    worst: float
    baseline_worst: float
    rows: tuple[dict[str, Any], ...]
    sentence: str


@dataclass(frozen=True)
class PromptsTransferred(Event):
    """The top prompts on other models: rows with "model", and by prompt ("your prompt", "winner", "trial 17") the
    metric on dev under "values", or why there is none under "left_out"."""

    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class VerdictReached(Event):
    outcome: str
    sentence: str
    baseline_test: float
    winner_test: float
    interval: tuple[float, float]
    tuned_test: float | None


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know and nothing that stops the run."""

    message: str


@dataclass(frozen=True)
class RunFinished(Event):
    seconds: float
    failed_trials: int


Listener = Callable[[Event], None]


class Listeners:
    """Listeners as one, told in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def also(self, listener: Listener) -> None:
        """From now on tell another one, after the others."""
        self._listeners.append(listener)


def silent(event: Event) -> None:
    """A listener that hears nothing."""
