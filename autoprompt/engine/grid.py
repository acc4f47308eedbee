"""Requests as a grid: each distinct context once, with all choices that any request has behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from autoprompt.engine.request import Ids, Request
from autoprompt.engine.tree import LabelTree, label_tree
from autoprompt.models import LanguageModel

__all__ = ["Count", "Grid"]

Count = Callable[[int], None]  # is told how many tokens were read


@dataclass(frozen=True, eq=False)
class Grid:
    """Distinct contexts, the tail behind each one's answer, and its choices.

    In contexts, the id -1-k stands for row k of `vectors`, one table for all. places: for each
    request its context's number, and its choices' numbers there (None: all, in order). saving:
    how many tokens a shared beginning must spare; None leaves it to the device.
    """

    contexts: list[Ids]
    tails: list[Ids]
    choices: list[tuple[Ids, ...]]
    places: list[tuple[int, list[int] | None]]
    vectors: torch.Tensor | None
    saving: int | None = None

    @cached_property
    def trees(self) -> list[LabelTree]:
        """The tree of each context's choices."""
        return [label_tree(found) for found in self.choices]

    @classmethod
    def of(cls, requests: Sequence[Request], model: LanguageModel) -> Grid:
        """The grid of requests."""
        table = _Table()
        numbers: dict[tuple[Ids, Ids], int] = {}
        choices: list[dict[Ids, int]] = []
        behind: list[int] = []  # which context each request has
        for request in requests:
            number = numbers.setdefault((table.context(request), request.tail), len(numbers))
            if number == len(choices):
                choices.append({})
            behind.append(number)
            for choice in request.choices:
                choices[number].setdefault(choice, len(choices[number]))
        found = [tuple(known) for known in choices]
        places: list[tuple[int, list[int] | None]] = []
        for request, number in zip(requests, behind, strict=True):
            whole = found[number] == request.choices
            places.append((number, None if whole else [choices[number][choice] for choice in request.choices]))
        contexts, tails = [c for c, _ in numbers], [t for _, t in numbers]
        return cls(contexts, tails, found, places, table.vectors(model.device))

    def answers(self, scored: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """From the scores of each context's choices to those of each request (C,)."""
        return [scored[number] if chosen is None else scored[number][chosen] for number, chosen in self.places]

    def with_saving(self, saving: int) -> Grid:
        """The same grid, whose shared beginnings spare at least `saving` tokens."""
        return replace(self, saving=saving)


class _Table:
    """The vectors of many requests in one table, equal ones once."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float32]] = []
        self._count = 0
        self._shift_of_bytes: dict[bytes, int] = {}
        self._shift_of_array: dict[int, int] = {}  # by id: the requests keep their arrays alive

    def context(self, request: Request) -> Ids:
        """The request's context, its vectors' ids those of the table."""
        if request.vectors is None:
            return request.context
        if id(request.vectors) not in self._shift_of_array:
            rows = np.ascontiguousarray(request.vectors, dtype=np.float32)
            shift = self._shift_of_bytes.setdefault(rows.tobytes(), self._count)
            if shift == self._count:
                self._rows.append(rows)
                self._count += len(rows)
            self._shift_of_array[id(request.vectors)] = shift
        shift = self._shift_of_array[id(request.vectors)]
        return tuple(i - shift if i < 0 else i for i in request.context) if shift else request.context

    def vectors(self, device: torch.device) -> torch.Tensor | None:
        return torch.from_numpy(np.concatenate(self._rows)).to(device) if self._rows else None
