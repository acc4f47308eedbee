"""The report as one HTML file, as a real Chromium shows it."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from told import LABELS, finished, flipped, records, search, started

import autoprompt
from autoprompt import events
from autoprompt.errors import ResultsError
from autoprompt.report import write_comparison, write_page
from autoprompt.report.page.advice import advised
from autoprompt.report.page.axes import Scale, bounds, tick, ticks
from autoprompt.report.page.diff import beside
from autoprompt.report.page.importance import explained
from autoprompt.report.page.markup import duration, esc, pvalue, score, share, signed
from autoprompt.report.page.story import Story
from autoprompt.results import read_journal

pytestmark = pytest.mark.process

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
MOST = 3_000_000  # bytes of a page

WHOLE = records(finished())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium without a window."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("These tests need Chromium: apt-get install chromium", pytrace=False)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Shown:
    """A page in the browser, with all that it asked for and logged."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.requests: list[str] = []
        self.logged: list[str] = []
        self._heard: dict[str, Callable[[Any], Any]] = {
            "request": lambda request: self.requests.append(request.url),
            "console": lambda message: self.logged.append(message.text),
            "pageerror": lambda error: self.logged.append(str(error)),
            "dialog": lambda dialog: (self.logged.append(dialog.message), dialog.dismiss()),
        }
        for name, heard in self._heard.items():
            page.on(name, heard)  # type: ignore[call-overload]
        page.goto(address)

    def ask(self, code: str) -> Any:
        return self.page.evaluate(code)

    def visible(self, selector: str) -> int:
        return self.page.locator(f":is({selector}):visible").count()

    def leave(self) -> None:
        for name, heard in self._heard.items():
            self.page.remove_listener(name, heard)
        assert self.logged == []
        assert {url.partition("#")[0] for url in self.requests if not url.startswith("data:,")} == {self.address}


@pytest.fixture(scope="module")
def window(browser: Browser) -> Page:
    return browser.new_page()


