"""Labelled examples: read, checked, split once, leaks refused."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprompt.data import DataOptions, Example, LockedSplit, Splits, fingerprint, read_rows, read_splits
from autoprompt.errors import DataError

ROWS = [{"text": f"{label} number {i}", "label": label} for label in ("pos", "neg", "odd") for i in range(20)]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")
    return path


def one_file(folder: Path, rows: Iterable[Mapping[str, Any]], **more: Any) -> DataOptions:
    return DataOptions(label="label", file=write(folder / "all.jsonl", rows), **more)


def three_files(folder: Path, **rows: Iterable[Mapping[str, Any]]) -> DataOptions:
    return DataOptions("label", **{name: write(folder / f"{name}.jsonl", found) for name, found in rows.items()})


def opened(splits: Splits) -> tuple[Example, ...]:
    return splits.test.open("a test of the tests", lambda reason: None)


def texts(examples: Iterable[Example]) -> list[str]:
    return [example.fields["text"] for example in examples]


def pairs(*labelled: str) -> list[dict[str, str]]:
    """`"a:pos"` -> a row."""
    return [dict(zip(("text", "label"), item.split(":"), strict=True)) for item in labelled]


# -- formats -------------------------------------------------------------------------------------


def test_jsonl_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": 1}\n\n  \n{"text": "b", "n": null}', encoding="utf-8")
    assert read_rows(path) == [
        ("a.jsonl, line 1", {"text": "a", "n": 1}),
        ("a.jsonl, line 4", {"text": "b", "n": None}),
    ]


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x1cb", "日本語 🙂", "\\n", "é́"])
def test_a_text_keeps_its_unicode(text: str, tmp_path: Path) -> None:
    """U+2028 and its kin stand inside a line; they do not end it."""
    write(tmp_path / "a.jsonl", [{"text": text, "label": "x"}, {"text": "b", "label": "x"}])
    assert [row["text"] for _place, row in read_rows(tmp_path / "a.jsonl")] == [text, "b"]
    (tmp_path / "a.csv").write_text(f'text,label\n"{text}",x\nb,x\n', encoding="utf-8")
    assert [row["text"] for _place, row in read_rows(tmp_path / "a.csv")] == [text, "b"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\r\n{"text": "b"}\r\n')
    (tmp_path / "a.csv").write_bytes(b"text,label\r\na,x\r\nb,y\r\n")
    assert [row["text"] for _place, row in read_rows(tmp_path / "a.jsonl")] == ["a", "b"]
    assert [row for _place, row in read_rows(tmp_path / "a.csv")] == [
        {"text": "a", "label": "x"},
        {"text": "b", "label": "y"},
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(name: str, tmp_path: Path) -> None:
    content = {"a.jsonl": '{"text": "a"}\n', "a.csv": "text,label\na,x\n", "a.tsv": "text\tlabel\na\tx\n"}[name]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read_rows(tmp_path / name)[0][1]["text"] == "a"


def test_quoted_newlines_and_delimiters_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one\ntwo, ""three""",x\nb,y\n', encoding="utf-8", newline="")
    assert [row for _place, row in read_rows(tmp_path / "a.csv")] == [
        {"text": 'one\ntwo, "three"', "label": "x"},
        {"text": "b", "label": "y"},
    ]


def test_tabs_part_the_columns_of_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.TSV").write_text("text\tlabel\na, b\tx\n", encoding="utf-8")
    assert read_rows(tmp_path / "a.TSV") == [("a.TSV, line 2", {"text": "a, b", "label": "x"})]


def test_numbers_become_texts(tmp_path: Path) -> None:
    rows = [{"text": i, "label": i % 2} for i in range(20)]
    splits = read_splits(one_file(tmp_path, rows), 0)
    assert splits.labels == ("0", "1")
    assert all(isinstance(e.fields["text"], str) for e in splits.train)


def test_values_are_stripped(tmp_path: Path) -> None:
    rows = [{"text": f" {row['text']}\n", "label": f" {row['label']} "} for row in ROWS]
    splits = read_splits(one_file(tmp_path, rows), 0)
    assert splits.labels == ("neg", "odd", "pos")
    assert all(text == text.strip() for text in texts(splits.train))


