"""Label vectors: a classifier on top of a sentence encoder, one vector and one bias a label word."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autoprompt.errors import ModelError

__all__ = ["LABELS_FILE", "LabelVectors", "read_labels", "save_labels"]

LABELS_FILE = "label_vectors.safetensors"


@dataclass(frozen=True, eq=False)
class LabelVectors:
    """What a label word's description has learned to be: its score with a unit vector e is e @ vector + bias.

    words: as the prompt has them. vectors: (C, D). bias: (C,). The tensors may require gradients.
    Raises ModelError when the numbers of the three do not agree, or a word comes twice.
    """

    words: tuple[str, ...]
    vectors: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        shapes = tuple(self.vectors.shape), tuple(self.bias.shape)
        count = len(self.words)
        if not count or self.vectors.ndim != 2 or len(self.vectors) != count or shapes[1] != (count,):
            raise ModelError(
                f"{count} label words have vectors of shape {shapes[0]} and biases of shape {shapes[1]}; "
                "give words, and for C of them vectors (C, D) and biases (C,)."
            )
        twice = sorted({word for word in self.words if self.words.count(word) > 1})
        if twice:
            raise ModelError(f"The label word {twice[0]!r} has two vectors; give each word one.")

    @property
    def mark(self) -> str:
        """A hash of the words and of the numbers as they are now (16 hexadecimal digits)."""
        digest = blake2b(json.dumps([self.words, list(self.vectors.shape)]).encode(), digest_size=8)
        for tensor in (self.vectors, self.bias):
            digest.update(_plain(tensor).numpy().tobytes())
        return digest.hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()


def save_labels(labels: LabelVectors, folder: Path) -> None:
    """Write `label_vectors.safetensors` into a folder: "vectors", "bias", and the words in its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    # cloned: two tensors that share memory cannot be written
    tensors = {"vectors": _plain(labels.vectors).clone(), "bias": _plain(labels.bias).clone()}
    save_file(tensors, folder / LABELS_FILE, {"words": json.dumps(labels.words, ensure_ascii=False)})


def read_labels(folder: Path) -> LabelVectors | None:
    """The label vectors of a folder, float32; None when it has none. Raises ModelError when they are damaged."""
    path = folder / LABELS_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            words = json.loads((file.metadata() or {})["words"])
            vectors, bias = (file.get_tensor(name).float() for name in ("vectors", "bias"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ModelError("Its words are no list of texts.")
        return LabelVectors(tuple(words), vectors, bias)
    except (OSError, SafetensorError, KeyError, ValueError, ModelError) as error:
        raise ModelError(
            f"The label vectors {path} are damaged ({type(error).__name__}: {error}). Export the model again."
        ) from None
