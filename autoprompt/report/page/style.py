"""How the page looks: light and dark, phone and desk, screen and paper.

The colours of the series are those of Okabe & Ito (2008), which the colour-blind can tell apart, some of them
lightened for dark screens.
"""

from __future__ import annotations

__all__ = ["STYLE"]

_LIGHT = """
  --paper: #ffffff; --card: #f6f7f9; --ink: #1a1d21; --quiet: #5a6270; --edge: #d5d9e0; --grid: #e6e9ee;
  --link: #005a9c; --c0: #0072b2; --c1: #b25400; --c2: #007a59; --c3: #9a4d80; --good: #00724f; --bad: #b03a00;
  --same: #7a5c00; --open: #00609a; --goodbg: #e2f4ec; --badbg: #fce9df; --samebg: #fbf2d6; --openbg: #e1effa;
  --ins: #cfeee0; --del: #fbdccd; --shade: #0072b2;
"""
_DARK = """
  --paper: #14171b; --card: #1d2127; --ink: #e8eaed; --quiet: #a2abb8; --edge: #3a414c; --grid: #2a3038;
  --link: #7cc4ff; --c0: #56b4e9; --c1: #f0a050; --c2: #35c79a; --c3: #dd9cc4; --good: #4fd3a6; --bad: #ff9a68;
  --same: #f0cf66; --open: #7cc4ff; --goodbg: #12332a; --badbg: #3d2216; --samebg: #383012; --openbg: #152e42;
  --ins: #12493a; --del: #582a17; --shade: #56b4e9;
"""

_PAGE = """
:root { --face: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 3.4rem; background: var(--paper); }
body { margin: 0; font: 16px/1.5 var(--face); color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
[hidden] { display: none !important; }
.skip { position: absolute; left: -99em; }
.skip:focus { left: .5rem; top: .5rem; z-index: 9; background: var(--paper); padding: .5rem; }
main { max-width: 66rem; margin: 0 auto; padding: 0 1rem 4rem; }
h1 { font-size: 1.35rem; line-height: 1.35; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: .8rem 0 .4rem; }
p { margin: .4rem 0; }
.quiet, .small { color: var(--quiet); }
.small { font-size: .88rem; }
.lead { font-size: 1.05rem; }
.warn { color: var(--bad); }
code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; background: var(--grid); border-radius: 3px;
  padding: 0 .2em; }
section { margin: 2.2rem 0 0; padding-top: 1.2rem; border-top: 1px solid var(--edge); }
ul, ol { margin: .4rem 0; padding-left: 1.2rem; }
summary { cursor: pointer; padding: .3rem 0; }
.bar-top { position: sticky; top: 0; z-index: 5; display: flex; gap: .5rem; align-items: center;
  background: var(--paper);
  border-bottom: 1px solid var(--edge); padding: .35rem 1rem; }
.bar-top nav { flex: 1; min-width: 0; overflow-x: auto; white-space: nowrap; scrollbar-width: thin; }
.bar-top nav a { display: inline-block; padding: .35rem .5rem; font-size: .9rem; text-decoration: none; }
.bar-top nav a:hover { text-decoration: underline; }
button, select, input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--edge);
  border-radius: 6px;
  padding: .35rem .7rem; min-height: 2.4rem; max-width: 100%; }
button { cursor: pointer; }
button[aria-pressed="true"] { background: var(--link); color: var(--paper); border-color: var(--link); }
"""

