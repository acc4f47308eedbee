"""Soft prompts by gradient: the network stays frozen, and only the vectors of the prompt are trained.

Prompt tuning (Lester et al. 2021, section 2), and P-tuning's re-parameterization (Liu et al. 2021,
"GPT Understands, Too", section 3.2), where a small network writes the vectors.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from autoprompt.data import Example
from autoprompt.engine.batches import Budget
from autoprompt.errors import ModelError, PromptError
from autoprompt.lesson import Lesson, lesson_of, untaught
from autoprompt.models import Encoding, LanguageModel
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.soft import Array, seed_of

__all__ = ["Checkpoint", "Reparameterization", "TuningOptions", "exact_text_start", "tune_vectors"]

Reparameterization = Literal["none", "mlp", "lstm"]

_PASS_TOKENS = 4096  # of one pass with gradients, halved where memory runs out
_WIDEST = 512  # numbers inside a re-parameterization
_WARMUP = 8  # steps; a fixed number, so that the rate of a step does not depend on how many follow
_SAMPLE = 4096  # tokens whose embeddings tell the deviation of all
_ALLOWED = {
    **dict.fromkeys(("steps", "checkpoints", "batch_size"), "use a whole number above 0"),
    "learning_rate": "use a finite number above 0",
    "weight_decay": "use a finite number, 0 or above",
    "reparameterization": f"allowed are {', '.join(get_args(Reparameterization))}",
}
# what inputs begin with: a tokenizer may join each in its own way with what stands before
_PROBES = ("My order", "no", "3 days", '"Well"', "$5", "(a)", "#1", "\u00dcber", "\u6211", "N/A")


@dataclass(frozen=True)
class TuningOptions:
    """How vectors are trained.

    steps: of the optimizer, in all. checkpoints: at so many steps, evenly spaced, the vectors are
    kept; the last is `steps`. batch_size: examples of one step. learning_rate: in deviations of
    the model's embeddings, so that one value suits embeddings of any scale: a step moves each
    number of a vector by at most about this part of that deviation, whatever the
    re-parameterization. "none": the vectors themselves are trained; "mlp" and "lstm": they are
    start + deviation * f(free embeddings), with f an MLP, or an LSTM and an MLP. weight_decay:
    pulls back to the start.

    Raises ModelError when a value is out of its range.
    """

    steps: int = 64
    checkpoints: int = 8
    batch_size: int = 16
    learning_rate: float = 0.3
    reparameterization: Reparameterization = "none"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        wrong = [name for name in ("steps", "checkpoints", "batch_size") if getattr(self, name) < 1]
        wrong += ["learning_rate"] if not 0 < self.learning_rate < math.inf else []
        wrong += ["weight_decay"] if not 0 <= self.weight_decay < math.inf else []
        wrong += ["reparameterization"] if self.reparameterization not in get_args(Reparameterization) else []
        if wrong:
            name = wrong[0]
            raise ModelError(f"{name} of tuning is {getattr(self, name)!r}; {_ALLOWED[name]}.")

    @property
    def kept(self) -> tuple[int, ...]:
        """The steps after which vectors are kept, counted from 1, in order."""
        number = min(self.checkpoints, self.steps)
        return tuple(-(-self.steps * n // number) for n in range(1, number + 1))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Vectors (K, H) after a step, and the mean training loss of an example since the checkpoint before."""

    step: int
    vectors: Array
    loss: float


