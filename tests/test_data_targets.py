"""What the target column means, and what stands beside the fields of an example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import DataOptions, Example, Splits, fields_of, fingerprint, read_inputs, read_splits
from autoprompt.data.columns import cut_text
from autoprompt.data.targets import number_text
from autoprompt.errors import DataError

OPTIONS = [["red", "green", "blue"], ["cat", "dog", "cow"], ["one", "two", "six", "ten"]]


def splits_of(folder: Path, rows: Sequence[dict[str, Any]], **more: Any) -> Splits:
    path = folder / "all.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return read_splits(DataOptions(**({"label": "answer", "file": path} | more)), 3)


def everything(splits: Splits) -> list[Example]:
    return [*splits.train, *splits.dev, *splits.test.open("a test", lambda reason: None)]


def answers(splits: Splits) -> dict[str, str]:
    return {e.fields["text"]: e.label for e in everything(splits)}


def numbered(*targets: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"t{i}", "answer": target, **more} for i, target in enumerate(targets)]


# -- several labels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets",
    [
        (["b", "a", "b"], ["a"], [], ["c", "b"]),
        ("b; a;b", "a", "", "c;b"),
        ("b|a", " a ", "none", "c | b"),
        ("b,a", "a", " ", "c, b"),
    ],
)
def test_labels_are_the_distinct_ones_sorted(targets: tuple[Any, ...], tmp_path: Path) -> None:
    found = splits_of(tmp_path, numbered(*targets * 5), target="labels")
    assert [answers(found)[f"t{i}"] for i in range(4)] == ["a, b", "a", "none", "b, c"]
    assert found.labels == ("a", "b", "c")


def test_one_separator_parts_the_labels_of_all_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: the label 'b, c' holds a comma, which parts labels\. Rename it"):
        splits_of(tmp_path, numbered("a; b", "b, c", "a", "b"), target="labels")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, r"column 'answer' is None; a list of labels is needed, or a text of labels parted by ';', '\|' or ','"),
        (3, r"column 'answer' is 3; a list of labels is needed"),
        ([["a"]], r"column 'answer' is \[\['a'\]\]; a list"),
        ([True], r"column 'answer' is \[True\]; a list"),
        (["none", "a"], r"column 'answer' has 'none' beside other labels; it means that there are none"),
    ],
)
def test_broken_labels_are_told(target: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"all\.jsonl, line 1: {words}"):
        splits_of(tmp_path, numbered(target, ["a"], ["b"]), target="labels")


def test_examples_without_any_label_are_no_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all\.jsonl has no label at all; at least two are needed"):
        splits_of(tmp_path, numbered(*[[]] * 9), target="labels")
    with pytest.raises(DataError, match=r"all\.jsonl has only one class, 'a'; at least two"):
        splits_of(tmp_path, numbered(*[[], ["a"]] * 9), target="labels")


def test_a_rare_label_stands_in_training_always_and_elsewhere_where_it_can(tmp_path: Path) -> None:
    targets = [["common"], ["other"]] * 20 + [["common", "rare"]] * 3 + [["other", "once"]]
    found = splits_of(tmp_path, numbered(*targets), target="labels")
    parts = [found.train, found.dev, found.test.open("a test", lambda reason: None)]
    assert [sum("rare" in e.label for e in part) for part in parts] == [1, 1, 1]
    assert sum("once" in e.label for e in found.train) == 1


# -- options -------------------------------------------------------------------------------------


def option_rows(targets: Sequence[Any], options: Sequence[Any] = OPTIONS) -> list[dict[str, Any]]:
    return [
        {"text": f"t{i}", "choices": options[i % len(options)], "answer": target} for i, target in enumerate(targets)
    ]


@pytest.mark.parametrize(
    "targets",
    [
        ["red", "dog", "ten"] * 4,
        ["A", "B", "D"] * 4,
        ["(a)", "B.", "D)"] * 4,
        [0, 1, 3] * 4,
        ["0", "1", "3"] * 4,
        [0.0, 1.0, 3.0] * 4,
    ],
)
def test_an_option_is_its_letter_however_the_data_name_it(targets: list[Any], tmp_path: Path) -> None:
    found = splits_of(tmp_path, option_rows(targets), target="option", options="choices")
    assert [answers(found)[f"t{i}"] for i in range(3)] == ["A", "B", "D"]
    assert found.labels == ("A", "B", "C", "D")
    shown = {e.fields["text"]: e.fields["choices"] for e in everything(found)}
    assert shown["t2"] == "one\ntwo\nsix\nten"


def test_options_are_read_in_each_shape_that_data_sets_have(tmp_path: Path) -> None:
    shapes = [
        ["a\nb", " c "],
        {"text": ["a b", "c"], "label": ["A", "B"]},
        {"text": ["a b", "c"]},
        "a b\n\nc\n",
    ]
    found = splits_of(tmp_path, option_rows(["c"] * 7 + ["a b"], shapes), target="option", options="choices")
    assert {e.fields["choices"] for e in everything(found)} == {"a b\nc"}
    assert answers(found) == {f"t{i}": "B" for i in range(7)} | {"t7": "A"}


def test_a_target_may_be_what_the_row_itself_calls_its_option(tmp_path: Path) -> None:
    named = [{"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}]
    found = splits_of(tmp_path, option_rows(["3", "B"] * 5, named), target="option", options="choices")
    assert (answers(found)["t0"], answers(found)["t1"]) == ("C", "B")


def test_letters_that_are_also_options_stay_letters(tmp_path: Path) -> None:
    shapes = [["B", "A"], ["x", "y"]]
    found = splits_of(tmp_path, option_rows(["A", "B"] * 5, shapes), target="option", options="choices")
    assert (answers(found)["t0"], answers(found)["t1"]) == ("A", "B")


def test_indices_that_begin_with_one_need_a_word(tmp_path: Path) -> None:
    rows = option_rows([1, 2, 4] * 4)
    with pytest.raises(DataError, match=r"'answer' counts the options from 1: .* say data\.first_option = 1"):
        splits_of(tmp_path, rows, target="option", options="choices")
    found = splits_of(tmp_path, rows, target="option", options="choices", first_option=1)
    assert [answers(found)[f"t{i}"] for i in range(3)] == ["A", "B", "D"]


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        (["a"], "a", r"column 'choices' has 1 options; allowed are 2 to 26"),
        ([str(i) for i in range(27)], "0", r"column 'choices' has 27 options; allowed are 2 to 26"),
        (["a", "a\n"], "a", r"column 'choices' has the option 'a' twice; options must differ"),
        (["a", " "], "a", r"column 'choices' has an empty option"),
        (3, "a", r"column 'choices' is 3; the example's options are needed: a list of texts, an object"),
        ({"label": ["A"]}, "a", r"column 'choices' is \{'label': \['A'\]\}; the example's options"),
        ({"text": ["a", "b"], "label": ["A"]}, "a", r"column 'choices' has 2 options, and its labels are \['A'\]"),
        (["a", "b"], "E", r"column 'answer' is 'E'; it must be one .* 2 options: its text, its letter \(A to B\) or"),
        (["a", "b"], None, r"column 'answer' is None; a text or a number is needed"),
        (["a", "b"], 7, r"column 'answer' is 7; it must be one .* its index \(0 to 1\), in all rows the same"),
    ],
)
def test_broken_options_are_told(options: Any, target: Any, words: str, tmp_path: Path) -> None:
    rows = [*option_rows(["red", "dog", "ten"] * 3), {"text": "x", "choices": options, "answer": target}]
    with pytest.raises(DataError, match=rf"all\.jsonl, line 10: {words}"):
        splits_of(tmp_path, rows, target="option", options="choices")


def test_few_options_of_one_letter_do_not_stop_a_run(tmp_path: Path) -> None:
    found = splits_of(tmp_path, option_rows([0, 1, 3, 0, 1, 2]), target="option", options="choices")
    assert all((found.train, found.dev, len(found.test)))


# -- numbers and texts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("3.80", "3.8"), (5, "5"), (5.0, "5"), ("5.0", "5"), (" -0.25 ", "-0.25"), (1e20, "1e+20"), ("1e3", "1000"),
        (2**60 + 1, str(2**60 + 1)), (0.1, "0.1"), ("007", "7"),
        (True, None), ("nan", None), (float("inf"), None), ("1_000", None), ("1,5", None), ("", None), (10**400, None),
        ([1], None),
    ],
)  # fmt: skip
def test_a_number_is_its_shortest_text(given: Any, shown: str | None) -> None:
    assert number_text(given) == shown


@settings(deadline=None, max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_the_number(value: float) -> None:
    assert float(number_text(value) or "nan") == value


def test_numbers_stand_in_each_split_from_low_to_high(tmp_path: Path) -> None:
    found = splits_of(tmp_path, numbered(*[i / 4 for i in range(100)]), target="number")
    assert found.labels == ()
    for part in (found.train, found.dev, found.test.open("a test", lambda reason: None)):
        fifths = [int(float(e.label) // 5) for e in part]
        assert len({fifths.count(at) for at in range(5)}) == 1


def test_a_broken_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: column 'answer' is 'n/a'; a finite number is needed, such as 3\.8"):
        splits_of(tmp_path, numbered(1, "n/a"), target="number")


def test_of_a_list_of_texts_the_first_is_the_label_and_the_rest_are_right_too(tmp_path: Path) -> None:
    found = splits_of(tmp_path, numbered(*[[" Paris ", "paris", "Paris"], "one\n two", 42] * 4), target="text")
    by_text = {e.fields["text"]: (e.label, e.references) for e in everything(found)}
    assert [by_text[f"t{i}"] for i in range(3)] == [("Paris", ("paris",)), ("one\n two", ()), ("42", ())]
    assert found.labels == ()


def test_a_program_keeps_its_indentation(tmp_path: Path) -> None:
    found = splits_of(tmp_path, numbered(*["\n  \n    return 1\n\n"] * 6), target="program")
    assert {e.label for e in everything(found)} == {"    return 1"}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "has an empty text"),
        (["a", " "], "has an empty text"),
        ([], "is an empty list; it needs at least one text"),
        (None, "is None; a text is needed, or a list of texts that are right"),
        ({"a": 1}, r"is \{'a': 1\}; a text is needed"),
    ],
)
def test_a_broken_text_is_told(target: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"line 2: column 'answer' {words}"):
        splits_of(tmp_path, numbered("a", target, "b"), target="text")


def test_fewer_examples_than_splits_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all\.jsonl has 2 different examples; at least 3 are needed"):
        splits_of(tmp_path, numbered("a", "b"), target="text")


# -- beside the fields ---------------------------------------------------------------------------


def test_columns_aside_are_texts_that_no_field_shows(tmp_path: Path) -> None:
    rows = numbered("x", "y", "z", tests=["assert f(1)"], more=None, raw=" keep ")
    found = everything(splits_of(tmp_path, rows, target="text", aside=("tests", "more", "raw")))
    assert {frozenset(e.aside.items()) for e in found} == {
        frozenset({("tests", '["assert f(1)"]'), ("more", ""), ("raw", " keep ")})
    }
    assert all(set(e.fields) == {"text"} for e in found)
    with pytest.raises(DataError, match=r"line 1: there is no column 'test'; it has .* Did you mean 'tests'"):
        splits_of(tmp_path, rows, target="text", aside=("test",))


def test_what_metrics_read_belongs_to_the_fingerprint() -> None:
    plain = Example(0, {"text": "a"}, "x")
    prints = {
        fingerprint([e])
        for e in (plain, Example(0, plain.fields, "x", ("y",)), Example(0, plain.fields, "x", (), {"a": "b"}))
    }
    assert len(prints) == 3


def test_columns_of_other_names_are_read(tmp_path: Path) -> None:
    rows = [{"review body": f"r{i}", "stars": i % 2, "why": "w", "of": ["a", "b"]} for i in range(12)]
    names = {"text": "review body", "answer": "stars", "note": "why", "choices": "of"}
    found = splits_of(tmp_path, rows, columns=names, aside=("note",), target="option", options="choices")
    assert all(e.fields["text"].startswith("r") and e.aside == {"note": "w"} for e in everything(found))
    with pytest.raises(DataError, match=r"line 1: there is no column 'reviews'; it has review body"):
        splits_of(tmp_path, rows, columns=names | {"text": "reviews"})


def test_texts_without_labels_are_read_as_the_labelled_ones_are(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(f"body\n{'x' * 50}\n", encoding="utf-8")
    options = DataOptions("answer", columns={"text": "body"}, longest=20)
    assert [e.fields["text"] for e in read_inputs(tmp_path / "more.csv", options)] == ["x" * 20]


def test_options_are_shown_one_a_line_wherever_a_row_is_read() -> None:
    row = {"a": ["x\ny", "z"], "b": {"text": ["p", "q"], "label": ["A", "B"]}, "c": {"k": 1}}
    assert fields_of("here", row, ["a", "b", "c"]) == {"a": "x y\nz", "b": "p\nq", "c": "{'k': 1}"}


# -- long texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "shown"),
    [("end", "0123456789012345"), ("start", "4567890123456789"), ("middle", "0123456 … 456789")],
)
def test_long_texts_are_cut_where_it_is_said(cut: Any, shown: str, tmp_path: Path) -> None:
    rows = numbered(*"abcabcabc")
    rows[4]["text"] = "0123456789" * 4
    found = splits_of(tmp_path, rows, longest=16, cut=cut)
    assert [e.fields["text"] for e in everything(found) if len(e.fields["text"]) > 2] == [shown]
    assert found.notes == ("1 text was cut to 16 characters.",)
    assert splits_of(tmp_path, rows).notes == ()


def test_texts_that_are_equal_once_cut_are_duplicates(tmp_path: Path) -> None:
    rows = [{"text": f"{'x' * 20}{i}", "answer": "a"} for i in range(5)] + numbered(*"abcabcabc")
    found = splits_of(tmp_path, rows, longest=20)
    assert found.duplicates_removed == 4
    assert found.notes == ("5 texts were cut to 20 characters.",)


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=60), longest=st.integers(16, 40), cut=st.sampled_from(["end", "start", "middle"]))
def test_a_cut_text_is_never_longer_than_it_may_be(text: str, longest: int, cut: Any) -> None:
    assert len(cut_text(text, longest, cut)) <= longest
    assert len(text) > longest or cut_text(text, longest, cut) == text
