"""The events of whole runs, as they come back from a journal."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from autoprompt import events

__all__ = ["LABELS", "finished", "flipped", "records", "search", "started", "won"]

LABELS = ("account", "billing", "feedback", "returns", "sales", "shipping", "technical")
OWN = "Sort the message.\n\n{text}\nLabel: {label}"
DEMONSTRATIONS = (
    "Message: the code my mate gave me for 15 off dissapeared from the basket, can u still apply it\nTeam: billing",
    "Message: Can the e-gift card be sent straight to my friend on her birthday?\nTeam: before buying",
    "Message: ordered by accident arrived today dont want it\nTeam: send back",
)
WINNER = "\n\n".join(("Sort the message by team.", *DEMONSTRATIONS, "Message: {text}\nTeam: {label}"))


def records(found: Iterable[events.Event]) -> list[dict[str, Any]]:
    """The events as they come back from a journal."""
    return [json.loads(json.dumps({"at": 1.0 + at, "up": float(at), **e.record()})) for at, e in enumerate(found)]


def started(
    name: str = "support", trials: int = 200, maximize: bool = True, resumed: bool = False
) -> list[events.Event]:
    metric = "accuracy" if maximize else "log_loss"
    return [
        events.RunStarted(name, resumed, metric, maximize, 7, trials),
        events.DataRead(280, 210, 210, LABELS, 4),
        events.ModelLoaded("builtin", "causal", "cpu", "float32", 5_511_424),
        events.PlanMade(trials, 3.89, {"search": 180.0, "verdict": 2.0}, 456_000_000, 24_000_000, 10**12, 300.0),
        events.Finding("duplicates", "fine", "No text stands twice.", {"rows": 700}),
        events.Finding("imbalance", "warning", 'The label "sales" has 4 % of the examples.', {"sales": 0.04, "rows": 28}),
        events.Finding("leak", "problem", 'The label stands in 12 % of the texts, e.g. "[billing] hello".', {"share": 0.12}),
        events.BaselineScored("majority class", 0.19),
        events.BaselineScored("random demonstrations", 0.66, WINNER),
        events.BaselineScored("linear probe", 0.70),
    ]  # fmt: skip


def search(trials: int = 200, seed: int = 0) -> list[events.Event]:
    """A search whose prompts get better by and by; most are dropped early."""
    draw = random.Random(seed)
    found: list[events.Event] = [
        events.StageStarted("search"),
        events.TrialFinished(0, "baseline", 0.6, 1.2, 210, 6731, 1.8, f"{0:016x}", OWN, "baseline"),
    ]
    best = [0]
    for number in range(1, trials):
        branch = draw.choice(("discrete", "edits", "demonstrations", "tuning", "gradients"))
        gain = draw.gauss(0.02 + 0.08 * number / trials, 0.05) + (0.03 if branch == "demonstrations" else 0.0)
        dropped = draw.random() < 0.7
        examples = draw.choice((16, 32, 64)) if dropped else 210
        value = round(min(1.0, max(0.0, 0.6 + gain)) * examples) / examples
        parents = tuple(dict.fromkeys(draw.choices(best[-4:], k=draw.choice((1, 2))))) if branch != "discrete" else ()
        kind, operator = (
            ("soft", "tuning from text") if branch == "tuning" else ("discrete", "" if branch == "discrete" else "swap")
        )
        if number % 37 == 0:
            found.append(events.TrialFailed(number, kind, "The template has no place for the label."))
            continue
        text = WINNER.replace("by team", f"by team, as number {number} says")
        found.append(
            events.TrialFinished(
                number, kind, value, 1 + gain, examples, examples * draw.randint(20, 90), 0.4, f"{number:016x}", text, branch,
                dropped, operator, parents, gain,
            )
        )  # fmt: skip
        if not dropped:
            best.append(number)
    return [*found, events.StageFinished("search", 607.2, 1_108_239)]


def won(found: Iterable[events.Event], maximize: bool = True) -> events.TrialFinished:
    """The best trial that saw all of dev."""
    whole = [e for e in found if isinstance(e, events.TrialFinished) and not e.dropped]
    return (max if maximize else min)(whole, key=lambda e: (e.value, -e.number))


def flipped(count: int = 24) -> events.ExamplesFlipped:
    rows = tuple(
        {
            "number": at,
            "fields": {"text": f"message {at}: my parcel number {at} did not come, where is it?"},
            "label": LABELS[at % 7], "before": LABELS[(at + 1) % 7], "after": LABELS[at % 7 if at % 3 else (at + 2) % 7],
            "shift": 0.9 - at / 60, "turn": ("lost", "gained", "gained")[at % 3],
        }
        for at in range(count)
    )  # fmt: skip
    return events.ExamplesFlipped(
        sum(r["turn"] == "gained" for r in rows), sum(r["turn"] == "lost" for r in rows), rows
    )


def _after(best: events.TrialFinished, finalists: list[events.TrialFinished]) -> list[events.Event]:
    classes = {
        label: {"examples": 30.0, "baseline": 0.5 + at / 20, "winner": 0.55 + at / 14}
        for at, label in enumerate(LABELS)
    }
    parts = [
        ("demonstration 1", "demonstration", 0.061, 0.02, 0.1, DEMONSTRATIONS[0]), ("demonstration 3", "demonstration", 0.033, -0.01, 0.07, DEMONSTRATIONS[2]),
        ("label words", "label words", 0.02, 0.0, 0.04, "before buying"), ("instruction", "instruction", -0.012, -0.03, 0.01, "Sort the message by team."),
    ]  # fmt: skip
    rows = [
        ("whitespace", "two spaces for one"),
        ("casing", "instruction in small letters"),
        ("order", "demonstrations turned round"),
        ("precision", "bfloat16"),
    ]
    return [
        *(events.Confirmed(t.number, t.kind, t.value, t.margin, t.fingerprint, t.value - 0.002, 5.0, t.number > 0) for t in finalists),
        events.WinnerChosen(best.number, best.kind, best.value, best.fingerprint, best.text),
        events.TestOpened("verdict: baseline and winner", 1),
        events.VerdictDetailed(
            "McNemar", 0.0012, 0.061, {"name": "linear probe", "value": 0.705, "difference": 0.033, "interval": (-0.02, 0.09), "p": 0.27},
            classes, {"baseline": 0.18, "winner": 0.07}, {"right": 155, "wrong": 54, "unparseable": 0, "truncated": 2, "too long": 1},
        ),
        flipped(),
        events.GainExplained(
            "dev", 210, 0.102,
            tuple({"part": p, "kind": k, "value": v, "low": lo, "high": hi, "share": v / 0.102, "alone": v / 2, "last": v / 3, "text": t} for p, k, v, lo, hi, t in parts),
            "60 % of the gain is demonstration 1, 32 % demonstration 3.",
        ),
        events.PromptShortened(
            ("demonstration 2",), WINNER.replace(DEMONSTRATIONS[1] + "\n\n", ""), "5" * 16, (112.0, 84.0), (0.743, 0.741), (-0.008, 0.004), 0.01,
            "28 of 112 tokens can be spared: demonstration 2 is not needed.",
        ),
        events.RobustnessMeasured(
            0.743, 0.731, 0.69, 0.55, tuple({"kind": k, "change": c, "value": 0.743 - 0.018 * at} for at, (k, c) in enumerate(rows)),
            "The worst change, bfloat16, costs 0.053.",
        ),
        events.PromptsTransferred(
            ({"model": "builtin", "values": {"your prompt": 0.6, "winner": 0.743}}, {"model": "a-larger-model", "values": {"your prompt": 0.71, "winner": 0.78}})
        ),
        *(events.EpochFinished(n, 8, 1.4 / n, 0.72 + 0.004 * n) for n in range(1, 9)),
        *(events.EpochFinished(n, 8, 1.7 / n, 0.6 + 0.011 * n, "your prompt") for n in range(1, 9)),
        events.TestOpened("the fine-tuned model", 2),
        events.ExamplesAdded("unlabelled", 30, {"read": 100, "refused": {"unsure": 60, "near_duplicate": 10}, "threshold": 0.9, "dev_accuracy": 0.95}),
        events.PartsCompared(
            {"base": 0.629, "prompt": 0.738, "tuning": 0.729, "both": 0.76},
            {
                "prompt - base": (0.11, 0.043, 0.176), "tuning - base": (0.1, 0.04, 0.16), "both - base": (0.131, 0.06, 0.2),
                "both - prompt": (0.022, -0.01, 0.05), "both - tuning": (0.031, -0.02, 0.08),
            },
            "Fine-tuning does not certainly improve on the prompt alone (+0.022 accuracy, 95 % interval -0.010 to +0.050).",
        ),
        events.SecondTask("other.jsonl", 40, 0.8, 0.79, (-0.05, 0.03)),
        events.ExampleQuarantined("train", 17, "a text of 90,000 characters", "It is longer than the model's window."),
        events.Notice("2 inputs were shortened to the model's window, e.g. 17"),
        events.StageFinished("verdict", 1.5, 11_044), events.StageFinished("finetune", 104.0, 323_379), events.StageFinished("export", 0.1, 0),
    ]  # fmt: skip


VERDICTS = {
    "improved": ("The winner is better than your prompt (+0.110 accuracy, 95 % interval +0.043 to +0.176, 210 test examples).", 0.738, (0.043, 0.176)),
    "no improvement": ("No improvement found: the interval holds zero (+0.020 accuracy, 95 % interval -0.031 to +0.071, 210 test examples). Keep your prompt.", 0.649, (-0.031, 0.071)),
    "worse": ("The winner is worse than your prompt on the test split (-0.110 accuracy, 95 % interval -0.176 to -0.043, 210 test examples): keep your prompt.", 0.519, (-0.176, -0.043)),
}  # fmt: skip


def finished(trials: int = 200, outcome: str = "improved", name: str = "support", seed: int = 0) -> list[events.Event]:
    """A whole run, with all that may be in a journal."""
    found = search(trials, seed)
    best = won(found)
    whole = [e for e in found if isinstance(e, events.TrialFinished) and not e.dropped]
    finalists = sorted(whole, key=lambda e: -e.value)[:9]
    finalists += [e for e in whole if e.number == 0 and e not in finalists]
    sentence, value, interval = VERDICTS[outcome]
    return [
        *started(name, trials), *found, *_after(best, finalists),
        events.VerdictReached(outcome, sentence, 0.629, value, interval, 0.76), events.RunFinished(715.4, 5),
    ]  # fmt: skip
