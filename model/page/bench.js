// The benchmark: ratios with quartiles, scaling, and where a guest's dirty pages lie.

import { lines, ratios, series } from "./charts.js";
import { element, table, verdict } from "./elements.js";

const figure = (text) => ({ text, figure: true });

/** The figures of one pattern, of every machine that has measured it. */
function pattern(name, machines) {
  const mine = machines.map((machine) => (machine.patterns ?? []).find((one) => one.pattern === name));
  // Without a dirty page the copy limit copies nothing.
  const names = [...new Set(mine.flatMap((one) => (one ? Object.keys(one.median_ns) : [])))]
    .filter((who) => mine.some((one) => one?.pages) || !who.startsWith("copy limit"));
  const ratio = (one, who) => {
    const all = one && (one.fastest_c ? one.ratio_to_fastest_c : one.ratio_to_one_thread);
    return all?.[who];
  };
  const rows = names.map((who) => ({
    label: who,
    marks: mine.flatMap((one, number) => (ratio(one, who) ? [{ ...ratio(one, who), series: number }] : [])),
  }));
  const reference = mine.some((one) => one?.fastest_c) ? "the fastest C port" : "one thread";
  return element("section", {},
    element("h2", {}, name),
    element("p", { class: "quiet" }, `${mine.find(Boolean).pages.toLocaleString("en")} dirty pages. Times as fast as ${reference}: `,
      "median of the rounds' ratios, and their quartiles."),
    ratios(rows.filter((row) => row.marks.length)),
    element("details", {}, element("summary", {}, "The figures"),
      machines.map((machine, number) => mine[number] && table(`${name}, ${machine.machine.processor}`,
        ["", figure("median, us"), figure("ratio"), figure("quartiles")],
        names.filter((who) => ratio(mine[number], who)).map((who) => {
          const found = ratio(mine[number], who);
          const note = who === mine[number].fastest_c ? " (the fastest C port)" : who === mine[number].best_copy_limit ? " (the copy limit)" : "";
          return [who + note, (mine[number].median_ns[who] / 1e3).toFixed(1), found.median.toFixed(2), `${found.low.toFixed(2)} to ${found.high.toFixed(2)}`];
        })))));
}

function measures(machine) {
  if (!machine.measures?.length) return null;
  return table(`Against the targets, ${machine.machine.processor}`, ["what", figure("measured"), "target", ""],
    machine.measures.map((one) => [one.what, `${one.value.toFixed(2)} ${one.unit}`, one.target,
      one.met === null ? "" : verdict(one.met, one.met ? "met" : "missed")]));
}

const PARTS = ["part", figure("from page"), figure("up to page"), figure("dirty pages")];
const SPLITS = ["static shares", "batches off a cursor", "equal dirty pages"];

function scaling(name, rows) {
  return element("section", {},
    element("h3", {}, name),
    lines(SPLITS.map((label, at) => ({ label, series: at, points: rows.map((row) => [row[0], row[at + 1]]) }))),
    element("details", {}, element("summary", {}, "The figures"),
      table(`${name}: best possible speed-up`, [figure("threads"), ...SPLITS.map(figure)],
        rows.map((row) => row.map((value, at) => (at ? value.toFixed(2) : String(value)))))));
}

const EPOCH_WIDTH = 30;
const CELL_HEIGHT = 2;

/** Address upwards, epochs to the right; darker is more. Canvas: a trace has thousands of cells. */
function heat(map, chosen) {
  const [scale, height] = [EPOCH_WIDTH, map.cells * CELL_HEIGHT];
  const canvas = element("canvas", { class: "heat", "aria-hidden": "true", width: map.epochs.length * scale, height });
  const ink = canvas.getContext("2d");
  map.epochs.forEach((epoch, at) => epoch.dirty.forEach((count, cell) => {
    if (count === 0) return;
    ink.fillStyle = `rgb(30 110 190 / ${Math.max(0.15, Math.sqrt(count / map.cell_pages)).toFixed(3)})`;
    ink.fillRect(at * scale, height - CELL_HEIGHT * (cell + 1), scale, CELL_HEIGHT);
  }));
  const line = (page) => height * (1 - page / (map.cells * map.cell_pages));
  map.epochs[chosen].batches.forEach(([first, last], number) => {
    ink.fillStyle = number % 2 ? "rgb(230 140 20)" : "rgb(150 40 140)";
    ink.fillRect(chosen * scale, line(last), scale / 2, Math.max(line(first) - line(last), 1));
  });
  ink.fillStyle = "rgb(200 40 40)";
  for (const share of map.shares.slice(1)) ink.fillRect(0, Math.round(line(share[0])), canvas.width, 2);
  return canvas;
}

