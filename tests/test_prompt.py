"""prompt.py: what a prompt renders, what it refuses, and that it comes back from its files unchanged."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.demonstrations import Demonstration
from autoprompt.errors import ExportError, PromptError
from autoprompt.prompt import VECTORS_FILE, Position, Prompt, Rendered, SoftPart, check_template

TEMPLATE = "{{ text }}\nSentiment: {{ label }}"
WORDS = {"pos": "good", "neg": "bad"}
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)
SHOWN = Demonstration({"text": "Great."}, "pos")


def write(prompt: Prompt, folder: Path) -> Path:
    """An export's two files, as `export` writes them."""
    (folder / "prompt.json").write_text(json.dumps(prompt.to_dict()), encoding="utf-8")
    if (vectors := prompt.vector_bytes()) is not None:
        (folder / VECTORS_FILE).write_bytes(vectors)
    return folder


# -- rendering -------------------------------------------------------------------------------


def test_the_space_before_the_answer_belongs_to_the_answers() -> None:
    shown = Prompt(TEMPLATE, WORDS).render({"text": "Loved it."})
    assert shown == Rendered("Loved it.\nSentiment:", (" good", " bad"), "", None)


def test_every_trailing_space_moves_to_the_answers() -> None:
    shown = Prompt("{{ text }} =>   {{ label }}", WORDS).render({"text": "x"})
    assert (shown.context, shown.answers) == ("x =>", ("   good", "   bad"))


def test_a_line_break_before_the_answer_stays_in_the_context() -> None:
    shown = Prompt("{{ text }}\n{{ label }}", WORDS).render({"text": "x"})
    assert (shown.context, shown.answers) == ("x\n", ("good", "bad"))


def test_spaces_at_the_end_of_an_empty_context_move_to_the_answers() -> None:
    shown = Prompt("{{ text }} {{ label }}", WORDS).render({"text": "  "})
    assert (shown.context, shown.answers) == ("", ("   good", "   bad"))


def test_what_follows_the_answer_is_the_tail() -> None:
    shown = Prompt("{{ text }} It was {{ label }}.\n", WORDS).render({"text": "x"})
    assert (shown.context, shown.tail) == ("x It was", ".\n")


def test_answers_keep_the_order_of_the_label_words() -> None:
    assert Prompt(TEMPLATE, {"neg": "bad", "pos": "good"}).render({"text": "x"}).answers == (" bad", " good")


def test_the_instruction_stands_once_in_front_of_all_blocks() -> None:
    shown = Prompt(TEMPLATE, WORDS, "Good or bad?", (SHOWN,)).render({"text": "Meh."})
    assert shown.context == "Good or bad?\n\nGreat.\nSentiment: good\n\nMeh.\nSentiment:"


def test_a_template_that_names_the_instruction_shows_it_in_every_block() -> None:
    prompt = Prompt("{{ instruction }} {{ text }}: {{ label }}", WORDS, "Rate", (SHOWN,))
    assert prompt.render({"text": "Meh."}).context == "Rate Great.: good\n\nRate Meh.:"


def test_an_empty_instruction_leaves_no_separator() -> None:
    assert Prompt(TEMPLATE, WORDS).render({"text": "x"}).context == "x\nSentiment:"


def test_demonstrations_show_the_label_word_and_the_tail() -> None:
    prompt = Prompt("{{ text }} was {{ label }}!", WORDS, demonstrations=(SHOWN, Demonstration({"text": "No"}, "neg")))
    assert prompt.render({"text": "So"}).context == "Great. was good!\n\nNo was bad!\n\nSo was"


def test_the_separator_stands_between_all_parts() -> None:
    prompt = Prompt("{{ text }}={{ label }}", WORDS, "I", (SHOWN,), separator=" | ")
    assert prompt.render({"text": "x"}).context == "I | Great.=good | x="


def test_a_template_may_branch_on_its_fields() -> None:
    prompt = Prompt("{% if title %}{{ title }}: {% endif %}{{ text }}={{ label }}", WORDS)
    assert prompt.render({"title": "", "text": "x"}).context == "x="
    assert prompt.render({"title": "T", "text": "x"}).context == "T: x="


