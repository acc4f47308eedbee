"""The embedded default model: its files, its speed of loading aside, and what it was not trained on."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from autoprompt.models import BUILTIN, load_model

ROOT = Path(__file__).parents[1]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def training_texts() -> list[str]:
    texts = []
    for path in sorted((BUILTIN / "texts").glob("*.toml")):
        if path.name != "intents.toml":
            for task in tomllib.loads(path.read_text(encoding="utf-8")).values():
                texts += [text for label in task["labels"].values() for text in label["texts"]]
    public = ROOT.parent / "shared" / "data"
    for path in [*public.glob("banking77/train.jsonl"), *public.glob("clinc150/train.jsonl")]:
        texts += [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    return texts


def demo_texts() -> list[str]:
    lines = (ROOT / "search_spaces" / "support.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_no_demo_message_is_in_the_training_text_nor_nearly() -> None:
    """Near: more than 0.7 of the distinct words in common (Jaccard), by an index on the rarest words."""
    trained = [words(text) for text in training_texts()]
    by_word: dict[str, list[int]] = {}
    for at, found in enumerate(trained):
        for word in found:
            by_word.setdefault(word, []).append(at)
    near = []
    for text in demo_texts():
        wanted = words(text)
        # a text that shares 0.7 of the union shares one of any 0.3 + 1 of the words
        rare = sorted(wanted, key=lambda w: len(by_word.get(w, ())))[: int(0.3 * len(wanted)) + 1]
        for at in {i for word in rare for i in by_word.get(word, ())}:
            if len(wanted & trained[at]) > 0.7 * len(wanted | trained[at]):
                near.append((text, trained[at]))
    assert len(trained) > 4000
    assert near == []


def test_the_near_duplicate_search_finds_one() -> None:
    known = training_texts()[17]
    wanted = words(known + " please")
    assert len(wanted & words(known)) > 0.7 * len(wanted | words(known))


def test_the_demo_has_400_to_800_distinct_messages_of_6_to_8_teams() -> None:
    lines = (ROOT / "search_spaces" / "support.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert 400 <= len({row["text"] for row in rows}) == len(rows) <= 800
    assert 6 <= len({row["team"] for row in rows}) <= 8


@pytest.mark.model
def test_the_builtin_is_small_and_of_the_family_it_says() -> None:
    model = load_model("builtin", device="cpu")
    assert model.family == "causal"
    assert 5e6 <= model.parameters <= 15e6
    assert model.window == 2048
    assert sum(p.stat().st_size for p in BUILTIN.glob("*") if p.is_file()) <= 32 * 2**20
    card = (BUILTIN / "MODEL_CARD.md").read_text(encoding="utf-8")
    for needed in ("banking77", "CC-BY-4.0", "clinc150", "CC-BY-3.0", "demonstration model", "recipe.py"):
        assert needed in card
