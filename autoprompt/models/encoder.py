"""Sentence encoders: a text becomes one vector, and the nearest label description is the answer.

Sentence-BERT (Reimers & Gurevych 2019). A model in the layout of sentence-transformers says in
`modules.json` what follows its transformer: pooling, then dense layers and normalization. Any other
encoder, such as a plain BERT, is pooled by the mean of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import transformers
from torch import Tensor

from autoprompt.errors import ModelError, PromptError
from autoprompt.models.base import Encoding, Family, Ids, LanguageModel
from autoprompt.models.labels import LABELS_FILE, LabelVectors, read_labels, save_labels
from autoprompt.models.layout import Layout, read_layout, save_layout

__all__ = [
    "Apart",
    "EncoderModel",
    "LabelVectors",
    "Layout",
    "read_labels",
    "read_layout",
    "save_encoder",
    "save_labels",
]


@dataclass(frozen=True)
class Apart(Encoding):
    """An input and the label descriptions, each read by itself."""

    @property
    def length(self) -> int:
        return len(self.context)  # `encode` has checked the descriptions


class EncoderModel(LanguageModel):
    """`AutoModel` with pooling.

    The input is the rendered example with the answer's place cut out: "{{ text }}\\nTopic: {{ label }}"
    is read as "<text>\\nTopic:". The label words are descriptions, read without the template.
    Prefixes that a model was trained with ("query: ") are for the template to write.

    labels: vectors that stand in the place of the descriptions of some label words, or None.
    label_places: of the token ids of each such word, which of the vectors is its own.
    """

    family: ClassVar[Family] = "encoder"
    temperature: ClassVar[float] = 0.05  # a scale of 20, the usual one in training sentence encoders

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        layout: Layout | None = None,
        labels: LabelVectors | None = None,
    ) -> None:
        super().__init__(network, tokenizer, name, fingerprint)
        self.layout = layout or Layout()
        self.layout.head.to(self.device).eval().requires_grad_(False)
        size = getattr(network.config, "hidden_size", 0)
        try:
            dimension = self.layout.head(torch.zeros(1, size, device=self.device)).shape[1]
        except RuntimeError:
            raise ModelError(f"A dense layer of {name!r} does not take its transformer's {size} numbers.") from None
        self.labels = labels
        self.label_places: Mapping[Ids, int] = {} if labels is None else self._places(labels, dimension)

    def _places(self, labels: LabelVectors, dimension: int) -> dict[Ids, int]:
        if labels.vectors.shape[1] != dimension:
            raise ModelError(
                f"The label vectors have {labels.vectors.shape[1]} numbers each, and the texts of {self.name!r} "
                f"{dimension}. Use those that were made with this model."
            )
        written = self._descriptions(labels.words)
        places = {ids: at for at, ids in enumerate(written.values())}
        if len(places) < len(labels.words):
            raise ModelError(
                f"Two of the {len(labels.words)} words that have label vectors are the same tokens to {self.name!r}. "
                "Use other words."
            )
        return places

    def with_network(self, network: Any) -> Self:
        return type(self)(network, self.tokenizer, self.name, self.fingerprint, self.layout, self.labels)

    def with_labels(self, labels: LabelVectors | None) -> Self:
        """The same model with other label vectors, or with None; their tensors are used as they are, not copied.

        Raises ModelError when their dimension is not the model's, or two words are the same tokens to it.
        """
        return type(self)(self.network, self.tokenizer, self.name, self.fingerprint, self.layout, labels)

    @property
    def identity(self) -> str:
        return super().identity + ("" if self.labels is None else f" labels {self.labels.mark}")

    @property
    def parameters(self) -> int:
        return super().parameters + sum(p.numel() for p in self.layout.head.parameters())

    @cached_property
    def window(self) -> int | None:
        known = [limit for limit in (super().window, self.layout.max_length) if limit is not None]
        return min(known) if known else None

    def ids(self, texts: Sequence[str], special: bool) -> list[Ids]:
        return super().ids([text.lower() for text in texts] if self.layout.lower else texts, special)

    def encode(
        self,
        contexts: Sequence[str],
        answers: Sequence[Sequence[str]],
        tails: Sequence[str],
        slots: Sequence[int | None],
        vectors: int,
    ) -> list[Encoding]:
        """Raises PromptError when a description is too long for the model."""
        texts, places = [], []
        for context, tail, slot in zip(contexts, tails, slots, strict=True):
            whole = (context + tail).rstrip()
            texts.append(whole.lstrip())
            cut = len(whole) - len(texts[-1])
            places.append(None if slot is None else min(max(slot - cut, 0), len(texts[-1])))
        written = self._descriptions([a for found in answers for a in found])
        for word, ids in written.items():
            if self.window is not None and len(ids) > self.window:
                raise PromptError(
                    f"The label word {word[:40]!r}... has {len(ids)} tokens, and the model reads {self.window}. "
                    "Use a shorter description."
                )
        before, after = self.specials
        nothing = (self.tokenizer.pad_token_id or 0,)  # where a tokenizer frames nothing, an empty text has no token
        return [
            Apart(before + ids + after or nothing, tuple(written[a.strip()] for a in found))
            for ids, found in zip(self.with_vectors(texts, places, vectors), answers, strict=True)
        ]

    def _descriptions(self, words: Sequence[str]) -> dict[str, Ids]:
        """The ids that each distinct word is read as by itself, without space around it; none where it has none."""
        before, after = self.specials
        distinct = list(dict.fromkeys(word.strip() for word in words))
        read = self.ids(distinct, special=False)
        return {word: before + ids + after if ids else () for word, ids in zip(distinct, read, strict=True)}

    def sentences(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, D) of token vectors (B, T, H) with mask (B, T), in float32."""
        hidden, padding = hidden.float(), mask[..., None] == 0
        if self.layout.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.layout.pooling == "max":
            pooled = hidden.masked_fill(padding, -torch.inf).max(1).values
        else:
            pooled = hidden.masked_fill(padding, 0.0).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(self.layout.head(pooled), dim=1)


def save_encoder(model: EncoderModel, folder: Path) -> None:
    """Write a sentence encoder in the layout of sentence-transformers, and its label vectors if it has any.

    The transformer and its tokenizer lie in `folder` itself, so that transformers reads them too.
    Raises ModelError when the network still has an adapter's layers, or a part cannot be written.
    """
    weights = model.network.state_dict()
    if any(".base_layer." in name for name in weights):
        raise ModelError(f"The network of {model.name!r} has an adapter's layers. Merge them into it before saving it.")
    folder.mkdir(parents=True, exist_ok=True)
    save_layout(model.layout, model.network.config.hidden_size, model.window, folder)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    about = {
        "__version__": {"transformers": transformers.__version__, "pytorch": torch.__version__},
        "prompts": {},  # the template writes them
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        # large files count by size, head and tail in a model's fingerprint, and training may leave those alone
        "weights": _mark(weights),
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if model.labels is not None:
        save_labels(model.labels, folder)
    else:
        (folder / LABELS_FILE).unlink(missing_ok=True)


def _mark(weights: Mapping[str, Tensor]) -> str:
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
