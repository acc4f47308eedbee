"""Instructions in phrases: what may be taken out, put in, exchanged, or said in other words.

The edits are those of GrIPS (Prasad et al. 2023, section 3.1): delete, swap, replace and add a phrase.
Phrases are found without a parser: they begin behind punctuation and before words that join.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

__all__ = [
    "REMARKS", "added", "crossed", "deleted", "phrases", "renamed", "replaced", "reworded", "sentences", "swapped",
]  # fmt: skip

# sentences that fit every task with labels
REMARKS = (
    "Answer with one word.",
    "Read the whole text before you answer.",
    "Give only the answer.",
    "Choose the one that fits best.",
    "Pay attention to what matters most.",
    "Exactly one answer is right.",
)

# words of an instruction that can stand for each other; the first of a row that is found is exchanged
_REWORDINGS = (
    ("classify", "categorize", "sort", "label", "assign a label to"),
    ("decide", "determine", "judge", "say", "work out"),
    ("choose", "pick", "select"),
    ("identify", "recognize", "find", "name"),
    ("read", "look at", "consider", "examine"),
    ("answer with", "reply with", "respond with", "write"),
    ("one word", "a single word"),
    ("options", "choices", "possible answers", "categories"),
    ("the right", "the correct", "the best", "the proper"),
    ("category", "class", "type", "kind"),
    ("belongs to", "falls under", "fits into"),
    ("is about", "deals with", "is concerned with"),
    ("expresses", "shows", "conveys"),
    ("sentiment", "mood", "tone", "opinion"),
    ("topic", "subject", "theme"),
    ("message", "text", "input"),
    ("sentence", "text", "statement"),
    ("question", "query"),
    ("review", "text", "comment"),
    ("each", "every"),
    ("should", "must"),
    ("following", "given"),
    ("which", "what"),
)

# a phrase begins before these
_JOINING = {
    "conjunction": "and or but so then because while although if unless whether",
    "preposition": "about after at before between by for from in into of on to under with without",
    "relative": "that which who whom whose where when what how",
}
_KINDS = {word: kind for kind, words in _JOINING.items() for word in words.split()}
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_BORDER = re.compile(rf"(?<=[:;])\s+|(?<=,)\s+(?=(?:[^\s,.]+\s+){{2}}[^\s,.]+)|\s+(?=(?:{'|'.join(_KINDS)})\b)")


def sentences(text: str) -> list[str]:
    """The sentences of a text and its lines, each with the space behind it; joined they are the text."""
    return _cut(text, _SENTENCE)


def phrases(text: str) -> list[str]:
    """The phrases of a text, each with the space behind it; joined they are the text.

    >>> phrases("Read the message and name the team that handles it.")
    ['Read the message ', 'and name the team ', 'that handles it.']
    """
    found: list[str] = []
    for sentence in sentences(text):
        first = True
        for piece in _cut(sentence, _BORDER):
            # a joining word alone is no phrase: "in which ..."
            if not first and len(found[-1].split()) < 2:
                found[-1] += piece
            else:
                found.append(piece)
            first = False
    return found


def _cut(text: str, border: re.Pattern[str]) -> list[str]:
    ends = [match.end() for match in border.finditer(text) if match.start() > 0 and match.end() < len(text)]
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if b > a]


# -- edits -----------------------------------------------------------------------------------


def deleted(generator: random.Random, text: str) -> str:
    """The text without one of its phrases."""
    parts = phrases(text)
    if len(parts) < 2:
        return text
    del parts[generator.randrange(len(parts))]
    return _tidy("".join(parts), text)


def swapped(generator: random.Random, text: str) -> str:
    """The text with two of its sentences, or two of its phrases, in each other's place."""
    parts = generator.choice([sentences, phrases])(text)
    if len(parts) < 2:
        return text
    first, second = sorted(generator.sample(range(len(parts)), 2))
    gaps = [part[len(part.rstrip()) :] for part in parts]
    bare = [part.rstrip() for part in parts]
    bare[first], bare[second] = bare[second], bare[first]
    # whitespace stays where it was; the last part has none
    return _tidy("".join(part + (gap or " ") for part, gap in zip(bare, gaps, strict=True)), text)


