"""retrieval.py, demonstrations.py, and the prompts that show each input the examples most like it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.errors import ExportError, PromptError
from autoprompt.export import Exported, export
from autoprompt.prompt import Prompt
from autoprompt.retrieval import Index, index_of
from autoprompt.space import DemonstrationSpace, Space, Stored

TEXTS = (
    "My parcel has not arrived.",
    "I was charged twice for one order.",
    "The lamp does not switch on.",
    "Where is the parcel with my kettle?",
    "",
    "!!!",
)
POOL = tuple(Demonstration({"text": text}, "late" if "parcel" in text else "other") for text in TEXTS)
WORDS = {"late": "shipping", "other": "else"}


def retrieving(number: int, **parts: str) -> Prompt:
    return Prompt(parts.pop("template", "{{ text }}\n{{ label }}"), WORDS, retrieval=Retrieval(POOL, number), **parts)


# -- the index -------------------------------------------------------------------------------


def test_the_most_alike_text_is_first() -> None:
    index = Index(TEXTS)
    assert set(index.ranking("the parcel, where is the parcel?")[:2]) == {0, 3}
    assert index.ranking("charge twice")[0] == 1


def test_a_ranking_holds_every_text_once() -> None:
    for text in (*TEXTS, "nothing of the kind", "日本"):
        assert sorted(Index(TEXTS).ranking(text).tolist()) == list(range(len(TEXTS)))


def test_texts_that_are_equally_unlike_keep_their_order() -> None:
    assert Index(("a b", "c d", "e f")).ranking("日本").tolist() == [0, 1, 2]


def test_texts_without_any_letter_can_be_indexed() -> None:
    assert Index(("", "?", "…")).ranking("").tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.text(max_size=30))
def test_any_texts_are_ranked_alike_each_time(texts: list[str], asked: str) -> None:
    first, second = Index(texts).ranking(asked), Index(texts).ranking(asked)
    assert np.array_equal(first, second)
    assert sorted(first.tolist()) == list(range(len(texts)))


def test_prompts_of_one_pool_share_its_index() -> None:
    assert index_of(TEXTS) is index_of(tuple(TEXTS))


# -- what a prompt shows ---------------------------------------------------------------------


def test_the_most_alike_demonstration_stands_next_to_the_input() -> None:
    shown = retrieving(2, instruction="Sort.").render({"text": "Where is the parcel with the pan?"})
    assert shown.context == (
        "Sort.\n\nMy parcel has not arrived.\nshipping\n\nWhere is the parcel with my kettle?\nshipping\n\n"
        "Where is the parcel with the pan?\n"
    )


def test_fixed_demonstrations_stand_in_front_of_the_retrieved_ones() -> None:
    fixed = Demonstration({"text": "Thanks!"}, "other")
    shown = dataclasses.replace(retrieving(1), demonstrations=(fixed,)).render({"text": "charged twice"})
    assert shown.context == "Thanks!\nelse\n\nI was charged twice for one order.\nelse\n\ncharged twice\n"


def test_an_example_is_never_shown_to_itself() -> None:
    for at, text in enumerate(TEXTS):
        assert POOL[at] not in Retrieval(POOL, len(POOL)).nearest({"text": text})
        assert len(Retrieval(POOL, len(POOL)).nearest({"text": text})) == len(POOL) - 1


def test_a_short_text_does_not_hide_the_longer_ones_that_begin_alike() -> None:
    assert POOL[0] in Retrieval(POOL, 1).nearest({"text": "My parcel"})


def test_a_long_text_that_was_cut_is_not_shown_to_itself_either() -> None:
    long = Demonstration({"text": "parcel " * 100}, "late")
    found = Retrieval((*POOL, long), 2).nearest({"text": ("parcel " * 100)[:300]})
    assert long not in found


def test_inputs_of_several_fields_are_compared_by_all_of_them() -> None:
    pool = (
        Demonstration({"title": "kettle", "body": "late"}, "late"),
        Demonstration({"title": "lamp", "body": "dark"}, "other"),
    )
    assert Retrieval(pool, 1).nearest({"title": "the", "body": "dark lamp"}) == [pool[1]]


def test_the_placeholder_text_says_what_is_retrieved() -> None:
    assert retrieving(2).placeholder_text() == (
        "<the 2 of 6 examples most like the input, the most alike last>\n\n{text}\n{label}"
    )


@pytest.mark.parametrize("number", [0, 7])
def test_a_pool_must_hold_what_is_retrieved(number: int) -> None:
    with pytest.raises(PromptError, match=f"{number} demonstrations cannot be retrieved from a pool of 6"):
        Retrieval(POOL, number)


def test_the_label_of_every_demonstration_of_the_pool_needs_a_word() -> None:
    with pytest.raises(PromptError, match="has the label 'late', which has no label word"):
        Prompt("{{ text }}\n{{ label }}", {"other": "a", "third": "b"}, retrieval=Retrieval(POOL, 1))


def test_a_retrieving_prompt_comes_back_from_json_with_its_fingerprint() -> None:
    prompt = retrieving(3)
    again = Prompt.from_dict(json.loads(json.dumps(prompt.to_dict())))
    assert again == prompt
    assert again.render({"text": "a parcel"}) == prompt.render({"text": "a parcel"})
    assert prompt.fingerprint not in {
        retrieving(2).fingerprint,
        dataclasses.replace(prompt, retrieval=None).fingerprint,
    }


def test_a_damaged_pool_is_an_export_error() -> None:
    value = retrieving(1).to_dict()
    value["retrieval"] = {"number": 1}
    with pytest.raises(ExportError, match="The prompt is incomplete or damaged: KeyError 'pool'"):
        Prompt.from_dict(value)


# -- what a space proposes -------------------------------------------------------------------


def space() -> Space:
    pool = tuple(Example(n, shown.fields, shown.label) for n, shown in enumerate(POOL))
    demonstrations = DemonstrationSpace(most=3, draws=4, orders=2, selections=("drawn", "similar"))
    return Space(Prompt("{{ text }}\n{{ label }}", WORDS), demonstrations=demonstrations, pool=pool)


def test_a_space_proposes_drawn_and_similar_demonstrations() -> None:
    similar = space().discrete(Stored({"demonstrations": 2, "selection": 1}))
    assert similar == retrieving(2)
    drawn = space().discrete(Stored({"demonstrations": 2, "selection": 0, "draw": 1, "order": 1}))
    assert drawn.retrieval is None
    assert len(drawn.demonstrations) == 2


def test_no_demonstrations_are_the_same_prompt_however_they_are_selected() -> None:
    assert space().discrete(Stored({"demonstrations": 0, "selection": 1})) == space().baseline


# -- the exported card -----------------------------------------------------------------------


def test_the_program_of_the_card_retrieves_the_same_demonstrations(tmp_path: Path) -> None:
    export(
        tmp_path / "w", retrieving(2), Exported("builtin", "causal", "float32", "accuracy", ("text",), "team", "prompt")
    )
    card = (tmp_path / "w/README.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", card, re.S)
    assert program is not None
    lines = [line for line in program[1].splitlines() if "model" not in line and "okenizer" not in line]
    asked = "Where is the parcel with the pan?"
    text = "\n".join(lines).replace('["..."]', f'["{asked}"]') + "\nprint([s['fields']['text'] for s in shown])"
    answer = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path / "w", capture_output=True, text=True, check=True
    )
    expected = [shown.fields["text"] for shown in Retrieval(POOL, 2).nearest({"text": asked})]
    assert answer.stdout.strip() == repr(expected)
    assert "Each input is shown the 2 examples of the pool" in card


def test_only_the_latest_rankings_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprompt.retrieval._KEPT_NUMBERS", 200)
    index = Index(["My parcel is late.", "I was charged twice."])
    rankings = [index.ranking(f"parcel number {n}").tolist() for n in range(250)]
    assert len(index._known) == 100
    assert "parcel number 249" in index._known
    assert [index.ranking(f"parcel number {n}").tolist() for n in range(250)] == rankings
