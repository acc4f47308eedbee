"""What a prompt has to learn from examples: the cross-entropy of their labels, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprompt.data import Example
from autoprompt.engine import Request, choice_log_probabilities, reads_trees
from autoprompt.models import Family, LanguageModel
from autoprompt.prompt import Prompt

__all__ = ["Lesson", "untaught"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A prompt on examples, ready to be read with gradients; made by `Lesson.of`.

    requests: one an example, in their order. gold: the number of each one's right choice. empty:
    the inputs without content that calibrate, or none. normalize: divide by the tokens of a choice.
    temperature: what log-likelihoods are divided by. vectors: those (K, H) of a soft prompt; what
    they hold when `loss` is called counts, so they can be changed in place. tree: whether the model
    reads a context once with all its choices.

    >>> from autoprompt.models import load_model
    >>> model = load_model("builtin")
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> lesson = Lesson.of(model, prompt, [Example(0, {"text": "They won the match."}, "s")])
    >>> lesson.loss(model, [0]).item() > 0
    True
    """

    requests: tuple[Request, ...]
    gold: tuple[int, ...]
    empty: tuple[Request, ...]
    normalize: bool
    temperature: float
    vectors: Tensor | None
    tree: bool
    family: Family

    @classmethod
    def of(
        cls, model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
    ) -> Lesson:
        """The lesson of `examples` under a prompt; inputs too long for the model are shortened as in scoring.

        vectors: what stands in the place of a soft prompt's vectors; they may require a gradient.
        Without them it is the vectors of the prompt itself. Raises PromptError when the prompt
        does not fit the model's window.
        """
        if vectors is None and prompt.soft is not None:
            vectors = torch.from_numpy(prompt.soft.vectors.copy())
        inputs = [dict(example.fields) for example in examples]
        empty = prompt.content_free() if prompt.calibration == "content_free" else []
        count = 0 if vectors is None else len(vectors)
        encodings, _ = model.encode_fitting(prompt.render, inputs + empty, prompt.fields, count)
        requests = tuple(Request(e.context, e.choices, e.tail) for e in encodings)
        return cls(
            requests[: len(inputs)],
            tuple(prompt.labels.index(example.label) for example in examples),
            requests[len(inputs) :],
            prompt.normalize and model.family != "encoder",  # a cosine is no sum over tokens
            prompt.temperature or model.temperature,
            vectors,
            model.family == "causal" and reads_trees(model, requests),
            model.family,
        )

    def __len__(self) -> int:
        return len(self.requests)

    def size(self, at: int) -> int:
        """Tokens of a request with all its choices; a sentence encoder reads those apart, once for all."""
        return self._size(self.requests[at])

    def _size(self, request: Request) -> int:
        if self.family == "encoder":
            return len(request.context)
        if self.tree:
            return len(request.context) + sum(len(choice) - 1 for choice in request.choices)
        return sum(len(request.context) + len(choice) + len(request.tail) for choice in request.choices)

    def tokens(self, part: Sequence[int]) -> int:
        """Tokens that `loss` reads for some of the requests, with what calibrates and a sentence encoder's labels."""
        apart = sum(map(len, self.requests[0].choices)) if self.family == "encoder" else 0
        return sum(map(self._size, [*(self.requests[i] for i in part), *self.empty])) + apart

    def log_likelihoods(self, model: LanguageModel, part: Sequence[int]) -> Tensor:
        """Label log-likelihoods (len(part), C) of some requests as `Scorer.log_likelihoods` has them.

        Normalized, divided by the temperature and calibrated (Zhao et al. 2021), read as one batch,
        with a gradient where one is on.
        """
        asked = [self.requests[i] for i in part] + list(self.empty)
        scores = choice_log_probabilities(model, asked, self.vectors, self.tree)  # (B + E, C)
        if self.normalize:
            lengths = [[len(choice) for choice in request.choices] for request in asked]
            scores = scores / torch.tensor(lengths, device=scores.device)
        scores = scores / self.temperature
        if self.empty:
            prior = scores[len(part) :].softmax(1).mean(0)
            scores = scores[: len(part)] - prior.clamp(min=1e-12).log()
        return scores

    def loss(self, model: LanguageModel, part: Sequence[int]) -> Tensor:
        """-log P(right label), summed over some of the requests.

        P is the prompt's prediction, among its label words (PET, Schick & Schütze 2021, equation 2,
        for one word a label).
        """
        scores = self.log_likelihoods(model, part)
        gold = torch.tensor([self.gold[i] for i in part], device=scores.device)
        return torch.nn.functional.cross_entropy(scores, gold, reduction="sum")

    def micro_batches(self, part: Sequence[int], tokens: int = 4096) -> list[list[int]]:
        """Requests of like length together, at most `tokens` padded tokens each."""
        parts: list[list[int]] = []
        for at in sorted(part, key=self.size):
            if not parts or (len(parts[-1]) + 1) * self.size(at) > tokens:
                parts.append([])
            parts[-1].append(at)
        return parts


def untaught(prompt: Prompt, examples: Sequence[Example]) -> list[Example]:
    """The examples that the prompt does not show as demonstrations; all of them where it shows every one."""
    shown = {tuple(sorted(d.fields.items())) for d in prompt.demonstrations}
    return [e for e in examples if e.key not in shown] or list(examples)
