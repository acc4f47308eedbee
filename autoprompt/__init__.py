"""autoprompt finds the best prompt for a language model by itself.

The parts, each usable alone: `Space`, `Prompt`, `Scorer`, `search`, `finetune`, `export`; `run`, the
whole job; and `cross_validate`, a run a fold. They are loaded when they are first used, so that
importing the package, and the verbs that need no model, cost nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprompt.export.folder import export as export
    from autoprompt.finetune import finetune as finetune
    from autoprompt.folds import cross_validate as cross_validate
    from autoprompt.prompt import Prompt as Prompt
    from autoprompt.run import run as run
    from autoprompt.scorer import Scorer as Scorer
    from autoprompt.space import Space as Space
    from autoprompt.study import search as search

__all__ = ["Prompt", "Scorer", "Space", "cross_validate", "export", "finetune", "run", "search"]

_HOMES = {
    "Prompt": "autoprompt.prompt",
    "Scorer": "autoprompt.scorer",
    "Space": "autoprompt.space",
    "cross_validate": "autoprompt.folds",
    "export": "autoprompt.export.folder",
    "finetune": "autoprompt.finetune",
    "run": "autoprompt.run",
    "search": "autoprompt.study",
}


class _Part:
    """An attribute of the package that wins over the submodule of the same name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, package: ModuleType, kind: type | None = None) -> Any:
        return getattr(importlib.import_module(_HOMES[self.name]), self.name)

    def __set__(self, package: ModuleType, value: object) -> None:
        """The import system sets submodules as attributes; the part stays."""


class _Package(ModuleType):
    """The package's own type, with its parts as data descriptors."""


for _name in _HOMES:
    setattr(_Package, _name, _Part(_name))
sys.modules[__name__].__class__ = _Package