@pytest.fixture
def show(browser: Browser, window: Page, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Opens a text as a file; with settings in a window of its own. When it is left, nothing was logged or asked for."""
    shown: list[Shown] = []

    def opened(text: str, size: Mapping[str, int] = PHONE, **settings: Any) -> Shown:
        path = tmp_path / f"report-{len(shown)}.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_context(**settings).new_page() if settings else window
        page.set_viewport_size(dict(size))  # type: ignore[arg-type]
        shown.append(Shown(page, path.as_uri()))
        return shown[-1]

    yield opened
    for found in shown:
        found.leave()
        if found.page is not window:
            found.page.context.close()


# -- it opens, on a phone and at a desk -----------------------------------------------------------


@pytest.mark.parametrize("size", [PHONE, DESK, {"width": 320, "height": 640}], ids=["phone", "desk", "small"])
def test_a_whole_run_opens_and_nothing_is_wider_than_the_screen(
    show: Callable[..., Shown], size: dict[str, int]
) -> None:
    shown = show(write_page(WHOLE), size)
    assert shown.page.inner_text("h1").startswith("The winner is better than your prompt")
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
    assert shown.ask("[...document.querySelectorAll('details')].forEach(d => { d.open = true })") is None
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
    # what does scroll, scrolls by itself and can be reached by the keyboard
    assert (
        shown.ask(
            "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
            "getComputedStyle(e).overflowX === 'auto' && e.tabIndex < 0 && !e.matches('.text, .said')).length"
        )
        == 0
    )


def test_the_verdict_and_its_numbers_are_seen_without_scrolling_on_a_phone(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE))
    for selector in ("h1", ".numbers", ".now"):
        box = shown.page.locator(selector).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < PHONE["height"]
    assert [shown.page.locator(".numbers dd").nth(n).inner_text() for n in (0, 2, 4)] == ["0.629", "0.738", "0.760"]


def test_every_section_is_in_the_contents_and_every_link_leads_somewhere(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE), DESK)
    sections = shown.ask("[...document.querySelectorAll('section')].map(s => '#' + s.id)")
    assert shown.ask("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))") == sections
    assert sections == [
        f"#{name}"
        for name in (
            "prompts", "interval", "baselines", "classes", "answers", "curve", "front", "importance", "lineage", "finalists",
            "why", "shortest", "robust", "transfer", "flips", "doctor", "tuning", "failures", "cost", "next", "run",
        )
    ]  # fmt: skip
    assert shown.ask("[...document.querySelectorAll('a')].every(a => document.querySelector(a.getAttribute('href')))")
    assert shown.ask(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length"
    )


def test_every_picture_has_words_and_lies_inside_its_frame(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE))
    assert shown.ask("document.querySelectorAll('svg[role=img]').length") >= 9
    assert shown.ask(
        "[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label') || s.ariaHidden === 'true')"
    )
    outside = shown.ask(
        "[...document.querySelectorAll('.chart svg[role=img] > *')].filter(e => { const f = e.ownerSVGElement.getBoundingClientRect(), "
        "b = e.getBoundingClientRect(); return b.width && (b.left < f.left - 2 || b.right > f.right + 2 || b.top < f.top - 4 || "
        "b.bottom > f.bottom + 4) }).map(e => e.outerHTML.slice(0, 200))"
    )
    assert outside == []
    assert shown.ask(
        "Math.min(...[...document.querySelectorAll('.chart svg text')].map(t => t.getBoundingClientRect().height)) >= 10"
    )


def test_without_a_script_all_can_be_read_and_nothing_is_there_that_would_not_work(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE), java_script_enabled=False)
    assert shown.visible("#flip-list > li") == 24
    assert shown.visible("button, select, input") == 0
    assert shown.visible("nav a") > 0


# -- what can be done on it -----------------------------------------------------------------------


def test_examples_are_filtered_by_turn_label_and_words(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE), DESK)
    page = shown.page
    assert shown.visible("#flip-list > li") == 20
    page.click("#flip-more")
    assert shown.visible("#flip-list > li") == 24
    assert not page.is_visible("#flip-more")
    page.click("button[data-turn=lost]")
    assert shown.visible("#flip-list > li") == shown.visible("#flip-list > li.lost") == 8
    assert page.inner_text("#flip-count") == "8 of 24 fit"
    page.select_option("#flip-label", LABELS[0])
    assert shown.visible("#flip-list > li") == 2  # examples 0 and 21
    page.fill("#flip-search", "PARCEL number 21")
    assert shown.visible("#flip-list > li") == 1
    assert "example 21" in page.inner_text("#flip-list > li:visible")
    page.press("#flip-search", "Escape")
    assert shown.visible("#flip-list > li") == 2
    page.fill("#flip-search", "no such words")
    assert page.inner_text("#flip-count") == "0 of 24 fit"
    assert page.get_attribute("button[data-turn=lost]", "aria-pressed") == "true"
    assert page.get_attribute("button[data-turn='']", "aria-pressed") == "false"


def test_the_keyboard_alone_is_enough(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE), DESK)
    page = shown.page
    page.keyboard.press("Tab")
    assert shown.ask("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert shown.ask("document.activeElement.id") == "flip-search"
    page.keyboard.type("message 3:")
    assert shown.visible("#flip-list > li") == 3  # 3, 13, 23
    page.keyboard.press("Escape")
    page.focus("button[data-turn=gained]")
    page.keyboard.press("Enter")
    assert shown.visible("#flip-list > li") == 16
    page.focus("#lineage summary")
    page.keyboard.press("Space")
    assert shown.visible("#lineage ins") > 0
    assert shown.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_screen_until_it_is_turned(show: Callable[..., Shown], scheme: str) -> None:
    shown = show(write_page(WHOLE), color_scheme=scheme)
    paper = "getComputedStyle(document.body).backgroundColor"
    other = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    opposite = "light" if scheme == "dark" else "dark"
    assert shown.ask(paper) == other[scheme]
    shown.page.click("#theme")
    assert shown.ask(paper) == other[opposite]
    assert shown.page.get_attribute("#theme", "aria-pressed") == str(opposite == "dark").lower()
    shown.page.reload()
    assert shown.ask(paper) == other[opposite]


CONTRAST = """() => {
  const light = (rgb) => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b };
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const paper = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3) } return [255, 255, 255] };
  return [...document.querySelectorAll('main *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
      && e.checkVisibility() && !e.closest('svg')).map(e => {
    const [a, b] = [light(parts(getComputedStyle(e).color).slice(0, 3)), light(paper(e))];
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 90)] }).filter(([ratio]) => ratio < 4.5);
}"""


def test_all_words_have_enough_contrast(show: Callable[..., Shown]) -> None:
    shown = show(write_page(records(finished(40))), color_scheme="light")
    for _ in ("light", "dark"):
        for tone in ("bad", "same", "open", "good"):
            shown.ask(f"document.querySelector('header').className = 'hero {tone}'")
            assert shown.ask(CONTRAST if tone == "good" else CONTRAST.replace("main *", "header, header *")) == []
        shown.page.click("#theme")


def test_on_paper_it_is_light_and_whole(show: Callable[..., Shown]) -> None:
    shown = show(write_page(WHOLE), DESK, color_scheme="dark")
    shown.page.emulate_media(media="print")
    assert shown.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.visible(".bar-top, .controls") == 0
    shown.ask("dispatchEvent(new Event('beforeprint'))")
    assert shown.ask("document.querySelectorAll('details:not([open])').length") == 0
    assert shown.visible("#flip-list > li") == 24
    shown.ask("dispatchEvent(new Event('afterprint'))")
    assert shown.ask("document.querySelectorAll('details[open]').length") == 0
    assert shown.visible("#flip-list > li") == 20
    assert shown.page.pdf().startswith(b"%PDF")


# -- texts of others ------------------------------------------------------------------------------

HOSTILE = {
    "script": "</script></style></title><script>window.hacked = 1; alert(1)</script>",
    "image": "<img src=x onerror='window.hacked = 1'><svg onload=window.hacked=1><iframe src=http://127.0.0.1/></iframe>",
    "attribute": "\" onmouseover=\"window.hacked = 1\" style=\"position:fixed\" x='",
    "link": "<a href=javascript:window.hacked=1>x</a><base href=//127.0.0.1/><form action=//127.0.0.1/><meta http-equiv=refresh content=0;url=//127.0.0.1/>",
    "bidi": "a\u202eb\u2066c\u200fd\u061c",
    "controls": "a\x00b\x1b[31m\x07\ufffe\x85\u2028",
    "surrogates": "lone \ud800 and \udfff",
    "comment": "<!-- <!DOCTYPE html> ]]> &lt;b&gt; &#0; {{ }} ${1}`",
    "long": "x" * 10_000,
    "arabic": "مرحبا بالعالم",
}  # fmt: skip
HOSTILE["markup"] = "".join(HOSTILE[kind] for kind in ("attribute", "script", "image", "link", "comment"))
HOSTILE["characters"] = "".join(HOSTILE[kind] for kind in ("arabic", "bidi", "controls", "surrogates"))
NAMED = {"classes", "ledger", "values", "details", "fields", "seconds", "refused"}  # their keys are texts of others


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """The same with `text` in the place of every text."""
    if isinstance(value, str):
        return value if key == "event" else text
    if isinstance(value, Mapping):
        return {text + str(at) if key in NAMED else k: poisoned(v, text, k) for at, (k, v) in enumerate(value.items())}
    return [poisoned(inner, text, key) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", ["markup", "characters", "long"])
def test_no_text_of_others_acts(show: Callable[..., Shown], kind: str) -> None:
    found = [poisoned(record, HOSTILE[kind]) for record in records(finished(40))]
    text = write_page(found)
    text.encode()  # no half of a pair is in it
    assert len(text.encode()) < MOST
    shown = show(text)
    assert shown.ask("window.hacked") is None
    assert (
        shown.ask("document.querySelectorAll('img, iframe, object, embed, base, form, a:not([href^=\"#\"])').length")
        == 0
    )
    assert shown.ask("[document.scripts.length, document.querySelectorAll('style').length]") == [1, 1]
    assert (
        shown.ask(
            "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on|^style$/.test(a.name)).length"
        )
        == 0
    )
    assert (
        shown.ask(r"/[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\0]/.test(document.documentElement.textContent)")
        is False
    )
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
    assert shown.visible("#flip-list > li") == 20  # all are there, of an unknown turn
    assert esc(HOSTILE[kind], 80) in text


@pytest.mark.parametrize("kind", ["markup", "long"])
def test_no_text_of_others_acts_on_a_comparison(show: Callable[..., Shown], kind: str) -> None:
    found = [poisoned(record, HOSTILE[kind]) for record in records(finished(40))]
    shown = show(write_comparison({HOSTILE[kind]: found, "other": records(finished(30))}))
    assert shown.ask("[window.hacked, document.scripts.length]") == [None, 1]
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")


def test_the_policy_lets_nothing_else_run(show: Callable[..., Shown], tmp_path: Path) -> None:
    """A script and a style that somehow came into the page would still do nothing."""
    text = write_page(WHOLE)
    meta = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert meta is not None
    assert "default-src 'none'" in meta[1]
    assert "unsafe" not in meta[1]
    assert "http" not in meta[1]
    path = tmp_path / "changed.html"
    path.write_text(
        text.replace("</main>", "<script>window.hacked = 1</script><img src=http://127.0.0.1:9/x></main>"), "utf-8"
    )
    refused = show(text, color_scheme="light").page.context.new_page()
    asked: list[str] = []
    refused.on("requestfinished", lambda request: asked.append(request.url))
    refused.goto(path.as_uri())
    assert refused.evaluate("window.hacked") is None
    assert [url for url in asked if url.startswith("http")] == []


class Balanced(HTMLParser):
    """Raises where an element is closed that is not open, and keeps what was never closed."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def well_formed(text: str) -> bool:
    parser = Balanced()
    parser.feed(text)
    parser.close()
    return not parser.open and not parser.wrong and not re.search(r'="[^"<>]*\b(nan|inf|None)\b', text)


