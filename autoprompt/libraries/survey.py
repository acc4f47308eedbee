"""How many templates of PromptSource can be rendered here, and why the others cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from autoprompt.errors import PromptError
from autoprompt.libraries.cutting import BAR, as_imported, whole
from autoprompt.libraries.fitting import fitting_rows
from autoprompt.libraries.imported import Imported, Refused, Written
from autoprompt.libraries.promptsource import read_templates
from autoprompt.template import compiled

__all__ = ["rendered", "survey"]

_TRIED = 400  # rows
_ANSWER = "\ue0a4"
_NOTHING = "It shows no input or no target on any row that was tried."


def rendered(given: Written, found: Imported, tried: int = _TRIED) -> Mapping[str, Any] | Refused:
    """A row on which a template shows input and target, and ours shows the same input; or why there is none."""
    reasons: Counter[str] = Counter()
    own, ours = compiled(whole(given)), compiled(found.template)
    for row in fitting_rows(own.source, f"{given.source} {given.name}", tried):
        try:
            parts = [part.strip() for part in own.render(row).split(BAR)]
            if len(parts) != 2 or not all(parts):
                reasons[_NOTHING] += 1
                continue
            before, *behind = ours.render({**row, "label": _ANSWER}).split(_ANSWER)
        except PromptError as error:
            reasons[_reason(error)] += 1
            continue
        if len(behind) == 1 and not behind[0].strip() and before.strip() == parts[0]:
            return row
        reasons["Our form of it shows another input."] += 1
    return Refused(given.name, reasons.most_common(1)[0][0])


def _reason(error: PromptError) -> str:
    """What went wrong, without the template."""
    return re.sub(r"^The template .* cannot be rendered: ", "It cannot be rendered: ", str(error), flags=re.DOTALL)


def survey(rows: Iterable[Mapping[str, Any]], tried: int = _TRIED) -> dict[str, Any]:
    """Counts of the templates of all rows of a JSON-lines file.

    data_sets, templates; rendered: those that show input and target on a row made for them; share: of the
    templates; words: of the rendered, those whose answer choices are the same for every row; texts_alone: those
    whose columns are all texts, so that the template can stand in a space file; refused: the others by reason,
    and refusals: each with its data set and name. Raises LibraryError when a row is no YAML of this kind.
    """
    counts: Counter[str] = Counter(data_sets=0, templates=0, rendered=0, words=0, texts_alone=0)
    refusals: list[dict[str, str]] = []
    for row in rows:
        counts["data_sets"] += 1
        for given in read_templates(row["yaml"], str(row["dataset"])):
            counts["templates"] += 1
            found = as_imported(given) if isinstance(given, Written) else given
            fits: Mapping[str, Any] | Refused
            fits = rendered(given, found, tried) if isinstance(given, Written) and isinstance(found, Imported) else {}
            refused = found if isinstance(found, Refused) else fits
            if isinstance(refused, Refused):
                refusals.append({"data_set": row["dataset"], "name": refused.name, "reason": refused.reason})
            elif isinstance(found, Imported) and not isinstance(fits, Refused):
                counts["rendered"] += 1
                counts["words"] += found.label_words is not None
                counts["texts_alone"] += all(isinstance(fits.get(name), str) for name in found.fields)
    reasons = Counter(one["reason"] for one in refusals)
    share = counts["rendered"] / max(1, counts["templates"])
    return {**counts, "share": share, "refused": dict(reasons.most_common()), "refusals": refusals}
