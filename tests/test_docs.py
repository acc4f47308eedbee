"""The programs in docstrings run, and every verb, option and key is documented."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from autoprompt import cli
from autoprompt.config import Config
from autoprompt.models import BUILTIN

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "autoprompt").rglob("*.py")
    if path.name != "__main__.py" and path.parent != BUILTIN
)
# the parts of the public face, and what stands behind the metric door
PROGRAMS = {
    "autoprompt.clock", "autoprompt.demonstrations", "autoprompt.doctor.encoding", "autoprompt.doctor.likeness",
    "autoprompt.doctor.power",
    "autoprompt.engine.engine", "autoprompt.explain.robustness", "autoprompt.explain.shapley", "autoprompt.export.folder", "autoprompt.finetune",
    "autoprompt.finetune.contrast", "autoprompt.finetune.course", "autoprompt.finetune.seen",
    "autoprompt.finetune.sheets", "autoprompt.finetune.variants", "autoprompt.folds", "autoprompt.libraries.imported",
    "autoprompt.libraries.texts",
    "autoprompt.lesson", "autoprompt.metrics.base", "autoprompt.metrics.costs", "autoprompt.metrics.numbers",
    "autoprompt.metrics.programs", "autoprompt.metrics.sets", "autoprompt.models.loading", "autoprompt.models.pieces",
    "autoprompt.models.texts", "autoprompt.prompt", "autoprompt.propose.infill", "autoprompt.propose.phrases",
    "autoprompt.propose.projection", "autoprompt.propose.writing", "autoprompt.racing.bets",
    "autoprompt.report.status",
    "autoprompt.retrieval", "autoprompt.run", "autoprompt.samplers.branches", "autoprompt.samplers.coordinates",
    "autoprompt.scorer", "autoprompt.soft", "autoprompt.space", "autoprompt.study.search", "autoprompt.tuning",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_the_programs_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS, extraglobs={"np": __import__("numpy")})
    assert result.failed == 0
    assert (result.attempted > 0) == (name in PROGRAMS)


def test_every_verb_and_every_option_is_in_the_readme_or_the_help() -> None:
    help_text = cli._parser().format_help()
    for verb in ("init", "check", "doctor", "plan", "run", "worker", "proxy", "status", "predict", "report"):
        assert verb in help_text
        assert f"autoprompt {verb}" in README


def test_every_key_of_a_space_file_is_in_the_readme() -> None:
    missing = []
    for name, field in Config.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {name: None})
        missing += [key for key in keys if f"`{key}`" not in README and f"[{name}.{key}]" not in README]
    assert missing == []


def test_the_readme_names_the_five_words_and_every_room() -> None:
    for word in ("space", "prompt", "score", "study", "winner"):
        assert f"- **{word}**:" in README
    rooms = {p.name for p in (ROOT / "autoprompt").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    shown = set(re.findall(r"^  (\w+(?:\.py|/))", README, re.MULTILINE))
    rooms = {r if r.endswith(".py") else f"{r}/" for r in rooms} - {"__init__.py", "__main__.py"}
    assert rooms == shown


def test_the_package_speaks_of_itself_alone() -> None:
    for path in [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "autoprompt").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:work|root|home)/|pypi\.org|TODO|FIXME", text), path
