"""The loss of a step and its gradients: what the target asks of each example, and consistency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from autoprompt.data import Example
from autoprompt.errors import ModelError
from autoprompt.finetune.course import Reading
from autoprompt.finetune.options import FinetuneOptions, Target
from autoprompt.finetune.weights import Pupil
from autoprompt.lesson import LESSONS, Lesson, micro_batches
from autoprompt.prompt import Prompt
from autoprompt.soft import seed_of

__all__ = ["Backward", "Call", "Objective", "Part", "Step"]

Call = Callable[[Any], Tensor]  # the objective itself, as it is wrapped for autocast or several processes
Backward = Callable[[Tensor], None]


@dataclass(frozen=True)
class Step:
    """Readings whose gradients are summed before weights move. number: counted over all epochs."""

    readings: tuple[Reading, ...]
    number: int


@dataclass(frozen=True)
class Part:
    """Readings under the same prompts that are read in one pass. padded: its tokens. seed: of its dropout."""

    readings: tuple[Reading, ...]
    padded: int
    seed: int


class Objective(torch.nn.Module):
    """What is trained as one module, and its loss.

    Called with a Part it gives the loss, summed over its examples; with None a zero that touches
    every weight, so that gradients which lie ready are shared among processes. members and
    padded: how many readings and tokens were in the last pass.
    """

    def __init__(
        self, pupil: Pupil, prompts: Sequence[Prompt], lessons: Sequence[Lesson], options: FinetuneOptions, seed: int
    ) -> None:
        super().__init__()
        self.pupil, self.prompts, self.lessons = pupil, tuple(prompts), tuple(lessons)
        self.options, self.seed = options, seed
        self.network = pupil.model.network
        for name, weight in pupil.own().items():
            self.register_parameter(name, weight)
        self.members, self.padded = 0, 0
        self.shares: Mapping[int, float] = {}

    @classmethod
    def of(
        cls,
        pupil: Pupil,
        prompts: Sequence[Prompt],
        examples: Sequence[Example],
        target: Target,
        options: FinetuneOptions,
        seed: int,
    ) -> Self:
        """The objective of examples under prompts, the pupil's own first.

        Raises PromptError, DataError or ModelError when the target does not fit them.
        """
        _require_fitting(pupil, len(prompts), target, options)
        lessons = [
            LESSONS["label" if target == "labels" else target].of(
                pupil.model, prompt, examples, None if number else pupil.vectors
            )
            for number, prompt in enumerate(prompts)
        ]
        if options.gradient_checkpointing:
            # layers are computed again when a packed pass is over, and would not be told of it
            lessons = [replace(lesson, tree=False) for lesson in lessons]
        return cls(pupil, prompts, lessons, options, seed)

    def balance(self, labels: Mapping[int, str]) -> None:
        """Weigh each example by 1 / (classes x share of its class); labels: of those that are taught, by number."""
        counts = Counter(labels.values())
        self.shares = {n: len(labels) / (len(counts) * counts[label]) for n, label in labels.items()}

    def size(self, reading: Reading) -> int:
        """Tokens of all readings of an example."""
        return sum(self.lessons[prompt].size(reading.example) for prompt in reading.prompts)

    def parts(self, step: Step, tokens: int) -> list[Part]:
        """A step in passes of at most so many padded tokens, readings of the same prompts together."""
        by_prompts: dict[tuple[int, ...], list[Reading]] = {}
        for reading in step.readings:
            by_prompts.setdefault(reading.prompts, []).append(reading)
        found = []
        for group in by_prompts.values():
            sizes = [self.size(reading) for reading in group]
            for batch in micro_batches(range(len(group)), sizes.__getitem__, tokens):
                members = tuple(group[at] for at in batch)
                seed = seed_of(self.seed, "dropout", step.number, *(reading.example for reading in members))
                found.append(Part(members, len(batch) * sizes[batch[-1]], seed))  # the last one is the largest
        return found

    def learn(self, step: Step, tokens: int, call: Call, backward: Backward) -> float:
        """The loss of a step, summed over its examples; its gradients are added to what the weights have."""
        losses = []
        for part in self.parts(step, tokens):
            loss = call(part)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            backward(loss)
        return math.fsum(losses) if all(map(math.isfinite, losses)) else math.nan

    def forward(self, part: Part | None) -> Tensor:
        if part is None:
            return self.touched()
        self.members, self.padded = len(part.readings), part.padded
        torch.manual_seed(part.seed)
        numbers = [reading.example for reading in part.readings]
        prompts = part.readings[0].prompts
        scores = [self.lessons[prompt].log_likelihoods(self.pupil.model, numbers) for prompt in prompts]
        return self.judged(scores, prompts, numbers)

    def touched(self) -> Tensor:
        """Zero, as a function of every weight that is trained."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.stack([weight.reshape(-1)[0].float() * 0.0 for weight in weights]).sum()

    def judged(self, scores: Sequence[Tensor], prompts: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """The loss of examples, summed, from the label log-likelihoods (B, C) of one or two readings."""
        smoothing = self.options.label_smoothing
        losses = [self.lessons[p].judged(found, numbers, smoothing) for p, found in zip(prompts, scores, strict=True)]
        loss = torch.stack(losses).mean(0)
        if self.shares:
            loss = loss * torch.tensor([self.shares[number] for number in numbers], device=loss.device)
        if len(scores) == 2:
            first, second = (self._in_order(found, p) for p, found in zip(prompts, scores, strict=True))
            loss = loss + self.options.consistency * _disagreement(first, second)
        return loss.sum()

    def _in_order(self, scores: Tensor, prompt: int) -> Tensor:
        """Scores (B, C) under a prompt, the labels in the order of the first prompt."""
        order, own = self.prompts[0].labels, self.prompts[prompt].labels
        return scores if own == order else scores[:, [own.index(label) for label in order]]


def _disagreement(first: Tensor, second: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of two predictions (B, C): R-Drop, Liang et al. 2021, equation 2."""
    p, q = first.log_softmax(1), second.log_softmax(1)
    return ((p.exp() - q.exp()) * (p - q)).sum(1) / 2


def _require_fitting(pupil: Pupil, prompts: int, target: Target, options: FinetuneOptions) -> None:
    unfit = {
        "label_smoothing": options.label_smoothing > 0 and target != "labels",
        "class_weights": options.class_weights != "none" and target != "labels",
        "contrastive": options.contrastive > 0 and target != "labels",
        "head": options.head != "none" and target != "labels",
        "consistency": options.consistency > 0 and target not in ("labels", "number"),
    }
    for name, wrong in unfit.items():
        if wrong:
            raise ModelError(
                f"The fine-tuning option {name} is {getattr(options, name)!r}, which does not go with the target "
                f"{target!r}. Leave it away."
            )
    if options.consistency > 0 and prompts == 1 and not _has_dropout(pupil.model.network):
        raise ModelError(
            f"The fine-tuning option consistency is {options.consistency!r}, and two readings under one prompt are the "
            f"same to {pupil.model.name!r}: it has no dropout. Give others, which are further prompts, or the method "
            "lora with a dropout above 0."
        )


def _has_dropout(network: Any) -> bool:
    """Whether any part of a network drops something in training."""
    modules = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in network.modules())
    settings = network.config.to_dict().items()
    return modules or any("drop" in name and isinstance(v, float) and v > 0 for name, v in settings)
