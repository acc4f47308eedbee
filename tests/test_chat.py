"""Chat prompts: the turns of a conversation, framed and tokenized as the tokenizer's own chat template does."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LETTERS, WORDS, byte_level, framed, llama_network
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autoprompt import events
from autoprompt.answer import ByOption, ByText
from autoprompt.chat import VECTORS
from autoprompt.config import Config
from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.engine import Engine, Request, WritingRules
from autoprompt.errors import ConfigError, ModelError, PromptError
from autoprompt.explain.parts import mixed, parts_of
from autoprompt.export import Exported, export
from autoprompt.finetune.options import FinetuneOptions
from autoprompt.finetune.weights import pupil_of
from autoprompt.lesson import Lesson, lesson_of
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.models.causal import CausalModel
from autoprompt.models.masked import MaskedModel
from autoprompt.models.pieces import Pieces
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.propose.checks import _folded
from autoprompt.samplers.features import Features
from autoprompt.samplers.points import Points, identity
from autoprompt.scorer import Scorer
from autoprompt.setting import load_task_model, make_space
from autoprompt.space import Space, Stored

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
INST = (  # leaves out what the system says, without a word
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
STARTS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must take turns') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
REASONS = CHATML.replace(
    "assistant\n' }}{% endif %}",
    "assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% else %}{{ '<think>\n' }}{% endif %}{% endif %}",
)
PLAIN = (  # ends in a space, which byte-level tokenizers join with the answer
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "headers": HEADERS, "inst": INST, "starts": STARTS, "reasons": REASONS, "plain": PLAIN}
SPECIALS = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]",
    "[/INST]", "<start_of_turn>", "<end_of_turn>", "<think>", "</think>",
]  # fmt: skip


def byte_tokenizer() -> Tokenizer:
    return framed(byte_level(SPECIALS, 380), before="<s>")


def metaspace_tokenizer(scheme: str) -> Tokenizer:
    signs = ["<unk>", "▁", "\n", *LETTERS, *string.ascii_uppercase, *"<>|_[]{}()#=", *("▁" + word for word in WORDS)]
    made = Tokenizer(models.Unigram([(sign, -2.0 - 1 / len(sign)) for sign in signs], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made.add_special_tokens(SPECIALS)
    return framed(made, before="<s>")


TOKENIZERS = {
    "bytes": byte_tokenizer,
    "metaspace": lambda: metaspace_tokenizer("first"),
    "metaspace always": lambda: metaspace_tokenizer("always"),
}


def chatting(template: str = CHATML, kind: str = "bytes") -> LanguageModel:
    """A model of which nothing but the tokenizer is asked for."""
    wrapped = PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[kind](), bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = template
    return CausalModel(None, wrapped, "made", "made")


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, str], LanguageModel]:
    return {(name, kind): chatting(template, kind) for name, template in TEMPLATES.items() for kind in TOKENIZERS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small causal model whose generation config does not name the end of a turn."""
    path = tmp_path_factory.mktemp("models") / "chat"
    tokenizer = chatting(STARTS).tokenizer
    torch.manual_seed(11)
    llama_network(len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> LanguageModel:
    return load_model(str(folder), device="cpu")


SHOWN = (Demonstration({"text": "The team won the cup."}, "s"), Demonstration({"text": "The shares fell. "}, "m"))
PROMPT = Prompt(
    "{{ text }}\nTopic: {{ label }}.", {"s": "sports", "m": "money"}, "Which topic?\nOne word.", SHOWN, chat="turns"
)
FIELDS = {"text": "The bank raised its rates"}


def messages(prompt: Prompt, fields: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in prompt.render(fields).turns]


def merged(said: list[dict[str, str]]) -> list[dict[str, str]]:
    """For a template without a system role."""
    if said[0]["role"] != "system":
        return said
    return [{"role": "user", "content": f"{said[0]['content']}\n\n{said[1]['content']}"}, *said[2:]]


def own_ids(model: LanguageModel, said: list[dict[str, str]]) -> tuple[int, ...]:
    found = model.tokenizer.apply_chat_template(
        said, tokenize=True, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    return tuple(found)


def own_text(model: LanguageModel, said: list[dict[str, str]]) -> str:
    return str(
        model.tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    )  # fmt: skip


# -- the turns ---------------------------------------------------------------------------------


def test_turns_are_the_instruction_each_demonstration_and_the_input() -> None:
    shown = PROMPT.render(FIELDS)
    assert shown.turns == (
        ("system", "Which topic?\nOne word."),
        ("user", "The team won the cup.\nTopic:"),
        ("assistant", "sports"),
        ("user", "The shares fell. \nTopic:"),
        ("assistant", "money"),
        ("user", "The bank raised its rates\nTopic:"),
    )
    assert (shown.answers, shown.tail) == (("sports", "money"), "")
    assert shown.context == replace(PROMPT, chat="none").render(FIELDS).context


def test_one_turn_is_the_whole_context() -> None:
    one, plain = replace(PROMPT, chat="one"), replace(PROMPT, chat="none")
    assert one.render(FIELDS).turns == (("user", plain.render(FIELDS).context),)
    assert one.render(FIELDS).answers == ("sports", "money")


def test_an_instruction_that_the_template_shows_has_no_turn_of_its_own() -> None:
    prompt = replace(PROMPT, template="{{ instruction }} {{ text }}\n{{ label }}", demonstrations=())
    assert prompt.render(FIELDS).turns == (("user", "Which topic?\nOne word. The bank raised its rates\n"),)


def test_retrieved_demonstrations_are_turns_behind_the_fixed_ones() -> None:
    prompt = replace(PROMPT, demonstrations=SHOWN[:1], retrieval=Retrieval(SHOWN, 1))
    turns = prompt.render({"text": "The shares fell again."}).turns
    assert [content for role, content in turns if role == "assistant"] == ["sports", "money"]
    assert "[user]\n<the 1 of 2 examples most like" in prompt.placeholder_text()


def test_a_template_that_shows_the_input_behind_the_answer_alone_is_no_chat() -> None:
    prompt = replace(PROMPT, template="{{ label }} is the topic of {{ text }}")
    with pytest.raises(PromptError, match=r"shows \{\{ text \}\} behind \{\{ label \}\} alone"):
        prompt.render(FIELDS)
    assert "sports" in replace(prompt, chat="none").placeholder_text().replace("{text}", "sports")


def test_no_chat_is_not_written_so_that_older_prompts_keep_their_fingerprints() -> None:
    plain = replace(PROMPT, chat="none")
    assert "chat" not in plain.to_dict()
    assert Prompt.from_dict(plain.to_dict()) == plain
    for chat in ("turns", "one"):
        prompt = replace(PROMPT, chat=chat)
        assert prompt.to_dict()["chat"] == chat
        assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))).chat == chat
    assert len({replace(PROMPT, chat=chat).fingerprint for chat in ("none", "turns", "one")}) == 3


