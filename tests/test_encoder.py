"""Sentence encoders: embeddings as the layout says, each text embedded once, labels by the nearest description."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, T5EncoderModel

from autoprompt import run
from autoprompt.config import read_config
from autoprompt.data import Example
from autoprompt.engine import Engine, Request
from autoprompt.engine.batches import Budget
from autoprompt.engine.encoder import Embedder, embeddings
from autoprompt.errors import ConfigError, ExportError, ModelError, PromptError
from autoprompt.export import Exported, export, read_export
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model, model_fingerprint
from autoprompt.models.encoder import EncoderModel
from autoprompt.predict import predict
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.scorer import Scorer
from autoprompt.space import Space, Stored

pytestmark = pytest.mark.model

NEAR = 1e-5  # the most that a cosine may differ
WORDS = {
    "sports": "about sport: matches, teams, players",
    "money": "about money: banks, prices",
    "weather": "about the weather",
}
TEMPLATE = "{{ text }}\nTopic: {{ label }}"
TEXTS = ["The match ended two to one.", "A", "", "Ünï – 漢字 [x]", "The bank raised its rates. " * 5]
Floats = NDArray[np.floating[Any]]


def changed(folder: Path, place: Path, files: dict[str, Any]) -> Path:
    """A copy of a model folder with some JSON files written (a text as it is) or, if None, removed."""
    shutil.copytree(folder, place)
    for name, value in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        if value is None:
            (place / name).unlink()
        else:
            (place / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return place


def modules(*parts: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (k, p) in enumerate(parts)
    ]


BASE = (("Transformer", ""), ("Pooling", "1_Pooling"))
CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
POOLINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean": ("mean", {"pooling_mode_mean_tokens": True}),
    "cls": ("cls", CLS),
    "max": ("max", {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}),
    "cls as written today": ("cls", {"embedding_dimension": 32, "pooling_mode": "cls"}),
    "max as a list": ("max", {"embedding_dimension": 32, "pooling_mode": ["max"]}),
    "not said": ("mean", {"embedding_dimension": 32}),
}


def loaded(folder: Path) -> EncoderModel:
    model = load_model(str(folder), device="cpu")
    assert isinstance(model, EncoderModel)
    return model


@pytest.fixture(scope="module")
def model(encoder_folder: Path) -> EncoderModel:
    return loaded(encoder_folder)


def embedder(model: EncoderModel, tokens: int = 2048, **options: int) -> tuple[Embedder, list[int]]:
    counted: list[int] = []
    return Embedder(model, Budget(tokens, 2**20, model.device), counted.append, **options), counted


def framed(model: EncoderModel, text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text)["input_ids"])


def topics(rows: Sequence[dict[str, str]]) -> list[Example]:
    return [Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(rows)]


@torch.no_grad()
def reference(folder: Path, pooling: str, texts: Sequence[str], network: Any = None) -> Floats:
    """Unit vectors by transformers and pooling by hand, one text at a time."""
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), []
    network = network or AutoModel.from_pretrained(folder)
    for text in texts:
        [hidden] = network.eval()(**tokenizer(text, return_tensors="pt", return_token_type_ids=False))[0]
        kinds = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values}
        rows.append(kinds[pooling] / kinds[pooling].norm())
    return np.stack([row.numpy() for row in rows])


# -- embeddings --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", POOLINGS)
def test_embeddings_are_those_of_transformers_pooled_by_hand(case: str, encoder_folder: Path, tmp_path: Path) -> None:
    pooling, about = POOLINGS[case]
    folder = changed(encoder_folder, tmp_path / "model", {"1_Pooling/config.json": about})
    model = loaded(folder)
    found = embedder(model)[0].embed([(framed(model, text), None) for text in TEXTS])
    assert np.abs(found - reference(encoder_folder, pooling, TEXTS)).max() < NEAR
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < NEAR
    assert found.dtype == np.float32


def test_the_poolings_differ(encoder_folder: Path) -> None:
    mean, cls, most = (reference(encoder_folder, pooling, TEXTS) for pooling in ("mean", "cls", "max"))
    assert min(np.abs(mean - cls).max(), np.abs(mean - most).max(), np.abs(cls - most).max()) > 0.01


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("activation", ["activation.Tanh", "linear.Identity"])
def test_a_dense_layer_follows_the_pooling(
    activation: str, normalized: bool, encoder_folder: Path, tmp_path: Path
) -> None:
    weight, bias = torch.randn(12, 32, generator=torch.manual_seed(1)), torch.linspace(-1, 1, 12)
    between = [("Normalize", "2_Normalize")] if normalized else []
    about = {
        "in_features": 32,
        "out_features": 12,
        "bias": True,
        "activation_function": f"torch.nn.modules.{activation}",
    }
    files = {"modules.json": modules(*BASE, *between, ("Dense", "2_Dense")), "2_Dense/config.json": about}
    folder = changed(encoder_folder, tmp_path / "model", files)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    model = loaded(folder)
    found = embedder(model)[0].embed([(framed(model, text), None) for text in TEXTS])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for row, text in zip(found, TEXTS, strict=True):
        with torch.no_grad():
            pooled = model.network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        expected = weight @ (pooled / pooled.norm() if normalized else pooled) + bias
        expected = expected.tanh() if activation.endswith("Tanh") else expected
        assert np.abs(row - (expected / expected.norm()).numpy()).max() < NEAR
    assert model.parameters == sum(p.numel() for p in model.network.parameters()) + 12 * 33


def test_the_encoder_of_an_encoder_decoder_is_read(t5_folder: Path, encoder_folder: Path, tmp_path: Path) -> None:
    files = {"modules.json": modules(*BASE), "1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}
    model = loaded(changed(t5_folder, tmp_path / "model", files))
    texts = ["The match ended.", "A"]
    found = embedder(model)[0].embed([(framed(model, text), None) for text in texts])
    expected = reference(t5_folder, "mean", texts, T5EncoderModel.from_pretrained(t5_folder))
    assert np.abs(found - expected).max() < NEAR


def test_texts_are_read_in_lower_case_where_the_layout_says_so(encoder_folder: Path, tmp_path: Path) -> None:
    folder = changed(encoder_folder, tmp_path / "a", {"sentence_bert_config.json": {"do_lower_case": True}})
    about = json.loads((folder / "tokenizer.json").read_text())
    about["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(about))
    upper = loaded(changed(folder, tmp_path / "b", {"sentence_bert_config.json": {"do_lower_case": False}}))
    assert loaded(folder).ids(["The Match"], special=True) == upper.ids(["the match"], special=True)
    assert upper.ids(["The Match"], special=True) != upper.ids(["the match"], special=True)


# -- cosines -----------------------------------------------------------------------------------


def requests(model: EncoderModel, texts: Sequence[str]) -> list[Request]:
    words = tuple(framed(model, word) for word in WORDS.values())
    return [Request(framed(model, text), words) for text in texts]


def test_scores_are_cosines(model: EncoderModel, encoder_folder: Path) -> None:
    found = embedder(model)[0].scores(requests(model, TEXTS))
    expected = reference(encoder_folder, "mean", TEXTS) @ reference(encoder_folder, "mean", list(WORDS.values())).T
    assert np.abs(np.stack(found) - expected).max() < NEAR


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_batch_size_order_and_neighbours_change_no_cosine(
    tokens: int, model: EncoderModel, topics_rows: list[dict[str, str]]
) -> None:
    asked = requests(model, [*TEXTS, *(row["text"] for row in topics_rows)])
    alone = np.stack([embedder(model)[0].scores([request])[0] for request in asked])
    together = np.stack(embedder(model, tokens)[0].scores(asked))
    backwards = np.stack(embedder(model, tokens)[0].scores(asked[::-1])[::-1])
    assert np.abs(together - alone).max() < NEAR
    assert np.abs(backwards - alone).max() < NEAR


def test_nothing_is_embedded_twice(model: EncoderModel) -> None:
    found, counted = embedder(model)
    asked = requests(model, TEXTS)
    first = found.scores([*asked, *asked])
    distinct = {ids for request in asked for ids in (request.context, *request.choices)}
    assert sum(counted) == sum(map(len, distinct))
    counted.clear()
    again = found.scores(asked)
    assert counted == []
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=False))


def test_the_engine_embeds_contexts_and_scores_by_their_cosines(model: EncoderModel, llama_folder: Path) -> None:
    engine = Engine(model)
    requests = [Request((2, 5 + n, 6, 7, 3), ((2, 8, 3), (2, 9, 10, 3))) for n in range(4)]
    choices = engine.embed([Request(choice, ()) for choice in requests[0].choices])
    contexts = engine.embed(requests)
    read = engine.tokens
    assert np.linalg.norm(contexts, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert np.stack(engine.score(requests)) == pytest.approx(contexts @ choices.T, abs=1e-6)
    assert engine.tokens == read  # all of it had been embedded
    with pytest.raises(ModelError, match=r"^The model '.*' is causal; only sentence encoders embed\.$"):
        Engine(load_model(str(llama_folder), device="cpu")).embed(requests)


def test_what_was_not_asked_for_the_longest_is_forgotten(model: EncoderModel) -> None:
    found, counted = embedder(model, remembered=2 * 32)  # two vectors
    ids = [framed(model, text) for text in TEXTS[:3]]

    def new(*texts: tuple[int, ...]) -> int:
        counted.clear()
        found.embed([(text, None) for text in texts])
        return sum(counted)

    assert new(*ids[:2]) == len(ids[0]) + len(ids[1])
    assert new(ids[0]) == 0
    assert new(ids[2]) == len(ids[2])  # forgets the second
    assert new(ids[0]) == 0
    assert new(ids[1]) == len(ids[1])
    assert new(*ids) > 0  # more than it keeps


@pytest.mark.parametrize("position", ["start", "example", "answer"])
def test_soft_vectors_stand_in_the_input_alone(position: Position, model: EncoderModel) -> None:
    vectors = np.random.default_rng(2).standard_normal((3, 32)).astype(np.float32)
    prompt = Prompt("{{ text }}\nTopic: {{ label }}", WORDS, "Which topic?", soft=SoftPart(vectors, position))
    [found] = Scorer(model, accuracy).log_likelihoods([prompt], [Example(0, {"text": "The match ended."}, "sports")])
    parts = {"start": ("", "Which topic? The match ended. Topic:"), "example": ("Which topic?", "The match ended. Topic:"),
             "answer": ("Which topic? The match ended. Topic:", "")}[position]  # fmt: skip
    head, rest = (model.tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts)
    table = model.network.get_input_embeddings()
    ids = torch.tensor([[model.tokenizer.cls_token_id, *head, *rest, model.tokenizer.sep_token_id]])
    inputs, cut = table(ids), 1 + len(head)
    inputs = torch.cat([inputs[:, :cut], torch.from_numpy(vectors)[None], inputs[:, cut:]], 1)
    pooled = model.network(inputs_embeds=inputs).last_hidden_state[0].mean(0)
    words = embedder(model)[0].embed([(framed(model, word), None) for word in WORDS.values()])
    assert np.abs(found[0] * 0.05 - words @ (pooled / pooled.norm()).numpy()).max() < NEAR


def test_prompts_with_other_vectors_are_other_inputs(model: EncoderModel) -> None:
    one = np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)
    prompts = [Prompt(TEMPLATE, WORDS, soft=SoftPart(v, "start")) for v in (one, -one)]
    first, second = Scorer(model, accuracy).log_likelihoods(prompts, [Example(0, {"text": "A match."}, "sports")])
    assert np.abs(first - second).max() > 0.01


def test_embeddings_take_a_gradient(encoder_folder: Path) -> None:
    model = loaded(encoder_folder)
    vectors = torch.zeros(2, 32, requires_grad=True)
    embeddings(model, [((2, -1, -2, 3), vectors), ((2, 3), None)])[0, 0].backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert float(vectors.grad.abs().max()) > 0


def test_a_model_that_returns_nan_is_an_error(encoder_folder: Path, tmp_path: Path) -> None:
    folder = changed(encoder_folder, tmp_path / "model", {})
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = loaded(folder)
    with pytest.raises(
        ModelError, match=r"^The model '.*' returned NaN or infinite numbers in float32\. Try \[model\] "
    ):
        embedder(model)[0].embed([(framed(model, "A match."), None)])


# -- prompts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "read"),
    [
        (TEMPLATE, "A match.\nTopic:"),
        ("{{ text }}{{ label }}", "A match."),
        ("query: {{ text }}\n{{ label }}\n", "query: A match."),
        ("Topic {{ label }}: {{ text }}", "Topic: A match."),
        ("  {{ text }} is {{ label }}, they say. ", "A match. is, they say."),
    ],
)
def test_the_input_is_the_block_with_the_place_of_the_answer_cut_out(
    template: str, read: str, model: EncoderModel
) -> None:
    shown = Prompt(template, WORDS).render({"text": "A match."})
    [encoding] = model.encode_shown([shown], 0)
    assert encoding.context == framed(model, read)
    assert encoding.choices == tuple(framed(model, word) for word in WORDS.values())
    assert encoding.tail == ()


def test_an_input_is_shortened_to_the_length_that_the_model_was_made_for(model: EncoderModel) -> None:
    assert model.window == 128
    scorer, prompt = Scorer(model, accuracy), Prompt(TEMPLATE, WORDS)
    [encoding] = scorer.encode(prompt, [{"text": "the match " * 500}])
    assert 125 <= len(encoding.context) <= 128
    assert encoding.context[-3:] == framed(model, "Topic:")[-3:]
    assert len(scorer.truncated) == 1


def test_a_description_that_the_model_cannot_read_is_refused(model: EncoderModel) -> None:
    prompt = Prompt(TEMPLATE, {**WORDS, "money": "bank " * 200})
    wording = (
        r"^The label word 'bank bank .*'\.\.\. has 202 tokens, and the model reads 128\. Use a shorter description\.$"
    )
    with pytest.raises(PromptError, match=wording):
        model.encode_shown([prompt.render({"text": "A"})], 0)


def test_descriptions_that_are_the_same_to_the_model_are_refused(model: EncoderModel) -> None:
    prompt = Prompt(TEMPLATE, {"a": "Bank", "b": "bank"})
    with pytest.raises(PromptError, match=r"^The label words 'Bank' and 'bank' are the same tokens to this model"):
        model.encode_shown([prompt.render({"text": "A"})], 0)


# -- the scorer --------------------------------------------------------------------------------


def test_a_whole_score_is_the_nearest_description(
    model: EncoderModel, encoder_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    examples = topics(topics_rows)
    [score] = Scorer(model, accuracy).score([Prompt(TEMPLATE, WORDS)], examples)
    inputs = reference(encoder_folder, "mean", [f"{row['text']}\nTopic:" for row in topics_rows])
    cosines = inputs @ reference(encoder_folder, "mean", list(WORDS.values())).T
    nearest = [list(WORDS)[at] for at in cosines.argmax(1)]
    assert list(score.outcome.predictions) == nearest
    assert score.value == np.mean([label == row["topic"] for label, row in zip(nearest, topics_rows, strict=True)])
    scaled = np.exp(cosines / 0.05)
    assert np.abs(score.outcome.probabilities - scaled / scaled.sum(1, keepdims=True)).max() < 1e-4


def test_the_temperature_divides_the_cosines(model: EncoderModel, topics_rows: list[dict[str, str]]) -> None:
    prompt, examples = Prompt(TEMPLATE, WORDS), topics(topics_rows[:4])
    variants = [dataclasses.replace(prompt, temperature=t) for t in (None, 1, 0.5)]
    own, one, half = Scorer(model, accuracy).log_likelihoods(variants, examples)
    assert np.abs(one).max() <= 1 + NEAR
    np.testing.assert_allclose(half, 2 * one)
    np.testing.assert_allclose(own, 20 * one)


def test_the_temperature_divides_the_log_likelihoods_of_every_family(
    bert_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    prompt = Prompt(TEMPLATE, {"sports": "sports", "money": "bad money", "weather": "x"})
    examples = topics(topics_rows[:4])
    scorer = Scorer(load_model(str(bert_folder), device="cpu"), accuracy)
    variants = [dataclasses.replace(prompt, normalize=True, temperature=t) for t in (None, 1.0, 4.0)]
    own, one, four = scorer.log_likelihoods(variants, examples)
    assert np.array_equal(own, one)
    np.testing.assert_allclose(four, one / 4)


def test_the_number_of_tokens_of_a_description_does_not_count(
    model: EncoderModel, topics_rows: list[dict[str, str]]
) -> None:
    plain = Prompt(TEMPLATE, WORDS)
    given, normalized = Scorer(model, accuracy).log_likelihoods(
        [plain, dataclasses.replace(plain, normalize=True)], topics(topics_rows[:4])
    )
    assert np.array_equal(given, normalized)


def test_prompts_share_what_they_have_in_common(model: EncoderModel, topics_rows: list[dict[str, str]]) -> None:
    scorer, examples = Scorer(model, accuracy), topics(topics_rows)
    plain = Prompt(TEMPLATE, WORDS)
    scorer.score([plain], examples)
    before = scorer.tokens
    other = dataclasses.replace(plain, label_words={**WORDS, "money": "finance"})
    scorer.score([other, dataclasses.replace(other, temperature=0.1)], examples)
    assert scorer.tokens - before == len(framed(model, "finance"))


def test_calibration_divides_by_inputs_without_content(model: EncoderModel, topics_rows: list[dict[str, str]]) -> None:
    prompt = Prompt(TEMPLATE, WORDS, calibration="content_free")
    [calibrated] = Scorer(model, accuracy).log_likelihoods([prompt], topics(topics_rows[:4]))
    plain = dataclasses.replace(prompt, calibration="none")
    empty = [Example(at, {"text": text}, "sports") for at, text in enumerate(("N/A", "", "[MASK]"))]
    [rows] = Scorer(model, accuracy).log_likelihoods([plain], [*topics(topics_rows[:4]), *empty])
    shares = np.exp(rows[4:]) / np.exp(rows[4:]).sum(1, keepdims=True)
    np.testing.assert_allclose(calibrated, rows[:4] - np.log(shares.mean(0)))


# -- the family, and errors --------------------------------------------------------------------


def test_the_family_is_told_by_the_folder(encoder_folder: Path, tmp_path: Path) -> None:
    assert load_model(str(encoder_folder)).family == "encoder"
    without = changed(encoder_folder, tmp_path / "a", {"modules.json": None})
    assert loaded(without).layout.pooling == "mean"
    assert loaded(changed(without, tmp_path / "b", {"1_Pooling/config.json": CLS})).layout.pooling == "cls"


def test_any_bert_is_an_encoder_where_it_is_asked_for(bert_folder: Path) -> None:
    assert load_model(str(bert_folder)).family == "masked"
    model = load_model(str(bert_folder), family="encoder", device="cpu")
    assert isinstance(model, EncoderModel)
    found = embedder(model)[0].embed([(framed(model, text), None) for text in TEXTS])
    assert np.abs(found - reference(bert_folder, "mean", TEXTS)).max() < NEAR
    assert model.window == 160


def test_the_transformer_may_lie_in_a_folder_of_its_own(encoder_folder: Path, tmp_path: Path) -> None:
    folder = changed(encoder_folder, tmp_path / "model", {"modules.json": modules(("Transformer", "0_BERT"), BASE[1])})
    (folder / "0_BERT").mkdir()
    for file in [f for f in folder.iterdir() if f.is_file() and f.name != "modules.json"]:
        file.rename(folder / "0_BERT" / file.name)
    model = loaded(folder)
    assert model.window == 128
    found = embedder(model)[0].embed([(framed(model, text), None) for text in TEXTS])
    assert np.abs(found - reference(encoder_folder, "mean", TEXTS)).max() < NEAR


def test_a_copy_with_another_network_pools_alike(encoder_folder: Path, tmp_path: Path) -> None:
    model = loaded(changed(encoder_folder, tmp_path / "model", {"1_Pooling/config.json": CLS}))
    assert model.with_network(model.network).layout == model.layout


def test_the_fingerprint_follows_the_parts(encoder_folder: Path, tmp_path: Path) -> None:
    same = changed(encoder_folder, tmp_path / "a", {})
    other = changed(encoder_folder, tmp_path / "b", {"1_Pooling/config.json": CLS})
    assert model_fingerprint(str(same)) == model_fingerprint(str(encoder_folder)) == loaded(same).fingerprint
    assert model_fingerprint(str(other)) != model_fingerprint(str(same))


DENSE = {"modules.json": modules(*BASE, ("Dense", "2_Dense"))}
TANH = {"activation_function": "torch.nn.modules.activation.Tanh"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "modules that are no JSON": ({"modules.json": "{"}, r"^modules\.json of '.*' cannot be read \(JSONDecodeError: "),
    "modules that are no list": ({"modules.json": {"a": 1}}, r"^modules\.json of '.*' is not a list of modules, each "),
    "no pooling": (
        {"modules.json": modules(("Transformer", ""), ("Dense", "2_Dense"))},
        r"is made of Transformer, Dense; supported are Transformer, Pooling, and behind them Dense and Normalize\.$",
    ),
    "an unknown module": ({"modules.json": modules(*BASE, ("LSTM", "2_LSTM"))}, r"is made of Transformer, Pooling, LSTM; "),
    "code of the repository": (
        {"modules.json": [{"type": "custom.Transformer", "path": ""}, *modules(*BASE)[1:]]},
        r"is made of custom\.Transformer, Pooling; supported are",
    ),
    "no pooling's settings": ({"1_Pooling/config.json": None}, r"^1_Pooling/config\.json of '.*' is missing or no object"),
    "two poolings": (
        {"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}},
        r"pools by max and mean; supported is one of mean, cls, max\.$",
    ),
    "an unknown pooling": ({"1_Pooling/config.json": {"pooling_mode": "lasttoken"}}, r"pools by lasttoken; supported is "),
    "a dense layer without safetensors": (DENSE, r"^The dense layer 2_Dense of '.*' has no model\.safetensors; other "),
    "an unknown activation": (
        {**DENSE, "2_Dense/config.json": {"activation_function": "os.remove"}, "2_Dense/model.safetensors": ""},
        r"has the activation 'os\.remove'; supported are GELU, ReLU, Sigmoid, Tanh, Identity of torch\.nn\.$",
    ),
    "a residual": (
        {**DENSE, "2_Dense/config.json": {**TANH, "use_residual": True}, "2_Dense/model.safetensors": ""},
        r"has a residual or is not one of sentence vectors, which is not supported\. Use another sentence encoder\.$",
    ),
    "damaged weights": (
        {**DENSE, "2_Dense/config.json": TANH, "2_Dense/model.safetensors": "no"},
        r"^The dense layer 2_Dense of '.*' is damaged \(SafetensorError: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_layout_that_cannot_be_used_is_refused(case: str, encoder_folder: Path, tmp_path: Path) -> None:
    files, wording = WRONG[case]
    folder = changed(encoder_folder, tmp_path / "model", files)
    with pytest.raises(ModelError, match=wording):
        load_model(str(folder))


def test_a_dense_layer_for_another_transformer_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = changed(encoder_folder, tmp_path / "model", {**DENSE, "2_Dense/config.json": TANH})
    save_file({"linear.weight": torch.zeros(4, 30)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match=r"^A dense layer of '.*' does not take its transformer's 32 numbers\.$"):
        load_model(str(folder))


# -- space, config and the whole job -----------------------------------------------------------


def test_the_temperature_can_be_searched() -> None:
    space = Space(Prompt(TEMPLATE, WORDS), temperatures=(None, 0.1, 0.02))
    assert [space.discrete(Stored({"temperature": at})).temperature for at in range(3)] == [None, 0.1, 0.02]


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_a_number_above_nothing(temperature: float) -> None:
    with pytest.raises(PromptError, match=r"^The temperature is .+; it must be a finite number above 0\.$"):
        Prompt(TEMPLATE, WORDS, temperature=temperature)


def test_the_temperature_is_part_of_the_prompt() -> None:
    prompts = [Prompt(TEMPLATE, WORDS, temperature=t) for t in (None, 0.05, 1.0)]
    assert len({prompt.fingerprint for prompt in prompts}) == 3
    for prompt in prompts:
        assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt
    assert prompts[2] == Prompt(TEMPLATE, WORDS, temperature=1)


def test_an_export_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    prompt = Prompt(TEMPLATE, WORDS)
    about = Exported("builtin", "encoder", "float32", "accuracy", ("text",), "topic", "prompt")
    export(tmp_path / "winner", prompt, about)
    path = tmp_path / "winner" / "prompt.json"
    value = {k: v for k, v in json.loads(path.read_text()).items() if k not in {"retrieval", "temperature"}}
    path.write_text(json.dumps(value, indent=2))
    assert Prompt.from_dict(value) == Prompt.load(tmp_path / "winner") == prompt
    about = dataclasses.replace(about, prompt_fingerprint=prompt.fingerprint)
    assert read_export(tmp_path / "winner")[1] == prompt


def test_a_prompt_with_an_unknown_part_is_refused() -> None:
    value = {**Prompt(TEMPLATE, WORDS).to_dict(), "retriever": None}
    with pytest.raises(ExportError, match=r"^The prompt has the part 'retriever', which this version does not know\.$"):
        Prompt.from_dict(value)


def space_file(folder: Path, encoder: Path, rows: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    """A space file's values, some sections replaced."""
    (folder / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "topics",
        "model": {"name": str(encoder), "device": "cpu"},
        "data": {"file": str(folder / "topics.jsonl"), "label": "topic"},
        "prompt": {"template": TEMPLATE, "label_words": WORDS},
        "space": {
            "templates": ["{{ text }}{{ label }}", "query: {{ text }}{{ label }}"],
            "label_words": {"sports": ["sports", "a game"], "money": ["money", "the price of a loan"]},
            "soft": {"vectors": [2], "positions": ["start"], "dimensions": 4},
        },
        "study": {"trials": 21, "batch": 4, "startup": 4, "generations": 1, "steps": 8},
        "finetune": {"method": "none"},
        "doctor": False,
        "explain": False,
        **changes,
    }


