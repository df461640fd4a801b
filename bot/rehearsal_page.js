// Completes SimCord's page for the rehearsal stage; bot/rehearsal_page.py adds this script to it.
// It runs before SimCord's own script and relies on the elements and messages of the pinned version.
"use strict";

/** @type {{capability: string, rooms: string[], shown: string, menus: string[]}} */
const stage = JSON.parse(document.getElementById("rehearsal").textContent);
const find = (selector) => document.querySelector(selector);
const element = (tag, properties) => Object.assign(document.createElement(tag), properties);

// SimCord reads the secret of this run from the address; afterwards the address is the fixed one.
history.replaceState(null, "", `/#${stage.capability}`);
addEventListener("DOMContentLoaded", () => history.replaceState(null, "", "/"));

// --- Requests -----------------------------------------------------------------------------------

const plainFetch = window.fetch.bind(window);
/** The state that the page shows, and its commands. */
let snapshot = null, catalog = null;

window.fetch = async (resource, options = {}) => {
  const acts = resource === "/api/action" && typeof options.body === "string";
  const response = await (acts ? act(options) : plainFetch(resource, options));
  if ([401, 410].includes(response.status) && options.method !== "DELETE") {
    // Another run of the bot, another channel, or a tab that slept: load what is shown now.
    rejected = acts;
    return reload();
  }
  if (resource === "/api/commands") catalog = await response.clone().json();
  if (resource === "/api/state" || resource === "/api/pages") {
    await until(() => !down);
    snapshot = await response.clone().json();
    redrawn(snapshot.context?.generation);
  }
  return response;
};

/**
 * Send an action for the latest state of the page, which may have been updated since it was shown:
 * SimCord rejects one for an older state. A button has to be the one that the user saw.
 */
async function act(options) {
  const { headers } = options;
  const body = JSON.parse(options.body);
  if (["run_command", "send_message"].includes(body.kind)) following = true;
  if (body.kind === "autocomplete_command") void reopen();
  for (;;) {
    const latest = await plainFetch("/api/state", { headers, cache: "no-store" });
    if (!latest.ok) return latest;
    const now = await latest.json();
    const same = !body.control_key || control(now, body) === control(snapshot, body);
    if (same) body.published_revision = now.publishedRevision;
    const response = await plainFetch("/api/action", { ...options, body: JSON.stringify(body) });
    if (!same || !response.ok) return response;
    const receipt = await response.clone().json();
    if (!receipt.diagnostics.some(({ code }) => code === "stale-revision")) return response;
  }
}

/** Suggestions take the place of the list of further options: show that again. */
async function reopen() {
  const heading = () => find(".command-popup:not([hidden]) .command-popup-heading")?.textContent ?? "";
  await until(() => window.simcordPreview.pendingAction?.kind !== "autocomplete_command" || heading() === "OPTIONS");
  if (heading() !== "OPTIONS") return;
  await until(() => heading() !== "OPTIONS" || ready());
  if (heading().startsWith("OPTIONS MATCHING")) find(".command-ghost")?.click();
}

/** Describe the control of a message: another may have taken its place, and so its key. */
function control(state, body) {
  const search = (node) => node && typeof node === "object" && (node.control_key === body.control_key
    ? JSON.stringify(node) : Object.values(node).map(search).find(Boolean));
  return search(state?.messages?.[body.target_id]?.components);
}

/** Whether a button is held down. An update would replace it, and the press would be lost. */
let down = false;
addEventListener("pointerdown", ({ target }) => {
  down = Boolean(target.closest?.("button, [role=option]"));
}, true);
// After the click that follows. A pointer may be released where no event says so.
const release = () => setTimeout(() => { down = false; });
for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, release, true);
addEventListener("pointermove", ({ buttons }) => { if (!buttons) release(); }, true);
const until = async (condition, seconds = Infinity) => {
  const end = Date.now() + 1000 * seconds;
  while (!condition() && Date.now() < end) await new Promise((resolve) => { setTimeout(resolve, 20); });
};

