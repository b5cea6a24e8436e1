// Small behaviours of the pages: copying, tabs, the phone menu, live figures. Without it every page still works.
"use strict";

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const text = document.getElementById(copy.dataset.copy).textContent.trim();
    const before = copy.textContent;
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(copy.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      copy.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { copy.textContent = before; }, 2000);
  }
  const menu = event.target.closest("[data-menu]");
  if (menu) {
    const open = menu.closest(".side").classList.toggle("open");
    menu.setAttribute("aria-expanded", String(open));
  }
  const tab = event.target.closest('[role="tab"]');
  if (tab) select(tab);
});

function select(tab) {
  for (const other of tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')) {
    const on = other === tab;
    other.setAttribute("aria-selected", String(on));
    other.tabIndex = on ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
  }
}

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.('[role="tab"]');
  if (!tab || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const tabs = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')];
  const next = tabs[(tabs.indexOf(tab) + (event.key === "ArrowRight" ? 1 : -1) + tabs.length) % tabs.length];
  next.focus();
  select(next);
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset?.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

const live = document.querySelector("[data-live-source]");
if (live) {
  const source = new EventSource(live.dataset.liveSource);
  const state = document.querySelector(".live");
  const show = (on) => {
    if (!state) return;
    state.dataset.state = on ? "on" : "off";
    state.textContent = on ? "Live" : "Reconnecting";
  };
  source.addEventListener("open", () => show(true));
  source.addEventListener("error", () => show(false));
  source.addEventListener("figures", (event) => {
    for (const [name, text] of Object.entries(JSON.parse(event.data))) {
      for (const place of document.querySelectorAll(`[data-live="${CSS.escape(name)}"]`)) {
        if (place.textContent !== text) place.textContent = text;
      }
    }
  });
  addEventListener("pagehide", () => source.close());
}
