"""models/pieces.py: ids by pieces are the ids of the whole text, whatever the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import SENTENCES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from autoprompt.models.pieces import Pieces

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(pattern: str | None, normalizer: Any = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose merges include line breaks and spaces, so that a wrong cut shows."""
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    parts = [level] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated"), level]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    texts = [*SENTENCES, *(f"{a}\n\n{b}\n \n  {a}.\n{b}!\n\n\n{a}" for a in SENTENCES for b in SENTENCES)] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


TOKENIZERS = {
    "gpt2": trained(None),
    "llama3": trained(LLAMA3),
    "nfc": trained(LLAMA3, normalizers.NFC()),
}


def whole(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


texts = st.lists(
    st.sampled_from([
        "The", "match", " the", " bank", "\n", "\n\n", " ", "  ", "\t", "\r\n", ".", "!\n", "?", "'s", "'", "12", " 3456",
        "é", "e\u0301", "漢字", " 漢", "A", "a", "Label:", "<s>", "<|end|>", "\u00a0", "{{ x }}", "🙂", "\u200b", "ß",
    ]),
    max_size=25,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(found=st.lists(texts, min_size=1, max_size=4), name=st.sampled_from(sorted(TOKENIZERS)))
def test_ids_by_pieces_are_those_of_the_whole_text(found: list[str], name: str) -> None:
    pieces = Pieces(TOKENIZERS[name])
    assert pieces.usable
    assert pieces.ids(found) == [whole(TOKENIZERS[name], text) for text in found]
    assert pieces.usable


def test_any_characters_at_all_give_the_same_ids() -> None:
    tokenizer = TOKENIZERS["llama3"]
    drawn = "".join(chr(n) + ("\nB" if n % 7 == 0 else " b c") for n in range(32, 3000))
    assert Pieces(tokenizer).ids([drawn, ""]) == [whole(tokenizer, drawn), ()]


def test_lines_that_texts_share_are_tokenized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = TOKENIZERS["gpt2"]
    pieces = Pieces(tokenizer)
    pieces._count = 65  # beyond the texts that are compared
    seen: list[str] = []
    plain = pieces._whole
    monkeypatch.setattr(pieces, "_whole", lambda given: seen.extend(given) or plain(given))
    pieces.ids([f"The match ended.\nWhich topic?\nText number {n}\nTopic: money" for n in "abcdefg"])
    pieces.ids(["The match ended.\nWhich topic?\nText number c\nTopic: sports"])
    assert seen.count("The match ended.\na") == 1
    assert seen.count("Which topic?\na") == 1
    assert " sports" in seen


@pytest.mark.parametrize(("name", "usable"), [("llama", True), ("gpt2", True), ("t5", False), ("bert", False)])
def test_tokenizers_that_do_not_split_by_a_pattern_read_whole_texts(
    name: str, usable: bool, model_folders: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    pieces = Pieces(tokenizer)
    assert pieces.usable is usable
    text = "The match ended.\nThe bank raised its rates. Topic: sports"
    assert pieces.ids([text]) == [whole(tokenizer, text)]


def test_a_tokenizer_that_disagrees_is_read_whole_from_then_on() -> None:
    class Odd:
        is_fast = True
        backend_tokenizer = TOKENIZERS["gpt2"].backend_tokenizer

        def __call__(self, given: list[str], **options: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[len(text)] for text in given]}

    pieces = Pieces(Odd())
    assert pieces.usable
    assert pieces.ids(["a b c", "The match\nended"]) == [(5,), (15,)]
    assert not pieces.usable
