"""finetune/: training goes on from a prompt, keeps the best epoch, and what it saves is what it scored."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from autoprompt import lesson as lessons
from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.engine import Request, choice_log_probabilities
from autoprompt.errors import ModelError, PromptError
from autoprompt.events import EpochFinished, Event
from autoprompt.finetune import FinetuneOptions, Tuned, finetune, load_tuned
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import VECTORS_FILE, Position, Prompt, SoftPart
from autoprompt.scorer import Scorer

pytestmark = pytest.mark.model

module = importlib.import_module("autoprompt.finetune")  # the package's own name `finetune` is the function
FAMILIES = ["llama", "gpt2", "t5", "bert", "roberta"]
LAW = 1e-4
PROMPT = Prompt("{{ text }}\nTopic: {{ label }}", {"sports": "sports", "weather": "weather"})
OPTIONS = FinetuneOptions(epochs=4, learning_rate=1e-2, batch_size=8, patience=9)
AUTO = {"causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM, "masked": AutoModelForMaskedLM}


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    rows = [row for row in topics_rows if row["topic"] != "money"][:24]
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(rows)]


def on(examples: Sequence[Example]) -> Callable[[LanguageModel, Prompt], tuple[float, float]]:
    """What `run` evaluates with: the metric and minus the loss on dev."""

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        [score] = Scorer(model, accuracy).score([prompt], examples)
        return score.value, -score.loss

    return evaluate


def soft(model: LanguageModel, position: Position = "start") -> Prompt:
    drawn = np.random.default_rng(5).standard_normal((3, model.embeddings.shape[1]))
    return dataclasses.replace(PROMPT, soft=SoftPart((drawn * model.embeddings.std()).astype(np.float32), position))


def rows(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> Any:
    [found] = Scorer(model, accuracy).log_likelihoods([prompt], examples)
    return found


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_and_the_original_model_stays_as_it_was(
    family: str, method: Literal["lora", "full"], loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model, heard = loaded[family], list[Event]()
    before, expected = weights(model), rows(model, PROMPT, examples)
    options = dataclasses.replace(OPTIONS, method=method)
    tuned = finetune(model, PROMPT, examples, on(examples), options, seed=1, listener=heard.append)
    losses = [event.loss for event in heard if isinstance(event, EpochFinished)]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]
    assert tuned.qualities[tuned.epoch] > tuned.qualities[0]
    assert same(weights(model), before)
    assert np.array_equal(rows(model, PROMPT, examples), expected)
    assert np.abs(rows(tuned.model, PROMPT, examples) - expected).max() > 0.1


@pytest.mark.parametrize("kind", ["plain", "normalized", "calibrated", "soft", "retrieving"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_predictions(
    family: str, kind: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    words = {"sports": "a sports match", "weather": "weather"}  # more than one token
    pool = tuple(Demonstration(e.fields, e.label) for e in examples[12:])
    prompt = dataclasses.replace(
        soft(model) if kind == "soft" else PROMPT,
        label_words=words,
        normalize=kind == "normalized",
        calibration="content_free" if kind == "calibrated" else "none",
        retrieval=Retrieval(pool, 2) if kind == "retrieving" else None,
    )
    heard: list[Event] = []
    still = dataclasses.replace(OPTIONS, epochs=1, learning_rate=1e-12, batch_size=5)
    finetune(model, prompt, examples, lambda model, prompt: (0.0, 0.0), still, listener=heard.append)
    likelihoods = rows(model, prompt, examples)
    gold = [prompt.labels.index(e.label) for e in examples]
    expected = np.logaddexp.reduce(likelihoods, 1) - likelihoods[range(len(gold)), gold]
    assert heard[0].loss == pytest.approx(expected.mean(), abs=LAW)  # type: ignore[attr-defined]


def test_an_easy_task_is_learned(loaded: dict[str, LanguageModel]) -> None:
    easy = [
        Example(n, {"text": f"{word} {n}"}, label)
        for n, (word, label) in enumerate([("cup", "sports"), ("rain", "weather")] * 8)
    ]
    options = dataclasses.replace(OPTIONS, method="full", epochs=20)
    for family, model in loaded.items():
        tuned = finetune(model, PROMPT, easy, on(easy), options)
        assert tuned.qualities[tuned.epoch][0] == 1.0, family


def test_the_same_seed_trains_the_same_model(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    options = dataclasses.replace(OPTIONS, epochs=2)
    first, again, other = (
        finetune(loaded["llama"], PROMPT, examples, on(examples), options, seed=seed) for seed in (1, 1, 2)
    )
    assert first.qualities == again.qualities
    assert same(weights(first.model), weights(again.model))
    assert first.qualities != other.qualities


def test_every_epoch_is_told(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    heard: list[Event] = []
    tuned = finetune(loaded["gpt2"], PROMPT, examples, on(examples), OPTIONS, listener=heard.append)
    epochs = [event for event in heard if isinstance(event, EpochFinished)]
    assert len(epochs) == len(heard)
    assert [(event.epoch, event.epochs) for event in epochs] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [event.dev for event in epochs] == [quality[0] for quality in tuned.qualities[1:]]


def test_the_trained_model_is_ready_to_be_read(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["llama"]
    tuned = finetune(model, PROMPT, examples, on(examples), dataclasses.replace(OPTIONS, epochs=1))
    assert type(tuned.model) is type(model)
    assert (tuned.model.name, tuned.model.family, tuned.method) == (model.name, "causal", "lora")
    assert not tuned.model.network.training
    assert not any(weight.requires_grad for weight in tuned.model.network.parameters())


def test_the_trained_tokens_are_counted(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    model = loaded["bert"]
    tuned = finetune(model, PROMPT, examples, on(examples), dataclasses.replace(OPTIONS, epochs=3))
    encodings = Scorer(model, accuracy).encode(PROMPT, [dict(e.fields) for e in examples])
    once = sum(len(e.context) + len(choice) + len(e.tail) for e in encodings for choice in e.choices)
    assert tuned.tokens == 3 * once


# -- which epoch is kept ---------------------------------------------------------------------


class Scripted:
    """An evaluation that gives the qualities it is told and remembers what it saw."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = values
        self.seen: list[tuple[dict[str, torch.Tensor], Prompt]] = []

    def __call__(self, model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        assert not model.network.training
        self.seen.append((weights(model), prompt))
        return self.values[len(self.seen) - 1], 0.0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_best_epoch_is_kept(
    method: Literal["lora", "full"], loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded["llama"]
    script = Scripted([0.1, 0.5, 0.9, 0.3, 0.9, 0.2])
    options = dataclasses.replace(OPTIONS, method=method, epochs=5)
    tuned = finetune(model, soft(model), examples, script, options)
    assert tuned.epoch == 2
    assert [value for value, _ in tuned.qualities] == [0.1, 0.5, 0.9, 0.3, 0.9, 0.2]
    kept, prompt = script.seen[2]
    assert same(weights(tuned.model), kept)
    assert tuned.prompt == prompt
    assert not same(weights(tuned.model), script.seen[5][0])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_that_does_not_help_gives_the_model_back(
    method: Literal["lora", "full"], loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded["bert"]
    prompt = soft(model)
    options = dataclasses.replace(OPTIONS, method=method, patience=2)
    tuned = finetune(model, prompt, examples, Scripted([0.9, 0.5, 0.4]), options)
    assert tuned.epoch == 0
    assert tuned.prompt == prompt
    assert np.abs(rows(tuned.model, prompt, examples) - rows(model, prompt, examples)).max() < LAW


def test_training_stops_when_patience_is_at_its_end(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    script = Scripted([0.1, 0.5, 0.4, 0.5, 0.9, 0.9])
    options = dataclasses.replace(OPTIONS, epochs=5, patience=2)
    tuned = finetune(loaded["gpt2"], PROMPT, examples, script, options)
    assert (tuned.epoch, len(tuned.qualities)) == (1, 4)


def test_a_lower_loss_breaks_a_tie(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    qualities = iter([(0.5, -1.0), (0.5, -0.8), (0.5, -0.9)])
    options = dataclasses.replace(OPTIONS, epochs=2)
    assert finetune(loaded["gpt2"], PROMPT, examples, lambda m, p: next(qualities), options).epoch == 1


@pytest.mark.parametrize("keep", ["best", "last"])
def test_training_that_is_halted_ends_after_the_step_with_what_it_has(
    keep: Literal["best", "last"], loaded: dict[str, LanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    asked = iter(["", "", "", "", "the time is over."])  # of 24 examples, 3 steps of 8 an epoch
    options = dataclasses.replace(OPTIONS, epochs=9, batch_size=8, keep=keep)
    script = Scripted([0.1, 0.5, 0.9])
    tuned = finetune(loaded["llama"], PROMPT, examples, script, options, folder=tmp_path, halt=lambda: next(asked))
    assert tuned.epoch == (1 if keep == "best" else 2)
    scored = [0.1, 0.5] if keep == "best" else [0.1, None, 0.5]
    assert [quality and quality[0] for quality in tuned.qualities] == scored
    assert tuned.quality[0] == scored[-1]
    assert all(math.isfinite(loss) for loss in tuned.losses)
    assert len(list(tmp_path.iterdir())) == 1  # the epoch that is whole; the halted one is not


# -- what is trained on ----------------------------------------------------------------------


def trained_requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    seen: list[Request] = []

    def recorded(model: LanguageModel, requests: Sequence[Request], *more: Any) -> torch.Tensor:
        seen.extend(requests)
        return choice_log_probabilities(model, requests, *more)

    monkeypatch.setattr(lessons, "choice_log_probabilities", recorded)
    return seen


def test_demonstrations_are_left_out_of_training(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = loaded["llama"], trained_requests(monkeypatch)
    shown = tuple(Demonstration(e.fields, e.label) for e in examples[:2])
    prompt = dataclasses.replace(PROMPT, demonstrations=shown)
    finetune(model, prompt, examples, Scripted([0.0, 0.0]), dataclasses.replace(OPTIONS, epochs=1))
    expected = Scorer(model, accuracy).encode(prompt, [dict(e.fields) for e in examples[2:]])
    assert sorted(request.context for request in seen) == sorted(e.context for e in expected)


def test_each_example_is_trained_on_once_an_epoch(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in loaded.values():
        seen = trained_requests(monkeypatch)
        finetune(model, PROMPT, examples, Scripted([0.0] * 3), dataclasses.replace(OPTIONS, epochs=2))
        encodings = Scorer(model, accuracy).encode(PROMPT, [dict(e.fields) for e in examples])
        expected = sorted((e.context, e.choices, e.tail) for e in encodings)
        for start in (0, len(examples)):
            epoch = seen[start : start + len(examples)]
            assert sorted((request.context, request.choices, request.tail) for request in epoch) == expected
        assert [r.context for r in seen[: len(examples)]] != [r.context for r in seen[len(examples) :]]
        assert len(seen) == 2 * len(examples)


def test_when_every_example_is_a_demonstration_all_are_trained_on(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trained_requests(monkeypatch)
    prompt = dataclasses.replace(PROMPT, demonstrations=tuple(Demonstration(e.fields, e.label) for e in examples[:2]))
    finetune(loaded["bert"], prompt, examples[:2], Scripted([0.0] * 2), dataclasses.replace(OPTIONS, epochs=1))
    assert len(seen) == 2


@pytest.mark.parametrize("position", ["start", "example", "answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_soft_vectors_are_trained(
    family: str, position: Position, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded[family]
    prompt = soft(model, position)
    assert prompt.soft is not None
    before = prompt.soft.vectors.copy()
    tuned = finetune(model, prompt, examples, Scripted([0.0, 1.0]), dataclasses.replace(OPTIONS, epochs=1))
    assert tuned.prompt.soft is not None
    moved = np.abs(tuned.prompt.soft.vectors - before)
    assert (moved.max(1) > 1e-4).all()
    assert np.array_equal(prompt.soft.vectors, before)
    assert tuned.prompt.soft.position == position
    assert dataclasses.replace(tuned.prompt, soft=None) == PROMPT


def test_a_loss_that_is_no_number_is_a_model_error(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    options = dataclasses.replace(OPTIONS, method="full", learning_rate=1e30, warmup=0.0, epochs=2)
    wording = r"^The fine-tuning loss is not a number\. Use a smaller \[finetune\] learning_rate\.$"
    with pytest.raises(ModelError, match=wording):
        finetune(loaded["gpt2"], PROMPT, examples, lambda m, p: (0.0, 0.0), options)


def test_examples_that_are_too_long_are_shortened_as_in_scoring(
    loaded: dict[str, LanguageModel], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = loaded["llama"], trained_requests(monkeypatch)
    long = Example(99, {"text": "The cup was won. " * 200}, "sports")
    finetune(model, PROMPT, [*examples[:3], long], Scripted([0.0] * 2), dataclasses.replace(OPTIONS, epochs=1))
    assert len(seen) == 4


def test_examples_that_are_all_too_long_do_not_divide_by_zero(loaded: dict[str, LanguageModel]) -> None:
    long = [Example(n, {"text": f"{n} The cup was won. " * 200}, "sports") for n in range(3)]
    options = dataclasses.replace(OPTIONS, epochs=1)
    tuned = finetune(loaded["llama"], PROMPT, long, on(long), options)
    assert len(tuned.qualities) == 2


def test_a_prompt_that_fills_the_window_cannot_be_trained_on(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    prompt = dataclasses.replace(PROMPT, instruction="Which topic is it? " * 200)
    with pytest.raises((ModelError, PromptError), match=r"160 tokens"):
        finetune(loaded["llama"], prompt, examples, lambda m, p: (0.0, 0.0), OPTIONS)


# -- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(loaded: dict[str, LanguageModel], examples: list[Example]) -> dict[str, Tuned]:
    """By family: a soft prompt trained with LoRA for two epochs, the last one kept."""
    options = dataclasses.replace(OPTIONS, epochs=2)
    return {
        family: finetune(model, soft(model), examples, Scripted([0.0, 0.1, 0.2]), options)
        for family, model in loaded.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_loaded_by_plain_peft_scores_the_same(
    family: str,
    trained: dict[str, Tuned],
    loaded: dict[str, LanguageModel],
    model_folders: dict[str, Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    tuned = trained[family]
    tuned.save(tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == sorted(module.ADAPTER_FILES)
    base = AUTO[loaded[family].family].from_pretrained(model_folders[family])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a deprecated name
        plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folders[family])
    wrapped = type(loaded[family])(plain.get_base_model(), tokenizer, "plain", "")
    expected = rows(tuned.model, tuned.prompt, examples)
    assert np.abs(rows(wrapped, tuned.prompt, examples) - expected).max() < LAW
    assert np.abs(expected - rows(loaded[family], tuned.prompt, examples)).max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_loaded_by_us_scores_the_same(
    family: str, trained: dict[str, Tuned], model_folders: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    tuned = trained[family]
    tuned.save(tmp_path)
    again = load_tuned(load_model(str(model_folders[family]), device="cpu"), tmp_path)
    found = rows(again, tuned.prompt, examples)
    assert np.abs(found - rows(tuned.model, tuned.prompt, examples)).max() < LAW
    assert not again.network.training


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_trained_in_full_is_saved_as_transformers_loads_it(
    family: str,
    loaded: dict[str, LanguageModel],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    model = loaded[family]
    options = dataclasses.replace(OPTIONS, method="full", epochs=1)
    tuned = finetune(model, PROMPT, examples, Scripted([0.0, 0.1]), options)
    tuned.save(tmp_path / "model")
    assert not list(tmp_path.rglob("*.bin"))
    network = AUTO[model.family].from_pretrained(tmp_path / "model").eval()
    assert same(network.state_dict(), tuned.model.network.state_dict())
    expected = rows(tuned.model, PROMPT, examples)
    assert np.abs(rows(load_model(str(tmp_path / "model")), PROMPT, examples) - expected).max() < LAW
    assert np.abs(rows(model, PROMPT, examples) - expected).max() > 0.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_loaded_by_plain_transformers_score_the_same(
    family: str, adapter: Any, loaded: dict[str, LanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, epochs=1, adapter=adapter)
    tuned = finetune(loaded[family], PROMPT, examples, Scripted([0.0, 0.1]), options)
    expected = rows(tuned.model, PROMPT, examples)
    tuned.save_merged(tmp_path / "model")
    network = AUTO[loaded[family].family].from_pretrained(tmp_path / "model").eval()
    wrapped = type(loaded[family])(network, AutoTokenizer.from_pretrained(tmp_path / "model"), "plain", "")
    assert np.abs(rows(wrapped, PROMPT, examples) - expected).max() < LAW
    assert np.array_equal(rows(tuned.model, PROMPT, examples), expected)
    assert not any("lora" in name for name in network.state_dict())
    tuned.save(tmp_path / "adapter")  # which is still there
    again = load_tuned(load_model(loaded[family].name, device="cpu"), tmp_path / "adapter")
    assert np.abs(rows(again, PROMPT, examples) - expected).max() < LAW


FRESH = """
import sys, warnings; warnings.simplefilter("ignore")
import torch; from peft import PeftModel; from transformers import AutoModelForCausalLM
base, adapter, merged = sys.argv[1:]
ids = torch.arange(2, 30)[None]
found = [PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval(),
         AutoModelForCausalLM.from_pretrained(merged).eval()]
with torch.no_grad():
    print([network(ids).logits.double().log_softmax(-1)[0, :, 7].sum().item() for network in found])
"""


def test_what_is_saved_is_the_same_in_a_fresh_process(
    trained: dict[str, Tuned], llama_folder: Path, tmp_path: Path
) -> None:
    tuned = trained["llama"]
    tuned.save(tmp_path / "adapter")
    tuned.save_merged(tmp_path / "merged")
    places = [str(llama_folder), str(tmp_path / "adapter"), str(tmp_path / "merged")]
    done = subprocess.run([sys.executable, "-c", FRESH, *places], capture_output=True, text=True, timeout=120)
    with torch.no_grad():
        logs = tuned.model.network(torch.arange(2, 30)[None]).logits.double().log_softmax(-1)
    assert json.loads(done.stdout) == pytest.approx([logs[0, :, 7].sum().item()] * 2, abs=28 * LAW)


def test_vectors_alone_are_saved_as_the_prompt_reads_them(
    loaded: dict[str, LanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    prompt = soft(loaded["gpt2"])
    options = dataclasses.replace(OPTIONS, method="vectors", epochs=1)
    tuned = finetune(loaded["gpt2"], prompt, examples, Scripted([0.0, 0.1]), options)
    tuned.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [VECTORS_FILE]
    assert tuned.prompt.soft is not None
    assert np.array_equal(load_file(tmp_path / VECTORS_FILE)["vectors"].numpy(), tuned.prompt.soft.vectors)
    assert tuned.prompt != prompt


def test_a_folder_without_an_adapter_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^The adapter in .* has no adapter_model\.safetensors; other weights are not read\.$"
    ):
        load_tuned(load_model(str(llama_folder)), tmp_path)


def test_a_cut_adapter_is_refused(trained: dict[str, Tuned], llama_folder: Path, tmp_path: Path) -> None:
    trained["llama"].save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"^The adapter in .* does not fit '.*' \(SafetensorError: "):
        load_tuned(load_model(str(llama_folder)), tmp_path)


def test_an_adapter_of_another_model_is_refused(trained: dict[str, Tuned], gpt2_folder: Path, tmp_path: Path) -> None:
    trained["llama"].save(tmp_path)
    with pytest.raises(ModelError, match=r"^The adapter in .* does not fit '.*' \("):
        load_tuned(load_model(str(gpt2_folder)), tmp_path)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")
def test_an_adapter_that_lacks_a_tensor_is_refused(
    trained: dict[str, Tuned], llama_folder: Path, tmp_path: Path
) -> None:
    trained["llama"].save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[min(tensors)]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"^The adapter in .* does not fit '.*' \("):
        load_tuned(load_model(str(llama_folder)), tmp_path)