@pytest.mark.parametrize("kind", ["none", *HOSTILE])
def test_every_element_is_closed(kind: str) -> None:
    found = records(finished(60))
    assert well_formed(write_page([poisoned(r, HOSTILE[kind]) for r in found] if kind != "none" else found))


# -- of whatever there is -------------------------------------------------------------------------


def test_a_run_killed_after_any_event_has_a_page() -> None:
    found = records(finished(40))
    pages = [write_page(found[:size]) for size in range(len(found) + 1)]
    assert all(well_formed(page) for page in pages)
    assert "Nothing has happened here yet" in pages[0]
    assert all("there is no verdict yet" in page for page in pages[1:-2])
    assert "The winner is better" in pages[-1]


@pytest.mark.parametrize("name", sorted({record["event"] for record in WHOLE}))
def test_a_run_without_one_kind_of_event_has_a_page(name: str) -> None:
    assert well_formed(write_page([record for record in WHOLE if record["event"] != name]))


def test_a_run_that_goes_on_says_so_and_shows_the_best_so_far(show: Callable[..., Shown]) -> None:
    shown = show(write_page(records([*started(), *search()][:90])))
    assert "it was in the stage search at its last event" in shown.page.inner_text("h1")
    assert shown.page.inner_text(".kicker") == "No verdict yet support"
    assert "best so far" in shown.page.inner_text(".numbers")
    assert shown.page.inner_text("#prompts h2") == "The best so far beside your prompt"
    assert "the same command goes on" in shown.page.inner_text(".now")