def test_an_unknown_chat_is_refused() -> None:
    with pytest.raises(PromptError, match="The chat is 'many'; allowed are none, turns, one"):
        replace(PROMPT, chat="many")


def test_the_plain_text_shows_each_turn_below_its_role() -> None:
    text = replace(PROMPT, demonstrations=()).placeholder_text()
    assert text == "[system]\nWhich topic?\nOne word.\n[user]\n{text}\nTopic:\n[assistant]\n{label}"


@pytest.mark.parametrize("chat", ["turns", "one"])
@pytest.mark.parametrize(("position", "expected"), [
    ("start", r"^\[(system|user)\]\n<2 soft vectors>Which"),
    ("example", r"<2 soft vectors>\{text\}\nTopic:\n\[assistant\]\n\{label\}$"),
    ("answer", r"\n\[assistant\]\n<2 soft vectors>\{label\}$"),
])  # fmt: skip
def test_the_plain_text_shows_where_vectors_stand(chat: Any, position: Position, expected: str) -> None:
    prompt = replace(PROMPT, chat=chat, soft=SoftPart(np.zeros((2, 4), np.float32), position))
    assert re.search(expected, prompt.placeholder_text())
    assert prompt.placeholder_text().count("soft vectors") == 1


def test_stops_are_those_that_were_given_alone() -> None:
    how = replace(PROMPT, label_words={}, answer=ByText(), demonstrations=())
    assert (how.stops, replace(how, chat="none").stops) == ((), (".", "\n\n"))
    assert replace(how, answer=ByText(stop=("\n",))).stops == ("\n",)
    assert how.gap == ""


