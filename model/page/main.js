// The page: what documents it holds, the tabs, and which view a link leads to.

import { bench } from "./bench.js";
import { claimList, claimView, overview } from "./claims.js";
import { conformance } from "./conformance.js";
import { element, link, place } from "./elements.js";
import { exploration } from "./exploration.js";
import { replayList, stepping } from "./stepping.js";

const documents = JSON.parse(document.getElementById("documents").textContent);
const of = (kind) => documents.filter((one) => one.kind === kind);
const merged = (part) => Object.assign({}, ...documents.map((one) => one[part] ?? {}));

const [proofs] = of("proofs");
const [explored] = of("explored");
const ports = of("conformance");
const benches = of("bench");
const replays = new Map(documents.flatMap((one) => one.replays ?? []).map((replay) => [replay.id, replay]));
const [code, programs] = [merged("code"), merged("programs")];
const traps = documents.find((one) => one.traps)?.traps ?? [];

const TABS = [
  [proofs, "Theorem", ""],
  [proofs, "Claims", "claims"],
  [replays.size, "Counterexamples", "replays"],
  [explored, "Explored", "explored"],
  [ports.length, "Conformance", "conformance"],
  [benches.length, "Benchmark", "bench"],
].filter(([there]) => there);

/** The parts of the address; of one that nobody here has made, none. */
function parts() {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  } catch {
    return [""];
  }
}

function nothing(name) {
  return element("div", {}, element("h1", {}, "Not in this report"), element("p", {}, `There is no ${name} here.`));
}

function claim(name) {
  const found = proofs?.claims.find((one) => one.name === name);
  return found ? claimView(found, proofs, code, replays) : nothing("such claim");
}

let remembering = null;

/** The step in the address, once it is stayed at: browsers allow some changes a second, not all. */
function remember(id, step) {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const [view, shown] = parts();
    if (view === "replay" && shown === id) history.replaceState(null, "", place("replay", id, String(step)));
  }, 300);
}

function replay(id, step) {
  const found = replays.get(id);
  if (!found) return nothing("such counterexample");
  return stepping(found, {
    start: Number(step) || 0, programs, code,
    claimed: proofs?.claims.find((one) => one.name === found.claim),
    traps: traps.filter((trap) => trap.replays.includes(id)),
    moved: (at) => remember(id, at),
  });
}

const VIEWS = {
  "": () => (proofs ? overview(proofs, replays) : VIEWS[TABS[0][2]]()),
  claims: (subject) => (proofs ? claimList(proofs, subject) : nothing("claim")),
  claim,
  replays: () => (replays.size === 1 ? replay([...replays.keys()][0]) : replayList([...replays.values()], traps)),
  replay,
  explored: () => (explored ? exploration(explored, replays) : nothing("exploration")),
  conformance: () => element("div", {}, ports.map(conformance)),
  bench: () => bench(benches),
};

const OF_TAB = { claim: "claims", replay: "replays" };

function show() {
  const [view, ...rest] = parts();
  const tab = OF_TAB[view] ?? (view in VIEWS && view !== "" ? view : TABS[0][2]);
  document.getElementById("tabs").replaceChildren(...TABS.map(([, text, name]) => {
    const made = link(text, ...(name ? [name] : []));
    if (name === tab) made.setAttribute("aria-current", "page");
    return made;
  }));
  document.getElementById("view").replaceChildren(drawn(VIEWS[view] ?? VIEWS[""], rest));
}

/** A view; of a document that some other program has written, perhaps why there is none. */
function drawn(view, rest) {
  try {
    return view(...rest);
  } catch (error) {
    return element("div", {}, element("h1", {}, "This cannot be drawn"),
      element("p", {}, "A document in this page is not as schema.json says: ", String(error)));
  }
}

addEventListener("hashchange", () => {
  show();
  scrollTo(0, 0);
  document.getElementById("view").focus({ preventScroll: true });
});
show();