@pytest.mark.parametrize(
    ("position", "before"),
    [("start", ""), ("example", "I\n\nGreat.\nSentiment: good\n\n"), ("answer", None)],
)
def test_soft_vectors_stand_at_their_position(position: Position, before: str | None) -> None:
    prompt = Prompt(TEMPLATE, WORDS, "I", (SHOWN,), soft=SoftPart(VECTORS, position))
    shown = prompt.render({"text": "x"})
    assert shown.slot is not None
    assert shown.context[: shown.slot] == (shown.context if before is None else before)
    assert shown.context == dataclasses.replace(prompt, soft=None).render({"text": "x"}).context


@pytest.mark.parametrize("position", ["start", "example", "answer"])
def test_a_slot_never_stands_behind_the_context(position: Position) -> None:
    prompt = Prompt("{{ text }} {{ label }}", WORDS, "I", separator="  ", soft=SoftPart(VECTORS, position))
    shown = prompt.render({"text": ""})
    assert shown.context == "I"
    assert shown.slot is not None
    assert 0 <= shown.slot <= len(shown.context)


def test_a_prompt_without_vectors_has_no_slot() -> None:
    assert Prompt(TEMPLATE, WORDS).render({"text": "x"}).slot is None
    assert Prompt(TEMPLATE, WORDS).kind == "discrete"
    assert Prompt(TEMPLATE, WORDS, soft=SoftPart(VECTORS)).kind == "soft"


def test_content_free_inputs_fill_every_input_field() -> None:
    found = Prompt("{{ a }}{{ b }}{{ instruction }}{{ label }}", WORDS).content_free()
    assert found == [{"a": text, "b": text} for text in ("N/A", "", "[MASK]")]


def test_the_placeholder_text_shows_fields_label_and_vectors() -> None:
    prompt = Prompt("{{ text }} is {{ label }}.", WORDS, "I", soft=SoftPart(VECTORS, "example"))
    assert prompt.placeholder_text() == "I\n\n<3 soft vectors>{text} is {label}."


# -- texts stay text -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["{{ label }}", "{% for x in y %}", "{# no #}", "{{ ''.__class__.__mro__ }}", "{{", "%}", "{}", "%s"]
)
def test_jinja_in_a_text_stays_text(text: str) -> None:
    shown = Prompt(TEMPLATE, WORDS, demonstrations=(Demonstration({"text": text}, "pos"),)).render({"text": text})
    assert shown.context == f"{text}\nSentiment: good\n\n{text}\nSentiment:"


def test_jinja_in_an_instruction_stays_text() -> None:
    assert Prompt(TEMPLATE, WORDS, "{{ text }}").render({"text": "x"}).context.startswith("{{ text }}\n\nx")


def test_jinja_in_a_label_word_stays_text() -> None:
    assert Prompt(TEMPLATE, {"a": "{{ a }}", "b": "b"}).render({"text": "x"}).answers == (" {{ a }}", " b")


@pytest.mark.parametrize("mark", ["\ue0a1", "\ue0a2"])
def test_the_private_characters_in_a_text_do_not_move_the_answer(mark: str) -> None:
    shown = Prompt(TEMPLATE, WORDS).render({"text": f"a{mark}b{mark}"})
    assert shown == Rendered("a\ufffdb\ufffd\nSentiment:", (" good", " bad"), "", None)


@pytest.mark.parametrize("template", [TEMPLATE, "{{ instruction }}\n" + TEMPLATE])
def test_the_private_characters_in_an_instruction_do_not_move_the_answer(template: str) -> None:
    shown = Prompt(template, WORDS, "Rate\ue0a1 it").render({"text": "x"})
    assert shown.context.startswith("Rate")
    assert shown.context.endswith("x\nSentiment:")
    assert shown.answers == (" good", " bad")


