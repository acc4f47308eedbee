"""pass@k: of the programs that a model writes, how many pass their tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from autoprompt.errors import MetricError
from autoprompt.execution import Limits, Program, require_containment, run_programs

__all__ = ["SAMPLES", "pass_at", "pass_at_k", "program_of", "program_with_tests", "samples_wanted"]

SAMPLES = "\x1e"  # between the samples of one prediction: the record separator

_NAME = re.compile(r"pass@([1-9]\d{0,3})")
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = {"", "python", "py", "python3"}
# how a line begins that is certainly a statement: without one, text before a fence is prose
_BEGINS = re.compile(r"^(?:(?:async )?def \w|class \w|import \w|from [\w.]+ import |@\w|[ \t]+\S)", re.MULTILINE)
# lines that no program has, and that begin what a model writes after one: the next question, a heading, an end mark
_ENDS = re.compile(
    r"^(?:###|```|</|<\||\[/?(?:DONE|END|INST|BEGIN)\b|(?:Question|Problem|Task|Exercise|Example)\b(?! *[=(.\[])"
    r"|(?:Answer|Explanation|Instruction|Input|Output|Solution|Note|Q|A|User|Human|Assistant)(?: \d+)?:(?: |$))",
    re.MULTILINE,
)


def samples_wanted(name: str) -> int | None:
    """k of a metric's name `pass@k`, or None where the name is another."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def pass_at(k: int, samples: int, passed: int) -> float:
    """The chance that one of k samples passes, estimated without bias from `samples` of which `passed` did.

    1 - C(n - c, k) / C(n, k) as a product (Chen et al. 2021, "Evaluating Large Language Models Trained on Code",
    eq. 1), so that no binomial overflows. Raises MetricError where there are fewer samples than k.
    """
    if samples < k:
        raise MetricError(f"pass@{k} needs {k} samples an example or more; there are {samples}. Sample more answers.")
    if samples - passed < k:
        return 1.0
    none = 1.0
    for size in range(samples - passed + 1, samples + 1):
        none *= 1 - k / size
    return 1 - none


def pass_at_k(
    k: int, allowed: bool, limits: Limits | None = None
) -> Callable[[list[str], Sequence[Mapping[str, Any]]], list[float]]:
    """The metric function of pass@k; `allowed`: whether the user has allowed that programs run.

    A prediction is one program, or several samples with `SAMPLES` between them. The function raises MetricError
    unless it is allowed and where a row has no tests, and ExecutionError where programs cannot be contained.
    """

    def passing(predictions: list[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        if not allowed:
            raise MetricError(
                f"The metric 'pass@{k}' runs programs that a language model wrote; they are contained, and still "
                "nothing runs until you allow it: put allow_code_execution = true at the top of the space file."
            )
        require_containment()
        samples = [prediction.split(SAMPLES) for prediction in predictions]
        programs = [
            program_with_tests(sample, row, at)
            for at, (several, row) in enumerate(zip(samples, rows, strict=True), start=1)
            for sample in several
        ]
        ran = iter(run_programs(programs, limits))
        return [pass_at(k, len(several), sum(next(ran).passed for _ in several)) for several in samples]

    return passing


def program_with_tests(answer: str, row: Mapping[str, Any], number: int = 1) -> Program:
    """The program of an answer with the tests of its row; `number` counts rows from 1, for the error.

    The tests are in the column `tests` or `test_list` (a JSON list, or lines that each assert), what goes before
    them in `setup` or `test_setup_code`; or as in HumanEval `test` defines `check(candidate)`, `entry_point` names
    the candidate, and `prompt` (or `input`) is the code that the answer goes on from. Raises MetricError where a row
    has no tests.
    """
    code = program_of(answer)
    setup = str(row.get("setup") or row.get("test_setup_code") or "")
    tests = _tests(row.get("tests") or row.get("test_list"))
    if tests:
        return Program(code, tests, setup)
    test, entry = str(row.get("test") or ""), str(row.get("entry_point") or "")
    if test.strip() and entry.isidentifier():
        source = _continued(str(row.get("prompt") or row.get("input") or ""), code, entry)
        return Program(source, (f"{test}\ncheck({entry})\n",), setup)
    raise MetricError(
        f"Row {number} has no tests; give them in the column 'tests' or 'test_list' (a JSON list of assert "
        f"statements, or one a line), or in 'test' with 'entry_point'. It has {', '.join(map(str, row)) or 'nothing'}."
    )


def _tests(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        try:
            read = json.loads(given)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, list):
            lines = [line for line in given.splitlines() if line.strip()]
            read = lines if all(line.startswith("assert") for line in lines) else [given]
        given = read
    return tuple(str(test) for test in given if str(test).strip()) if isinstance(given, list | tuple) else ()


def _continued(prompt: str, code: str, entry: str) -> str:
    """Code put behind the code that it goes on from: the rest of a function's body, or the function anew."""
    if re.search(rf"^(?:async )?def {entry}\b", code, re.MULTILINE):
        has_head = re.search(rf"^(?:async )?def {entry}\b", prompt, re.MULTILINE)
        return f"{prompt.rstrip()}\n    pass\n\n{code}" if has_head else code  # with the prompt's imports and helpers
    body = code if code[:1] in (" ", "\t") else "    " + code  # the indent of an answer's first line is easily lost
    return f"{prompt.rstrip()}\n{body}"


def program_of(text: str) -> str:
    """The code of an answer.

    The first fenced block of Python, where there is one; a fence that only closes, or is cut off, counts too. Else
    the text up to the first line that no program has, such as the next question or an end mark.

    >>> program_of("Sure:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1'
    """
    text = text.replace("\r\n", "\n")
    fences = list(_FENCE.finditer(text))
    if fences and not fences[0][1] and _BEGINS.search(text[: fences[0].start()]):  # code stands before: it closes
        text, fences = text[: fences[0].start()], []
    for opens, closes in zip_longest(fences[::2], fences[1::2]):
        if opens[1].lower() in _PYTHON:
            return text[opens.end() : closes.start() if closes else None].strip("\n")
    end = next((found.start() for found in _ENDS.finditer(text) if text[: found.start()].strip()), len(text))
    return text[:end].strip("\n").rstrip()
