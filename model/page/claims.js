// What is proved: the theorem, the map of what rests on what, what is trusted, and each claim.

import { drawing, element, link, prose, seconds, source, table, verdict } from "./elements.js";

const subjectOf = (claim) => claim.name.split(".")[0];

function counts(proofs) {
  const controls = proofs.claims.flatMap((claim) => claim.controls);
  const obligations = proofs.claims.reduce((sum, claim) => sum + claim.obligations.length, 0);
  const proved = proofs.claims.filter((claim) => claim.good).length;
  const refuted = controls.filter((control) => control.good).length;
  return verdict(proved === proofs.claims.length && refuted === controls.length,
    `${proved} of ${proofs.claims.length} claims proved (${obligations} obligations), ` +
    `${refuted} of ${controls.length} controls refuted as they must be; z3 ${proofs.z3}, ${proofs.seconds.toFixed(1)} s`);
}

/** The rows of the map: a subject stands below everything that rests on it. */
function rows(map) {
  const depth = {};
  const reach = (name, at) => {
    if ((depth[name] ?? -1) >= at) return;
    depth[name] = at;
    for (const rest of map[name].rests_on) reach(rest.subject, at + 1);
  };
  const under = new Set(Object.values(map).flatMap((entry) => entry.rests_on.map((rest) => rest.subject)));
  for (const name of Object.keys(map)) if (!under.has(name)) reach(name, 0);
  const found = [];
  for (const name of Object.keys(map)) (found[depth[name]] ??= []).push(name);
  return found;
}

function card(name, entry, proofs) {
  const claims = proofs.claims.filter((claim) => subjectOf(claim) === name);
  const good = claims.filter((claim) => claim.good && claim.controls.every((control) => control.good)).length;
  return element("li", { class: name === proofs.theorem.split(".")[0] ? "theorem" : null, "data-subject": name },
    element("p", {}, element("strong", {}, link(name, "claims", name)), " ",
      claims.length ? verdict(good === claims.length, `${good} of ${claims.length}`) : "not in this run"),
    element("p", {}, prose(entry.about)),
    entry.rests_on.length ? element("p", { class: "quiet" }, "rests on ",
      entry.rests_on.map((rest, at) => [at ? ", " : "", link(rest.subject, "claims", rest.subject), `: ${rest.why}`])) : null);
}

/** The map as rows of cards; the lines between them only repeat what the cards say. */
function drawnMap(proofs) {
  const lines = drawing("svg", { "aria-hidden": "true" });
  const layers = rows(proofs.map).map((names, depth) =>
    element("ol", { "aria-label": depth ? `what that rests on, ${depth} below` : "the top" },
      names.map((name) => card(name, proofs.map[name], proofs))));
  const whole = element("div", { class: "map" }, lines, layers);
  function draw() {
    const frame = whole.getBoundingClientRect();
    const box = (name) => whole.querySelector(`[data-subject="${CSS.escape(name)}"]`).getBoundingClientRect();
    lines.replaceChildren(...Object.entries(proofs.map).flatMap(([name, entry]) => entry.rests_on.map((rest) => {
      const [from, to] = [box(name), box(rest.subject)];
      const [x1, y1] = [from.x + from.width / 2 - frame.x, from.bottom - frame.y];
      const [x2, y2] = [to.x + to.width / 2 - frame.x, to.y - frame.y];
      return drawing("path", { d: `M${x1},${y1} C${x1},${(y1 + y2) / 2} ${x2},${(y1 + y2) / 2} ${x2},${y2}` });
    })));
  }
  new ResizeObserver(draw).observe(whole);
  return whole;
}

/** The first screen. */
export function overview(proofs, replays) {
  const theorem = proofs.claims.find((claim) => claim.name === proofs.theorem);
  const start = proofs.start.filter((item) => replays.has(item.replay));
  return element("div", {},
    element("h1", {}, "The flush of COLO's RAM cache: what is proved"),
    element("p", {}, "At a checkpoint each page that is dirty in either of two bitmaps is copied from the cache to guest memory, " +
      "and both its bits are cleared. Several threads do it at once, and no two may write one 64-bit word of a bitmap."),
    element("h2", {}, "The theorem"),
    theorem ? element("p", { class: theorem.good ? "theorem" : "theorem unproved" }, link(theorem.sentence, "claim", theorem.name), " ",
      verdict(theorem.good, theorem.verdict)) : element("p", {}, "The theorem was not part of this run."),
    element("p", {}, counts(proofs)),
    start.length ? [element("h2", {}, "Begin here"), element("ul", {}, start.map((item) =>
      element("li", {}, element("strong", {}, item.question), ` ${item.answer} See it fail: `,
        link(replays.get(item.replay).control, "replay", item.replay), ". The claim: ", link(item.claim, "claim", item.claim), ".")))] : null,
    element("h2", {}, "What rests on what"),
    drawnMap(proofs),
    element("h2", {}, "What must be trusted"),
    table("From SOUNDNESS.md", ["", "trusted", "if it is wrong", "what lowers the risk"],
      proofs.trusted.map((row) => [row.id, prose(row.trusted), prose(row.if_wrong), prose(row.mitigation)]), { unseen: true }),
    element("p", {}, link("All claims", "claims")));
}

