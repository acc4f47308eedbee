"""Small models with random weights, in the Hugging Face layout, and a small data set."""

from __future__ import annotations

import gc
import json
import os
import re
import string

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach the network

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

torch.set_num_threads(1)

WINDOW = 160
SENTENCES = [
    "The match ended two to one after a late goal. Topic: sports",
    "The team won the cup and the players ran around the field. Topic: sports",
    "The bank raised its rates and the shares fell again. Topic: money",
    "The price of the loan went up after the market closed. Topic: money",
    "The film was good and the music was good too. Sentiment: good",
    "The food was bad and the waiter was bad too. Sentiment: bad",
    "Which topic does the text have, sports or money? Answer with one word.",
    "Is the text good or bad? Say which of the two it is.",
]
LETTERS = list(string.ascii_lowercase + string.digits + ".,:;?!'/-")
WORDS = sorted(set(re.findall("[A-Za-z]{2,}", " ".join(SENTENCES))))

ROWS = {
    "sports": [
        "The match ended two to one.",
        "The goalkeeper saved a late penalty.",
        "Our team won the cup again.",
        "The striker scored twice before the break.",
        "She ran the marathon in three hours.",
        "The coach changed the whole defence.",
        "A tennis final of five sets.",
        "The cyclist fell in the last bend.",
        "They lost the derby at home.",
        "The referee showed a red card.",
        "The swimmers broke a world record.",
        "He jumped over two metres.",
        "The league starts again in August.",
        "The boxer went down in round four.",
        "A draw was enough for the title.",
        "The sprinter tore a muscle.",
        "The fans sang for ninety minutes.",
        "Her serve was too fast for him.",
        "The rowers trained on the lake.",
        "The captain lifted the trophy.",
    ],
    "money": [
        "The bank raised its rates.",
        "Shares fell by two percent.",
        "The loan has to be paid back in May.",
        "The euro gained on the dollar.",
        "Inflation slowed down last month.",
        "The company reported a loss.",
        "Investors sold their bonds.",
        "The tax on petrol goes up.",
        "Her savings earn no interest.",
        "The budget has a hole of a billion.",
        "The price of gold reached a peak.",
        "Wages grew less than rents.",
        "The merger was stopped by the regulator.",
        "He asked for a mortgage.",
        "The fund pays a small dividend.",
        "The invoice was never settled.",
        "Exports rose for the third year.",
        "The insurer refused the claim.",
        "The startup ran out of cash.",
        "A new coin was minted.",
    ],
    "weather": [
        "It will rain until the evening.",
        "Snow fell on the hills.",
        "A storm is coming from the west.",
        "The night stays clear and cold.",
        "Fog closed the airport.",
        "The heat wave goes on for a week.",
        "Thunder was heard all night.",
        "The wind turns to the north.",
        "There is frost on the windows.",
        "Clouds cover the whole coast.",
        "The river froze in January.",
        "Hail destroyed the roofs.",
        "A mild spring day with sun.",
        "The drought ended with showers.",
        "It is thirty degrees in the shade.",
        "The forecast says drizzle.",
        "A tornado crossed the plain.",
        "The sky turned dark before noon.",
        "Icy roads are expected.",
        "The humidity was unbearable.",
    ],
}


@pytest.fixture(scope="session")
def topics_rows() -> list[dict[str, str]]:
    """60 labelled rows, the labels in turns: sports, money, weather."""
    return [
        {"text": text, "topic": topic}
        for texts in zip(*ROWS.values(), strict=True)
        for topic, text in zip(ROWS, texts, strict=True)
    ]


# -- tokenizers ------------------------------------------------------------------------------


def byte_level(specials: list[str | AddedToken], size: int = 340) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return tokenizer


def framed(tokenizer: Tokenizer, before: str = "", after: str = "") -> Tokenizer:
    """The tokenizer puts special tokens around every text."""
    parts = [part for part in (before, "$A", after) if part]
    names = [name for name in (before, after) if name]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(parts), special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )
    return tokenizer