@settings(max_examples=80, deadline=None)
@given(text=st.text(), instruction=st.text())
def test_any_text_is_shown_as_it_is(text: str, instruction: str) -> None:
    shown = Prompt("<{{ text }}>{{ label }}", WORDS, instruction).render({"text": text})
    clean = text.replace("\ue0a1", "\ufffd").replace("\ue0a2", "\ufffd")
    assert shown.context == (instruction + "\n\n" if instruction else "") + f"<{clean}>"
    assert (shown.answers, shown.tail) == (("good", "bad"), "")


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{{ text ", "{% if text %}{{ label }}", "{{ text | nofilter }}", "{% x %}"])
def test_a_template_that_is_no_jinja_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match=r"^The template '.*' is not valid Jinja: .*\.$"):
        Prompt(template, WORDS)


def test_a_long_template_is_cut_in_the_error() -> None:
    with pytest.raises(PromptError, match=r"^The template 'x{77}\.\.\.' is not valid Jinja"):
        Prompt("x" * 200 + "{{", WORDS)


def test_an_unknown_field_is_refused_with_what_is_allowed() -> None:
    wording = r"^The template '.*' names \{\{ txt \}\}; allowed are instruction, label, text\.$"
    with pytest.raises(PromptError, match=wording):
        check_template("{{ txt }} {{ label }}", ["text"])


def test_a_template_without_a_label_is_refused() -> None:
    with pytest.raises(PromptError, match=r"^The template '.*' has no \{\{ label \}\}: the answer has no place\.$"):
        check_template("{{ text }}", ["text"])


def test_a_template_without_an_input_field_is_refused() -> None:
    wording = r"^The template '\{\{ label \}\}' shows no input field; it needs one of title, text\.$"
    with pytest.raises(PromptError, match=wording):
        check_template("{{ label }}", ["title", "text"])


@pytest.mark.parametrize("template", ["{{ text }}{{ label }}{{ label }}", "{{ text }}{% if 0 %}{{ label }}{% endif %}"])
def test_a_label_that_is_not_shown_exactly_once_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match=r"^The template '.*' must show \{\{ label \}\} exactly once\.$"):
        check_template(template, ["text"])


def test_a_good_template_passes_the_check() -> None:
    assert check_template("{{ instruction }}{{ text }}{{ label }}", ["text", "title"]) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "escape",
    [
        "''.__class__.__mro__",
        "text.__class__",
        "label.__init__.__globals__",
        "cycler.__init__.__globals__",
        "text['__class__']",
        "text|attr('__class__')",
        "'{0.__class__}'.format(text)",
    ],
)
def test_a_template_cannot_leave_the_sandbox(escape: str) -> None:
    prompt = Prompt("{{ " + escape + " }}{{ text }}{{ label }}", WORDS)
    with pytest.raises(PromptError, match=r"cannot be rendered: access to attribute '__\w+__' of"):
        prompt.render({"text": "x"})


def test_an_unsafe_attribute_is_named_in_the_error() -> None:
    with pytest.raises(PromptError, match=r"^The template .* cannot be rendered: access to attribute '__class__' of"):
        Prompt("{{ ''.__class__.__mro__ }}{{ text }}{{ label }}", WORDS).render({"text": "x"})


def test_a_template_without_end_is_refused() -> None:
    with pytest.raises(PromptError, match=r"cannot be rendered: Range too big"):
        Prompt("{% for i in range(10**9) %}x{% endfor %}{{ text }}{{ label }}", WORDS).render({"text": "x"})


@pytest.mark.parametrize("broken", ["1 / 0", "text + 1", "text.index('z')", "'{}'.format()", "'{a}'.format(b=1)"])
def test_a_template_that_fails_on_an_example_is_a_prompt_error(broken: str) -> None:
    with pytest.raises(PromptError, match=r"^The template .* cannot be rendered: .*\.$"):
        Prompt("{{ " + broken + " }}{{ text }}{{ label }}", WORDS).render({"text": "x"})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PromptError, match=r"cannot be rendered: 'text' is undefined\.$"):
        Prompt(TEMPLATE, WORDS).render({"title": "x"})


def test_two_labels_cannot_share_a_word() -> None:
    with pytest.raises(PromptError, match=r"^The labels 'pos' and 'neg' share the label word 'good'\.$"):
        Prompt(TEMPLATE, {"pos": "good", "neg": "good"})


@pytest.mark.parametrize("word", ["", " ", "\n\t"])
def test_a_label_word_cannot_be_empty(word: str) -> None:
    with pytest.raises(PromptError, match=r"^The label word of 'neg' is empty\.$"):
        Prompt(TEMPLATE, {"pos": "good", "neg": word})


def test_one_label_word_is_not_enough() -> None:
    with pytest.raises(PromptError, match=r"^A prompt needs at least two label words; it has \{'pos': 'good'\}\.$"):
        Prompt(TEMPLATE, {"pos": "good"})


def test_the_label_of_a_demonstration_needs_a_word() -> None:
    with pytest.raises(PromptError, match=r"^A demonstration has the label 'mixed', which has no label word\.$"):
        Prompt(TEMPLATE, WORDS, demonstrations=(Demonstration({"text": "x"}, "mixed"),))


# -- identity and files ----------------------------------------------------------------------

