"""Groups that stay together, folds, and what of [data] does not go together."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprompt.config import read_config
from autoprompt.data import DataOptions, Example, Splits, read_splits
from autoprompt.errors import ConfigError, DataError


def options_of(folder: Path, rows: Sequence[dict[str, Any]], **more: Any) -> DataOptions:
    path = folder / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return DataOptions("label", file=path, **more)


def parts_of(splits: Splits) -> list[list[Example]]:
    return [list(splits.train), list(splits.dev), list(splits.test.open("a test", lambda reason: None))]


def by_group(splits: Splits, groups: dict[str, str]) -> list[set[str]]:
    return [{groups[e.fields["text"]] for e in part} for part in parts_of(splits)]


def grouped(sizes: Sequence[int]) -> list[dict[str, str]]:
    """Rows of groups of so many, of two classes in turns."""
    rows = [{"group": f"g{at}", "text": f"g{at} {i}"} for at, size in enumerate(sizes) for i in range(size)]
    return [{**row, "label": "ab"[i % 2]} for i, row in enumerate(rows)]


# -- groups --------------------------------------------------------------------------------------


def test_no_group_stands_in_two_splits_and_shares_and_classes_are_kept(tmp_path: Path) -> None:
    rows = grouped([6, 2, 4, 4, 2, 6, 8, 4, 2, 2, 4, 6] * 2)
    splits = read_splits(options_of(tmp_path, rows, group="group"), 0)
    train, dev, test = by_group(splits, {row["text"]: row["group"] for row in rows})
    assert len(train | dev | test) == len(train) + len(dev) + len(test)
    assert [len(part) for part in parts_of(splits)] == [40, 30, 30]
    for part in parts_of(splits):
        counts = Counter(e.label for e in part)
        assert abs(counts["a"] - counts["b"]) <= 2


def test_the_same_seed_deals_the_same_groups_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = grouped([3, 1, 4, 1, 5, 2, 6, 5, 3, 5])
    first = read_splits(options_of(tmp_path, rows, group="group"), 0).fingerprints
    assert read_splits(options_of(tmp_path, rows[::-1], group="group"), 0).fingerprints == first
    assert read_splits(options_of(tmp_path, rows, group="group"), 1).fingerprints != first


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=15), seed=st.integers(0, 9))
def test_groups_are_dealt_whole_or_refused(sizes: list[int], seed: int, tmp_path: Path) -> None:
    rows = [{**row, "label": str(i)} for i, row in enumerate(grouped(sizes))]
    options = options_of(tmp_path, rows, group="group", target="number")
    if max(sizes) > math.ceil(sum(sizes) * 0.4):
        with pytest.raises(DataError, match="The group "):
            read_splits(options, seed)
        return
    splits = read_splits(options, seed)
    train, dev, test = by_group(splits, {row["text"]: row["group"] for row in rows})
    assert len(train) + len(dev) + len(test) == len(sizes)
    assert all((train, dev, test))


def test_groups_that_cannot_be_dealt_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"group has 2 different values; 3 splits need at least as many groups"):
        read_splits(options_of(tmp_path, grouped([4, 4]), group="group"), 0)
    with pytest.raises(DataError, match=r"The group 'g0' has 20 of 32 examples, and the largest split is to have 13\."):
        read_splits(options_of(tmp_path, grouped([20, 4, 4, 4]), group="group"), 0)
    with pytest.raises(DataError, match=r"line 1: there is no column 'customer'; it has group, text, label"):
        read_splits(options_of(tmp_path, grouped([4, 4, 4]), group="customer"), 0)


# -- folds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [None, "group"])
def test_the_tests_of_all_folds_are_all_examples_and_dev_is_the_next(group: str | None, tmp_path: Path) -> None:
    rows = grouped([2] * 30)
    found = [
        parts_of(read_splits(options_of(tmp_path, rows, folds=5, fold=fold, group=group), 3)) for fold in range(1, 6)
    ]
    tests = [{e.fields["text"] for e in test} for _, _, test in found]
    assert [len(test) for test in tests] == [12] * 5
    assert set.union(*tests) == {row["text"] for row in rows}
    assert [{e.fields["text"] for e in dev} for _, dev, _ in found] == [*tests[1:], tests[0]]
    for train, _, test in found:
        assert len(train) == 36
        assert Counter(e.label for e in test) == {"a": 6, "b": 6}
    for train, dev, test in found if group else []:
        names = [{e.fields["text"].split()[0] for e in part} for part in (train, dev, test)]
        assert len(set.union(*names)) == sum(map(len, names))


def test_without_a_fold_the_splits_are_those_of_the_first_and_it_is_told(tmp_path: Path) -> None:
    rows = grouped([1] * 30)
    first, named = (read_splits(options_of(tmp_path, rows, folds=5, **more), 3) for more in ({}, {"fold": 1}))
    assert first.fingerprints == named.fingerprints
    assert named.notes == ()
    assert first.notes == ("These are the splits of the first of 5 folds; a run takes one after the other.",)


def test_more_folds_than_examples_or_groups_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folds is 20, and there are only 12 different examples"):
        read_splits(options_of(tmp_path, grouped([4, 4, 4]), folds=20, fold=1), 0)
    with pytest.raises(DataError, match=r"group has 3 different values; 5 splits need at least"):
        read_splits(options_of(tmp_path, grouped([4, 4, 4]), folds=5, fold=1, group="group"), 0)


@pytest.mark.parametrize("more", [{"folds": 3, "fold": 1}, {"group": "group"}])
def test_data_with_splits_of_their_own_have_no_folds_and_groups(more: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "part": ("train", "dev", "test")[i // 2 % 3]} for i, row in enumerate(grouped([4, 4, 4]))]
    with pytest.raises(
        DataError, match=rf"\[data\] {next(iter(more))} is given, and the data have splits of their own"
    ):
        read_splits(options_of(tmp_path, rows, split="part", **more), 0)


# -- in a space file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"fold": 1}, r"data\.fold is given without data\.folds"),
        ({"folds": 5, "fold": 6}, r"data\.fold is 6; there are 5 folds, counted from 1"),
        ({"folds": 2, "fold": 1}, r"data\.folds is 2; it must be at least 3"),
        ({"folds": 5, "fold": 1, "shares": [0.4, 0.3, 0.3]}, r"data\.folds and data\.shares are both given"),
        ({"folds": 5, "fold": 1, "split": "part"}, r"data\.folds and data\.split are both given"),
        ({"group": "g", "split": "part"}, r"data\.group and data\.split are both given"),
        (
            {"group": "g", "file": None, "train": "a.csv", "dev": "a.csv", "test": "a.csv"},
            r"data\.group and data\.train, dev and test are both given",
        ),
        ({"cut": "start"}, r"data\.cut is given without data\.longest"),
        ({"longest": 3}, r"data\.longest is 3; it must be at least 16"),
        ({"target": "option"}, r"data\.options is missing; with target = 'option' it names the column"),
        ({"options": "of"}, r"data\.options is given, and data\.target is 'label'; it goes with target = 'option'"),
        ({"first_option": 1}, r"data\.first_option is given, and data\.target is not 'option'"),
        ({"target": "optoin"}, r"data\.target is 'optoin'; .*Did you mean 'option'\?"),
        ({"aside": ["text"]}, r"data\.aside has 'text', which is also one of data\.fields; it is for the metric alone"),
        ({"aside": ["label"]}, r"data\.aside has 'label', which is also data\.label"),
        ({"columns": {"txt": "body"}}, r"data\.columns\.txt is not one of fields, .*Did you mean 'text'\?"),
        (
            {"columns": {"text": "label"}},
            r"data\.columns reads 'label' and 'text' from 'label': the answer would be shown",
        ),
        ({"columns": {"text": ""}}, r"data\.columns\.text is empty or too short"),
        ({"file": ""}, r"data\.file is empty or too short"),
        ({"file": 3}, r"data\.file is 3; input should be a valid string"),
        ({"target": "option", "options": "label"}, r"data\.label 'label' is also one of data\.fields"),
    ],
)
def test_what_does_not_go_together_is_told(data: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x\n", encoding="utf-8")
    given = {key: value for key, value in ({"file": "a.csv", "label": "label"} | data).items() if value is not None}
    prompt = {"template": "{{ text }} {{ label }}", "label_words": {"x": "x", "y": "y"}}
    with pytest.raises(ConfigError, match=words):
        read_config({"name": "demo", "data": given, "prompt": prompt}, tmp_path)


def test_a_template_may_show_the_options(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x\n", encoding="utf-8")
    data = {"file": "a.csv", "label": "label", "target": "option", "options": "of"}
    prompt = {"template": "{{ text }}\n{{ of }}\n{{ label }}", "label_words": {"A": "A", "B": "B"}}
    assert read_config({"name": "demo", "data": data, "prompt": prompt}, tmp_path).data.inputs == ["text", "of"]
