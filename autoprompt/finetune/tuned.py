"""A trained model with its prompt, its files, and how it is loaded again."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel

from autoprompt.errors import ModelError
from autoprompt.finetune.record import Quality
from autoprompt.models import EncoderModel, LanguageModel, read_labels, save_encoder, save_labels
from autoprompt.prompt import VECTORS_FILE, Prompt

__all__ = ["ADAPTER_FILES", "Tuned", "load_tuned"]

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True)
class Tuned:
    """A trained model with its prompt.

    model: the family's model with trained weights; the one it came from is left as it was.
    prompt: the prompt, its vectors trained on if it is soft. epoch: which epoch was best; 0 means
    that training did not help. qualities: (dev metric, minus dev loss) after each epoch, from 0, None where
    dev was not scored. quality: that of `epoch`.
    tokens: trained on, over all epochs. losses: the mean training loss of each epoch. adapter:
    peft's wrapper of the network, or None.
    """

    model: LanguageModel
    prompt: Prompt
    method: str
    epoch: int
    qualities: tuple[Quality | None, ...]
    tokens: int = 0
    adapter: Any = field(default=None, repr=False)
    losses: tuple[float, ...] = ()

    @property
    def quality(self) -> Quality:
        found = self.qualities[self.epoch]
        assert found is not None  # the first, the last and the best are scored
        return found

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's layout, the whole model in transformers' layout, or the vectors alone.

        Label vectors lie beside them. A sentence encoder is written as sentence-transformers has it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.adapter is not None:
            self.adapter.save_pretrained(folder, safe_serialization=True)
            (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
        elif self.method == "vectors":
            (folder / VECTORS_FILE).write_bytes(self.prompt.vector_bytes() or b"")
        else:
            _save_whole(self.model, folder)
        if isinstance(self.model, EncoderModel) and self.model.labels is not None:
            save_labels(self.model.labels, folder)

    def save_merged(self, folder: Path) -> None:
        """Write the whole model, the adapter merged into its weights, as transformers loads it by itself."""
        folder.mkdir(parents=True, exist_ok=True)
        model = self.model
        if self.adapter is not None:
            model = model.with_network(copy.deepcopy(self.adapter).merge_and_unload().eval())
        _save_whole(model, folder)


def _save_whole(model: LanguageModel, folder: Path) -> None:
    if isinstance(model, EncoderModel):
        save_encoder(model, folder)
    else:
        model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)


def load_tuned(model: LanguageModel, folder: Path) -> LanguageModel:
    """The model with the adapter of `folder` put on, and its label vectors if there are any.

    `model` itself is changed by it. Raises ModelError when the adapter is damaged or made for
    another model.
    """
    if not (folder / ADAPTER_FILES[0]).is_file():
        raise ModelError(f"The adapter in {folder} has no {ADAPTER_FILES[0]}; other weights are not read.")
    try:
        with warnings.catch_warnings():  # peft asks transformers by a name that it has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapter = PeftModel.from_pretrained(model.network, folder)
    except Exception as error:  # peft raises many kinds
        raise ModelError(
            f"The adapter in {folder} does not fit {model.name!r} ({type(error).__name__}: {error})."
        ) from None
    network = adapter.get_base_model()
    network.eval().requires_grad_(False)
    loaded = model.with_network(network)
    if isinstance(loaded, EncoderModel) and (labels := read_labels(folder)) is not None:
        return loaded.with_labels(labels)
    return loaded
