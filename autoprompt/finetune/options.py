"""What fine-tuning can be told, checked when it is told."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal, NoReturn, get_args

from autoprompt.errors import ModelError, nearest
from autoprompt.models import Family

__all__ = [
    "Adapter",
    "FinetuneOptions",
    "Head",
    "Method",
    "Precision",
    "Target",
    "Weighting",
    "class_temperature",
    "recommended",
    "require_allowed",
    "target_of_kind",
]

Method = Literal["lora", "full", "vectors"]
Adapter = Literal["lora", "dora", "rslora"]
Precision = Literal["auto", "fast", "float32", "bfloat16"]
Weighting = Literal["none", "balanced"]
Head = Literal["none", "labels", "regression"]
Keep = Literal["best", "last"]
Target = Literal["labels", "option", "number", "likeness", "text"]

_WORDS: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "adapter": get_args(Adapter),
    "precision": get_args(Precision),
    "class_weights": get_args(Weighting),
    "head": get_args(Head),
    "keep": get_args(Keep),
}
# whole numbers, and the least
_COUNTS = {"rank": 1, "alpha": 1, "epochs": 1, "batch_size": 1, "patience": 0, "micro_tokens": 1}
_SHARES = {"dropout": False, "warmup": True, "label_smoothing": False}  # from 0 to 1, and whether 1 is one
_ABOVE = ("learning_rate", "contrastive_temperature")
_MAYBE = ("vector_rate", "temperature")  # above 0 too, where they are given
_FROM = ("weight_decay", "consistency", "contrastive", "max_grad_norm")
_FLAGS = ("train_vectors", "freeze_embeddings", "gradient_checkpointing")


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is trained.

    method: "lora" trains an adapter (Hu et al. 2022), "full" every weight, "vectors" nothing but the
    vectors of a soft prompt (Lester et al. 2021). rank and alpha are the adapter's, dropout is that
    of its input. adapter: "lora", "dora" (weights split into length and direction, Liu et al. 2024)
    or "rslora" (scaled by alpha / sqrt(rank), Kalajdzievski 2023).

    epochs, learning_rate, weight_decay, optimizer and schedule (transformers' names), warmup (share
    of the steps), max_grad_norm (0: gradients are never clipped). batch_size: examples of one
    optimizer step. steps: the most of those; a training that would take more has fewer epochs. keep: "best"
    ends with the epoch that scored best on dev, "last" with the last one, where dev is too small to choose by; then
    dev is scored after each quarter of the epochs only.
    patience: epochs without a better dev score before training stops; 0, or keep = "last", never stops.
    train_vectors: a soft prompt's vectors go on being trained. vector_rate: their learning rate,
    where it is another one. freeze_embeddings: with the method "full" the embeddings of tokens stay as they
    are. temperature: what log-likelihoods, or cosines, are divided by in training; the prompt that comes
    out has it. None leaves that of the prompt; "classes" is for cosines: `class_temperature`.

    label_smoothing: the share of the target that all labels divide (Szegedy et al. 2016).
    class_weights: "balanced" weighs an example by 1 / (classes x share of its class). consistency:
    weight of the symmetric divergence between two readings of an example (R-Drop, Liang et al.
    2021), under two prompts where there are several.

    For sentence encoders: head "labels" gives each label a vector of its own, which starts as its
    description's and is trained; "regression" one that is fitted to the tuned embeddings by logistic
    regression, in every epoch and at the end (SetFit, Tunstall et al. 2022). contrastive, and its
    temperature: weight of a supervised contrastive loss over the texts and descriptions of a batch
    (Khosla et al. 2020), in which the examples of a class come in pairs.

    precision: "bfloat16" computes in it by autocast, weights that are trained stay float32; "auto" does
    so where the model was loaded in 16 bits, "fast" also where the device computes faster in it.
    micro_tokens: padded tokens of one pass with gradients, halved when memory runs out.
    gradient_checkpointing: activations are computed twice, not kept.

    Raises ModelError when a value is not allowed.
    """

    method: Method = "lora"
    rank: int = 8
    alpha: int = 16
    epochs: int = 6
    learning_rate: float = 1e-3
    batch_size: int = 16
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int = 2
    _: KW_ONLY
    steps: int | None = None
    keep: Keep = "best"
    adapter: Adapter = "lora"
    dropout: float = 0.0
    train_vectors: bool = True
    vector_rate: float | None = None
    freeze_embeddings: bool = False
    temperature: float | Literal["classes"] | None = None
    optimizer: str = "adamw_torch"
    schedule: str = "linear"
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: Weighting = "none"
    consistency: float = 0.0
    head: Head = "none"
    contrastive: float = 0.0
    contrastive_temperature: float = 0.1
    precision: Precision = "auto"
    micro_tokens: int = 4096
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _WORDS.items():
            require_allowed(name, getattr(self, name), allowed)
        require_allowed("optimizer", self.optimizer, _optimizers())
        require_allowed("schedule", self.schedule, _schedules())
        for name, least in {**_COUNTS, **({} if self.steps is None else {"steps": 1})}.items():
            if not _is(getattr(self, name), int) or getattr(self, name) < least:
                _refuse(name, getattr(self, name), f"a whole number from {least}")
        for name, whole in _SHARES.items():
            value = getattr(self, name)
            if not _is(value, int | float) or not (0 <= value < 1 or (whole and value == 1)):
                _refuse(name, value, "from 0 to 1" if whole else "from 0 to below 1")
        numbers = [*_ABOVE, *(name for name in _MAYBE if getattr(self, name) is not None)]
        for name in [name for name in numbers if (name, getattr(self, name)) != ("temperature", "classes")]:
            value = getattr(self, name)
            if not _is(value, int | float) or not 0 < value < math.inf:
                _refuse(name, value, "a finite number above 0")
        for name in _FROM:
            if not _is(getattr(self, name), int | float) or not 0 <= getattr(self, name) < math.inf:
                _refuse(name, getattr(self, name), "a finite number from 0")
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "true or false")
        if self.method == "vectors" and not self.train_vectors:
            raise ModelError(
                "The fine-tuning method 'vectors' trains nothing but vectors, and train_vectors is false. "
                "Give train_vectors = true, or the method lora or full."
            )

    def settled(self, classes: int) -> FinetuneOptions:
        """The same for a number of classes, the temperature as a number."""
        return replace(self, temperature=class_temperature(classes)) if self.temperature == "classes" else self


