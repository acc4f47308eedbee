"""Text from soft prompts: the tokens that stand nearest to their vectors.

The vectors as they are, and PEZ (Wen et al. 2023, algorithm 1): continuous vectors p are projected
to their nearest tokens p', the loss has its gradient at p', and the step is made by p. What is
found is written as text where the vectors stood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from autoprompt.data import Example
from autoprompt.lesson import lesson_of, untaught
from autoprompt.models.base import Ids
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh, objection
from autoprompt.propose.gradients import loss_and_gradient
from autoprompt.propose.reading import in_turns
from autoprompt.propose.vocabulary import vocabulary
from autoprompt.soft import Array, seed_of

__all__ = ["SoftToText", "placements"]

_LABEL = re.compile(r" *\{\{-?\s*label\b")
_OPEN = ("", "\n", "\t", "(", "[", '"', "'")  # no space stands behind these
_TAKEN = 6  # texts of one run of PEZ that are scored


class SoftToText(Proposer):
    """Makes discrete prompts of the best known soft ones.

    parents: how many soft prompts are looked at. steps: of PEZ. rate: its learning rate, in standard
    deviations of the embeddings. batch: examples of one step. held: others, that texts are ranked on.
    """

    name: ClassVar[str] = "projection"

    def __init__(
        self, desk: Desk, parents: int = 1, steps: int = 24, rate: float = 1.0, batch: int = 16, held: int = 48
    ) -> None:
        super().__init__(desk)
        self.parents, self.steps, self.rate, self.batch, self.held = parents, steps, rate, batch, held

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        return desk.space.soft is not None and bool(desk.pool)

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Up to `count` prompts that have a lower loss than the soft prompt's text without its vectors,
        the best first."""
        found: list[tuple[float, Proposal]] = []
        tokens = 0
        for one in [one for one in known if one.prompt.soft is not None][: self.parents]:
            if count:
                better, read = self._from(one, seed_of(seed, "projection", one.number))
                found, tokens = found + better, tokens + read
        ranked = [proposal for _, proposal in sorted(found, key=lambda pair: pair[0])]
        return Proposals(fresh(ranked, known, self.desk, count), tokens)

    def _from(self, one: Known, seed: int) -> tuple[list[tuple[float, Proposal]], int]:
        """What is better than a soft prompt's text alone, with its loss, and the tokens that it took."""
        scorer = self.desk.scorer
        most = self.desk.few(self.held)
        examples = in_turns(untaught(one.prompt, self.desk.pool), most + self.steps * self.batch, seed)
        held = examples[: max(len(examples) // 4, len(examples) - self.steps * self.batch, 1)][:most]
        texts, tokens = self._texts(one.prompt, examples[len(held) :] or held)
        written: dict[Prompt, str] = {}
        for operator, text in texts:
            for prompt in placements(one.prompt, text):
                if objection(prompt, self.desk) is None:
                    written.setdefault(prompt, operator)
        prompts = [replace(one.prompt, soft=None), *written]
        losses = [float(losses.mean()) for losses in scorer.losses(prompts, held)]
        tokens += sum(scorer.work(prompt, held, losses=True) for prompt in prompts)
        pairs = zip(losses[1:], written.items(), strict=True)
        better = [(loss, Proposal(*made, (one.number,))) for loss, made in pairs if loss < losses[0]]
        return better, tokens

    def _texts(self, prompt: Prompt, examples: Sequence[Example]) -> tuple[list[tuple[str, str]], int]:
        """Texts for a soft prompt's vectors, each with the operator that made it, and the tokens read.

        First the nearest tokens of the vectors themselves; then those of PEZ with the lowest losses,
        each on the examples of its own step.
        """
        model, words = self.desk.model, vocabulary(self.desk.model).ids
        readable = torch.from_numpy(words).to(model.device)
        table = model.network.get_input_embeddings()
        with torch.no_grad():
            units = torch.nn.functional.normalize(table(readable), dim=1)
            length = float(table(readable).float().norm(dim=1).mean())
        found: dict[Ids, float] = {}
        start = torch.from_numpy(_vectors(prompt)).to(model.device)
        # only the direction of a vector has a nearest token: its length sets how far a step turns it
        moving = (torch.nn.functional.normalize(start, dim=1) * length).requires_grad_()
        projected = torch.zeros_like(moving).requires_grad_()
        lesson = lesson_of(model, prompt, examples, projected)
        deviation = length / moving.shape[1] ** 0.5
        optimizer = torch.optim.AdamW([moving], lr=self.rate * deviation)
        tokens = 0
        for step in range(self.steps):
            with torch.no_grad():
                nearest = (moving.to(units.dtype) @ units.T).argmax(1)
                projected.copy_(table(readable[nearest]))
            part = [at % len(lesson) for at in range(step * self.batch, (step + 1) * self.batch)]
            loss, moving.grad = loss_and_gradient(model, lesson, projected, part)
            found.setdefault(tuple(words[nearest.cpu().numpy()].tolist()), loss)
            optimizer.step()
            tokens += 3 * sum(map(lesson.size, part))  # forward, and backward for two
        self.desk.scorer.engine.count(tokens)
        first, *rest = found
        best = [first, *sorted(rest, key=found.__getitem__)[:_TAKEN]]
        texts = [str(text).strip() for text in model.tokenizer.decode(list(map(list, best)))]
        return [("pez" if at else "project", text) for at, text in enumerate(texts)], tokens


def _vectors(prompt: Prompt) -> Array:
    return np.zeros((0, 0), np.float32) if prompt.soft is None else prompt.soft.vectors.astype(np.float32)


def placements(prompt: Prompt, text: str) -> list[Prompt]:
    """A soft prompt as discrete ones: text where its vectors stand.

    Vectors at the start become the instruction, or its beginning. Those before the example become the
    first line of the template, those before the answer the words before its label; text with braces,
    which the template would read, has no place there.

    >>> from autoprompt.prompt import SoftPart
    >>> soft = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"},
    ...               soft=SoftPart(np.zeros((2, 4), np.float32), "answer"))
    >>> [made.template for made in placements(soft, "it is")]
    ['{{ text }}\\nTopic: it is {{ label }}']
    """
    if prompt.soft is None or not text:
        return []
    bare = replace(prompt, soft=None)
    if prompt.soft.position == "start":
        before = [f"{text} {prompt.instruction}"] if prompt.instruction.strip() else []
        return [replace(bare, instruction=made) for made in (*before, text)]
    if set("{}") & set(text):
        return []
    if prompt.soft.position == "example":
        return [replace(bare, template=f"{text}\n{prompt.template}")]
    found = _LABEL.search(prompt.template)
    if found is None:
        return []
    head, rest = prompt.template[: found.start()], prompt.template[found.start() :]
    gap = "" if head[-1:] in _OPEN else " "
    return [replace(bare, template=f"{head}{gap}{text}{rest if rest.startswith(' ') else ' ' + rest}")]
