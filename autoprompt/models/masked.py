"""Models that fill in masks: an answer of n tokens stands on n masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from autoprompt.models.base import Encoding, Family, LanguageModel

__all__ = ["MaskedModel"]


class MaskedModel(LanguageModel):
    """`AutoModelForMaskedLM`."""

    family: ClassVar[Family] = "masked"

    @property
    def mask(self) -> int:
        return int(self.tokenizer.mask_token_id)

    def encode(
        self,
        contexts: Sequence[str],
        answers: Sequence[Sequence[str]],
        tails: Sequence[str],
        slots: Sequence[int | None],
        vectors: int,
    ) -> list[Encoding]:
        before, after = self.specials
        read = self.with_vectors(contexts, slots, vectors)
        ends = self.ids(tails, special=False)
        words = list(dict.fromkeys(a for found in answers for a in found))
        written = dict(zip(words, self.ids(words, special=False), strict=True))
        return [
            Encoding(before + ids, tuple(written[a] for a in found), end + after)
            for ids, found, end in zip(read, answers, ends, strict=True)
        ]