def test_an_older_journal_without_the_new_fields_has_a_page() -> None:
    new = {
        "branch",
        "dropped",
        "operator",
        "parents",
        "gain",
        "size",
        "params",
        "estimate",
        "evidence",
        "certain",
        "start",
        "up",
    }
    old = {
        "RunStarted",
        "TrialFinished",
        "TrialFailed",
        "Confirmed",
        "WinnerChosen",
        "TestOpened",
        "EpochFinished",
        "VerdictReached",
    }
    found = [{k: v for k, v in record.items() if k not in new} for record in WHOLE if record["event"] in old]
    page = write_page(found)
    assert well_formed(page)
    assert "The winner is better" in page
    assert "How the search went" in page
    assert "How the winner came about" not in page


def test_events_of_a_later_version_are_passed_over() -> None:
    later = [{"at": 1.0, "event": "SomethingNew", "what": 1}, *({**record, "new": [1]} for record in WHOLE)]
    assert write_page(later) == write_page(WHOLE)


def test_a_resumed_run_is_told_once() -> None:
    first, again = records(started()), records(started(resumed=True))
    twice = write_page([*first, *WHOLE[len(first) : 60], *again, *WHOLE[40:]])
    assert "begun or resumed 2 times" in twice
    assert twice.replace("<li>begun or resumed 2 times</li>", "") == write_page(WHOLE)


def test_a_run_that_searches_on_says_that_its_verdict_is_older() -> None:
    assert "The run has gone on since this verdict" in write_page([*WHOLE, *records(started(resumed=True))])
    assert "The run has gone on since this verdict" not in write_page(WHOLE)


def test_a_second_opening_of_the_test_for_the_same_purpose_is_told_aloud() -> None:
    assert "opened again" not in write_page(WHOLE)
    again = events.TestOpened("verdict: baseline and winner", 3)
    page = write_page([*WHOLE, *records([again])])
    assert "The locked test was opened 3 times: verdict: baseline and winner (2 times), the fine-tuned model." in page
    assert "It was opened again for the same purpose" in page


def test_numbers_that_are_none_are_shown_as_a_dash() -> None:
    def broken(value: Any, key: str = "") -> Any:
        if isinstance(value, float) and key not in {"seconds", "up", "at"}:
            return math.nan
        if isinstance(value, Mapping):
            return {k: broken(v, k) for k, v in value.items()}
        return [broken(inner, key) for inner in value] if isinstance(value, list) else value

    page = write_page([broken(record) for record in WHOLE])
    assert well_formed(page)
    assert "–" in page


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e308, -1e308, 1e-300, 0.0])
def test_scores_of_any_size_can_be_drawn(value: float) -> None:
    found = [
        {**r, "value": value} if r["event"] in {"TrialFinished", "Confirmed"} and r["number"] % 2 else r for r in WHOLE
    ]
    assert well_formed(write_page(found))


