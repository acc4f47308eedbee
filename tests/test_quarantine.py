"""quarantine.py, and damaged model files: what cannot be scored is found, named and left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autoprompt.data import Example
from autoprompt.engine import ScoreMemory
from autoprompt.errors import Halted, ModelError, StudyError
from autoprompt.metrics import Metric
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import Encoding, LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.quarantine import Quarantined, examine
from autoprompt.scorer import Scorer, preview

TEMPLATE = "{{ text }}\nTopic: {{ label }}"
WORDS = {"sports": "sports", "money": "money", "weather": "weather"}
PROMPT = Prompt(TEMPLATE, WORDS)
NO_NUMBERS = "the model returns NaN or infinity (float32)"


def changed(folder: Path, place: Path, **files: bytes) -> Path:
    """A copy of a model's folder; files, by name with _ for the dot, are written anew."""
    shutil.copytree(folder, place)
    for name, content in files.items():
        (place / name.replace("_json", ".json").replace("_safetensors", ".safetensors")).write_bytes(content)
    return place


@pytest.fixture
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows)]


@pytest.fixture
def broken(llama_folder: Path, tmp_path: Path) -> LanguageModel:
    """A model without numbers for one token: the "Q" that no example has."""
    model = load_model(str(llama_folder), device="cpu")
    [[token]] = model.ids(["Q"], special=False)
    weights = load_file(llama_folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = torch.nan
    folder = changed(llama_folder, tmp_path / "broken")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return load_model(str(folder), device="cpu")


def with_texts(examples: Sequence[Example], texts: dict[int, str]) -> list[Example]:
    return [Example(e.number, {"text": texts.get(at, e.fields["text"])}, e.label) for at, e in enumerate(examples)]


class Counted(Scorer):
    """A scorer that counts its grids."""

    grids = 0

    def unscored(self, prompt: Prompt, examples: Sequence[Example]) -> list[int]:
        self.grids += 1
        return super().unscored(prompt, examples)


# -- nothing is wrong ---------------------------------------------------------------------------


def test_examples_that_can_be_scored_are_all_kept_in_one_grid(llama_folder: Path, examples: list[Example]) -> None:
    scorer = Counted(load_model(str(llama_folder), device="cpu"), accuracy)
    assert examine(scorer, PROMPT, examples) == (examples, [])
    assert scorer.grids == 1
    assert examine(scorer, PROMPT, []) == ([], [])


def test_what_was_examined_is_not_scored_again(broken: LanguageModel, examples: list[Example], tmp_path: Path) -> None:
    given = with_texts(examples, {7: "Q", 30: "No Q."})
    with ScoreMemory(tmp_path / "scores.db", broken.identity) as memory:
        scorer = Scorer(broken, accuracy, memory=memory)
        kept, out = examine(scorer, PROMPT, given)
        assert len(out) == 2
        before = scorer.tokens
        scorer.score([PROMPT], kept)
        assert scorer.tokens == before
    with ScoreMemory(tmp_path / "scores.db", broken.identity) as memory:
        another = Scorer(broken, accuracy, memory=memory)
        another.score([PROMPT], kept)
        assert another.tokens == 0


def test_no_metric_is_asked(llama_folder: Path, examples: list[Example]) -> None:
    metric = Metric("never", lambda targets: 1 / 0)
    scorer = Scorer(load_model(str(llama_folder), device="cpu"), metric)
    assert examine(scorer, PROMPT, examples)[1] == []


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.fault("NaN or inf on some examples")
def test_examples_without_numbers_are_left_out_with_their_reason(
    broken: LanguageModel, examples: list[Example]
) -> None:
    given = with_texts(examples, {3: "A Q in it.", 59: "Q"})
    kept, out = examine(Scorer(broken, accuracy), PROMPT, given)
    assert out == [Quarantined(3, "A Q in it.", NO_NUMBERS), Quarantined(59, "Q", NO_NUMBERS)]
    assert kept == [example for example in given if example.number not in {3, 59}]


def test_what_is_left_out_changes_no_score_of_the_others(broken: LanguageModel, examples: list[Example]) -> None:
    given = with_texts(examples, {3: "A Q in it.", 59: "Q"})
    scorer = Scorer(broken, accuracy)
    kept, _ = examine(scorer, PROMPT, given)
    [found] = scorer.log_likelihoods([PROMPT], kept)
    [expected] = Scorer(broken, accuracy).log_likelihoods([PROMPT], kept)
    assert np.abs(found - expected).max() <= 1e-4


def test_a_prompt_that_fails_on_an_example_says_on_which(broken: LanguageModel, examples: list[Example]) -> None:
    scorer = Scorer(broken, accuracy)
    given = with_texts(examples, {9: "\x1bA Q\n" + "and so on " * 20})
    with pytest.raises(
        ModelError,
        match=r"Such are the scores of example 9 \('.A Q and so on and so on and so on .*\.\.\.'\)\.$",
    ):
        scorer.score([PROMPT], given)
    worse = Prompt("Q {{ text }}\nTopic: {{ label }}", WORDS)
    with pytest.raises(
        ModelError, match=r"Such are the scores of example 0 \('The match ended two to one\.'\) and of 59 others\.$"
    ):
        scorer.score([PROMPT, worse], examples)
    assert 0 <= scorer.score([PROMPT], examples)[0].value <= 1


def test_an_input_without_content_is_named_as_such(broken: LanguageModel, examples: list[Example]) -> None:
    calibrated = Prompt(
        "{{ text }}{% if text == '[MASK]' %}Q{% endif %}\nTopic: {{ label }}", WORDS, calibration="content_free"
    )
    with pytest.raises(ModelError, match=r"scores of the input without content \('\[MASK\]'\)\.$"):
        Scorer(broken, accuracy).unscored(calibrated, examples)
    with pytest.raises(StudyError, match=r"(?s)^At least 4 of the 60 .*ModelError: The model .*returned NaN"):
        examine(Scorer(broken, accuracy), calibrated, examples)


# -- texts --------------------------------------------------------------------------------------


@pytest.mark.fault("example that cannot be shown")
def test_examples_that_the_template_cannot_show_are_left_out(llama_folder: Path, examples: list[Example]) -> None:
    prompt = Prompt("{{ text }} {{ 10 // (text | length - 4) }}\nTopic: {{ label }}", WORDS)
    scorer = Counted(load_model(str(llama_folder), device="cpu"), accuracy)
    kept, out = examine(scorer, prompt, with_texts(examples, {17: "four"}))
    [found] = out
    assert (found.number, found.preview) == (17, "four")
    assert found.reason.startswith("PromptError: The template '{{ text }} {{ 10 // (text | length - 4) }}")
    assert len(kept) == 59
    assert scorer.grids <= 2 * 6 + 1  # halves of 60, down to one


@pytest.fixture
def strict(llama_folder: Path, examples: list[Example], tmp_path: Path) -> LanguageModel:
    """A model whose tokenizer raises on words that it does not know, as some do that have no unknown token."""
    texts = [e.fields["text"] for e in examples] + ["\nTopic: sports money weather a N/A [MASK]"]
    words = sorted({w for text in texts for w, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)})
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1} | {w: n + 2 for n, w in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = changed(llama_folder, tmp_path / "strict")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return load_model(str(folder), device="cpu")


@pytest.mark.fault("tokenizer that fails on a text")
def test_examples_on_which_the_tokenizer_raises_are_left_out(strict: LanguageModel, examples: list[Example]) -> None:
    given = with_texts(examples, {0: "An xylophone.", 31: "xylophones"})
    with pytest.raises(Exception, match="Missing \\[UNK\\] token"):
        Scorer(strict, accuracy).score([PROMPT], given)
    kept, out = examine(Scorer(strict, accuracy), PROMPT, given)
    assert [found.number for found in out] == [0, 31]
    assert "Missing [UNK] token from the vocabulary" in out[0].reason
    assert len(kept) == 58


class PanicException(BaseException):
    """What a tokenizer in Rust raises when it panics: no Exception."""


@pytest.mark.fault("tokenizer that fails on a text")
def test_a_tokenizer_that_panics_is_an_error_of_one_example(
    llama_folder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(llama_folder), device="cpu")
    encode = type(model).encode_shown

    def panics(self: LanguageModel, shown: Sequence[Any], vectors: int) -> list[Encoding]:
        if any("boom" in s.context for s in shown):
            raise PanicException("byte index 1 is not a char boundary")
        return encode(self, shown, vectors)

    monkeypatch.setattr(type(model), "encode_shown", panics)
    _, out = examine(Scorer(model, accuracy), PROMPT, with_texts(examples, {5: "boom"}))
    [found] = out
    assert found.number == 5
    assert found.reason.endswith("broke on a text: byte index 1 is not a char boundary.")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Halted])
