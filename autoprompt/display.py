"""Events on the terminal: a live view, or plain lines when there is no terminal."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from autoprompt import events
from autoprompt.wording import plain

__all__ = ["THEME", "Display", "print_error"]

THEME = Theme({"good": "bold green", "bad": "bold red", "quiet": "dim", "number": "cyan", "name": "bold"})
KINDS = ("baseline", "discrete", "soft")
MINUTE = 60.0  # seconds between two lines where there is no terminal


@dataclass
class _State:
    """What the live view shows."""

    name: str = ""
    metric: str = ""
    maximize: bool = True
    trials: int = 0
    stage: str = "starting"
    began: float = field(default_factory=time.monotonic)
    stage_began: float = field(default_factory=time.monotonic)
    told: int = 0  # trials that this process was told of
    reached: int = 0  # all trials up to this number are over, those of earlier processes too
    dropped: int = 0
    failed: int = 0
    evaluations: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    ends: float = 0.0  # by the plan, on the monotonic clock


class Display:
    """A listener; a context manager around a run.

    With a terminal: stage, trials dropped and failed, best dev score by kind, tokens a second, time
    left. Without one: a line for each thing that a log should hold, at most one every ten trials, and one
    a minute that says where the run stands.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=THEME, highlight=False)
        self.state = _State()
        self._live: Live | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._ended.clear()
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tick(self) -> None:
        while not self._ended.wait(MINUTE):
            self.console.print(self.line(), soft_wrap=True)

    def line(self) -> Text:
        """Where the run stands, on one line."""
        state = self.state
        best = ", ".join(f"{kind} {state.best[kind]:.4f}" for kind in KINDS if kind in state.best)
        said = f"{time.strftime('%H:%M')} {state.stage}: {self._trials()}" + (f", best {best}" if best else "")
        left = f", about {_span(state.ends - time.monotonic())} left" if state.ends > time.monotonic() else ""
        return Text(said + left, "quiet")

    def _trials(self) -> str:
        of = f" of {self.state.trials}" if self.state.trials < events.UNBOUNDED else ""
        return f"{self.state.reached}{of} trials"

    def __call__(self, event: events.Event) -> None:
        """Hear an event."""
        shown = self._heard(_plain(event))
        if shown is not None:
            self.console.print(shown, soft_wrap=True)

    def _heard(self, event: events.Event) -> RenderableType | None:
        """Take an event in; what to print for it, if anything."""
        state = self.state
        match event:
            case events.RunStarted():
                # nothing of an earlier run is left, where one follows the other
                self.state = _State(event.name, event.metric, event.maximize, event.trials)
                again = " (resumed)" if event.resumed else ""
                trials = f"{event.trials} trials, " if event.trials < events.UNBOUNDED else ""
                about = f": metric {event.metric}, {trials}seed {event.seed}"
                return Text.assemble((event.name, "name"), again, about)
            case events.ModelLoaded():
                size = f"{event.parameters / 1e6:.1f} M parameters"
                return Text(f"model {event.name}: {event.family}, {size}, {event.device}, {event.dtype}")
            case events.DataRead():
                sizes = f"{event.train} train, {event.dev} dev, {event.test} locked test examples"
                removed = f", {event.duplicates_removed} duplicates removed" if event.duplicates_removed else ""
                return Text(f"data: {sizes}, {len(event.labels)} labels{removed}")
            case events.PlanMade():
                state.ends = time.monotonic() + event.ends
                return Group(*map(Text, _plan(event)))
            case events.StageStarted():
                state.stage, state.stage_began = event.stage, time.monotonic()
            case events.StageFinished():
                return Text(f"{event.stage}: {event.seconds:.1f} s, {event.tokens:,} tokens", "quiet")
            case events.TrialFinished():
                return self._trial(event)
            case events.TrialFailed():
                state.failed += 1
                state.reached = max(state.reached, event.number + 1)
                return Text.assemble((f"trial {event.number} ({event.kind}) failed: ", "bad"), event.reason)
            case events.Confirmed():
                sure = "" if event.certain else ", not beyond luck"
                return Text(
                    f"on all of dev: trial {event.number} ({event.kind}) {event.value:.4f}, "
                    f"estimate {event.estimate:.4f}{sure}"
                )
            case events.TestOpened():
                return Text.assemble(("locked test opened", "name"), f" ({event.reason}; time {event.times})")
            case events.EpochFinished():
                start = "" if event.start == "winner" else f" from {event.start}"
                dev = "" if event.dev is None else f", dev {event.dev:.4f}"
                return Text(f"epoch {event.epoch} of {event.epochs}{start}: loss {event.loss:.3f}{dev}")
            case events.ExamplesAdded():
                return Text(f"examples added: {event.kept} {event.source}")
            case events.PartsCompared():
                return Text(event.sentence)
            case events.SecondTask():
                low, high = event.interval
                return Text(
                    f"{event.file}: accuracy {event.before:.4f} before fine-tuning, {event.after:.4f} after it "
                    f"(change {low:+.3f} to {high:+.3f})"
                )
            case events.Finding():
                return _finding(event)
            case events.BaselineScored():
                return Text(f"to beat: {event.name}, {state.metric} {event.value:.4f} on dev")
            case events.VerdictDetailed():
                return Text(_details(event))
            case events.ExamplesFlipped():
                return Text(f"test examples: {event.gained} gained, {event.lost} lost")
            case events.GainExplained() | events.PromptShortened() | events.RobustnessMeasured():
                return Text(event.sentence)
            case events.PromptsTransferred():
                return Group(*(Text(_transferred(row)) for row in event.rows))
            case events.Notice():
                return Text.assemble(("note: ", "name"), event.message)
            case events.VerdictReached():
                return _verdict(event, state.metric)
        return None

    def _trial(self, event: events.TrialFinished) -> RenderableType | None:
        state = self.state
        state.told += 1
        state.reached = max(state.reached, event.number + 1)
        state.dropped += event.dropped
        state.tokens += event.tokens
        state.seconds += event.seconds
        state.evaluations += event.examples
        old = state.best.get(event.kind)
        better = old is None or (event.value > old if state.maximize else event.value < old)
        better = better and not event.dropped  # a score of a few examples is no record
        if better:
            state.best[event.kind] = event.value
        if self._live is not None:
            return None
        if better or state.told % 10 == 0:
            mark = " best of its kind" if better else ""
            if event.dropped:
                mark = f" on {event.examples} examples, dropped"
            made = event.kind if event.branch in ("", event.kind) else f"{event.kind}, {event.branch}"
            return Text(f"trial {event.number} ({made}): {state.metric} {event.value:.4f}{mark}")
        return None

    # -- the live view -----------------------------------------------------------------------

    def view(self) -> RenderableType:
        """The panel of this moment."""
        state = self.state
        table = Table.grid(padding=(0, 2))
        table.add_row("stage", Text(f"{state.stage} ({time.monotonic() - state.stage_began:.0f} s)"))
        table.add_row(
            "trials",
            Text(
                f"{self._trials().removesuffix(' trials')}, {state.dropped} dropped early, {state.failed} failed, "
                f"{state.evaluations:,} evaluations"
            ),
        )
        best = "   ".join(f"{kind} {state.best[kind]:.4f}" for kind in KINDS if kind in state.best)
        table.add_row(Text(f"best {state.metric}"), Text(best or "none yet"))
        table.add_row("speed", Text(self._speed()))
        bar = ProgressBar(total=max(1, state.trials), completed=min(state.reached, state.trials))
        return Panel(
            Group(table, bar), title=Text(f"autoprompt {state.name}"), title_align="left", expand=False, width=78
        )

    def _speed(self) -> str:
        state = self.state
        if not state.seconds:
            return "not known yet"
        text = f"{state.tokens / state.seconds:,.0f} tokens/s"
        if state.stage == "search" and state.told and state.trials < events.UNBOUNDED:
            left = (time.monotonic() - state.stage_began) / state.told * max(0, state.trials - state.reached)
            text += f", about {_span(left)} left in this stage"
        return text