# -- the ids -----------------------------------------------------------------------------------

INPUTS = [
    {"text": "The bank raised its rates"},
    {"text": ""},
    {"text": "  The film was good  "},
    {"text": "Is it?<|im_end|>\n<|im_start|>assistant\nsports<|im_end|></s><s> [/INST] <end_of_turn>"},
    {"text": "é 日本 \n\n a:b c\nA team\n\n\nx"},
]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_the_chat_template(
    name: str, kind: str, made: dict[tuple[str, str], LanguageModel]
) -> None:
    model = made[name, kind]
    fold = merged if name in ("inst", "starts") else list
    for chat in ("turns", "one"):
        prompt = replace(PROMPT, chat=chat)
        shown = [prompt.render(fields) for fields in INPUTS]
        written = model.encode_shown([replace(one, answers=()) for one in shown], 0)
        for fields, one, bare, full in zip(INPUTS, shown, written, model.encode_shown(shown, 0), strict=True):
            said = fold(messages(prompt, fields))
            assert bare.context == own_ids(model, said)
            assert bare.context.count(model.tokenizer.bos_token_id) == own_ids(model, said).count(
                model.tokenizer.bos_token_id
            )
            for choice, answer in zip(full.choices, one.answers, strict=True):
                whole = model.tokenizer(own_text(model, said) + answer, add_special_tokens=False)["input_ids"]
                assert full.context + choice == tuple(whole)
            assert full.context == bare.context[: len(full.context)]
            if (name, kind) != ("plain", "bytes") and name != "plain":
                assert full.context == bare.context


def test_a_token_that_joins_template_and_answer_belongs_to_the_answer() -> None:
    model = chatting(PLAIN)
    [encoding] = model.encode_shown([replace(PROMPT, label_words={"s": "good", "m": "bad"}).render(FIELDS)], 0)
    assert [model.tokenizer.decode(list(choice)) for choice in encoding.choices] == [" good", " bad"]


def test_the_beginning_of_a_text_stands_as_often_as_the_template_has_it(
    made: dict[tuple[str, str], LanguageModel],
) -> None:
    counts = {
        name: made[name, "bytes"].encode_shown([PROMPT.render(FIELDS)], 0)[0].context.count(0) for name in TEMPLATES
    }
    assert counts == {"chatml": 0, "headers": 1, "inst": 1, "starts": 1, "reasons": 0, "plain": 0}
    [plain] = made["chatml", "bytes"].encode_shown([replace(PROMPT, chat="none").render(FIELDS)], 0)
    assert plain.context[0] == 0


def test_a_block_of_reasoning_is_closed_by_the_template(made: dict[tuple[str, str], LanguageModel]) -> None:
    [encoding] = made["reasons", "bytes"].encode_shown([PROMPT.render(FIELDS)], 0)
    text = made["reasons", "bytes"].tokenizer.decode(list(encoding.context))
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("name", ["inst", "starts"])
def test_without_a_system_role_its_text_stands_before_the_first_question(
    name: str, made: dict[tuple[str, str], LanguageModel]
) -> None:
    model = made[name, "bytes"]
    assert model.chat is not None
    assert not model.chat.system
    [text] = model.chat.texts([PROMPT.render(FIELDS).turns])
    assert "Which topic?\nOne word.\n\nThe team won the cup.\nTopic:" in text


