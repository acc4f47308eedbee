"""An instruction in other words, written by a language model."""

from __future__ import annotations

from autoprompt.engine import Engine
from autoprompt.prompt import Prompt
from autoprompt.propose.writing import Pen, chats, instruction_in, line_ends
from autoprompt.soft import seed_of

__all__ = ["paraphrased"]

_WRITTEN, _BUDGET = 64, 8000  # tokens of an instruction, and of all that is read and written
_ASKED = """Say this instruction in other words. Keep its meaning and every name in it, and add nothing.

{instruction}

Put it between <INS> and </INS>."""
_CONTINUED = "Instruction: {instruction}\nIn other words:"  # for models that follow no requests


def paraphrased(engine: Engine, prompt: Prompt, count: int, seed: int) -> list[str]:
    """Up to `count` other wordings of the prompt's instruction; none from a model that cannot write.

    What names other label words than the instruction does, or reads like no instruction, is left out.
    """
    text = prompt.instruction.strip()
    if not text or engine.model.family not in ("causal", "seq2seq"):
        return []
    asks = chats(engine.model)
    pen = Pen(engine, _BUDGET, None if asks else line_ends(engine.model))
    said = (_ASKED if asks else _CONTINUED).format(instruction=text if asks else " ".join(text.split()))
    fits = [found for _ in range(2 * count) if (found := pen.fitting(lambda size: said, _WRITTEN))]
    written = pen.write([ids for ids, _ in fits], _WRITTEN, seed_of(seed, "paraphrase"))
    texts = dict.fromkeys(instruction_in(one, cut) for one, cut in written)
    return [one for one in texts if one and one != text and _named(one, prompt) == _named(text, prompt)][:count]


def _named(text: str, prompt: Prompt) -> set[str]:
    return {word for word in prompt.label_words.values() if word.casefold() in text.casefold()}
