"""Where rows come from: files of tables, folders with splits, the hub, tables in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from autoprompt.check import check
from autoprompt.config import data_options, read_config
from autoprompt.data import DataOptions, Splits, read_rows, read_splits
from autoprompt.data.tables import read_tables
from autoprompt.errors import ConfigError, DataError

ROWS = [{"text": f"{label} {i}", "label": label} for label in ("pos", "neg") for i in range(15)]
TASK: dict[str, Any] = {
    "name": "demo",
    "prompt": {"template": "{{ text }} {{ label }}", "label_words": {"pos": "good", "neg": "bad"}},
}


def texts(examples: Sequence[Any]) -> set[str]:
    return {e.fields["text"] for e in examples}


def locked(splits: Splits) -> set[str]:
    return texts(splits.test.open("a test", lambda reason: None))


def classed(rows: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
    """A data set whose classes are numbers with names."""
    names = ["neg", "pos"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_list([{**row, "label": names.index(row["label"])} for row in rows], features=features)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [ROWS, {"version": 1, "data": ROWS}])
def test_json_is_a_list_or_the_one_list_of_an_object(content: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    rows = read_rows(tmp_path / "a.json")
    assert rows[1] == ("a.json, row 2", ROWS[1])
    assert len(rows) == 30


def test_every_format_gives_the_same_splits(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    classed(ROWS).to_parquet(tmp_path / "classed.parquet")
    classed(ROWS).save_to_disk(tmp_path / "saved")
    sources: list[Any] = [tmp_path / name for name in ("a.json", "a.jsonl", "a.parquet", "classed.parquet", "saved")]
    prints = [
        read_splits(DataOptions("label", file=file), 1).fingerprints for file in [*sources, pandas.DataFrame(ROWS)]
    ]
    assert all(found == prints[0] for found in prints)


def test_lists_and_nested_classes_of_parquet_are_read(tmp_path: Path) -> None:
    features = datasets.Features({
        "text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["x", "y"])),
    })  # fmt: skip
    rows = [{"text": f"t{i}", "label": [i % 2]} for i in range(9)]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet")[1][1] == {"text": "t1", "label": ["y"]}


def test_a_package_that_is_missing_is_told_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"read by pyarrow, which is not installed: pip install 'autoprompt-search\[data\]'"
    ):
        read_rows(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"^hf:some/set is read by the package datasets, which is not installed: pip"):
        read_tables("hf:some/set")


# -- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dev", ["validation", "dev"])
def test_a_saved_dict_with_three_splits_is_kept_to(dev: str, tmp_path: Path) -> None:
    parts = {"train": ROWS[::3], dev: ROWS[1::3], "test": ROWS[2::3], "unsupervised": ROWS[:2]}
    datasets.DatasetDict({name: classed(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "set")
    splits = read_splits(DataOptions("label", file=tmp_path / "set"), 0)
    assert texts(splits.train) == {row["text"] for row in ROWS[::3]}
    assert texts(splits.dev) == {row["text"] for row in ROWS[1::3]}
    assert locked(splits) == {row["text"] for row in ROWS[2::3]}
    assert splits.notes == ()
    assert read_tables(tmp_path / "set" / "train")[""][0][0] == "train, row 1"


def test_a_folder_of_files_is_read_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for name, rows in {
        "train-00000-of-00002": ROWS[::4],
        "train-00001-of-00002": ROWS[1::4],
        "test-0": ROWS[2::4],
    }.items():
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / "validation.jsonl").write_text("\n".join(map(json.dumps, ROWS[3::4])), encoding="utf-8")
    (folder / "values.csv").write_text("no,data\n", encoding="utf-8")
    splits = read_splits(DataOptions("label", file=tmp_path / "set"), 0)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [16, 7, 7]
    assert texts(splits.dev) == {row["text"] for row in ROWS[3::4]}


def test_what_a_folder_lacks_is_split_off_its_training_examples(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS[:14] + ROWS[16:])), encoding="utf-8")
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[14:16])), encoding="utf-8")
    splits = read_splits(DataOptions("label", file=folder, shares=(0.5, 0.25, 0.25)), 0)
    assert splits.notes == ("set has no dev; split off its training examples.",)
    assert locked(splits) == {row["text"] for row in ROWS[14:16]}
    assert [len(splits.train), len(splits.dev)] == [18, 10]
    assert read_splits(DataOptions("label", file=folder, shares=(0.5, 0.25, 0.25)), 0).dev == splits.dev
    (folder / "test.jsonl").unlink()
    splits = read_splits(DataOptions("label", file=folder), 0)
    assert splits.notes == ("set has no dev and no test; split off its training examples.",)
    assert all((splits.train, splits.dev, len(splits.test)))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, r"is a folder without files named train\*, dev\* \(or validation\*\) and test\* that end in \.jsonl"),
        ({"test.csv": "text,label\na,x\n"}, r"^set has no training examples; it has test alone"),
        ({"train.csv": "text,label\n"}, r"train\.csv holds no examples"),
        ({"dataset_dict.json": "{}"}, r"dataset_dict\.json names no splits; save the data set again"),
        ({"dataset_dict.json": '{"splits": ["../x"]}'}, r"dataset_dict\.json names no splits"),
        ({"dataset_dict.json": '{"splits": ["train"]}'}, r"state\.json cannot be read \("),
        ({"state.json": "[]"}, r"state\.json is no JSON object"),
        ({"state.json": "{}", "dataset_info.json": "{}"}, r"state\.json names no files of the folder"),
        ({"state.json": '{"_data_files": [{"filename": "../a"}]}', "dataset_info.json": "{}"}, r"names no files of the"),
        ({"state.json": '{"_data_files": [{"filename": "a"}]}', "dataset_info.json": "{}"}, r"a cannot be read as a table"),
        ({"state.json": '{"_data_files": [{"filename": "a"}]}', "dataset_info.json": "{}", "a": "x"}, r"a cannot be read"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_told(files: dict[str, str], words: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, content in files.items():
        (tmp_path / "set" / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_splits(DataOptions("label", file=tmp_path / "set"), 0)


def test_splits_of_other_names_are_told(tmp_path: Path) -> None:
    datasets.DatasetDict({"a": classed(ROWS), "b": classed(ROWS)}).save_to_disk(tmp_path / "set")
    with pytest.raises(
        DataError, match=r"set has the splits a, b; needed is train, with validation \(or dev\) and test"
    ):
        read_tables(tmp_path / "set")


# -- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str | None, bool]]:
    """What is asked of a hub that has `topics` in the configuration `small` alone, and whether offline."""
    asked: list[tuple[str, str | None, bool]] = []
    known = datasets.DatasetDict({"train": classed(ROWS[::2]), "validation": classed(ROWS[1::2])})

    def load(name: str, configuration: str | None = None, split: str | None = None) -> Any:
        asked.append((name, configuration, datasets.config.HF_HUB_OFFLINE))
        if (name, configuration) != ("topics", "small"):
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset {name!r} is not there.\nMore.")
        return known[split] if split else known

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_hub_name_is_loaded_with_its_configuration(hub: list[Any]) -> None:
    before = datasets.config.HF_HUB_OFFLINE
    splits = read_splits(DataOptions("label", file="hf:topics/small", offline=True), 0)
    assert hub == [("topics/small", None, True), ("topics", "small", True)]
    assert texts(splits.dev) == {row["text"] for row in ROWS[1::2]}
    assert splits.labels == ("neg", "pos")
    assert splits.notes == ("hf:topics/small has no test; split off its training examples.",)
    assert before == datasets.config.HF_HUB_OFFLINE


def test_one_split_of_the_hub_can_stand_for_another(hub: list[Any]) -> None:
    train = pandas.DataFrame([{**row, "text": f"{row['text']} more"} for row in ROWS])
    options = DataOptions("label", train=train, dev="hf:topics/small:validation", test="hf:topics/small:train")
    splits = read_splits(options, 0)
    assert (locked(splits), texts(splits.dev)) == ({r["text"] for r in ROWS[::2]}, {r["text"] for r in ROWS[1::2]})
    with pytest.raises(DataError, match=r"^hf:topics/small has the splits train, dev, and no test\. Name one of them"):
        read_splits(DataOptions("label", train=train, dev="hf:topics/small", test="hf:topics/small"), 0)


def test_a_name_that_the_hub_lacks_is_told(hub: list[Any]) -> None:
    with pytest.raises(
        DataError, match=r"^hf:gone cannot be loaded: Dataset 'gone' is not there\. Names are hf:NAME or"
    ):
        read_tables("hf:gone")
    with pytest.raises(DataError, match=r"hf:a/b/c cannot be loaded"):
        read_tables("hf:a/b/c")
    assert hub[-1][:2] == ("a/b", "c")


def test_a_folder_of_the_same_name_is_not_taken_for_the_hubs(hub: list[Any], tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    with pytest.raises(DataError, match=r"hf:topics: there is a file or folder topics here, which would be read"):
        read_tables("hf:topics")
    assert hub == []


def test_offline_a_name_that_is_not_cached_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"^hf:no-such-owner/no-such-set cannot be loaded: "):
        read_tables("hf:no-such-owner/no-such-set", offline=True)


# -- tables in memory ----------------------------------------------------------------------------


def test_a_frame_keeps_its_numbers_and_lists_and_lacks_what_is_missing() -> None:
    frame = pandas.DataFrame({
        "n": [1, 2], "x": [0.5, float("nan")], "i": pandas.array([1, None], dtype="Int64"),
        "o": pandas.Series([["a", "b"], None], dtype=object), "t": ["a", None],
    })  # fmt: skip
    assert [row for _, row in read_tables(frame)[""]] == [
        {"n": 1, "x": 0.5, "i": 1, "o": ["a", "b"], "t": "a"},
        {"n": 2, "x": None, "i": None, "o": None, "t": None},
    ]


def test_a_run_may_be_given_frames(tmp_path: Path) -> None:
    whole = pandas.DataFrame(ROWS)
    config = read_config({**TASK, "data": {"file": whole, "label": "label"}}, tmp_path)
    assert data_options(config, tmp_path).file is whole
    assert config.model_dump(mode="json")["data"]["file"] == "table"
    three = {"train": whole[::3], "dev": whole[1::3], "test": whole[2::3], "label": "label"}
    splits = read_splits(data_options(read_config({**TASK, "data": three}, tmp_path), tmp_path), 0)
    assert texts(splits.dev) == {row["text"] for row in ROWS[1::3]}


def test_a_frame_cannot_be_shared_with_other_processes(tmp_path: Path) -> None:
    data = {"file": pandas.DataFrame(ROWS), "label": "label"}
    with pytest.raises(ConfigError, match=r"data\.file is a table in memory, which other processes cannot read; write"):
        read_config({**TASK, "data": data, "study": {"workers": 2}}, tmp_path)


class Odd:
    def __init__(self, found: Any) -> None:
        self.found = found

    def to_dict(self, orient: str = "dict") -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (TypeError("no orient"), r"gives no rows by to_dict\('records'\): no orient"),
        ({"a": [1]}, r"to_dict\('records'\) is dict; a list of mappings is needed"),
        ([1], r"to_dict\('records'\) is list; a list of mappings"),
        ([], r"The table holds no examples"),
        ([{"text": "a"}], r"The table, row 1: there is no column 'label'; it has text"),
    ],
)
def test_a_table_of_another_kind_is_told(found: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_splits(DataOptions("label", file=Odd(found)), 0)


# -- in a space file -----------------------------------------------------------------------------


def test_folders_and_hub_names_pass_the_check_of_a_space_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("set", "hf:ag_news", "hf:owner/name/config", "hf:owner/name:train"):
        config = read_config({**TASK, "data": {"file": name, "label": "label"}}, tmp_path)
        assert data_options(config, tmp_path).file == (name if name.startswith("hf:") else tmp_path / name)
    for name in ("hf:", "hf:a//b", "hf:a/b/c/d"):
        with pytest.raises(ConfigError, match=r"data\.file is '.*'; names of the hub are hf:NAME or hf:NAME/CONFIG"):
            read_config({**TASK, "data": {"file": name, "label": "label"}}, tmp_path)


def test_check_tells_how_the_splits_were_made(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (tmp_path / "space.toml").write_text(
        'name = "demo"\n[data]\nfile = "set"\nlabel = "label"\n[prompt]\ntemplate = "{{ text }} {{ label }}"\n'
        'label_words = { pos = "good", neg = "bad" }\n',
        encoding="utf-8",
    )
    assert check(tmp_path / "space.toml").splitlines()[-1] == (
        "set has no dev and no test; split off its training examples."
    )