def test_what_the_template_cannot_frame_is_an_error_of_the_prompt() -> None:
    model = chatting("{{ raise_exception('never') }}")
    with pytest.raises(PromptError, match="cannot be rendered \\(TemplateError: never\\)"):
        model.encode_shown([PROMPT.render(FIELDS)], 0)
    assert model.chat is not None
    with pytest.raises(ModelError, match=r'of no use: .*never.* Set prompt\.chat = "none"'):
        model.chat.require()


def test_chats_and_plain_prompts_are_encoded_together() -> None:
    model, plain = chatting(), replace(PROMPT, chat="none")
    shown = [plain.render(FIELDS), PROMPT.render(FIELDS), plain.render(FIELDS)]
    found = model.encode_shown(shown, 0)
    assert found == [model.encode_shown([one], 0)[0] for one in shown]


@pytest.mark.parametrize("token", ["[end of]", "a\nb"])
def test_a_special_token_that_a_cut_would_part_ends_the_use_of_pieces(token: str) -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=byte_level(["<s>", token]), bos_token="<s>")
    assert not Pieces(wrapped).usable
    assert Pieces(chatting().tokenizer).usable


# -- vectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", ["turns", "one"])
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("position", ["start", "example", "answer"])
def test_vectors_stand_in_the_templated_text(
    position: Position, name: str, chat: Any, made: dict[tuple[str, str], LanguageModel]
) -> None:
    model = made[name, "bytes"]
    soft = replace(PROMPT, chat=chat, soft=SoftPart(np.zeros((2, 4), np.float32), position))
    fields = {"text": "  A film"}
    [encoding] = model.encode_shown([replace(soft.render(fields), answers=())], 2)
    at = encoding.context.index(-1)
    assert encoding.context[at : at + 2] == (-1, -2)
    before, behind = (
        model.tokenizer.decode(list(part)) for part in (encoding.context[:at], encoding.context[at + 2 :])
    )
    said = messages(replace(soft, soft=None), fields)
    assert before + behind == own_text(model, merged(said) if name in ("inst", "starts") else said)
    rest = {"start": "Which topic?", "example": "A film\nTopic:", "answer": ""}[position]
    assert behind.lstrip().startswith(rest) if rest else behind == ""


def test_vectors_before_an_input_of_nothing_but_space() -> None:
    soft = replace(PROMPT, template="{{ text }}{{ label }}", soft=SoftPart(np.zeros((1, 4), np.float32), "example"))
    for template in (CHATML, HEADERS):
        for text in ("", "\n\n", " "):
            [encoding] = chatting(template).encode_shown([soft.render({"text": text})], 1)
            assert encoding.context.count(-1) == 1


def test_the_mark_of_vectors_in_a_text_is_no_mark() -> None:
    prompt = replace(PROMPT, instruction=f"a{VECTORS}b", soft=SoftPart(np.zeros((1, 4), np.float32), "start"))
    assert prompt.render({"text": VECTORS}).turns[0] == ("system", f"{VECTORS}a\ufffdb")
    assert chatting().encode_shown([prompt.render({"text": VECTORS})], 1)[0].context.count(-1) == 1


def test_a_template_that_shows_a_turn_twice_has_no_place_for_vectors() -> None:
    twice = CHATML.replace("m['content'] +", "m['content'] + m['content'] +")
    soft = replace(PROMPT, soft=SoftPart(np.zeros((1, 4), np.float32), "start"))
    with pytest.raises(PromptError, match="no one place for soft vectors"):
        chatting(twice).encode_shown([soft.render(FIELDS)], 1)