function dirtyMap(map) {
  const body = element("div");
  const slider = element("input", { type: "range", min: 0, max: map.epochs.length - 1, value: 0, id: `epoch-${map.trace}`, oninput: () => show() });
  function show() {
    const chosen = Number(slider.value);
    const epoch = map.epochs[chosen];
    const total = epoch.by_share.reduce((sum, pages) => sum + pages, 0);
    const busiest = Math.max(...epoch.by_share);
    const largest = Math.max(0, ...epoch.batches.map((batch) => batch[2]));
    body.replaceChildren(
      heat(map, chosen),
      element("p", { role: "status" }, `Epoch ${chosen}: ${total.toLocaleString("en")} dirty pages. `,
        `Static shares for ${map.shares.length} threads: the busiest has ${busiest.toLocaleString("en")}. `,
        `Batches off the cursor: ${epoch.batches.length}, the largest of ${largest.toLocaleString("en")} pages.`),
      table(`${map.trace}, epoch ${chosen}: static shares`, PARTS, map.shares.map(([first, last], thread) =>
        [`thread ${thread}`, String(first), String(last), String(epoch.by_share[thread])])),
      element("details", {}, element("summary", {}, "The batches"),
        table(`${map.trace}, epoch ${chosen}: batches off the cursor`, PARTS, epoch.batches.map(([first, last, pages], number) =>
          [`batch ${number}`, String(first), String(last), String(pages)]))));
  }
  show();
  return element("section", {},
    element("h3", {}, map.trace),
    element("p", { class: "quiet" }, "Address upwards, epochs to the right, darker where more pages are dirty. Lines across: where static shares end. Bars in the chosen epoch: batches, in turn of two colours."),
    element("div", { class: "controls" }, element("label", { for: slider.id }, "Epoch"), slider),
    body);
}

/** The view of all benchmark documents: one sign and colour a processor. */
export function bench(machines) {
  const names = [...new Set(machines.flatMap((machine) => (machine.patterns ?? []).map((one) => one.pattern)))];
  const traces = machines.flatMap((machine) => Object.entries(machine.scaling ?? {}));
  const maps = machines.flatMap((machine) => machine.maps ?? []);
  const once = (list, of) => list.filter((one, at) => list.findIndex((other) => of(other) === of(one)) === at);
  const measured = machines.filter((machine) => machine.patterns?.length);
  return element("div", {},
    element("h1", {}, "Benchmark"),
    measured.length ? element("ul", {}, measured.map((machine) => element("li", {},
      element("span", { class: series(measured.indexOf(machine)).style, "aria-hidden": "true" }, series(measured.indexOf(machine)).sign), ` ${machine.machine.processor}, ${machine.machine.cpus} CPUs`,
      machine.left_out ? `. Left out: ${machine.left_out.what.join(", ")}. ${machine.left_out.why}` : ""))) : null,
    names.map((name) => pattern(name, measured)),
    measured.map(measures),
    traces.length ? [element("h2", {}, "Scaling: the best possible speed-up by threads"),
      element("p", {}, "Computed, not timed: all pages over the pages of the busiest worker."),
      once(traces, ([name]) => name).map(([name, rows]) => scaling(name, rows))] : null,
    maps.length ? [element("h2", {}, "Where the dirty pages lie"), once(maps, (map) => map.trace).map(dirtyMap)] : null);
}