@pytest.mark.parametrize(
    "record",
    [{"event": "VerdictReached"}, {"event": "TrialFinished", "number": []}, {"event": "Finding", "check": 1}, {}],
)
def test_an_event_that_makes_no_sense_is_refused_in_words(record: dict[str, Any]) -> None:
    with pytest.raises(ResultsError, match="an event that cannot be told"):
        write_page([*WHOLE, record])


def test_a_comparison_refuses_an_event_that_makes_no_sense() -> None:
    with pytest.raises(ResultsError, match="an event that cannot be told"):
        write_comparison({"one": WHOLE, "two": [{"event": "TrialFinished", "number": 1}]})


def test_a_run_of_ten_thousand_trials_has_a_small_page_at_once() -> None:
    found = finished(10_000)
    long = {
        "fields": {"text": "a long <example> & more. " * 400},
        "label": "a",
        "before": "b",
        "after": "a",
        "shift": 0.5,
        "turn": "gained",
    }
    rows = tuple({"number": n, **long} for n in range(2_000))
    journal = [*records(found), *records([events.ExamplesFlipped(2_000, 0, rows)])]
    began = time.perf_counter()
    page = write_page(journal)
    assert time.perf_counter() - began < 3
    assert len(page.encode()) < MOST
    assert "more are in events.jsonl" in page
    assert page.count("<circle") + page.count("<path") < 4_000


def test_the_same_events_make_the_same_page() -> None:
    assert write_page(WHOLE) == write_page(iter(WHOLE))


@pytest.mark.model
def test_a_real_run_has_a_page(show: Callable[..., Shown], tmp_path: Path) -> None:
    lines = ["text,label"] + [
        f"{a} {i} times,{b}" for i in range(9) for a, b in (("We won", "sports"), ("The bank rose", "money"))
    ]
    (tmp_path / "topics.csv").write_text("\n".join(lines))
    result = autoprompt.run(
        {
            "name": "topics",
            "data": {"file": str(tmp_path / "topics.csv"), "label": "label"},
            "prompt": {
                "template": "{{ text }}\nTopic: {{ label }}",
                "label_words": {"sports": "sports", "money": "money"},
            },
            "space": {"instructions": ["Sports or money?"]},
            "study": {"trials": 2},
            "finetune": {"method": "none"},
            "results": str(tmp_path),
        }
    )
    shown = show(write_page(read_journal(result.folder / "events.jsonl")))
    assert shown.page.inner_text("h1") == result.values["sentence"]


# -- what is said ---------------------------------------------------------------------------------


def text_of(show: Callable[..., Shown], found: Sequence[Mapping[str, Any]], selector: str) -> str:
    return str(show(write_page(found), DESK).page.inner_text(selector))


@pytest.mark.parametrize(
    ("outcome", "tone", "said"),
    [
        ("improved", "good", "Use the winner"),
        ("no improvement", "same", "Keep your prompt"),
        ("worse", "bad", "Keep your prompt"),
    ],
)
def test_the_outcome_has_its_colour_its_word_and_what_to_do(outcome: str, tone: str, said: str) -> None:
    page = write_page(records(finished(60, outcome)))
    assert f'<header class="hero {tone}"' in page
    assert f"<strong>{said}" in page


def test_the_evidence_is_told_with_its_numbers(show: Callable[..., Shown]) -> None:
    said = text_of(show, WHOLE, "main")
    for words in (
        "Exact test (McNemar): p = 0.0012, two-sided.",
        "The smallest difference that 210 test examples can show is 0.061",
        "Strongest baseline: linear probe, 0.705 on the test; the winner minus it: +0.033, p = 0.2700.",
        "Worst class: account, 55 % right with the winner, 50 % with your prompt.",
        "your prompt 0.180, winner 0.070",
        "right\t155\t73.8 %",
        "60 % of the gain is demonstration 1",
        "28 of 112 tokens can be spared",
        "Against your prompt the winner gains 16 test examples and loses 8.",
        "Energy: not measured",
        "5 trials failed, for 1 reason.",
        "Left out: 60 unsure, 10 near duplicate.",
        "On the 40 examples of other.jsonl the accuracy was 0.800 before fine-tuning",
    ):
        assert words in said


def test_energy_is_told_where_a_device_told_it() -> None:
    found = [{**r, "kwh": 0.25} if r["event"] == "StageFinished" else r for r in WHOLE]
    page = write_page(found)
    assert "0.250 kWh" in page
    assert "1.000 kWh" in page
    assert "not measured" not in page