// --- Presses ------------------------------------------------------------------------------------

/** Return whether the page accepts an action; it ignores those that come before. */
function ready() {
  const { contextId, pendingAction, awaitingRevision, publishedRevision } = window.simcordPreview;
  return Boolean(contextId && !pendingAction && !(awaitingRevision > publishedRevision));
}
let last = Promise.resolve();
/** Keep an event of the user until the page accepts it. */
function keep(event, repeat) {
  if (!event.isTrusted || ready()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  last = last.then(() => until(ready)).then(repeat);
}
const composer = () => find("#channel-composer");

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("#preview-app :is(button, [role=option])");
  const { controlKey } = pressed?.dataset ?? {};
  if (controlKey && event.isTrusted && window.simcordPreview.pendingAction?.controlKey === controlKey) {
    // As in Discord, where a button shows that it waits.
    event.preventDefault();
    event.stopImmediatePropagation();
  } else if (pressed) {
    const label = pressed.textContent;
    keep(event, () => {
      const again = controlKey ? find(`[data-control-key="${CSS.escape(controlKey)}"]`) : pressed;
      if (again?.textContent === label) again.click();
    });
  } else if (inside(event, find("#send-message"))) {
    keep(event, send); // it was disabled, and so not pressed
  }
}, true);
const inside = ({ clientX, clientY }, target) => {
  const { left, right, top, bottom } = target.getBoundingClientRect();
  return left <= clientX && clientX < right && top <= clientY && clientY < bottom;
};

document.addEventListener("keydown", (event) => {
  if (event.isTrusted && postpone(event)) return;
  if (!event.target.closest?.("#channel-composer") || event.isComposing) return;
  const typed = event.target.id === "channel-composer-input" ? event.target.value : "";
  const chosen = event.key === " " ? choose(event.target, typed, "")
    : event.key === "Enter" && !event.shiftKey && / /.test(typed) && choose(event.target, ...split(typed));
  if (chosen) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  if (event.key !== "Enter" || event.shiftKey) return;
  if (chosen) last = last.then(() => until(ready)).then(send);
  else if (!find(".command-popup [aria-selected=true]")) keep(event, send);
  else return;
  sending = chosen || event.defaultPrevented;
}, true);
/** Whether a line is complete, and waits until the page accepts it. */
let sending = false;
function send() {
  sending = false;
  composer().requestSubmit();
}

