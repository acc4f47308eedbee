"""What was wrong, what it cost, and what the run was: findings, failures, tokens and seconds, settings."""

from __future__ import annotations

from collections.abc import Sequence

from autoprompt.report.numbers import energy
from autoprompt.report.page.markup import (
    count,
    details,
    duration,
    esc,
    items,
    note,
    number_of,
    pairs,
    score,
    section,
    share,
    table,
)
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.strips import bar

__all__ = ["cost_section", "doctor_section", "failure_section", "run_section"]

_LEVELS = {"problem": ("bad", "problem"), "warning": ("warn", "warning"), "fine": ("good", "fine")}
_FINDINGS, _REASONS = 60, 25


def doctor_section(story: Story) -> str:
    """What the doctor found, the worst first; what is fine only where it is asked for."""
    found = story.findings
    if not found:
        return ""
    bad = [f for level in ("problem", "warning") for f in found if f["level"] == level]
    fine = [f for f in found if f["level"] not in {"problem", "warning"}]
    said = "" if bad else "Nothing is wrong with data, metric and noise, as far as the doctor can see."
    more = note(f"{len(bad) - _FINDINGS} more are in events.jsonl.") if len(bad) > _FINDINGS else ""
    return section(
        "doctor", "What the doctor found", note(said, ""), _findings(bad), more,
        details(f"{len(fine)} checked and fine", _findings(fine)),
    )  # fmt: skip


def _findings(found: Sequence[Record]) -> str:
    lines = []
    for finding in found[:_FINDINGS]:
        tone, word = _LEVELS.get(finding["level"], ("same", esc(finding["level"], 20)))
        said = f"<b>{esc(finding['check'], 60)}</b>: {esc(finding['message'], 800)}"
        lines.append(
            f'<span class="badge {tone}">{word}</span> {said}' + details("details", pairs(finding["details"], 20))
        )
    return items(lines, "findings")


def failure_section(story: Story) -> str:
    """Failed trials by their reason, and examples that were left out."""
    reasons: dict[str, list[Record]] = {}
    for trial in story.failed:
        reasons.setdefault(str(trial["reason"]), []).append(trial)
    order = sorted(reasons, key=lambda reason: (-len(reasons[reason]), reason))
    rows = [
        (
            f"{len(reasons[r])} of {esc(reasons[r][0]['kind'], 40)}, such as trial {count(reasons[r][0]['number'])}",
            f'<div class="said">{esc(r, 400)}</div>',
        )
        for r in order[:_REASONS]
    ]
    if len(order) > _REASONS:
        rows.append((f"{len(order) - _REASONS} more reasons", "in events.jsonl"))
    left = list({(e["split"], e["number"]): e for e in story.all("ExampleQuarantined")}.values())
    out = [
        (
            f"{esc(e['split'], 20)} {count(e['number'])}",
            f'<div class="said">{esc(e["preview"], 120)}</div>',
            f'<div class="said">{esc(e["reason"], 200)}</div>',
        )
        for e in left[:_REASONS]
    ]
    title = f"{number_of(len(story.failed), 'trial')} failed, for {number_of(len(order), 'reason')}."
    gone = f"Left out, because not even your own prompt can be scored on them: {number_of(len(left), 'example')}."
    return section(
        "failures", "Failures", note(title if order else "", ""),
        table(("trials", "reason"), rows, "Failed trials"), note(gone if left else "", ""),
        table(("example", "text", "reason"), out, "Examples left out"),
    )  # fmt: skip


def cost_section(story: Story) -> str:
    """Tokens, seconds and energy by stage, and the tokens of each branch."""
    if not story.stages and not story.trials:
        return ""
    total = {key: sum(s.get(key, 0.0) for s in story.stages.values()) for key in ("seconds", "tokens", "kwh")}
    measured = any("kwh" in s for s in story.stages.values())
    rows = [_cost(esc(stage, 40), sums, total["seconds"], measured) for stage, sums in list(story.stages.items())[:30]]
    if len(rows) > 1:
        rows.append(_cost("all", total, total["seconds"], measured))
    head = ("stage", "time", "tokens", "energy", "") if measured else ("stage", "time", "tokens", "")
    finished = story.latest("RunFinished")
    searched = sum(t["tokens"] for t in story.trials)
    scored = duration(sum(t["seconds"] for t in story.trials))
    lines = [f"The search's prompts took {count(searched)} tokens and {scored} of scoring."]
    if finished:
        lines.append(f"The last process of the run took {duration(finished['seconds'])}.")
    lines.append("Energy: as the device told it." if measured else "Energy: not measured; no device told it.")
    spent = {b: sum(t["tokens"] for t in found) for b, found in story.branches.items()}
    by_branch = [
        (esc(b, 40), count(n), share(n / searched if searched else None), bar(n / searched if searched else 0.0))
        for b, n in list(spent.items())[:40]
    ]
    return section(
        "cost", "What it cost", table(head, rows, "By stage"), items(lines),
        details("Tokens by branch", table(("branch", "tokens", "share", ""), by_branch, "Tokens by branch")),
    )  # fmt: skip


def _cost(name: str, sums: Record, seconds: float, measured: bool) -> Sequence[str]:
    taken = [energy(sums.get("kwh"))] if measured else []
    return name, duration(sums["seconds"]), count(sums["tokens"]), *taken, bar(sums["seconds"] / (seconds or 1.0))


def run_section(story: Story) -> str:
    """What was run on what."""
    direction, seed = "more" if story.maximize else "less", esc(story.started.get("seed", "?"), 40)
    lines = [f"metric {esc(story.metric, 60)}, {direction} is better; seed {seed}"]
    if model := story.latest("ModelLoaded"):
        size = f"{score(model['parameters'] / 1e6, 1)} M parameters"
        kind = ", ".join((esc(model["family"], 40), size, esc(model["device"], 40), esc(model["dtype"], 40)))
        lines.append(f"model {esc(model['name'])} ({kind})")
    if data := story.latest("DataRead"):
        lines.append(
            f"{count(data['train'])} training, {count(data['dev'])} dev and {count(data['test'])} test examples, "
            f"{len(data['labels'])} labels, {count(data['duplicates_removed'])} duplicates removed"
        )
    times = len(story.all("RunStarted"))
    if times > 1:
        lines.append(f"begun or resumed {times} times")
    if plan := story.latest("PlanMade"):
        stages = ", ".join(
            f"{esc(stage, 40)} {duration(seconds)}" for stage, seconds in list(plan["seconds"].items())[:20]
        )
        lines.append(f"planned: {count(plan['trials'])} trials, {stages}")
    notices = list(dict.fromkeys(str(event["message"]) for event in story.all("Notice")))
    more = ", the first 40" if len(notices) > 40 else ""
    return section(
        "run",
        "The run",
        items(lines),
        details(f"{number_of(len(notices), 'note')} of the run{more}", items(esc(n, 400) for n in notices[:40])),
    )
