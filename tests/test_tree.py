"""engine/tree.py: every shared token is read once, and each choice sees what it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.engine.tree import Trunk, grow, label_tree

ids = st.integers(-3, 3)
contexts_drawn = st.lists(st.lists(ids, min_size=1, max_size=9).map(tuple), min_size=1, max_size=12, unique=True)


def paths(trunk: Trunk, contexts: list[tuple[int, ...]], before: tuple[int, ...] = ()) -> dict[int, tuple[int, ...]]:
    """For each context the ids on its way from the root, its own at the end."""
    here = before + contexts[trunk.example][trunk.start : trunk.end]
    found = {leaf: here + contexts[leaf][trunk.end :] for leaf in trunk.leaves}
    for child in trunk.children:
        assert child.start == trunk.end
        found |= paths(child, contexts, here)
    return found


def tokens(root: Trunk, contexts: list[tuple[int, ...]]) -> int:
    """How many tokens are read for a tree, without choices."""
    total, waiting = 0, [root]
    while waiting:
        trunk = waiting.pop()
        total += trunk.length + sum(len(contexts[leaf]) - trunk.end for leaf in trunk.leaves)
        waiting += trunk.children
    return total


@settings(max_examples=300, deadline=None, derandomize=True)
@given(contexts=contexts_drawn, saving=st.integers(1, 6))
def test_every_context_is_found_whole_and_keeps_its_last_token(contexts: list[tuple[int, ...]], saving: int) -> None:
    root = grow(contexts, saving)
    assert paths(root, contexts) == dict(enumerate(contexts))

    def check(trunk: Trunk) -> None:
        assert all(len(contexts[leaf]) > trunk.end for leaf in trunk.leaves)
        for child in trunk.children:
            assert child.length > 0
            assert child.length * (len(paths(child, contexts)) - 1) >= saving
            check(child)

    check(root)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(contexts=contexts_drawn)
def test_with_the_smallest_saving_every_shared_token_is_read_once(contexts: list[tuple[int, ...]]) -> None:
    whole = [(*context, 9) for context in contexts]  # none is the beginning of another
    read = tokens(grow(whole, 1), whole)
    assert read == len({context[:n] for context in whole for n in range(1, len(context) + 1)})


def test_grown_lists_of_demonstrations_hang_on_each_other() -> None:
    shown = tuple(range(10, 40))
    contexts = [(1, *shown[:count], 50 + count, item) for count in (0, 10, 20, 30) for item in (60, 61, 62)]
    root = grow(contexts, 4)
    depth, trunk = [], root
    while trunk.children:
        trunk = max(trunk.children, key=lambda child: child.end)
        depth.append(trunk.end)
    assert depth[-1] == 32
    assert len(depth) >= 3
    assert tokens(root, contexts) < 32 + 4 * 6


def test_a_text_that_comes_first_is_read_once_for_all_that_stands_behind_it() -> None:
    texts = [tuple(range(100 * n, 100 * n + 30)) for n in range(1, 5)]
    contexts = [(0, *text, 7, behind, 8) for text in texts for behind in range(9, 19)]
    assert tokens(grow(contexts, 8), contexts) == 1 + 4 * (31 + 10 * 2)


def test_a_long_context_is_a_trunk_of_its_own() -> None:
    root = grow([tuple(range(2000)), (5, 6)], 8)
    [trunk] = root.children
    assert (trunk.start, trunk.end, trunk.leaves) == (0, 1999, [0])
    assert root.leaves == [1]


def test_hundreds_of_nested_beginnings_need_no_recursion() -> None:
    contexts = [tuple(range(10 * n)) for n in range(1, 400)]
    assert tokens(grow(contexts, 8), contexts) < 3990 + 2 * 400


def test_choices_share_their_beginnings() -> None:
    tree = label_tree(((7,), (8, 9), (8, 9, 10), (8, 11, 12)))
    assert tree.ids == (8, 9, 11)
    assert tree.depths == (0, 1, 1)
    assert tree.visible.astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert tree.choices == (
        ((0, 7),),
        ((0, 8), (1, 9)),
        ((0, 8), (1, 9), (2, 10)),
        ((0, 8), (1, 11), (3, 12)),
    )
    assert tree.places == 4


def test_choices_of_one_token_need_no_tokens() -> None:
    tree = label_tree(((7,), (8,)))
    assert tree.ids == ()
    assert tree.visible.shape == (0, 0)
    assert np.array_equal(tree.choices, [[[0, 7]], [[0, 8]]])


@pytest.mark.parametrize("choices", [(), ((),), ((3,), ())])
def test_a_choice_without_tokens_is_refused(choices: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="at least one choice, and each choice at least one token"):
        label_tree(choices)