def test_a_lone_surrogate_becomes_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    lines = [json.dumps({**row, "text": "\ud800 " + row["text"]}) for row in ROWS]
    path.write_text("\n".join(lines), encoding="utf-8")
    splits = read_splits(DataOptions("label", file=path), 0)
    assert all(text.startswith("? ") for text in texts(splits.train))


# -- splits --------------------------------------------------------------------------------------


def test_every_class_stands_in_every_split_by_its_share(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 0)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (24, 18, 18)
    for examples, count in ((splits.train, 8), (splits.dev, 6), (opened(splits), 6)):
        assert Counter(e.label for e in examples) == {"pos": count, "neg": count, "odd": count}
    assert splits.labels == ("neg", "odd", "pos")
    assert splits.duplicates_removed == 0


def test_the_splits_hold_each_example_once(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 5)
    found = texts(splits.train) + texts(splits.dev) + texts(opened(splits))
    assert sorted(found) == sorted(row["text"] for row in ROWS)


def test_the_examples_of_a_split_are_numbered_in_their_order(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 0)
    for examples in (splits.train, splits.dev, opened(splits)):
        assert [e.number for e in examples] == list(range(len(examples)))


def test_a_slice_of_a_split_holds_every_class(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 0)
    assert {e.label for e in splits.dev[:12]} == {"pos", "neg", "odd"}


def test_the_same_seed_gives_the_same_splits(tmp_path: Path) -> None:
    options = one_file(tmp_path, ROWS)
    assert read_splits(options, 3).fingerprints == read_splits(options, 3).fingerprints
    assert read_splits(options, 3).train == read_splits(options, 3).train


def test_another_seed_gives_other_splits(tmp_path: Path) -> None:
    options = one_file(tmp_path, ROWS)
    first, second = read_splits(options, 3), read_splits(options, 4)
    assert set(texts(first.train)) != set(texts(second.train))
    assert first.fingerprints != second.fingerprints


def test_splitting_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    options = one_file(tmp_path, ROWS)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    read_splits(options, 0)
    assert random.random() == expected


def test_shares_are_kept(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS, shares=(0.8, 0.1, 0.1)), 0)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (48, 6, 6)


def test_a_class_of_three_stands_once_in_each_split(tmp_path: Path) -> None:
    rows = [*ROWS, *pairs("r1:rare", "r2:rare", "r3:rare")]
    splits = read_splits(one_file(tmp_path, rows, shares=(0.9, 0.05, 0.05)), 0)
    for examples in (splits.train, splits.dev, opened(splits)):
        assert sum(e.label == "rare" for e in examples) == 1


def test_a_split_column_is_kept_to(tmp_path: Path) -> None:
    names = ["train", "dev", "test"]
    rows = [{**row, "part": names[i % 3]} for i, row in enumerate(ROWS)]
    splits = read_splits(one_file(tmp_path, rows, split="part"), 0)
    assert set(texts(splits.train)) == {r["text"] for r in rows if r["part"] == "train"}
    assert set(texts(splits.dev)) == {r["text"] for r in rows if r["part"] == "dev"}
    assert set(texts(opened(splits))) == {r["text"] for r in rows if r["part"] == "test"}


def test_three_files_are_kept_to(tmp_path: Path) -> None:
    options = three_files(tmp_path, train=ROWS[::3], dev=ROWS[1::3], test=ROWS[2::3])
    splits = read_splits(options, 0)
    assert set(texts(splits.train)) == {r["text"] for r in ROWS[::3]}
    assert set(texts(splits.dev)) == {r["text"] for r in ROWS[1::3]}
    assert set(texts(opened(splits))) == {r["text"] for r in ROWS[2::3]}


def test_more_than_one_field_is_read(tmp_path: Path) -> None:
    rows = [{**row, "title": f"t{i}", "unused": None} for i, row in enumerate(ROWS)]
    splits = read_splits(one_file(tmp_path, rows, fields=("text", "title")), 0)
    assert all(set(e.fields) == {"text", "title"} for e in splits.train)


# -- duplicates ----------------------------------------------------------------------------------


