"""Label vectors: learned numbers in the place of a description, on both ways of reading, in memory and in files."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from autoprompt.data import Example
from autoprompt.engine import Engine, Request, ScoreMemory
from autoprompt.engine.batches import Budget
from autoprompt.engine.encoder import Embedder, cosines
from autoprompt.errors import ModelError
from autoprompt.lesson import Lesson
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import EncoderModel, LabelVectors, load_model, read_labels, save_labels
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer

NEAR = 1e-5
FILE = "label_vectors.safetensors"
WORDS = ("about sport: matches, teams", "about money: banks, prices", "about the weather")
PROMPT = Prompt("{{ text }}\nTopic: {{ label }}", dict(zip(("sports", "money", "weather"), WORDS, strict=True)))
TEXTS = ["The match ended two to one.", "The bank raised its rates.", "A"]


def loaded(folder: Path, **options: Any) -> EncoderModel:
    model = load_model(str(folder), device="cpu", **options)
    assert isinstance(model, EncoderModel)
    return model


@pytest.fixture(scope="module")
def model(encoder_folder: Path) -> EncoderModel:
    return loaded(encoder_folder)


def learned(*words: str, seed: int = 1, size: int = 32) -> LabelVectors:
    draw = torch.manual_seed(seed)
    return LabelVectors(words, torch.randn(len(words), size, generator=draw), torch.randn(len(words), generator=draw))


def read(model: EncoderModel, text: str) -> tuple[int, ...]:
    return model.ids([text], special=True)[0]


def asked(model: EncoderModel) -> list[Request]:
    words = tuple(read(model, word) for word in WORDS)
    return [Request(read(model, text), words) for text in TEXTS]


def vectors(model: EncoderModel, *texts: str) -> Any:
    return Engine(model).embed([Request(read(model, text), ()) for text in texts]).astype(np.float64)


def embedder(model: EncoderModel) -> tuple[Embedder, list[int]]:
    counted: list[int] = []
    return Embedder(model, Budget(2048, 2**20, model.device), counted.append), counted


def copied(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place))


# -- scores ------------------------------------------------------------------------------------


def test_a_word_with_a_vector_scores_by_it_and_the_others_by_their_descriptions(model: EncoderModel) -> None:
    labels = learned(WORDS[2], WORDS[0])
    found = np.stack(embedder(model.with_labels(labels))[0].scores(asked(model)))
    texts = vectors(model, *TEXTS)
    expected = texts @ vectors(model, *WORDS).T
    expected[:, 2] = texts @ labels.vectors[0].double().numpy() + float(labels.bias[0])
    expected[:, 0] = texts @ labels.vectors[1].double().numpy() + float(labels.bias[1])
    assert np.abs(found - expected).max() < NEAR
    assert found.dtype == np.float64


@pytest.mark.parametrize("words", [WORDS, WORDS[:1], WORDS[::-1], ("another word",)])
def test_both_ways_of_reading_give_the_same_scores(words: tuple[str, ...], model: EncoderModel) -> None:
    model = model.with_labels(learned(*words))
    rows = [row for request in asked(model) for row in request.rows()]
    with torch.no_grad():
        plain = cosines(model, rows).reshape(len(TEXTS), len(WORDS)).numpy()
    assert np.abs(plain - np.stack(embedder(model)[0].scores(asked(model)))).max() < NEAR


def test_vectors_of_other_words_change_nothing(model: EncoderModel) -> None:
    plain, other = (np.stack(Engine(m).score(asked(model))) for m in (model, model.with_labels(learned("else"))))
    assert np.array_equal(plain, other)


def test_gradients_reach_vectors_biases_and_the_network(encoder_folder: Path) -> None:
    base = loaded(encoder_folder)
    network = copy.deepcopy(base.network).requires_grad_(True)
    labels = learned(*WORDS[:2])
    labels.vectors.requires_grad_(True)
    labels.bias.requires_grad_(True)
    model = base.with_network(network).with_labels(labels)
    cosines(model, [row for request in asked(model) for row in request.rows()]).sum().backward()  # type: ignore[no-untyped-call]
    assert labels.vectors.grad is not None
    assert labels.bias.grad is not None
    # the derivative of e @ vector + bias by the vector is e, and by the bias 1
    assert np.abs(labels.vectors.grad.numpy() - vectors(base, *TEXTS).sum(0)).max() < NEAR
    assert labels.bias.grad.tolist() == [3.0, 3.0]
    assert all(float(p.grad.abs().max()) > 0 for n, p in network.named_parameters() if n.endswith("query.weight"))


def test_a_description_with_a_vector_is_not_read_and_texts_stay_remembered(model: EncoderModel) -> None:
    labels = learned(*WORDS)
    model = model.with_labels(labels)
    found, counted = embedder(model)
    first = found.scores(asked(model))
    assert sum(counted) == sum(len(read(model, text)) for text in TEXTS)
    counted.clear()
    labels.bias.add_(1.0)  # trained on in place
    again = found.scores(asked(model))
    assert counted == []
    assert np.stack(again) == pytest.approx(np.stack(first) + 1.0, abs=1e-6)


def test_prompts_lessons_and_scorers_use_them(model: EncoderModel) -> None:
    model = model.with_labels(learned(*WORDS))
    examples = [Example(at, {"text": text}, "money") for at, text in enumerate(TEXTS)]
    [score] = Scorer(model, accuracy).score([PROMPT], examples)
    [plain] = Scorer(model.with_labels(None), accuracy).score([PROMPT], examples)
    with torch.no_grad():
        loss = Lesson.of(model, PROMPT, examples).loss(model, range(len(examples))).item() / len(examples)
    assert loss == pytest.approx(score.loss, abs=1e-3)
    assert abs(score.loss - plain.loss) > 0.1


def test_words_are_found_as_the_model_reads_them(encoder_folder: Path, tmp_path: Path) -> None:
    folder = copied(encoder_folder, tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    model = loaded(folder).with_labels(learned(" Sport ", "MONEY"))
    assert dict(model.label_places) == {read(model, "sport"): 0, read(model, "money"): 1}


# -- one model and another ---------------------------------------------------------------------


def test_copies_keep_what_is_not_changed(model: EncoderModel) -> None:
    labels = learned(*WORDS)
    network = copy.deepcopy(model.network)
    other = model.with_labels(labels).with_network(network)
    assert other.labels is labels
    assert other.network is network
    assert other.layout is model.layout
    assert model.labels is None
    assert other.with_labels(None).labels is None
    assert other.with_labels(None).network is network


def test_models_with_other_labels_are_other_models_to_the_memory(model: EncoderModel) -> None:
    base, more = learned(*WORDS), learned(*WORDS)
    more.bias[1] += 1e-6
    models = [
        model,
        model.with_labels(base),
        model.with_labels(more),
        model.with_labels(LabelVectors(WORDS[::-1], base.vectors, base.bias)),
        model.with_labels(LabelVectors(WORDS, base.vectors + 1e-6, base.bias)),
    ]
    keys = {ScoreMemory(None, m.identity).key(asked(model)[0]) for m in models}
    assert len({m.identity for m in models}) == len(keys) == len(models)
    assert model.with_labels(learned(*WORDS)).identity == models[1].identity
    assert models[1].with_labels(None).identity == model.identity


def test_scores_of_one_model_are_never_taken_for_those_of_a_tuned_one(model: EncoderModel, tmp_path: Path) -> None:
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.get_input_embeddings().weight.mul_(1.5)
    tuned = [model.with_network(network), model.with_labels(learned(*WORDS))]
    examples = [Example(at, {"text": text}, "money") for at, text in enumerate(TEXTS)]
    memory = ScoreMemory(tmp_path / "scores.db", model.identity)
    scorer = Scorer(model, accuracy, memory=memory)
    [before] = scorer.log_likelihoods([PROMPT], examples)
    known = len(memory)
    for other in tuned:
        [found] = scorer.using(other).log_likelihoods([PROMPT], examples)
        [expected] = Scorer(other, accuracy).log_likelihoods([PROMPT], examples)
        assert np.array_equal(found, expected)
        assert np.abs(found - before).max() > 0.01
    assert known == len(memory) == len(TEXTS)
    [after] = Scorer(model, accuracy, memory=memory).log_likelihoods([PROMPT], examples)
    assert np.array_equal(before, after)
    memory.close()


WRONG: dict[str, tuple[Callable[[EncoderModel], Any], str]] = {
    "no words": (lambda model: learned(), r"^0 label words have vectors of shape \(0, 32\) and biases of shape \(0,\); "),
    "too few vectors": (
        lambda model: LabelVectors(("a", "b"), torch.zeros(1, 32), torch.zeros(2)),
        r"^2 label words have vectors of shape \(1, 32\) and biases of shape \(2,\); give words, and for C of them ",
    ),
    "biases of another shape": (
        lambda model: LabelVectors(("a",), torch.zeros(1, 32), torch.zeros(1, 1)),
        r"biases of shape \(1, 1\); ",
    ),
    "a word twice": (lambda model: learned("b", "a", "b"), r"^The label word 'b' has two vectors; give each word one\.$"),
    "another dimension": (
        lambda model: model.with_labels(learned("a", size=31)),
        r"^The label vectors have 31 numbers each, and the texts of '.*' 32\. Use those that were made with this model\.$",
    ),
    "words that are the same": (
        lambda model: model.with_labels(learned("Bank", "bank", "else")),
        r"^Two of the 3 words that have label vectors are the same tokens to '.*'\. Use other words\.$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_label_vectors_that_cannot_be_are_refused(case: str, model: EncoderModel) -> None:
    make, wording = WRONG[case]
    with pytest.raises(ModelError, match=wording):
        make(model)


# -- files -------------------------------------------------------------------------------------


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    labels = learned("Sport", "Geld – 金", "  ")
    labels.vectors.requires_grad_(True)
    save_labels(labels, tmp_path / "new" / "folder")
    found = read_labels(tmp_path / "new" / "folder")
    assert found is not None
    assert found.words == labels.words
    assert torch.equal(found.vectors, labels.vectors)
    assert torch.equal(found.bias, labels.bias)
    assert found.mark == labels.mark
    assert not found.vectors.requires_grad


def test_parts_of_one_tensor_are_saved_and_a_half_is_saved_whole(tmp_path: Path) -> None:
    whole = torch.randn(2, 33, generator=torch.manual_seed(3))
    save_labels(LabelVectors(("a", "b"), whole[:, :32].half(), whole[:, 32]), tmp_path)
    tensors = load_file(tmp_path / FILE)
    assert torch.equal(tensors["vectors"], whole[:, :32].half().float())
    assert torch.equal(tensors["bias"], whole[:, 32])


def test_a_folder_without_the_file_has_no_labels(encoder_folder: Path, tmp_path: Path) -> None:
    assert read_labels(encoder_folder) is None
    assert read_labels(tmp_path / "nowhere") is None


@pytest.mark.parametrize("family", [None, "encoder"])
def test_a_model_is_loaded_with_the_labels_of_its_folder(
    family: Any, encoder_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    folder = copied(bert_folder if family else encoder_folder, tmp_path / "model")
    plain, labels = loaded(folder, family=family), learned(*WORDS)
    save_labels(labels, folder)
    model = loaded(folder, family=family)
    assert model.labels is not None
    assert model.fingerprint != plain.fingerprint
    expected = Engine(plain.with_labels(labels)).score(asked(plain))
    assert np.array_equal(np.stack(Engine(model).score(asked(model))), np.stack(expected))


def test_models_of_other_families_read_no_labels(bert_folder: Path, tmp_path: Path) -> None:
    folder = copied(bert_folder, tmp_path / "model")
    (folder / FILE).write_text("not read")
    assert load_model(str(folder), device="cpu").family == "masked"


WHOLE = {"vectors": torch.zeros(2, 32), "bias": torch.zeros(2)}
DAMAGED: dict[str, tuple[dict[str, torch.Tensor], dict[str, str] | None, str]] = {
    "no vectors": ({"bias": torch.zeros(2)}, {"words": '["a", "b"]'}, r"\(SafetensorError: .*vectors"),
    "no bias": ({"vectors": torch.zeros(2, 32)}, {"words": '["a", "b"]'}, r"\(SafetensorError: .*bias"),
    "vectors of another shape": ({**WHOLE, "vectors": torch.zeros(64)}, {"words": '["a", "b"]'}, r"vectors of shape \(64,\)"),
    "biases of another shape": ({**WHOLE, "bias": torch.zeros(3)}, {"words": '["a", "b"]'}, r"biases of shape \(3,\)"),
    "no words": (WHOLE, None, r"\(KeyError: 'words'\)"),
    "too many words": (WHOLE, {"words": '["a", "b", "c"]'}, r"\(ModelError: 3 label words have vectors of shape \(2, 32\)"),
    "a word twice": (WHOLE, {"words": '["a", "a"]'}, r"The label word 'a' has two vectors"),
    "words that are no JSON": (WHOLE, {"words": "a, b"}, r"\(JSONDecodeError: "),
    "words that are no list": (WHOLE, {"words": '{"a": 0, "b": 1}'}, r"Its words are no list of texts\."),
    "words that are no texts": (WHOLE, {"words": "[1, 2]"}, r"Its words are no list of texts\."),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_labels_are_an_error(case: str, tmp_path: Path) -> None:
    tensors, metadata, wording = DAMAGED[case]
    save_file(tensors, tmp_path / FILE, metadata)
    with pytest.raises(
        ModelError, match=rf"^The label vectors .*{FILE} are damaged .*{wording}.* Export the model again"
    ):
        read_labels(tmp_path)


def test_a_model_with_damaged_labels_is_not_loaded(encoder_folder: Path, tmp_path: Path) -> None:
    folder = copied(encoder_folder, tmp_path / "model")
    (folder / FILE).write_bytes(b"no")
    with pytest.raises(ModelError, match=r"^The label vectors .* are damaged \(SafetensorError: "):
        load_model(str(folder))
    save_labels(learned("a", size=7), folder)
    with pytest.raises(ModelError, match=r"^The label vectors have 7 numbers each, and the texts of '.*' 32\. "):
        load_model(str(folder))
