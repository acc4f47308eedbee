"""The candidates of prompt libraries, joined to those of the space file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoprompt.config.sections import Config, PromptSection, SpaceSection
from autoprompt.errors import LibraryError
from autoprompt.libraries import Library, Refused, read_library, told

__all__ = ["library_problems", "with_libraries"]


def library_problems(space: SpaceSection, prompt: PromptSection, fields: Sequence[str], folder: Path) -> list[str]:
    """What is wrong with the names of the libraries, or in their files."""
    return _read(space, prompt, fields, folder)[1]


def with_libraries(config: Config, folder: Path) -> tuple[Config, list[str]]:
    """The config with the candidates of its libraries in its lists, and what is wrong with the libraries."""
    if not config.space.libraries:
        return config, []
    found, problems = _read(config.space, config.prompt, config.data.fields, folder)
    space, owners = config.space, _owners(config.prompt, config.space)
    notices = []
    for name, library in found.items():
        kept = _own_words(library, owners)
        space = _added(space, kept)
        notices.append(told(name, kept))
    return config.joined(space.model_copy(update={"libraries": []}), notices), problems


def _read(
    space: SpaceSection, prompt: PromptSection, fields: Sequence[str], folder: Path
) -> tuple[dict[str, Library], list[str]]:
    found: dict[str, Library] = {}
    problems = []
    for name in dict.fromkeys(space.libraries):
        try:
            found[name] = read_library(name, folder, fields, list(prompt.label_words))
        except LibraryError as error:
            problems.append(f"space.libraries has {name!r}. {error}")
    return found, problems


def _owners(prompt: PromptSection, space: SpaceSection) -> dict[str, str]:
    """The label of each word."""
    owners = {word: label for label, words in space.label_words.items() for word in words}
    return owners | {word: label for label, word in prompt.label_words.items()}


def _own_words(library: Library, owners: dict[str, str]) -> Library:
    """The library without label words that another label has already; `owners` learns the others."""
    kept: list[Mapping[str, str]] = []
    refused = list(library.refused)
    for words in library.label_words:
        taken = [(label, word) for label, word in words.items() if owners.get(word, label) != label]
        if taken:
            label, word = taken[0]
            reason = f"{word!r} would stand for {label!r}, and stands for {owners[word]!r} already."
            refused.append(Refused(f"the answer choices {' | '.join(words.values())}", reason))
        else:
            kept.append(words)
            owners |= {word: label for label, word in words.items()}
    return replace(library, label_words=tuple(kept), refused=tuple(refused))


def _added(space: SpaceSection, library: Library) -> SpaceSection:
    words = {label: list(own) for label, own in space.label_words.items()}
    for mapping in library.label_words:
        for label, word in mapping.items():
            words[label] = list(dict.fromkeys([*words.get(label, []), word]))
    lists = {
        "templates": list(dict.fromkeys([*space.templates, *library.templates])),
        "instructions": list(dict.fromkeys([*space.instructions, *library.instructions])),
    }
    return space.model_copy(update={**lists, "label_words": words})