def test_the_temperatures_of_a_space_file_are_numbers_above_nothing(
    encoder_folder: Path, topics_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    values = space_file(tmp_path, encoder_folder, topics_rows)
    values["prompt"]["temperature"], values["space"]["temperatures"] = 1, [0.05, 1]
    config = read_config(values, tmp_path)
    assert (config.prompt.temperature, config.space.temperatures) == (1.0, [0.05, 1.0])
    values["prompt"]["temperature"], values["space"]["temperatures"] = 0, [float("inf")]
    with pytest.raises(ConfigError, match=r"prompt\.temperature is 0; it must be more than 0") as caught:
        read_config(values, tmp_path)
    assert any(problem.startswith("space.temperatures.0 is inf; ") for problem in caught.value.problems)


@pytest.fixture(scope="module")
def whole(
    encoder_folder: Path, topics_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """A run's result, by changes to the space file; a fresh folder each."""

    def done(**changes: Any) -> Any:
        folder = tmp_path_factory.mktemp("run")
        return run(space_file(folder, encoder_folder, topics_rows, **changes), results=folder / "results")

    return done


def test_the_whole_job_runs_on_a_sentence_encoder(whole: Callable[..., Any]) -> None:
    result = whole()
    assert set(result.values["best_by_kind"]) == {"baseline", "discrete", "soft"}
    assert not any("fail" in states for states in result.values["trials"].values())
    found = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert found.value == result.values["winner"]["test"]
    assert read_export(result.folder / "winner")[0].family == "encoder"


def test_the_temperature_of_a_space_file_reaches_the_prompts(whole: Callable[..., Any]) -> None:
    space = {"temperatures": [0.5, 0.01], "instructions": ["Which topic?"]}
    prompt = {"template": TEMPLATE, "label_words": WORDS, "temperature": 0.2}
    result = whole(metric="log_loss", prompt=prompt, space=space)
    winner = read_export(result.folder / "winner")[1]
    assert winner.temperature in {0.2, 0.5, 0.01}
    found = predict(result.folder / "winner", result.folder / "test.jsonl")
    assert found.value == pytest.approx(result.values["winner"]["test"])


def test_the_card_of_an_encoder_says_how_to_use_it_without_autoprompt(whole: Callable[..., Any]) -> None:
    card = (whole(study={"trials": 2}, space={}).folder / "winner" / "README.md").read_text()
    assert "from sentence_transformers import SentenceTransformer" in card
    assert "the answer is the nearest of 'about " in card
    assert "the label word with the highest cosine is the answer" in card
    assert "Divide by the temperature, 0.05, before the softmax" in card