/** All claims with a filter: a text, a verdict. */
export function claimList(proofs, subject) {
  const body = element("div");
  const filter = element("input", { type: "search", id: "filter", value: subject ? `${subject}.` : "", oninput: () => show() });
  const which = element("select", { id: "which", onchange: () => show() },
    element("option", { value: "all" }, "all"), element("option", { value: "wrong" }, "not as they must be"),
    element("option", { value: "runs" }, "about the code that runs"), element("option", { value: "mirrors" }, "about a model it follows"));
  function show() {
    const wanted = filter.value.toLowerCase();
    const found = proofs.claims.filter((claim) =>
      [claim.name, claim.sentence, ...claim.assumes, ...claim.functions, ...claim.controls.map((control) => control.name)]
        .join(" ").toLowerCase().includes(wanted) &&
      { all: true, wrong: !(claim.good && claim.controls.every((control) => control.good)), runs: claim.which === "runs",
        mirrors: claim.which === "mirrors" }[which.value]);
    body.replaceChildren(
      element("p", { role: "status" }, `${found.length} of ${proofs.claims.length}`),
      table("Claims", ["claim", "in a sentence", "verdict", "about", { text: "obligations", figure: true },
        { text: "controls refuted", figure: true }, { text: "time", figure: true }],
      found.map((claim) => [link(claim.name, "claim", claim.name), prose(claim.sentence), verdict(claim.good, claim.verdict), claim.which,
        String(claim.obligations.length), `${claim.controls.filter((control) => control.good).length} of ${claim.controls.length}`,
        seconds(claim.seconds)]), { unseen: true }));
  }
  show();
  return element("div", {},
    element("h1", {}, "Claims"),
    element("div", { class: "controls" },
      element("label", { for: "filter" }, "Filter"), filter, element("label", { for: "which" }, "Show"), which),
    body);
}

/** One claim. */
export function claimView(claim, proofs, code, replays) {
  const entry = proofs.map[subjectOf(claim)];
  return element("div", {},
    element("h1", {}, claim.name),
    element("p", { class: claim.good ? "theorem" : "theorem unproved" }, claim.sentence),
    element("p", {}, verdict(claim.good, claim.verdict), ` in ${seconds(claim.seconds)}. `, claim.complaint,
      claim.which === "runs" ? " It is about the very functions that the compiled kernels run."
        : " It is about a model whose steps the kernels follow; that they do is tested."),
    claim.more ? element("p", {}, prose(claim.more)) : null,
    entry ? element("p", {}, "Part of ", link(subjectOf(claim), "claims", subjectOf(claim)), `: ${entry.about}`) : null,
    element("h2", {}, "Assumes"),
    element("ul", {}, (claim.assumes.length ? claim.assumes : ["nothing"]).map((text) => element("li", {}, text))),
    element("h2", {}, "Controls: the same with one thing broken"),
    table("Controls", ["control", "verdict", "must fail at", "failed at", { text: "time", figure: true }, "how it fails on the model"],
      claim.controls.map((control) => [
        control.replay && replays.has(control.replay) ? link(control.name, "replay", control.replay) : control.name,
        verdict(control.good, control.complaint || control.verdict), control.refutes, control.at, seconds(control.seconds),
        control.failure]), { unseen: true }),
    element("h2", {}, "Obligations"),
    table("Obligations", ["obligation", "verdict", { text: "time", figure: true }],
      claim.obligations.map((one) => [one.name, verdict(one.verdict === "proved", one.verdict), seconds(one.seconds)]), { unseen: true }),
    element("h2", {}, "The proof, and the functions it is about"),
    claim.code && code[claim.code] ? source(code[claim.code]) : null,
    claim.functions.map((name) => element("details", {}, element("summary", {}, element("code", {}, name)),
      code[name] ? source(code[name]) : "its source is not at hand")));
}
