"""Encoder-decoder models: the encoder reads the prompt, the decoder writes the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from autoprompt.models.base import Encoding, Family, LanguageModel

__all__ = ["Seq2SeqModel"]


class Seq2SeqModel(LanguageModel):
    """`AutoModelForSeq2SeqLM`."""

    family: ClassVar[Family] = "seq2seq"

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
        texts = [(a + t).strip() for found, t in zip(answers, tails, strict=True) for a in found]
        distinct = list(dict.fromkeys(texts))
        written = dict(zip(distinct, self.ids(distinct, special=False), strict=True))
        encoded = iter(written[text] for text in texts)
        return [
            Encoding(before + ids + after, tuple(next(encoded) for _ in found))
            for ids, found in zip(read, answers, strict=True)
        ]
