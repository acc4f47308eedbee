"""Template files of PromptSource: YAML read by a reader that knows two tags and builds nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from autoprompt.errors import LibraryError, nearest
from autoprompt.libraries.imported import Refused, Written

__all__ = ["FOLDER", "find_templates", "read_rows", "read_templates", "text_of"]

FOLDER = "AUTOPROMPT_PROMPTSOURCE"  # names a folder with templates.jsonl, or one of PromptSource's own layout
_LARGEST = 16 * 2**20  # bytes of a file of templates
_DEEPEST = 64  # lists and mappings within one another
_MOST = 200_000  # parts of a document
_ROWS, _OWN = "templates.jsonl", "templates"


class _Reader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML's safe reader with PromptSource's two tags, which are plain mappings; its size and depth are bounded.

    An alias is the same value once more, and costs nothing; a merge copies, twice as much each time, and is refused.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._parts = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._parts += 1
        if self._depth >= _DEEPEST or self._parts > _MOST:
            raise yaml.YAMLError(f"more than {_DEEPEST} levels or {_MOST:,} parts")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys (<<) are not allowed")


def _mapping(reader: _Reader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.YAMLError(f"the tag {node.tag} stands before what is no mapping")
    return dict(reader.construct_mapping(node, deep=True))


_Reader.add_constructor("!Template", _mapping)
_Reader.add_constructor("!TemplateMetadata", _mapping)


# -- reading ---------------------------------------------------------------------------------------


def read_templates(text: str, source: str) -> list[Written | Refused]:
    """The templates of a templates.yaml, in the order of their names. source: how the data set is called.

    Raises LibraryError when the text is no YAML of this kind: a mapping with `templates`, whose values are
    mappings with `name` and `jinja`.
    """
    try:
        value = yaml.load(text, _Reader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that is none
        told = " ".join(str(error).split())
        raise LibraryError(f"The templates of {source} are not YAML that can be read: {told[:300]}.") from None
    templates = value.get("templates") if isinstance(value, dict) else None
    if not isinstance(templates, dict):
        raise LibraryError(f"The file of {source} has no mapping `templates`, as a templates.yaml of PromptSource has.")
    found = [_taken(str(key), one, source) for key, one in templates.items()]
    return sorted(found, key=lambda one: one.name)


def _taken(key: str, value: object, source: str) -> Written | Refused:
    """One template. A mapping of other keys than PromptSource's is read for those that count."""
    given = value if isinstance(value, dict) else {}
    name, jinja, choices = given.get("name") or key, given.get("jinja"), given.get("answer_choices")
    if not isinstance(jinja, str) or not isinstance(name, str):
        return Refused(str(name), "It has no text `jinja` and `name`.")
    if choices is not None and not isinstance(choices, str):
        return Refused(name, "Its `answer_choices` is no text.")
    return Written(name, jinja, choices or None, source)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file: `dataset` (with a subset behind a slash) and `yaml`, the text of its file.

    Raises LibraryError with the line that is wrong.
    """
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LibraryError(f"{path}, line {number} is no JSON: {error}.") from None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("dataset", "yaml")):
            raise LibraryError(f"{path}, line {number} needs the texts `dataset` and `yaml`.")
        yield row


def text_of(path: Path) -> str:
    """The text of a file of a library. Raises LibraryError when it cannot be read, is no UTF-8, or is too large."""
    try:
        if path.stat().st_size > _LARGEST:
            raise LibraryError(f"{path} has more than {_LARGEST // 2**20} MB; it is no file of templates.")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise LibraryError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


# -- where they are --------------------------------------------------------------------------------


def find_templates(dataset: str, folder: Path) -> list[Written | Refused]:
    """The templates of a data set, such as "ag_news" or "super_glue/boolq".

    They are looked for beside the space file (`folder`), then in the folder that the variable
    AUTOPROMPT_PROMPTSOURCE names, then in the package promptsource, which is found and not imported. Raises
    LibraryError when there is no such folder or data set, with the nearest names.
    """
    places = _places(folder)
    known: list[str] = []
    for place in places:
        found = dict(_collections(place))
        if dataset in found:
            return read_templates(_content(found[dataset]), f"promptsource:{dataset}")
        known += found
    if not known:
        raise LibraryError(
            f"There are no templates of PromptSource: neither {_ROWS} nor {_OWN}/ in {' or '.join(map(str, places))}, "
            f"and no installed promptsource. Put one there, or name its folder in {FOLDER}."
        )
    near = nearest(dataset, known) or _subsets(dataset, known)
    raise LibraryError(f"PromptSource has no data set {dataset!r} here, among {len(set(known))}.{near}")


def _subsets(dataset: str, known: list[str]) -> str:
    found = sorted({name for name in known if name.split("/")[0] == dataset.split("/")[0]})
    return f" There are {', '.join(found[:8])}." if found else ""


def _places(folder: Path) -> list[Path]:
    places = [folder]
    if os.environ.get(FOLDER):
        places.append(Path(os.environ[FOLDER]))
    spec = importlib.util.find_spec("promptsource")
    places += [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    return places


def _collections(place: Path) -> Iterator[tuple[str, Path | str]]:
    """The data sets of a place: each name with its file, or with the text of it."""
    for own in (place / _OWN, place):
        for path in sorted(own.glob("*/templates.yaml")) + sorted(own.glob("*/*/templates.yaml")):
            yield path.parent.relative_to(own).as_posix(), path
        if own.is_dir() and own.name == _OWN:
            break
    if (place / _ROWS).is_file():
        for row in read_rows(place / _ROWS):
            yield row["dataset"], row["yaml"]


def _content(given: Path | str) -> str:
    return text_of(given) if isinstance(given, Path) else given