def class_temperature(classes: int) -> float:
    """The temperature of cosines at which a text that is one with its label's description, and at right angles to
    all others, has that label with probability 0.98; a single one would ask for too little of two classes or too
    much of many."""
    return 1 / math.log(max(1, classes - 1) * 0.98 / 0.02)


def target_of_kind(kind: str) -> Target:
    """What is learned by the kind of a prompt's answer."""
    kinds: dict[str, Target] = {"option": "option", "number": "number", "likeness": "likeness", "text": "text"}
    return kinds.get(kind, "labels")


def recommended(family: Family, target: Target = "labels") -> FinetuneOptions:
    """What is good for a family of models where nothing else is known.

    Sentence encoders are trained whole, by cross-entropy over the label descriptions and supervised contrast:
    measured on four data sets with 16 examples a class (tests/benchmarks/fewshot.py). For how alike two texts are
    they are trained whole too, by the squared error of the cosine. All others get LoRA.
    """
    if family == "encoder" and target == "likeness":
        return FinetuneOptions("full", epochs=4, learning_rate=2e-5, freeze_embeddings=True, precision="fast")
    if family == "encoder" and target != "labels":  # what is answered differs by input: there are no classes to part
        return FinetuneOptions("full", epochs=4, learning_rate=3e-5, freeze_embeddings=True, precision="fast")
    if family != "encoder":
        return FinetuneOptions()
    return FinetuneOptions(
        "full", epochs=20, steps=160, learning_rate=3e-5, batch_size=32, keep="last", freeze_embeddings=True,
        temperature="classes", contrastive=1.0, contrastive_temperature=0.1, head="regression",
        precision="fast",
    )  # fmt: skip


def require_allowed(name: str, given: object, allowed: tuple[str, ...]) -> None:
    """Raise ModelError when a word is not one of those allowed."""
    if given not in allowed:
        near = nearest(str(given), allowed)
        raise ModelError(f"The fine-tuning option {name} is {given!r}; allowed are {', '.join(allowed)}.{near}")


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _refuse(name: str, given: object, allowed: str) -> NoReturn:
    raise ModelError(f"The fine-tuning option {name} is {given!r}; it must be {allowed}.")


def _optimizers() -> tuple[str, ...]:
    from transformers.training_args import OptimizerNames  # here: it would be slow to import with the package

    return tuple(sorted(str(name.value) for name in OptimizerNames))


def _schedules() -> tuple[str, ...]:
    from transformers.trainer_utils import SchedulerType  # here: see _optimizers

    # "greedy" wants a metric at every step, and dev is scored once an epoch
    return tuple(sorted(str(name.value) for name in SchedulerType if name.value != "greedy"))
