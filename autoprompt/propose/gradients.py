"""Instructions by gradients: which token, put in place of which, would lower the loss.

HotFlip (Ebrahimi et al. 2018) and AutoPrompt (Shin et al. 2020, equation 2) estimate the change of
the loss by a swap of the token e for e' with one backward pass, (e' - e) · grad_e L. As in GCG (Zou
et al. 2023, algorithm 1) each step draws a batch of single swaps from the best tokens of each place,
scores them, and goes on from the best.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.data import Example
from autoprompt.engine import Request
from autoprompt.lesson import Lesson, lesson_of, untaught
from autoprompt.models import LanguageModel
from autoprompt.models.base import Ids
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh, objection
from autoprompt.propose.reading import in_turns
from autoprompt.propose.vocabulary import swapped, vocabulary
from autoprompt.soft import seed_of

__all__ = ["Slope", "TokenGradients", "loss_and_gradient", "opened", "slope"]

Floats = NDArray[np.float64]
_CHUNK = 2**14  # tokens of the vocabulary whose embeddings are looked at together
_KEPT = 4  # of so many candidates one is scored on the second half of the examples
_TRIMMED = 2  # tokens at an end of an instruction that may be joined with what stands beside it


class TokenGradients(Proposer):
    """Swaps tokens of the best discrete prompt's instruction, as the gradient of the loss says.

    fluency: weight of the mean of -log P(token) of the instruction, beside the mean loss of an
    example; only causal models know it. steps: swaps one after the other at most. swaps: candidates
    of a step. examples: of the pool that steps are decided on, fewer where dev is small; as many others rank what was
    found.
    top: tokens of each place that swaps are drawn from.

    Where the best prompt has no instruction, one of the space is begun with, or the label words.
    """

    name: ClassVar[str] = "gradients"

    def __init__(
        self, desk: Desk, fluency: float = 0.1, steps: int = 3, swaps: int = 24, examples: int = 24, top: int = 16
    ) -> None:
        super().__init__(desk)
        self.fluency, self.steps, self.swaps, self.examples, self.top = fluency, steps, swaps, examples, top

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        return bool(desk.pool)

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Up to `count` instructions that have a lower loss than the one begun with, the best first."""
        parent = next((one for one in known if one.prompt.kind == "discrete"), None)
        if parent is None or count < 1:
            return Proposals()
        start = self._started(parent.prompt, seed)
        drawn = in_turns(untaught(start, self.desk.pool), 2 * self.desk.few(self.examples), seed_of(seed, "examples"))
        half = -(-len(drawn) // 2)
        found, tokens = self._searched(start, drawn[:half], seed)
        finalists = [start, *sorted((p for p in found if p != start), key=found.__getitem__)[: 3 * count]]
        values = self._values(finalists, drawn)
        tokens += self._work(finalists, drawn[half:])
        order = sorted(range(1, len(finalists)), key=values.__getitem__)
        better = [finalists[at] for at in order if values[at] < values[0]]
        proposals = [Proposal(prompt, "token gradient", (parent.number,)) for prompt in better]
        return Proposals(fresh(proposals, known, self.desk, count), tokens)

    def _started(self, prompt: Prompt, seed: int) -> Prompt:
        """The prompt with an instruction."""
        if prompt.instruction.strip():
            return prompt
        others = [text for text in self.desk.space.instructions if text.strip()]
        words = ", ".join(list(prompt.label_words.values())[:8])
        return replace(prompt, instruction=random.Random(seed_of(seed, "start")).choice(others or [words or "Answer:"]))

    def _searched(self, start: Prompt, examples: Sequence[Example], seed: int) -> tuple[dict[Prompt, float], int]:
        """What was tried, with its value on the examples, and the tokens that it took."""
        half = -(-len(examples) // 2)
        found = dict(zip([start], self._values([start], examples), strict=True))
        tokens = self._work([start], examples)
        seen = set(self.desk.model.ids([start.instruction], special=False))
        for step in range(self.steps):
            best = min(found, key=found.__getitem__)
            new = self._swapped(best, examples, seen, random.Random(seed_of(seed, "swaps", step)))
            values = self._values(new, examples[:half])
            kept = [new[at] for at in sorted(range(len(new)), key=values.__getitem__)[: -(-len(new) // _KEPT)]]
            found |= zip(kept, self._values(kept, examples), strict=True)
            gradient = 3 * self._work([best], examples)  # forward, and backward for two
            self.desk.scorer.engine.count(gradient)
            tokens += gradient + self._work(new, examples[:half]) + self._work(kept, examples[half:])
        return found, tokens

    def _swapped(
        self, prompt: Prompt, examples: Sequence[Example], seen: set[Ids], generator: random.Random
    ) -> list[Prompt]:
        """A batch of single swaps, drawn from the tokens of each place that promise most.

        seen: the tokens of all instructions so far; texts that read alike are one.
        """
        model = self.desk.model
        found = slope(model, prompt, examples)
        if found is None:
            return []
        promise, words = found.changes(), vocabulary(model).ids
        if self.fluency and model.family == "causal":
            # how likely a token is where it stands; what it does to those behind it is left to the scores
            likely = _token_log_probabilities(model, found.ids)[found.first :, words]
            promise = promise - self.fluency / len(found.ids) * likely[: len(promise)]
        best = np.argsort(promise, axis=1, kind="stable")[:, : self.top]
        pairs = [(at, int(token)) for at, row in enumerate(words[best]) for token in row]
        drawn: list[Prompt] = []
        for at, token in generator.sample(pairs, len(pairs)):
            text = swapped(model, prompt.instruction, found.first + at, token)
            [ids], new = model.ids([text], special=False), replace(prompt, instruction=text)
            if ids and ids not in seen and objection(new, self.desk) is None:
                seen.add(ids)
                drawn.append(new)
            if len(drawn) == self.swaps:
                break
        return drawn

    def _values(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[float]:
        """The loss of each prompt, with what its instruction's fluency adds."""
        scorer, model = self.desk.scorer, self.desk.model
        losses = [float(losses.mean()) for losses in scorer.losses(prompts, examples)]
        if not losses or not self.fluency or model.family != "causal":
            return losses
        texts = model.ids([prompt.instruction for prompt in prompts], special=False)
        [likely] = scorer.engine.score([Request(_begin(model), tuple(texts))])
        means = [float(total) / len(ids) for total, ids in zip(likely, texts, strict=True)]
        return [loss - self.fluency * mean for loss, mean in zip(losses, means, strict=True)]

    def _work(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> int:
        """The tokens that scored prompts took on examples."""
        return sum(self.desk.scorer.work(prompt, examples, losses=True) for prompt in prompts) if examples else 0


# -- the gradient ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slope:
    """How the mean loss of some examples changes with an instruction's tokens.

    ids: the instruction's tokens. first: the place in them of the first that has a gradient.
    gradient (n, H): of the mean loss by the embeddings of the tokens from there on. loss: where it is.
    """

    model: LanguageModel
    ids: Ids
    first: int
    gradient: Tensor
    loss: float

    @torch.no_grad()
    def changes(self) -> Floats:
        """The estimated change of the loss (n, W) when a readable token is put at a place; infinite for
        the token that stands there."""
        words, table = vocabulary(self.model).ids, self.model.network.get_input_embeddings()
        own = torch.tensor(self.ids[self.first : self.first + len(self.gradient)], device=self.model.device)
        before = (table(own).float() * self.gradient).sum(1)
        parts = [
            table(torch.from_numpy(words[start : start + _CHUNK]).to(self.model.device)).float() @ self.gradient.T
            for start in range(0, len(words), _CHUNK)
        ]
        found: Floats = (torch.cat(parts).T - before[:, None]).double().cpu().numpy()
        found[own.cpu().numpy()[:, None] == words[None]] = np.inf
        return found


def slope(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> Slope | None:
    """The slope at a discrete prompt's instruction, or None where its tokens are not found in the context."""
    found = opened(model, prompt, examples)
    if found is None:
        return None
    lesson, vectors, ids, first = found
    loss, gradient = loss_and_gradient(model, lesson, vectors, range(len(lesson)))
    return Slope(model, ids, first, gradient, loss)


def opened(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> tuple[Lesson, Tensor, Ids, int] | None:
    """A discrete prompt's lesson with vectors (n, H), which take a gradient, in place of its instruction's tokens.

    The vectors are these tokens' embeddings. Also all ids of the instruction, and the place in them of
    the first that has a vector. None where its tokens are not found in the context.
    """
    lesson = lesson_of(model, prompt, examples)
    [ids] = model.ids([prompt.instruction], special=False)
    placed = _placed(ids, [*lesson.requests, *lesson.empty], "instruction" in prompt.template)
    if placed is None:
        return None
    first, count, requests = placed
    own = torch.tensor(ids[first : first + count], device=model.device)
    vectors = model.network.get_input_embeddings()(own).detach().float().requires_grad_()
    parts = tuple(requests[: len(lesson)]), tuple(requests[len(lesson) :])
    return replace(lesson, requests=parts[0], empty=parts[1], vectors=vectors), vectors, ids, first


def loss_and_gradient(
    model: LanguageModel, lesson: Lesson, vectors: Tensor, part: Sequence[int]
) -> tuple[float, Tensor]:
    """The mean loss of some of the lesson's requests, and its gradient by the lesson's vectors (K, H)."""
    loss, gradient = 0.0, torch.zeros_like(vectors)
    for batch in lesson.micro_batches(part):
        one = lesson.loss(model, batch) / len(part)
        loss += one.item()
        gradient += torch.autograd.grad(one, vectors)[0]
    return loss, gradient


def _placed(ids: Ids, requests: Sequence[Request], everywhere: bool) -> tuple[int, int, list[Request]] | None:
    """Requests whose contexts have -1-k where the instruction's tokens stand, with the first of these
    tokens and their number.

    Tokens at its ends may have been joined with what stands beside them, and are then left as they are.
    """
    trims = sorted(((a, b) for a in range(_TRIMMED + 1) for b in range(_TRIMMED + 1)), key=lambda ab: (sum(ab), ab))
    for first, last in trims:
        part = ids[first : len(ids) - last]
        found = [_marked(request.context, part, everywhere) for request in requests] if part else [None]
        if all(found):
            contexts = [context for context in found if context]
            return first, len(part), [replace(r, context=c) for r, c in zip(requests, contexts, strict=True)]
    return None


def _marked(context: Ids, part: Ids, everywhere: bool) -> Ids | None:
    """The context with -1-k for token k of `part`, where it first stands or everywhere; None if nowhere."""
    marks = tuple(-1 - k for k in range(len(part)))
    found: list[int] = []
    at, hits = 0, 0
    while at < len(context):
        if context[at : at + len(part)] == part and (everywhere or not hits):
            found += marks
            at, hits = at + len(part), hits + 1
        else:
            found.append(context[at])
            at += 1
    return tuple(found) if hits else None


def _begin(model: LanguageModel) -> Ids:
    """What an instruction is read behind."""
    return model.specials[0] or (model.tokenizer.eos_token_id or 0,)


@torch.no_grad()
def _token_log_probabilities(model: LanguageModel, ids: Ids) -> Floats:
    """log P(token | those before) (n, V) at each place of a text, for a causal model."""
    read = torch.tensor([[*_begin(model), *ids[:-1]]], device=model.device)
    logits = model.network(input_ids=read, use_cache=False).logits[0, -len(ids) :]
    found: Floats = logits.float().log_softmax(-1).double().cpu().numpy()
    return found
