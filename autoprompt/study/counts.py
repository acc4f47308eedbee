"""What a search came to, in numbers."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from autoprompt.errors import StudyError
from autoprompt.events import TrialFailed, TrialFinished
from autoprompt.study.records import by_batch
from autoprompt.study.trials import Trials

__all__ = ["check_failures", "counted", "evaluations", "event_of", "tokens"]


def counted(trials: Trials, by: str) -> dict[str, dict[str, int]]:
    """Trials by an attribute and by state: complete, pruned (dropped in a race), fail, running."""
    table: dict[str, dict[str, int]] = {}
    for trial in trials.all():
        states = table.setdefault(trial.user_attrs[by], {})
        name = trial.state.name.lower()
        states[name] = states.get(name, 0) + 1
    return table


def evaluations(trials: Trials) -> int:
    """(prompt, example) pairs that the search scored."""
    return sum(t.user_attrs["score"]["examples"] for t in trials.all() if _is_told(t))


def tokens(trials: Trials) -> int:
    """Tokens that went through the model for trials, and those that finding them took."""
    scored = sum(t.user_attrs["score"]["tokens"] for t in trials.all() if _is_told(t))
    found = sum(members[0].user_attrs["tokens"] for members in by_batch(trials.all()).values())
    return int(scored + found + sum(tokens for _, tokens in trials.empty().values()))


def _is_told(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() and "score" in trial.user_attrs


def check_failures(trials: Trials) -> None:
    """Raise StudyError when the baseline failed, or more than half of the trials did."""
    failed = [t for t in trials.all() if t.state == TrialState.FAIL]
    if failed and failed[0].user_attrs["kind"] == "baseline":
        raise StudyError(f"The baseline, your own prompt, cannot be scored: {failed[0].user_attrs['reason']}")
    if len(trials.all()) >= 10 and len(failed) > len(trials.all()) / 2:
        raise StudyError(
            f"{len(failed)} of {len(trials.all())} trials failed, the last one with: "
            f"{failed[-1].user_attrs['reason']} "
            "All are in events.jsonl. Mend the cause and run again; the finished trials are kept."
        )


def event_of(trial: FrozenTrial, text: str) -> TrialFailed | TrialFinished:
    """What a listener is told of a trial that is committed. text: the prompt's placeholder text."""
    attrs = trial.user_attrs
    if trial.state == TrialState.FAIL:
        return TrialFailed(trial.number, attrs["kind"], attrs["reason"])
    score = attrs["score"]
    return TrialFinished(
        trial.number, attrs["kind"], score["value"], score["margin"], score["examples"], score["tokens"],
        score["seconds"], attrs["fingerprint"], text, attrs["branch"], trial.state == TrialState.PRUNED,
        attrs["operator"], tuple(attrs["parents"]), score["gain"], score["size"],
        {name: int(value) for name, value in trial.params.items()} if attrs["branch"] == "discrete" else {},
    )  # fmt: skip
