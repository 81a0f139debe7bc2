// A counterexample, step by step: the words of memory, where each process stands, both bitmaps.

import { bitmaps } from "./bits.js";
import { element, link, prose, source, table } from "./elements.js";

const BETWEEN_STEPS = 900;
// A list of more steps is laid out only where it is looked at.
const MANY = 400;
const BEGINNING = { pages: 0, bitmaps: {}, ranges: {}, memory: {}, processes: {}, moved: "" };

/** Every step's picture whole: a frame says only what has changed since the one before. */
function unfolded(replay) {
  let picture = BEGINNING;
  return replay.frames.map((frame) => {
    const words = Object.entries(frame.bitmaps ?? {}).map(([name, hex]) => [name, hex.map(BigInt)]);
    picture = {
      pages: frame.pages ?? picture.pages,
      bitmaps: { ...picture.bitmaps, ...Object.fromEntries(words) },
      ranges: { ...picture.ranges, ...frame.ranges },
      memory: { ...picture.memory, ...frame.memory },
      processes: { ...picture.processes, ...frame.processes },
      moved: frame.moved ?? "",
    };
    for (const gone of frame.gone ?? []) delete picture.memory[gone];
    return { ...picture, text: frame.text };
  });
}

function memoryTable(picture, before) {
  const names = Object.keys(picture.memory);
  if (names.length === 0) return null;
  return table("Shared memory", ["word", "value", "changed"], names.map((name) => {
    const was = before?.memory[name];
    const changed = before !== undefined && was !== picture.memory[name];
    return {
      cells: [name, picture.memory[name], changed ? `was ${was ?? "not there"}` : ""],
      attributes: { class: changed ? "changed" : null },
    };
  }));
}

/** A process's program with the step that it stands at, its locals, and the code of that step. */
function processPart(name, at, picture, program, code) {
  const steps = program.filter((step) => step.of === undefined || step.of.includes(name));
  const here = program.find((step) => step.step === at.step);
  const locals = Object.entries(at.locals ?? {}).map(([what, value]) => `${what} = ${value}`).join(", ");
  const listed = element("ol", { class: "program", tabindex: 0, "aria-label": `program of ${name}` }, steps.map((step) =>
    element("li", { "aria-current": step.step === at.step ? "step" : null }, step.text)));
  requestAnimationFrame(() => {
    const lit = listed.querySelector("[aria-current]");
    if (lit) listed.scrollTop = lit.offsetTop - listed.clientHeight / 2;
  });
  return element("section", {},
    element("h3", {}, name, picture.moved === name ? " (has just moved)" : ""),
    element("p", { class: "quiet" }, here ? `is about to: ${here.text}` : at.step, locals ? `; ${locals}` : ""),
    here && steps.length ? listed : null,
    here?.code && code[here.code] ? source(code[here.code]) : null);
}

function stateParts(picture, before, program, code) {
  const places = Object.entries(picture.processes).map(([name, at]) => processPart(name, at, picture, program, code));
  return [
    bitmaps(picture, before),
    element("div", { class: "places" }, memoryTable(picture, before), places),
  ];
}

function about(replay, traps, claimed) {
  return [
    element("h1", {}, replay.control ?? replay.claim),
    element("p", {}, "Claim: ", claimed ? link(replay.claim, "claim", replay.claim) : element("strong", {}, replay.claim),
      claimed ? [". ", prose(claimed.sentence)] : null,
      replay.broken ? [element("br"), "Broken on purpose: ", prose(replay.broken)] : null,
      replay.about ? [element("br"), element("span", { class: "quiet" }, prose(replay.about))] : null),
    traps.length ? element("p", {}, "Trap of the 2016 patch: ", traps.map((trap) => `${trap.number}, ${trap.title}. `)) : null,
  ];
}

