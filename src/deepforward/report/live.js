"use strict";
{
  const note = document.getElementById("note");
  const words = { live: "Live", waiting: "Waiting for the run to begin", ended: "The run has ended", gone: "No longer served: the page stays as it was last" };
  let shown = document.getElementById("shown");
  let tag = "";
  let timer = 0;

  const say = (state) => { note.dataset.state = state; note.textContent = words[state]; };
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const drawn = (frame) => frame.contentDocument?.documentElement.dataset.drawn;
  // The note follows the theme that the reader gives the page.
  const follow = (page) => {
    const copy = () => { document.documentElement.style.colorScheme = page.dataset.theme ?? ""; };
    new MutationObserver(copy).observe(page, { attributes: true });
    copy();
  };
  const selects = () => !(shown.contentDocument?.getSelection()?.isCollapsed ?? true);

  // The new page is loaded and drawn behind the old one, and takes its place where the reader stands and in the theme that he chose.
  const swap = async () => {
    const next = document.createElement("iframe");
    next.title = shown.title;
    next.src = "/page";
    const loaded = new Promise((resolve) => { next.onload = resolve; });
    shown.before(next);
    await loaded;
    for (let waited = 0; !drawn(next) && waited < 10000; waited += 50) await pause(50);
    const theme = shown.contentDocument?.documentElement.dataset.theme;
    const prefers = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    if (theme && theme !== prefers) next.contentDocument.getElementById("theme")?.click();
    next.contentWindow.scrollTo({ left: shown.contentWindow.scrollX, top: shown.contentWindow.scrollY, behavior: "instant" });
    follow(next.contentDocument.documentElement);
    document.title = next.contentDocument.title;
    const hadFocus = document.activeElement === shown;
    shown.remove();
    shown = next;
    if (hadFocus) shown.focus();
    document.documentElement.dataset.swaps = 1 + Number(document.documentElement.dataset.swaps ?? 0);
  };

  const look = async () => {
    clearTimeout(timer);
    const began = performance.now();
    let wait = 2000;
    try {
      const state = await (await fetch("/state")).json();
      if (state.tag !== tag && !selects()) {
        await swap();
        tag = state.tag;
        wait = Math.min(5000, Math.max(2000, 10 * (performance.now() - began)));
      }
      say(state.status);
    } catch {
      say("gone");
      wait = 5000;
    }
    if (!document.hidden) timer = setTimeout(look, wait);
  };

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  look();
}
