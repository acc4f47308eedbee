"""Starting candidates out of prompt libraries: PromptSource, LangChain, and plain texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoprompt.errors import LibraryError, PromptError, nearest
from autoprompt.libraries.cutting import as_imported, shown_name
from autoprompt.libraries.imported import Imported, Library, Refused, Written, with_answer
from autoprompt.libraries.langchain import read_chain
from autoprompt.libraries.promptsource import find_templates, read_templates, text_of
from autoprompt.libraries.survey import survey
from autoprompt.libraries.texts import read_lines
from autoprompt.libraries.words import words_of
from autoprompt.prompt import check_template
from autoprompt.template import compiled

__all__ = ["Imported", "Library", "Refused", "Written", "as_imported", "read_library", "survey", "told"]

_PROMPTSOURCE = "promptsource:"
_KINDS = (".json", ".txt", ".yaml", ".yml")


def read_library(name: str, folder: Path, fields: Sequence[str], labels: Sequence[str]) -> Library:
    """The candidates of a library that fit data with these input fields and labels.

    name: "promptsource:ag_news" or "promptsource:super_glue/boolq"; or a path, from `folder` on, of a templates.yaml
    of PromptSource, of a prompt that LangChain saved (.json), or of a text with a candidate a line (.txt). What
    does not fit is in `refused`, with the reason. Raises LibraryError when there is no such library, or it cannot
    be read.
    """
    if name.startswith(_PROMPTSOURCE):
        return _fitting(find_templates(name.removeprefix(_PROMPTSOURCE), folder), fields, labels)
    path = _file(name, folder)
    if path.suffix in {".yaml", ".yml"}:
        return _fitting(read_templates(text_of(path), name), fields, labels)
    found = read_chain(text_of(path), name) if path.suffix == ".json" else read_lines(text_of(path))
    return _checked(found, fields)


def told(name: str, library: Library) -> str:
    """What was taken of a library and what was not, in a sentence."""
    parts = {
        "template": len(library.templates),
        "instruction": sum(map(bool, library.instructions)),
        "choice of label words": len(library.label_words),
    }
    taken = ", ".join(_counted(count, kind) for kind, count in parts.items() if count) or "nothing"
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in library.refused:
        by_reason[one.reason].append(one.name)
    shown = [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {reason}"
        for reason, names in by_reason.items()
    ]
    more = f" And {len(shown) - 5} more reasons." if len(shown) > 5 else ""
    ending = f"{len(library.refused)} refused: {' '.join(shown[:5])}{more}" if shown else "none refused."
    return f"Taken from {name}: {taken}; {ending}"


def _counted(count: int, kind: str) -> str:
    return f"1 {kind}" if count == 1 else f"{count} {kind.replace('choice', 'choices') if ' ' in kind else kind + 's'}"


# -- files -----------------------------------------------------------------------------------------


def _file(name: str, folder: Path) -> Path:
    try:
        path = folder / name
        is_file, parent = path.is_file(), path.parent
        beside = [one.name for one in parent.iterdir()] if parent.is_dir() and not is_file else []
    except (OSError, ValueError):  # a name that no file can have
        raise LibraryError("It is not a file's name.") from None
    if path.suffix not in _KINDS:
        raise LibraryError(
            f'It is no library: give "{_PROMPTSOURCE}DATASET", or a file that ends in {", ".join(_KINDS)}. '
            'A single instruction stands in a list: instructions = ["..."].'
        )
    if not is_file:
        raise LibraryError(f"There is no file {path}.{nearest(path.name, beside)}")
    return path


# -- what fits -------------------------------------------------------------------------------------


def _fitting(templates: Sequence[Written | Refused], fields: Sequence[str], labels: Sequence[str]) -> Library:
    """The templates of PromptSource whose columns there are, and their answer choices as label words."""
    taken: list[Imported] = []
    refused: list[Refused] = []
    for one in templates:
        found = as_imported(one) if isinstance(one, Written) else one
        reason = found.reason if isinstance(found, Refused) else _objection(found, fields)
        if isinstance(found, Refused) or reason:
            refused.append(Refused(found.name, reason))
        else:
            taken.append(found)
    words: dict[tuple[str, ...], Mapping[str, str]] = {}
    reasons: dict[tuple[str, ...], str] = {}
    for template in taken:
        if template.label_words is not None and template.label_words not in words:
            matched = words_of(template, labels)
            if isinstance(matched, str):
                reasons[template.label_words] = matched
            else:
                words[template.label_words] = matched
    refused += [Refused(_called(key), reason) for key, reason in reasons.items() if key not in words]
    distinct = {tuple(sorted(one.items())): one for one in words.values()}
    shown = tuple(dict.fromkeys(one.template for one in taken))
    # these templates hold their own question: each has to have its chance without an instruction in front
    return Library(("",) if shown else (), shown, tuple(distinct.values()), tuple(refused))


def _called(choices: tuple[str, ...]) -> str:
    return f"the answer choices {' | '.join(choices[:4])}{' | ...' if len(choices) > 4 else ''}"


def _objection(found: Imported, fields: Sequence[str]) -> str:
    """Why a template does not fit, or nothing."""
    missing = sorted({shown_name(field) for field in found.fields if field not in fields})
    if missing:
        return f"It wants the columns {', '.join(missing)}; the data's fields are {', '.join(fields)}."
    try:
        check_template(found.template, fields)
    except PromptError as error:
        return str(error)
    return ""


def _checked(found: Library, fields: Sequence[str]) -> Library:
    """The library with its templates checked, {{ label }} at the end of those that lack it."""
    kept, refused = [], list(found.refused)
    for template in found.templates:
        try:
            whole = template if "label" in compiled(template).names else with_answer(template)
            check_template(whole, fields)
            kept.append(whole)
        except PromptError as error:
            refused.append(Refused(template if len(template) <= 40 else template[:37] + "...", str(error)))
    # as for PromptSource: a template that came without an instruction may stand without one
    alone = ("",) if kept and not found.instructions else ()
    instructions = tuple(dict.fromkeys((*found.instructions, *alone)))
    return Library(instructions, tuple(dict.fromkeys(kept)), (), tuple(refused))