def test_what_ends_a_run_ends_an_examination(
    kind: type[BaseException], llama_folder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(load_model(str(llama_folder), device="cpu"), accuracy)

    def halted(*given: Any) -> None:
        raise kind("enough")

    monkeypatch.setattr(scorer.engine, "attempt", halted)
    with pytest.raises(kind, match="enough"):
        examine(scorer, PROMPT, examples)


@pytest.mark.fault("NaN or inf on some examples")
def test_all_kinds_of_trouble_are_found_together(broken: LanguageModel, examples: list[Example]) -> None:
    prompt = Prompt("{{ text }} {{ 10 // (text | length - 4) }}\nTopic: {{ label }}", WORDS)
    given = with_texts(examples, {0: "four", 1: "five", 30: "A Q here.", 58: "four", 59: "Q there."})
    kept, out = examine(Scorer(broken, accuracy), prompt, given, most=0.1)
    assert [found.number for found in out] == [0, 1, 30, 58, 59]
    assert [found.reason.split(":")[0] for found in out] == ["PromptError"] * 2 + [
        NO_NUMBERS,
        "PromptError",
        NO_NUMBERS,
    ]
    assert [example.number for example in kept] == [n for n in range(60) if n not in {0, 1, 30, 58, 59}]


@pytest.mark.fault("out of memory")
def test_an_example_too_long_for_memory_is_left_out(
    llama_folder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(llama_folder), device="cpu")

    def look(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].numel() > 150:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.network.get_input_embeddings().register_forward_pre_hook(look)
    kept, out = examine(Scorer(model, accuracy), PROMPT, with_texts(examples, {8: "long " * 40}))
    [found] = out
    assert found.number == 8
    assert found.reason.startswith("ModelError: One request of 160 tokens does not fit into the memory of cpu.")
    assert len(kept) == 59


# -- too many -----------------------------------------------------------------------------------


def test_more_than_a_share_of_a_split_is_an_error_with_the_first_reasons(
    broken: LanguageModel, examples: list[Example]
) -> None:
    given = with_texts(examples, {at: f"Q{at}" for at in (1, 5, 9, 20)})
    with pytest.raises(StudyError, match=r"^4 of the 60 examples of train cannot be scored with your own") as caught:
        examine(Scorer(broken, accuracy), PROMPT, given, "train")
    assert str(caught.value).splitlines() == [
        "4 of the 60 examples of train cannot be scored with your own prompt; 3 may be left out. "
        "Mend the data, the prompt or the [model]:",
        f"  - example 1 ('Q1'): {NO_NUMBERS}",
        f"  - example 5 ('Q5'): {NO_NUMBERS}",
        f"  - example 9 ('Q9'): {NO_NUMBERS}",
        "  - and 1 more",
    ]
    assert len(examine(Scorer(broken, accuracy), PROMPT, given, most=0.07)[1]) == 4


def test_a_prompt_that_can_show_nothing_is_told_before_all_is_tried(
    llama_folder: Path, examples: list[Example]
) -> None:
    scorer = Counted(load_model(str(llama_folder), device="cpu"), accuracy)
    prompt = Prompt("{{ text }} {{ 1 // 0 * text | length }}\nTopic: {{ label }}", WORDS)
    with pytest.raises(
        StudyError,
        match=r"^At least 4 of the 60 examples of dev .*\n  - example 0 \('The match ended two to one\.'\): Pro",
    ):
        examine(scorer, prompt, examples)
    assert scorer.grids < 20


def test_no_share_allows_none(broken: LanguageModel, examples: list[Example]) -> None:
    with pytest.raises(StudyError, match=r"^1 of the 60 examples of dev cannot be scored .*; 0 may be left out"):
        examine(Scorer(broken, accuracy), PROMPT, with_texts(examples, {2: "Q"}), most=0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": "short"}, "short"),
        ({"a": "one\n two", "b": "three"}, "one two / three"),
        ({"a": "x" * 61}, "x" * 57 + "..."),
        ({"a": "x" * 60}, "x" * 60),
        ({"a": "\x1b[31m\ud800"}, "\ufffd[31m\ufffd"),
        ({"a": ""}, ""),
    ],
)
def test_an_example_is_shown_on_one_short_line(fields: dict[str, str], expected: str) -> None:
    assert preview(fields) == expected