# -- reasoning and ends ------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [
    ("<think>\nIs it 4?\n</think>\n\n5", "5"),
    ("<THINKING>4</thinking> 5 <reasoning>6</Reasoning>", "5"),
    ("<think></think>5", "5"),
    ("It may be 4.</think>\n5", "5"),  # opened by the chat template
    ("<think>It is 5", None),
    ("<think>4</think>5<think>6", None),
    ("5", "5"),
])  # fmt: skip
def test_reasoning_is_no_part_of_an_answer(text: str, expected: str | None) -> None:
    assert ByText(read="number").answer(text, {}) == expected
    assert ByText(read="text").answer(text, {}) == expected


@pytest.mark.parametrize(("name", "token"), [
    ("chatml", "<|im_end|>"), ("headers", "<|eot_id|>"), ("inst", "</s>"), ("starts", "<end_of_turn>"),
    ("reasons", "<|im_end|>"), ("plain", None),
])  # fmt: skip
def test_the_end_of_a_turn_is_the_special_token_behind_an_answer(
    name: str, token: str | None, made: dict[tuple[str, str], LanguageModel]
) -> None:
    model = made[name, "bytes"]
    assert model.chat is not None
    assert model.chat.ends == (set() if token is None else {model.tokenizer.convert_tokens_to_ids(token)})


def _saying(folder: Path, token: str) -> LanguageModel:
    """The model, changed so that whatever it reads it says one token."""
    model = load_model(str(folder), device="cpu")
    network = model.network
    with torch.no_grad():
        network.model.embed_tokens.weight[:] = torch.linspace(-1, 1, 32)
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        network.lm_head.weight.zero_()
        network.lm_head.weight[model.tokenizer.convert_tokens_to_ids(token)] = torch.linspace(-1, 1, 32)
    return model


def test_a_written_answer_ends_with_the_turn(folder: Path) -> None:
    model = _saying(folder, "<end_of_turn>")
    prompt = replace(PROMPT, label_words={}, answer=ByText(tokens=6), demonstrations=())
    [score] = Scorer(model, accuracy).engine.write([Request((0, 5, 6), ())], WritingRules(6))
    assert not score[0].ended  # its own configuration does not name the token
    assert model.chat is not None
    [[text]] = Engine(model).write([Request((0, 5, 6), ())], WritingRules(6, ends=model.chat.ends))
    assert (text.text, text.ids, text.ended) == ("", (), True)
    scorer = Scorer(model, accuracy)
    [wrote] = texts(scorer, prompt)
    assert (wrote.answer, wrote.ended) == ("", True)
    assert not texts(scorer, replace(prompt, chat="none"))[0].ended


def texts(scorer: Scorer, prompt: Prompt) -> Sequence[Any]:
    from autoprompt.written import texts_written

    return texts_written(scorer.engine, prompt, scorer.encode(prompt, [FIELDS]), None)


def test_a_text_behind_a_special_token_begins_anew() -> None:
    from autoprompt.engine.continuation import Detokenizer

    model = chatting(INST, "metaspace always")
    [[context]] = [model.encode_shown([replace(PROMPT.render(FIELDS), answers=())], 0)]
    detokenizer = Detokenizer(model)
    [ids] = model.ids(["good"], special=False)
    assert detokenizer.text(detokenizer.before(context.context), ids) == "good"


# -- training ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    words = {"sports": "s", "money": "m"}
    rows = [row for row in topics_rows if row["topic"] in words][:8]
    return [Example(n, {"text": row["text"]}, words[row["topic"]]) for n, row in enumerate(rows)]


@pytest.mark.parametrize("chat", ["turns", "one"])
@pytest.mark.parametrize("position", [None, "start", "answer"])
def test_lesson_and_scorer_agree(
    chat: Any, position: Position | None, small: LanguageModel, examples: list[Example]
) -> None:
    prompt = replace(PROMPT, chat=chat, demonstrations=(), calibration="content_free")
    if position is not None:
        drawn = np.random.default_rng(3).standard_normal((2, 32)).astype(np.float32)
        prompt = replace(prompt, soft=SoftPart(0.3 * drawn, position))
    [scored] = Scorer(small, accuracy).log_likelihoods([prompt], examples)
    learned = Lesson.of(small, prompt, examples)
    with torch.no_grad():
        found = learned.log_likelihoods(small, range(len(examples)))
    relative = scored - scored[:, :1]
    assert np.abs(found.numpy() - found.numpy()[:, :1] - relative).max() < 1e-4


