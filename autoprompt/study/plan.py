"""Which branches take part in a search."""

from __future__ import annotations

from autoprompt.errors import StudyError, nearest
from autoprompt.models import LanguageModel
from autoprompt.propose import PROPOSERS, Desk
from autoprompt.samplers import SAMPLERS
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study.branches import Branch, Coordinates, Proposed, Tuned
from autoprompt.study.options import BRANCHES, StudyOptions
from autoprompt.study.sampled import Sampled, SurrogateBranch
from autoprompt.study.trials import Trials
from autoprompt.tuning import TuningOptions

__all__ = ["branches_of"]


def branches_of(
    space: Space,
    scorer: Scorer,
    options: StudyOptions,
    trials: Trials,
    seed: int,
    writer: LanguageModel | None,
    dev: int,
) -> dict[str, Branch]:
    """The branches by name, in the order of their first turns. dev: how many examples there are to score on.

    Those that cannot do anything for the space and the model are left out. Raises StudyError when a
    name is unknown, or none is left.
    """
    for name in options.branches or ():
        if name not in BRANCHES:
            raise StudyError(f"The branch is {name!r}; allowed are {', '.join(BRANCHES)}.{nearest(name, BRANCHES)}")
    desk = Desk(space, scorer, space.pool, writer, options.writer_tokens, dev)
    found: dict[str, Branch] = {}
    for name in BRANCHES:
        if options.branches is not None and name not in options.branches:
            continue
        branch = _branch(name, desk, options, trials, seed)
        if branch is not None:
            found[name] = branch
    if not found:
        raise StudyError(
            f"None of the branches {', '.join(options.branches or BRANCHES)} can do anything for this space and model."
        )
    return found


def _branch(name: str, desk: Desk, options: StudyOptions, trials: Trials, seed: int) -> Branch | None:
    space, model = desk.space, desk.model
    if name == "discrete":
        if options.sampler == "surrogate":
            return SurrogateBranch(space, model, seed, options.startup)
        if options.sampler not in SAMPLERS:
            raise StudyError(
                f"The sampler is {options.sampler!r}; allowed are {', '.join(SAMPLERS)}."
                f"{nearest(options.sampler, SAMPLERS)}"
            )
        return Sampled(space, options.sampler, trials, seed, options.startup)
    if name == "coordinates":
        if space.soft is None:
            return None
        return Coordinates(space, model, seed, options.batch, options.generations, options.deviation)
    if name == "tuning":
        if space.soft is None or not space.pool:
            return None
        return Tuned(desk, seed, TuningOptions(steps=options.steps))
    proposer = next(kind for kind in PROPOSERS if kind.name == name)
    return Proposed(proposer(desk), seed) if proposer.covers(desk) else None
