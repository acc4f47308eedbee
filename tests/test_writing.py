"""Engine.write: texts by rules, each a function of the model, the request and the rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprompt.engine import Engine, Request, WritingRules, Written
from autoprompt.engine.continuation import Detokenizer, StopWatch, cut
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel, load_model

NEW = 12
FAMILIES = ["llama", "gpt2", "t5"]


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


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
    for stop in [(stops[0],), (stops[1],), tuple(stops), (stops[2], "never written")]:
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
    model, requests = loaded[family], contexts(2)
    stop = (one(Engine(model).write(requests, WritingRules(NEW)))[2].text[4:6],)
    for rules in (WritingRules(NEW, stop), WritingRules(NEW, stop, temperature=1.3, samples=2, seed=5)):
        alone = [Engine(model).write([request], rules)[0] for request in requests]
        for budget, share in ((1, True), (50, True), (4000, True), (4000, False)):
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