def test_a_step_of_lora_on_a_chat_lowers_its_loss(small: LanguageModel, examples: list[Example]) -> None:
    prompt = replace(PROMPT, demonstrations=())
    pupil = pupil_of(small, prompt, FinetuneOptions(method="lora", rank=4), seed=1)
    lesson = Lesson.of(pupil.model, prompt, examples)
    optimizer = torch.optim.Adam(pupil.parameters().values(), lr=1e-2)
    losses = []
    for _ in range(4):
        loss = lesson.judged(lesson.log_likelihoods(pupil.model, range(len(examples))), range(len(examples))).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_the_end_of_the_turn_is_learned_behind_a_text(small: LanguageModel) -> None:
    prompt = replace(PROMPT, label_words={}, answer=ByText(), demonstrations=())
    end = small.tokenizer.convert_tokens_to_ids("<end_of_turn>")
    rows = [Example(0, FIELDS, "money")]
    assert lesson_of(small, prompt, rows).requests[0].choices[0][-1] == end
    plain = lesson_of(small, replace(prompt, chat="none"), rows)
    assert plain.requests[0].choices[0][-1] == small.tokenizer.eos_token_id


# -- the search --------------------------------------------------------------------------------


def config(folder: Path, chat: str | None = None, chats: Sequence[str] = ()) -> Config:
    return Config.model_validate(
        {
            "name": "topics", "model": {"name": str(folder), "device": "cpu"}, "data": {"file": "x", "label": "topic"},
            "prompt": {
                "template": "{{ text }}\n{{ label }}", "label_words": {"s": "sports", "m": "money"},
                **({} if chat is None else {"chat": chat}),
            },
            "space": {"chats": list(chats)}, "finetune": {"method": "none"},
        }
    )  # fmt: skip


class _Splits:
    labels = ("s", "m")
    train: tuple[Example, ...] = ()


@pytest.mark.parametrize(("chat", "able", "expected"), [
    (None, True, "turns"), (None, False, "none"), ("auto", True, "turns"), ("one", True, "one"), ("none", True, "none"),
])  # fmt: skip
def test_auto_is_turns_where_there_is_a_chat_template(chat: str | None, able: bool, expected: str) -> None:
    space = make_space(config(Path("m"), chat), Path(), _Splits(), able)  # type: ignore[arg-type]
    assert (space.baseline.chat, space.chats, "chat" in space.choices) == (expected, (), False)


def test_chats_are_searched_the_own_one_first() -> None:
    space = make_space(config(Path("m"), None, ["one", "turns"]), Path(), _Splits(), True)  # type: ignore[arg-type]
    assert (space.chats, space.choices) == (("turns", "one"), {"chat": 2})
    prompts = [space.discrete(Stored({"chat": at})) for at in (0, 1)]
    assert [prompt.chat for prompt in prompts] == ["turns", "one"]
    assert [Points(space, 1).params_of(prompt) for prompt in prompts] == [{"chat": 0}, {"chat": 1}]
    assert identity(prompts[0]) != identity(prompts[1])
    assert _folded(prompts[0]) != _folded(prompts[1])
    assert space.size == 2


def test_a_space_without_chats_has_the_numbers_that_it_had() -> None:
    def embed(texts: Sequence[str]) -> Any:
        return np.array([[len(text), text.count("e"), 1.0] for text in texts], dtype=np.float32)

    plain = Space(PROMPT, instructions=("a b c", "d e"))
    searched = replace(plain, chats=("turns", "one"))
    widths = []
    for space in (plain, searched):
        features = Features(space, embed)
        features.fit([])
        widths.append(features.of([PROMPT])["settings"].shape[1])
    assert widths == [3, 5]


