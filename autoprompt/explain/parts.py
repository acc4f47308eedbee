"""The parts in which two prompts differ, and every mixture of the two."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt
from autoprompt.propose.phrases import renamed

__all__ = ["Part", "literals", "mixed", "parts_of", "with_literals"]

_JINJA = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
_GAP = "\ue0a4"  # a private-use character stands for what Jinja fills in
_ORDER, _SIMILAR = "order of the demonstrations", "similar demonstrations"
_ANSWERS = "how options are shown"


@dataclass(frozen=True)
class Part:
    """One way in which the winner is not the user's prompt. kind: as in `events.GainExplained`; text: what it is."""

    name: str
    kind: str
    text: str


def literals(template: str) -> str:
    """What a template says around its fields, each of which is one character that no text has."""
    return _GAP.join(_JINJA.split(template)[::2])


def with_literals(template: str, texts: str) -> str:
    """The template with other `literals`. Raises PromptError when their number is another."""
    pieces, new = _JINJA.split(template), texts.split(_GAP)
    if len(new) != len(pieces[::2]):
        raise PromptError("A template's fields were lost.")
    pieces[::2] = new
    return "".join(pieces)


def parts_of(baseline: Prompt, winner: Prompt) -> list[Part]:
    """What the winner has that the user's prompt has not, in the order in which a prompt is read.

    The separator of blocks and the chat are of the kind "template"; that label words are compared per token, of the
    kind "calibration". Each demonstration is a part of its own: those that were added, and those of the user
    that were taken out. Their order is one where the two prompts share some and the order cannot
    be told by where the new ones stand. Raises PromptError when the two have not the same labels.
    """
    if set(baseline.labels) != set(winner.labels):
        raise PromptError(
            f"The two prompts have other labels: {', '.join(baseline.labels)}, and {', '.join(winner.labels)}."
        )
    words = winner.label_words
    found = []
    if _template(baseline, words) != winner.template:
        found.append(Part("template", "template", winner.template))
    if baseline.separator != winner.separator:
        found.append(Part("separator", "template", repr(winner.separator)))
    if _instruction(baseline, words) != winner.instruction:
        found.append(Part("instruction", "instruction", winner.instruction))
    found += _shown_parts(baseline, winner)
    changed = [f"{label}: {old} → {words[label]}" for label, old in baseline.label_words.items() if old != words[label]]
    if changed:
        found.append(Part("label words", "label words", ", ".join(changed)))
    if baseline.answer != winner.answer:
        found.append(Part(_ANSWERS, "template", str(winner.answer)))
    if baseline.calibration != winner.calibration:
        found.append(Part("calibration", "calibration", winner.calibration))
    if baseline.normalize != winner.normalize:
        found.append(Part("normalization", "calibration", "per token" if winner.normalize else "none"))
    if baseline.temperature != winner.temperature:
        found.append(Part("temperature", "temperature", str(winner.temperature or "the model's")))
    if baseline.chat != winner.chat:
        found.append(Part("chat", "template", winner.chat))
    if _vectors(baseline) != _vectors(winner):
        found.append(Part("vectors", "vectors", _vectors_said(winner)))
    return found


def mixed(baseline: Prompt, winner: Prompt, taken: Collection[str]) -> Prompt:
    """The user's prompt with some parts of the winner, by their names.

    With none it is the user's prompt and with all the winner. What is said stays consistent: where
    instruction or template name all label words of their own prompt, they name those of the mixture. Demonstrations
    of the user stand before the winner's, unless the winner's order is taken.
    """

    def of(name: str) -> Prompt:
        return winner if name in taken else baseline

    words = {label: of("label words").label_words[label] for label in baseline.labels}
    return replace(
        baseline,
        template=_template(of("template"), words),
        separator=of("separator").separator,
        instruction=_instruction(of("instruction"), words),
        demonstrations=tuple(_demonstrations(baseline, winner, taken)),
        retrieval=of(_SIMILAR).retrieval,
        label_words=words,
        calibration=of("calibration").calibration,
        normalize=of("normalization").normalize,
        temperature=of("temperature").temperature,
        soft=of("vectors").soft,
        answer=of(_ANSWERS).answer,
        chat=of("chat").chat,
    )


def _instruction(prompt: Prompt, words: Mapping[str, str]) -> str:
    return renamed(prompt.instruction, prompt.label_words, words)


def _template(prompt: Prompt, words: Mapping[str, str]) -> str:
    """The template with other label words, where what it says around its fields names them all."""
    return with_literals(prompt.template, renamed(literals(prompt.template), prompt.label_words, words))


# -- demonstrations --------------------------------------------------------------------------------

_Shown = tuple[tuple[tuple[str, str], ...], str, int]  # fields, label, and which of those that are equal


def _keys(shown: Sequence[Demonstration]) -> dict[_Shown, Demonstration]:
    """The demonstrations, also those that are there twice, each under a key of its own."""
    seen: Counter[tuple[object, str]] = Counter()
    found: dict[_Shown, Demonstration] = {}
    for one in shown:
        fields = tuple(sorted(one.fields.items()))
        seen[fields, one.label] += 1
        found[fields, one.label, seen[fields, one.label]] = one
    return found


def _named(baseline: Prompt, winner: Prompt) -> dict[_Shown, str]:
    """The names of the demonstrations that only one of the two prompts shows."""
    own, new = _keys(baseline.demonstrations), _keys(winner.demonstrations)
    names = {key: f"your demonstration {at}, taken out" for at, key in enumerate(own, 1) if key not in new}
    return names | {key: f"demonstration {at}" for at, key in enumerate(new, 1) if key not in own}


def _demonstrations(baseline: Prompt, winner: Prompt, taken: Collection[str]) -> list[Demonstration]:
    own, new = _keys(baseline.demonstrations), _keys(winner.demonstrations)
    names = _named(baseline, winner)
    kept = [key for key in own if key in new or names[key] not in taken]
    added = [key for key in new if key in own or names[key] in taken]
    first, last = [key for key in kept if key not in new], [key for key in added if key not in own]
    order = [*first, *added] if _ORDER in taken else [*kept, *last]
    return [own.get(key) or new[key] for key in order]


def _shown_parts(baseline: Prompt, winner: Prompt) -> list[Part]:
    every = _keys(baseline.demonstrations) | _keys(winner.demonstrations)
    names = _named(baseline, winner)
    words = {
        name: winner.answer.shown(winner.label_words, every[key].fields, every[key].label)
        for key, name in names.items()
    }
    found = [
        Part(name, "demonstration", f"{' / '.join(every[key].fields.values())} → {words[name]}")
        for key, name in names.items()
    ]
    without = _demonstrations(baseline, winner, set(names.values()))
    if list(_keys(without)) != list(_keys(winner.demonstrations)):
        found.append(Part(_ORDER, "demonstration", "those that you show, and the others, in another order"))
    own, new = baseline.retrieval, winner.retrieval
    if (own and own.to_dict()) != (new and new.to_dict()):
        found.append(Part(_SIMILAR, "demonstration", str(new or "none")))
    return found


# -- vectors ---------------------------------------------------------------------------------------


def _vectors(prompt: Prompt) -> tuple[bytes | None, str]:
    return prompt.vector_bytes(), "" if prompt.soft is None else prompt.soft.position


def _vectors_said(prompt: Prompt) -> str:
    return "none" if prompt.soft is None else f"{len(prompt.soft.vectors)} vectors, position {prompt.soft.position!r}"
