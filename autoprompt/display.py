"""Events on the terminal: a live view, or plain lines when there is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from autoprompt import events

__all__ = ["THEME", "Display", "print_error"]

THEME = Theme({"good": "bold green", "bad": "bold red", "quiet": "dim", "number": "cyan", "name": "bold"})
KINDS = ("baseline", "discrete", "soft")


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
    done: int = 0
    done_here: int = 0
    failed: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class Display:
    """A listener; a context manager around a run.

    With a terminal: stage, trials done and failed, best dev score by kind, tokens a second, time
    left. Without one: a line for each thing that a log should hold, at most one every ten trials.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=THEME, highlight=False)
        self.state = _State()
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: events.Event) -> None:
        line = self._heard(event)
        if line:
            self.console.print(line, highlight=False)

    def _heard(self, event: events.Event) -> str | None:
        """Take an event in; the line to print for it, if any, in rich markup."""
        state = self.state
        match event:
            case events.RunStarted():
                state.name, state.metric, state.maximize, state.trials = (
                    event.name,
                    event.metric,
                    event.maximize,
                    event.trials,
                )
                again = " (resumed)" if event.resumed else ""
                return f"[name]{escape(event.name)}[/]{again}: metric {escape(event.metric)}, {event.trials} trials, seed {event.seed}"
            case events.ModelLoaded():
                return f"model {escape(event.name)}: {event.family}, {event.parameters / 1e6:.1f} M parameters, {event.device}, {event.dtype}"
            case events.DataRead():
                removed = f", {event.duplicates_removed} duplicates removed" if event.duplicates_removed else ""
                return f"data: {event.train} train, {event.dev} dev, {event.test} locked test examples, {len(event.labels)} labels{removed}"
            case events.StageStarted():
                state.stage, state.stage_began = event.stage, time.monotonic()
            case events.StageFinished():
                return f"[quiet]{event.stage}: {event.seconds:.1f} s, {event.tokens:,} tokens[/]"
            case events.TrialFinished():
                return self._trial(event)
            case events.TrialFailed():
                state.failed += 1
                return f"[bad]trial {event.number} ({event.kind}) failed:[/] {escape(event.reason)}"
            case events.Confirmed():
                return f"confirmed on all of dev: trial {event.number} ({event.kind}) {event.value:.4f}"
            case events.TestOpened():
                return f"[name]locked test opened[/] ({event.reason}; time {event.times})"
            case events.EpochFinished():
                return f"epoch {event.epoch} of {event.epochs}: loss {event.loss:.3f}, dev {event.dev:.4f}"
            case events.Notice():
                return f"[name]note:[/] {escape(event.message)}"
            case events.VerdictReached():
                return None
        return None

    def _trial(self, event: events.TrialFinished) -> str | None:
        state = self.state
        state.done += 1
        state.done_here += 1
        state.tokens += event.tokens
        state.seconds += event.seconds
        old = state.best.get(event.kind)
        better = old is None or (event.value > old if state.maximize else event.value < old)
        if better:
            state.best[event.kind] = event.value
        if self._live is not None:
            return None
        if better or state.done % 10 == 0:
            mark = " best of its kind" if better else ""
            return f"trial {event.number} ({event.kind}): {state.metric} {event.value:.4f}{mark}"
        return None

    # -- the live view -----------------------------------------------------------------------

    def view(self) -> RenderableType:
        """The panel of this moment."""
        state = self.state
        done = state.done + state.failed
        table = Table.grid(padding=(0, 2))
        table.add_row("stage", Text(f"{state.stage} ({time.monotonic() - state.stage_began:.0f} s)"))
        table.add_row("trials", Text(f"{state.done} of {state.trials} done, {state.failed} failed"))
        best = "   ".join(f"{kind} {state.best[kind]:.4f}" for kind in KINDS if kind in state.best)
        table.add_row(f"best {state.metric}", Text(best or "–"))
        table.add_row("speed", Text(self._speed()))
        bar = ProgressBar(total=max(1, state.trials), completed=min(done, state.trials))
        return Panel(
            Group(table, bar), title=Text(f"autoprompt {state.name}"), title_align="left", expand=False, width=78
        )

    def _speed(self) -> str:
        state = self.state
        if not state.seconds:
            return "–"
        text = f"{state.tokens / state.seconds:,.0f} tokens/s"
        if state.stage == "search" and state.done_here:
            left = (time.monotonic() - state.stage_began) / state.done_here * max(0, state.trials - state.done)
            text += f", about {left:.0f} s left in this stage"
        return text


def print_error(message: str) -> None:
    """An error on one screen, without a traceback, to standard error."""
    console = Console(theme=THEME, stderr=True, highlight=False)
    console.print(f"[bad]Error:[/] {escape(message)}", soft_wrap=True)