def test_less_is_better_turns_all_round() -> None:
    found = records(
        [*started(maximize=False), *search(), *[e for e in finished() if isinstance(e, events.VerdictReached)]]
    )
    story = Story(found)
    lowest = min(story.whole, key=lambda t: t["value"])
    assert story.leader is not None
    assert story.leader["value"] == lowest["value"]
    for line in story.curves.values():
        values = [value for _, value, _ in line]
        assert values == sorted(values, reverse=True)
    assert "less is better" in write_page(found)


def test_a_curve_holds_the_best_so_far_of_prompts_that_saw_all() -> None:
    story = Story(WHOLE)
    spent, best = 0, -1.0
    for trial in story.trials:
        spent += trial["examples"]
        if trial["kind"] == "discrete" and not trial["dropped"] and trial["value"] > best:
            best = trial["value"]
            assert (spent, best) in [(x, y) for x, y, _ in story.curves["discrete"]]
    assert story.curves["discrete"][-1][1] == best
    assert story.evaluations == spent


def test_length_is_in_tokens_as_far_as_they_are_known() -> None:
    assert "tokens of a call, estimated</text>" in write_page(WHOLE)
    plain = [r for r in WHOLE if r["event"] != "PromptShortened"]
    assert "characters of the prompt</text>" in write_page(plain)
    sized = [{**r, "size": 40.0 + r["number"]} if r["event"] == "TrialFinished" else r for r in WHOLE]
    assert "rendered tokens of a call</text>" in write_page(sized)
    assert "length 40<" in write_page(sized)