def test_duplicates_of_one_file_are_removed_and_counted(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, [*ROWS, *ROWS[:7], {**ROWS[0], "text": f" {ROWS[0]['text']} "}]), 0)
    assert splits.duplicates_removed == 8
    found = texts(splits.train) + texts(splits.dev) + texts(opened(splits))
    assert sorted(found) == sorted(row["text"] for row in ROWS)


def test_the_same_input_with_another_label_is_a_duplicate(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, [*ROWS, {"text": ROWS[0]["text"], "label": "neg"}]), 0)
    assert splits.duplicates_removed == 1
    labels = {e.label for e in (*splits.train, *splits.dev, *opened(splits)) if e.fields["text"] == ROWS[0]["text"]}
    assert labels == {"pos"}


def test_the_same_text_in_another_field_is_no_duplicate(tmp_path: Path) -> None:
    rows = [{**row, "title": f"{i}"} for row in ROWS for i in range(2)]
    assert read_splits(one_file(tmp_path, rows, fields=("text", "title")), 0).duplicates_removed == 0


def test_test_keeps_its_examples_and_dev_gives_way_to_it_and_train_to_both(tmp_path: Path) -> None:
    options = three_files(
        tmp_path,
        train=pairs("in all:pos", "train and dev:neg", "t1:pos", "t1:pos", "t2:neg"),
        dev=pairs("in all:pos", "train and dev:neg", "dev and test:pos", "d1:neg"),
        test=pairs("in all:pos", "dev and test:pos", "s1:neg", "s1:neg"),
    )
    splits = read_splits(options, 0)
    assert sorted(texts(opened(splits))) == ["dev and test", "in all", "s1"]
    assert sorted(texts(splits.dev)) == ["d1", "train and dev"]
    assert sorted(texts(splits.train)) == ["t1", "t2"]
    assert splits.duplicates_removed == 6


def test_a_split_emptied_by_duplicates_is_refused(tmp_path: Path) -> None:
    rows = pairs("a:pos", "b:neg")
    options = three_files(tmp_path, train=pairs("c:pos", "d:neg"), dev=rows, test=rows)
    with pytest.raises(DataError, match="The dev split is empty after duplicates were removed"):
        read_splits(options, 0)


# -- the lock ------------------------------------------------------------------------------------

EXAMPLES = tuple(Example(i, {"text": f"secret {i}"}, "x") for i in range(3))


def test_opening_the_locked_split_tells_first() -> None:
    heard: list[str] = []
    assert LockedSplit(EXAMPLES).open("the verdict", heard.append) == EXAMPLES
    assert heard == ["the verdict"]


def test_a_listener_that_refuses_keeps_the_split_locked() -> None:
    def refuse(reason: str) -> None:
        raise RuntimeError(f"not now: {reason}")

    with pytest.raises(RuntimeError, match="not now: a peek"):
        LockedSplit(EXAMPLES).open("a peek", refuse)


def test_the_locked_split_shows_only_its_size_and_fingerprint() -> None:
    locked = LockedSplit(EXAMPLES)
    assert len(locked) == 3
    assert locked.fingerprint == fingerprint(EXAMPLES)
    assert {name for name in dir(locked) if not name.startswith("_")} == {"counted", "fingerprint", "open", "without"}
    assert "secret" not in repr(locked)
    with pytest.raises(TypeError, match=r"not iterable|not subscriptable"):
        list(locked)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not subscriptable"):
        locked[0]  # type: ignore[index]


def test_the_splits_do_not_show_the_test_texts(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 0)
    shown = repr(splits)
    assert not [text for text in texts(opened(splits)) if repr(text) in shown]
    assert {f.name for f in dataclasses.fields(splits)} == {
        "train",
        "dev",
        "test",
        "labels",
        "duplicates_removed",
        "fingerprints",
        "notes",
    }


# -- fingerprints --------------------------------------------------------------------------------


def test_fingerprints_do_not_change_with_the_order_of_three_files(tmp_path: Path) -> None:
    parts = {"train": ROWS[::3], "dev": ROWS[1::3], "test": ROWS[2::3]}
    first = read_splits(three_files(tmp_path, **parts), 0)
    second = read_splits(three_files(tmp_path, **{k: v[::-1] for k, v in parts.items()}), 0)
    assert first.fingerprints == second.fingerprints
    assert first.dev == second.dev


