"""What the parts of a prompt say, in numbers: the surrogate's view of it.

As in HbBoPs (Schneider et al. 2025) a prompt is seen in parts, each by its own embedding; here the
parts are five texts and settings, and principal components take the place of a learned projection,
which a few dozen observations would not carry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.answer import ByOption
from autoprompt.demonstrations import Demonstration
from autoprompt.prompt import Prompt
from autoprompt.space import Space

__all__ = ["PARTS", "Embed", "Features"]

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]

PARTS = ("instruction", "template", "words", "demonstrations", "shape", "settings")
_DIMENSIONS = {"instruction": 10, "template": 8, "demonstrations": 10}
_WORD, _WORDS = 4, 20  # dimensions of a label's word, and of all of them together
_FITTED = 400  # texts that one set of components is fitted on
_LONGEST = 2000  # characters of a text that are embedded


class _Components:
    """The principal components of texts: standardized, and scaled to a mean squared distance of 1.

    Each number of an embedding is standardized first, because in language models a few of them are
    far greater than all others and say little (Timkey & van Schijndel 2021). An empty text has no
    embedding; a last number tells it from all others.
    """

    def __init__(self, vectors: Floats, most: int) -> None:
        self._mean, deviation = vectors.mean(0), vectors.std(0)
        self._deviation = np.where(deviation > 1e-8 * (1 + np.abs(self._mean)), deviation, np.inf)
        rows = (vectors - self._mean) / self._deviation
        # of the Gram matrix: there are fewer texts than numbers in an embedding
        squares, sides = np.linalg.eigh(rows @ rows.T)
        keep = min(most, len(rows) - 1, int((squares > 1e-9 * squares[-1]).sum()) if squares[-1] > 0 else 0)
        squares, sides = squares[::-1][:keep], sides[:, ::-1][:, :keep]
        spread = math.sqrt(2 * float(squares.sum()) / len(rows)) or 1.0
        self._axes = rows.T @ (sides / np.sqrt(squares)) / spread

    @property
    def width(self) -> int:
        return int(self._axes.shape[1]) + 1

    def of(self, vector: Floats | None) -> Floats:
        """Numbers (width,) of an embedding; None is that of an empty text."""
        if vector is None:
            return np.append(np.zeros(self.width - 1), 1.0)
        return np.append((vector - self._mean) / self._deviation @ self._axes, 0.0)


class Features:
    """Numbers for each part of a prompt, in which near means alike.

    embed: a text's vector (H,), asked for in one call for the texts of the space and one by one for
    those that come later: so that they do not depend on what else is known.
    """

    def __init__(self, space: Space, embed: Embed) -> None:
        self._space, self._embed = space, embed
        self._vectors: dict[str, Floats] = {}
        self._components: dict[str, _Components] = {}
        self._known: dict[tuple[str, Hashable], Floats] = {}
        self._pool_length = 0.0

    def fit(self, prompts: Sequence[Prompt]) -> None:
        """Fit the components on the texts of the space and those of prompts."""
        own = self._texts_of_space()
        if not self._vectors:
            self._read(sorted({text for texts in own.values() for text in texts if text}), at_once=True)
        texts = {part: dict.fromkeys(found) for part, found in own.items()}
        for prompt in prompts:
            for part, found in self._texts_of(prompt).items():
                texts.setdefault(part, {}).update(dict.fromkeys(found))
        self._known = {}
        each = max(1, min(_WORD, _WORDS // max(1, len(self._space.baseline.label_words))))
        self._components = {
            part: self._fitted(list(found), _DIMENSIONS.get(part, each)) for part, found in texts.items()
        }
        pool = self._space.pool
        self._pool_length = sum(map(_length, self._space.shown)) / len(pool) if pool else 0.0

    def of(self, prompts: Sequence[Prompt]) -> dict[str, Floats]:
        """For each part its numbers (N, D) for all prompts."""
        return {part: np.stack([self._part(part, prompt) for prompt in prompts]) for part in PARTS}

    # -- parts -----------------------------------------------------------------------------------

    def _part(self, part: str, prompt: Prompt) -> Floats:
        key = part, _KEYS[part](prompt)
        if key not in self._known:
            made: dict[str, Callable[[Prompt], Floats]] = {
                "instruction": lambda p: self._text("instruction", p.instruction),
                "template": lambda p: self._text("template", p.template),
                "words": self._words,
                "demonstrations": self._demonstrations,
                "shape": self._shape,
                "settings": self._settings,
            }
            self._known[key] = made[part](prompt)
        return self._known[key]

    def _text(self, part: str, text: str) -> Floats:
        return self._components[part].of(self._vector(text) if text else None)

    def _words(self, prompt: Prompt) -> Floats:
        own = [label for label in self._space.baseline.label_words if label in prompt.label_words]
        rows = [self._text(f"words.{label}", prompt.label_words[label]) for label in own]
        return np.concatenate(rows) / math.sqrt(len(rows)) if rows else np.zeros(1)

    def _demonstrations(self, prompt: Prompt) -> Floats:
        """What the demonstrations say on the average, what the last ones say, and the labels' shares.

        The later ones count more in the second: a model is swayed most by those next to the input
        (Zhao et al. 2021), so that orders of the same demonstrations differ.
        """
        components, shown = self._components["demonstrations"], prompt.demonstrations
        labels = list(self._space.baseline.label_words)
        if not shown:
            return np.zeros(2 * components.width + 2 * len(labels))
        rows = np.stack([components.of(self._vector(_shown(d))) for d in shown])
        sides = np.array([[float(d.label == label) for label in labels] for d in shown])
        rows = np.concatenate([rows, sides], axis=1) * math.sqrt(len(shown))
        late = 0.5 ** np.arange(len(shown))[::-1]
        return np.concatenate([rows.mean(0), 0.5 * (late / late.sum()) @ rows])

    def _shape(self, prompt: Prompt) -> Floats:
        """How many demonstrations, whether they are retrieved, and the length of it all."""
        retrieved = 0 if prompt.retrieval is None else prompt.retrieval.number
        number = len(prompt.demonstrations) + retrieved
        texts = sum(map(_length, prompt.demonstrations)) + retrieved * self._pool_length
        length = len(prompt.instruction) + (number + 1) * len(prompt.template) + texts
        return np.array([math.log1p(number), float(retrieved > 0), 0.5 * math.log1p(length)])

    def _fitted(self, texts: Sequence[str], most: int) -> _Components:
        kept = [text for text in texts if text][:_FITTED] or [" "]
        return _Components(np.stack([self._vector(text) for text in kept]), most)

    def _settings(self, prompt: Prompt) -> Floats:
        temperature = 0.0 if prompt.temperature is None else math.log(prompt.temperature)
        style = [float(prompt.answer.style == "texts")] if isinstance(prompt.answer, ByOption) else []
        chat = [float(prompt.chat == kind) for kind in ("turns", "one")] if self._space.chats else []
        return np.array(
            [float(prompt.calibration != "none"), 0.5 * temperature, float(prompt.normalize), *style, *chat]
        )

    # -- texts -----------------------------------------------------------------------------------

    def _texts_of_space(self) -> dict[str, list[str]]:
        space, options = self._space, self._space.demonstrations
        draws = range(options.draws if options.most and "drawn" in options.selections else 0)
        shown = [Demonstration(e.fields, e.label) for draw in draws for e in space.drawn(draw)]
        texts = {
            "instruction": [space.baseline.instruction, *space.instructions],
            "template": [space.baseline.template, *space.templates],
            "demonstrations": [_shown(d) for d in shown][: 2 * _FITTED],
        }
        for label, word in space.baseline.label_words.items():
            texts[f"words.{label}"] = [word, *space.label_words.get(label, ())]
        return texts

    def _texts_of(self, prompt: Prompt) -> dict[str, list[str]]:
        texts = {
            "instruction": [prompt.instruction],
            "template": [prompt.template],
            "demonstrations": [_shown(d) for d in prompt.demonstrations],
        }
        labels = self._space.baseline.label_words
        return texts | {f"words.{label}": [w] for label, w in prompt.label_words.items() if label in labels}

    def _vector(self, text: str) -> Floats:
        if text not in self._vectors:
            self._read([text])
        return self._vectors[text]

    def _read(self, texts: Sequence[str], at_once: bool = False) -> None:
        for group in [list(texts)] if at_once else [[text] for text in texts]:
            rows = self._embed([text[:_LONGEST] for text in group])
            self._vectors |= zip(group, np.asarray(rows, dtype=np.float64), strict=True)


def _shown(demonstration: Demonstration) -> str:
    return "\n".join(text for _, text in sorted(demonstration.fields.items()))


def _length(demonstration: Demonstration) -> int:
    return sum(map(len, demonstration.fields.values()))


def _demonstration_key(prompt: Prompt) -> Hashable:
    return tuple((d.label, *d.fields.values()) for d in prompt.demonstrations)


_KEYS: Mapping[str, Callable[[Prompt], Any]] = {
    "instruction": lambda p: p.instruction,
    "template": lambda p: p.template,
    "words": lambda p: tuple(sorted(p.label_words.items())),
    "demonstrations": _demonstration_key,
    "shape": lambda p: (
        _demonstration_key(p), p.retrieval and p.retrieval.number, len(p.instruction), len(p.template)
    ),
    "settings": lambda p: (p.calibration, p.temperature, p.normalize, p.answer, p.chat),
}  # fmt: skip