def test_a_tree_tells_each_ancestor_once_and_a_loop_ends() -> None:
    def trial(number: int, *parents: int) -> events.TrialFinished:
        return events.TrialFinished(
            number,
            "discrete",
            0.5 + number / 100,
            0.1,
            96,
            900,
            0.1,
            "f",
            f"text {number}",
            "edits",
            False,
            "swap",
            parents,
        )

    found = [
        *started(),
        trial(1, 4),
        trial(2, 1),
        trial(3, 1, 2),
        trial(4, 3, 2, 1, 99),
        events.WinnerChosen(4, "discrete", 0.5, "f", "text 4"),
    ]
    page = write_page(records(found))
    tree = page[page.index('<section id="lineage"') :].partition("</section>")[0]
    assert [tree.count(f"<strong>trial {n}</strong>") for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    long = [
        *started(),
        *(trial(n, n - 1) for n in range(1, 500)),
        events.WinnerChosen(499, "discrete", 0.5, "f", "text 499"),
    ]
    assert write_page(records(long)).count("<strong>trial ") == 40


@pytest.mark.parametrize(
    ("before", "after", "out", "new"),
    [
        ("Sort the message.", "Sort the text.", ["message"], ["text"]),
        ("one\ntwo\nthree", "one\nthree", ["two\n"], []),
        ("same", "same", [], []),
        ("", "all new", [], ["all new"]),
        ("a <b> c", "a <i> c", ["b"], ["i"]),
        ("no word in common", "quite different", ["no word in common"], ["quite different"]),
    ],
)
def test_a_difference_marks_whole_words(before: str, after: str, out: list[str], new: list[str]) -> None:
    page = beside(before, after, ("a", "b"))
    assert re.findall("<del>(.*?)</del>", page, re.DOTALL) == out
    assert re.findall("<ins>(.*?)</ins>", page, re.DOTALL) == new
    left, right = (re.sub("<[^>]*>", "", half) for half in page.split("<h3>b</h3>"))
    assert left == "a" + esc(before)
    assert right == esc(after)


def test_a_difference_of_long_texts_is_quick() -> None:
    began = time.perf_counter()
    beside("a b " * 5_000, "b a " * 5_000, ("a", "b"))
    beside("\n" * 12_000, "\n" * 11_000 + "x", ("a", "b"))
    beside(" ".join(map(str, range(3_000))), " ".join(map(str, range(3_000, 0, -1))), ("a", "b"))
    assert time.perf_counter() - began < 3


def test_what_explains_all_has_a_share_of_one_and_what_explains_nothing_of_none() -> None:
    values = [0.1, 0.1, 0.1, 0.9, 0.9, 0.9]
    assert explained(values, list("aaabbb")) == pytest.approx(1.0)
    assert explained(values, list("ababab")) == pytest.approx(0.0, abs=0.05)
    assert explained(values, list("aaaaaa")) is None
    assert explained([0.5] * 6, list("aaabbb")) is None
    assert explained([], []) is None
    # two groups of three, means 2 and 5, within 4 of 17.5 in all, by hand: (13.5 - 1) / (17.5 + 1)
    assert explained([1, 2, 3, 4, 5, 6], list("aaabbb")) == pytest.approx((13.5 - 1) / (17.5 + 1))


def test_the_parameters_of_the_space_have_their_shares() -> None:
    rows = []
    for record in WHOLE:
        if record["event"] == "TrialFinished" and record["branch"] == "discrete":
            level = record["number"] % 2
            record = {**record, "gain": 0.1 * level, "params": {"template": level, "words.a": record["number"] % 3}}
        rows.append(record)
    page = write_page(rows)
    assert "space: template" in page
    assert "space: word of a" in page
    assert page.index("space: template") < page.index("space: word of a")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.03, 0.21, [0, 0.05, 0.1, 0.15, 0.2]),
        (0, 16_000, [0, 5_000, 10_000, 15_000]),
        (1, 1, [1]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_are_written_short() -> None:
    assert [tick(v) for v in (0, 0.05, 5_000, 2_500_000, -0.1, 3e9)] == ["0", "0.05", "5k", "2.5M", "-0.1", "3G"]
    assert bounds([]) == (0.0, 1.0)
    assert bounds([math.nan, None, 2.0])[0] < 2 < bounds([math.nan, None, 2.0])[1]
    assert Scale(0, 10, 100, 200)(5) == 150
    assert Scale(1, 100, 0, 2, log=True)(10) == 1
    assert (score(0.12345), signed(0.1), share(0.126), score(None), pvalue(1e-9)) == (
        "0.123",
        "+0.100",
        "13 %",
        "–",
        "p < 0.0001",
    )
    assert [duration(s) for s in (1.25, 125, 7_300)] == ["1.2 s", "2 min", "2 h 2 min"]


# -- what to try next -----------------------------------------------------------------------------


def advice(*more: events.Event, base: Sequence[events.Event] = (), drop: Sequence[str] = ()) -> str:
    found = [r for r in records([*(base or finished()), *more]) if r["event"] not in drop]
    return "\n".join(f"{a.what} {a.why}" for a in advised(Story(found)))


def detailed(**more: Any) -> events.VerdictDetailed:
    fields: dict[str, Any] = {
        "test": "McNemar", "p": 0.5, "detectable": 0.061, "rival": {}, "classes": {}, "calibration": {}, "ledger": {},
    }  # fmt: skip
    return events.VerdictDetailed(**{**fields, **more})


def test_a_test_that_is_too_small_is_told_how_large_it_should_be() -> None:
    said = advice(detailed(), base=finished(outcome="no improvement"))
    assert f"Label more test examples: about {math.ceil(210 * (0.061 / 0.02) ** 2):,} would show" in said
    assert "210 examples can show 0.061; seen is +0.020 (-0.031 to +0.071)." in said
    assert "Label more test examples" not in advice(detailed())


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (events.Finding("duplicates", "problem", "40 texts stand twice.", {}), "Mend the data first"),
        (events.Finding("labels", "warning", "4 labels are contradicted.", {}), "Read the labels that the doctor doubts"),
        (events.Finding("metric", "problem", "It returns NaN.", {}), "Mend what the doctor calls a problem."),
        (detailed(rival={"name": "a probe", "value": 0.7, "difference": 0.01, "interval": [-0.1, 0.1], "p": 0.9}), "does not certainly beat a probe"),
        (detailed(ledger={"right": 90, "truncated": 5, "too long": 5}), "Shorten the prompt"),
        (detailed(ledger={"right": 90, "unparseable": 10}), "Make the label words"),
        (detailed(calibration={"winner": 0.3}), "Do not trust the winner's probabilities"),
        (detailed(classes={c: {"examples": 9, "baseline": 0.9, "winner": w} for c, w in (("x", 0.9), ("y", 0.3))}), "Look at the class y"),
        (detailed(classes={c: {"examples": 9, "baseline": 0.9, "winner": w} for c, w in (("x", 0.9), ("y", 0.7))}), "Check the class y before"),
        (events.RobustnessMeasured(0.74, 0.6, 0.5, 0.5, (), ""), 'choose_by = "worst"'),
        (events.PromptsTransferred(({"model": "big", "values": {"winner": 0.9}},)), "Try the model big."),
        (events.Notice("The search ends after 90 trials: what is left of the run's time is kept."), "Give it more time"),
        (events.PartsCompared({}, {"both - prompt": (0.1, 0.05, 0.2)}, ""), "Train a little more"),
        (events.PartsCompared({}, {"both - prompt": (-0.1, -0.2, -0.05)}, ""), "Do not fine-tune here"),
        (
            events.PartsCompared({}, {"both - prompt": (0, -0.1, 0.1), "tuning - base": (0.1, 0.05, 0.2), "prompt - base": (0, -0.1, 0.1)}, ""),
            "Fine-tune your own prompt",
        ),
        (
            events.GainExplained("dev", 9, 0.1, ({"part": "instruction", "kind": "instruction", "value": -0.05, "low": -0.1, "high": -0.01, "last": -0.02},), ""),
            "Try the winner without instruction.",
        ),
    ],
)  # fmt: skip
def test_a_rule_speaks_where_its_evidence_is(event: events.Event, said: str) -> None:
    assert said in advice(event)
    assert said not in advice(
        drop=[
            "Finding",
            "VerdictDetailed",
            "RobustnessMeasured",
            "PromptsTransferred",
            "PartsCompared",
            "GainExplained",
        ]
    )