def test_fingerprints_do_not_change_with_the_order_of_one_file(tmp_path: Path) -> None:
    first = read_splits(one_file(tmp_path, ROWS), 0)
    second = read_splits(one_file(tmp_path, ROWS[::-1]), 0)
    assert first.fingerprints == second.fingerprints


def test_fingerprints_do_not_change_with_the_format(tmp_path: Path) -> None:
    first = read_splits(one_file(tmp_path, ROWS), 0)
    (tmp_path / "all.csv").write_text(
        "label,text\n" + "".join(f"{row['label']},{row['text']}\n" for row in ROWS), encoding="utf-8"
    )
    second = read_splits(DataOptions("label", file=tmp_path / "all.csv"), 0)
    assert first.fingerprints == second.fingerprints


@pytest.mark.parametrize("changed", [{"text": "other", "label": "pos"}, {"text": "pos number 0", "label": "neg"}])
def test_fingerprints_change_with_the_content(changed: dict[str, str], tmp_path: Path) -> None:
    parts = {"train": ROWS[::3], "dev": ROWS[1::3], "test": ROWS[2::3]}
    first = read_splits(three_files(tmp_path, **parts), 0).fingerprints
    second = read_splits(three_files(tmp_path, **(parts | {"train": [changed, *ROWS[3::3]]})), 0).fingerprints
    assert first["train"] != second["train"]
    assert (first["dev"], first["test"]) == (second["dev"], second["test"])


def test_the_fingerprint_tells_fields_from_labels() -> None:
    first = fingerprint([Example(0, {"a": "x", "b": "y"}, "z")])
    assert first != fingerprint([Example(0, {"a": "y", "b": "x"}, "z")])
    assert first != fingerprint([Example(0, {"a": "x", "b": "z"}, "y")])
    assert first == fingerprint([Example(9, {"b": "y", "a": "x"}, "z")])
    assert len(first) == 16


def test_the_test_fingerprint_is_that_of_the_locked_split(tmp_path: Path) -> None:
    splits = read_splits(one_file(tmp_path, ROWS), 0)
    assert splits.fingerprints["test"] == splits.test.fingerprint == fingerprint(opened(splits))
    assert splits.fingerprints["train"] == fingerprint(splits.train)


# -- what is wrong -------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "support.jsonl", ROWS)
    with pytest.raises(DataError, match=r"no data file .*suport\.jsonl\. Did you mean 'support\.jsonl'\?"):
        read_rows(tmp_path / "suport.jsonl")


