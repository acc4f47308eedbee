"""The layout is the architecture: who may import whom, read from the source.

Every import counts: at the top, inside a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autoprompt"

FLOORS = {
    12: {"cli"},
    11: {"folds"},
    10: {"run", "checkup", "preview", "worker", "predict", "check", "notify", "init"},
    9: {"stages"},
    8: {"crew", "explain", "setting", "plan"},
    7: {"study", "config", "doctor", "finetune"},
    6: {"quarantine", "racing", "samplers", "propose", "tuning", "export", "verdict"},
    5: {"scorer", "space", "lesson", "libraries"},
    4: {"written"},
    3: {"engine", "prompt", "report"},
    2: {"answer", "clock", "template", "models", "data", "demonstrations", "metrics", "results", "display"},
    1: {"chat", "sandbox", "wording", "soft", "events", "retrieval", "store", "evidence", "execution", "energy"},
    0: {"errors"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

HOMES = {
    "optuna": {"study", "samplers", "racing"},
    "rich": {"display"},
    "transformers": {"models", "engine", "finetune"},
    "llguidance": {"engine"},
    "peft": {"finetune"},
    "jinja2": {"template", "sandbox", "libraries", "models"},
    "torch": {"models", "engine", "finetune", "lesson", "tuning", "propose"},
    "pydantic": {"config"},
    "cmaes": {"samplers"},
    "yaml": {"libraries"},
    "datasets": {"data"},
    "pyarrow": {"data"},
    "scipy": {"metrics", "samplers"},
    "evaluate": {"metrics"},
    "sacrebleu": {"metrics"},
    "rouge_score": {"metrics"},
    "sklearn": {"retrieval", "models", "finetune", "metrics"},
    "pynvml": {"energy"},
}
FACES = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path not in FACES)


def dotted(path: Path) -> str:
    """`autoprompt/models/base.py` -> `autoprompt.models.base`; a folder's `__init__.py` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def room(module: str) -> str:
    return module.split(".")[1]


def imports(tree: ast.AST, module: str, is_folder: bool) -> Iterator[str]:
    """The dotted names of all modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_folder else module.split(".")[:-1]
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def imports_of(module: str) -> set[str]:
    path = MODULES[module]
    return set(imports(ast.parse(path.read_text(encoding="utf-8")), module, path.name == "__init__.py"))


IMPORTS = {module: imports_of(module) for module in MODULES}


def inner(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name == "autoprompt" or name.startswith("autoprompt.")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import autoprompt.data", {"autoprompt.data"}),
        ("from autoprompt import events", {"autoprompt.events"}),
        ("from autoprompt.data import Example", {"autoprompt.data"}),
        ("def f():\n    import optuna.trial", {"optuna.trial"}),
        ("if TYPE_CHECKING:\n    from torch import Tensor", {"torch"}),
        ("from . import errors", {"autoprompt.errors"}),
        ("from .errors import DataError", {"autoprompt.errors"}),
    ],
)
def test_every_kind_of_import_is_counted(source: str, expected: set[str]) -> None:
    assert set(imports(ast.parse(source), "autoprompt.space", is_folder=False)) == expected


def test_the_package_was_found() -> None:
    assert len(FILES) > 20
    assert {"autoprompt.run", "autoprompt.models.base", "autoprompt.metrics"} <= MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module: str) -> None:
    assert room(module) in FLOOR, f"{module} stands on no floor: add it to FLOORS and to the picture of the design"


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    own = room(module)
    up = [
        f"{name} (floor {FLOOR.get(room(name))})"
        for name in sorted(inner(module))
        if name != "autoprompt" and room(name) != own and FLOOR.get(room(name), 99) >= FLOOR[own]
    ]
    assert not up, f"{module} (floor {FLOOR[own]}) imports {', '.join(up)}"


@pytest.mark.parametrize("module", MODULES)
def test_every_inner_import_is_a_module_that_exists(module: str) -> None:
    assert not {name for name in inner(module) if name != "autoprompt" and name not in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_the_package_never_imports_its_own_face(module: str) -> None:
    assert "autoprompt" not in inner(module)


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES}))
def test_the_files_of_a_room_form_no_cycle(name: str) -> None:
    graph = {m: inner(m) & MODULES.keys() for m in MODULES if room(m) == name}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"cycle: {' <- '.join(error.args[1])}", pytrace=False)
    assert set(graph) <= set(order)


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_only_at_home(library: str) -> None:
    users = {room(m) for m, names in IMPORTS.items() if any(n.split(".")[0] == library for n in names)}
    assert users, f"{library} is imported nowhere: take it out of HOMES and of pyproject.toml"
    assert users <= HOMES[library], f"{library} belongs in {HOMES[library]}"


@pytest.mark.parametrize("module", ["autoprompt", "autoprompt.check", "autoprompt.report", "autoprompt.cli"])
def test_verbs_without_a_model_load_no_heavy_library(module: str) -> None:
    heavy = ("torch", "transformers", "optuna", "peft")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


def test_the_verb_check_runs_without_a_heavy_library() -> None:
    code = (
        "import sys; from autoprompt.cli import main; code = main(['check', 'search_spaces/support.toml']); "
        "print(code, [name for name in ('torch', 'transformers', 'optuna', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0 []"
