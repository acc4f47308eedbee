"""The page around its sections: one file that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from autoprompt.report.page.markup import esc
from autoprompt.report.page.script import SCRIPT
from autoprompt.report.page.style import STYLE

__all__ = ["document"]

_HEADING = re.compile(r'^<section id="([a-z]+)"')
_NAMES = {
    "prompts": "Prompts", "interval": "How sure", "baselines": "Baselines", "classes": "Classes", "answers": "Answers",
    "curve": "Search", "front": "Tokens", "importance": "What mattered", "lineage": "Lineage", "finalists": "Finalists",
    "why": "Why", "shortest": "Shortest", "robust": "Robustness", "transfer": "Models", "flips": "Flips",
    "doctor": "Doctor", "tuning": "Fine-tuning", "failures": "Failures", "cost": "Cost", "next": "Next", "run": "Run",
    "runs": "Runs", "differences": "Differences", "curves": "Search", "winners": "Winners", "settings": "Settings",
}  # fmt: skip


def document(title: str, top: str, sections: Sequence[str]) -> str:
    """The whole file. title: text; top and sections: HTML, an empty section is left out.

    Only this style and this script are let in, by their hashes; nothing may be loaded, sent or framed.
    """
    found = [section for section in sections if section]
    names = [match[1] for section in found if (match := _HEADING.match(section))]
    links = "".join(f'<a href="#{name}">{_NAMES.get(name, name)}</a>' for name in names)
    policy = (
        f"default-src 'none'; style-src '{_hashed(STYLE)}'; script-src '{_hashed(SCRIPT)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{esc(title, 120)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">Skip to the verdict</a>\n<div class="bar-top">'
        f'<nav aria-label="Sections" tabindex="0">{links}</nav>'
        '<button type="button" id="theme" aria-pressed="false" hidden>Dark</button></div>\n'
        f'<main id="content">\n{top}\n' + "\n".join(found) + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _hashed(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
