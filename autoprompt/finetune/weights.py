"""What is trained: a copy of the model with an adapter or all its weights, soft vectors, label vectors."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn import Parameter

from autoprompt.engine.encoder import embeddings
from autoprompt.errors import ModelError
from autoprompt.finetune.options import FinetuneOptions
from autoprompt.models import EncoderModel, LabelVectors, LanguageModel
from autoprompt.prompt import Prompt, Rendered, SoftPart
from autoprompt.soft import seed_of

__all__ = ["Pupil", "fingerprint_of", "pupil_of", "reads_bfloat16", "require_tunable", "undisturbed"]


@dataclass(frozen=True, eq=False)
class Pupil:
    """A model that is being trained, with its prompt.

    model: its trained weights take gradients and are float32. adapter: peft's wrapper, or None.
    vectors: (K, H) in the place of the prompt's soft vectors, or None where those stay as they are.
    dtype: what the model is in, before training and after it.
    """

    model: LanguageModel
    prompt: Prompt
    adapter: Any
    vectors: Parameter | None
    dtype: torch.dtype

    @property
    def labels(self) -> LabelVectors | None:
        return self.model.labels if isinstance(self.model, EncoderModel) else None

    def own(self) -> dict[str, Parameter]:
        """What is trained beside the network, by name."""
        found = {} if self.vectors is None else {"soft_vectors": self.vectors}
        if self.labels is not None:
            of_labels = {"label_vectors": self.labels.vectors, "label_bias": self.labels.bias}
            found |= {name: weight for name, weight in of_labels.items() if isinstance(weight, Parameter)}
        return found

    def parameters(self) -> dict[str, Parameter]:
        """Everything that is trained, by name."""
        named = self.model.network.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad} | self.own()

    def snapshot(self) -> dict[str, Tensor]:
        """What is trained as it is now, copied, on the CPU."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.parameters().items()}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Put a snapshot back."""
        with torch.no_grad():
            for name, weight in self.parameters().items():
                weight.copy_(kept[name])

    def prompt_now(self) -> Prompt:
        """The prompt with its vectors as they are now."""
        if self.vectors is None or self.prompt.soft is None:
            return self.prompt
        values = self.vectors.detach().cpu().numpy().copy()
        return replace(self.prompt, soft=SoftPart(values, self.prompt.soft.position))

    @contextmanager
    def examined(self) -> Iterator[tuple[LanguageModel, Prompt]]:
        """The model and the prompt as they would be kept, in evaluation mode and in the model's own dtype."""
        network = self.model.network.eval()
        if self.adapter is None and any(w.dtype != self.dtype and w.requires_grad for w in network.parameters()):
            yield self._with(copy.deepcopy(network).to(self.dtype)), self.prompt_now()
        else:  # a tokenizer is slow to be taken up again by a model made anew
            yield self.model, self.prompt_now()

    def finished(self) -> LanguageModel:
        """The trained model, which takes no gradients any more. An adapter's weights stay float32."""
        network = self.model.network.eval().requires_grad_(False)
        return self._with(network if self.adapter is not None else network.to(self.dtype))

    def _with(self, network: Any) -> LanguageModel:
        if not isinstance(self.model, EncoderModel) or self.model.labels is None:
            return self.model.with_network(network)
        known = self.model.labels
        labels = LabelVectors(known.words, known.vectors.detach().clone(), known.bias.detach().clone())
        return self.model.with_network(network).with_labels(labels)