def test_a_file_in_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no data file .*x\.jsonl\.$"):
        read_rows(tmp_path / "gone" / "x.jsonl")


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: Is a directory"):
        read_rows(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"x", r"a\.txt ends in '\.txt'; data files are \.jsonl, \.json, \.csv, \.tsv or \.parquet"),
        ("a", b"x", r"ends in ''; data files are \.jsonl, \.json, \.csv"),
        ("a.json", b"[]", r"a\.json holds no examples\."),
        ("a.json", b"", r"a\.json holds no examples\."),
        (
            "a.json",
            b'{"a": 1}\n{"a": 2}',
            r"a\.json is not JSON \(.*\); it needs a list .* one object a line it is \.jsonl",
        ),
        ("a.json", b"3", r"a\.json is int; it needs a list of objects, or an object with one such list"),
        ("a.json", b'{"a": []}', r"a\.json holds no examples"),
        ("a.json", b'{"a": [], "b": [1]}', r"a\.json is an object with 2 lists \(a, b\); it needs"),
        ("a.json", b'[{"a": 1}, 2]', r"a\.json, row 2 is int; it needs a list of objects"),
        ("a.json", b"[" * 100_000, r"a\.json is not JSON"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read as a table: "),
        ("a.parquet", b"", r"a\.parquet cannot be read as a table: "),
        ("a.jsonl", b"", r"a\.jsonl holds no examples; it needs one a line"),
        ("a.jsonl", b"\xef\xbb\xbf\n \n", r"a\.jsonl holds no examples"),
        ("a.csv", b"", r"a\.csv holds no examples"),
        ("a.csv", b"text,label\n", r"a\.csv holds no examples"),
        ("a.jsonl", b'{"a": "\xe9"}', r"a\.jsonl is not UTF-8 \(byte 7 is 0xe9\)\. Save it as UTF-8"),
        ("a.csv", b"\xff\xfet\x00", r"a\.csv is not UTF-8 \(byte 0 is 0xff\)"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl, line 2 is not JSON \(.*\)\. Each line is one JSON object"),
        ("a.jsonl", b'{"a": 1}\n\n{"a" 1}', r"a\.jsonl, line 3 is not JSON"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, line 1 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl, line 1 is list; each line is one JSON object"),
        ("a.jsonl", b'{"a": 1}\n"x"\n', r"a\.jsonl, line 2 is str; each line is one JSON object"),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", r"a\.jsonl, line 1 is not JSON"),
        ("a.csv", b"text,label\na\n", r"a\.csv, line 2 has not as many columns as the header \(text, label\)"),
        (
            "a.csv",
            b"text,label\na,b,c\n",
            r"line 2 has not as many columns as the header .*Quote fields that hold a ','",
        ),
        ("a.tsv", b"text\tlabel\na,b\n", r"line 2 has not as many columns .* hold a '\\t'"),
        ("a.csv", b'text,label\n"a" b,c\n', r"a\.csv, line 2 is not CSV \("),
        ("a.csv", b'text,label\n"a,b\n', r"a\.csv, line 2 is not CSV \(unexpected end of data\)"),
        ("a.csv", b"text,label\n" + b"x" * 200_000 + b",b\n", r"a\.csv, line \d is not CSV \(field larger"),
    ],
)
def test_a_broken_file_is_told_with_its_place(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_rows(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"txt": "a", "label": "x"},
            r"all\.jsonl, line 1: there is no column 'text'; it has txt, label\. Did you mean 't",
        ),
        ({"text": "a", "lable": "x"}, r"line 1: there is no column 'label'; it has text, lable\. Did you mean 'lable'"),
        ({}, r"line 1: there is no column 'text'; it has none\."),
        ({"text": "", "label": "x"}, r"line 1: column 'text' is empty\. Fill it or remove the row"),
        ({"text": " \n\t", "label": "x"}, r"line 1: column 'text' is empty"),
        ({"text": "a", "label": ""}, r"line 1: column 'label' is empty"),
        ({"text": None, "label": "x"}, r"line 1: column 'text' is None; a text or a number is needed"),
        ({"text": "a", "label": None}, r"line 1: column 'label' is None; a text or a number is needed"),
        ({"text": ["a"], "label": "x"}, r"line 1: column 'text' is \['a'\]; a text or a number is needed"),
        ({"text": {"a": 1}, "label": "x"}, r"column 'text' is \{'a': 1\}; a text or a number is needed"),
        ({"text": "a", "label": True}, r"line 1: column 'label' is True; a text or a number is needed"),
    ],
)
def test_a_broken_row_is_told_with_its_place(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read_splits(one_file(tmp_path, [row, *ROWS]), 0)


def test_a_huge_value_is_shortened_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'text' is") as caught:
        read_splits(one_file(tmp_path, [{"text": ["x" * 100_000], "label": "x"}, *ROWS]), 0)
    assert len(str(caught.value)) < 1000


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"all\.jsonl has only one class, 'pos'; at least two.*\[data\] label the right"
    ):
        read_splits(one_file(tmp_path, ROWS[:20]), 0)


def test_classes_with_fewer_than_three_examples_are_refused(tmp_path: Path) -> None:
    rows = [*ROWS, *pairs("a:rare", "b:rare", "c:lone")]
    with pytest.raises(DataError, match=r"2 of 5 classes with fewer than 3 examples: 'lone' \(1\), 'rare' \(2\)\. Add"):
        read_splits(one_file(tmp_path, rows), 0)


def test_duplicates_do_not_make_a_class_large_enough(tmp_path: Path) -> None:
    rows = [*ROWS, *pairs("a:rare", "b:rare", "b:rare")]
    with pytest.raises(DataError, match=r"classes with fewer than 3 examples: 'rare' \(2\)"):
        read_splits(one_file(tmp_path, rows), 0)


