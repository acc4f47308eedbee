"""Supervised contrast for sentence encoders: texts of a class come together, those of others move apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprompt.engine import Request
from autoprompt.engine.encoder import embeddings
from autoprompt.errors import ModelError
from autoprompt.finetune.objective import Backward, Call, Objective, Part, Step
from autoprompt.lesson import micro_batches
from autoprompt.models import EncoderModel
from autoprompt.models.base import Ids
from autoprompt.soft import seed_of

__all__ = ["Contrast", "Texts", "supervised_contrast"]


@dataclass(frozen=True)
class Texts:
    """Texts under one prompt that are embedded in one pass.

    members: (which reading of it, number of the example). Without any it is what the texts meet: the
    inputs that calibrate, and the descriptions of the labels that have no vectors of their own.
    """

    prompt: int
    members: tuple[tuple[int, int], ...]
    padded: int
    seed: int


class Contrast(Objective):
    """The objective of a batch as a whole: what `Objective` has, and a contrastive loss on top.

    The members that are contrasted are the texts of the step, in all their readings, and the
    descriptions, or vectors, of the labels. A step that does not fit into one pass is read twice:
    without gradients for the vectors, whose gradients are then known, and once more with them
    (GradCache, Gao et al. 2021). Called with Texts it gives their unit vectors (n, D).
    """

    @property
    def _model(self) -> EncoderModel:
        model = self.pupil.model
        if not isinstance(model, EncoderModel):
            raise ModelError(f"The model {model.name!r} is {model.family}; contrastive is for sentence encoders.")
        return model

    def learn(self, step: Step, tokens: int, call: Call, backward: Backward) -> float:
        if not step.readings:
            return 0.0
        passes = self.texts(step, tokens)
        whole = sum(texts.padded for texts in passes)
        if whole <= tokens:
            loss = self._together(step, passes, [call(texts) for texts in passes])
            self.members, self.padded = sum(len(texts.members) for texts in passes), whole
            if math.isfinite(loss.item()):
                backward(loss)
            return float(loss.item())
        with torch.no_grad():
            found = [call(texts) for texts in passes]
        leaves = [vectors.detach().requires_grad_() for vectors in found]
        loss = self._together(step, passes, leaves)
        if math.isfinite(loss.item()):
            backward(loss)
            for texts, leaf in zip(passes, leaves, strict=True):
                again = call(texts)
                if again.requires_grad and leaf.grad is not None:
                    torch.autograd.backward(again, leaf.grad.to(again.dtype))  # scaled already, with the loss
        return float(loss.item())

    def texts(self, step: Step, tokens: int) -> list[Texts]:
        """A step in passes of at most so many padded tokens, and for each prompt what its texts meet."""
        by_prompt: dict[int, list[tuple[int, int]]] = {}
        for reading in step.readings:
            for which, prompt in enumerate(reading.prompts):
                by_prompt.setdefault(prompt, []).append((which, reading.example))
        found = []
        for prompt, group in by_prompt.items():
            sizes = [self._length(prompt, member) for member in group]
            batches = micro_batches(range(len(group)), sizes.__getitem__, tokens)
            chosen = [(tuple(group[at] for at in batch), len(batch) * sizes[batch[-1]]) for batch in batches]
            if self._described(prompt) or self.lessons[prompt].empty:
                chosen.append(((), sum(map(len, self._described(prompt)))))
            for members, padded in chosen:
                seed = seed_of(self.seed, "dropout", step.number, prompt, members)
                found.append(Texts(prompt, members, padded, seed))
        return found

    def forward(self, part: Part | Texts | None) -> Tensor:
        if not isinstance(part, Texts):
            return super().forward(part)
        self.members, self.padded = len(part.members), part.padded
        torch.manual_seed(part.seed)
        lesson = self.lessons[part.prompt]
        if part.members:
            return embeddings(self._model, [(lesson.requests[n].context, lesson.vectors) for _, n in part.members])
        plain = [(ids, None) for ids in self._described(part.prompt)]
        calibrating = [(request.context, lesson.vectors) for request in lesson.empty]
        parts = [embeddings(self._model, rows) for rows in (plain, calibrating) if rows]
        return torch.cat(parts)

    # -- the loss ----------------------------------------------------------------------------------

    def _together(self, step: Step, passes: Sequence[Texts], found: Sequence[Tensor]) -> Tensor:
        """The loss of a step, summed over its examples, from the unit vectors of its passes."""
        met = {p.prompt: vectors for p, vectors in zip(passes, found, strict=True) if not p.members}
        rows = {
            (which, number): (texts.prompt, vector)
            for texts, vectors in zip(passes, found, strict=True)
            if texts.members
            for (which, number), vector in zip(texts.members, vectors, strict=True)
        }
        labels = {prompt: self._labels(prompt, met.get(prompt)) for prompt in dict.fromkeys(p.prompt for p in passes)}
        loss = self._cross_entropy(step, rows, labels, met)
        return loss + len(step.readings) * self.options.contrastive * self._contrast(rows, labels)

    def _cross_entropy(
        self,
        step: Step,
        rows: Mapping[tuple[int, int], tuple[int, Tensor]],
        labels: Mapping[int, tuple[Tensor, Tensor]],
        met: Mapping[int, Tensor],
    ) -> Tensor:
        losses = []
        for reading in step.readings:
            scores = []
            for which, prompt in enumerate(reading.prompts):
                lesson, (vectors, biases) = self.lessons[prompt], labels[prompt]
                empty = met[prompt][len(met[prompt]) - len(lesson.empty) :] if lesson.empty else vectors[:0]
                texts = torch.cat([rows[which, reading.example][1][None], empty])
                scores.append(lesson.predicted(texts @ vectors.T + biases, lesson.asked([reading.example])))
            losses.append(self.judged(scores, reading.prompts, [reading.example]))
        return torch.stack(losses).sum()

    def _contrast(
        self, rows: Mapping[tuple[int, int], tuple[int, Tensor]], labels: Mapping[int, tuple[Tensor, Tensor]]
    ) -> Tensor:
        order = self.prompts[0].labels
        vectors, classes = [], []
        for (_, number), (prompt, vector) in rows.items():
            vectors.append(vector[None])
            classes.append(order.index(self.prompts[prompt].labels[self.lessons[prompt].gold[number]]))
        for prompt, (own, _) in labels.items():
            vectors.append(torch.nn.functional.normalize(own, dim=1))
            classes += [order.index(label) for label in self.prompts[prompt].labels]
        members = torch.cat(vectors)
        return supervised_contrast(
            members, torch.tensor(classes, device=members.device), self.options.contrastive_temperature
        )

    def _labels(self, prompt: int, met: Tensor | None) -> tuple[Tensor, Tensor]:
        """What stands for a prompt's labels: vectors (C, D) and biases (C,)."""
        model, described = self._model, self._described(prompt)
        vectors, biases = [], []
        for choice in self._choices(prompt):
            if choice in model.label_places and model.labels is not None:
                at = model.label_places[choice]
                vectors.append(model.labels.vectors[at])
                biases.append(model.labels.bias[at])
            elif met is not None:
                vectors.append(met[described.index(choice)])
                biases.append(met.new_zeros(()))
        return torch.stack(vectors), torch.stack(biases)

    def _choices(self, prompt: int) -> tuple[Ids, ...]:
        first: Request = self.lessons[prompt].requests[0]
        return first.choices

    def _described(self, prompt: int) -> list[Ids]:
        """The choices that are read as texts."""
        return [choice for choice in self._choices(prompt) if choice not in self._model.label_places]

    def _length(self, prompt: int, member: tuple[int, int]) -> int:
        return len(self.lessons[prompt].requests[member[1]].context)


def supervised_contrast(vectors: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The mean loss of an anchor, from unit vectors (M, D) and their classes (M,).

    Khosla et al. 2020, equation 2: for anchor i with positives P(i), all other members of its class,
    -1/|P(i)| sum_p log(exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t)). Members alone in their
    class are no anchors; without any anchor the loss is 0.

    >>> near = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> classes = torch.tensor([0, 0, 1, 1])
    >>> bool(supervised_contrast(near, classes, 0.1) < supervised_contrast(near.roll(1, 0), classes, 0.1))
    True
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    same = (classes[:, None] == classes[None]) & ~itself
    logits = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    logs = logits.log_softmax(1).masked_fill(~same, 0.0)  # masked before the sum: -inf times 0 is no number
    positives = same.sum(1)
    anchors = positives > 0
    losses = -logs.sum(1) / positives.clamp(min=1)
    return losses[anchors].sum() / anchors.sum().clamp(min=1)
