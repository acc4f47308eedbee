"""Fine-tuning of sentence encoders: texts and descriptions are trained, with a head and contrast if asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pupils import OPTIONS, OTHER, PROMPT, distance, on, rows, soft, topics
from sklearn.linear_model import LogisticRegression

from autoprompt import lesson as lessons
from autoprompt.data import Example
from autoprompt.engine.encoder import embeddings
from autoprompt.errors import ModelError
from autoprompt.finetune import FinetuneOptions, Tuned, contrast, finetune, load_tuned, recommended
from autoprompt.finetune.contrast import supervised_contrast
from autoprompt.finetune.regression import with_regression
from autoprompt.models import EncoderModel, LanguageModel, load_model
from autoprompt.prompt import Prompt

pytestmark = pytest.mark.model

STILL = dataclasses.replace(OPTIONS, epochs=1, learning_rate=1e-12, batch_size=24)


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> EncoderModel:
    model = load_model(str(encoder_folder), device="cpu")
    assert isinstance(model, EncoderModel)
    return model


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return topics(topics_rows)


def last(model: LanguageModel, examples: list[Example], prompt: Prompt = PROMPT, **options: Any) -> Tuned:
    """The last epoch is kept."""
    scores = iter(range(100))
    others = options.pop("others", ())
    chosen = dataclasses.replace(OPTIONS, **options)
    return finetune(model, prompt, examples, lambda m, p: (next(scores), 0.0), chosen, seed=2, others=others)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("head", ["none", "labels"])
def test_an_encoder_is_trained(head: Any, method: Any, encoder: EncoderModel, examples: list[Example]) -> None:
    before = rows(encoder, PROMPT, examples)
    options = dataclasses.replace(OPTIONS, head=head, method=method, learning_rate=3e-3, epochs=4)
    tuned = finetune(encoder, PROMPT, examples, on(examples), options)
    assert tuned.losses[-1] < tuned.losses[0]
    assert tuned.qualities[tuned.epoch] > tuned.qualities[0]
    assert np.array_equal(rows(encoder, PROMPT, examples), before)
    assert (tuned.model.labels is not None) == (head == "labels")  # type: ignore[attr-defined]


def test_descriptions_are_trained_too(encoder: EncoderModel, examples: list[Example]) -> None:
    [request, *_] = lessons.Lesson.of(encoder, PROMPT, examples).requests
    texts = [(choice, None) for choice in request.choices]
    tuned = last(encoder, examples)
    assert isinstance(tuned.model, EncoderModel)
    with torch.no_grad():
        moved = (embeddings(tuned.model, texts) * embeddings(encoder, texts)).sum(1)
    assert (moved < 0.999).all()


def test_a_head_begins_where_the_descriptions_are(encoder: EncoderModel, examples: list[Example]) -> None:
    tuned = last(encoder, examples, head="labels", epochs=1, learning_rate=1e-12)
    labels = tuned.model.labels  # type: ignore[attr-defined]
    assert labels.words == ("sports", "weather")
    assert not labels.bias.abs().max() > 1e-9
    assert not labels.vectors.requires_grad
    assert np.abs(rows(tuned.model, PROMPT, examples) - rows(encoder, PROMPT, examples)).max() < 1e-4


def test_a_head_is_trained_and_goes_on_from_a_head(encoder: EncoderModel, examples: list[Example]) -> None:
    tuned = last(encoder, examples, head="labels", method="full")
    first = tuned.model.labels  # type: ignore[attr-defined]
    assert first.bias.abs().max() > 1e-3
    again = last(tuned.model, examples, head="labels", method="full", epochs=1, learning_rate=1e-12)
    assert torch.allclose(again.model.labels.vectors, first.vectors)  # type: ignore[attr-defined]
    assert torch.allclose(again.model.labels.bias, first.bias)  # type: ignore[attr-defined]


def test_vectors_and_a_head_are_trained_without_the_network(encoder: EncoderModel, examples: list[Example]) -> None:
    tuned = last(encoder, examples, soft(encoder), method="vectors", head="labels")
    assert tuned.prompt != soft(encoder)
    assert tuned.model.labels.bias.abs().max() > 1e-3  # type: ignore[attr-defined]
    assert encoder.labels is None


# -- contrast --------------------------------------------------------------------------------------


def plainly(vectors: Any, classes: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, as a loop."""
    losses = []
    for i, own in enumerate(classes):
        others = [a for a in range(len(classes)) if a != i]
        positives = [p for p in others if classes[p] == own]
        if positives:
            below = np.log(sum(np.exp(vectors[i] @ vectors[a] / temperature) for a in others))
            losses.append(-np.mean([vectors[i] @ vectors[p] / temperature - below for p in positives]))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 2], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