/** Split a typed line into a command and the text after it, which is its first option. */
function split(typed) {
  const names = (catalog?.entries ?? []).map(({ invocation }) => `/${invocation}`);
  const name = names.filter((known) => typed.startsWith(`${known} `)).sort().at(-1) ?? "";
  return [name, typed.slice(name.length).trim()];
}
/** Begin a command that was typed in full, as Discord does; return whether there is one. */
function choose(input, name, text) {
  const entry = catalog?.entries.find(({ invocation }) => name === `/${invocation}`);
  if (!entry) return false;
  enter(input, name);
  const item = find(`.command-entry[data-entry-key="${CSS.escape(entry.key)}"]`);
  item?.click();
  const option = find("input.command-option-input");
  if (text && option) enter(option, text);
  return Boolean(item);
}
function enter(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

// --- Typing -------------------------------------------------------------------------------------

/** Keys that were pressed while the page had no field for them: they are typed once it has one. */
const keys = [];
/** What was typed in each channel and not sent, by the names of the channels; and such keys. */
const drafts = {}, keptKeys = {};
/** The channel for which is typed. */
let addressed = stage.shown;
/** Whether a draft is to be typed again, or another channel is loaded. */
let busy = true;
/** Whether SimCord rejected the last action because the page is of an earlier run or channel. */
let rejected = false;

const line = () => find("#channel-composer-input");
const write = (key) => (key === "Backspace" ? document.execCommand("delete")
  : key.length === 1 && document.execCommand("insertText", false, key));

/** Whether keys belong to something else than the line, such as a form or the search. */
function elsewhere() {
  const active = document.activeElement;
  return Boolean(find("#channel-layout[inert], .rehearsal-menu")
    || active?.matches("input, textarea, select") && !composer()?.contains(active));
}
/** Focus the line if a key would reach nothing. */
function refocus() {
  const active = document.activeElement;
  if (!composer()?.checkVisibility() || composer().contains(active) && active !== composer() || elsewhere()) return;
  (find("input.command-option-input:not(:read-only)") ?? line())?.focus({ preventScroll: true });
}
/** Whether the page accepts a key now. While it sends a line, it drops keys or adds them to that line. */
function accepts(key) {
  const { pendingAction, commandPicker } = window.simcordPreview ?? {};
  const ends = key === "Enter" || key === " ";
  return !busy && !sending && commandPicker && composer().contains(document.activeElement)
    && !document.activeElement.readOnly && !["run_command", "send_message"].includes(pendingAction?.kind)
    && !(ends && line()?.value.startsWith("/") && commandPicker.catalog.state === "loading");
}
/** Keep a key that the page does not accept yet; return whether it was kept. */
function postpone(event) {
  pressed = Date.now();
  const { key, isComposing, target } = event;
  const command = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  const typed = key.length === 1 || key === "Backspace" || key === "Enter";
  if (!typed || command || isComposing || elsewhere()) return false;
  if ((key === " " || key === "Enter") && target.closest?.("button, a, summary, [tabindex]")) return false;
  const before = document.activeElement;
  refocus();
  if (!keys.length && accepts(key) && document.activeElement === before) return false;
  event.preventDefault();
  event.stopImmediatePropagation();
  keys.push(key === "Enter" && event.shiftKey ? "\n" : key);
  void typeKeys();
  return true;
}
let typing = false;
async function typeKeys() {
  if (typing) return;
  typing = true;
  while (keys.length) {
    await until(() => {
      if (!busy) refocus();
      return accepts(keys[0]) && (keys[0] !== "Enter" || ready());
    });
    const [key] = keys;
    const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
    if (document.activeElement.dispatchEvent(event)) write(key);
    keys.shift();
  }
  typing = false;
}

/** Return what was typed and not sent: a line, or a command with the values of its options. */
function draft() {
  const { pendingAction, commandPicker } = window.simcordPreview ?? {};
  const sent = ["run_command", "send_message"].includes(pendingAction?.kind) && !rejected;
  // A message that is edited has its text again after a reload.
  if (!commandPicker || sent || find("#send-message").ariaLabel === "Save") return null;
  const active = document.activeElement;
  const caret = composer().contains(active)
    ? { option: active.dataset.option, start: active.selectionStart, end: active.selectionEnd } : null;
  if (!commandPicker.draft) return { text: line().value, caret };
  const values = [...document.querySelectorAll("input.command-option-input")]
    .map(({ dataset, value }) => [dataset.option, value]);
  return { text: `/${commandPicker.draft.invocation}`, values, caret };
}
/** Type a draft again. */
function retype({ text, values, caret }) {
  const command = values && choose(line(), text, "");
  if (!command) enter(line(), [text, ...(values ?? []).map(([, value]) => value)].join(" "));
  for (const [name, value] of command ? values : []) {
    const offered = `.command-suggestion[data-value="${CSS.escape(name)}"]`;
    if (!field(name) && !find(offered)) find(".command-ghost")?.click();
    if (!field(name)) find(offered)?.click();
    if (value && field(name)) enter(field(name), value);
  }
  if (!caret) return;
  const active = command ? field(caret.option) ?? find(".command-chip") : line();
  active?.focus({ preventScroll: true });
  if (caret.start !== undefined) active?.setSelectionRange?.(caret.start, caret.end);
}
const field = (name) => find(`input.command-option-input[data-option="${CSS.escape(name ?? "")}"]`);

/** Type a draft again once the page is drawn, if it is not there any more. */
async function restore(kept, drawn) {
  busy = true;
  drafts[stage.shown] = kept;
  await until(drawn, 10);
  await until(() => composer().checkVisibility() && ready()
    && window.simcordPreview.commandPicker.catalog.state !== "loading");
  if (kept?.text && JSON.stringify(draft()) !== JSON.stringify(kept)) retype(kept);
  busy = false;
  if (!elsewhere()) refocus();
}
/** SimCord drops a command that is being typed when it shows earlier messages. */
function redrawn(generation) {
  const shown = window.simcordPreview?.contextGeneration;
  if (!busy && shown && shown < generation) {
    void restore(draft(), () => window.simcordPreview.contextGeneration >= generation);
  }
}

let pressed = 0;
/** Load the page again between two keys: what is pressed before the new page has this script is lost. */
async function reload() {
  await until(() => Date.now() - pressed > 300, 3);
  location.reload();
  return new Promise(() => {});
}
addEventListener("pagehide", () => {
  if (!busy) drafts[stage.shown] = draft();
  keptKeys[addressed] = keys;
  sessionStorage.setItem("rehearsal", JSON.stringify({ drafts, keptKeys }));
});
addEventListener("DOMContentLoaded", () => {
  // SimCord empties the line for another member.
  find("#viewer-picker").addEventListener("change", () => {
    const before = window.simcordPreview.contextGeneration;
    void restore(draft(), () => window.simcordPreview.contextGeneration !== before);
  }, true);
  // The line that SimCord puts in the place of a command that was sent.
  new MutationObserver(() => { if (!busy && document.activeElement === document.body) refocus(); })
    .observe(composer(), { childList: true, subtree: true });
  // SimCord focuses the button that closes a form, which a space would press.
  let open = false;
  new MutationObserver(() => {
    const text = find("#modal-root :is(textarea, input[type=text])");
    if (text && !open) requestAnimationFrame(() => {
      text.focus();
      text.setSelectionRange(text.value.length, text.value.length);
    });
    open = Boolean(text);
  }).observe(find("#modal-root"), { childList: true, subtree: true });
  const stored = JSON.parse(sessionStorage.getItem("rehearsal") ?? "{}");
  Object.assign(drafts, stored.drafts);
  Object.assign(keptKeys, stored.keptKeys);
  keys.unshift(...keptKeys[addressed] ?? []);
  void restore(drafts[stage.shown], () => window.simcordPreview?.contextId);
  void typeKeys();
});

// --- The newest message -------------------------------------------------------------------------

/** Whether the page stays at the newest message: until the user scrolls away from it. */
let following = true;
addEventListener("DOMContentLoaded", () => {
  const timeline = find("#channel-timeline");
  let touched = 0;
  for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    timeline.addEventListener(name, () => { touched = Date.now(); }, { passive: true });
  }
  timeline.addEventListener("scroll", () => {
    if (Date.now() - touched > 1000) return;
    following = timeline.scrollHeight - timeline.scrollTop - timeline.clientHeight < 40;
  }, { passive: true });
  const follow = () => {
    if (following) requestAnimationFrame(() => { timeline.scrollTop = timeline.scrollHeight; });
  };
  const sizes = new ResizeObserver(follow);
  sizes.observe(timeline);
  sizes.observe(find("#channel-message-list"));
  new MutationObserver(() => { follow(); addMenuButtons(); }).observe(
    find("#channel-message-list"), { childList: true, subtree: true });
});

