"""Sentence encoders: a text becomes one vector, and the nearest label description is the answer.

Sentence-BERT (Reimers & Gurevych 2019). A model in the layout of sentence-transformers says in
`modules.json` what follows its transformer: pooling, then dense layers and normalization. Any other
encoder, such as a plain BERT, is pooled by the mean of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from autoprompt.errors import ModelError, PromptError
from autoprompt.models.base import Encoding, Family, Ids, LanguageModel

__all__ = ["Apart", "EncoderModel", "Layout", "read_layout"]

Pooling = Literal["mean", "cls", "max"]
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max"}
_FLAGS = {  # how older versions of sentence-transformers write them
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "torch.nn.modules.activation.GELU": torch.nn.GELU,
    "torch.nn.modules.activation.ReLU": torch.nn.ReLU,
    "torch.nn.modules.activation.Sigmoid": torch.nn.Sigmoid,
    "torch.nn.modules.activation.Tanh": torch.nn.Tanh,
    "torch.nn.modules.linear.Identity": torch.nn.Identity,
}
_KINDS = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_SETTINGS = ("sentence_bert_config.json", *(f"sentence_{kind}_config.json" for kind in _KINDS))


class Normalized(torch.nn.Module):
    """Rows scaled to length 1."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.normalize(rows, dim=1)