def test_the_contrastive_loss_is_that_of_the_paper(classes: list[int]) -> None:
    drawn = np.random.default_rng(0).standard_normal((5, 7))
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    vectors = torch.from_numpy(unit).requires_grad_()
    found = supervised_contrast(vectors, torch.tensor(classes), 0.2)
    assert found.item() == pytest.approx(plainly(unit, classes, 0.2))
    found.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("calibration", ["none", "content_free"])
def test_contrast_is_added_to_the_cross_entropy(
    calibration: Any, encoder: EncoderModel, examples: list[Example]
) -> None:
    prompt = dataclasses.replace(PROMPT, calibration=calibration)
    lesson = lessons.Lesson.of(encoder, prompt, examples)
    with torch.no_grad():
        texts = embeddings(encoder, [(request.context, None) for request in lesson.requests])
        labels = embeddings(encoder, [(choice, None) for choice in lesson.requests[0].choices])
        cross_entropy = lesson.loss(encoder, range(24)).item() / 24
    expected = plainly(torch.cat([texts, labels]).double().numpy(), [*lesson.gold, 0, 1], 0.3)
    options = dataclasses.replace(STILL, contrastive=0.5, contrastive_temperature=0.3)
    tuned = finetune(encoder, prompt, examples, lambda m, p: (0.0, 0.0), options)
    assert tuned.losses == pytest.approx([cross_entropy + 0.5 * expected], rel=1e-4)


@pytest.mark.parametrize("head", ["none", "labels"])
@pytest.mark.parametrize("way", ["plain", "dropout", "two prompts", "vectors"])
def test_a_batch_in_small_passes_is_contrasted_as_a_whole(
    way: str, head: Any, encoder: EncoderModel, examples: list[Example]
) -> None:
    prompt = soft(encoder) if way == "vectors" else PROMPT
    more: dict[str, Any] = {"others": [OTHER], "consistency": 0.5} if way == "two prompts" else {}
    if way == "vectors":
        more = {"method": "vectors", "vector_rate": 0.1}
    options = {"contrastive": 0.5, "head": head, "optimizer": "sgd", "batch_size": 12, **more}
    whole = last(encoder, examples, prompt, micro_tokens=10**6, **options)
    cut = last(encoder, examples, prompt, micro_tokens=64, **options)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-5)
    assert distance(cut, whole) < 1e-5


