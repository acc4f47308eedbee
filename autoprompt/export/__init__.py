"""The winner in formats that other programs load; one file a format.

winner/
    autoprompt.json       what to load, and what it scored
    prompt.json           the prompt, read back to the same fingerprint
    prompt.txt            the same as plain text with {placeholders}
    vectors.safetensors   soft vectors (K, H), if the prompt is soft
    adapter/              the LoRA adapter in peft's layout, if there is one
    model/                the whole model in transformers' layout, if all weights were trained
    tuned_vectors/        the soft vectors as fine-tuning left them, if there are any
    README.md             how to use each without autoprompt
"""

from autoprompt.export.folder import Exported, export, read_export

__all__ = ["Exported", "export", "read_export"]
