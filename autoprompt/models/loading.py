"""From a name to a loaded model: family, device and dtype are found, the files are checked."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer

from autoprompt.errors import ModelError
from autoprompt.models.base import Family, LanguageModel
from autoprompt.models.causal import CausalModel
from autoprompt.models.encoder import EncoderModel, read_labels, read_layout
from autoprompt.models.masked import MaskedModel
from autoprompt.models.seq2seq import Seq2SeqModel

__all__ = ["BUILTIN", "load_model", "model_fingerprint"]

BUILTIN = Path(__file__).parent / "builtin"
# the class, what loads its network, and how the architectures end that it is for
_FAMILIES: dict[Family, tuple[type[LanguageModel], str, tuple[str, ...]]] = {
    "causal": (CausalModel, "AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel")),
    "seq2seq": (Seq2SeqModel, "AutoModelForSeq2SeqLM", ("ForConditionalGeneration",)),
    "masked": (MaskedModel, "AutoModelForMaskedLM", ("ForMaskedLM",)),
    "encoder": (EncoderModel, "AutoModel", ()),  # told by the files beside its transformer
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _path(name: str) -> str:
    return str(BUILTIN) if name == "builtin" else name


def model_fingerprint(name: str) -> str:
    """A hash of the files of a model folder (16 hexadecimal digits); of a hub model, its revision.

    The parts of a sentence encoder ("1_Pooling", "2_Dense") count too.
    Weights over 64 MB count by size, head and tail, which spares reading them twice.
    """
    folder = Path(_path(name))
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    files = [*folder.iterdir(), *folder.glob("[0-9]_*/*")]
    for path in sorted(p for p in files if p.suffix in {".json", ".safetensors", ".model", ".txt"}):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}".encode())
        with path.open("rb") as file:
            if size <= 2**26:
                digest.update(file.read())
            else:
                digest.update(file.read(2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The device {wanted!r} cannot be used here: {reason}. Use auto, cpu, cuda or mps.") from None
    return device


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA devices that have it, float32 elsewhere, unless one is asked for."""
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise ModelError(f"The dtype {wanted!r} is not one of auto, {', '.join(_DTYPES)}.")
        return _DTYPES[wanted]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _family(config: Any, name: str) -> Family:
    architectures = getattr(config, "architectures", None) or []
    for family, (_, _, endings) in _FAMILIES.items():
        if any(a.endswith(endings) for a in architectures):
            return family
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    raise ModelError(
        f"The family of the model {name!r} cannot be told from its architectures {architectures}. "
        "Give [model] family: causal, seq2seq, masked or encoder."
    )


def load_model(
    name: str,
    family: Family | None = None,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a model in evaluation mode.

    name: "builtin", a folder, or a hub name. device: "auto" (CUDA, then MPS, then CPU) or a torch
    device. dtype: "auto", "float32", "bfloat16" or "float16". A sentence encoder has the label vectors
    of its folder.

    Raises ModelError when there is no such model, its files are damaged or no safetensors, or it
    does not fit its family.

    >>> model = load_model("builtin")
    >>> model.family
    'causal'
    """
    path = _path(name)
    if _looks_local(path) and not any((Path(path) / file).is_file() for file in ("config.json", "modules.json")):
        what = "no model (no config.json)" if Path(path).is_dir() else "not there"
        raise ModelError(
            f"The model folder {path} is {what}. Give 'builtin', a folder in the Hugging Face layout, or a hub name."
        )
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = _device(device)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        layout = read_layout(path) if family in {None, "encoder"} else None
        if layout is not None and layout.subfolder:
            options["subfolder"] = layout.subfolder
        config = AutoConfig.from_pretrained(path, **options)
        kind = family or ("encoder" if layout is not None else _family(config, name))
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        network = _network(path, name, kind, config, {"dtype": _dtype(dtype, place), **options}).to(place)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for a model that is not there or broken
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The model {name!r} cannot be loaded ({type(error).__name__}: {reason}). "
            "Give 'builtin', a folder in the Hugging Face layout with safetensors weights, or a hub name."
        ) from error
    if kind == "masked" and tokenizer.mask_token_id is None:
        raise ModelError(f"The tokenizer of {name!r} has no mask token; a masked model needs one.")
    if kind == "encoder":
        return EncoderModel(network, tokenizer, name, model_fingerprint(name), layout, read_labels(Path(path)))
    return _FAMILIES[kind][0](network, tokenizer, name, model_fingerprint(name))


def _network(path: str, name: str, kind: Family, config: Any, options: dict[str, Any]) -> Any:
    """The network in evaluation mode, with all its weights. Raises ModelError when some are missing."""
    _, auto, _ = _FAMILIES[kind]
    alone = any(a.endswith("EncoderModel") for a in getattr(config, "architectures", None) or [])
    if kind == "encoder" and (alone or getattr(config, "is_encoder_decoder", False)):
        auto = "AutoModelForTextEncoding"  # the encoder alone, of T5 and its like
    verbosity = transformers.utils.logging.get_verbosity()
    if kind == "encoder":  # or it would warn of a pooler that nothing reads
        transformers.utils.logging.set_verbosity(logging.ERROR)
    try:
        network, found = getattr(transformers, auto).from_pretrained(
            path, use_safetensors=True, output_loading_info=True, **options
        )
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
    # what transformers calls the pooler is not read by sentence encoders, and many come without it
    lacking = sorted(k for k in found["missing_keys"] if kind != "encoder" or not k.startswith("pooler."))
    if lacking:
        raise ModelError(f"The weights of {name!r} lack {', '.join(lacking[:3])}.")
    weights = network.state_dict()
    for key in found["missing_keys"]:
        weights[key].zero_()  # else drawn anew at each loading, and written when the model is saved
    return network.eval().requires_grad_(False)


def _looks_local(path: str) -> bool:
    return Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path