def tune_vectors(
    model: LanguageModel, prompt: Prompt, examples: Sequence[Example], options: TuningOptions, seed: int
) -> tuple[list[Checkpoint], int]:
    """Train a soft prompt's vectors on from where they are; its checkpoints, and the tokens that this took.

    The loss is `Lesson.loss`, that of the prompt's own predictions. AdamW (Loshchilov & Hutter 2019)
    with gradients clipped to length 1; the rate rises for 8 steps and then falls with the inverse
    root of the step (Vaswani et al. 2017, equation 3). No rate and no batch depends on the number of
    steps: a run of fewer steps gives the same vectors as far as it goes. Examples that the prompt
    shows as demonstrations are left out. The network is neither copied nor changed, and is read as
    in scoring, without dropout. Tokens: a pass with its gradient counts as three passes.

    Raises PromptError when the prompt is not soft or its vectors are not of this model's size,
    ModelError when the loss is not a number or one example does not fit into memory.

    >>> from autoprompt.models import load_model
    >>> model = load_model("builtin")
    >>> start = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"},
    ...                soft=SoftPart(model.embeddings[:2]))
    >>> examples = [Example(0, {"text": "They won the match."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
    >>> checkpoints, tokens = tune_vectors(model, start, examples, TuningOptions(steps=4, checkpoints=2), seed=0)
    >>> [found.step for found in checkpoints]
    [2, 4]
    """
    start = _start(model, prompt)
    vectors = start.clone().requires_grad_()
    lesson = lesson_of(model, prompt, untaught(prompt, examples), vectors)
    writer = _Writer(start, _deviation(model), options.reparameterization, seed_of(seed, "tuning weights"))
    optimizer = torch.optim.AdamW(writer.groups(options), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate)
    budget = Budget(_PASS_TOKENS, 0, model.device)
    checkpoints, losses, tokens = list[Checkpoint](), list[float](), 0
    batches = itertools.islice(_batches(len(lesson), options.batch_size, seed), options.steps)
    with _frozen(model.network):
        for step, batch in enumerate(batches, 1):
            written: Tensor = writer()
            with torch.no_grad():
                vectors.copy_(written)
            vectors.grad = None
            loss, read = _backward(model, lesson, batch, budget)
            written.backward(vectors.grad)  # type: ignore[no-untyped-call]
            length = float(torch.nn.utils.clip_grad_norm_(writer.parameters(), 1.0))
            _require_finite(loss, length, step, options)
            losses.append(loss)
            tokens += 3 * read
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if step in options.kept:
                checkpoints.append(Checkpoint(step, writer().detach().numpy().copy(), float(np.mean(losses))))
                losses.clear()
    return checkpoints, tokens


def _start(model: LanguageModel, prompt: Prompt) -> Tensor:
    """The vectors (K, H) that a prompt has. Raises PromptError when they cannot be this model's."""
    if prompt.soft is None:
        raise PromptError("The prompt is not soft; it has no vectors to tune. Give it a soft part.")
    size, expected = prompt.soft.vectors.shape[1], _rows(model, [0]).shape[1]
    if size != expected:
        raise PromptError(
            f"The prompt's vectors have {size} numbers, and the embeddings of {model.name!r} have {expected}. "
            "Use vectors made for this model."
        )
    return torch.from_numpy(np.array(prompt.soft.vectors, dtype=np.float32))


