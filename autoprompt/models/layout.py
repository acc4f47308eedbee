"""The layout of sentence-transformers: which files say what a sentence encoder is besides its transformer.

Sentence-BERT (Reimers & Gurevych 2019). `modules.json` says what follows the transformer: pooling,
then dense layers and normalization.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.hub import cached_file

from autoprompt.errors import ModelError

__all__ = ["Layout", "read_layout", "save_layout"]

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


# -- reading -----------------------------------------------------------------------------------


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


# -- writing -----------------------------------------------------------------------------------


def save_layout(layout: Layout, width: int, window: int | None, folder: Path) -> None:
    """Write all but the transformer, which lies in `folder` itself; what comes out is of length 1.

    width: numbers of a token vector. window: tokens that are read at most, or None. Every version of
    sentence-transformers that reads safetensors knows these files. Raises ModelError when the head
    has a part that the layout has no name for.
    """
    pooling = {flag: mode == layout.pooling for flag, mode in _FLAGS.items() if mode in _POOLINGS}
    _write(folder / "1_Pooling", "config.json", {"word_embedding_dimension": width, **pooling})
    _write(folder, _SETTINGS[0], {"max_seq_length": window, "do_lower_case": layout.lower})
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    for layer, activation in _layers(layout.head):
        kind = "Normalize" if layer is None else "Dense"
        parts.append((kind, f"{len(parts)}_{kind}"))
        place = folder / parts[-1][1]
        place.mkdir(parents=True, exist_ok=True)  # a Normalize has a folder without files
        if layer is not None:
            _save_dense(layer, activation, place)
    modules = [
        {"idx": at, "name": str(at), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for at, (kind, place) in enumerate(parts)
    ]
    _write(folder, "modules.json", modules)


def _layers(head: torch.nn.Sequential) -> Iterator[tuple[torch.nn.Linear | None, str]]:
    """Each dense layer with its activation's name, None for a normalization, which comes last in any case."""
    names = {kind: name for name, kind in _ACTIVATIONS.items()}
    parts = [*head, *([] if len(head) and isinstance(head[-1], Normalized) else [Normalized()])]
    while parts:
        part = parts.pop(0)
        if isinstance(part, Normalized):
            yield None, ""
        elif isinstance(part, torch.nn.Linear) and type(parts[0]) in names:
            yield part, names[type(parts.pop(0))]
        else:
            raise ModelError(
                f"A {type(part).__name__} behind the pooling cannot be written; a sentence encoder's head is made of "
                "linear layers, each with its activation, and normalizations."
            )


def _save_dense(layer: torch.nn.Linear, activation: str, folder: Path) -> None:
    about = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        "activation_function": activation,
    }
    _write(folder, "config.json", about)
    tensors = {f"linear.{key}": tensor.cpu().contiguous() for key, tensor in layer.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _write(folder: Path, name: str, value: Mapping[str, Any] | list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
