"""The branches of a search: each makes the candidates of a batch from what is known before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.propose import Desk, Known, Proposer
from autoprompt.samplers import CoordinateSearch
from autoprompt.soft import Projection, seed_of
from autoprompt.space import SoftStructure, Space
from autoprompt.study.history import History
from autoprompt.study.records import Asked, by_batch
from autoprompt.tuning import TuningOptions, exact_text_start, tune_vectors

__all__ = ["Branch", "Coordinates", "Found", "Proposed", "Tuned"]


@dataclass(frozen=True)
class Found:
    """The candidates of a batch, and the tokens that finding them takes."""

    asked: Sequence[Asked] = ()
    tokens: int = 0


class Branch(Protocol):
    """One way to make candidates. whole: it needs batches of full size."""

    @property
    def name(self) -> str: ...
    @property
    def whole(self) -> bool: ...

    def find(self, history: History, count: int, number: int) -> Found:
        """Up to `count` candidates; `number` is that of the first trial of the batch."""


class Coordinates:
    """Vectors by coordinates, without gradients (black-box tuning, Sun et al. 2022).

    A batch is one generation; every `generations` of them a new search starts, with another structure.
    """

    name = "coordinates"
    whole = True

    def __init__(
        self, space: Space, model: LanguageModel, seed: int, population: int, generations: int, deviation: float
    ) -> None:
        self._space, self._model, self._seed = space, model, seed
        self._population, self._generations, self._deviation = population, generations, deviation

    def find(self, history: History, count: int, number: int) -> Found:
        soft = self._space.soft
        assert soft is not None
        earlier = history.own(self.name)  # each worker has searches of its own
        done, generation = divmod(len(by_batch(earlier)), self._generations)
        run = history.mixed(done)
        structure = soft.structure(run, self._seed)
        members = [t for t in earlier if t.user_attrs["run"] == run]
        carrier = members[0].user_attrs["parents"][0] if members else _carrier(history.known, structure).number
        text = history.trials.prompt(history.trials.all()[carrier])
        told = [self._ranks([t for t in members if t.user_attrs["generation"] == g]) for g in range(generation)]
        searched = CoordinateSearch(soft.dimensions, self._population, self._deviation, seed_of(self._seed, "cma", run))
        projection = _projection(self._space, self._model, text, structure, run)
        params, distributions = _structure_parameters(self._space, structure)
        return Found([
            Asked(
                self._space.with_vectors(text, projection.vectors(coordinates), structure.position), self.name, params,
                distributions, "coordinates", (carrier,), {"run": run, "generation": generation},
            )
            for coordinates in searched.candidates(told)[:count]
        ])  # fmt: skip

    def _ranks(self, generation: Sequence[FrozenTrial]) -> list[float | None]:
        """Places within a generation, which is all that CMA-ES looks at: who saw more examples comes
        first, then who has the better mean evidence. None for those that failed, or were never asked
        because their worker died."""

        def place(trial: FrozenTrial) -> tuple[int, float]:
            score = trial.user_attrs["score"]
            return (-score["examples"], -score["gain"])

        ranked = sorted((t for t in generation if "score" in t.user_attrs), key=place)
        places = {t.number: float(at) for at, t in enumerate(ranked)}
        found = [places.get(t.number) for t in generation]
        return found + [None] * (self._population - len(found))


def _carrier(known: Sequence[Known], structure: SoftStructure) -> Known:
    """The prompt whose text carries the vectors: the best without vectors, or the baseline."""
    texts = [candidate for candidate in known if candidate.prompt.soft is None]
    return texts[0] if structure.start == "best" else min(texts, key=lambda candidate: candidate.number)


def _projection(space: Space, model: LanguageModel, carrier: Prompt, structure: SoftStructure, run: int) -> Projection:
    """The map from coordinates to vectors; a start at the best prompt is at the tokens of the carrier's text."""
    [tokens] = model.ids([carrier.instruction or replace(carrier, chat="none").placeholder_text()], special=False)
    return space.projection(run, structure, model.embeddings, tokens)


def _structure_parameters(space: Space, structure: SoftStructure) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    assert space.soft is not None
    chosen = {"soft.vectors": structure.vectors, "soft.position": structure.position, "soft.start": structure.start}
    allowed = (space.soft.vectors, space.soft.positions, space.soft.starts)
    return chosen, {name: CategoricalDistribution(c) for name, c in zip(chosen, allowed, strict=True)}


class Tuned:
    """Vectors by gradient (prompt tuning, Lester et al. 2021; P-tuning, Liu et al. 2021).

    A batch is one training: its checkpoints are the candidates, and race each other. Trainings take
    turns: from the text of the best prompt, whose own token embeddings the vectors are at first;
    from the best soft prompt there is, with smaller steps; and with the structures of the space.
    """

    name = "tuning"
    whole = False

    def __init__(self, desk: Desk, seed: int, options: TuningOptions) -> None:
        self._desk, self._seed, self._options = desk, seed, options

    def find(self, history: History, count: int, number: int) -> Found:
        turn = len(by_batch(history.of_branch(self.name)))
        known = history.known
        start, parent, note = self._start(known, turn, history)
        options = replace(
            self._options,
            checkpoints=count,
            learning_rate=self._options.learning_rate * (0.3 if note == "soft" else 1.0),
            reparameterization="mlp" if note == "structure" and turn % 2 else "none",
        )
        found, tokens = tune_vectors(
            self._desk.model, start, self._desk.pool, options, seed_of(self._seed, "tune", history.mixed(turn))
        )
        assert start.soft is not None
        return Found(
            [
                Asked(
                    self._desk.space.with_vectors(replace(start, soft=None), checkpoint.vectors, start.soft.position),
                    self.name, operator=f"tuning from {note}", parents=(parent,),
                    notes={"run": history.mixed(turn), "step": checkpoint.step},
                )
                for checkpoint in found
            ],
            tokens,
        )  # fmt: skip

    def _start(self, known: Sequence[Known], turn: int, history: History) -> tuple[Prompt, int, str]:
        """The soft prompt to start from, its parent's number, and what it is."""
        best = next(candidate for candidate in known if candidate.prompt.soft is None)
        soft = [candidate for candidate in known if candidate.prompt.soft is not None]
        if turn % 3 == 0:
            exact = exact_text_start(self._desk.model, best.prompt)
            if exact is not None:
                return exact, best.number, "text"
        if turn % 3 == 2 and soft:
            return soft[0].prompt, soft[0].number, "soft"
        return self._from_structure(best, history.mixed(turn)), best.number, "structure"

    def _from_structure(self, carrier: Known, turn: int) -> Prompt:
        space, model = self._desk.space, self._desk.model
        assert space.soft is not None
        run = 10_000 + turn  # numbers that no search by coordinates has
        structure = space.soft.structure(run, self._seed)
        vectors = _projection(space, model, carrier.prompt, structure, run).start
        return space.with_vectors(carrier.prompt, vectors, structure.position)


class Proposed:
    """What a proposer makes of the candidates known."""

    whole = False

    def __init__(self, proposer: Proposer, seed: int) -> None:
        self.name = proposer.name
        self._proposer, self._seed = proposer, seed

    def find(self, history: History, count: int, number: int) -> Found:
        proposals = self._proposer.propose(history.known, count, seed_of(self._seed, self.name, number))
        return Found(
            [Asked(p.prompt, self.name, operator=p.operator, parents=p.parents) for p in proposals.found[:count]],
            proposals.tokens,
        )
