"""One exception tree, worded errors, and no broad except but where it is told why."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprompt import errors
from autoprompt.errors import AutopromptError, ConfigError, DataError, nearest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autoprompt"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# the only places that catch everything: (file, function) -> why the kinds cannot be named, a reason each
BROAD = {
    ("data/hub.py", "_loaded"): ["the libraries raise many kinds for a data set that is not there or broken"],
    ("engine/other.py", "load_engine"): ["another make may raise anything"],
    ("engine/other.py", "score"): ["another make may raise anything"],
    ("finetune/tuned.py", "load_tuned"): ["peft raises many kinds for a broken adapter"],
    ("execution/harness.py", "judge"): ["a text may break the compiler in any way"],
    ("execution/harness.py", "_run"): ["a program may raise anything, also the wish to exit"],
    ("execution/harness.py", "_shown"): ["the program's own exception may raise anything when it is shown"],
    ("metrics/base.py", "_returned"): ["a user's metric may raise anything"],
    ("metrics/inner.py", "load_inner"): ["a user's file may raise anything"],
    ("metrics/child.py", "_loaded"): ["a user's file may raise anything when it is loaded"],
    ("metrics/child.py", "_answer"): ["a user's metric may raise anything"],
    ("metrics/child.py", "_told"): ["a user's object may raise anything when it is shown"],
    ("quarantine.py", "examine"): ["an example may break template, tokenizer and model in any way"],
    ("scorer.py", "encode"): ["an example may break a tokenizer in any way"],
    ("study/journal.py", "append_logs"): ["whatever ends a write, what it wrote of a line is taken back"],
    ("models/loading.py", "load_model"): ["the libraries raise many kinds for a model that is not there or broken"],
    ("study/heats.py", "_look"): [
        "a grid that fails is scored again prompt by prompt, to find the culprit",
        "failure is data: a trial's reason is recorded and the study goes on",
    ],
}

# `assert` only tells the type checker what the code above has made sure: file -> how many
ASSERTS = {
    "stages/material.py": 1,  # called only where a file is named
    "study/branches.py": 4,  # branches of vectors take part in a soft space only; what training starts from has vectors
    "finetune/tuned.py": 1,  # the first, the last and the best epoch are scored
}

# errors that are not of the tree: (file, function, kind) -> why
OTHERS = {
    ("__main__.py", "", "SystemExit"): "the exit code",
    ("cli.py", "", "SystemExit"): "the exit code",
    ("config/datasection.py", "_source", "PydanticCustomError"): "a problem of the space file, collected by pydantic",
    ("clock.py", "check", "Halted"): "caught by the study; no error",
    ("study/asking.py", "stop_if_told", "Halted"): "caught by the study; no error",
    ("study/heats.py", "run", "Halted"): "caught by the study; no error",
    ("execution/cell.py", "_call", "OSError"): "caught in main, told as a missing wall",
    ("execution/harness.py", "refuse", "refused"): "PermissionError, in the program's own process",
    ("sandbox.py", "_refuse", "SecurityError"): "caught where templates are rendered, made a PromptError",
    ("clock.py", "_die", "KeyboardInterrupt"): "the second signal",
    (
        "engine/attention.py",
        "_attend",
        "NotImplementedError",
    ): "caught where trees are tried, which then go the plain way",
    ("engine/tree.py", "label_tree", "ValueError"): "a mistake of the calling room",
    ("export/folder.py", "read_export", "ValueError"): "caught in the same function, made an ExportError",
    ("libraries/langchain.py", "_from_fstring", "ValueError"): "caught where templates are made, made a refusal",
    ("libraries/langchain.py", "_from_mustache", "ValueError"): "caught where templates are made, made a refusal",
    ("libraries/langchain.py", "_value", "ValueError"): "caught where templates are made, made a refusal",
    ("libraries/promptsource.py", "_mapping", "yaml.YAMLError"): "caught where YAML is read, made a LibraryError",
    ("libraries/promptsource.py", "compose_node", "yaml.YAMLError"): "caught where YAML is read, made a LibraryError",
    (
        "libraries/promptsource.py",
        "flatten_mapping",
        "yaml.YAMLError",
    ): "caught where YAML is read, made a LibraryError",
    ("prompt.py", "_text", "TypeError"): "caught by its only caller, made an ExportError",
    ("soft.py", "from_tokens", "ValueError"): "arithmetic: a mistake of the calling room",
    ("soft.py", "vectors", "ValueError"): "arithmetic: a mistake of the calling room",
}


def names(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions_with(tree: ast.AST, kind: type[ast.AST], function: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Nodes of a kind, each with the name of the function around it."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, kind):
            yield inner, node
        yield from functions_with(node, kind, inner)


def is_broad(node: ast.AST) -> bool:
    """Whether it is an `except` or a `suppress` of all exceptions."""
    if isinstance(node, ast.ExceptHandler):
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        caught = list(node.args)
    else:
        return False
    return any(c is None or ast.unparse(c) in {"Exception", "BaseException"} for c in caught)


# -- the tree ------------------------------------------------------------------------------------


def drawn() -> dict[str, str]:
    """Each exception of the docstring's tree with its parent."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}((?:[│ ] {3})*)([├└]── )?([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4 + (match[2] is not None)
            path[depth:] = [match[3]]
            parents[match[3]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_of_the_docstring_is_the_real_one() -> None:
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert drawn() == real
    assert len(real) >= 9


def test_every_exception_of_the_package_stands_in_the_tree() -> None:
    kinds = {
        node.name: names(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any("Error" in ast.unparse(b) or "Exception" in ast.unparse(b) for b in node.bases)
    }
    assert set(kinds) - {"Halted"} == set(drawn())
    assert set(kinds.values()) == {"errors.py"}


def test_every_exception_but_the_root_is_raised_somewhere() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert not [name for name in drawn() if name != "AutopromptError" and f"raise {name}(" not in source]


def test_every_exception_is_caught_by_the_root() -> None:
    assert all(issubclass(getattr(errors, name), AutopromptError) for name in drawn())


def test_a_config_error_holds_all_its_problems() -> None:
    error = ConfigError("a.toml", ["one", "two"])
    assert error.problems == ("one", "two")
    assert str(error) == "a.toml has 2 problems:\n  - one\n  - two"
    assert str(ConfigError("a.toml", ["one"])) == "a.toml has 1 problem:\n  - one"


# -- nearest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("trails", " Did you mean 'trials'?"),
        ("trials", " Did you mean 'trials'?"),
        ("bacth", " Did you mean 'batch'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_allowed_word_is_offered(given: str, expected: str) -> None:
    assert nearest(given, ["trials", "batch", "slice"]) == expected
    assert nearest(given, iter(["trials", "batch", "slice"])) == expected


def test_nothing_allowed_offers_nothing() -> None:
    assert nearest("x", []) == ""


# -- habits of the sources -----------------------------------------------------------------------


def test_no_broad_except_without_a_reason() -> None:
    found = Counter(
        (names(path), function)
        for path in SOURCES
        for kind in (ast.ExceptHandler, ast.Call)
        for function, node in functions_with(ast.parse(path.read_text(encoding="utf-8")), kind)
        if is_broad(node)
    )
    assert found == {place: len(reasons) for place, reasons in BROAD.items()}


def test_every_broad_except_says_why_on_its_line() -> None:
    lines = [
        (names(path), line.strip())
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bexcept \(?(Base)?Exception\b|\bsuppress\((Base)?Exception\b", line)
    ]
    assert len(lines) == sum(map(len, BROAD.values()))
    assert not [(path, line) for path, line in lines if not re.search(r":  # \w+", line)]


def test_asserts_only_narrow_types() -> None:
    found = {
        names(path): sum(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in SOURCES
    }
    assert {path: count for path, count in found.items() if count} == ASSERTS


def test_the_package_raises_only_its_own_errors() -> None:
    strange = {
        (names(path), function, ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc))
        for path in SOURCES
        for function, node in functions_with(ast.parse(path.read_text(encoding="utf-8")), ast.Raise)
        if isinstance(node, ast.Raise) and node.exc is not None
    }
    assert {(p, f, kind) for p, f, kind in strange if kind not in drawn()} == set(OTHERS)


# -- habits of the tests -------------------------------------------------------------------------


@pytest.mark.parametrize("path", TESTS, ids=[path.relative_to(ROOT).as_posix() for path in TESTS])
def test_every_expected_error_has_its_wording(path: Path) -> None:
    unworded = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"pytest.raises", "raises", "pytest.warns"}
        and not any(keyword.arg == "match" for keyword in node.keywords)
    ]
    assert not unworded, f"{path.name}: no match= in lines {unworded}"


@pytest.mark.parametrize("path", TESTS, ids=[path.relative_to(ROOT).as_posix() for path in TESTS])
def test_every_test_asserts_something(path: Path) -> None:
    def asserts(node: ast.AST) -> bool:
        return isinstance(node, ast.Assert) or (
            isinstance(node, ast.Call) and ast.unparse(node.func) in {"pytest.raises", "np.testing.assert_allclose"}
        )

    empty = [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not any(asserts(inner) for inner in ast.walk(node))
    ]
    assert not empty


def test_an_error_can_be_told_in_words() -> None:
    with pytest.raises(AutopromptError, match=r"^one, two$"):
        raise DataError("one, two")
