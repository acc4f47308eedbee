"""The only loader of language models; one file a family.

Families: `causal` (GPT, Llama, Qwen, ...), `seq2seq` (T5, BART), `masked` (BERT, RoBERTa),
`encoder` (sentence encoders). A model is "builtin", a folder in the Hugging Face layout, or a hub
name. Weights are read from safetensors only, and no code from a model repository is run unless it
is asked for.
"""

from autoprompt.models.base import Encoding, Family, LanguageModel, gpu_count, gpu_uuid
from autoprompt.models.encoder import EncoderModel, LabelVectors, read_labels, save_encoder, save_labels
from autoprompt.models.loading import BUILTIN, load_model, model_fingerprint
from autoprompt.models.texts import text_vectors

__all__ = [
    "BUILTIN",
    "EncoderModel",
    "Encoding",
    "Family",
    "LabelVectors",
    "LanguageModel",
    "gpu_count",
    "gpu_uuid",
    "load_model",
    "model_fingerprint",
    "read_labels",
    "save_encoder",
    "save_labels",
    "text_vectors",
]