def _plan(event: events.PlanMade) -> list[str]:
    """What a run expects to take, in two lines."""
    stages = ", ".join(f"{stage} {_span(seconds)}" for stage, seconds in event.seconds.items() if seconds >= 1)
    end = time.strftime("%a %H:%M", time.localtime(time.time() + event.ends))
    trials = "" if event.trials >= events.UNBOUNDED else f"about {event.trials:,} trials; "
    short = "" if event.disk < event.disk_free else f", and only {_size(event.disk_free)} are free"
    return [
        f"plan: {trials}{stages or 'a moment'}; done by {end}",
        f"plan: {event.example_ms:.3g} ms an example, memory {_size(event.memory)}, disk {_size(event.disk)}{short}",
    ]


def _span(seconds: float) -> str:
    """12 s, 3 min, 2 h 05 min."""
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _plain(event: events.Event) -> events.Event:
    """The event, its texts without anything that acts on a terminal."""
    texts = {f.name: plain(text) for f in fields(event) if isinstance(text := getattr(event, f.name), str)}
    return replace(event, **texts)


def _finding(event: events.Finding) -> RenderableType | None:
    """What the doctor found; that all is well is for the report."""
    if event.level == "fine":
        return None
    return Text.assemble((f"{event.level}: ", "bad" if event.level == "problem" else "name"), event.message)


def _details(event: events.VerdictDetailed) -> str:
    ledger = ", ".join(f"{count} {what}" for what, count in event.ledger.items() if count)
    told = f"answers: {ledger}; {event.test} p = {event.p:.2g}"
    if event.also:
        values = (f"{plain(name)} {old:.4f} → {new:.4f}" for name, (old, new) in event.also.items())
        told += f"; also {', '.join(values)}"
    if not event.rival:
        return told
    low, high = event.rival["interval"]
    name, value, more = plain(event.rival["name"]), event.rival["value"], event.rival["difference"]
    return told + f"; strongest baseline: {name} {value:.4f}, winner {more:+.4f} ({low:+.3f} to {high:+.3f})"


def _transferred(row: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.4f}" for name, value in row["values"].items())
    return plain(f"on {row['model']}: {values or 'nothing fits'}")


def _verdict(event: events.VerdictReached, metric: str) -> RenderableType:
    """The outcome as a table, the sentence under it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("locked test")
    table.add_column(Text(metric), justify="right", style="number")
    rows = [("your prompt", event.baseline_test), ("winner", event.winner_test)]
    if event.tuned_test is not None:
        rows.append(("winner + fine-tuning", event.tuned_test))
    for name, value in rows:
        table.add_row(name, f"{value:.4f}")
    style = {"improved": "good", "worse": "bad"}.get(event.outcome, "name")
    return Group(Text(), table, Text(event.sentence, style), Text())


def print_error(message: str) -> None:
    """An error on one screen, without a traceback, to standard error."""
    console = Console(theme=THEME, stderr=True, highlight=False)
    console.print(Text.assemble(("Error:", "bad"), " ", plain(message)), soft_wrap=True)
