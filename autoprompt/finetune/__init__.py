"""Train on from a prompt: its rendering is the input, its label words are the output.

`finetune` is the door, in `training`. What is trained stands in `weights`, which example is read
when in `course`, the losses in `objective` and `contrast`, the loop in `trainer` and `loop`, where it
stands in `record` and `checkpoints`, and what comes out in `tuned`.

>>> from autoprompt.data import Example
>>> from autoprompt.models import load_model
>>> from autoprompt.prompt import Prompt
>>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
>>> examples = [Example(0, {"text": "They won the match."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
>>> tuned = finetune(load_model("builtin"), prompt, examples, lambda model, prompt: (0.0, 0.0),
...                  FinetuneOptions(epochs=1, batch_size=2))
>>> tuned.method
'lora'
"""

from autoprompt.finetune.options import FinetuneOptions, Target, recommended, target_of_kind
from autoprompt.finetune.training import finetune
from autoprompt.finetune.tuned import ADAPTER_FILES, Tuned, load_tuned
from autoprompt.finetune.weights import require_tunable

__all__ = [
    "ADAPTER_FILES",
    "FinetuneOptions",
    "Target",
    "Tuned",
    "finetune",
    "load_tuned",
    "recommended",
    "require_tunable",
    "target_of_kind",
]