/** The view of one replay, at a step; `moved` is told of the step whenever it changes. */
export function stepping(replay, { start, programs, code, traps, claimed, moved }) {
  const pictures = unfolded(replay);
  const program = programs[replay.program] ?? [];
  const last = pictures.length - 1;
  let at = Math.min(Math.max(start ?? 0, 0), last);
  let timer = null;

  const fails = (step) => step === last && replay.failure !== "";
  const said = element("p", { class: "said", role: "status" });
  const state = element("div");
  const count = element("span", { class: "count" });
  const slider = element("input", { type: "range", min: 0, max: last, "aria-label": "step", oninput: () => go(Number(slider.value)) });
  const play = element("button", { type: "button", onclick: () => toggle() }, "Play");
  const button = (text, label, to) =>
    element("button", { type: "button", "aria-label": label, title: label, onclick: () => go(to()) }, text);
  const controls = element("div", { class: "controls", role: "group", "aria-label": "stepping" },
    button("First", "first step (Home)", () => 0),
    button("\u25c0 Back", "one step back (Left)", () => at - 1),
    play,
    button("Forward \u25b6", "one step forward (Right)", () => at + 1),
    button(replay.failure ? "Failure" : "Last", "last step (End)", () => last),
    slider, count);
  const entries = pictures.map((picture, step) =>
    element("button", { type: "button", class: fails(step) ? "failing" : null, onclick: () => go(step) },
      `${step}  ${fails(step) ? "\u2717 Fails: " : ""}${picture.text}`));
  const steps = element("ol", { class: entries.length > MANY ? "steps long" : "steps", "aria-label": "steps" }, entries.map((entry) => element("li", {}, entry)));

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function toggle() {
    if (timer !== null) return stop();
    if (at === last) go(0);
    play.textContent = "Pause";
    timer = setInterval(() => (at < last && said.isConnected ? go(at + 1, true) : stop()), BETWEEN_STEPS);
  }

  function go(to, playing = false) {
    if (!playing) stop();
    entries[at].removeAttribute("aria-current");
    at = Math.min(Math.max(to, 0), last);
    entries[at].setAttribute("aria-current", "step");
    requestAnimationFrame(() => { steps.scrollTop = entries[at].parentElement.offsetTop - steps.clientHeight / 2; });
    slider.value = String(at);
    count.textContent = `step ${at} of ${last}`;
    said.className = fails(at) ? "said failing" : "said";
    said.textContent = fails(at) ? `\u2717 Fails: ${pictures[at].text}` : pictures[at].text;
    state.replaceChildren(...stateParts(pictures[at], pictures[at - 1], program, code).flat().filter(Boolean));
    moved(at);
  }

  const keys = { ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(last), " ": toggle };
  // Wherever the focus is, but where these keys write or scroll.
  function onKey(event) {
    if (!view.isConnected) return removeEventListener("keydown", onKey);
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return undefined;
    if (event.target.closest("pre, .scroll, .program") || (event.key === " " && event.target.closest("button, a"))) return undefined;
    event.preventDefault();
    return act();
  }

  const view = element("div", {},
    about(replay, traps, claimed),
    controls,
    element("p", { class: "quiet" }, "Keys: Left and Right, Home and End, Space to play."),
    said,
    element("div", { class: "stepping" }, steps, state));
  addEventListener("keydown", onKey);
  go(at, true);
  return view;
}

/** All counterexamples, with a filter; and the traps of the patch, each with its own. */
export function replayList(replays, traps) {
  const body = element("div");
  const filter = element("input", { type: "search", id: "filter", oninput: () => show() });
  function show() {
    const wanted = filter.value.toLowerCase();
    const found = replays.filter((replay) =>
      [replay.id, replay.claim, replay.control, replay.broken, replay.failure].join(" ").toLowerCase().includes(wanted));
    body.replaceChildren(
      element("p", { role: "status" }, `${found.length} of ${replays.length}`),
      table("Counterexamples", ["control", "claim", { text: "steps", figure: true }, "how it fails"], found.map((replay) => [
        link(replay.control ?? replay.id, "replay", replay.id), replay.claim, String(replay.frames.length - 1),
        replay.failure || "does not fail"])));
  }
  show();
  const ids = new Set(replays.map((replay) => replay.id));
  const mine = traps.filter((trap) => trap.replays.some((id) => ids.has(id)));
  return element("div", {},
    element("h1", {}, "Counterexamples"),
    element("p", {}, "Each is a claim with one thing broken, run on the model until it fails. Follow one and step through it."),
    mine.length ? table("Traps of the 2016 patch", ["trap", "what becomes of it", "see it"], mine.map((trap) => [
      `${trap.number}. ${trap.title}`, trap.verdict,
      element("span", {}, trap.replays.filter((id) => ids.has(id)).map((id, number) => [number ? ", " : "", link(id, "replay", id)]))])) : null,
    element("div", { class: "controls" }, element("label", { for: "filter" }, "Filter"), filter),
    body);
}
