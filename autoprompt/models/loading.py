"""From a name to a loaded model: family, device and dtype are found, the files are checked.

Weights are read from safetensors alone, and code of a model's own is run only where that is asked for. Of a
hub model all files come from one commit, which is a part of its fingerprint.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from autoprompt.errors import ModelError
from autoprompt.models.base import Family, LanguageModel
from autoprompt.models.causal import CausalModel
from autoprompt.models.damage import damaged
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
# what is read of a hub model before its weights; no pickle is ever asked for
_SMALL = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "[0-9]_*/*.safetensors", "label_vectors.safetensors")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Source:
    """Where a model is. path: what transformers is given; folder: its files, or those of a hub model that are
    in the cache; commit: of a hub model."""

    path: str
    folder: Path
    commit: str | None = None


def _source(name: str, revision: str | None, offline: bool | None, code: bool = False) -> _Source:
    """Find a model; of a hub model, get its small files. Raises OSError or ValueError where it is not to be had."""
    path = str(BUILTIN) if name == "builtin" else name
    if _looks_local(path):
        if revision is not None:
            raise ModelError(f"The model {name!r} is a folder, which has no revision {revision!r}. Leave it out.")
        return _Source(path, Path(path))
    wanted = [*_SMALL, *(["*.py"] if code else [])]
    folder = snapshot_download(name, revision=revision, local_files_only=bool(offline), allow_patterns=wanted)
    # offline by its folder: transformers and peft look for adapters of a name on the hub, whatever they are told
    return _Source(folder if offline else path, Path(folder), Path(folder).name)


def model_fingerprint(name: str, revision: str | None = None, offline: bool | None = None) -> str:
    """A hash of the files of a model folder (16 hexadecimal digits); of a hub model, "name@commit".

    The parts of a sentence encoder ("1_Pooling", "2_Dense") count too.
    Weights over 64 MB count by size, head and tail, which spares reading them twice. Raises ModelError when
    a hub model is not to be had.
    """
    try:
        source = _source(name, revision, offline)
    except (OSError, ValueError) as error:
        raise ModelError(_refusal(name, error, offline)) from error
    return _fingerprint(source, name)


def _fingerprint(source: _Source, name: str) -> str:
    if source.commit is not None:
        return f"{name}@{source.commit}"
    folder = source.folder
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    files = [*folder.iterdir(), *folder.glob("[0-9]_*/*")]
    for path in sorted(p for p in files if p.suffix in {".jinja", ".json", ".safetensors", ".model", ".txt"}):
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
    revision: str | None = None,
    offline: bool | None = None,
) -> LanguageModel:
    """Load a model in evaluation mode.

    name: "builtin", a folder, or a hub name. device: "auto" (CUDA, then MPS, then CPU) or a torch
    device. dtype: "auto", "float32", "bfloat16" or "float16". trust_remote_code: run code that lies beside the
    weights. revision: of a hub model, a branch, tag or commit. offline: take a hub model from the cache alone;
    None: folders need no network, hub models may use it. A sentence encoder has the label vectors of its folder.

    Raises ModelError when there is no such model, its files are damaged or no safetensors, it needs code of
    its own that is not trusted, or it does not fit its family.

    >>> model = load_model("builtin")
    >>> model.family
    'causal'
    """
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = _device(device)
    source = None
    try:
        source = _source(name, revision, offline, trust_remote_code)
        folder = source.folder
        _require_model(folder)
        options: dict[str, Any] = {
            "trust_remote_code": trust_remote_code,
            "local_files_only": source.commit is None if offline is None else offline,
            "revision": source.commit or "main",
        }
        layout = read_layout(str(folder)) if family in {None, "encoder"} else None
        if layout is not None and layout.subfolder:
            options["subfolder"] = layout.subfolder
        config = AutoConfig.from_pretrained(source.path, **options)
        kind = family or ("encoder" if layout is not None else _family(config, name))
        tokenizer = AutoTokenizer.from_pretrained(source.path, **options)
        network = _network(source.path, name, kind, config, {"dtype": _dtype(dtype, place), **options}).to(place)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for a model that is not there or broken
        raise ModelError(_refusal(name, error, offline, source)) from error
    if kind == "masked" and tokenizer.mask_token_id is None:
        raise ModelError(f"The tokenizer of {name!r} has no mask token; a masked model needs one.")
    fingerprint = _fingerprint(source, name)
    if kind == "encoder":
        return EncoderModel(network, tokenizer, name, fingerprint, layout, read_labels(folder))
    return _FAMILIES[kind][0](network, tokenizer, name, fingerprint)


def _require_model(folder: Path) -> None:
    if any((folder / file).is_file() for file in ("config.json", "modules.json")):
        return
    what = "no model (no config.json)" if folder.is_dir() else "not there"
    raise ModelError(
        f"The model folder {folder} is {what}. Give 'builtin', a folder in the Hugging Face layout, or a hub name."
    )


def _refusal(name: str, error: Exception, offline: bool | None, source: _Source | None = None) -> str:
    """What a library said of a model, and what to do."""
    if source is not None and (damage := damaged(source.folder)):
        return f"The model {name!r} cannot be loaded: its file {damage}. Copy or download the model again."
    text = str(error).strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    if "trust_remote_code" in text:
        advice = (
            "None of its code was run. Use a model that transformers knows; or read that code and, where you trust it, "
            "set [model] trust_remote_code = true."
        )
    elif source is not None and _is_pickled(source.folder):
        advice = (
            "Its weights are pickled (.bin), which can run code when they are read, so they are not. "
            "Save them as safetensors, or use a model that has them."
        )
    elif source is None and not _looks_local(name) and offline is not False:
        advice = (
            f"It is not in the cache of this machine. Get it with `hf download {name}` where there is a network, give "
            "a folder, or set [model] offline = false."
        )
    else:
        advice = "Give 'builtin', a folder in the Hugging Face layout with safetensors weights, or a hub name."
    return f"The model {name!r} cannot be loaded ({type(error).__name__}: {reason}). {advice}"


def _is_pickled(folder: Path) -> bool:
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))


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
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path:
        return True
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