@dataclass(frozen=True)
class Layout:
    """What there is of a sentence encoder besides its transformer.

    head: what follows the pooling. max_length: tokens it was made for, or None. lower: texts are
    read in lower case. subfolder: where the transformer's files are.
    """

    pooling: Pooling = "mean"
    head: torch.nn.Sequential = field(default_factory=torch.nn.Sequential)
    max_length: int | None = None
    lower: bool = False
    subfolder: str = ""


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
    """

    family: ClassVar[Family] = "encoder"
    temperature: ClassVar[float] = 0.05  # a scale of 20, the usual one in training sentence encoders

    def __init__(self, network: Any, tokenizer: Any, name: str, fingerprint: str, layout: Layout | None = None) -> None:
        super().__init__(network, tokenizer, name, fingerprint)
        self.layout = layout or Layout()
        self.layout.head.to(self.device).eval().requires_grad_(False)
        size = getattr(network.config, "hidden_size", 0)
        try:
            self.layout.head(torch.zeros(1, size, device=self.device))
        except RuntimeError:
            raise ModelError(f"A dense layer of {name!r} does not take its transformer's {size} numbers.") from None

    def with_network(self, network: Any) -> Self:
        return type(self)(network, self.tokenizer, self.name, self.fingerprint, self.layout)

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
        before, after = self.specials
        texts, places = [], []
        for context, tail, slot in zip(contexts, tails, slots, strict=True):
            whole = (context + tail).rstrip()
            texts.append(whole.lstrip())
            cut = len(whole) - len(texts[-1])
            places.append(None if slot is None else min(max(slot - cut, 0), len(texts[-1])))
        words = list(dict.fromkeys(a.strip() for found in answers for a in found))
        written = {
            word: before + ids + after if ids else ()
            for word, ids in zip(words, self.ids(words, special=False), strict=True)
        }
        for word, ids in written.items():
            if self.window is not None and len(ids) > self.window:
                raise PromptError(
                    f"The label word {word[:40]!r}... has {len(ids)} tokens, and the model reads {self.window}. "
                    "Use a shorter description."
                )
        nothing = (self.tokenizer.pad_token_id or 0,)  # where a tokenizer frames nothing, an empty text has no token
        return [
            Apart(before + ids + after or nothing, tuple(written[a.strip()] for a in found))
            for ids, found in zip(self.with_vectors(texts, places, vectors), answers, strict=True)
        ]

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


# -- the files ---------------------------------------------------------------------------------


def read_layout(path: str) -> Layout | None:
    """The layout of a folder or a hub model; None when it is no sentence encoder.

    Raises ModelError when its files are damaged, or a part is not supported.
    """
    modules = _json(path, "modules.json")
    if modules is None and _file(path, "1_Pooling/config.json") is not None:
        kinds = ("Transformer", ""), ("Pooling", "1_Pooling")
        modules = [{"type": f"sentence_transformers.models.{kind}", "path": place} for kind, place in kinds]
    if modules is None:
        return None
    try:
        parts = [(str(module["type"]), str(module["path"])) for module in modules]
    except (KeyError, TypeError):
        raise ModelError(f"modules.json of {path!r} is not a list of modules, each with type and path.") from None
    # a type of another package would be code of the model's repository
    names = [kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind for kind, _ in parts]
    if names[:2] != ["Transformer", "Pooling"] or set(names[2:]) - {"Dense", "Normalize"}:
        raise ModelError(
            f"The sentence encoder {path!r} is made of {', '.join(names)}; "
            "supported are Transformer, Pooling, and behind them Dense and Normalize."
        )
    subfolder = parts[0][1]
    found = (_json(path, _in(subfolder, name)) for name in _SETTINGS)
    settings: dict[str, Any] = next((values for values in found if isinstance(values, dict)), {})
    longest = settings.get("max_seq_length")
    head: list[torch.nn.Module] = []
    for name, (_, place) in zip(names[2:], parts[2:], strict=True):
        head += [Normalized()] if name == "Normalize" else _dense(path, place)
    return Layout(
        _pooling(path, parts[1][1]),
        torch.nn.Sequential(*head),
        int(longest) if longest else None,
        bool(settings.get("do_lower_case")),
        subfolder,
    )


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _file(path: str, name: str) -> Path | None:
    """A file of a folder or of a hub model."""
    if Path(path).is_dir():
        return found if (found := Path(path) / name).is_file() else None
    cached = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if cached is None else Path(cached)


def _json(path: str, name: str) -> Any:
    file = _file(path, name)
    if file is None:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} of {path!r} cannot be read ({type(error).__name__}: {error}).") from None


def _pooling(path: str, folder: str) -> Pooling:
    about = _json(path, _in(folder, "config.json"))
    if not isinstance(about, dict):
        raise ModelError(f"{_in(folder, 'config.json')} of {path!r} is missing or no object; it says how to pool.")
    given = about.get("pooling_mode") or [mode for flag, mode in _FLAGS.items() if about.get(flag)] or "mean"
    modes = [given] if isinstance(given, str) else list(given)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ModelError(
            f"The sentence encoder {path!r} pools by {' and '.join(map(str, modes))}; "
            f"supported is one of {', '.join(_POOLINGS)}."
        )
    return _POOLINGS[modes[0]]


def _dense(path: str, folder: str) -> list[torch.nn.Module]:
    """A linear layer and its activation. Raises ModelError when it does more than that."""
    about = _json(path, _in(folder, "config.json")) or {}
    file = _file(path, _in(folder, "model.safetensors"))
    if file is None:
        raise ModelError(f"The dense layer {folder} of {path!r} has no model.safetensors; other weights are not read.")
    activation = about.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in _ACTIVATIONS:
        raise ModelError(
            f"The dense layer {folder} of {path!r} has the activation {activation!r}; "
            f"supported are {', '.join(name.rpartition('.')[2] for name in _ACTIVATIONS)} of torch.nn."
        )
    names = {about.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if about.get("use_residual") or names != {"sentence_embedding"}:
        raise ModelError(
            f"The dense layer {folder} of {path!r} has a residual or is not one of sentence vectors, "
            "which is not supported. Use another sentence encoder."
        )
    try:
        tensors = load_file(file)
        weight = tensors["linear.weight"].float()
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias="linear.bias" in tensors)
        linear.load_state_dict({key.removeprefix("linear."): tensor.float() for key, tensor in tensors.items()})
    except (OSError, SafetensorError, KeyError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The dense layer {folder} of {path!r} is damaged ({type(error).__name__}: {reason})."
        ) from None
    return [linear, _ACTIVATIONS[activation]()]