CHANGES: dict[str, Callable[[Prompt], Prompt]] = {
    "template": lambda p: dataclasses.replace(p, template="{{ text }} {{ label }}"),
    "instruction": lambda p: dataclasses.replace(p, instruction="Other."),
    "demonstration": lambda p: dataclasses.replace(p, demonstrations=()),
    "demonstration order": lambda p: dataclasses.replace(p, demonstrations=p.demonstrations[::-1]),
    "demonstration label": lambda p: dataclasses.replace(
        p, demonstrations=(dataclasses.replace(p.demonstrations[0], label="neg"), *p.demonstrations[1:])
    ),
    "label word": lambda p: dataclasses.replace(p, label_words={"pos": "great", "neg": "bad"}),
    "calibration": lambda p: dataclasses.replace(p, calibration="content_free"),
    "normalize": lambda p: dataclasses.replace(p, normalize=True),
    "separator": lambda p: dataclasses.replace(p, separator="\n"),
    "vectors": lambda p: dataclasses.replace(p, soft=SoftPart(VECTORS + np.float32(1e-6), "start")),
    "vector shape": lambda p: dataclasses.replace(p, soft=SoftPart(VECTORS.reshape(4, 3), "start")),
    "vector position": lambda p: dataclasses.replace(p, soft=SoftPart(VECTORS, "answer")),
    "no vectors": lambda p: dataclasses.replace(p, soft=None),
}


def full_prompt() -> Prompt:
    shown = (SHOWN, Demonstration({"text": "Awful."}, "neg"))
    return Prompt(TEMPLATE, WORDS, "Rate it.", shown, soft=SoftPart(VECTORS, "start"))


@pytest.mark.parametrize("part", CHANGES)
def test_every_part_changes_the_fingerprint(part: str) -> None:
    before, after = full_prompt(), CHANGES[part](full_prompt())
    assert before.fingerprint != after.fingerprint
    assert before != after


def test_equal_prompts_are_equal_and_hash_alike() -> None:
    assert full_prompt() == full_prompt()
    assert len({full_prompt(), full_prompt()}) == 1
    assert full_prompt() != "a text"
    assert len(full_prompt().fingerprint) == 16


def test_the_fingerprint_does_not_depend_on_how_vectors_lie_in_memory() -> None:
    other = SoftPart(np.asfortranarray(VECTORS), "start")
    assert dataclasses.replace(full_prompt(), soft=other).fingerprint == full_prompt().fingerprint


def test_a_prompt_cannot_be_changed() -> None:
    words = dict(WORDS)
    prompt = Prompt(TEMPLATE, words)
    words["pos"] = "changed"
    assert prompt.label_words["pos"] == "good"
    with pytest.raises(TypeError, match="does not support item assignment"):
        prompt.label_words["pos"] = "x"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'template'"):
        prompt.template = "x"  # type: ignore[misc]


def test_a_soft_prompt_comes_back_from_its_files(tmp_path: Path) -> None:
    prompt = full_prompt()
    loaded = Prompt.load(write(prompt, tmp_path))
    assert loaded.fingerprint == prompt.fingerprint
    assert loaded.soft is not None
    assert np.array_equal(loaded.soft.vectors, VECTORS)
    assert loaded.soft.position == "start"


def test_the_label_order_survives_the_files(tmp_path: Path) -> None:
    prompt = Prompt(TEMPLATE, {"z": "1", "a": "2", "m": "3"})
    assert Prompt.load(write(prompt, tmp_path)).labels == ("z", "a", "m")


texts = st.text(max_size=12)
words_of_labels = st.lists(
    st.text(max_size=8).filter(lambda word: bool(word.strip())), min_size=2, max_size=4, unique=True
)


@settings(max_examples=60, deadline=None)
@given(
    words=words_of_labels,
    instruction=texts,
    separator=texts,
    shown=st.lists(texts, max_size=3),
    calibration=st.sampled_from(["none", "content_free"]),
    normalize=st.booleans(),
    vectors=st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    position=st.sampled_from(["start", "example", "answer"]),
)
def test_any_prompt_comes_back_from_json_with_its_fingerprint(
    words: list[str],
    instruction: str,
    separator: str,
    shown: list[str],
    calibration: Literal["none", "content_free"],
    normalize: bool,
    vectors: list[float] | None,
    position: Position,
) -> None:
    prompt = Prompt(
        TEMPLATE,
        {f"label {word}": word for word in words},
        instruction,
        tuple(Demonstration({"text": text}, f"label {words[0]}") for text in shown),
        calibration,
        normalize,
        separator,
        None if vectors is None else SoftPart(np.array([vectors], np.float32), position),
    )
    value = json.loads(json.dumps(prompt.to_dict()))
    loaded = Prompt.from_dict(value, None if prompt.soft is None else prompt.soft.vectors)
    assert loaded.fingerprint == prompt.fingerprint
    assert loaded.render({"text": "x"}) == prompt.render({"text": "x"})


