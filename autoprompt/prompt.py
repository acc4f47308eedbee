"""A prompt: one candidate, a frozen value, and how it renders an example."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from autoprompt.answer import Answer, ByLabel, ByLikeness, ByOption, ByText, answer_from, answer_to_dict
from autoprompt.chat import VECTORS, Chat, Turn, told, turns_of, with_mark
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.errors import ExportError, PromptError
from autoprompt.template import compiled, quoted

if TYPE_CHECKING:
    from autoprompt.soft import Array

# numpy and safetensors are imported where vectors are, so that checking a file answers in a blink

__all__ = [
    "CONTENT_FREE",
    "FORMAT",
    "VECTORS_FILE",
    "Calibration",
    "Position",
    "Prompt",
    "Rendered",
    "SoftPart",
    "check_template",
]

Position = Literal["start", "example", "answer"]
Calibration = Literal["none", "content_free"]
_Worked = tuple[str, str, str]  # a block before its answer, the answer, and the block behind it
FORMAT = "autoprompt.prompt/1"

_BY_LABEL = ByLabel()
# A private-use character stands for the answer while a template renders.
_ANSWER = "\ue0a1"
VECTORS_FILE = "vectors.safetensors"  # beside prompt.json
CONTENT_FREE = ("N/A", "", "[MASK]")  # the inputs without content of Zhao et al. 2021


@dataclass(frozen=True, eq=False)
class SoftPart:
    """Vectors (K, H) and where they stand.

    "start" is before everything, "example" before the block of the example, "answer" directly
    before the answer.
    """

    vectors: Array
    position: Position = "start"


@dataclass(frozen=True)
class Rendered:
    """An example under a prompt, as text.

    context: everything before the answer. answers: what may follow, one string a label in the
    prompt's order, leading spaces included; none where the answer is written. tail: what stands behind the
    answer (part of the choice for models that write, context for models that fill masks). slot: the place in
    `context` where soft vectors go, or None. turns: role and content of each turn of a chat prompt, which are read
    in place of `context`; the mark of `autoprompt.chat` stands in them for the vectors, or else those are directly
    before the answer.
    """

    context: str
    answers: tuple[str, ...]
    tail: str = ""
    slot: int | None = None
    turns: tuple[Turn, ...] = ()


def check_template(template: str, fields: Sequence[str]) -> None:
    """Raise PromptError when a template does not compile, or does not place each thing it should.

    It must name {{ label }} and at least one input field, and nothing but the fields, `label`
    and `instruction`.
    """
    names = compiled(template).names
    allowed = {*fields, "label", "instruction"}
    strange = sorted(names - allowed)
    if strange:
        raise PromptError(
            f"The template {quoted(template)} names {{{{ {strange[0]} }}}}; allowed are {', '.join(sorted(allowed))}."
        )
    if "label" not in names:
        raise PromptError(f"The template {quoted(template)} has no {{{{ label }}}}: the answer has no place.")
    if not names & set(fields):
        raise PromptError(f"The template {quoted(template)} shows no input field; it needs one of {', '.join(fields)}.")
    Prompt(template, {"a": "a", "b": "b"}).render(dict.fromkeys(fields, "x"))


@dataclass(frozen=True, eq=False)
class Prompt:
    """One candidate prompt.

    template: Jinja for one block, with {{ label }} and the input fields; when it does not name
    {{ instruction }}, the instruction stands once in front of all blocks. label_words: the word
    shown for each label, in the order of the scores' columns. calibration: "content_free" divides
    by the probabilities of inputs without content (Zhao et al. 2021). normalize: divide a label
    word's log-likelihood by its number of tokens. retrieval: demonstrations that differ by input,
    behind the fixed ones. temperature: what log-likelihoods are divided by; None is the model's own,
    0.05 for sentence encoders, whose log-likelihoods are cosines, and 1 for all others. answer: how it is
    answered; label words are needed unless that is by text or likeness. chat: the turns of a conversation, framed by
    the tokenizer's own chat template; the answer is what the model says next, and what the template shows behind it
    is left out. "turns": the instruction, where the template does not show it, is the system's, each demonstration a
    question and its answer, the input the last question. "one": all of it is one question.

    >>> prompt = Prompt("{{ text }}\\nSentiment: {{ label }}", {"pos": "good", "neg": "bad"})
    >>> prompt.render({"text": "Loved it."})
    Rendered(context='Loved it.\\nSentiment:', answers=(' good', ' bad'), tail='', slot=None, turns=())

    Raises PromptError when a label has no word, two labels share one, a template does not compile,
    or the temperature is no number above 0.
    """

    template: str
    label_words: Mapping[str, str]
    instruction: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    calibration: Calibration = "none"
    normalize: bool = False
    separator: str = "\n\n"
    soft: SoftPart | None = field(default=None)
    retrieval: Retrieval | None = None
    temperature: float | None = None
    answer: Answer = _BY_LABEL
    chat: Chat = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_words", MappingProxyType(dict(self.label_words)))
        object.__setattr__(self, "demonstrations", tuple(self.demonstrations))
        compiled(self.template)
        if len(self.label_words) < 2 and self.answer.kind not in ("text", "likeness"):
            raise PromptError(f"A prompt needs at least two label words; it has {dict(self.label_words)}.")
        if self.calibration not in get_args(Calibration):
            raise PromptError(
                f"The calibration is {self.calibration!r}; allowed are {', '.join(get_args(Calibration))}."
            )
        if self.chat not in get_args(Chat):
            raise PromptError(f"The chat is {self.chat!r}; allowed are {', '.join(get_args(Chat))}.")
        if self.temperature is not None:
            if not 0 < self.temperature < math.inf:
                raise PromptError(f"The temperature is {self.temperature}; it must be a finite number above 0.")
            object.__setattr__(self, "temperature", float(self.temperature))
        by_word: dict[str, str] = {}
        for label, word in self.label_words.items():
            if not word.strip():
                raise PromptError(f"The label word of {label!r} is empty.")
            if word in by_word:
                raise PromptError(f"The labels {by_word[word]!r} and {label!r} share the label word {word!r}.")
            by_word[word] = label
        if isinstance(self.answer, ByLikeness):
            compiled(self.answer.other)
        if self.calibration != "none" and self.answer.kind not in ("label", "number"):
            raise PromptError(
                f"The calibration is {self.calibration!r}, and the prompt is answered by {self.answer.kind}; only "
                "answers by label words that all inputs share can be calibrated."
            )
        if self.answer.kind in ("label", "option"):
            for shown in (*self.demonstrations, *(self.retrieval.pool if self.retrieval else ())):
                if shown.label not in self.label_words:
                    raise PromptError(f"A demonstration has the label {shown.label!r}, which has no label word.")

    @property
    def kind(self) -> Literal["discrete", "soft"]:
        return "discrete" if self.soft is None else "soft"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.label_words)

    # -- rendering -----------------------------------------------------------------------

    def _block(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """One block, split at the answer."""
        template = compiled(self.template)
        seen = self.answer.seen(self.label_words, fields)
        values = {**{name: _unmarked(text) for name, text in seen.items()}, "label": _ANSWER}
        if "instruction" in template.names:
            values["instruction"] = _unmarked(self.instruction)
        before, found, after = template.render(values).partition(_ANSWER)
        if not found or _ANSWER in after:
            raise PromptError(f"The template {quoted(self.template)} must show {{{{ label }}}} exactly once.")
        return before, after

    def render(self, fields: Mapping[str, str]) -> Rendered:
        """The example `fields` under this prompt. Raises PromptError when a field is missing."""
        return self._rendered(fields, self._retrieved(fields), self._candidates(fields))

    def answered(self, fields: Mapping[str, str], label: str) -> Rendered:
        """The same, with what the target `label` shows as its one answer. Raises as `render` does."""
        return self._rendered(fields, self._retrieved(fields), [self.answer.shown(self.label_words, fields, label)])

    def _candidates(self, fields: Mapping[str, str]) -> Sequence[str]:
        if isinstance(self.answer, ByLikeness):
            return [compiled(self.answer.other).render({name: _unmarked(text) for name, text in fields.items()})]
        return self.answer.candidates(self.label_words, fields)

    def _retrieved(self, fields: Mapping[str, str]) -> list[_Worked]:
        return [] if self.retrieval is None else list(map(self._shown, self.retrieval.nearest(fields)))

    def _shown(self, demonstration: Demonstration) -> _Worked:
        before, after = self._block(demonstration.fields)
        return before, self.answer.shown(self.label_words, demonstration.fields, demonstration.label), after

    def _rendered(self, fields: Mapping[str, str], retrieved: Sequence[_Worked], answers: Sequence[str]) -> Rendered:
        system = self.instruction if "instruction" not in compiled(self.template).names else ""
        worked = [*map(self._shown, self.demonstrations), *retrieved]
        before, tail = self._block(fields)
        head = self.separator.join([*([system] if system else []), *map("".join, worked), ""])
        context = (head + before).rstrip(" ")
        gap = head + before
        spaces = gap[len(context) :]
        slot = None
        if self.soft is not None:
            slot = {"start": 0, "example": min(len(head), len(context)), "answer": len(context)}[self.soft.position]
        if self.chat == "none":
            return Rendered(context, tuple(spaces + word for word in answers), tail, slot)
        if self._hidden:
            raise PromptError(
                f"The template {quoted(self.template)} shows {{{{ {self._hidden} }}}} behind {{{{ label }}}} alone, "
                'which is left out in a chat; show it before, or take chat = "none".'
            )
        if self.chat == "one":
            turns, block = turns_of("", (), context), min(len(head), len(context))
        else:
            turns = turns_of(system, [(one[0].rstrip(" "), one[1]) for one in worked], before.rstrip(" "))
            block = 0
        if self.soft is not None and self.soft.position != "answer":
            turns = with_mark(turns, 0, 0) if self.soft.position == "start" else with_mark(turns, -1, block)
        return Rendered(context, tuple(answers), "", slot, turns)

    @functools.cached_property
    def _hidden(self) -> str:
        """An input field that is shown behind the answer alone, or an empty text."""
        names = sorted(compiled(self.template).names - {"label", "instruction"})
        plain = dict.fromkeys(names, "x")
        before, after = self._block(plain)
        for name in names:
            other = self._block({**plain, name: "other words"})
            if other[0] == before and other[1] != after:
                return name
        return ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The input fields that the template shows, sorted."""
        names = compiled(self.template).names - {"label", "instruction"}
        if isinstance(self.answer, ByLikeness):
            names |= compiled(self.answer.other).names
        return tuple(sorted(names))

    @property
    def cut_fields(self) -> tuple[str, ...]:
        """The input fields that may be shortened to fit: not the options, of which one is the answer."""
        kept = {self.answer.field} if isinstance(self.answer, ByOption) else set()
        return tuple(name for name in self.fields if name not in kept)

    @property
    def gap(self) -> str:
        """The spaces between what the template shows before the answer and the answer."""
        return self.placeholders().answers[0].removesuffix("{label}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a written answer: those that were given, else what the template has behind it, and the
        separator of blocks. In a chat those that were given alone: the model ends its turn by itself."""
        if not isinstance(self.answer, ByText):
            return ()
        if self.answer.stop or self.chat != "none":
            return self.answer.stop
        tail = compiled(self.template).tail
        return tuple(dict.fromkeys(text for text in (tail, self.separator) if text.strip(" ")))

    def content_free(self) -> list[dict[str, str]]:
        """The inputs without content, for calibration: each field is "N/A", empty, "[MASK]" in turn."""
        return [dict.fromkeys(self.fields, text) for text in CONTENT_FREE]

    def placeholder_text(self) -> str:
        """The whole prompt as plain text, each input field as {field} and the answer as {label}.

        In a chat each turn stands below a line with its role: "[system]", "[user]" or "[assistant]".
        """
        shown = self.placeholders()
        mark = "" if self.soft is None else f"<{len(self.soft.vectors)} soft vectors>"
        if shown.turns:
            return told(shown.turns, shown.answers[0], mark)
        context = shown.context
        if shown.slot is not None:
            context = context[: shown.slot] + mark + context[shown.slot :]
        return context + shown.answers[0] + shown.tail

    def placeholders(self) -> Rendered:
        """The prompt with {field} in the place of each input field, and {label} as its one answer."""
        retrieved = []
        if self.retrieval is not None:
            retrieved = [(str(self.retrieval), "<the answer of each>" if self.chat == "turns" else "", "")]
        return self._rendered({name: "{" + name + "}" for name in self.fields}, retrieved, ["{label}"])

    # -- identity and files --------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vectors themselves, as plain values."""
        soft = None
        if self.soft is not None:
            count, size = self.soft.vectors.shape
            soft = {"position": self.soft.position, "vectors": count, "size": size}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "template": self.template,
            "instruction": self.instruction,
            "demonstrations": [shown.to_dict() for shown in self.demonstrations],
            "retrieval": None if self.retrieval is None else self.retrieval.to_dict(),
            "label_words": dict(self.label_words),
            "calibration": self.calibration,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "separator": self.separator,
            "soft": soft,
            # by a label is not written, nor is no chat: prompts of earlier versions, and their fingerprints, are as
            # they were
            **({} if type(self.answer) is ByLabel else {"answer": answer_to_dict(self.answer)}),
            **({} if self.chat == "none" else {"chat": self.chat}),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that the prompt is: 16 hexadecimal digits."""
        return _fingerprint(self.to_dict(), None if self.soft is None else self.soft.vectors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def vector_bytes(self) -> bytes | None:
        """The vectors as a safetensors file, or None."""
        if self.soft is None:
            return None
        import numpy as np
        from safetensors.numpy import save

        return save({"vectors": np.ascontiguousarray(self.soft.vectors, dtype=np.float32)})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], vectors: Array | None = None) -> Prompt:
        """The prompt of `to_dict`. Raises ExportError when something is missing or of a wrong kind.

        "retrieval" and "temperature" may be missing: files of earlier versions lack them.
        """
        try:
            if value["format"] != FORMAT:
                raise ExportError(f"The prompt is of the format {value['format']!r}; this version reads {FORMAT!r}.")
            soft = None
            if value.get("soft"):
                if vectors is None:
                    raise ExportError("The prompt is soft and its vectors were not given.")
                shape = (value["soft"]["vectors"], value["soft"]["size"])
                if vectors.shape != shape:
                    raise ExportError(f"The prompt's vectors have shape {vectors.shape}, expected {shape}.")
                if value["soft"]["position"] not in get_args(Position):
                    raise ExportError(
                        f"The vectors' position is {value['soft']['position']!r}; "
                        f"allowed are {', '.join(get_args(Position))}."
                    )
                if strange := set(value["soft"]) - {"position", "vectors", "size"}:
                    raise ExportError(f"The prompt's vectors have the part {min(strange)!r}, which is not known.")
                soft = SoftPart(vectors, value["soft"]["position"])
            prompt = cls(
                template=_text(value, "template"),
                label_words={str(k): str(v) for k, v in value["label_words"].items()},
                instruction=_text(value, "instruction"),
                demonstrations=tuple(map(Demonstration.from_dict, value["demonstrations"])),
                calibration=value["calibration"],
                normalize=bool(value["normalize"]),
                separator=_text(value, "separator"),
                soft=soft,
                retrieval=Retrieval.from_dict(value["retrieval"]) if value.get("retrieval") else None,
                temperature=value.get("temperature"),
                answer=answer_from(value["answer"]) if "answer" in value else ByLabel(),
                chat=value.get("chat", "none"),
            )
            if strange := set(value) - set(prompt.to_dict()):
                raise ExportError(f"The prompt has the part {min(strange)!r}, which this version does not know.")
            return prompt
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ExportError(f"The prompt is incomplete or damaged: {type(error).__name__} {error}.") from None

    @classmethod
    def load(cls, folder: Path, fingerprint: str = "") -> Prompt:
        """Read `prompt.json`, and `vectors.safetensors` if the prompt is soft, from an export.

        fingerprint: what the files as they stand must have, if it is given. Raises ExportError.
        """
        try:
            value = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character is no text
            soft = value.get("soft") if isinstance(value, dict) else None
            vectors = _load_vectors(folder / VECTORS_FILE) if soft else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ExportError(f"{folder} holds no readable prompt ({type(error).__name__}: {error}).") from None
        if not isinstance(value, dict):
            raise ExportError(f"{folder / 'prompt.json'} is not a JSON object.")
        prompt = cls.from_dict(value, vectors)
        # of the file, not of the prompt: a file of an earlier version lacks keys that the prompt has
        if fingerprint and _fingerprint(value, vectors) != fingerprint:
            raise ExportError(f"{folder / 'prompt.json'} was changed since it was exported; its scores no longer hold.")
        return prompt


def _unmarked(text: str) -> str:
    return text.replace(_ANSWER, "\ufffd").replace(VECTORS, "\ufffd")


def _fingerprint(value: Mapping[str, Any], vectors: Array | None) -> str:
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode())
    if vectors is not None:
        import numpy as np

        digest.update(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def _load_vectors(path: Path) -> Array:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        vectors = load_file(path)["vectors"]
        if vectors.ndim == 2 and vectors.dtype.kind == "f" and np.isfinite(vectors).all():
            return vectors
        reason = f"numbers of the type {vectors.dtype} and the shape {vectors.shape}, not all of them finite"
    except (OSError, AttributeError, LookupError, TypeError, ValueError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise ExportError(f"{path} holds no readable vectors ({reason}).")


def _text(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value[key], str):
        raise TypeError(f"{key} is {value[key]!r}, not a text")
    return str(value[key])
