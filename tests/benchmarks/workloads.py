"""What the engine's benchmark runs on: models with random weights, grids of token ids, and their floors.

The floor: multiply-adds with each distinct token read once, at the rate of this machine's own matrix
product.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from autoprompt.engine import Request
from autoprompt.models import LanguageModel
from autoprompt.models.causal import CausalModel
from autoprompt.models.masked import MaskedModel
from autoprompt.models.seq2seq import Seq2SeqModel

SEED = 7
RESERVED = 3  # the ids 0 to 2 stand for padding, unknown words and masks
Ids = tuple[int, ...]

# -- models ----------------------------------------------------------------------------------

# the shapes of SmolLM-135M, T5-small, BERT-mini, BERT-base, and two smaller Llamas of our own
SHAPES: dict[str, dict[str, Any]] = {
    "15M": {"hidden_size": 288, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 768, "vocab_size": 32000, "tie_word_embeddings": True},
    "60M": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1376, "vocab_size": 32000, "tie_word_embeddings": False},
    "135M": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True},
    "T5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32128},
    "BERT-mini": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024, "vocab_size": 30522},
    "BERT-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522},
}  # fmt: skip
TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 320}  # fmt: skip
TINY_T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 320}
SPREAD = 0.05  # of the weights; at the usual 0.02 all answers are about as likely, and errors hard to see


def build(name: str, smoke: bool = False) -> LanguageModel:
    """A model in float32 with random weights, always the same; with `smoke`, a tiny one of its family."""
    torch.manual_seed(SEED)
    if name.startswith("T5"):
        shape = TINY_T5 if smoke else SHAPES[name]
        network: Any = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0))
        maker: type[LanguageModel] = Seq2SeqModel
    elif name.startswith("BERT"):
        shape = TINY if smoke else SHAPES[name]
        network, maker = BertForMaskedLM(BertConfig(**shape, initializer_range=SPREAD)), MaskedModel
    else:
        shape = TINY if smoke else SHAPES[name]
        endless = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        config = LlamaConfig(**shape, **endless, max_position_embeddings=2048, initializer_range=SPREAD)
        network, maker = LlamaForCausalLM(config), CausalModel
    network.eval().requires_grad_(False)
    return maker(network, _tokenizer(shape["vocab_size"]), name, f"random {name} {SEED}")


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    """The least that a model has to have; nothing here is ever tokenized."""
    words = ["[PAD]", "[UNK]", "[MASK]", *(f"w{at}" for at in range(RESERVED, size))]
    numbered = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=numbered, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


# -- workloads -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Prompts × examples, as ids, with the labels of all. The tail is for masked models."""

    prompts: tuple[Ids, ...]
    examples: tuple[Ids, ...]
    labels: tuple[Ids, ...]
    tail: Ids

    def share(self, prompts: int, examples: int) -> Grid:
        """Fewer whole prompts and examples, at evenly spaced ranks of length: the mean lengths stay."""
        return replace(self, prompts=_spread(self.prompts, prompts), examples=_spread(self.examples, examples))

    @property
    def requests(self) -> list[Request]:
        """One a pair, prompt by prompt."""
        return [
            Request(prompt + example, self.labels, self.tail) for prompt in self.prompts for example in self.examples
        ]

    @property
    def inner(self) -> list[Ids]:
        """What has to be read of the labels: their distinct beginnings, but the empty one."""
        return sorted({label[:end] for label in self.labels for end in range(1, len(label))})


def make_grid(
    vocabulary: int, lengths: tuple[int, int], masked: bool = False, prompts: int = 32, examples: int = 256
) -> Grid:
    """Prompts of the given lengths × examples of 10-40 tokens × 4 labels of 1-3, of which two begin alike."""
    draw = np.random.default_rng(SEED)

    def texts(count: int, low: int, high: int) -> tuple[Ids, ...]:
        counts = draw.permutation(np.linspace(low, high, count).round().astype(int))
        return tuple(tuple(draw.integers(RESERVED, vocabulary, length).tolist()) for length in counts)

    a, b, c, d, e, f = draw.choice(np.arange(RESERVED, vocabulary), 6, replace=False).tolist()
    [tail] = texts(1, 3, 3)
    labels = ((a,), (b, d), (c, e), (c, d, f))
    return Grid(texts(prompts, *lengths), texts(examples, 10, 40), labels, tail if masked else ())