def llama_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = framed(byte_level(["<s>", "</s>"]), before="<s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=byte_level([end]), bos_token=end, eos_token=end)


def t5_tokenizer() -> PreTrainedTokenizerFast:
    # the vocabularies of this and the next one are made by hand: their trainers are not deterministic
    pieces = ["▁", *LETTERS, *string.ascii_uppercase, *("▁" + word for word in WORDS)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((p, -2.0 - 1 / len(p)) for p in pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=framed(tokenizer, after="</s>"),
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=WINDOW,
    )


def bert_tokenizer() -> PreTrainedTokenizerFast:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word.lower() for word in WORDS if len(word) > 1]
    vocabulary = list(dict.fromkeys([*specials, *LETTERS, *("##" + letter for letter in LETTERS), *words]))
    numbered = {token: at for at, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbered, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=framed(tokenizer, "[CLS]", "[SEP]"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", mask])
    return PreTrainedTokenizerFast(
        tokenizer_object=framed(tokenizer, "<s>", "</s>"),
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=mask,
    )


# -- models ----------------------------------------------------------------------------------

NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def llama_network(size: int) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=WINDOW,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def gpt2_network(size: int) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=WINDOW,
            initializer_range=0.3,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def t5_network(size: int) -> Any:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=size,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=64,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )


def bert_network(size: int) -> Any:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=WINDOW,
            initializer_range=0.3,
            pad_token_id=0,
            **NO_DROPOUT,
        )
    )


def roberta_network(size: int) -> Any:
    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=WINDOW + 2,  # RoBERTa's positions begin at 2
            initializer_range=0.3,
            type_vocab_size=1,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
            **NO_DROPOUT,
        )
    )


MAKERS: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], Callable[[int], Any]]] = {
    "llama": (llama_tokenizer, llama_network),
    "gpt2": (gpt2_tokenizer, gpt2_network),
    "t5": (t5_tokenizer, t5_network),
    "bert": (bert_tokenizer, bert_network),
    "roberta": (roberta_tokenizer, roberta_network),
}


def saved(name: str, factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp("models") / name
    make_tokenizer, make_network = MAKERS[name]
    tokenizer = make_tokenizer()
    torch.manual_seed(sum(map(ord, name)))
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    make_network(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model; its tokenizer puts <s> in front."""
    return saved("llama", tmp_path_factory)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with absolute positions; its tokenizer adds nothing."""
    return saved("gpt2", tmp_path_factory)


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder; its tokenizer puts </s> behind."""
    return saved("t5", tmp_path_factory)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model with [CLS], [SEP] and [MASK], uncased."""
    return saved("bert", tmp_path_factory)


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model with <s>, </s> and <mask>, whose positions begin behind the padding id."""
    return saved("roberta", tmp_path_factory)


@pytest.fixture(scope="session")
def encoder_folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder in the layout of sentence-transformers: a BERT, pooled by the mean."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    transformers.BertModel.from_pretrained(bert_folder, add_pooling_layer=False).save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (kind, path) in enumerate(parts)
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    (folder / "1_Pooling").mkdir()
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


@pytest.fixture(scope="session")
def model_folders(
    llama_folder: Path, gpt2_folder: Path, t5_folder: Path, bert_folder: Path, roberta_folder: Path
) -> dict[str, Path]:
    """Every small model's folder by its name."""
    return {
        "llama": llama_folder,
        "gpt2": gpt2_folder,
        "t5": t5_folder,
        "bert": bert_folder,
        "roberta": roberta_folder,
    }


@pytest.fixture
def topics_space(tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]) -> dict[str, Any]:
    """The settings of a run on a small model, its data in the test's folder."""
    key = next(name for name in topics_rows[0] if name != "text")
    rows = [json.dumps({"text": row["text"], "topic": row[key]}) for row in topics_rows]
    (tmp_path / "topics.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {
        "name": "topics",
        "model": str(llama_folder),
        "results": str(tmp_path / "results"),
        "data": {"file": str(tmp_path / "topics.jsonl"), "label": "topic"},
        "prompt": {
            "template": "{{ text }}\nTopic: {{ label }}",
            "label_words": {label: label for label in sorted({row[key] for row in topics_rows})},
        },
    }


# -- the time that tests take ----------------------------------------------------------------------


def pytest_collection_finish() -> None:
    """Nothing of what is loaded so far is ever garbage: a million objects less for each collection to look at."""
    gc.collect()
    gc.freeze()


# -- counts of faults, for tests/benchmarks/reliability.py ---------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--counts", type=Path, help="write how often each marked fault was met, and how often badly (JSON)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--counts") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Counts(config.getoption("--counts")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if mark := item.get_closest_marker("fault"):
            item.user_properties.append(("fault", mark.args))


class Counts:
    """What became of the tests that are marked with a fault; its second argument says how often one meets it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for key, value in report.user_properties:
            if key == "fault" and report.when == "call":
                name, times = [*value, 1][:2]
                count = self.found.setdefault(name, {"times": 0, "failed": 0})
                count["times"] += 0 if report.skipped else times
                count["failed"] += report.failed

    def pytest_sessionfinish(self) -> None:
        rows = [{"fault": name, **count} for name, count in sorted(self.found.items())]
        self.path.write_text(json.dumps(rows, indent=1))
