"""Models that read from left to right and write on: an answer is what they would write next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from autoprompt.models.base import Encoding, Family, LanguageModel, common_length

__all__ = ["CausalModel"]


class CausalModel(LanguageModel):
    """`AutoModelForCausalLM`."""

    family: ClassVar[Family] = "causal"

    def encode(
        self,
        contexts: Sequence[str],
        answers: Sequence[Sequence[str]],
        tails: Sequence[str],
        slots: Sequence[int | None],
        vectors: int,
    ) -> list[Encoding]:
        # The whole string is tokenized with each answer: where a tokenizer joins the end of the
        # context with the answer, the joined token belongs to the choice.
        wholes = [c + a + t for c, found, t in zip(contexts, answers, tails, strict=True) for a in found]
        repeated = [s for s, found in zip(slots, answers, strict=True) for _ in found]
        before = self.specials[0]
        encoded = iter(self.with_vectors(wholes, repeated, vectors))
        alone = self.with_vectors(contexts, slots, vectors)
        made = []
        for context, found in zip(alone, answers, strict=True):
            rows = [next(encoded) for _ in found] or [context]  # without answers all of it is context
            cut = min(common_length([context, *rows]), min(map(len, rows)) - 1) if found else len(context)
            # with nothing to condition on, the first token stands alone
            first = before if cut + len(before) else (self.tokenizer.eos_token_id or 0,)
            made.append(Encoding(first + rows[0][:cut], tuple(row[cut:] for row in rows[: len(found)])))
        return made
