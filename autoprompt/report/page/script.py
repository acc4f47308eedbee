"""What the page does by itself: the theme, and the filter of the examples. Without it all can be read."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = """
"use strict";
(() => {
  const root = document.documentElement;
  const key = "autoprompt-theme";
  const kept = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const keep = (value) => { try { localStorage.setItem(key, value); } catch { /* a page may be kept from storing */ } };
  const toggle = document.getElementById("theme");
  const darkScreen = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (darkScreen.matches ? "dark" : "light")) === "dark";
  const show = () => toggle.setAttribute("aria-pressed", String(dark()));
  const before = kept();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    show();
  });
  darkScreen.addEventListener("change", show);
  show();

  // on paper everything is open
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  const controls = document.getElementById("flip-controls");
  if (!controls) return;
  const flips = [...document.querySelectorAll("#flip-list > li")];
  const texts = flips.map((flip) => flip.textContent.toLowerCase());
  const buttons = [...controls.querySelectorAll("button")];
  const label = document.getElementById("flip-label");
  const search = document.getElementById("flip-search");
  const told = document.getElementById("flip-count");
  const more = document.getElementById("flip-more");
  const step = 20;
  let turn = "";
  let most = step;
  const filter = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let fit = 0;
    flips.forEach((flip, at) => {
      const fits = (!turn || flip.dataset.turn === turn) && (!label.value || flip.dataset.label === label.value)
        && words.every((word) => texts[at].includes(word));
      fit += fits ? 1 : 0;
      flip.hidden = !fits || fit > most;
    });
    told.textContent = `${fit} of ${flips.length} fit`;
    more.hidden = fit <= most;
    more.textContent = `show ${Math.min(2 * step, fit - most)} more`;
  };
  addEventListener("beforeprint", () => { most = Infinity; filter(); });
  addEventListener("afterprint", () => { most = step; filter(); });
  const anew = () => { most = step; filter(); };
  more.addEventListener("click", () => { most += 2 * step; filter(); });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      turn = button.dataset.turn;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      anew();
    });
  }
  label.addEventListener("change", anew);
  search.addEventListener("input", anew);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { search.value = ""; anew(); }
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
  });
  controls.hidden = false;
  filter();
})();
"""
