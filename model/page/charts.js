// Plain charts in SVG. Each stands beside a table with the same numbers, and is not told to screen readers twice.

import { drawing } from "./elements.js";

const LABELS = 230;
// What is further from the reference stands at the edge; its figure says where it belongs.
const FURTHEST = 16;
const ROW = 22;
const WIDTH = 820;
const SIGNS = ["\u25cf", "\u25a0", "\u25b2", "\u25c6"];

/** A sign and a colour for each of a few series: one processor, say, or one strategy. */
export function series(number) {
  return { sign: SIGNS[number % SIGNS.length], style: `series-${(number % 4) + 1}` };
}

/** The ticks of a logarithmic axis: 1, 2, 5 and their multiples by powers of ten. */
function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of [1, 2, 5]) {
      const at = step * 10 ** power;
      if (low <= at && at <= high) found.push(at);
    }
  }
  return found;
}

function logarithmic(low, high, from, to) {
  const [bottom, top] = [Math.log(low), Math.log(high)];
  return (value) => from + ((to - from) * (Math.log(value) - bottom)) / (top - bottom || 1);
}

/** Ratios with their quartiles: rows of {label, marks: [{median, low, high, series}]}; 1 is the reference. */
export function ratios(rows) {
  const values = rows.flatMap((row) => row.marks.flatMap((mark) => [mark.low, mark.high]));
  const low = Math.max(1 / FURTHEST, Math.min(0.8, ...values) * 0.95);
  const high = Math.min(FURTHEST, Math.max(1.25, ...values) * 1.05);
  const scale = logarithmic(low, high, LABELS, WIDTH - 130);
  const x = (value) => scale(Math.min(Math.max(value, low), high));
  const height = rows.length * ROW + 30;
  return drawing("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "chart", "aria-hidden": "true" },
    ticks(low, high).map((at) => [
      drawing("line", { class: "axis", x1: x(at), x2: x(at), y1: 0, y2: height - 22 }),
      drawing("text", { class: "label", x: x(at), y: height - 6, "text-anchor": "middle" }, String(at)),
    ]),
    drawing("line", { class: "one", x1: x(1), x2: x(1), y1: 0, y2: height - 22 }),
    rows.map((row, at) => {
      const y = at * ROW + ROW / 2;
      return [
        drawing("text", { class: "label", x: LABELS - 8, y: y + 4, "text-anchor": "end" }, row.label),
        drawing("text", { class: "label", x: WIDTH - 112, y: y + 4 }, row.marks.map((mark) => mark.median.toPrecision(3)).join(", ")),
        row.marks.map((mark, place) => {
          const { sign, style } = series(mark.series);
          const middle = y + (place - (row.marks.length - 1) / 2) * (ROW / (row.marks.length + 1));
          return drawing("g", { class: style },
            drawing("line", { class: "mark", x1: x(mark.low), x2: x(mark.high), y1: middle, y2: middle }),
            drawing("text", { class: style, x: x(mark.median), y: middle + 4, "text-anchor": "middle" }, sign));
        }),
      ];
    }));
}

/** Heights for labels at these heights, none nearer than 14 to another. */
function apart(heights) {
  const found = [];
  let last = -Infinity;
  for (const at of [...heights.keys()].sort((a, b) => heights[a] - heights[b])) {
    last = found[at] = Math.max(heights[at], last + 14);
  }
  return found;
}

/** Lines over threads, both axes logarithmic: {label, points: [[threads, value]], series}. */
export function lines(found) {
  const [width, height] = [520, 300];
  const points = found.flatMap((one) => one.points);
  const x = logarithmic(1, Math.max(...points.map((point) => point[0])), 40, width - 150);
  const y = logarithmic(1, Math.max(2, ...points.map((point) => point[1])), height - 30, 12);
  const labels = apart(found.map((one) => y(one.points[one.points.length - 1][1])));
  return drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart small", "aria-hidden": "true" },
    [...new Set(points.map((point) => point[0]))].map((at) => [
      drawing("line", { class: "axis", x1: x(at), x2: x(at), y1: 12, y2: height - 30 }),
      drawing("text", { class: "label", x: x(at), y: height - 12, "text-anchor": "middle" }, String(at)),
    ]),
    ticks(1, Math.max(2, ...points.map((point) => point[1]))).map((at) =>
      drawing("text", { class: "label", x: 34, y: y(at) + 4, "text-anchor": "end" }, String(at))),
    found.map((one, at) => {
      const { sign, style } = series(one.series);
      const lastX = one.points[one.points.length - 1][0];
      return drawing("g", { class: style },
        drawing("polyline", { class: "mark", points: one.points.map(([a, b]) => `${x(a)},${y(b)}`).join(" ") }),
        one.points.map(([a, b]) => drawing("text", { class: style, x: x(a), y: y(b) + 4, "text-anchor": "middle" }, sign)),
        drawing("text", { class: "label", x: x(lastX) + 10, y: labels[at] + 4 }, `${sign} ${one.label}`));
    }));
}
