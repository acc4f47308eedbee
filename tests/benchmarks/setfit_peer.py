"""SetFit (Tunstall et al. 2022) as the peer of the few-shot benchmark, in a process of its own.

    python setfit_peer.py MODEL_FOLDER FILE

FILE holds {"train": [[text, label], ...], "test": [...], "seed": N}; what is printed at the end is
{"right": [...], "seconds": S, "version": V}. Settings are the paper's: pairs of 20 iterations, one epoch,
batches of 16, and a logistic regression on the tuned embeddings. It runs in the interpreter that has
setfit, and imports nothing of this project.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
ITERATIONS, EPOCHS, BATCH = 20, 1, 16


def main() -> None:
    folder, given = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        found = _run(folder, given)
    print(json.dumps(found))


def _run(folder: str, given: dict[str, Any]) -> dict[str, Any]:
    import datasets.fingerprint
    import setfit
    import transformers
    from datasets import Dataset

    # names for its cache, which is not used here; hashing for them fails beside newer versions of dill
    names = itertools.count()
    datasets.fingerprint.Hasher.hash = classmethod(lambda cls, value: f"{next(names):016x}")
    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(given["seed"])
    model = _model(folder)
    train = Dataset.from_dict(
        {"text": [text for text, _ in given["train"]], "label": [label for _, label in given["train"]]}
    )
    with tempfile.TemporaryDirectory() as place:
        arguments = setfit.TrainingArguments(
            output_dir=place,
            batch_size=BATCH,
            num_epochs=EPOCHS,
            num_iterations=ITERATIONS,
            seed=given["seed"],
            report_to="none",
            show_progress_bar=False,
            eval_strategy="no",
            save_strategy="no",
        )
        trainer = setfit.Trainer(model=model, args=arguments, train_dataset=train)
        began, worked = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    told = model.predict([text for text, _ in given["test"]], batch_size=64, show_progress_bar=False)
    right = [int(str(guess) == label) for guess, (_, label) in zip(told, given["test"], strict=True)]
    return {
        "right": right,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "version": setfit.__version__,
    }


def _model(folder: str) -> Any:
    """The sentence encoder of a folder; of any other model one with mean pooling."""
    import setfit
    from sentence_transformers import SentenceTransformer, models

    if (Path(folder) / "modules.json").is_file():
        return setfit.SetFitModel.from_pretrained(folder)
    network = models.Transformer(folder)
    if network.tokenizer.pad_token is None:
        network.tokenizer.pad_token = network.tokenizer.eos_token
    body = SentenceTransformer(modules=[network, models.Pooling(network.get_word_embedding_dimension(), "mean")])
    from sklearn.linear_model import LogisticRegression

    return setfit.SetFitModel(model_body=body, model_head=LogisticRegression())


if __name__ == "__main__":
    main()