@torch.no_grad()
def _rows(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """The embeddings (N, H) of tokens in float32, as they enter the network: some models scale their table."""
    found: Tensor = model.network.get_input_embeddings()(torch.tensor(ids, device=model.device))
    return found.float().cpu()


def _deviation(model: LanguageModel) -> float:
    """The deviation of the model's embeddings, from tokens evenly spread over its vocabulary."""
    size = model.network.get_input_embeddings().weight.shape[0]
    return float(_rows(model, range(0, size, max(1, size // _SAMPLE))).std(correction=0))


def _rate(step: int) -> float:
    """The part of the learning rate that step number `step` (from 0) has."""
    return min((step + 1) / _WARMUP, math.sqrt(_WARMUP / (step + 1)))


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Numbers of examples, `size` at a time, without end; each pass over all has an order of its own."""
    passes = (random.Random(seed_of(seed, "tuning order", n)).sample(range(count), count) for n in itertools.count())
    order = itertools.chain.from_iterable(passes)
    while True:
        yield list(itertools.islice(order, min(size, count)))


@contextmanager
def _frozen(network: Any) -> Iterator[None]:
    """While open, no weight of the network takes a gradient and no module is in training; all as before afterwards."""
    weights = [(weight, weight.requires_grad) for weight in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    network.requires_grad_(False).eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for weight, taken in weights:
            weight.requires_grad_(taken)
        for module, training in modes:
            module.training = training


def _backward(model: LanguageModel, lesson: Lesson, batch: Sequence[int], budget: Budget) -> tuple[float, int]:
    """The mean loss of a batch, and the tokens read; its gradient is left at the lesson's vectors.

    The vectors get the gradient of a pass at its very end, so one that ran out of memory has left nothing.
    """
    losses: list[float] = []
    read = 0

    def learn(part: list[int]) -> None:
        nonlocal read
        loss = lesson.loss(model, part) / len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        read += lesson.tokens(part)

    budget.run(sorted(batch, key=lesson.size), lambda at: (1, lesson.size(at)), learn)
    return math.fsum(losses), read


def _require_finite(loss: float, length: float, step: int, options: TuningOptions) -> None:
    if not (math.isfinite(loss) and math.isfinite(length)):
        raise ModelError(
            f"The loss of tuning, or its gradient, is not a number at step {step}. "
            f"Use a learning_rate below {options.learning_rate:g}, or [model] dtype = 'float32'."
        )


class _Writer(torch.nn.Module):
    """Vectors (K, H) = start + deviation * f(free embeddings), with f(...) = 0 at first.

    f is the identity, or the MLP or LSTM of P-tuning; that it is added to the start is residual
    prompt tuning (Razdaibiedina et al. 2023). Weights are drawn by a generator of their own.
    """

    def __init__(self, start: Tensor, deviation: float, kind: Reparameterization, seed: int) -> None:
        super().__init__()
        self.start, self.deviation = start, deviation
        count, size = start.shape
        half = max(1, min(size, _WIDEST) // 2)
        self.lstm: torch.nn.LSTM | None = None
        self.mlp: torch.nn.Sequential | None = None
        with torch.device("meta"):  # made without numbers: those come from the generator, not from the global one
            self.free = torch.nn.Parameter(torch.empty(count, size if kind == "none" else 2 * half))
            if kind == "lstm":
                self.lstm = torch.nn.LSTM(2 * half, half, num_layers=2, bidirectional=True)
            inner, last = torch.nn.Linear(2 * half, 2 * half), torch.nn.Linear(2 * half, size)
            if kind != "none":
                self.mlp = torch.nn.Sequential(inner, torch.nn.ReLU(), last)
        self.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.ndim == 2 and weight is not self.free:
                    weight.normal_(std=weight.shape[1] ** -0.5, generator=generator)
                else:
                    weight.zero_()
            if self.mlp is not None:
                self.free.normal_(generator=generator)
                last.weight.zero_()

    def forward(self) -> Tensor:
        found: Tensor = self.free
        if self.lstm is not None:
            found = self.lstm(found)[0]
        if self.mlp is not None:
            found = self.mlp(found)
        return self.start + self.deviation * found

    def groups(self, options: TuningOptions) -> list[dict[str, Any]]:
        """The weights for an optimizer. A matrix of n inputs learns at 1/n of the rate, so that a step moves what
        it gives by about the rate (Yang et al. 2021, "Tensor Programs V", table 3); biases do not decay."""
        rate, decay = options.learning_rate, options.weight_decay
        matrices = [weight for weight in self.parameters() if weight.ndim == 2 and weight is not self.free]
        biases = [weight for weight in self.parameters() if weight.ndim == 1]
        return [
            {"params": [self.free], "lr": rate, "weight_decay": decay},
            {"params": biases, "lr": rate, "weight_decay": 0.0},
            *({"params": [w], "lr": rate / w.shape[1], "weight_decay": decay} for w in matrices),
        ]


# -- text -> soft --------------------------------------------------------------------------------


def exact_text_start(model: LanguageModel, carrier: Prompt) -> Prompt | None:
    """The prompt whose vectors are the tokens of the carrier's instruction and the separator behind it.

    It has no instruction, and its scores are those of the carrier: tried on inputs that begin in
    many ways, the two must be the same tokens. None when they are not, when the carrier is soft,
    and when it has no instruction or shows it inside its template.
    """
    if carrier.soft is not None or not carrier.instruction:
        return None
    bare = replace(carrier, instruction="")
    inputs = [dict.fromkeys(carrier.fields, text) for text in _PROBES]
    if carrier.calibration == "content_free":
        inputs += carrier.content_free()
    try:
        written, rests = [carrier.render(i) for i in inputs], [bare.render(i) for i in inputs]
        front = carrier.instruction + carrier.separator
        if any(whole.context != front + rest.context for whole, rest in zip(written, rests, strict=True)):
            return None
        wholes = model.encode_shown(written, 0)
        count = len(wholes[0].context) - len(model.encode_shown(rests[:1], 0)[0].context)
        soft = replace(bare, soft=SoftPart(np.zeros((max(count, 1), _rows(model, [0]).shape[1]), np.float32)))
        marked = model.encode_shown([soft.render(i) for i in inputs], max(count, 1))
    except PromptError:  # a template may not take our inputs
        return None
    at = marked[0].context.index(-1)
    front_ids = wholes[0].context[at : at + count]
    if not front_ids or [_unmarked(found, front_ids) for found in marked] != wholes:
        return None
    return replace(bare, soft=SoftPart(_rows(model, front_ids).numpy()))


def _unmarked(encoding: Encoding, front: Sequence[int]) -> Encoding:
    """An encoding with tokens in the place of its vectors."""
    context = (front[-1 - i] if -len(front) <= i < 0 else i for i in encoding.context)
    return replace(encoding, context=tuple(context))
