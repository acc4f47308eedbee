"""Train on from a prompt: its rendering is the input, its label words are the output."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from autoprompt.data import Example
from autoprompt.errors import ModelError
from autoprompt.events import EpochFinished, Listener, silent
from autoprompt.lesson import Lesson, untaught
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.soft import Array, seed_of

__all__ = ["FinetuneOptions", "Tuned", "finetune", "load_tuned", "require_tunable"]

Quality = tuple[float, float]  # what is better is greater: (metric, minus the loss)
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True)
class FinetuneOptions:
    """method: "lora" or "full". rank and alpha are LoRA's (Hu et al. 2022). patience: epochs
    without a better dev score before training stops. batch_size: examples of one step.
    """

    method: Literal["lora", "full"] = "lora"
    rank: int = 8
    alpha: int = 16
    epochs: int = 6
    learning_rate: float = 1e-3
    batch_size: int = 16
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int = 2


@dataclass(frozen=True)
class Tuned:
    """A trained model with its prompt.

    model: the family's model with trained weights; the one it came from is left as it was.
    prompt: the prompt, its vectors trained on if it is soft. epoch: which epoch was best; 0 means
    that training did not help. qualities: (dev metric, minus dev loss) after each epoch, from 0.
    tokens: trained on, over all epochs.
    """

    model: LanguageModel
    prompt: Prompt
    method: str
    epoch: int
    qualities: tuple[Quality, ...]
    tokens: int = 0
    adapter: Any = field(default=None, repr=False)

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's layout, or the whole model in transformers' layout."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.adapter is not None:
            self.adapter.save_pretrained(folder, safe_serialization=True)
            (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
        else:
            self.model.network.save_pretrained(folder)
            self.model.tokenizer.save_pretrained(folder)


def finetune(
    model: LanguageModel,
    prompt: Prompt,
    examples: Sequence[Example],
    evaluate: Callable[[LanguageModel, Prompt], Quality],
    options: FinetuneOptions | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> Tuned:
    """Cross-entropy on the label words of `examples` under `prompt`; the best epoch on dev is kept.

    The loss is `Lesson.loss`: -log P(right label) as the prompt's predictions have it.

    `evaluate` scores a model and a prompt on dev, greater is better. The model is copied, so it
    needs room twice. Examples that the prompt shows as demonstrations are left out. Raises
    ModelError when the loss is not a number.

    >>> from autoprompt.models import load_model
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> examples = [Example(0, {"text": "They won the match."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
    >>> tuned = finetune(load_model("builtin"), prompt, examples, lambda model, prompt: (0.0, 0.0),
    ...                  FinetuneOptions(epochs=1, batch_size=2))
    >>> tuned.method
    'lora'
    """
    options = options or FinetuneOptions()
    examples = untaught(prompt, examples)
    torch.manual_seed(seed_of(seed, "finetune") % 2**63)
    trained, adapter = _trainable(model, options)
    vectors = None if prompt.soft is None else torch.from_numpy(prompt.soft.vectors.copy()).requires_grad_()
    weights = [p for p in trained.network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": weights, "lr": options.learning_rate}]
    if vectors is not None:
        groups.append({"params": [vectors], "lr": options.learning_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(examples) // options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, options.warmup))
    lesson = Lesson.of(trained, prompt, examples, vectors)

    qualities = [evaluate(trained, prompt)]
    best_epoch, best = 0, _snapshot(weights, vectors)
    for epoch in range(1, options.epochs + 1):
        loss = _epoch(trained, lesson, weights, optimizer, schedule, options, f"{seed} epoch {epoch}")
        qualities.append(evaluate(trained, _with(prompt, vectors)))
        listener(EpochFinished(epoch, options.epochs, loss, qualities[-1][0]))
        if qualities[-1] > qualities[best_epoch]:
            best_epoch, best = epoch, _snapshot(weights, vectors)
        elif epoch - best_epoch >= options.patience:
            break
    with torch.no_grad():
        for weight, kept in zip([*weights, *([] if vectors is None else [vectors])], best, strict=True):
            weight.copy_(kept)
    trained.network.eval().requires_grad_(False)
    tokens = (len(qualities) - 1) * sum(map(lesson.size, range(len(lesson))))
    return Tuned(trained, _with(prompt, vectors), options.method, best_epoch, tuple(qualities), tokens, adapter)


def require_tunable(model: LanguageModel) -> None:
    """Raise ModelError when the model's family cannot be fine-tuned."""
    if model.family == "encoder":
        raise ModelError(
            f"The model {model.name!r} is a sentence encoder, which cannot be fine-tuned yet. "
            "Set [finetune] method = 'none'."
        )


def _trainable(model: LanguageModel, options: FinetuneOptions) -> tuple[LanguageModel, Any]:
    """A copy of the model whose trainable weights require gradients, and its peft wrapper if any."""
    require_tunable(model)
    network = copy.deepcopy(model.network)
    adapter = None
    if options.method == "lora":
        config = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules="all-linear")
        with warnings.catch_warnings():  # peft asks transformers by a name that it has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
            adapter = get_peft_model(network, config)
        network = adapter.get_base_model()
    else:
        network.requires_grad_(True)
    return model.with_network(network), adapter


def _values(vectors: Tensor) -> Array:
    """The vectors' values as they are now."""
    return vectors.detach().cpu().numpy().copy()


def _rate(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(warmup * steps))
    return min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


def _epoch(
    model: LanguageModel,
    lesson: Lesson,
    weights: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    options: FinetuneOptions,
    seed: str,
) -> float:
    """One pass over the lesson in random order; the mean loss of an example."""
    count = len(lesson)
    order = random.Random(seed).sample(range(count), count)
    taught = [*weights, *([] if lesson.vectors is None else [lesson.vectors])]
    model.network.train()
    total = 0.0
    for start in range(0, count, options.batch_size):
        step = order[start : start + options.batch_size]
        for part in lesson.micro_batches(step):
            loss = lesson.loss(model, part) / len(step)
            if not torch.isfinite(loss):
                raise ModelError("The fine-tuning loss is not a number. Use a smaller [finetune] learning_rate.")
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item() * len(step)
        torch.nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    model.network.eval()
    return total / count


def _snapshot(weights: Sequence[Tensor], vectors: Tensor | None) -> list[Tensor]:
    return [w.detach().clone() for w in [*weights, *([] if vectors is None else [vectors])]]


def _with(prompt: Prompt, vectors: Tensor | None) -> Prompt:
    if vectors is None or prompt.soft is None:
        return prompt
    return replace(prompt, soft=SoftPart(_values(vectors), prompt.soft.position))


def load_tuned(model: LanguageModel, folder: Path) -> LanguageModel:
    """The model with the adapter of `folder` put on; `model` itself is changed by it.

    Raises ModelError when the adapter is damaged or made for another model.
    """
    try:
        with warnings.catch_warnings():  # see _trainable
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapter = PeftModel.from_pretrained(model.network, folder)
    except Exception as error:  # peft raises many kinds
        raise ModelError(
            f"The adapter in {folder} does not fit {model.name!r} ({type(error).__name__}: {error})."
        ) from None
    network = adapter.get_base_model()
    network.eval().requires_grad_(False)
    return model.with_network(network)
