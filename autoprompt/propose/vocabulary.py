"""The tokens that people can read, and texts with one of them in another's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autoprompt.models import LanguageModel

__all__ = ["Vocabulary", "swapped", "vocabulary"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens that people can read: ids (W,), ascending; and every token's text behind a letter,
    with its leading space."""

    ids: NDArray[np.int64]
    texts: tuple[str, ...]


_known: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def vocabulary(model: LanguageModel) -> Vocabulary:
    """The model's readable tokens: no special ones, no control characters, no parts of characters, and
    none that no text is cut into."""
    if model in _known:
        return _known[model]
    tokenizer = model.tokenizer
    size = min(len(tokenizer), model.network.get_input_embeddings().weight.shape[0])
    anchor = list(model.ids(["a"], special=False)[0])
    skipped = len(tokenizer.decode(anchor))
    texts = [text[skipped:] for text in tokenizer.decode([[*anchor, at] for at in range(size)])]
    special = set(tokenizer.all_special_ids) | {
        at for at, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    clean = [at for at, text in enumerate(texts) if at not in special and _readable(text)]
    again = zip(
        _cut(tokenizer, [texts[at] for at in clean]), _cut(tokenizer, ["a" + texts[at] for at in clean]), strict=True
    )
    ids = [at for at, (alone, behind) in zip(clean, again, strict=True) if at in alone or at in behind]
    _known[model] = Vocabulary(np.array(ids, dtype=np.int64), tuple(texts))
    return _known[model]


def _readable(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and "\ufffd" not in text


def _cut(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = (
        tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    )
    return found


def swapped(model: LanguageModel, text: str, at: int, token: int) -> str:
    """The text with token number `at` replaced by another; the rest stays as it was written."""
    [ids] = model.ids([text], special=False)
    if model.tokenizer.is_fast:
        cut = model.tokenizer([text], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if tuple(cut["input_ids"][0]) == ids:
            ends = [0, *(end for _, end in cut["offset_mapping"][0])]
            # from where the token before it ends: spaces go with the token behind them
            new = text[: ends[at]] + vocabulary(model).texts[token] + text[ends[at + 1] :]
            return new.strip()
    return str(model.tokenizer.decode([*ids[:at], token, *ids[at + 1 :]], skip_special_tokens=True)).strip()
