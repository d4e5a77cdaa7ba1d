"use strict";
// Small comforts. Every page does its work without this file.
(() => {
  const byId = (id) => document.getElementById(id);

  // Copy buttons are of no use without a script, so they are hidden until it runs.
  const showCopyButtons = () => {
    for (const button of document.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  };

  // Over plain HTTP there is no clipboard object; the selection works there too.
  const copyText = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent.trim());
      return true;
    } catch {
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button || button.dataset.label) return;
    if (!(await copyText(byId(button.dataset.copy)))) return;
    button.dataset.label = button.textContent;
    button.textContent = byId("said").textContent = button.dataset.copied;
    setTimeout(() => {
      button.textContent = button.dataset.label;
      delete button.dataset.label;
      byId("said").textContent = "";
    }, 2000);
  });

  // The account menu closes as menus do.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  // The field to mend or the thing to copy; or else, where the pressed button is gone, the part it stood in.
  const focusWhatMatters = () => {
    const first = document.querySelector('[aria-invalid="true"], [data-focus]');
    if (first) first.focus();
    else if (document.activeElement === document.body) document.querySelector("main [tabindex='-1']")?.focus();
  };

  // What was said about the last action goes when the next one starts; a hidden page does not poll.
  const isPoll = (ctx) => ctx.sourceEvent?.type === "every";
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    if (!isPoll(ctx)) byId("messages").replaceChildren();
    else if (document.hidden) event.preventDefault();
  });

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail;
    showCopyButtons();
    if (isPoll(ctx)) return;
    const messages = byId("messages");
    if (messages.childElementCount) messages.scrollIntoView({ block: "nearest" });
    focusWhatMatters();
  });

  // The network failed: say so once, and take it back when an answer comes. One lost poll is no news.
  let lost = 0;
  let leaving = false;
  addEventListener("pagehide", () => (leaving = true));
  addEventListener("pageshow", () => (leaving = false));
  document.addEventListener("htmx:error", (event) => {
    const { ctx } = event.detail;
    if (!ctx || ctx.response || leaving) return;
    lost += isPoll(ctx) ? 1 : 2;
    if (lost < 2 || byId("offline")) return;
    const note = document.createElement("p");
    note.id = "offline";
    note.className = "note is-blocked";
    note.textContent = document.body.dataset.offline;
    byId("messages").replaceChildren(note);
    if (!isPoll(ctx)) note.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("htmx:after:request", () => {
    lost = 0;
    byId("offline")?.remove();
  });

  showCopyButtons();
  document.querySelector('[aria-invalid="true"], [data-focus]')?.focus();
})();
