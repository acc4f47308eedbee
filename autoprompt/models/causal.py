"""Models that read from left to right and write on: an answer is what they would write next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from autoprompt.chat import VECTORS
from autoprompt.errors import PromptError
from autoprompt.models.base import Encoding, Family, Ids, LanguageModel, Shown, common_length

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
        return self._encoded(contexts, answers, tails, slots, vectors, self.specials[0])

    def encode_turns(self, shown: Sequence[Shown], vectors: int) -> list[Encoding]:
        """Token ids of conversations: those that the tokenizer's `apply_chat_template` makes, whose special tokens are
        all that there are.

        Raises as `encode_shown` does. A text in a turn that spells a special token is read as that token and can end
        its turn, as with the template itself.
        """
        if self.chat is None or not shown:
            return super().encode_turns(shown, vectors)
        told = self.chat.texts([[(role, text.replace(VECTORS, "")) for role, text in s.turns] for s in shown])
        slots: list[int | None] = [None if s.slot is None else len(text) for s, text in zip(shown, told, strict=True)]
        marked = [at for at in range(len(shown)) if slots[at] is not None and _is_marked(shown[at])]
        for at, text in zip(marked, self.chat.texts([shown[at].turns for at in marked]) if marked else (), strict=True):
            if text.count(VECTORS) != 1 or text.replace(VECTORS, "") != told[at]:
                raise PromptError(
                    f"The chat template of the model {self.name!r} has no one place for soft vectors in a turn; take "
                    'the position "answer", which is behind the template, or prompt.chat = "none".'
                )
            slots[at] = text.index(VECTORS)
        return self._encoded(told, [s.answers for s in shown], [""] * len(told), slots, vectors, ())

    def _encoded(
        self,
        contexts: Sequence[str],
        answers: Sequence[Sequence[str]],
        tails: Sequence[str],
        slots: Sequence[int | None],
        vectors: int,
        before: Ids,
    ) -> list[Encoding]:
        """Token ids as `encode` gives them, behind the special tokens `before`."""
        # The whole string is tokenized with each answer: where a tokenizer joins the end of the
        # context with the answer, the joined token belongs to the choice.
        wholes = [c + a + t for c, found, t in zip(contexts, answers, tails, strict=True) for a in found]
        repeated = [s for s, found in zip(slots, answers, strict=True) for _ in found]
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


def _is_marked(shown: Shown) -> bool:
    """Whether vectors stand in one of the turns, and not behind all of them."""
    return any(VECTORS in content for _, content in shown.turns)
