"""Engine.write: texts by rules, each a function of the model, the request and the rules alone."""

from __future__ import annotations

import json
import re
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LETTERS, WORDS, framed, llama_network
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autoprompt.engine import Engine, Form, Request, ScoreMemory, WritingRules, Written
from autoprompt.engine.continuation import Detokenizer, StopWatch, cut
from autoprompt.errors import ConfigError, ModelError
from autoprompt.models import LanguageModel, load_model

pytestmark = pytest.mark.model

NEW = 12
FAMILIES = ["llama", "gpt2", "t5"]


def marked_folder(folder: Path) -> Path:
    """A causal model whose tokenizer marks the space before a word, and has a token for each byte."""
    pieces = ["▁", *LETTERS, *string.ascii_uppercase, *("▁" + word for word in WORDS)]
    scored = [*(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((p, -2.0 - 1 / len(p)) for p in scored)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    framed(tokenizer, before="<s>")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    torch.manual_seed(5)
    network = llama_network(len(fast) + 5)  # rows of the output matrix that no token has
    network.generation_config.eos_token_id = 2
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    folders = {**model_folders, "marked": marked_folder(tmp_path_factory.mktemp("models") / "marked")}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


def contexts(seed: int = 0) -> list[Request]:
    """Two shared beginnings, items of different lengths, one context alone, one twice."""
    drawn = np.random.default_rng(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(map(int, drawn.integers(5, 90, count)))

    begins = [(0, *some(14)), (0, *some(11))]
    found = [begin + some(count) for begin in begins for count in (1, 3, 8)]
    return [Request(c, ()) for c in [*found, (0, *some(2)), found[1]]]


def one(found: Sequence[tuple[Written, ...]]) -> list[Written]:
    return [text for [text] in found]


# -- greedy texts and stop strings -----------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 4000])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_are_those_of_generate_decoded(family: str, budget: int, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded[family], contexts()
    expected = Engine(model).generate(requests, NEW)
    for share in (True, False):
        found = one(Engine(model, budget, share).write(requests, WritingRules(NEW)))
        assert [text.ids for text in found] == expected
        for request, text in zip(requests, found, strict=True):
            before = request.context[1:] if family != "t5" else ()
            whole = model.tokenizer.decode([*before, *text.ids], skip_special_tokens=True)
            assert whole == (model.tokenizer.decode(before) if before else "") + text.text
            assert text.ended == (len(text.ids) < NEW)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_cut_before_the_first_stop_string_and_its_row_leaves(
    family: str, share: bool, loaded: dict[str, LanguageModel]
) -> None:
    model, requests = loaded[family], contexts(1)
    engine = Engine(model, share=share)
    whole = one(engine.write(requests, WritingRules(NEW)))
    longest = max(whole, key=lambda text: len(text.text)).text
    stops = [longest[3], longest[4:7], longest[-2:]]  # within a token, over tokens, and at the end
    for stop in [(stops[0],), (stops[1], "never written"), tuple(stops)]:
        found = one(engine.write(requests, WritingRules(NEW, stop=stop)))
        assert any(text.text != before.text for text, before in zip(found, whole, strict=True))
        for text, before in zip(found, whole, strict=True):
            short, stopped = cut(before.text, stop)
            assert text.text == short
            assert text.ended == (stopped or before.ended)
            assert text.ids == before.ids[: len(text.ids)]
            if stopped:  # no token was written behind the one that completes the stop string
                detokenizer = Detokenizer(model)
                head = detokenizer.before(requests[whole.index(before)].context)
                assert not cut(detokenizer.text(head, text.ids[:-1]), stop)[1]


def test_rows_at_a_stop_string_are_not_read_on(loaded: dict[str, LanguageModel]) -> None:
    requests = contexts(1)
    engine = Engine(loaded["llama"])
    text = one(engine.write(requests, WritingRules(NEW)))[0].text
    read = engine.tokens
    engine.write(requests, WritingRules(NEW, stop=(text[0],)))
    assert engine.tokens - read < read - NEW + 2


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_alone_is_written_in_any_company(family: str, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded[family], contexts(2)[2:]
    stop = (max((text.text for text in one(Engine(model).write(requests, WritingRules(NEW)))), key=len)[4:6],)
    for rules in (WritingRules(NEW, stop), WritingRules(NEW, stop, temperature=1.3, samples=2, seed=5)):
        alone = [Engine(model).write([request], rules)[0] for request in requests]
        for budget, share in ((1, True), (4000, False)):
            assert Engine(model, budget, share).write(requests, rules) == alone
        assert Engine(model).write(requests[::-1], rules) == alone[::-1]


def test_words_keep_the_space_before_them(loaded: dict[str, LanguageModel]) -> None:
    for family in ("llama", "t5"):
        model = loaded[family]
        detokenizer = Detokenizer(model)
        [context, whole] = model.ids(["The team", "The team won the cup"], special=False)
        assert whole[: len(context)] == context
        rest = whole[len(context) :]
        if family == "t5":
            assert detokenizer.text(detokenizer.before(context), rest) == "won the cup"  # a text of its own
            assert detokenizer.text(context, rest) == " won the cup"
        else:
            assert detokenizer.text(detokenizer.before((0, *context)), rest) == " won the cup"
            assert detokenizer.text(detokenizer.before((0, -1, -2)), rest) == " won the cup"
            assert detokenizer.text((), (0, *rest, 1)) == " won the cup"  # special tokens do not show


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("stop", ["\n", "é", "日本", "the cup", "x\n\ny", " w"])
def test_a_stop_string_is_seen_with_the_token_that_completes_it(
    family: str, stop: str, loaded: dict[str, LanguageModel]
) -> None:
    model = loaded[family]
    detokenizer = Detokenizer(model)
    [context, ids] = model.ids(["The", " team won the cup é x\n\ny 日本 Topic"], special=False)
    before = detokenizer.before(context)
    watch = StopWatch(detokenizer, before, ("not there", stop))
    at = next((n for n, token in enumerate(ids) if watch.add(token)), None)
    first = next((n for n in range(len(ids)) if stop in detokenizer.text(before, ids[: n + 1])), None)
    assert at == first
    if family == "gpt2":
        assert first is not None


def test_characters_that_never_become_whole_do_not_hold_up_the_stop_string(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["gpt2"]
    half = model.ids(["é"], special=False)[0][0]
    watch = StopWatch(Detokenizer(model), (), ("at",))
    assert not any(watch.add(half) for _ in range(30))
    assert [watch.add(token) for token in model.ids(["a"], special=False)[0]] == [False]
    assert watch.add(model.ids(["t"], special=False)[0][0])


def test_a_character_that_the_context_begins_is_completed(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["gpt2"]
    first, second = model.ids(["é"], special=False)[0]
    assert Detokenizer(model).text((first,), (second,)) == "é"


def test_the_first_of_several_stop_strings_counts() -> None:
    assert cut("one two three", ("three", "two")) == ("one ", True)
    assert cut("one two", ("four",)) == ("one two", False)
    assert cut("one", ()) == ("one", False)


def test_a_text_has_room_up_to_the_window(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    assert model.window == 160
    long, longest = Request((5,) * 155, ()), Request((5,) * 160, ())
    short, cut_off = one(Engine(model).write([contexts()[0], long], WritingRules(20)))
    assert (len(short.ids), len(cut_off.ids)) == (20, 5)
    assert not cut_off.ended
    with pytest.raises(ModelError, match=r"^A context of 160 tokens fills the 160 that the model .* Use a shorter"):
        Engine(model).write([longest], WritingRules(20))


def test_no_requests_and_no_tokens_give_nothing(loaded: dict[str, LanguageModel]) -> None:
    engine = Engine(loaded["llama"])
    assert engine.write([], WritingRules()) == []
    assert engine.write(contexts()[:1], WritingRules(tokens=0)) == [(Written("", (), False),)]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_masked_model_does_not_write(family: str, loaded: dict[str, LanguageModel]) -> None:
    with pytest.raises(ModelError, match=r"is masked; only causal and seq2seq models write\.$"):
        Engine(loaded[family]).write(contexts(), WritingRules())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_writes_nan_is_a_model_error(family: str, share: bool, model_folders: dict[str, Path]) -> None:
    model = load_model(str(model_folders[family]), device="cpu")
    for weight in model.network.parameters():
        weight.data.fill_(float("nan"))
    wording = r"returned NaN .* Such are the scores of request 0 of 8 and of 7 others\.$"
    for temperature in (0.0, 1.0):
        with pytest.raises(ModelError, match=wording):
            Engine(model, share=share).write(contexts(), WritingRules(4, temperature=temperature))


def test_only_the_request_that_is_no_number_is_named(loaded: dict[str, LanguageModel]) -> None:
    rows = np.full((1, 32), np.nan, np.float32)
    requests = [*contexts()[:3], Request((0, -1, 7), (), (), rows)]
    with torch.no_grad(), pytest.raises(ModelError, match=r"the scores of request 3 of 4\.$"):
        Engine(loaded["llama"]).write(requests, WritingRules(4))


# -- several samples -------------------------------------------------------------------------------


def test_each_sample_has_draws_of_its_own(loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded["llama"], contexts()
    rules = WritingRules(NEW, temperature=1.5, samples=3, seed=3)
    found = Engine(model).write(requests, rules)
    assert all(len(set(samples)) == 3 for samples in found)
    assert found[1] == found[7]  # the same context twice is one request
    assert [s[:1] for s in found] == Engine(model).write(requests, WritingRules(NEW, temperature=1.5, seed=3))
    assert Engine(model).write(requests, WritingRules(NEW, temperature=1.5, samples=3, seed=4)) != found
    few = Engine(model).write(requests, WritingRules(5, temperature=1.5, samples=3, seed=3))
    assert [text.ids for samples in few for text in samples] == [text.ids[:5] for s in found for text in s]


def test_greedy_samples_are_one_text_repeated(loaded: dict[str, LanguageModel]) -> None:
    engine = Engine(loaded["llama"])
    [once] = engine.write(contexts()[:1], WritingRules(NEW))
    read = engine.tokens
    assert engine.write(contexts()[:1], WritingRules(NEW, samples=3)) == [once * 3]
    assert engine.tokens == 2 * read


def test_drawn_samples_follow_the_distribution(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["gpt2"]
    request = Request((7, 8, 9), ())
    with torch.inference_mode():
        shares = (model.network(torch.tensor([request.context])).logits[0, -1] / 0.5).softmax(-1).numpy()
    [drawn] = Engine(model).write([request], WritingRules(1, temperature=0.5, samples=3000))
    found = np.bincount([text.ids[0] if text.ids else 0 for text in drawn], minlength=len(shares)) / 3000
    assert np.abs(found - shares).max() < 0.03
    assert shares.max() > 0.1  # so that the comparison says something


@pytest.mark.parametrize("share", [True, False])
def test_vectors_are_part_of_what_a_text_hangs_on(share: bool, loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    rows = [np.asarray(model.embeddings[[at, 12]] * 1.0) for at in (11, 30)]
    requests = [Request((0, -1, -2, 20), (), (), table) for table in (rows[0], rows[1], rows[0].copy())]
    plain = [Request((0, at, 12, 20), ()) for at in (11, 30)]
    found = Engine(model, share=share).write([*requests, *plain], WritingRules(NEW))
    assert [text.ids for text in one(found)][:2] == [text.ids for text in one(found)][3:]
    assert found[0] == found[2]
    drawn = Engine(model, share=share).write(requests, WritingRules(NEW, temperature=1.0))
    assert drawn[0] == drawn[2] != drawn[1]


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_what_was_written_is_not_written_again(family: str, tmp_path: Path, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded[family], contexts()
    rules = WritingRules(NEW, ("e",), temperature=1.2, samples=2, seed=1)
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        engine = Engine(model, memory=memory)
        found = engine.write(requests[:5], rules)
        first = engine.tokens
        assert engine.write(requests[:5][::-1], rules) == found[::-1]
        assert engine.tokens == first
    with ScoreMemory(tmp_path / "scores.sqlite", model.identity) as memory:
        engine = Engine(model, memory=memory)
        assert engine.write(requests[:5], rules) == found
        assert engine.tokens == 0
        more = engine.write(requests, WritingRules(NEW, ("e",), temperature=1.2, samples=3, seed=1))
        assert [texts[:2] for texts in more[:5]] == found
        assert more == Engine(model).write(requests, WritingRules(NEW, ("e",), temperature=1.2, samples=3, seed=1))


def test_other_rules_are_other_texts_to_the_memory(loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded["llama"], contexts()[:3]
    memory = ScoreMemory(None, model.identity)
    every = [
        WritingRules(6),
        WritingRules(7),
        WritingRules(6, stop=("a",)),
        WritingRules(6, temperature=1.0),
        WritingRules(6, temperature=1.0, seed=1),
        WritingRules(6, temperature=1.1),
        WritingRules(6, form=Form("regex", "[a-z]+")),
        WritingRules(6, form=Form("choices", ("[a-z]+",))),
    ]
    for at, rules in enumerate(every):
        assert Engine(model, memory=memory).write(requests, rules) == Engine(model).write(requests, rules)
        assert len(memory) == 3 * (at + 1)
    Engine(model, memory=memory).write(requests, WritingRules(6, seed=9, samples=4))  # greedy: one text
    assert len(memory) == 3 * len(every)
    scored = [Request(request.context, ((7,), (8,))) for request in requests]
    Engine(model, memory=memory).score(scored)
    assert len(memory) == 3 * len(every) + 3


def test_batches_that_were_written_before_the_work_ended_are_kept(loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded["llama"], contexts()[:6]
    memory = ScoreMemory(None, model.identity)
    engine = Engine(model, 1, memory=memory)

    class Ended(BaseException):
        pass

    def check() -> None:
        if engine.tokens > 60:
            raise Ended

    engine.check = check
    with pytest.raises(Ended, match=r"^$"):
        engine.write(requests, WritingRules(NEW))
    assert 0 < len(memory) < 6
    engine.check = lambda: None
    assert engine.write(requests, WritingRules(NEW)) == Engine(model).write(requests, WritingRules(NEW))


def test_texts_that_are_no_numbers_are_not_kept_and_the_others_are(loaded: dict[str, LanguageModel]) -> None:
    model = loaded["llama"]
    memory = ScoreMemory(None, model.identity)
    requests = [*contexts()[:3], Request((0, -1, 7), (), (), np.full((1, 32), np.nan, np.float32))]
    with pytest.raises(ModelError, match=r"the scores of request 3 of 4\.$"):
        Engine(model, memory=memory).write(requests, WritingRules(4))
    assert len(memory) == 3


# -- forms -----------------------------------------------------------------------------------------

OBJECT = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 23]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
NUMBERS = r" ?[0-9]{1,3}(\.[0-9])?"
# a form, and all texts that match it
FINITE: dict[str, tuple[Form, list[str]]] = {
    "regex": (Form("regex", " ?[ab]{1,2}[0-2]"), [
        space + letters + digit for space in ("", " ") for digit in "012"
        for letters in ("a", "b", "aa", "ab", "ba", "bb")]),
    "choices": (Form("choices", (" sports", " sport", "money (a/b)", " The match.")),
                [" sports", " sport", "money (a/b)", " The match."]),
    "json": (Form("json", json.dumps(OBJECT)),
             [f'{{"ok": {ok}, "n": {n}}}' for ok in ("true", "false") for n in (1, 23)]),
}  # fmt: skip


@torch.inference_mode()
def constrained(model: LanguageModel, request: Request, matching: Sequence[str], new_tokens: int) -> tuple[str, bool]:
    """Greedy writing where each token is the likeliest with which a matching text is still possible: by trying all."""
    detokenizer = Detokenizer(model)
    before = detokenizer.before(request.context)
    end = model.network.generation_config.eos_token_id
    ids: list[int] = []
    text = ""
    for _ in range(new_tokens):
        if model.family == "causal":
            logits = model.network(torch.tensor([[*request.context, *ids]])).logits[0, -1]
        else:
            read = torch.tensor([request.context])
            logits = model.network(input_ids=read, decoder_input_ids=torch.tensor([[0, *ids]])).logits[0, -1]
        for token in logits.argsort(descending=True).tolist():
            if token == end and text in matching:
                return text, True
            if token == end or token in detokenizer.specials or token >= len(model.tokenizer):
                continue
            longer = detokenizer.text(before, (*ids, token))
            silent = longer == text and not (ids == [] and model.tokenizer.convert_ids_to_tokens(token) == "▁")
            if not silent and any(match.startswith(longer) for match in matching):
                ids.append(token)
                text = longer
                break
        else:
            return text, False
        if text in matching and not any(match != text and match.startswith(text) for match in matching):
            return text, True
    return text, False


@pytest.mark.parametrize(
    ("family", "kind"),
    # the tokenizer of the T5 has no braces
    [
        (family, kind)
        for family in ("llama", "gpt2", "marked", "t5")
        for kind in FINITE
        if (family, kind) != ("t5", "json")
    ],
)
def test_texts_of_a_form_are_those_found_by_trying_all_tokens(
    family: str, kind: str, loaded: dict[str, LanguageModel]
) -> None:
    form, matching = FINITE[kind]
    if family == "t5":
        matching = [match for match in matching if "(" not in match]
        form = Form("choices", tuple(matching)) if kind == "choices" else form
    model, requests = loaded[family], contexts(3)[:4]
    for new_tokens in (30, 3):
        expected = [constrained(model, request, matching, new_tokens) for request in requests]
        for share in (True, False):
            found = one(Engine(model, share=share).write(requests, WritingRules(new_tokens, form=form)))
            assert [(text.text, text.ended) for text in found] == expected
            if new_tokens == 30 and family != "t5":
                assert all(text.ended and text.text in matching for text in found)


@pytest.mark.parametrize("family", ["llama", "marked", "t5"])
def test_drawn_numbers_match_and_what_ran_out_of_tokens_says_so(family: str, loaded: dict[str, LanguageModel]) -> None:
    model, requests = loaded[family], contexts(4)[:4]
    rules = WritingRules(20, temperature=2.0, samples=6, form=Form("regex", NUMBERS))
    found = Engine(model).write(requests, rules)
    texts = [text for samples in found for text in samples]
    assert len({text.text for text in texts}) > 10
    for text in texts:
        assert text.ended
        assert re.fullmatch(NUMBERS, text.text)
    assert Engine(model, 1, share=False).write(requests[::-1], rules) == found[::-1]
    short = Engine(model).write(requests, WritingRules(1, form=Form("regex", "[0-9]{3,}")))
    assert {text.ended for [text] in short} == {False}


@pytest.mark.parametrize("family", ["llama", "marked"])
def test_drawn_json_is_json_of_the_schema(family: str, loaded: dict[str, LanguageModel]) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 4},
            "parts": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
        },
        "required": ["name", "parts"],
        "additionalProperties": False,
    }
    rules = WritingRules(100, temperature=1.0, samples=4, form=Form("json", json.dumps(schema)))
    ended = 0
    for samples in Engine(loaded[family]).write(contexts(5)[:3], rules):
        for text in samples:
            if text.ended:
                ended += 1
                value = json.loads(text.text)
                assert text.text.startswith('{"name": "')
                assert list(value) == ["name", "parts"]
                assert len(value["name"]) <= 4
                assert all(isinstance(part, int) for part in value["parts"])
    assert ended > 6


def test_characters_of_several_tokens_are_written(loaded: dict[str, LanguageModel]) -> None:
    for family in ("llama", "marked"):
        form = Form("choices", (" naïve", " 日本", '\n"é"'))
        found = Engine(loaded[family]).write(contexts(6), WritingRules(30, temperature=2.0, samples=3, form=form))
        assert {text.text for samples in found for text in samples} == set(form.what)


def test_a_stop_string_ends_a_form_before_it_is_complete(loaded: dict[str, LanguageModel]) -> None:
    [[text]] = Engine(loaded["llama"]).write(contexts()[:1], WritingRules(30, (": t", ": f"), form=FINITE["json"][0]))
    assert (text.text, text.ended) == ('{"ok"', True)


def test_a_form_that_the_tokens_cannot_begin_is_a_model_error(loaded: dict[str, LanguageModel]) -> None:
    with pytest.raises(ModelError, match=r"^The tokens of the model .* cannot begin a text of the form json .*\. Use"):
        Engine(loaded["t5"]).write(contexts(), WritingRules(form=FINITE["json"][0]))


@pytest.mark.parametrize(
    ("kind", "what", "wording"),
    [
        ("regex", "(a", r"regex '\(a': .*unclosed group"),
        ("regex", "(?=a)b", r"look-around, including look-ahead and look-behind, is not supported"),
        ("json", "{no", r"what: no JSON \(Expecting property name"),
        ("json", '{"type": "nothing"}', r"Invalid type: nothing"),
        ("json", '{"type": "array", "uniqueItems": true}', r"Unimplemented keys: \[\"uniqueItems\"\]"),
        ("json", "true", r"what: true; a JSON schema is an object"),
        ("json", ("{}",), r"what: \('\{\}',\); a json form is one text"),
        ("choices", (), r"what: \(\); choices are a tuple of texts, at least one, none empty"),
        ("choices", ("a", ""), r"none empty$"),
        ("choices", "ab", r"what: 'ab'; choices are a tuple of texts"),
        ("regexp", "a", r"kind: 'regexp'; allowed are regex, json, choices\. Did you mean 'regex'\?"),
    ],
)
def test_a_form_that_is_not_understood_is_a_config_error(
    kind: Any, what: Any, wording: str, loaded: dict[str, LanguageModel]
) -> None:
    engine = Engine(loaded["llama"])
    with pytest.raises(ConfigError, match=rf"^The form of the texts has 1 problem:\n  - .*{wording}"):
        engine.write(contexts(), WritingRules(form=Form(kind, what)))
    assert engine.tokens == 0


def test_a_schema_cannot_bring_in_other_grammars(loaded: dict[str, LanguageModel]) -> None:
    hostile = '{"type": "boolean"}}, {"lark_grammar": "start: /a/"'
    with pytest.raises(ConfigError, match=r"what: no JSON \(Extra data"):
        Engine(loaded["llama"]).write(contexts(), WritingRules(form=Form("json", hostile)))


def test_without_the_package_for_forms_the_error_says_how_to_get_it(
    loaded: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    engine = Engine(loaded["llama"])
    assert len(engine.write(contexts(), WritingRules(3))) == 8
    with pytest.raises(ModelError, match=r'need one more package: pip install "autoprompt-search\[forms\]"\.$'):
        engine.write(contexts(), WritingRules(form=Form("regex", "a")))


def test_all_rules_that_are_not_allowed_are_named_at_once() -> None:
    wording = (
        r"^The rules for writing has 4 problems:\n  - tokens: -1; .*\n  - stop: \('',\); .*\n"
        r"  - temperature: nan; .*\n  - samples: 0; allowed is 1 or more$"
    )
    with pytest.raises(ConfigError, match=wording):
        WritingRules(-1, ("",), float("nan"), 0)
