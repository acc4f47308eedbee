"""A sentence encoder written in the layout of sentence-transformers: what is read back, here and by plain transformers."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from autoprompt.engine import Engine, Request
from autoprompt.errors import ModelError
from autoprompt.models import EncoderModel, LabelVectors, load_model, save_encoder
from autoprompt.models.layout import Layout

pytestmark = pytest.mark.model

TEXTS = ["The match ended two to one.", "A", "Ünï – 漢字 [x]", "The bank raised its rates. " * 5]
FILES = {"1_Pooling", "config.json", "config_sentence_transformers.json", "model.safetensors", "modules.json",
         "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"}  # fmt: skip


def loaded(folder: Path, **options: Any) -> EncoderModel:
    model = load_model(str(folder), device="cpu", **options)
    assert isinstance(model, EncoderModel)
    return model


def embedded(model: EncoderModel, texts: Sequence[str] = TEXTS) -> Any:
    return Engine(model).embed([Request(ids, ()) for ids in model.ids(texts, special=True)])


def modules(*parts: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"idx": 0, "name": "0", "path": p, "type": f"sentence_transformers.models.{k}"} for k, p in parts]


@dataclass(frozen=True)
class Source:
    """A model folder with some files changed (None: removed), and dense layers by their folders."""

    base: str = "encoder_folder"
    files: dict[str, Any] = field(default_factory=dict)
    dense: tuple[tuple[str, int, int, str, bool], ...] = ()
    inner: str = ""  # where the transformer is moved to
    family: Any = None


BASE = (("Transformer", ""), ("Pooling", "1_Pooling"))
CLS = {"1_Pooling/config.json": {"pooling_mode": "cls", "embedding_dimension": 32}}
MAX = {"1_Pooling/config.json": {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}}
TANH, PLAIN, GELU = "activation.Tanh", "linear.Identity", "activation.GELU"
SOURCES = {
    "mean": Source(),
    "cls": Source(files=CLS),
    "max": Source(files=MAX),
    "nothing behind the pooling": Source(files={"modules.json": modules(*BASE)}),
    "no list of modules": Source(files={"modules.json": None}),
    "a dense layer": Source(
        files={"modules.json": modules(*BASE, ("Dense", "2_Dense"))}, dense=(("2_Dense", 32, 12, TANH, True),)
    ),
    "dense layers between normalizations": Source(
        files={
            **CLS,
            "modules.json": modules(
                *BASE, ("Normalize", "2_N"), ("Dense", "3_D"), ("Dense", "4_D"), ("Normalize", "5_N")
            ),
        },
        dense=(("3_D", 32, 48, GELU, True), ("4_D", 48, 12, PLAIN, False)),
    ),
    "lower case": Source(files={"sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": True}}),
    "older settings": Source(
        files={
            "sentence_bert_config.json": None,
            "sentence_roberta_config.json": {"max_seq_length": 99, "do_lower_case": False},
        }
    ),
    "a transformer in a folder": Source(
        files={"modules.json": modules(("Transformer", "0_BERT"), BASE[1])}, inner="0_BERT"
    ),
    "a plain BERT": Source("bert_folder", family="encoder"),
    "a plain RoBERTa": Source("roberta_folder", family="encoder"),
    "the encoder of a T5": Source("t5_folder", family="encoder"),
}


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> EncoderModel:
    """The model of a case."""
    about = SOURCES[request.param]
    folder = Path(shutil.copytree(request.getfixturevalue(about.base), tmp_path / "source"))
    for name, value in about.files.items():
        if value is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(json.dumps(value))
    draw = torch.manual_seed(4)
    for place, width, out, activation, bias in about.dense:
        (folder / place).mkdir()
        named = {"activation_function": f"torch.nn.modules.{activation}"}
        (folder / place / "config.json").write_text(json.dumps(named))
        tensors = {"linear.weight": torch.randn(out, width, generator=draw)}
        tensors |= {"linear.bias": torch.randn(out, generator=draw)} if bias else {}
        save_file(tensors, folder / place / "model.safetensors")
    if about.inner:
        (folder / about.inner).mkdir()
        for file in [f for f in folder.iterdir() if f.is_file() and f.name != "modules.json"]:
            file.rename(folder / about.inner / file.name)
    return loaded(folder, family=about.family)


def trained(model: EncoderModel) -> EncoderModel:
    """The model with other weights than those of its files."""
    network, draw = copy.deepcopy(model.network), torch.manual_seed(5)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=draw))
    return model.with_network(network)


@pytest.mark.parametrize("source", SOURCES, indirect=True)
def test_what_is_saved_embeds_alike_when_it_is_loaded(source: EncoderModel, tmp_path: Path) -> None:
    for number, model in enumerate((source, trained(source))):
        save_encoder(model, tmp_path / str(number))
        found = loaded(tmp_path / str(number))
        assert np.abs(embedded(found) - embedded(model)).max() < 1e-6
        assert found.window == found.layout.max_length == model.window
        assert (found.layout.pooling, found.layout.lower) == (model.layout.pooling, model.layout.lower)
        assert found.layout.subfolder == ""
        assert found.ids(["The Match"], special=True) == model.ids(["The Match"], special=True)
        assert found.labels is None
    assert np.abs(embedded(source) - embedded(trained(source))).max() > 0.01


@pytest.mark.parametrize(
    "source", ["mean", "nothing behind the pooling", "a plain BERT", "a plain RoBERTa"], indirect=True
)
def test_transformers_and_the_mean_of_the_tokens_give_the_same_vectors(source: EncoderModel, tmp_path: Path) -> None:
    model = trained(source)
    save_encoder(model, tmp_path / "saved")
    tokenizer, network = (kind.from_pretrained(tmp_path / "saved") for kind in (AutoTokenizer, AutoModel))
    with torch.no_grad():
        for text, expected in zip(TEXTS, embedded(model), strict=True):
            inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            mean = network.eval()(**inputs).last_hidden_state[0].mean(0)
            assert np.abs((mean / mean.norm()).numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("source", ["dense layers between normalizations"], indirect=True)
def test_the_files_say_what_the_model_is(source: EncoderModel, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save_encoder(source, folder)
    listed = json.loads((folder / "modules.json").read_text())
    kinds = ["Transformer", "Pooling", "Normalize", "Dense", "Dense", "Normalize"]
    assert [part["type"] for part in listed] == [f"sentence_transformers.models.{kind}" for kind in kinds]
    assert [part["path"] for part in listed] == ["", "1_Pooling", "2_Normalize", "3_Dense", "4_Dense", "5_Normalize"]
    assert [part["idx"] for part in listed] == list(range(6))
    assert json.loads((folder / "1_Pooling" / "config.json").read_text()) == {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_tokens": False,
    }
    assert json.loads((folder / "4_Dense" / "config.json").read_text()) == {
        "in_features": 48,
        "out_features": 12,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    assert json.loads((folder / "sentence_bert_config.json").read_text()) == {
        "max_seq_length": 128,
        "do_lower_case": False,
    }
    assert {path.name for path in folder.iterdir()} == FILES | {part["path"] for part in listed[1:]}
    assert not any(str(tmp_path) in path.read_text() for path in folder.rglob("*.json"))


@pytest.mark.parametrize("source", ["mean", "nothing behind the pooling"], indirect=True)
def test_vectors_are_normalized_once_at_the_end(source: EncoderModel, tmp_path: Path) -> None:
    save_encoder(source, tmp_path / "a")
    save_encoder(loaded(tmp_path / "a"), tmp_path / "b")
    listed = json.loads((tmp_path / "b" / "modules.json").read_text())
    assert [part["path"] for part in listed] == ["", "1_Pooling", "2_Normalize"]


def test_one_model_is_written_the_same_each_time(encoder_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):  # its files have no pooler, which transformers fills in
        save_encoder(loaded(encoder_folder), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_any_other_weight_makes_another_fingerprint(encoder_folder: Path, tmp_path: Path) -> None:
    model = loaded(encoder_folder)
    other = model.with_network(copy.deepcopy(model.network))
    with torch.no_grad():
        other.network.encoder.layer[0].attention.self.query.weight[3, 4] += 1e-6
    found = []
    for number, one in enumerate((model, other)):
        save_encoder(one, tmp_path / str(number))
        about = json.loads((tmp_path / str(number) / "config_sentence_transformers.json").read_text())
        found.append((about["weights"], loaded(tmp_path / str(number)).fingerprint))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_label_vectors_go_with_the_model_and_leave_with_them(encoder_folder: Path, tmp_path: Path) -> None:
    labels = LabelVectors(("sport", "money"), torch.ones(2, 32), torch.tensor([0.5, -0.5]))
    model = loaded(encoder_folder)
    save_encoder(model.with_labels(labels), tmp_path)
    found = loaded(tmp_path).labels
    assert found is not None
    assert found.mark == labels.mark
    save_encoder(model, tmp_path)
    assert loaded(tmp_path).labels is None


def test_half_precision_is_kept(encoder_folder: Path, tmp_path: Path) -> None:
    save_encoder(loaded(encoder_folder, dtype="bfloat16"), tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert loaded(tmp_path).layout.pooling == "mean"


class Wrapped(torch.nn.Module):
    """A layer as an adapter wraps it."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = layer


def test_a_network_with_an_adapter_is_not_written(encoder_folder: Path, tmp_path: Path) -> None:
    model = loaded(encoder_folder)
    layer = model.network.encoder.layer[1].output
    layer.dense = Wrapped(layer.dense)
    with pytest.raises(ModelError, match=r"^The network of '.*' has an adapter's layers\. Merge them into it before "):
        save_encoder(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "head",
    [
        [torch.nn.Linear(32, 32)],
        [torch.nn.Linear(32, 32), torch.nn.Softmax(1)],
        [torch.nn.Tanh()],
        [torch.nn.LayerNorm(32)],
    ],
)
def test_a_head_that_the_layout_has_no_name_for_is_not_written(
    head: list[torch.nn.Module], encoder_folder: Path, tmp_path: Path
) -> None:
    model = loaded(encoder_folder)
    other = EncoderModel(model.network, model.tokenizer, model.name, "", Layout(head=torch.nn.Sequential(*head)))
    kind = type(head[0]).__name__
    with pytest.raises(
        ModelError, match=rf"^A {kind} behind the pooling cannot be written; a sentence encoder's head "
    ):
        save_encoder(other, tmp_path)
