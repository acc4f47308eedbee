"""Small models with random weights, one of each architecture, made from their configurations alone.

They have what makes architectures differ (attention windows, grouped heads, biased positions,
experts, sinks, states that are carried on) and nothing else: 32 dimensions, two layers or as many
as show every kind of layer, 100 tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from autoprompt.models import LanguageModel
from autoprompt.models.causal import CausalModel
from autoprompt.models.masked import MaskedModel
from autoprompt.models.seq2seq import Seq2SeqModel

VOCABULARY = 100
PAD, FIRST, END, MASK = 0, 1, 2, 4
WINDOW = 128  # the most tokens that a model reads
SLIDING = 8  # the most that a layer with a window sees, its own token included
WIDE = 40  # a window, or a first length, that short inputs do not reach

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.3,
    "pad_token_id": PAD,
    "bos_token_id": FIRST,
    "eos_token_id": END,
}
GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MAMBA: dict[str, Any] = {"mamba_d_state": 4, "mamba_expand": 2, "mamba_d_conv": 4}
T5: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 40,
    "decoder_start_token_id": PAD,
}
BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "dropout": 0.0,
    "init_std": 0.3,
    "decoder_start_token_id": END,
}


def network(auto: Any, kind: str, **settings: Any) -> Any:
    """A network of a kind of configuration, with random weights."""
    config = AutoConfig.for_model(kind, **{**SIZES, **settings})
    made = auto.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    for weight in made.parameters():
        if weight.dim() == 1:  # biases and norms begin at 0 or 1, which would hide that they are left out
            weight += 0.1 * torch.randn_like(weight)
    return made


class Recurrent(PreTrainedModel):
    """A causal model that has the parts of others, takes their arguments, and carries its own state on.

    Whatever mask, positions or cache it is given, every token is read right after the one before
    it, so nothing but whole rows can be read right, and nothing else raises an error.
    """

    config_class = PretrainedConfig
    base_model_prefix = "model"

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = nn.Embedding(VOCABULARY, 32)
            self.cell = nn.GRU(32, 32, batch_first=True)

        def forward(
            self,
            input_ids: Any = None,
            inputs_embeds: Any = None,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
            **others: Any,
        ) -> BaseModelOutput:
            inputs = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            return BaseModelOutput(last_hidden_state=self.cell(inputs)[0])

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model, self.lm_head = self.Body(), nn.Linear(32, VOCABULARY)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Any:
        return self.lm_head

    def forward(self, logits_to_keep: int = 0, **given: Any) -> CausalLMOutput:
        hidden = self.model(**given).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(hidden[:, -logits_to_keep:]))


def recurrent() -> Any:
    config = PretrainedConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    made = Recurrent(config).eval().requires_grad_(False)
    for weight in made.parameters():
        weight.normal_(0, 0.5)
    return made


_causal = partial(partial, network, AutoModelForCausalLM)
_seq2seq = partial(partial, network, AutoModelForSeq2SeqLM)
_masked = partial(partial, network, AutoModelForMaskedLM)
_experts: dict[str, Any] = {**GROUPED, "num_experts_per_tok": 2}
_both: dict[str, Any] = {**GROUPED, "sliding_window": SLIDING, "layer_types": ["sliding_attention", "full_attention"]}

CAUSAL: dict[str, Callable[[], Any]] = {
    "llama": _causal("llama", **GROUPED),
    "qwen2": _causal("qwen2", num_key_value_heads=2),
    "qwen2, sliding": _causal("qwen2", num_key_value_heads=2, use_sliding_window=True, sliding_window=SLIDING,
                              max_window_layers=1),
    "qwen3": _causal("qwen3", **GROUPED),
    "gemma2": _causal("gemma2", **_both, query_pre_attn_scalar=8, attn_logit_softcapping=5.0),
    "gemma3": _causal("gemma3_text", **_both, query_pre_attn_scalar=8),
    "gpt2": _causal("gpt2", n_positions=WINDOW, n_inner=48, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt_neo": _causal("gpt_neo", num_layers=2, num_heads=4, window_size=SLIDING,
                       attention_types=[[["global", "local"], 1]]),
    "gpt_neox": _causal("gpt_neox"),
    "mistral": _causal("mistral", **GROUPED, sliding_window=SLIDING),
    "phi": _causal("phi", num_key_value_heads=4),
    "phi3": _causal("phi3", num_key_value_heads=2),
    "cohere2": _causal("cohere2", **_both, logit_scale=0.5),
    "granite": _causal("granite", num_key_value_heads=2, logits_scaling=2.0, residual_multiplier=0.7,
                       embedding_multiplier=1.5, attention_multiplier=0.5),
    "mixtral": _causal("mixtral", **_experts, num_local_experts=4),
    "qwen2_moe": _causal("qwen2_moe", num_key_value_heads=2, num_experts_per_tok=2, num_experts=4,
                         moe_intermediate_size=24, shared_expert_intermediate_size=24),
    "gpt_oss": _causal("gpt_oss", **_both, num_experts_per_tok=2, num_local_experts=4,
                       rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "deepseek_v3": _causal("deepseek_v3", num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
                           topk_group=1, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8,
                           v_head_dim=8, moe_intermediate_size=24, first_k_dense_replace=1),
    "opt": _causal("opt", ffn_dim=48, dropout=0.0, init_std=0.3, word_embed_proj_dim=32),
    "bloom": _causal("bloom", n_layer=2, n_head=4),
    "falcon": _causal("falcon"),
    "falcon, alibi": _causal("falcon", alibi=True),
    "mamba": _causal("mamba", state_size=4, conv_kernel=4, time_step_rank=4),
    "jamba": _causal("jamba", num_key_value_heads=2, **MAMBA, attn_layer_period=2,
                     attn_layer_offset=1, num_experts=2, expert_layer_offset=0, mamba_dt_rank=4),
    "lfm2": _causal("lfm2", num_key_value_heads=2, layer_types=["conv", "full_attention"],
                    block_auto_adjust_ff_dim=False),
    "qwen3_next": _causal("qwen3_next", **_experts, num_experts=4, moe_intermediate_size=24,
                          shared_expert_intermediate_size=24, linear_key_head_dim=8, linear_value_head_dim=8,
                          linear_num_key_heads=2, linear_num_value_heads=4,
                          layer_types=["linear_attention", "full_attention"]),
    "recurrent": recurrent,
}  # fmt: skip
LONG: dict[str, Callable[[], Any]] = {  # causal models that read inputs longer than WIDE in another way
    "gemma3, wide": _causal("gemma3_text", **{**_both, "sliding_window": WIDE}, query_pre_attn_scalar=8),
    "gpt_neo, wide": _causal("gpt_neo", num_layers=2, num_heads=4, window_size=WIDE,
                             attention_types=[[["global", "local"], 1]]),
    "mistral, wide": _causal("mistral", **GROUPED, sliding_window=WIDE),
    "phi3, longrope": _causal("phi3", num_key_value_heads=2, original_max_position_embeddings=WIDE, rope_parameters={
        "rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": WIDE,
        "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.0]}),
    "phimoe, wide": _causal("phimoe", num_key_value_heads=2, num_local_experts=2, sliding_window=WIDE),
    "qwen2_moe, wide": _causal("qwen2_moe", num_key_value_heads=2, num_experts_per_tok=2, num_experts=4,
                               moe_intermediate_size=24, shared_expert_intermediate_size=24,
                               use_sliding_window=True, sliding_window=WIDE, max_window_layers=1),
}  # fmt: skip
SEQ2SEQ: dict[str, Callable[[], Any]] = {
    "t5": _seq2seq("t5", **T5, initializer_factor=1.4),
    "t5, gated": _seq2seq("t5", **T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "umt5": _seq2seq("umt5", **T5, initializer_factor=1.4),
    "bart": _seq2seq("bart", **BART),
    "mbart": _seq2seq("mbart", **BART, scale_embedding=True),
}
MASKED: dict[str, Callable[[], Any]] = {
    "bert": _masked("bert", **NO_DROPOUT),
    "roberta": _masked("roberta", **NO_DROPOUT, max_position_embeddings=WINDOW + 1),  # its positions begin behind PAD
    "deberta_v2": _masked("deberta-v2", **NO_DROPOUT, relative_attention=True, pos_att_type=["p2c", "c2p"],
                          position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True,
                          position_biased_input=False),
    "modernbert": _masked("modernbert", local_attention=SLIDING, cls_token_id=FIRST, sep_token_id=END,
                          layer_types=["full_attention", "sliding_attention"]),
    "distilbert": _masked("distilbert", n_layers=2, n_heads=4, dim=32, hidden_dim=48, dropout=0.0,
                          attention_dropout=0.0),
    "albert": _masked("albert", **NO_DROPOUT, embedding_size=16),
}  # fmt: skip


def stand_in() -> Any:
    """All that the models and the engine ask a tokenizer for besides ids of texts."""
    return SimpleNamespace(mask_token_id=MASK, eos_token_id=END, pad_token_id=PAD, model_max_length=WINDOW)


@cache
def small_model(name: str) -> LanguageModel:
    """The model of a name in the tables; the same object each time, with the same weights in each run."""
    families: list[tuple[dict[str, Callable[[], Any]], type[LanguageModel]]] = [
        ({**CAUSAL, **LONG}, CausalModel),
        (SEQ2SEQ, Seq2SeqModel),
        (MASKED, MaskedModel),
    ]
    [(make, family)] = [(makers[name], family) for makers, family in families if name in makers]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(zlib.crc32(name.encode()))
        return family(make(), stand_in(), name, name)
