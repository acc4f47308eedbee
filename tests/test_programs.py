"""pass@k: the estimate, the code of an answer, and the tests of a row."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from autoprompt.config import read_config
from autoprompt.errors import ConfigError, ExecutionError, MetricError
from autoprompt.execution import Program, require_containment
from autoprompt.metrics import programs
from autoprompt.metrics.programs import SAMPLES, pass_at, pass_at_k, program_of, program_with_tests, samples_wanted

try:
    CONTAINS = bool(require_containment())
except ExecutionError:
    CONTAINS = False

contains = pytest.mark.skipif(not CONTAINS, reason="this machine cannot contain programs, and runs none")
CODE = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(("samples", "k"), [(1, 1), (5, 2), (7, 7), (6, 5)])
def test_the_estimate_is_the_share_of_draws_of_k_with_one_that_passes(samples: int, k: int) -> None:
    for passed in range(samples + 1):
        draws = list(itertools.combinations([i < passed for i in range(samples)], k))
        assert pass_at(k, samples, passed) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_the_estimate_of_many_samples_is_finite_and_right() -> None:
    exact = 1 - math.comb(99_000, 100) / math.comb(100_000, 100)
    assert pass_at(100, 100_000, 1_000) == pytest.approx(exact, rel=1e-9)


def test_fewer_samples_than_k_are_named() -> None:
    with pytest.raises(MetricError, match="pass@5 needs 5 samples an example or more; there are 2"):
        pass_at(5, 2, 2)


@pytest.mark.parametrize(
    ("name", "k"), [("pass@1", 1), ("pass@100", 100), ("pass@0", None), ("pass", None), ("f.py:pass@1", None)]
)
def test_the_name_says_k(name: str, k: int | None) -> None:
    assert samples_wanted(name) == k


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"\n\n{CODE}\n\n",
        f"```python\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"Here you are:\n\n```python\n{CODE}\n```\nIt adds one.\n```python\nprint(f(1))\n```",
        f"Run this:\n```bash\npip install x\n```\n```Py\n{CODE}\n```",
        f"```python\n{CODE}",
        f"{CODE}\n```\nThis adds one.",
        f"{CODE}\n```\n\n```python\nprint(1)\n```",
        f"{CODE}\n\nQuestion: another\ndef g(): pass",
        f"{CODE}\n### Next",
        f"{CODE}\n</code>",
        f"{CODE}\n[DONE]\n",
        f"{CODE}\n<|endoftext|>",
        f"{CODE}\nExplanation: it adds one",
        CODE.replace("\n", "\r\n"),
    ],
)
def test_the_code_of_an_answer_is_found(text: str) -> None:
    assert program_of(text) == CODE


@pytest.mark.parametrize(
    "text",
    ["    return x + 1", "# Question\nx = 1", "Question = 3", "x: int = 1\ny = {'A': 2}", "Example(1).run()", ""],
)
def test_code_that_looks_like_prose_stays(text: str) -> None:
    assert program_of(text) == text


@pytest.mark.parametrize(
    "row",
    [
        {"tests": json.dumps(["assert f(1) == 2", "assert f(2) == 3"])},
        {"test_list": ["assert f(1) == 2", "assert f(2) == 3"]},
        {"tests": "assert f(1) == 2\n\nassert f(2) == 3\n"},
    ],
)
def test_tests_stand_in_a_list_or_one_a_line(row: dict[str, object]) -> None:
    assert program_with_tests(CODE, row) == Program(CODE, ("assert f(1) == 2", "assert f(2) == 3"))


def test_a_test_of_several_lines_is_one() -> None:
    text = "for i in range(3):\n    assert f(i) == i + 1"
    assert program_with_tests(CODE, {"tests": text, "setup": "y = 1"}) == Program(CODE, (text,), "y = 1")


def test_a_row_without_tests_is_named() -> None:
    with pytest.raises(MetricError, match=r"Row 3 has no tests; give them in the column 'tests' .* It has text, label"):
        program_with_tests(CODE, {"text": "x", "label": "y"}, 3)


HEAD = 'import math\n\n\ndef f(x):\n    """Add one."""\n'
ROW = {"prompt": HEAD, "entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 2\n"}


@contains
@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("    return x + 1", 1.0),
        ("y = x\n    return y + 1", 1.0),
        (f"```python\n{CODE}\n```", 1.0),
        ("def f(x):\n    return math.floor(x) + 1", 1.0),
        ("    return x", 0.0),
        ("", 0.0),
    ],
)
def test_an_answer_goes_on_from_its_prompt_or_begins_anew(answer: str, score: float) -> None:
    assert pass_at_k(1, True)([answer], [ROW]) == [score]


@contains
def test_samples_are_counted_one_by_one() -> None:
    wrong = "def f(x):\n    return 0"
    rows = [{"tests": "assert f(1) == 2"}] * 2
    samples = [SAMPLES.join([CODE, wrong, wrong, wrong]), SAMPLES.join([wrong] * 4)]
    assert pass_at_k(1, True)(samples, rows) == [pytest.approx(0.25), 0.0]
    assert pass_at_k(2, True)(samples, rows) == [pytest.approx(0.5), 0.0]


def test_nothing_runs_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "run_programs", lambda *given: pytest.fail("it ran"))
    with pytest.raises(MetricError, match="put allow_code_execution = true at the top of the space file"):
        pass_at_k(1, False)([CODE], [ROW])


def test_a_space_file_that_does_not_allow_programs_is_told_how(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        'name = "x"\nmetric = "pass@1"\nmodel = "builtin"\n[data]\nfile = "x.jsonl"\nlabel = "l"\n'
        '[prompt]\ntemplate = "{{ text }} {{ label }}"\nlabel_words = { a = "a", b = "b" }\n'
    )
    with pytest.raises(ConfigError, match=r"metric is 'pass@1', which runs programs .* allow_code_execution = true"):
        read_config(file)