def pupil_of(model: LanguageModel, prompt: Prompt, options: FinetuneOptions, seed: int) -> Pupil:
    """A pupil made of a model, which stays as it was.

    With the method "vectors" it reads the model's own network, which changes in nothing. Raises
    ModelError when the options do not fit the model or the prompt.
    """
    _require_fitting(model, prompt, options)
    adapter, network = None, model.network
    if options.method == "lora":
        torch.manual_seed(seed_of(seed, "finetune"))  # peft draws from the global generator
        adapter = _adapted(copy.deepcopy(network), options)
        network = adapter.get_base_model()
    elif options.method == "full":
        network = copy.deepcopy(network).float().requires_grad_(True)
        if options.freeze_embeddings:
            network.get_input_embeddings().requires_grad_(False)
    vectors = None
    if prompt.soft is not None and options.train_vectors:
        vectors = Parameter(torch.from_numpy(prompt.soft.vectors.copy()).float().to(model.device))
    trained = model.with_network(network)
    if isinstance(trained, EncoderModel) and options.head == "labels":
        trained = trained.with_labels(_label_vectors(trained, prompt))
    return Pupil(trained, prompt, adapter, vectors, model.dtype)


def require_tunable(model: LanguageModel) -> None:
    """Raise ModelError when no weight of a model can take a gradient."""
    if not any(weight.is_floating_point() for weight in model.network.parameters()):
        raise ModelError(
            f"The weights of {model.name!r} are whole numbers, which cannot be trained. Load the model unquantized, "
            "or set [finetune] method = 'none'."
        )


def _require_fitting(model: LanguageModel, prompt: Prompt, options: FinetuneOptions) -> None:
    require_tunable(model)
    if options.method == "vectors" and prompt.soft is None:
        raise ModelError(
            "The fine-tuning method 'vectors' trains a soft prompt's vectors, and the prompt has none. "
            "Use the method lora or full."
        )
    if options.method != "vectors" and any(isinstance(m, BaseTunerLayer) for m in model.network.modules()):
        raise ModelError(
            f"The model {model.name!r} has an adapter already. Merge it, as `Tuned.save_merged` does, and load what "
            "that has written."
        )
    if model.family != "encoder":
        for name, given in (("head", options.head != "none"), ("contrastive", options.contrastive > 0)):
            if given:
                raise ModelError(
                    f"The fine-tuning option {name} is {getattr(options, name)!r}, which is for sentence encoders, "
                    f"and the model {model.name!r} is {model.family}. Leave it away."
                )


def _adapted(network: Any, options: FinetuneOptions) -> Any:
    """peft's wrapper around a network, in which it has put its layers; their weights are float32."""
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        use_dora=options.adapter == "dora",
        use_rslora=options.adapter == "rslora",
        target_modules="all-linear",
    )
    with warnings.catch_warnings():  # peft asks transformers by a name that it has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        return get_peft_model(network, config)


@torch.no_grad()
def _label_vectors(model: EncoderModel, prompt: Prompt) -> LabelVectors:
    """Vectors of the prompt's label words that start as the embeddings of the descriptions, with no bias."""
    words = tuple(prompt.label_words.values())
    choices = model.encode_shown([Rendered("", words)], 0)[0].choices
    known = model.labels
    rows = []
    biases = torch.zeros(len(words), device=model.device)
    for at, choice in enumerate(choices):
        if known is not None and choice in model.label_places:
            place = model.label_places[choice]
            rows.append(known.vectors[place].to(model.device).float())
            biases[at] = known.bias[place]
        else:
            rows.append(embeddings(model, [(choice, None)])[0])
    return LabelVectors(words, Parameter(torch.stack(rows)), Parameter(biases))


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """While open, the global generators may be seeded and drawn from; they are as before afterwards."""
    plain, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)


def reads_bfloat16(model: LanguageModel, options: FinetuneOptions) -> bool:
    """Whether passes with gradients are computed in bfloat16."""
    if options.precision in {"float32", "bfloat16"}:
        return options.precision == "bfloat16"
    if options.precision == "fast" and _has_bfloat16(model.device):
        return True
    able = model.device.type != "cuda" or torch.cuda.is_bf16_supported()
    return model.dtype in {torch.bfloat16, torch.float16} and able


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 by its own instructions, which others imitate slowly."""
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public names for them
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def fingerprint_of(model: LanguageModel) -> str:
    """A hash of what a model is: its identity, its device, and the first numbers of each of its weights."""
    digest = hashlib.sha256(json.dumps([model.identity, model.device.type, torch.__version__]).encode())
    for name, weight in model.network.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().reshape(-1)[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
