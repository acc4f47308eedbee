"""What to try next, from the evidence: rules on data, verdict and winner; those on the search stand in `effort`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from autoprompt.report.page.counsel import Advice, Rule
from autoprompt.report.page.effort import EFFORT
from autoprompt.report.page.markup import count, esc, finite, note, score, section, share, signed, span
from autoprompt.report.page.story import Story

__all__ = ["advice_section", "advised"]

_SHOWN = 9
_SMALL = 0.02  # share of answers that is worth a word
_FAR = 0.10  # difference of shares that is worth a word
_WIDEN = {
    "demonstration": (
        "give it more to choose from: raise <code>most</code> and <code>draws</code> in "
        "<code>[space.demonstrations]</code>"
    ),
    "instruction": "write more <code>instructions</code> into <code>[space]</code>, in the manner of the winner's",
    "template": "write more <code>templates</code> into <code>[space]</code>",
    "label words": "offer more <code>label_words</code> in <code>[space]</code>",
    "calibration": "keep <code>calibration</code> in the space, and write the winner's into <code>[prompt]</code>",
    "temperature": "offer <code>temperatures</code> around the winner's in <code>[space]</code>",
    "vectors": "try more vectors and starts in <code>[space.soft]</code>",
}


def advice_section(story: Story) -> str:
    """The most important pieces of advice, each with its evidence."""
    found = advised(story)
    lines = "".join(f"<li><strong>{a.what}</strong> <span class=quiet>{a.why}</span></li>" for a in found[:_SHOWN])
    if lines:
        return section("next", "What to try next", f'<ol class="advice">{lines}</ol>')
    if story.verdict is None:
        return ""
    return section("next", "What to try next", note("Nothing in the evidence calls for a change.", ""))


def advised(story: Story) -> list[Advice]:
    """All that the rules have to say, the most important first."""
    return sorted((a for rule in (*_RULES, *EFFORT) for a in rule(story)), key=lambda a: -a.weight)


# -- the data, and what the test can show -------------------------------------------------------------


def _findings(story: Story) -> Iterator[Advice]:
    problems = list({f["check"]: f for f in story.findings if f["level"] == "problem"}.values())
    for at, finding in enumerate(problems[:3]):
        leaks = "leak" in finding["check"] or "duplicate" in finding["check"] or "giveaway" in finding["check"]
        what = "Mend the data first: scores on it are too good." if leaks else "Mend what the doctor calls a problem."
        yield Advice(100 - at, what, f"{esc(finding['check'], 60)}: {esc(finding['message'], 300)}")
    doubted = [f for f in story.findings if f["check"] == "labels" and f["level"] == "warning"]
    for finding in doubted[:1]:
        yield Advice(
            67, "Read the labels that the doctor doubts, and mend those that are wrong.", esc(finding["message"])
        )


def _small_test(story: Story) -> Iterator[Advice]:
    """The interval holds zero, and the test could not have shown a difference like the one seen."""
    if story.detail is None or story.verdict is None or story.gain is None or story.tests is None or story.kept:
        return
    low, high = story.verdict["interval"]
    least, gain = story.detail["detectable"], story.gain
    if not (low <= 0 <= high and finite(least) and finite(gain) and least > abs(gain)):
        return
    why = f"{count(story.tests)} examples can show {score(least)}; seen is {signed(gain)} ({span((low, high))})."
    if story.sign * gain > 0 and story.tests:
        need = math.ceil(story.tests * (least / abs(gain)) ** 2)
        if need <= 1_000_000:
            yield Advice(
                90, f"Label more test examples: about {count(need)} would show a difference like this one.", why
            )
            return
    yield Advice(40, "More test examples would hardly change this verdict.", why + " No gain stands in sight.")


def _optimism(story: Story) -> Iterator[Advice]:
    values = {c["number"]: c["value"] for c in story.confirmed}
    if story.winner is None or story.verdict is None or story.kept:
        return
    dev = values.get(story.winner["number"], story.winner["value"])
    fall = story.sign * (dev - story.verdict["winner_test"])
    base = story.baseline["value"] - story.verdict["baseline_test"] if story.baseline else 0.0
    excess = fall - story.sign * base  # how much more the winner falls than the user's prompt, which nothing chose
    if finite(excess) and excess > 0.05:
        why = f"From dev to the test the winner falls by {score(fall)}, your prompt by {score(story.sign * base)}."
        yield Advice(60, "Give the search more dev examples: it fitted those that it had.", why)


def _rival(story: Story) -> Iterator[Advice]:
    rival: Mapping[str, Any] = story.detail["rival"] if story.detail else {}
    if rival and min(story.sign * end for end in rival["interval"]) <= 0:
        why = f"The winner minus it: {signed(rival['difference'])} ({span(rival['interval'])})."
        yield Advice(75, f"Weigh a simpler way: the winner does not certainly beat {esc(rival['name'], 80)}.", why)


def _ceiling(story: Story) -> Iterator[Advice]:
    base = story.baseline["value"] if story.baseline else None
    if story.metric in {"accuracy", "macro_f1"} and base is not None and base >= 0.97:
        yield Advice(
            65,
            "Collect harder examples: there is little left to win on these.",
            f"Your own prompt has {score(base)} on dev.",
        )


# -- the winner -----------------------------------------------------------------------------------------


def _answers(story: Story) -> Iterator[Advice]:
    ledger: Mapping[str, Any] = story.detail["ledger"] if story.detail else {}
    total = sum(n for name, n in ledger.items() if name != "truncated") or 1  # those are among the others as well
    cut = ledger.get("truncated", 0) + ledger.get("too long", 0)
    if cut / total >= _SMALL:
        why = f"{count(cut)} of {count(total)} answers were to inputs that were shortened or too long."
        yield Advice(70, "Shorten the prompt, or take a model with a longer window.", why)
    if ledger.get("unparseable", 0) / total >= _SMALL:
        why = f"{count(ledger['unparseable'])} of {count(total)} answers could not be read as a label."
        yield Advice(72, "Make the label words and the end of the template clearer.", why)


def _classes(story: Story) -> Iterator[Advice]:
    classes: Mapping[str, Any] = story.detail["classes"] if story.detail else {}
    known = {
        label: c for label, c in classes.items() if c["examples"] and finite(c["winner"]) and finite(c["baseline"])
    }
    if len(known) < 2:
        return
    worst = min(known, key=lambda label: known[label]["winner"])
    mean = sum(c["winner"] * c["examples"] for c in known.values()) / sum(c["examples"] for c in known.values())
    if known[worst]["winner"] < 0.6 * mean:
        right, size = share(known[worst]["winner"]), count(known[worst]["examples"])
        why = f"{right} of its {size} examples are right, {share(mean)} of all."
        yield Advice(55, f"Look at the class {esc(worst, 80)}: label more of it, or name it better.", why)
    fallen = min(known, key=lambda label: known[label]["winner"] - known[label]["baseline"])
    drop = known[fallen]["baseline"] - known[fallen]["winner"]
    if drop >= _FAR and story.verdict is not None and story.verdict["outcome"] == "improved":
        before, after = share(known[fallen]["baseline"]), share(known[fallen]["winner"])
        why = f"{before} were right with your prompt, {after} with the winner."
        yield Advice(58, f"Check the class {esc(fallen, 80)} before you switch: the winner pays with it.", why)


def _calibration(story: Story) -> Iterator[Advice]:
    error = story.detail["calibration"].get("winner") if story.detail else None
    if finite(error) and error > 0.10:
        why = f"Its stated probabilities miss what is right by {score(error)} on average."
        yield Advice(
            30,
            "Do not trust the winner's probabilities as they are: offer <code>temperatures</code> in the space.",
            why,
        )


def _robustness(story: Story) -> Iterator[Advice]:
    event = story.latest("RobustnessMeasured")
    if event is None or story.baseline is None:
        return
    fall = story.sign * (event["value"] - event["worst"])
    gain = story.sign * (event["value"] - story.baseline["value"])
    if finite(fall) and fall > max(0.02, gain / 2):
        why = f"The worst of the changes that should not matter takes {score(fall)} of {score(event['value'])}."
        yield Advice(62, 'Search once more with <code>choose_by = "worst"</code>: the winner is easily shaken.', why)


def _shorter(story: Story) -> Iterator[Advice]:
    event = story.latest("PromptShortened")
    if event is not None and event["dropped"] and event["tokens"][0]:
        saved = 1 - event["tokens"][1] / event["tokens"][0]
        if saved >= _FAR:
            long, short = (score(tokens, 0) for tokens in event["tokens"])
            change = signed(event["value"][1] - event["value"][0])
            why = f"{short} instead of {long} tokens a call, {change} on dev."
            yield Advice(66, f"Use the shortest equivalent: it saves {share(saved)} of the tokens.", why)


def _strongest_part(story: Story) -> Iterator[Advice]:
    event = story.latest("GainExplained")
    parts = [p for p in event["parts"] if finite(p["value"])] if event else []
    if event is None or event["total"] <= 0 or not parts:
        return
    sums: dict[str, float] = {}
    for part in parts:
        sums[str(part["kind"])] = sums.get(str(part["kind"]), 0.0) + part["value"]
    best = max(sums, key=lambda kind: sums[kind])
    if best in _WIDEN and sums[best] >= 0.5 * event["total"]:
        yield Advice(
            50,
            f"Where the gain comes from, {_WIDEN[best]}.",
            f"{esc(best, 40)}: {share(sums[best] / event['total'])} of it.",
        )
    for part in parts:
        if part["high"] < 0 and part["last"] < 0:
            why = f"It earns {signed(part['value'])} ({span((part['low'], part['high']))})."
            yield Advice(57, f"Try the winner without {esc(part['part'], 60)}.", why)
            return


def _models(story: Story) -> Iterator[Advice]:
    event = story.latest("PromptsTransferred")
    own = story.winner["value"] if story.winner else None
    found = [
        (story.sign * v, row["model"], name, v)
        for row in (event["rows"] if event else ())
        for name, v in row["values"].items()
        if finite(v)
    ]
    if found and own is not None:
        edge, model, name, value = max(found, key=lambda entry: entry[0])
        if edge - story.sign * own > 0.02:
            why = f"With {esc(name, 60)} it has {score(value)} on dev, this model {score(own)}."
            yield Advice(64, f"Try the model {esc(model, 80)}.", why)


_RULES: tuple[Rule, ...] = (
    _findings, _small_test, _optimism, _rival, _ceiling, _answers, _classes, _calibration, _robustness, _shorter,
    _strongest_part, _models,
)  # fmt: skip
