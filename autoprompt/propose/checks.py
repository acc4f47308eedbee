"""What a proposed prompt must be before it is scored: readable, new, and with nothing copied from the data."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from autoprompt.answer import ByText
from autoprompt.data import Example
from autoprompt.errors import PromptError
from autoprompt.models import Encoding
from autoprompt.prompt import Prompt, check_template
from autoprompt.propose.base import Desk, Known, Proposal
from autoprompt.space import Space

__all__ = ["LONGEST", "fresh", "objection"]

LONGEST = 2_000  # characters of an instruction, unless one of the space is longer
_COPIED = 8  # so many consecutive words of one training text are copied
_WHOLE = 4  # a whole training text is copied if it has so many words
_REACH = 4  # words between a shorter training text and its label
_TYPICAL = 3  # examples of about the median length
_JOINERS = "\u200c\u200d"  # letters of some scripts, and emoji, are joined with them
# scripts without spaces: each sign counts as a word
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def objection(prompt: Prompt, desk: Desk) -> str | None:
    """Why a prompt may not be scored, or None.

    It must show pool examples of median length whole (where the baseline cannot either, it must leave
    half of the window to the input), with label words that are different tokens. What it says outside
    of its demonstrations must be readable, have an instruction of at most LONGEST characters, and hold
    neither 8 consecutive words of a pool example, nor a whole one of 4 words or more, nor a shorter one
    beside its label. What the space itself says is allowed.
    """
    longest = max([LONGEST, *map(len, _instructions(desk.space))])
    if len(prompt.instruction) > longest:
        return f"The instruction has {len(prompt.instruction):,} characters; at most {longest:,} are allowed."
    if strange := _unreadable(prompt, desk.space):
        return f"The prompt has the character U+{ord(strange):04X}, which cannot be read."
    training = _training(_Pool(desk.pool))
    try:
        said = _said(prompt)
        return _misfit(prompt, desk, training.typical) or _leak(said, prompt, desk.space, training)
    except PromptError as error:
        return str(error)


def fresh(proposals: Iterable[Proposal], known: Sequence[Known], desk: Desk, count: int) -> tuple[Proposal, ...]:
    """The first `count` proposals that have no objection and that are new, in their order.

    Old are those known or proposed before, also if only spaces or the case of the instruction differ
    (one all in capitals is another format), or if the model reads the same tokens.
    """
    seen = {one.prompt for one in known}
    alike: dict[bytes, list[Prompt]] = {}
    for one in known:
        alike.setdefault(_folded(one.prompt), []).append(one.prompt)
    found: list[Proposal] = []
    for proposal in proposals:
        if len(found) >= count:
            break
        prompt = proposal.prompt
        if prompt in seen:
            continue
        seen.add(prompt)
        others = alike.setdefault(_folded(prompt), [])
        if objection(prompt, desk) is None and not any(_same(prompt, other, desk) for other in others):
            found.append(proposal)
        others.append(prompt)
    return tuple(found)


# -- reading a prompt ------------------------------------------------------------------------


def _instructions(space: Space) -> tuple[str, ...]:
    return (space.baseline.instruction, *space.instructions)


def _own_texts(space: Space) -> list[str]:
    """All that the user wrote in the space."""
    words = [word for candidates in space.label_words.values() for word in candidates]
    baseline = space.baseline
    return [
        *_instructions(space), baseline.template, *space.templates, baseline.separator,
        *baseline.label_words.values(), *words,
    ]  # fmt: skip


def _said(prompt: Prompt) -> str:
    """What a prompt says outside of demonstrations. Raises PromptError where it cannot be rendered."""
    return replace(prompt, demonstrations=(), retrieval=None, soft=None, chat="none").placeholder_text()


def _unreadable(prompt: Prompt, space: Space) -> str:
    """The first character that nobody can read and that the space does not have, or an empty text."""
    text = "".join([prompt.instruction, prompt.template, prompt.separator, *prompt.label_words.values()])
    allowed = {"\n", "\t", *_JOINERS}
    strange = [c for c in text if c == "\ufffd" or unicodedata.category(c).startswith("C")]
    if strange:
        allowed |= set("".join(_own_texts(space)))
    return next((c for c in strange if c not in allowed), "")


def _read(prompt: Prompt, desk: Desk, inputs: Sequence[dict[str, str]]) -> list[Encoding]:
    vectors = 0 if prompt.soft is None else len(prompt.soft.vectors)
    return desk.model.encode_shown([prompt.render(fields) for fields in inputs], vectors)


def _misfit(prompt: Prompt, desk: Desk, typical: Sequence[Example]) -> str | None:
    """Why examples cannot be shown whole, or None. Raises PromptError where they cannot be shown at all."""
    baseline = desk.space.baseline
    inputs = [dict(example.fields) for example in typical] or [dict.fromkeys(baseline.fields, "")]
    check_template(prompt.template, list(inputs[0]))
    room = prompt.answer.tokens if isinstance(prompt.answer, ByText) and desk.model.family == "causal" else 0
    window = None if desk.model.window is None else desk.model.window - room
    if all(encoding.length <= (window or encoding.length) for encoding in _read(prompt, desk, inputs)):
        return None
    empty = [dict.fromkeys(prompt.fields, "")]
    own = max(encoding.length for encoding in _read(baseline, desk, inputs))
    if own > (window or own) and _read(prompt, desk, empty)[0].length <= (window or 0) // 2:
        return None
    return f"The prompt with an example of median length does not fit into the {window} tokens that the model reads."


@functools.lru_cache(maxsize=2**15)  # every known prompt is asked for again in each batch
def _folded(prompt: Prompt) -> bytes:
    """Equal for prompts that differ only in case and spaces."""
    texts = (prompt.template, prompt.instruction, prompt.separator, *prompt.label_words.values())
    shown = tuple((tuple(sorted(d.fields.items())), d.label) for d in prompt.demonstrations)
    retrieved = None if prompt.retrieval is None else prompt.retrieval.number
    rest = (
        prompt.labels, shown, retrieved, prompt.calibration, prompt.normalize, prompt.temperature, prompt.answer,
        prompt.chat,
    )  # fmt: skip
    folded = ["".join(text.casefold().split()) for text in texts]
    return blake2b(repr((folded, rest)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.strip().splitlines())
    whole = "\n".join(lines)
    return whole if whole.isupper() else whole.casefold()


def _same(prompt: Prompt, other: Prompt, desk: Desk) -> bool:
    """Whether prompts that are equal when folded are the same to a reader, or to the model."""
    if (prompt.soft is None) != (other.soft is None):
        return False
    if replace(prompt, instruction=_plain(prompt.instruction)) == replace(other, instruction=_plain(other.instruction)):
        return True
    inputs = [dict(example.fields) for example in _training(_Pool(desk.pool)).typical[:1]]
    return bool(inputs) and prompt.soft is None and _read(prompt, desk, inputs) == _read(other, desk, inputs)


# -- what is copied --------------------------------------------------------------------------


class _Pool:
    """A pool as a key: the same one only if it is the same object."""

    def __init__(self, examples: tuple[Example, ...]) -> None:
        self.examples = examples

    def __hash__(self) -> int:
        return id(self.examples)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pool) and other.examples is self.examples


@dataclass(frozen=True)
class _Training:
    """What is looked up in a pool.

    typical: examples of about the median length. copied: runs of words, by their number, that count
    as copied. short: shorter texts with their labels.
    """

    typical: tuple[Example, ...]
    copied: dict[int, frozenset[str]]
    short: dict[str, frozenset[str]]


@functools.lru_cache(maxsize=4)
def _training(pool: _Pool) -> _Training:
    examples = pool.examples
    order = sorted(examples, key=lambda example: (sum(map(len, example.fields.values())), example.number))
    first = max(0, (len(order) - _TYPICAL) // 2)
    copied: dict[int, set[str]] = {}
    short: dict[str, set[str]] = {}
    for example in examples:
        for text in example.fields.values():
            words = _words(text)
            if len(words) >= _WHOLE:
                size = min(len(words), _COPIED)
                copied.setdefault(size, set()).update(_runs(words, size))
            elif words:
                short.setdefault(" ".join(words), set()).add(example.label)
    return _Training(
        tuple(order[first : first + _TYPICAL]),
        {size: frozenset(runs) for size, runs in sorted(copied.items())},
        {text: frozenset(labels) for text, labels in short.items()},
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: Sequence[str], size: int) -> Iterator[str]:
    """All runs of `size` words."""
    return (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))


def _leak(said: str, prompt: Prompt, space: Space, training: _Training) -> str | None:
    """Which training text the prompt copies or answers, or None."""
    words = _words(said)
    hits = [run for size, runs in training.copied.items() for run in _runs(words, size) if run in runs]
    pairs = list(_answered(words, prompt, training.short))
    if not hits and not pairs:
        return None
    allowed = [f" {' '.join(_words(text))} " for text in _own_texts(space)]
    for run in hits:
        if not any(f" {run} " in text for text in allowed):
            return f"The prompt copies training text outside of demonstrations: {run!r}."
    for pair in pairs:
        if not any(f" {pair} " in text for text in allowed):
            return f"The prompt gives the answer of a training example away: {pair!r}."
    return None


def _answered(words: Sequence[str], prompt: Prompt, short: dict[str, frozenset[str]]) -> Iterator[str]:
    """Runs that begin with a whole short training text and end with its label, or its label word.

    Texts that are label words are left out: labels are named one after the other.
    """
    names = {label: {" ".join(_words(label)), " ".join(_words(word))} for label, word in prompt.label_words.items()}
    taken = set().union(*names.values())
    for size in range(1, _WHOLE):
        reach = _REACH if size > 1 else 0
        for at, text in enumerate(_runs(words, size)):
            labels = short.get(text, frozenset()) if text not in taken else frozenset()
            behind = words[at + size :]
            for name in sorted(name for label in labels for name in names.get(label, ()) if name):
                length = len(name.split())
                for gap in range(reach + 1):
                    if " ".join(behind[gap : gap + length]) == name:
                        yield " ".join(words[at : at + size + gap + length])
