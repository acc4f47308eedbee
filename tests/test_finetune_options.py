"""finetune/options.py: what fine-tuning can be told is checked when it is told."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pupils import OPTIONS, OTHER, PROMPT, soft, topics, unscored

from autoprompt.data import Example
from autoprompt.errors import DataError, ModelError, PromptError
from autoprompt.finetune import FinetuneOptions, finetune, require_tunable
from autoprompt.finetune.options import class_temperature
from autoprompt.finetune.record import Record
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt

pytestmark = pytest.mark.model

ONE = dataclasses.replace(OPTIONS, epochs=1)


@pytest.fixture(scope="module")
def loaded(llama_folder: Path, bert_folder: Path, encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {"llama": llama_folder, "bert": bert_folder, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return topics(topics_rows, 8)


@pytest.mark.parametrize(
    ("given", "wording"),
    [
        ({"method": "lroa"}, r"method is 'lroa'; allowed are lora, full, vectors\. Did you mean 'lora'\?$"),
        ({"adapter": "dorra"}, r"adapter is 'dorra'; allowed are lora, dora, rslora\. Did you mean 'dora'\?$"),
        ({"precision": "float16"}, r"precision is 'float16'; allowed are auto, fast, float32, bfloat16\. Did you mean 'bfloat16'\?$"),
        ({"class_weights": "even"}, r"class_weights is 'even'; allowed are none, balanced\.$"),
        ({"head": "label"}, r"head is 'label'; allowed are none, labels, regression\. Did you mean 'labels'\?$"),
        ({"optimizer": "adam_torch"}, r"optimizer is 'adam_torch'; allowed are .*sgd.* Did you mean 'adamw_torch'\?$"),
        ({"schedule": "liner"}, r"schedule is 'liner'; allowed are .*polynomial.* Did you mean 'linear'\?$"),
        ({"rank": 0}, r"rank is 0; it must be a whole number from 1\.$"),
        ({"alpha": 1.5}, r"alpha is 1\.5; it must be a whole number from 1\.$"),
        ({"epochs": True}, r"epochs is True; it must be a whole number from 1\.$"),
        ({"batch_size": 0}, r"batch_size is 0; it must be a whole number from 1\.$"),
        ({"patience": -1}, r"patience is -1; it must be a whole number from 0\.$"),
        ({"micro_tokens": 0}, r"micro_tokens is 0; it must be a whole number from 1\.$"),
        ({"dropout": 1}, r"dropout is 1; it must be from 0 to below 1\.$"),
        ({"label_smoothing": -0.1}, r"label_smoothing is -0\.1; it must be from 0 to below 1\.$"),
        ({"warmup": 1.1}, r"warmup is 1\.1; it must be from 0 to 1\.$"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; it must be a finite number above 0\.$"),
        ({"vector_rate": float("inf")}, r"vector_rate is inf; it must be a finite number above 0\.$"),
        ({"contrastive_temperature": 0}, r"contrastive_temperature is 0; it must be a finite number above 0\.$"),
        ({"consistency": float("nan")}, r"consistency is nan; it must be a finite number from 0\.$"),
        ({"max_grad_norm": -1}, r"max_grad_norm is -1; it must be a finite number from 0\.$"),
        ({"train_vectors": 1}, r"train_vectors is 1; it must be true or false\.$"),
        ({"keep": "first"}, r"keep is 'first'; allowed are best, last\.$"),
        ({"steps": 0}, r"steps is 0; it must be a whole number from 1\.$"),
        ({"temperature": 0.0}, r"temperature is 0\.0; it must be a finite number above 0\.$"),
        ({"freeze_embeddings": 1}, r"freeze_embeddings is 1; it must be true or false\.$"),
        ({"method": "vectors", "train_vectors": False}, r"^The fine-tuning method 'vectors' trains nothing but vectors, .* Give train_vectors = true"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(given: dict[str, Any], wording: str) -> None:
    with pytest.raises(ModelError, match=wording):
        FinetuneOptions(**given)


def test_the_defaults_and_the_order_of_the_first_ones() -> None:
    options = FinetuneOptions("full", 4, 8, 2, 1e-4, 3, 0.0, 1.0, 0)
    assert dataclasses.astuple(options)[:9] == ("full", 4, 8, 2, 1e-4, 3, 0.0, 1.0, 0)
    assert (FinetuneOptions().method, FinetuneOptions().optimizer, FinetuneOptions().schedule) == (
        "lora",
        "adamw_torch",
        "linear",
    )


@pytest.mark.parametrize(
    ("name", "options", "more", "wording"),
    [
        ("llama", {"method": "vectors"}, {}, r"'vectors' trains a soft prompt's vectors, and the prompt has none\. Use the method lora or full\."),
        ("llama", {"head": "labels"}, {}, r"head is 'labels', which is for sentence encoders, and the model '.*' is causal\. Leave it away\."),
        ("bert", {"contrastive": 0.5}, {}, r"contrastive is 0\.5, which is for sentence encoders, and the model '.*' is masked\."),
        ("llama", {}, {"target": "texts"}, r"target is 'texts'; allowed are labels, option, number, likeness, text\. Did you mean 'text'\?"),
        ("bert", {}, {"target": "text"}, r"The model '.*' is masked, and texts are learned by models that write: causal and seq2seq ones\."),
        ("llama", {"consistency": 1.0}, {"target": "text"}, r"consistency is 1\.0, which does not go with the target 'text'\. Leave it away\."),
        ("llama", {"label_smoothing": 0.1}, {"target": "number"}, r"label_smoothing is 0\.1, which does not go with the target 'number'\."),
        ("encoder", {"contrastive": 0.1}, {"target": "number"}, r"contrastive is 0\.1, which does not go with the target 'number'\."),
        ("llama", {"class_weights": "balanced"}, {"target": "text"}, r"class_weights is 'balanced', which does not go with"),
        ("llama", {"consistency": 1.0}, {}, r"two readings under one prompt are the same to '.*': it has no dropout\. Give others, .* or the method lora"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    name: str,
    options: dict[str, Any],
    more: dict[str, Any],
    wording: str,
    loaded: dict[str, LanguageModel],
    examples: list[Example],
) -> None:
    with pytest.raises(ModelError, match=wording):
        finetune(loaded[name], PROMPT, examples, unscored, dataclasses.replace(ONE, **options), **more)


def test_no_examples_are_refused(loaded: dict[str, LanguageModel]) -> None:
    with pytest.raises(ModelError, match=r"was given no examples\. Give some of the train split\.$"):
        finetune(loaded["llama"], PROMPT, [], unscored)


def test_prompts_for_other_labels_are_refused(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    other = Prompt("{{ text }} {{ label }}", {"a": "a", "b": "b"})
    with pytest.raises(
        PromptError, match=r"prompts for different labels: sports, weather; and a, b\. Give prompts of one"
    ):
        finetune(loaded["llama"], PROMPT, examples, unscored, others=[OTHER, other])


def test_a_target_that_is_no_number_is_refused(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    numbers = Prompt("{{ text }} {{ label }}", {"1": "bad", "5": "good"})
    with pytest.raises(DataError, match=r"^The label 'sports' is no number, and a number is to be learned\.$"):
        finetune(loaded["llama"], numbers, examples, unscored, target="number")
    with pytest.raises(PromptError, match=r"^Neither the label 'sports' nor its word 'sports' is a number"):
        finetune(loaded["llama"], PROMPT, examples, unscored, target="number")


def test_an_optimizer_that_is_not_installed_is_a_model_error(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    options = dataclasses.replace(ONE, optimizer="lomo")
    with pytest.raises(
        ModelError, match=r"^The fine-tuning optimizer 'lomo' cannot be used here \(.*\)\. Install what it"
    ):
        finetune(loaded["llama"], PROMPT, examples, unscored, options)


def test_a_model_that_has_an_adapter_is_merged_first(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    tuned = finetune(loaded["llama"], PROMPT, examples, unscored, ONE)
    with pytest.raises(ModelError, match=r"has an adapter already\. Merge it, as `Tuned\.save_merged` does"):
        finetune(tuned.model, PROMPT, examples, unscored, ONE)


def test_whole_numbers_cannot_be_trained(loaded: dict[str, LanguageModel]) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)

    model = object.__new__(type(loaded["llama"]))
    model.network, model.name = Network(), "small"
    with pytest.raises(ModelError, match=r"^The weights of 'small' are whole numbers, which cannot be trained\."):
        require_tunable(model)
    require_tunable(loaded["encoder"])


@pytest.mark.parametrize("optimizer", ["adafactor", "sgd", "rmsprop", "adamw_torch_fused"])
def test_optimizers_of_transformers_train(
    optimizer: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    model = loaded["llama"]
    options = dataclasses.replace(OPTIONS, optimizer=optimizer, epochs=2, batch_size=4)
    tuned = finetune(model, soft(model), examples, unscored, options)
    assert tuned.losses[1] < tuned.losses[0]


@pytest.mark.parametrize(
    "schedule",
    ["cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
     "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "reduce_lr_on_plateau", "linear"],
)  # fmt: skip
def test_no_schedule_wastes_a_single_step(
    schedule: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    seen: list[float] = []

    def evaluate(model: LanguageModel, prompt: Prompt) -> tuple[float, float]:
        seen.append(sum(w.detach().double().abs().sum().item() for w in model.network.parameters()))
        return 0.0, float(len(seen))

    options = dataclasses.replace(ONE, schedule=schedule, batch_size=8)
    finetune(loaded["llama"], PROMPT, examples, evaluate, options)
    assert len(seen) == 2
    assert seen[0] != seen[1]


def test_importing_the_package_leaves_the_trainer_alone() -> None:
    code = "import sys, autoprompt.finetune; print('transformers.trainer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_nothing_is_printed(
    loaded: dict[str, LanguageModel], examples: list[Example], capfd: pytest.CaptureFixture[str]
) -> None:
    for options in ({}, {"gradient_checkpointing": True}, {"precision": "bfloat16"}):
        finetune(loaded["bert"], PROMPT, examples, unscored, dataclasses.replace(ONE, **options))  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")


def test_a_text_on_its_description_has_its_label_with_98_percent_at_the_temperature_of_the_classes() -> None:
    for classes in (2, 4, 77):
        cosines = torch.zeros(classes)
        cosines[0] = 1.0
        assert (cosines / class_temperature(classes)).softmax(0)[0] == pytest.approx(0.98)
        assert FinetuneOptions(temperature="classes").settled(classes).temperature == class_temperature(classes)
    assert FinetuneOptions(temperature=0.3).settled(77).temperature == 0.3


@pytest.mark.parametrize(("epochs", "asked"), [(8, [2, 4, 6, 8]), (7, [2, 4, 6, 7]), (3, [1, 2, 3]), (1, [1])])
def test_where_the_last_epoch_is_kept_dev_is_scored_after_each_quarter(epochs: int, asked: list[int]) -> None:
    record = Record(epochs, 0, {}, [(0.0, 0.0)], last=True)
    found = []
    while not record.over:
        if record.asks:
            found.append(record.epoch + 1)
        assert record.add(1.0, (0.5, -1.0) if record.asks else None)
    assert found == asked
    assert record.best == epochs
    assert record.qualities[-1] is not None