@pytest.mark.fault("out of memory in training")
def test_a_contrast_that_ran_out_of_memory_is_done_again(
    encoder: EncoderModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"contrastive": 0.5, "optimizer": "sgd", "batch_size": 12}
    expected = last(encoder, examples, **options)
    failed = []

    def small(model: EncoderModel, texts: Any) -> torch.Tensor:
        if len(texts) > 4:
            failed.append(len(texts))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embeddings(model, texts)

    monkeypatch.setattr(contrast, "embeddings", small)
    found = last(encoder, examples, **options)
    assert failed
    assert distance(found, expected) < 1e-5


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["none", "labels"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_saved_encoder_scores_the_same(
    method: Any, head: Any, encoder: EncoderModel, encoder_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    tuned = last(encoder, examples, method=method, head=head)
    expected = rows(tuned.model, PROMPT, examples)
    tuned.save(tmp_path / "saved")
    tuned.save_merged(tmp_path / "merged")
    merged = load_model(str(tmp_path / "merged"), device="cpu")
    if method == "lora":
        saved = load_tuned(load_model(str(encoder_folder), device="cpu"), tmp_path / "saved")
    else:
        saved = load_model(str(tmp_path / "saved"), device="cpu")
    for model in (saved, merged):
        assert np.abs(rows(model, PROMPT, examples) - expected).max() < 1e-4
    assert np.array_equal(rows(tuned.model, PROMPT, examples), expected)
    assert np.abs(expected - rows(encoder, PROMPT, examples)).max() > 0.01


# -- a head by regression, and how a training ends ---------------------------------------------------


def test_a_regression_head_gives_the_logits_of_a_logistic_regression_on_the_embeddings(
    encoder: EncoderModel, examples: list[Example]
) -> None:
    model = with_regression(encoder, PROMPT, examples)
    lesson = lessons.Lesson.of(encoder, PROMPT, examples)
    with torch.no_grad():
        texts = embeddings(encoder, [(request.context, None) for request in lesson.requests]).double().numpy()
    expected = LogisticRegression(C=10.0, max_iter=1000).fit(texts, lesson.gold).predict_log_proba(texts)
    found = rows(model, PROMPT, examples)
    found = found - np.log(np.exp(found).sum(1, keepdims=True))
    assert np.abs(found - expected).max() < 1e-3
    assert encoder.labels is None


def test_a_label_without_examples_keeps_the_vector_of_its_description(
    encoder: EncoderModel, examples: list[Example]
) -> None:
    only = [example for example in examples if example.label == "sports"]
    model = with_regression(encoder, PROMPT, only)
    assert np.abs(rows(model, PROMPT, only) - rows(encoder, PROMPT, only)).max() < 1e-4


def test_a_regression_is_for_encoders(llama_folder: Path, examples: list[Example]) -> None:
    with pytest.raises(ModelError, match=r"is causal; a regression on embeddings is for encoders\.$"):
        with_regression(load_model(str(llama_folder), device="cpu"), PROMPT, examples)


def test_a_tuned_model_has_the_head_and_its_prompt_the_temperature(
    encoder: EncoderModel, examples: list[Example]
) -> None:
    prompt = dataclasses.replace(PROMPT, calibration="content_free")
    tuned = last(encoder, examples, prompt, method="full", head="regression", temperature=0.2, epochs=1)
    assert tuned.model.labels is not None  # type: ignore[attr-defined]
    assert (tuned.prompt.temperature, tuned.prompt.calibration) == (0.2, "none")
    again = with_regression(tuned.model.with_labels(None), tuned.prompt, examples)  # type: ignore[attr-defined]
    assert np.abs(rows(again, tuned.prompt, examples) - rows(tuned.model, tuned.prompt, examples)).max() < 1e-4


def test_frozen_embeddings_stay_and_the_rest_is_trained(encoder: EncoderModel, examples: list[Example]) -> None:
    tuned = last(encoder, examples, method="full", freeze_embeddings=True, epochs=1)
    before, after = (dict(model.network.named_parameters()) for model in (encoder, tuned.model))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("word_embeddings" in name for name in moved)
    assert any("attention" in name for name in moved)


def test_the_last_epoch_is_kept_though_it_is_the_worst(encoder: EncoderModel, examples: list[Example]) -> None:
    scores = iter([3.0, 2.0, 1.0, 0.0])
    options = dataclasses.replace(OPTIONS, epochs=3, keep="last", patience=1)
    tuned = finetune(encoder, PROMPT, examples, lambda m, p: (next(scores), 0.0), options, seed=2)
    assert (tuned.epoch, len(tuned.losses)) == (3, 3)


def test_a_training_of_too_many_steps_has_fewer_epochs(encoder: EncoderModel, examples: list[Example]) -> None:
    per_epoch = -(-len(examples) // 8)
    tuned = last(encoder, examples, epochs=9, batch_size=8, steps=2 * per_epoch + 1, patience=0)
    assert len(tuned.losses) == 2


@pytest.mark.parametrize("family", ["causal", "seq2seq", "masked"])
def test_what_is_recommended_for_language_models_is_lora(family: Any) -> None:
    assert recommended(family) == FinetuneOptions()


def test_what_is_recommended_for_encoders_trains_one(encoder: EncoderModel, examples: list[Example]) -> None:
    options = dataclasses.replace(recommended("encoder"), epochs=2, learning_rate=1e-3)
    tuned = finetune(encoder, PROMPT, examples, on(examples), options)
    assert (tuned.method, tuned.epoch) == ("full", 2)
    assert tuned.losses[1] < tuned.losses[0]
