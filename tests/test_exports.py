"""`__all__` is complete, sorted and true; the package's face shows its parts."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autoprompt"
SCRIPTS = {PACKAGE / "__main__.py", PACKAGE / "models" / "builtin" / "recipe.py"}  # only run, never imported from
FILES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [path for path, tree in FILES.items() if path not in SCRIPTS and len(tree.body) > 1]  # more than a docstring
SHOWN = [path.relative_to(ROOT).as_posix() for path in MODULES]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exported(path: Path) -> list[str] | None:
    """`__all__` as it stands in the source."""
    for node in FILES[path].body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def bound(path: Path) -> set[str]:
    """Every name that the module's top level binds."""
    found = set()
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node in FILES[path].body:
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def isort_style(name: str) -> tuple[int, list[str | int]]:
    """The order of ruff's RUF022: CONSTANTS, then Classes, then the rest; numbers inside a name by their value."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def borrowed() -> dict[str, set[str]]:
    """The names that modules import from each other: module -> names."""
    found: dict[str, set[str]] = {}
    modules = {dotted(path) for path in FILES}
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in modules and node.module != dotted(path):
                names = {alias.name for alias in node.names if f"{node.module}.{alias.name}" not in modules}
                found.setdefault(node.module, set()).update(names)
    return found


BORROWED = borrowed()


@pytest.mark.parametrize("path", MODULES, ids=SHOWN)
def test_every_module_says_what_it_exports(path: Path) -> None:
    assert exported(path) is not None, f"{path.relative_to(ROOT)} has no __all__"


@pytest.mark.parametrize("path", MODULES, ids=SHOWN)
def test_exports_are_sorted_and_each_stands_once(path: Path) -> None:
    names = exported(path) or []
    assert names == sorted(names, key=isort_style)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", MODULES, ids=SHOWN)
def test_every_export_is_there(path: Path) -> None:
    assert not set(exported(path) or ()) - bound(path)


@pytest.mark.parametrize("path", MODULES, ids=SHOWN)
def test_what_other_modules_import_is_exported(path: Path) -> None:
    missing = BORROWED.get(dotted(path), set()) - set(exported(path) or ())
    assert not missing, f"other modules import {sorted(missing)} of {dotted(path)}, which __all__ does not name"


def test_nothing_is_imported_from_a_script() -> None:
    assert not BORROWED.keys() & {dotted(path) for path in SCRIPTS}


def test_no_module_imports_a_private_name_of_another() -> None:
    private = {module: {n for n in names if n.startswith("_")} for module, names in BORROWED.items()}
    assert not {module: names for module, names in private.items() if names}


@pytest.mark.parametrize("path", MODULES, ids=SHOWN)
def test_no_module_imports_everything_of_another(path: Path) -> None:
    stars = [n for n in ast.walk(FILES[path]) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    assert not stars


# a process that has the large libraries and nothing of the package; each program runs in a fork of it
FORKING = """
import json, os, sys, tempfile, traceback
import optuna, peft, pydantic, torch, transformers
from transformers import AttentionInterface, AutoConfig, AutoTokenizer, DynamicCache

for line in sys.stdin:
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if child == 0:
            os.dup2(told.fileno(), 1)
            status = 0
            try:
                exec(json.loads(line), {"__name__": "__main__"})
            except BaseException:
                traceback.print_exc(file=sys.stdout)
                status = 1
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told.seek(0)
        print(json.dumps([status, told.read()]), flush=True)
"""


@pytest.fixture(scope="module")
def told() -> Iterator[Callable[[str], str]]:
    """What a program prints that is the first to import the package."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def told(code: str) -> str:
            print(json.dumps(code), file=process.stdin, flush=True)
            status, text = json.loads(process.stdout.readline())
            assert status == 0, text
            return str(text).strip()

        yield told
        process.stdin.close()


def test_every_part_of_the_package_resolves(told: Callable[[str], str]) -> None:
    code = (
        "import autoprompt\n"
        "for name in autoprompt.__all__:\n"
        "    part = getattr(autoprompt, name)\n"
        "    print(name, callable(part), part.__name__ == name, part.__module__.startswith('autoprompt.'))\n"
    )
    lines = told(code).splitlines()
    assert len(lines) == 8
    assert all(line.endswith(" True True True") for line in lines), lines


@pytest.mark.parametrize(
    "first",
    [
        "import autoprompt.run",
        "import autoprompt.export, autoprompt.finetune, autoprompt.run",
        "from autoprompt import run",
        "import autoprompt.cli, autoprompt.run as module",
    ],
)
def test_the_parts_win_over_the_modules_of_their_name(first: str, told: Callable[[str], str]) -> None:
    code = (
        f"{first}\n"
        "import sys, types, autoprompt\n"
        "from autoprompt import export, finetune, run\n"
        "for name, part in (('run', run), ('finetune', finetune), ('export', export)):\n"
        "    assert part is getattr(autoprompt, name), name\n"
        "    assert isinstance(part, types.FunctionType), name\n"
        "    assert isinstance(sys.modules[f'autoprompt.{name}'], types.ModuleType), name\n"
        "print('as it should be')"
    )
    assert told(code) == "as it should be"


def test_an_unknown_part_is_an_attribute_error(told: Callable[[str], str]) -> None:
    code = (
        "import autoprompt\n"
        "try: autoprompt.gone\n"
        "except AttributeError as error: print(error)\n"
        "print(hasattr(autoprompt, 'gone'), autoprompt.__name__)"
    )
    assert told(code).splitlines() == ["module 'autoprompt' has no attribute 'gone'", "False autoprompt"]


def test_the_lazy_parts_are_those_that_type_checkers_see(told: Callable[[str], str]) -> None:
    tree = FILES[PACKAGE / "__init__.py"]
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autoprompt.")
        for alias in node.names
    }
    code = (
        "import autoprompt; print(sorted(autoprompt._HOMES) == sorted(autoprompt.__all__), *sorted(autoprompt._HOMES))"
    )
    same, *names = told(code).split()
    assert same == "True"
    assert set(names) == seen