_HERO = """
.hero { margin: 1rem 0 0; padding: 1rem; border-radius: 12px; border-left: 8px solid; background: var(--card); }
.hero.good { background: var(--goodbg); border-color: var(--good); }
.hero.bad { background: var(--badbg); border-color: var(--bad); }
.hero.same { background: var(--samebg); border-color: var(--same); }
.hero.open { background: var(--openbg); border-color: var(--open); }
.kicker { margin: 0; }
.badge { display: inline-block; padding: .05rem .55rem; border-radius: 99px; border: 1.5px solid currentcolor;
  font-size: .88rem; font-weight: 700; }
.hero.good .badge, .badge.good { color: var(--good); }
.hero.bad .badge, .badge.bad { color: var(--bad); }
.hero.same .badge, .badge.same, .badge.warn { color: var(--same); }
.hero.open .badge { color: var(--open); }
.numbers { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; margin: 0; }
.numbers div { background: var(--paper); border-radius: 8px; padding: .5rem .6rem; }
.numbers dt { font-size: .85rem; color: var(--quiet); line-height: 1.25; }
.numbers dd { margin: 0; font-size: 1.45rem; font-weight: 700; font-variant-numeric: tabular-nums; line-height: 1.25;
  }
.numbers dd.small { font-size: .85rem; font-weight: 400; min-height: 1.2em; }
.hero h2 { font-size: 1rem; margin: .8rem 0 .2rem; }
.now { margin: 0; }
"""

_PARTS = """
.text { white-space: pre-wrap; unicode-bidi: plaintext; overflow-wrap: anywhere; background: var(--card);
  border: 1px solid var(--edge);
  border-radius: 8px; padding: .6rem .7rem; font-size: .93rem; max-height: 28rem; overflow-y: auto; }
.said { max-height: 8rem; overflow-y: auto; }
ins, del { color: var(--ink); }
ins { background: var(--ins); text-decoration: underline; text-decoration-thickness: 2px; }
del { background: var(--del); text-decoration: line-through; }
.figure { display: grid; gap: .6rem 1.6rem; margin: .6rem 0; }
.pair, .charts { display: grid; gap: .8rem; }
.chart { max-width: 34rem; min-width: 0; }
.beside, .pair > div { min-width: 0; }
.wide { overflow-x: auto; margin: .6rem 0; max-width: 100%; background:
  linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2.4rem 100% no-repeat local,
  linear-gradient(to left, var(--edge), transparent) 100% 0 / .8rem 100% no-repeat scroll; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--grid); vertical-align: top;
  overflow-wrap: normal; }
td { white-space: nowrap; }
th[scope="row"] { font-weight: 600; overflow-wrap: break-word; max-width: 16rem; }
thead th { color: var(--quiet); font-weight: 600; font-size: .85rem; vertical-align: bottom; }
td .said { min-width: 11rem; max-width: 34rem; white-space: normal; overflow-wrap: anywhere; }
dl { margin: .3rem 0; }
dt { color: var(--quiet); font-size: .88rem; }
dd { margin: 0 0 .3rem; }
.tag { font-size: .75rem; border: 1px solid currentcolor; border-radius: 4px; padding: 0 .25rem; color: var(--quiet);
  font-weight: 400; }
.findings, .flips { list-style: none; padding: 0; }
.findings > li, .flips > li { margin: .6rem 0; padding: .5rem .7rem; background: var(--card); border-radius: 8px; }
.advice > li { margin: .5rem 0; }
.tree { list-style: none; padding: 0 0 0 .35rem; margin: .3rem 0; }
.tree li { position: relative; padding: .15rem 0 .35rem 1.1rem; border-left: 2px solid var(--edge); }
.tree li:last-child { border-left-color: transparent; }
.tree li::before { content: ""; position: absolute; left: -.42rem; top: .75rem; width: .7rem; height: .7rem;
  border-radius: 50%; background: var(--c0); }
.tree summary { padding: 0; }
.flip .text { margin: .25rem 0; padding: .4rem .6rem; background: var(--paper); max-height: 14rem; }
.flip { border-left: 5px solid var(--edge); }
.flip.gained { border-color: var(--good); }
.flip.lost { border-color: var(--bad); }
.turn { font-weight: 700; }
.gained .turn::before { content: "▲ "; color: var(--good); }
.lost .turn::before { content: "▼ "; color: var(--bad); }
.controls { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center; margin: .6rem 0; }
.controls .buttons { display: flex; flex-wrap: wrap; gap: .4rem; }
.controls label { display: flex; gap: .4rem; align-items: center; min-width: 0; }
.controls input, .controls select { min-width: 0; width: 13rem; }
.shade { padding: .05rem .35rem; border-radius: 4px; border-bottom: 3px solid transparent; }
.h0 { background: color-mix(in srgb, var(--shade) 2%, transparent); }
.h1 { background: color-mix(in srgb, var(--shade) 9%, transparent); }
.h2 { background: color-mix(in srgb, var(--shade) 17%, transparent); }
.h3 { background: color-mix(in srgb, var(--shade) 25%, transparent); }
.h4 { background: color-mix(in srgb, var(--shade) 33%, transparent); }
.h5 { background: color-mix(in srgb, var(--shade) 42%, transparent); }
"""

