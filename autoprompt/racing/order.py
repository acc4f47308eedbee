"""The order in which a race shows examples."""

from __future__ import annotations

import random
from collections.abc import Sequence

from autoprompt.data import Example
from autoprompt.soft import seed_of

__all__ = ["in_class_turns"]


def in_class_turns(examples: Sequence[Example], seed: int) -> list[Example]:
    """The examples in an order in which every beginning has the classes in about their proportions.

    Prompts differ most of all in how much they favour one class: where the first examples are mostly
    of one, they say little but that (stratified sampling, with proportional allocation). Within a
    class the order is random.
    """
    places: dict[str, list[int]] = {}
    for at, example in enumerate(examples):
        places.setdefault(example.label, []).append(at)
    keyed: list[tuple[float, float, int]] = []
    for label in sorted(places):
        generator = random.Random(seed_of(seed, "order", label))
        members = generator.sample(places[label], len(places[label]))
        # number j of a class of k stands at (j + 1/2) / k of the way; ties between classes by chance
        keyed += [((j + 0.5) / len(members), generator.random(), at) for j, at in enumerate(members)]
    return [examples[at] for _, _, at in sorted(keyed)]
