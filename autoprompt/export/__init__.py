"""The winner in formats that other programs load; one file a format.

winner/
    autoprompt.json       what to load, and what it scored
    prompt.json           the prompt, read back to the same fingerprint
    prompt.txt            the same as plain text with {placeholders}
    vectors.safetensors   soft vectors (K, H), if the prompt is soft
    adapter/              the LoRA adapter in peft's layout, if there is one
    model/                the whole model in transformers' layout, if all weights were trained
    merged/               the same, with the adapter merged in, unless that was not wanted
    tuned_prompt/         the prompt as fine-tuning left it, if that is another one
    README.md             how to use each without autoprompt
"""

from autoprompt.export.folder import Exported, export, put_prompt, read_export, write_prompt

__all__ = ["Exported", "export", "put_prompt", "read_export", "write_prompt"]