def added(generator: random.Random, text: str, others: Sequence[str]) -> str:
    """The text with a sentence of other instructions in front of, between or behind its own."""
    own = sentences(text)
    known = {_flat(sentence) for sentence in own}
    new = [s.strip() for other in others for s in sentences(other) if _flat(s) not in known]
    if not new:
        return text
    at = generator.randint(0, len(own))
    parts = [*own[:at], generator.choice(new), *own[at:]]
    return _tidy(" ".join(part.strip() if at == len(own) else part.strip(" ") for part in parts), text)


def replaced(generator: random.Random, text: str, others: Sequence[str]) -> str:
    """The text with one of its phrases replaced by one of other instructions that begins in a like way."""
    own = phrases(text)
    if not own:
        return text
    at = generator.randrange(len(own))
    known = {_flat(phrase) for phrase in own}
    parts = [part for other in others for part in _placed(other) if _flat(part[0]) not in known]
    like = [phrase for phrase, place in parts if place == _placed(text)[at][1]]
    if not like:
        return text
    gap = own[at][len(own[at].rstrip()) :]
    own[at] = generator.choice(like).strip() + gap
    return _tidy("".join(own), text)


def reworded(generator: random.Random, text: str) -> str:
    """The text with one word or turn of it said in another way."""
    found = [
        (match.start(), match.end(), word)
        for row in _REWORDINGS
        for match in re.finditer(rf"\b(?:{'|'.join(row)})\b", text, re.IGNORECASE)
        for word in row
        if word != match[0].lower()
    ]
    if not found:
        return text
    start, end, word = generator.choice(found)
    own = text[start:end]
    word = word.upper() if own.isupper() and len(own) > 1 else word[0].upper() + word[1:] if own[0].isupper() else word
    return text[:start] + word + text[end:]


def crossed(generator: random.Random, first: str, second: str) -> str:
    """The beginning of one instruction with the end of another: sentences, or phrases where one has few."""
    cut = sentences if min(len(sentences(first)), len(sentences(second))) > 1 else phrases
    heads, tails = cut(first), cut(second)
    if not heads or not tails:
        return first or second
    head = heads[: generator.randint(1, len(heads))]
    known = {_flat(part) for part in head}
    tail = [part for part in tails[generator.randrange(len(tails)) :] if _flat(part) not in known]
    return _tidy(" ".join(["".join(head).rstrip(" "), "".join(tail)]), second)


def renamed(text: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The text with the new label words for the old ones, if it names all of the old ones."""
    words = {word: new[label] for label, word in old.items()}
    if not words or not all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words):
        return text
    longest = sorted(words, key=lambda word: (-len(word), word))
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", lambda match: words[match[0]], text)


def _flat(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _placed(text: str) -> list[tuple[str, tuple[str, bool, bool]]]:
    """The phrases with what they can be exchanged for: the kind of their first word, and whether they
    begin and end a sentence."""
    found = []
    for sentence in sentences(text):
        parts = phrases(sentence)
        for at, part in enumerate(parts):
            kind = _KINDS.get(part.split()[0].casefold(), "") if part.split() else ""
            found.append((part, (kind, at == 0, at == len(parts) - 1)))
    return found


def _tidy(text: str, like: str) -> str:
    """The text with capitals and points where they belong, and an end like that of another text."""
    text = re.sub(r"[ \t]+", " ", text).strip()
    text = re.sub(r" ([,.;:!?])", r"\1", text).strip(" ,;")
    text = re.sub(r"([,;:])(?:\s*[,;])+", r"\1", text)
    text = re.sub(r"(^|[.!?] |\n)(?:and|or|but|so|then) (?=\w)", r"\1", text, flags=re.IGNORECASE)
    end = like.rstrip()[-1:]
    if text and text[-1] not in ".!?:" and end in ".!?:":
        text += end
    if any(letter.isupper() for letter in like):
        text = re.sub(r"(^|[.!?] |\n)(\w)", lambda match: match[1] + match[2].upper(), text)
    return text