def test_many_small_classes_are_told_in_short(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": f"id{i}"} for i in range(50)]
    with pytest.raises(
        DataError, match=r"50 of 50 classes with fewer than 3 .*: ('id\d+' \(1\), ){4}'id\d+' \(1\), …\."
    ):
        read_splits(one_file(tmp_path, rows), 0)


def test_another_value_in_the_split_column_is_told(tmp_path: Path) -> None:
    rows = [{**row, "part": "train"} for row in ROWS] + [{**ROWS[0], "part": "tset"}]
    with pytest.raises(
        DataError, match=r"line 61: column 'part' is 'tset'; allowed are train, dev and test\. .*'test'"
    ):
        read_splits(one_file(tmp_path, rows, split="part"), 0)


def test_a_split_without_rows_is_told(tmp_path: Path) -> None:
    rows = [{**row, "part": "train" if i % 2 else "dev"} for i, row in enumerate(ROWS)]
    with pytest.raises(DataError, match="no row has 'test' in column 'part'"):
        read_splits(one_file(tmp_path, rows, split="part"), 0)


def test_a_missing_split_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: there is no column 'part'; it has text, label"):
        read_splits(one_file(tmp_path, ROWS, split="part"), 0)


@pytest.mark.parametrize("name", ["dev", "test"])
def test_a_label_that_training_lacks_is_told(name: str, tmp_path: Path) -> None:
    parts = {"train": ROWS[::3], "dev": ROWS[1::3], "test": ROWS[2::3]}
    parts[name] = [*parts[name], {"text": "strange", "label": "poss"}]
    with pytest.raises(
        DataError, match=rf"The {name} split has the class 'poss', which no .*: neg, odd, pos\)\. .*'pos'"
    ):
        read_splits(three_files(tmp_path, **parts), 0)


def test_training_with_one_class_is_told(tmp_path: Path) -> None:
    options = three_files(tmp_path, train=ROWS[:10], dev=ROWS[10:15], test=ROWS[15:20])
    with pytest.raises(DataError, match="The train split has only one class, 'pos'"):
        read_splits(options, 0)


def test_no_file_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[data\] names no file and no dev; give file, or all of train, dev and test"):
        read_splits(DataOptions("label", train=write(tmp_path / "t.jsonl", ROWS)), 0)


# -- anything at all -----------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
ROW = st.fixed_dictionaries({}, optional={"text": JSON, "label": st.sampled_from(["a", "b"]) | JSON, "other": JSON})


def splits_or_message(options: DataOptions) -> Splits | str:
    """Only DataError may come out of it, anything else goes through."""
    try:
        return read_splits(options, 0)
    except DataError as error:
        return str(error)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW | JSON, max_size=12))
def test_no_json_lines_raise_anything_but_data_error(rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = splits_or_message(DataOptions("label", file=path))
    assert found if isinstance(found, str) else found.train and found.dev and len(found.test)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text(alphabet='{}[]":,\n\r\t\0 ab\u2028', max_size=80).map(str.encode))
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_no_bytes_raise_anything_but_data_error(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    found = splits_or_message(DataOptions("label", file=path))
    assert found if isinstance(found, str) else found.train and found.dev and len(found.test)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(TEXTS, min_size=12, max_size=30, unique_by=str.strip), seed=st.integers(0, 99))
def test_a_split_loses_and_leaks_nothing(found: list[str], seed: int, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(found)]
    splits = read_splits(one_file(tmp_path, rows + rows[:3]), seed)
    parts = [texts(splits.train), texts(splits.dev), texts(opened(splits))]
    assert sorted(text for part in parts for text in part) == sorted(text.strip() for text in found)
    assert splits.duplicates_removed == 3
    assert all(parts)


def test_what_stands_in_the_locked_test_is_left_out_without_opening_it() -> None:
    locked = LockedSplit([Example(0, {"text": "It  RAINED."}, "a"), Example(1, {"text": "Snow."}, "b")])
    given = [Example(n, {"text": text}, "") for n, text in enumerate(["it rained.", "Sun.", " snow. ", "Snow"])]
    assert [example.fields["text"] for example in locked.without(given)] == ["Sun.", "Snow"]
