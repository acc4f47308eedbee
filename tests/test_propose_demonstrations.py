"""Demonstrations chosen from the pool for the best prompt."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.propose import Desk, Known, Proposals
from autoprompt.propose.checks import objection
from autoprompt.propose.demonstrations import Demonstrations, Design, influences
from autoprompt.propose.selection import covering, in_class_turns, likeness, spread, typical
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, Space

pytestmark = pytest.mark.model

WORDS = {"sports": "sports", "money": "money", "weather": "weather"}
BASE = Prompt("{{ text }}\nTopic: {{ label }}", WORDS, "Which topic?")
MOST = 3


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(topics_rows))


def desk_of(folder: Path, pool: tuple[Example, ...], most: int = MOST) -> Desk:
    space = Space(BASE, demonstrations=DemonstrationSpace(most), pool=pool)
    return Desk(space, Scorer(load_model(str(folder)), accuracy), pool)


@pytest.fixture(scope="module")
def desk(llama_folder: Path, pool: tuple[Example, ...]) -> Desk:
    return desk_of(llama_folder, pool)


def proposer(desk: Desk) -> Demonstrations:
    return Demonstrations(desk, candidates=9, subsets=9, heldout=6)


def known(prompt: Prompt = BASE) -> list[Known]:
    return [Known(7, prompt, 0.5, 0.0, 10)]


@pytest.fixture(scope="module")
def found(desk: Desk) -> Proposals:
    return proposer(desk).propose(known(), 30, 1)


def test_only_examples_of_the_pool_are_shown_each_once(found: Proposals, pool: tuple[Example, ...]) -> None:
    labels = {example.fields["text"]: example.label for example in pool}
    for proposal in found.found:
        shown = [(one.fields["text"], one.label) for one in proposal.prompt.demonstrations]
        assert all(labels[text] == label for text, label in shown)
        assert len(set(shown)) == len(shown)


def test_from_one_to_the_most_that_the_space_allows(found: Proposals) -> None:
    sizes = {len(proposal.prompt.demonstrations) for proposal in found.found}
    assert sizes == {1, 2, 3}


def test_nothing_else_of_the_prompt_changes(found: Proposals) -> None:
    assert {replace(proposal.prompt, demonstrations=()) for proposal in found.found} == {BASE}
    assert {proposal.parents for proposal in found.found} == {(7,)}


def test_sets_are_distinct_and_can_be_scored(found: Proposals, desk: Desk) -> None:
    assert len({proposal.prompt for proposal in found.found}) == len(found.found) > 20
    assert not [reason for proposal in found.found if (reason := objection(proposal.prompt, desk))]


def test_ways_to_choose_take_turns(found: Proposals) -> None:
    ways = {"hard", "easy", "prototypes", "diverse", "coverage", "drawn", "influence", "swap", "order", "one less"}
    assert ways <= {proposal.operator for proposal in found.found}
    assert len({proposal.operator for proposal in found.found[:8]}) >= 7


def test_chosen_sets_have_one_example_of_each_class(found: Proposals) -> None:
    for proposal in found.found:
        if proposal.operator in {"hard", "easy", "prototypes", "diverse", "coverage", "influence"}:
            labels = Counter(one.label for one in proposal.prompt.demonstrations)
            assert max(labels.values()) == 1


def test_the_answer_and_its_cost_do_not_depend_on_what_was_scored(
    found: Proposals, desk: Desk, llama_folder: Path, pool: tuple[Example, ...]
) -> None:
    assert proposer(desk).propose(known(), 30, 1) == found
    new = desk_of(llama_folder, pool)
    assert proposer(new).propose(known(), 30, 1) == found
    assert found.tokens >= new.scorer.tokens * 0.5 > 0
    assert proposer(desk).propose(known(), 30, 2).found != found.found


def test_demonstrations_that_are_shown_are_swapped_ordered_and_left_out(desk: Desk, pool: tuple[Example, ...]) -> None:
    shown = tuple(Demonstration(example.fields, example.label) for example in pool[:3])
    texts = {one.fields["text"] for one in shown}
    children = proposer(desk).propose(known(replace(BASE, demonstrations=shown)), 30, 3).found
    kept = {
        operator: [
            {one.fields["text"] for one in child.prompt.demonstrations} & texts
            for child in children
            if child.operator == operator
        ]
        for operator in ("swap", "order", "one less", "hard")
    }
    assert {len(both) for both in kept["swap"]} == {2}
    assert {len(both) for both in kept["order"]} == {3}
    assert {len(both) for both in kept["one less"]} == {2}
    assert {len(both) for both in kept["hard"]} == {0}


def test_a_swap_keeps_the_balance_of_classes(desk: Desk, pool: tuple[Example, ...]) -> None:
    shown = tuple(Demonstration(example.fields, example.label) for example in pool[:3])
    children = proposer(desk).propose(known(replace(BASE, demonstrations=shown)), 30, 3).found
    swaps = [child.prompt.demonstrations for child in children if child.operator == "swap"]
    assert swaps
    assert all({one.label for one in demonstrations} == set(WORDS) for demonstrations in swaps)


def test_retrieved_demonstrations_give_way_to_fixed_ones(desk: Desk) -> None:
    retrieving = replace(BASE, retrieval=Retrieval(desk.space.shown, 2))
    children = proposer(desk).propose(known(retrieving), 6, 4).found
    assert len(children) == 6
    assert all(child.prompt.retrieval is None and child.prompt.demonstrations for child in children)


def test_sets_that_do_not_fit_into_the_window_are_made_smaller(llama_folder: Path, pool: tuple[Example, ...]) -> None:
    long = tuple(replace(e, fields={"text": e.fields["text"] + " It went on and on like this."}) for e in pool)
    desk = desk_of(llama_folder, long, most=9)
    children = proposer(desk).propose(known(), 12, 5).found
    assert children
    assert max(len(child.prompt.demonstrations) for child in children) < 9
    assert not desk.scorer.truncated


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_other_families_get_demonstrations(
    name: str, model_folders: dict[str, Path], pool: tuple[Example, ...]
) -> None:
    desk = desk_of(model_folders[name], pool, most=2)
    assert Demonstrations.covers(desk)
    assert len(Demonstrations(desk, 6, 6, 4).propose(known(), 5, 6).found) == 5


def test_it_covers_spaces_with_demonstrations_and_models_that_read_them(
    desk: Desk, encoder_folder: Path, pool: tuple[Example, ...]
) -> None:
    assert Demonstrations.covers(desk)
    assert not Demonstrations.covers(replace(desk, space=replace(desk.space, demonstrations=DemonstrationSpace(0))))
    assert not Demonstrations.covers(replace(desk, pool=()))
    assert not Demonstrations.covers(desk_of(encoder_folder, pool))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_small_pool_is_enough_or_gives_nothing(size: int, llama_folder: Path, pool: tuple[Example, ...]) -> None:
    children = Demonstrations(desk_of(llama_folder, pool[:size])).propose(known(), 9, 7).found
    assert bool(children) == (size > 2)
    assert all(len(child.prompt.demonstrations) < size for child in children)


def test_a_pool_of_one_class_is_enough(llama_folder: Path, pool: tuple[Example, ...]) -> None:
    desk = desk_of(llama_folder, pool[::3])
    assert len(proposer(desk).propose(known(), 9, 8).found) == 9


def test_nothing_is_made_of_nothing(desk: Desk) -> None:
    assert proposer(desk).propose([], 4, 0) == Proposals()
    assert proposer(desk).propose(known(), 0, 0) == Proposals()


# -- influence -------------------------------------------------------------------------------


def test_every_candidate_appears_equally_often(pool: tuple[Example, ...]) -> None:
    design = Design.drawn(pool[:12], 4, 9, 1)
    assert design.presence.shape == (9, 12)
    assert (design.presence.sum(1) == 4).all()
    assert (design.presence.sum(0) == 3).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 20), st.integers(0, 99))
def test_no_candidate_is_twice_in_a_set(candidates: int, size: int, number: int, seed: int) -> None:
    examples = [Example(at, {"text": str(at)}, "a") for at in range(candidates)]
    design = Design.drawn(examples, min(size, candidates), number, seed)
    assert (design.presence.sum(1) == min(size, candidates)).all()
    appearances = design.presence.sum(0)
    assert appearances.max() - appearances.min() <= 1


def test_influences_find_what_sets_are_the_sum_of(pool: tuple[Example, ...]) -> None:
    design = Design.drawn(pool[:10], 3, 40, 2)
    true = np.linspace(-0.3, 0.3, 10)
    noise = np.random.default_rng(0).normal(0, 0.05, 40)
    estimated = influences(design, 0.2 + design.presence @ true + noise)
    assert np.corrcoef(estimated, true)[0, 1] > 0.95


# -- alike texts -----------------------------------------------------------------------------

TEXTS = ["late parcel", "late parcels", "wrong bill", "wrong bills", "zebra"]


def examples(labels: str) -> list[Example]:
    return [Example(at, {"text": text}, label) for at, (text, label) in enumerate(zip(TEXTS, labels, strict=True))]


def test_likeness_is_a_cosine() -> None:
    alike = likeness([*examples("aabbc"), Example(9, {"text": "!"}, "a")])
    assert np.allclose(np.diag(alike)[:5], 1)
    assert alike[0, 1] > 0.5 > alike[0, 2]


def test_spread_and_covering_choose_from_every_group() -> None:
    alike = likeness(examples("aaaaa"))
    for choose in (spread, covering):
        chosen = choose(alike, ["a"] * 5, 3, random.Random(0))
        assert {at // 2 for at in chosen} == {0, 1, 2}


def test_classes_take_turns() -> None:
    labels = ["a", "a", "a", "b", "c"]
    order = in_class_turns([2, 1, 0, 4, 3], labels)
    assert [labels[at] for at in order] == ["a", "c", "b", "a", "a"]
    assert order == [2, 4, 3, 1, 0]


def test_a_typical_text_is_like_its_class_and_unlike_others() -> None:
    texts = ["late parcel today", "late parcel", "the bill for a parcel", "wrong bill", "the wrong bill"]
    shown = [Example(at, {"text": text}, label) for at, (text, label) in enumerate(zip(texts, "aaabb", strict=True))]
    order = typical(likeness(shown), list("aaabb"))
    assert order[-1] == 2
