"""finetune/trainer.py in several processes: they share each step, and all return the same."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from pupils import OPTIONS, OTHER, everything, soft, topics
from safetensors.torch import load_file

from autoprompt.data import Example
from autoprompt.finetune import FinetuneOptions, Tuned, finetune
from autoprompt.models import LanguageModel, load_model

pytestmark = pytest.mark.model
ROOT = Path(__file__).parents[1]
SGD = dataclasses.replace(OPTIONS, optimizer="sgd", batch_size=6)

PROGRAM = """
    import json, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    torch.set_num_threads(1)
    from conftest import ROWS
    from pupils import everything, topics
    from test_finetune_processes import SGD, train
    from autoprompt import lesson as lessons
    from autoprompt.engine import choice_log_probabilities
    from autoprompt.errors import ModelError
    from autoprompt.models import load_model
    from safetensors.torch import save_file

    rows = [{{"text": t, "topic": k}} for ts in zip(*ROWS.values()) for k, t in zip(ROWS, ts)]
    rank, out = int(__import__("os").environ["RANK"]), Path({out!r})
    model, examples = load_model({model!r}, device="cpu"), topics(rows, 15)
    heard = []
    whole = train(model, examples, SGD, heard.append)
    failed = []

    def small(model, requests, *more):
        if rank == 1 and len(requests) > 1:
            failed.append(len(requests))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return choice_log_probabilities(model, requests, *more)

    lessons.choice_log_probabilities = small
    short = train(model, examples, SGD, heard.append, out / "checkpoints")
    lessons.choice_log_probabilities = choice_log_probabilities
    again = train(model, examples, SGD, heard.append, out / "checkpoints")

    def broken(model, requests, *more):
        if rank == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return choice_log_probabilities(model, requests, *more)

    lessons.choice_log_probabilities = broken
    try:
        train(model, examples, SGD, heard.append)
    except ModelError as error:
        refused = str(error)
    for name, tuned in (("whole", whole), ("short", short), ("again", again)):
        save_file({{k: v.contiguous() for k, v in everything(tuned).items()}}, out / f"{{name}}-{{rank}}")
    told = {{"losses": [whole.losses, short.losses], "qualities": whole.qualities, "heard": len(heard),
             "failed": len(failed), "refused": refused, "epoch": whole.epoch}}
    (out / f"told-{{rank}}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()
"""


def train(
    model: LanguageModel, examples: list[Example], options: FinetuneOptions, hear: Any, folder: Path | None = None
) -> Tuned:
    scores = iter(range(100))  # asked in the first process alone: the last epoch is the best
    return finetune(
        model, soft(model), examples, lambda m, p: (next(scores), 0.0), options, 1, hear, others=[OTHER], folder=folder
    )


def test_two_processes_train_as_one(llama_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path) -> None:
    code = tmp_path / "program.py"
    code.write_text(
        textwrap.dedent(PROGRAM).format(tests=str(ROOT / "tests"), model=str(llama_folder), out=str(tmp_path))
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(code)], capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one = train(load_model(str(llama_folder), device="cpu"), topics(topics_rows, 15), SGD, lambda event: None)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert [t["heard"] for t in told] == [6, 0]  # of two trainings; the third was over
    assert [t["failed"] > 0 for t in told] == [False, True]
    assert all(t["refused"].startswith("One example does not fit into the memory") for t in told)
    assert told[0]["losses"] == told[1]["losses"]
    assert told[0]["qualities"] == told[1]["qualities"] == [list(q) for q in one.qualities]
    assert [t["epoch"] for t in told] == [3, 3]
    for losses in told[0]["losses"]:
        assert losses == pytest.approx(one.losses, rel=1e-4)
    expected = everything(one)
    for name in ("whole", "short", "again"):
        first, second = (load_file(tmp_path / f"{name}-{rank}") for rank in (0, 1))
        assert all(torch.equal(first[key], second[key]) for key in expected)
        assert all((first[key] - expected[key]).abs().max() < 1e-4 for key in expected)
    short, again = load_file(tmp_path / "short-0"), load_file(tmp_path / "again-0")
    assert all(torch.equal(short[key], again[key]) for key in short)