def _spread(texts: Sequence[Ids], count: int) -> tuple[Ids, ...]:
    ranked, half = sorted(texts, key=len), (count + 1) // 2
    low = [(2 * at + 1) * len(texts) // (2 * count) for at in range(half)]
    return tuple(ranked[at] for at in (*low, *(len(texts) - 1 - at for at in reversed(low[: count // 2]))))


# -- the floor -------------------------------------------------------------------------------


def multiply_adds_a_second(tries: int = 20) -> float:
    """The best rate of `torch.mm` on float32 matrices of 1024 × 1024."""
    a, b, c = (torch.randn(1024, 1024) for _ in range(3))
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        torch.mm(a, b, out=c)
        best = min(best, time.perf_counter() - start)
    return 1024**3 / best


def causal_floor(config: Any, grid: Grid) -> tuple[int, int]:
    """Tokens and multiply-adds of a grid where each distinct token is read once.

    A prompt's tokens count once; an example's and the labels' inner ones once a pair. Each passes all
    linear layers, and takes scores and values (2 × heads × width) over the keys that it sees. The
    output matrix counts for the row that predicts the labels' first tokens and for the inner ones.
    """
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * width, config.num_key_value_heads * width
    linear = config.hidden_size * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    tokens = seen = rows = 0
    for prompt in map(len, grid.prompts):
        tokens += prompt
        seen += _triangle(prompt)
        for end in (prompt + len(example) for example in grid.examples):
            tokens += end - prompt + len(grid.inner)
            seen += _triangle(end) - _triangle(prompt) + sum(end + len(inner) for inner in grid.inner)
            rows += 1 + len(grid.inner)
    layers = config.num_hidden_layers * (linear * tokens + 2 * queries * seen)
    return tokens, layers + rows * config.hidden_size * config.vocab_size


def _triangle(count: int) -> int:
    return count * (count + 1) // 2


def seq2seq_floor(config: Any, grid: Grid) -> tuple[int, int]:
    """As `causal_floor`: prompt and example are encoded once a pair, and are the cross-attention's keys
    and values once; the decoder reads its start and the labels' inner tokens."""
    hidden, inner = config.d_model, config.num_heads * config.d_kv
    feed = (3 if config.is_gated_act else 2) * hidden * config.d_ff
    before = [0, *map(len, grid.inner)]  # how many tokens stand before each one of the decoder
    tokens = total = 0
    for read in (len(prompt) + len(example) for prompt in grid.prompts for example in grid.examples):
        tokens += read + len(before)
        total += config.num_layers * (read * (4 * hidden * inner + feed) + 2 * inner * read**2)
        own = len(before) * (4 * hidden * inner + feed) + sum(2 * inner * (count + 1) for count in before)
        cross = 2 * hidden * inner * (read + len(before)) + 2 * inner * read * len(before)
        total += config.num_decoder_layers * (own + cross) + len(before) * hidden * config.vocab_size
    return tokens, total


def masked_floor(config: Any, grid: Grid) -> tuple[int, int]:
    """As `causal_floor`: one pass a pair and number of masks; the head counts for the masks' rows alone."""
    hidden = config.hidden_size
    linear = 4 * hidden**2 + 2 * hidden * config.intermediate_size
    tokens = total = 0
    for context in (len(prompt) + len(example) for prompt in grid.prompts for example in grid.examples):
        for masks in {len(label) for label in grid.labels}:
            read = context + masks + len(grid.tail)
            tokens += read
            total += config.num_hidden_layers * (linear * read + 2 * hidden * read**2)
            total += masks * (hidden**2 + hidden * config.vocab_size)
    return tokens, total


FLOORS = {"causal": causal_floor, "seq2seq": seq2seq_floor, "masked": masked_floor}