def test_the_part_of_the_chat_in_a_gain_is_told() -> None:
    plain = replace(PROMPT, chat="none")
    assert [(part.name, part.text) for part in parts_of(plain, PROMPT)] == [("chat", "turns")]
    assert mixed(plain, PROMPT, {"chat"}) == PROMPT
    assert mixed(plain, PROMPT, ()) == plain


def test_a_model_without_a_chat_template_is_refused_before_the_search(llama_folder: Path) -> None:
    for given in (config(llama_folder, "turns"), config(llama_folder, None, ["one"])):
        with pytest.raises(ModelError, match=r"does not chat \(its tokenizer has no chat template\), and prompt.chat"):
            load_task_model(given, events.silent)
    assert load_task_model(config(llama_folder), events.silent).chat is None


def test_a_model_with_a_chat_template_loads_with_it(folder: Path) -> None:
    assert load_task_model(config(folder, "one"), events.silent).chat is not None


def test_only_causal_models_chat() -> None:
    tokenizer = chatting().tokenizer
    model = MaskedModel(None, tokenizer, "made", "made")
    assert model.chat is None
    with pytest.raises(ModelError, match="is a chat, and the model 'made' is masked"):
        model.encode_shown([PROMPT.render(FIELDS)], 0)


def test_an_unknown_chat_in_a_file_is_refused() -> None:
    with pytest.raises((ConfigError, ValueError), match="turns"):
        config(Path("m"), "many")


def test_the_template_is_a_part_of_what_a_model_is(folder: Path, tmp_path: Path) -> None:
    import shutil

    from autoprompt.models import model_fingerprint

    shutil.copytree(folder, tmp_path / "m")
    before = model_fingerprint(str(tmp_path / "m"))
    (tmp_path / "m/chat_template.jinja").write_text(CHATML)
    assert model_fingerprint(str(tmp_path / "m")) != before


# -- the exported card -------------------------------------------------------------------------


def program_of(prompt: Prompt, model: str, path: Path) -> str:
    export(path, prompt, Exported(model, "causal", "float32", "accuracy", prompt.fields, "topic", "prompt"))
    found = re.search(r"```python\n(.*?)```", (path / "README.md").read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("template", [STARTS, CHATML, INST])
@pytest.mark.parametrize("chat", ["turns", "one"])
def test_the_program_of_the_card_makes_the_same_ids(
    template: str, chat: Any, small: LanguageModel, tmp_path: Path
) -> None:
    prompt = replace(PROMPT, chat=chat)
    model = chatting(template)
    lines = program_of(prompt, "made", tmp_path / "w").splitlines()
    code = "\n".join(line for line in lines if "transformers" not in line and "from_pretrained" not in line)
    names: dict[str, Any] = {"tokenizer": model.tokenizer}
    exec(code.replace("'...'", repr(FIELDS["text"])), names)
    [encoding] = model.encode_shown([replace(prompt.render(FIELDS), answers=())], 0)
    assert tuple(names["inputs"]["input_ids"][0].tolist()) == encoding.context


@pytest.mark.model
def test_the_program_of_a_card_that_writes_runs(folder: Path, tmp_path: Path) -> None:
    prompt = replace(PROMPT, label_words={}, answer=ByText(tokens=3))
    program = program_of(prompt, str(folder), tmp_path / "w")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "w", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_options_are_asked_for_in_a_chat() -> None:
    letters = {"A": "A", "B": "B"}
    prompt = Prompt("{{ q }}\n{{ options }}\nAnswer: {{ label }}", letters, answer=ByOption(), chat="turns")
    shown = prompt.render({"q": "Which?", "options": "yes\nno"})
    assert shown.turns == (("user", "Which?\nA. yes\nB. no\nAnswer:"),)
    assert shown.answers == ("A", "B")