def trials(*found: tuple[str, int, bool, float], winner: int = 1) -> list[events.Event]:
    """A search: of each branch so many trials, whether they were dropped, and their value."""
    told: list[events.Event] = [
        *started(),
        events.TrialFinished(0, "baseline", 0.6, 1, 100, 900, 0.1, "f", "own", "baseline"),
    ]
    number = 0
    for branch, count, dropped, value in found:
        for _ in range(count):
            number += 1
            told.append(
                events.TrialFinished(
                    number,
                    "discrete",
                    value,
                    1,
                    20 if dropped else 100,
                    900,
                    0.1,
                    "f",
                    f"text {number}",
                    branch,
                    dropped,
                )
            )
    return [*told, events.WinnerChosen(winner, "discrete", 0.7, "f", "text")]


def test_a_branch_that_earned_nothing_is_named() -> None:
    said = advice(base=trials(("edits", 5, False, 0.7), ("tuning", 40, True, 0.5), ("rewrite", 2, False, 0.5)))
    assert "Leave out branches that earned nothing" in said
    assert re.search(r"beat yours: tuning \(\d+ %\), rewrite \(\d+ %\)\.", said)
    assert "earned nothing" not in advice(
        base=trials(("edits", 5, False, 0.7), ("tuning", 40, False, 0.65), ("rewrite", 2, True, 0.5))
    )


def test_a_branch_that_did_much_with_little_is_named() -> None:
    assert "Give the branch edits more" in advice(
        base=trials(("edits", 1, False, 0.7), ("discrete", 30, False, 0.6), ("tuning", 9, True, 0.5))
    )


def test_a_search_that_dropped_nearly_all_is_told_so() -> None:
    assert "raise <code>share</code>" in advice(base=trials(("edits", 1, False, 0.5), ("discrete", 30, True, 0.6)))


def test_a_search_that_was_still_rising_and_one_that_was_not_are_told_apart() -> None:
    rising = trials(("edits", 60, False, 0.62), ("edits", 1, False, 0.7), winner=61)
    assert "Search on with <code>--extend</code>" in advice(base=rising)
    still = trials(("edits", 1, False, 0.7), ("edits", 60, False, 0.62))
    assert "More of the same pays little" in advice(base=still)


def test_failed_trials_are_told_with_their_commonest_reason() -> None:
    failed = [events.TrialFailed(n, "discrete", "no place for the label") for n in range(200, 240)]
    assert "40 of 241; 40 for this reason: no place for the label" in advice(
        *failed, base=trials(("edits", 200, False, 0.7))
    )


# -- runs side by side ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_runs_stand_side_by_side(show: Callable[..., Shown], size: dict[str, int]) -> None:
    runs = {
        "first": WHOLE,
        "second": records(finished(60, "no improvement", seed=3)),
        "going": records([*started(), *search()][:60]),
        "empty": [],
    }
    shown = show(write_comparison(runs), size)
    assert shown.page.inner_text("h1") == "1 of 4 runs found a better prompt."
    assert "The best on the locked test: first, 0.738." in shown.page.inner_text("header")
    assert shown.ask("[...document.querySelectorAll('#runs tbody th')].map(e => e.textContent)") == list(runs)
    assert shown.ask("document.querySelectorAll('#differences svg g').length") == 2
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")


def test_runs_of_different_metrics_are_not_ranked() -> None:
    other = [{**r, "metric": "log_loss", "maximize": False} if r["event"] == "RunStarted" else r for r in WHOLE]
    page = write_comparison({"one": WHOLE, "two": other})
    assert "They have different metrics" in page
    assert "The best on the locked test" not in page


def test_many_runs_fit() -> None:
    page = write_comparison({f"run {n}": WHOLE for n in range(60)})
    assert "20 more runs were given, and are not shown." in page
    assert well_formed(page)
    assert len(page.encode()) < MOST


def test_flips_without_any_have_no_controls() -> None:
    page = write_page(records([*finished(40), events.ExamplesFlipped(0, 0, ())]))
    assert 'id="flip-controls"' not in page
    assert well_formed(page)
    assert json.dumps(flipped(3).record()) != json.dumps(flipped(4).record())
