"""A loaded language model, and what every family can do with text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
import transformers
from torch import Tensor

from autoprompt.errors import ModelError, PromptError
from autoprompt.models.chat import ChatTemplate
from autoprompt.models.pieces import Pieces
from autoprompt.soft import Array

__all__ = ["Encoding", "Family", "Ids", "LanguageModel", "Shown", "common_length", "gpu_count", "gpu_uuid"]

Family = Literal["causal", "seq2seq", "masked", "encoder"]
Ids = tuple[int, ...]


class Shown(Protocol):
    """A rendered example: what of it is turned into tokens."""

    @property
    def context(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def tail(self) -> str: ...
    @property
    def slot(self) -> int | None: ...
    @property
    def turns(self) -> tuple[tuple[str, str], ...]: ...


@dataclass(frozen=True)
class Encoding:
    """A rendered example as token ids.

    In `context`, the id -1-k stands for soft vector k. `tail` follows the answer (masked models).
    """

    context: Ids
    choices: tuple[Ids, ...]
    tail: Ids = ()

    @property
    def length(self) -> int:
        """Tokens of the longest input that this makes for the model."""
        return len(self.context) + max(map(len, self.choices), default=0) + len(self.tail)


def common_length(sequences: Iterable[Ids]) -> int:
    """How many leading ids all sequences share."""
    first, last = (found := sorted(sequences))[0], found[-1]  # only the extremes can differ earliest
    for at, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return at
    return min(len(first), len(last))


class LanguageModel(ABC):
    """A network with its tokenizer, on its device.

    name: as it was asked for. fingerprint: a hash of the files it was loaded from. window: the
    most tokens that it reads at once, or None. temperature: that of a prompt which names none.
    """

    family: ClassVar[Family]
    temperature: ClassVar[float] = 1.0

    def __init__(self, network: Any, tokenizer: Any, name: str, fingerprint: str) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self._pieces = Pieces(tokenizer)

    def with_network(self, network: Any) -> Self:
        """The same model with another network, such as a trained copy."""
        return type(self)(network, self.tokenizer, self.name, self.fingerprint)

    @abstractmethod
    def encode(
        self,
        contexts: Sequence[str],
        answers: Sequence[Sequence[str]],
        tails: Sequence[str],
        slots: Sequence[int | None],
        vectors: int,
    ) -> list[Encoding]:
        """Token ids of rendered examples: N contexts, their answers (N, C), tails, and vector slots."""

    def encode_shown(self, shown: Sequence[Shown], vectors: int) -> list[Encoding]:
        """Token ids of rendered examples with `vectors` soft vectors; those with turns are framed by the chat template.

        Raises PromptError when two label words are the same tokens to the model, or none, or when the chat template
        cannot frame an example, and ModelError when there are turns and no chat template.
        """
        plain = [s for s in shown if not s.turns]
        parts = iter(self.encode(
            [s.context for s in plain], [s.answers for s in plain], [s.tail for s in plain],
            [s.slot for s in plain], vectors,
        ) if plain else [])  # fmt: skip
        framed = iter(self.encode_turns([s for s in shown if s.turns], vectors))
        encodings = [next(framed if s.turns else parts) for s in shown]
        for encoding, rendered in zip(encodings, shown, strict=True):
            if not all(encoding.choices) or len(set(encoding.choices)) < len(encoding.choices):
                for at, choice in enumerate(encoding.choices):
                    word = rendered.answers[at].strip()
                    if not choice:
                        raise PromptError(f"The label word {word!r} has no tokens in this model. Use another word.")
                    if choice in encoding.choices[:at]:
                        other = rendered.answers[encoding.choices.index(choice)].strip()
                        raise PromptError(
                            f"The label words {other!r} and {word!r} are the same tokens to this model. "
                            "Use other words."
                        )
        return encodings

    def encode_turns(self, shown: Sequence[Shown], vectors: int) -> list[Encoding]:
        """Token ids of rendered examples that are conversations. Raises as `encode_shown` does."""
        if shown:
            raise ModelError(
                f"The prompt is a chat, and the model {self.name!r} is {self.family}: only causal models whose "
                'tokenizer has a chat template chat. Use such a model, or set prompt.chat = "none".'
            )
        return []

    def encode_fitting(
        self,
        render: Callable[[Mapping[str, str]], Shown],
        inputs: Sequence[Mapping[str, str]],
        fields: Sequence[str],
        vectors: int,
        room: int = 0,
    ) -> tuple[list[Encoding], list[int]]:
        """Token ids of inputs, and which of them had to be shortened to fit the window.

        The rule: all `fields` of an input are cut at their end to the same number of characters,
        the greatest that fits. room: tokens that are to be written behind an input, in the same window; an
        encoder-decoder writes apart from what it reads and needs none. Raises PromptError when the prompt does not
        fit even without them.
        """
        encodings = self.encode_shown([render(values) for values in inputs], vectors)
        window = None if self.window is None else self.window - (0 if self.family == "seq2seq" else room)
        long = [i for i, encoding in enumerate(encodings) if window is not None and encoding.length > window]
        for i in long:
            low, high = -1, max((len(inputs[i].get(name, "")) for name in fields), default=0)
            while low < high:
                middle = (low + high + 1) // 2
                cut = {k: v[:middle] if k in fields else v for k, v in inputs[i].items()}
                [encoding] = self.encode_shown([render(cut)], vectors)
                if window is not None and encoding.length <= window:
                    low, encodings[i] = middle, encoding
                else:
                    high = middle - 1
            if low < 0:
                raise PromptError(
                    f"The prompt alone fills the {window} tokens that the model reads. "
                    "Use fewer or shorter demonstrations, or a shorter instruction."
                )
        return encodings, long

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """The tokenizer's chat template, of causal models that have one."""
        has = self.family == "causal" and getattr(self.tokenizer, "chat_template", None)
        return ChatTemplate(self.tokenizer, self.name) if has else None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def identity(self) -> str:
        """Names what its numbers depend on: family, files, revision, dtype, and the library that runs it."""
        revision = getattr(self.network.config, "_commit_hash", None) or ""
        return f"{self.family} {self.fingerprint} {revision} {self.dtype} transformers {transformers.__version__}"

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @cached_property
    def window(self) -> int | None:
        config = self.network.config
        limits = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
        if any(kind in config.model_type for kind in ("roberta", "camembert", "mpnet")) and limits[0]:
            limits[0] -= config.pad_token_id + 1  # its positions begin behind the padding id
        limits.append(self.tokenizer.model_max_length if self.tokenizer.model_max_length < 10**7 else None)
        known = [int(limit) for limit in limits if limit and limit > 0]
        return min(known) if known else None

    @cached_property
    def embeddings(self) -> Array:
        """The input embedding matrix (V, H) in float32."""
        weight: Tensor = self.network.get_input_embeddings().weight
        return np.asarray(weight.detach().float().cpu().numpy(), dtype=np.float32)

    @cached_property
    def specials(self) -> tuple[Ids, Ids]:
        """The ids that the tokenizer puts before and after every text."""
        plain = self.ids(["a"], special=False)[0]
        framed = self.ids(["a"], special=True)[0]
        start = next(i for i in range(len(framed) + 1) if framed[i : i + len(plain)] == plain)
        return framed[:start], framed[start + len(plain) :]

    def ids(self, texts: Sequence[str], special: bool) -> list[Ids]:
        """Token ids of each text; an empty text has none of its own."""
        if not special:
            return self._pieces.ids(texts)
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
        return [tuple(ids) for ids in encoded]

    def with_vectors(self, texts: Sequence[str], slots: Sequence[int | None], vectors: int) -> list[Ids]:
        """Ids without special tokens, the ids of `vectors` soft vectors put in at each slot."""
        marks = tuple(-1 - k for k in range(vectors))
        heads = self.ids([t if s is None else t[:s] for t, s in zip(texts, slots, strict=True)], special=False)
        rests = self.ids([t[len(t) if s is None else s :] for t, s in zip(texts, slots, strict=True)], special=False)
        return [h if s is None else h + marks + r for h, r, s in zip(heads, rests, slots, strict=True)]


def gpu_count() -> int:
    """CUDA devices of this machine."""
    return torch.cuda.device_count()


def gpu_uuid(device: torch.device) -> str | None:
    """What NVIDIA's tools call a CUDA device ("GPU-…"); None for any other device."""
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
