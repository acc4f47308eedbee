"""finetune/checkpoints.py: a training that was killed anywhere goes on, to the same weights bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pupils import OPTIONS, OTHER, PROMPT, on, same, soft, topics, unscored

from autoprompt import lesson as lessons
from autoprompt.data import Example
from autoprompt.events import EpochFinished, Event
from autoprompt.finetune import FinetuneOptions, Tuned, checkpoints, finetune
from autoprompt.models import LanguageModel, load_model

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[1]
LORA = dataclasses.replace(OPTIONS, dropout=0.1, batch_size=6)


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> LanguageModel:
    return load_model(str(llama_folder), device="cpu")


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> LanguageModel:
    return load_model(str(encoder_folder), device="cpu")


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return topics(topics_rows, 12)


class Study:
    """A training with dropout, a soft prompt and a second prompt, that can be killed."""

    def __init__(self, model: LanguageModel, examples: list[Example], options: FinetuneOptions = LORA) -> None:
        self.model, self.examples, self.options = model, examples, options
        self.heard: list[int] = []
        self.scored = 0
        self.kill_at_score = self.kill_at_event = -1

    def evaluate(self, model: LanguageModel, prompt: Any) -> tuple[float, float]:
        self.scored += 1
        if self.scored == self.kill_at_score:
            raise Killed
        return on(self.examples[:8])(model, prompt)

    def listen(self, event: Event) -> None:
        assert isinstance(event, EpochFinished)
        if event.epoch == self.kill_at_event:
            raise Killed
        self.heard.append(event.epoch)

    def run(self, folder: Path | None = None, **changed: Any) -> Tuned:
        given = {"options": self.options, "seed": 3, "others": [OTHER], "prompt": soft(self.model)} | changed
        return finetune(
            self.model, given.pop("prompt"), self.examples, self.evaluate,
            listener=self.listen, folder=folder, **given,
        )  # fmt: skip


@pytest.fixture(scope="module")
def whole(llama: LanguageModel, examples: list[Example]) -> Tuned:
    """The training that was never killed."""
    return Study(llama, examples).run()


def count_calls(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, die_at: int) -> None:
    """The call number `die_at` of a function kills."""
    real, calls = getattr(place, name), iter(range(1, 10**9))

    def called(*given: Any, **named: Any) -> Any:
        if next(calls) == die_at:
            raise Killed
        return real(*given, **named)

    monkeypatch.setattr(place, name, called)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_checkpoints_change_nothing(
    llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    study = Study(llama, examples)
    assert same(study.run(tmp_path), whole)
    assert study.heard == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-2", "epoch-3"]
    assert {Path(name).suffix for name in files(tmp_path)} == {".json", ".safetensors"}


def test_a_finished_training_is_not_trained_again(
    llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    Study(llama, examples).run(tmp_path)
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert (again.heard, again.scored) == ([], 0)


@pytest.mark.parametrize("score", [1, 2, 4])
def test_killed_while_dev_is_scored(
    score: int, llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    study = Study(llama, examples)
    study.kill_at_score = score
    with pytest.raises(Killed, match=r"^$"):
        study.run(tmp_path)
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert again.heard == [*range(max(1, score - 1), 4)]


def test_killed_while_an_epoch_is_told(
    llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    study = Study(llama, examples)
    study.kill_at_event = 2
    with pytest.raises(Killed, match=r"^$"):
        study.run(tmp_path)
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert again.heard == [3]  # what is told is on the disk


@pytest.mark.parametrize("call", [2, 7])
def test_killed_in_the_middle_of_an_epoch(
    call: int,
    llama: LanguageModel,
    examples: list[Example],
    whole: Tuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_calls(monkeypatch, lessons, "choice_log_probabilities", call)
    with pytest.raises(Killed, match=r"^$"):
        Study(llama, examples).run(tmp_path)
    monkeypatch.undo()
    assert same(Study(llama, examples).run(tmp_path), whole)


@pytest.mark.parametrize(("function", "call"), [("save_file", 1), ("save_file", 4), ("_hash", 5), ("_flush", 8)])
def test_killed_while_a_checkpoint_is_written(
    function: str,
    call: int,
    llama: LanguageModel,
    examples: list[Example],
    whole: Tuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_calls(monkeypatch, checkpoints, function, call)
    with pytest.raises(Killed, match=r"^$"):
        Study(llama, examples).run(tmp_path)
    monkeypatch.undo()
    assert any(path.name.endswith(".part") for path in tmp_path.iterdir()) or function == "_flush"
    assert same(Study(llama, examples).run(tmp_path), whole)
    assert not any(path.name.endswith(".part") for path in tmp_path.iterdir())


def test_a_file_that_was_torn_while_it_was_written_is_not_read(
    llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints.save_file

    def torn(tensors: Any, path: Path) -> None:
        real(tensors, path)
        if path.parent.name.startswith("epoch-2"):
            path.write_bytes(path.read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(checkpoints, "save_file", torn)
    with pytest.raises(Killed, match=r"^$"):
        Study(llama, examples).run(tmp_path)
    monkeypatch.undo()
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert again.heard == [2, 3]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.json", "deleted"),
        ("trainer_state.json", "cut"),
        ("weights.safetensors", "deleted"),
        ("weights.safetensors", "cut"),
        ("weights.safetensors", "changed"),
        ("optimizer.safetensors", "changed"),
    ],
)
@pytest.mark.fault("damaged checkpoint")
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, damage: str, llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    study = Study(llama, examples)
    study.kill_at_event = 2
    with pytest.raises(Killed, match=r"^$"):
        study.run(tmp_path)
    path = tmp_path / "epoch-2" / name
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        half = len(content) // 2
        path.write_bytes(content[:half] + (b"" if damage == "cut" else b"?" + content[half + 1 :]))
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert again.heard == [2, 3]


def test_with_every_checkpoint_gone_training_begins_again(
    llama: LanguageModel, examples: list[Example], whole: Tuned, tmp_path: Path
) -> None:
    Study(llama, examples).run(tmp_path)
    for path in tmp_path.rglob("weights.safetensors"):
        path.write_bytes(b"")
    again = Study(llama, examples)
    assert same(again.run(tmp_path), whole)
    assert again.heard == [1, 2, 3]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 4},
        {"options": dataclasses.replace(LORA, learning_rate=2e-2)},
        {"others": []},
        {"prompt": PROMPT},
        {"target": "text", "prompt": PROMPT, "others": []},
    ],
    ids=["seed", "options", "others", "prompt", "target"],
)
def test_checkpoints_of_other_arguments_are_replaced(
    changed: dict[str, Any], llama: LanguageModel, examples: list[Example], tmp_path: Path
) -> None:
    Study(llama, examples).run(tmp_path)
    study = Study(llama, examples)
    found = study.run(tmp_path, **changed)
    assert study.heard == [1, 2, 3]
    assert same(found, Study(llama, examples).run(**changed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-2", "epoch-3"]


def test_checkpoints_of_other_examples_or_weights_are_not_taken_up(
    llama: LanguageModel, examples: list[Example], tmp_path: Path
) -> None:
    first = Study(llama, examples)
    trained = first.run(tmp_path, options=dataclasses.replace(LORA, method="full"))
    for study in (Study(llama, examples[:-1]), Study(trained.model, examples)):
        study.run(tmp_path)
        assert study.heard == [1, 2, 3]


@pytest.mark.parametrize("kind", ["full", "patience", "encoder", "contrast", "plateau"])
def test_every_kind_of_training_goes_on(
    kind: str, llama: LanguageModel, encoder: LanguageModel, examples: list[Example], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "full": {"method": "full", "optimizer": "adafactor"},
        "patience": {"patience": 1, "learning_rate": 0.3},
        "encoder": {"head": "labels", "class_weights": "balanced"},
        "contrast": {"head": "labels", "contrastive": 0.5, "micro_tokens": 200},
        "plateau": {"schedule": "reduce_lr_on_plateau", "optimizer": "sgd"},
    }
    options = dataclasses.replace(LORA, **changes[kind])
    model = encoder if kind in {"encoder", "contrast"} else llama
    expected = Study(model, examples, options).run()
    study = Study(model, examples, options)
    study.kill_at_score = 3
    with contextlib.suppress(Killed):  # patience may be at its end before
        study.run(tmp_path)
    assert same(Study(model, examples, options).run(tmp_path), expected)


def test_the_global_generators_are_left_as_they_were(llama: LanguageModel, examples: list[Example]) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), torch.rand(1).item()

    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = drawn()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = finetune(llama, PROMPT, examples[:8], unscored, dataclasses.replace(LORA, epochs=1))
    assert drawn() == expected
    random.seed(6), np.random.seed(6), torch.manual_seed(6)
    assert same(finetune(llama, PROMPT, examples[:8], unscored, dataclasses.replace(LORA, epochs=1)), first)


PROGRAM = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    torch.set_num_threads(1)
    from conftest import ROWS
    from test_finetune_resume import Study
    from pupils import everything, topics
    from autoprompt.models import load_model
    from safetensors.torch import save_file

    rows = [{{"text": t, "topic": k}} for ts in zip(*ROWS.values()) for k, t in zip(ROWS, ts)]
    study = Study(load_model({model!r}, device="cpu"), topics(rows, 12))
    told = study.listen
    study.listen = lambda event: (told(event), print(event.epoch, flush=True))
    tuned = study.run(Path({folder!r}))
    save_file({{key: value.contiguous() for key, value in everything(tuned).items()}}, {out!r})
    print(tuned.qualities, flush=True)
"""


def started(model: Path, folder: Path, out: Path) -> subprocess.Popen[str]:
    code = textwrap.dedent(PROGRAM).format(
        tests=str(ROOT / "tests"), model=str(model), folder=str(folder), out=str(out)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def test_a_process_that_was_killed_goes_on(llama_folder: Path, tmp_path: Path, whole: Tuned) -> None:
    from pupils import everything
    from safetensors.torch import load_file

    process = started(llama_folder, tmp_path / "run", tmp_path / "out")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    time.sleep(0.05)  # somewhere in the second epoch
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    again = started(llama_folder, tmp_path / "run", tmp_path / "out")
    told, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert told.splitlines()[-1] == str(whole.qualities)
    found, expected = load_file(tmp_path / "out"), everything(whole)
    assert "1" not in told.splitlines()[:-1]
    assert all(torch.equal(found[key], expected[key]) for key in found)