// --- Channels and the menu of a message ---------------------------------------------------------

async function ask(path, body) {
  const response = await plainFetch(path, {
    method: "POST",
    headers: { "X-Simcord-Capability": stage.capability, "Content-Type": "application/json" },
    body: JSON.stringify({ member: window.simcordPreview.viewerId, ...body }),
  });
  if (!response.ok) window.alert(await response.text());
  return response.ok;
}

addEventListener("DOMContentLoaded", () => {
  document.title = `${stage.shown} – rehearsal`;
  const channels = element("nav", { className: "rehearsal-channels", ariaLabel: "Channels" });
  for (const name of stage.rooms) {
    const button = element("button", { type: "button", className: "toolbar-button", textContent: name });
    if (name === stage.shown) button.ariaCurrent = "page";
    button.addEventListener("click", async () => {
      await until(() => !busy);
      if (name === stage.shown) return;
      drafts[stage.shown] = draft();
      busy = true;
      addressed = name;
      if (await ask("/rehearsal/show", { room: name })) await reload();
      busy = false;
      addressed = stage.shown;
    });
    channels.append(button);
  }
  find(".viewer-control").before(channels);
});

function openMenu(message, x, y) {
  closeMenu();
  const menu = element("div", { className: "rehearsal-menu", role: "menu", ariaLabel: "Apps" });
  menu.append(element("strong", { textContent: "Apps" }));
  for (const name of stage.menus) {
    const item = element("button", { type: "button", role: "menuitem", textContent: name });
    item.addEventListener("click", () => {
      closeMenu();
      following = true;
      void ask("/rehearsal/menu", { message, name });
    });
    menu.append(item);
  }
  document.body.append(menu);
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(0, Math.min(x, innerWidth - width))}px`;
  menu.style.top = `${Math.max(0, Math.min(y, innerHeight - height))}px`;
  menu.querySelector("button").focus();
}
const closeMenu = () => find(".rehearsal-menu")?.remove();
addEventListener("pointerdown", (event) => {
  if (!event.target.closest?.(".rehearsal-menu")) closeMenu();
}, true);
addEventListener("keydown", (event) => { if (event.key === "Escape") closeMenu(); }, true);
addEventListener("contextmenu", (event) => {
  const message = event.target.closest?.(".channel-message");
  if (!message || !stage.menus.length) return;
  event.preventDefault();
  openMenu(message.dataset.messageId, event.clientX, event.clientY);
});
function addMenuButtons() {
  for (const toolbar of document.querySelectorAll(".message-context-actions:not(:has(.rehearsal-apps))")) {
    const button = element("button", {
      type: "button", className: "message-action-button rehearsal-apps", textContent: "⋯", ariaLabel: "Apps",
    });
    button.addEventListener("click", () => {
      const { left, bottom } = button.getBoundingClientRect();
      openMenu(button.closest(".channel-message").dataset.messageId, left, bottom);
    });
    toolbar.append(button);
  }
}

const style = new CSSStyleSheet();
style.replaceSync(`
  #send-message:disabled { pointer-events: none; }
  /* Over the messages, or all buttons would move when it appears. */
  #new-messages { position: relative; z-index: 1; flex: none; height: 28px; margin-top: -28px; }
  .command-pill { max-width: 100%; }
  .command-error { position: static; white-space: nowrap; }
  .rehearsal-channels { display: flex; gap: 4px; }
  .rehearsal-channels [aria-current] { font-weight: 700; text-decoration: underline; }
  .rehearsal-menu {
    position: fixed; z-index: 1000; display: grid; gap: 2px; padding: 8px; border-radius: 6px;
    background: #111214; color: #dbdee1; box-shadow: 0 4px 16px #0008;
  }
  .rehearsal-menu strong { padding: 2px 8px; font-size: 12px; }
  .rehearsal-menu button {
    padding: 6px 8px; border: 0; border-radius: 4px; background: none; color: inherit;
    font: inherit; text-align: left; cursor: pointer;
  }
  .rehearsal-menu button:is(:hover, :focus) { background: #4752c4; color: #fff; }
`);
document.adoptedStyleSheets = [style];