# -- damaged model files ------------------------------------------------------------------------

CUTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "weights cut in the middle": ("model.safetensors", lambda b: b[: len(b) // 2]),
    "weights one byte short": ("model.safetensors", lambda b: b[:-1]),
    "weights one byte long": ("model.safetensors", lambda b: b + b"x"),
    "weights cut in their header": ("model.safetensors", lambda b: b[:100]),
    "weights cut in the length of their header": ("model.safetensors", lambda b: b[:5]),
    "weights of no bytes": ("model.safetensors", lambda b: b""),
    "weights with a header that is no JSON": ("model.safetensors", lambda b: b[:8] + b"[" + b[9:]),
    "weights with a length beyond all files": ("model.safetensors", lambda b: b"\xff" * 8 + b[8:]),
    "a config cut in the middle": ("config.json", lambda b: b[: len(b) // 2]),
    "a config of no bytes": ("config.json", lambda b: b""),
    "a config that is no text": ("config.json", lambda b: b"\xff\xfe" + b),
    "a tokenizer cut in the middle": ("tokenizer.json", lambda b: b[: len(b) // 2]),
    "a tokenizer of no bytes": ("tokenizer.json", lambda b: b""),
    "settings of the tokenizer cut in the middle": ("tokenizer_config.json", lambda b: b[: len(b) // 2]),
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.fault("damaged or truncated model file")
def test_a_damaged_file_of_a_model_is_named(kind: str, llama_folder: Path, tmp_path: Path) -> None:
    name, cut = CUTS[kind]
    folder = changed(llama_folder, tmp_path / "model")
    (folder / name).write_bytes(cut((folder / name).read_bytes()))
    with pytest.raises(ModelError, match=rf"^The model '.*' cannot be loaded: its file {name} ") as caught:
        load_model(str(folder), device="cpu")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.fault("damaged or truncated model file")
def test_a_damaged_part_of_weights_in_several_files_is_named(llama_folder: Path, tmp_path: Path) -> None:
    folder = changed(llama_folder, tmp_path / "model")
    weights = sorted(load_file(folder / "model.safetensors").items())
    halves = {"model-00001-of-00002.safetensors": weights[:9], "model-00002-of-00002.safetensors": weights[9:]}
    for name, part in halves.items():
        save_file(dict(part), folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: name for name, part in halves.items() for key, _ in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert load_model(str(folder), device="cpu").family == "causal"
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"its file model-00002-of-00002\.safetensors ends after \d+ of \d+ bytes"):
        load_model(str(folder), device="cpu")