_CHARTS = """
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 12px var(--face); fill: var(--ink); }
svg .tick, svg .name { fill: var(--quiet); font-size: 11px; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .strong { font-weight: 700; font-variant-numeric: tabular-nums; }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--quiet); }
svg .zero { stroke: var(--ink); stroke-width: 1.5; }
svg .band { fill: var(--edge); opacity: .45; }
svg .line { fill: none; stroke-width: 2.2; stroke: currentcolor; }
svg .whisker { fill: none; stroke: currentcolor; stroke-width: 2.2; }
svg .mark, svg .bar { fill: currentcolor; }
svg .mark { stroke: var(--paper); stroke-width: 1; }
svg .rail { fill: var(--grid); }
svg .railline { stroke: var(--edge); stroke-width: 2; }
svg .ring { fill: var(--paper); stroke: var(--quiet); stroke-width: 1.6; }
.t0 { color: var(--c0); } .t1 { color: var(--c1); } .t2 { color: var(--c2); } .t3 { color: var(--c3); }
.tgood { color: var(--good); } .tbad { color: var(--bad); } .tbar { color: var(--ink); }
.tfaint { color: var(--quiet); opacity: .45; } .tfront { color: var(--quiet); }
svg .line.t1 { stroke-dasharray: 7 3; } svg .line.t2 { stroke-dasharray: 2 2.5;
  } svg .line.t3 { stroke-dasharray: 9 3 2 3; }
svg .line.tfaint { stroke: none; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .2rem 0;
  font-size: .88rem; }
.legend li { display: flex; align-items: center; gap: .35rem; }
svg.key { width: 26px; height: 12px; flex: none; }
svg.cell { width: 6rem; height: .75rem; margin-top: .4rem; }
"""

_WIDE = """
@media (max-width: 30rem) {
  table { font-size: .86rem; }
  thead th { font-size: .8rem; }
  th, td { padding-right: .5rem; }
  svg.cell { width: 4.2rem; }
  th[scope="row"] { max-width: 9rem; }
}
@media (min-width: 56rem) {
  .figure { grid-template-columns: minmax(0, 1.1fr) minmax(0, 1fr); }
  .pair, .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  h1 { font-size: 1.6rem; }
  .numbers dd { font-size: 2rem; }
  .hero { padding: 1.4rem 1.6rem; }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
"""

_PAPER = """
@media print {
  .bar-top, .controls, .skip { display: none !important; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .text, .said { max-height: none; overflow: visible; }
  .wide { overflow: visible; }
  section { break-inside: auto; }
  .figure, .flip, .findings > li, tr, svg { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

STYLE = (
    f":root {{ color-scheme: light;{_LIGHT}}}\n"
    f':root[data-theme="dark"] {{ color-scheme: dark;{_DARK}}}\n'
    "@media screen and (prefers-color-scheme: dark) "
    f'{{ :root:not([data-theme="light"]) {{ color-scheme: dark;{_DARK}}} }}\n'
    f"@media print {{ :root, :root[data-theme] {{ color-scheme: light;{_LIGHT}}} }}\n"
    + _PAGE + _HERO + _PARTS + _CHARTS + _WIDE + _PAPER
)  # fmt: skip