# -- damaged files ---------------------------------------------------------------------------


def damaged(**changes: Any) -> dict[str, Any]:
    return {**full_prompt().to_dict(), **changes}


@pytest.mark.parametrize(
    "key", ["template", "label_words", "instruction", "demonstrations", "calibration", "normalize"]
)
def test_a_missing_part_is_an_export_error(key: str) -> None:
    value = damaged()
    del value[key]
    with pytest.raises(ExportError, match=rf"^The prompt is incomplete or damaged: KeyError '{key}'\.$"):
        Prompt.from_dict(value, VECTORS)


@pytest.mark.parametrize(
    "changes",
    [{"template": 3}, {"label_words": ["good", "bad"]}, {"demonstrations": [3]}, {"instruction": None}],
)
def test_a_part_of_the_wrong_kind_is_an_export_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"^The prompt is incomplete or damaged: (TypeError|AttributeError) "):
        Prompt.from_dict(damaged(**changes), VECTORS)


def test_an_unknown_calibration_is_an_export_error() -> None:
    with pytest.raises((ExportError, PromptError), match="calibration"):
        Prompt.from_dict(damaged(calibration="platt"), VECTORS)


def test_an_unknown_vector_position_is_named() -> None:
    soft = {"position": "middle", "vectors": 3, "size": 4}
    with pytest.raises(ExportError, match="middle"):
        Prompt.from_dict(damaged(soft=soft), VECTORS)


def test_vectors_of_another_shape_are_refused() -> None:
    with pytest.raises(ExportError, match=r"^The prompt's vectors have shape \(2, 4\), expected \(3, 4\)\.$"):
        Prompt.from_dict(damaged(), VECTORS[:2])


def test_a_soft_prompt_needs_its_vectors() -> None:
    with pytest.raises(ExportError, match=r"^The prompt is soft and its vectors were not given\.$"):
        Prompt.from_dict(damaged())


def test_a_folder_without_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds no readable prompt \(FileNotFoundError: "):
        Prompt.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "nonsense"])
def test_a_prompt_file_that_is_no_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.json").write_text(content)
    with pytest.raises(ExportError, match=r"holds no readable prompt \(JSONDecodeError: "):
        Prompt.load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"'])
def test_a_prompt_file_that_is_no_object_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.json").write_text(content)
    with pytest.raises(ExportError, match=r"prompt\.json is not a JSON object\.$"):
        Prompt.load(tmp_path)


def test_a_cut_vectors_file_is_refused(tmp_path: Path) -> None:
    folder = write(full_prompt(), tmp_path)
    (folder / VECTORS_FILE).write_bytes((folder / VECTORS_FILE).read_bytes()[:40])
    with pytest.raises(ExportError, match=r"vectors\.safetensors holds no readable vectors \(SafetensorError: "):
        Prompt.load(folder)


def test_a_missing_vectors_file_is_refused(tmp_path: Path) -> None:
    folder = write(full_prompt(), tmp_path)
    (folder / VECTORS_FILE).unlink()
    with pytest.raises(ExportError, match=r"vectors\.safetensors holds no readable vectors \(FileNotFoundError: "):
        Prompt.load(folder)


def test_a_discrete_prompt_has_no_vectors() -> None:
    assert Prompt(TEMPLATE, WORDS).vector_bytes() is None


@pytest.mark.parametrize("name", ["prompt.json", VECTORS_FILE])
def test_a_flipped_byte_is_refused_or_gives_another_prompt(name: str, tmp_path: Path) -> None:
    folder, prompt = write(full_prompt(), tmp_path), full_prompt()
    good = (folder / name).read_bytes()
    same = []
    for at in range(len(good)):
        (folder / name).write_bytes(good[:at] + bytes([good[at] ^ 0x15]) + good[at + 1 :])
        with contextlib.suppress(ExportError, PromptError):
            if Prompt.load(folder) == prompt:
                same.append(at)
    unread = good.index(b'"template"') if name == "prompt.json" else 0  # "format" and "kind" are for people
    assert all(at < unread for at in same), f"{name}: the prompt is the same with other bytes at {same}"
