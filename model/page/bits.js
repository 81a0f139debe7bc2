// Bitmaps drawn bit by bit, 64 to a word, as tables; and ranges of pages.

import { element, table } from "./elements.js";

const WORD = 64;
// More words than this are told as ranges and lists, not drawn.
const MOST_WORDS = 6;

const MEANING = {
  clean: ["\u00b7", "as it was, and not dirty"],
  marked: ["M", "dirty: to be copied"],
  copied: ["C", "copied"],
  lost: ["!", "differs from the checkpoint, and nothing marks it"],
};

/** The bit of a page in a bitmap of words, as BigInt. */
function isSet(words, page) {
  const word = words[Math.floor(page / WORD)];
  return word !== undefined && ((word >> BigInt(page % WORD)) & 1n) === 1n;
}

function state(bitmaps, page) {
  const at = (name) => bitmaps[name] !== undefined && isSet(bitmaps[name], page);
  const marked = at("cache-dirty") || at("host-dirty");
  if (at("differs") && !at("copied") && !marked) return "lost";
  return marked ? "marked" : at("copied") ? "copied" : "clean";
}

function cell(style, text, bit) {
  return element("td", { class: [...style, bit % 8 === 0 && bit > 0 ? "byte" : ""].join(" ").trim() || null }, text);
}

function heading(bits, first) {
  return element("tr", {}, element("td"), bits.map((bit) =>
    element("th", { scope: "col", class: bit % 8 === 0 && bit > 0 ? "byte" : null },
      bit % 8 === 0 || first + bit < 8 ? String(bit) : "")));
}

/** One word of a picture: a row for each bitmap, one for what becomes of each page, one a range. */
function word(picture, before, number) {
  const bits = [...Array(WORD).keys()];
  const first = number * WORD;
  const exists = (bit) => first + bit < picture.pages;
  const names = Object.keys(picture.bitmaps);
  const rows = names.map((name) => element("tr", {},
    element("th", { scope: "row" }, name),
    bits.map((bit) => {
      const now = isSet(picture.bitmaps[name], first + bit);
      const changed = before?.bitmaps[name] !== undefined && isSet(before.bitmaps[name], first + bit) !== now;
      const style = [now ? "set" : exists(bit) ? "" : "none", changed ? "changed" : ""];
      return cell(style, now ? "1" : exists(bit) ? "0" : "", bit);
    })));
  if (names.includes("cache-dirty") || names.includes("host-dirty")) {
    rows.push(element("tr", {}, element("th", { scope: "row" }, "the page"),
      bits.map((bit) => {
        const found = state(picture.bitmaps, first + bit);
        return exists(bit) || found !== "clean" ? cell([found], MEANING[found][0], bit) : cell(["none"], "", bit);
      })));
  }
  for (const [name, [start, end]] of Object.entries(picture.ranges)) {
    if (start >= first + WORD || end <= first || start >= end) continue;
    rows.push(element("tr", {}, element("th", { scope: "row" }, name), bits.map((bit) => {
      const mine = start <= first + bit && first + bit < end;
      return cell([mine ? "mine" : exists(bit) ? "" : "none"], mine ? "\u2588" : "", bit);
    })));
  }
  return element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `word ${number}` },
    element("table", { class: "bits" },
      element("caption", {}, `Word ${number}: pages ${first} to ${first + WORD - 1}`),
      element("thead", {}, heading(bits, first)), element("tbody", {}, rows)));
}

function key(bitmaps) {
  if (!("cache-dirty" in bitmaps || "host-dirty" in bitmaps)) return null;
  return element("p", { class: "key quiet" }, Object.entries(MEANING).map(([name, [sign, meaning]]) =>
    [element("span", { class: name }, sign), ` ${meaning}. `]));
}

/** Ranges of pages to scale, as a table. */
function ranges(picture) {
  const entries = Object.entries(picture.ranges);
  const most = Math.max(picture.pages, ...entries.map(([, [, end]]) => end), 1);
  return table("Ranges of pages", ["", "from", "up to", "to scale"], entries.map(([name, [start, end]]) => {
    const bar = element("span", { class: "span" });
    bar.style.marginLeft = `${(100 * start) / most}%`;
    bar.style.width = `${(100 * Math.max(end - start, 0)) / most}%`;
    const cell = element("div", { class: "span-cell" }, start < end ? bar : "empty");
    return [name, start.toLocaleString("en"), end.toLocaleString("en"), cell];
  }));
}

/** A picture's bitmaps and ranges; `before` is the picture of the step before. */
export function bitmaps(picture, before) {
  const most = Math.max(picture.pages, ...Object.values(picture.bitmaps).map((words) => words.length * WORD));
  if (most === 0) return [];
  const words = Math.ceil(most / WORD);
  const scaled = Object.keys(picture.ranges).length ? [ranges(picture)] : [];
  if (words > MOST_WORDS) return scaled;
  const drawn = [...Array(words).keys()].map((number) => word(picture, before, number));
  return [...drawn, key(picture.bitmaps), ...(Object.keys(picture.bitmaps).length ? [] : scaled)];
}

/** Words of a call to a port, each row 64 letters: whose page, what is dirty, wanted, got, wrong. */
export function letters(words) {
  const style = { C: "marked", H: "marked", B: "marked", c: "copied", x: "lost", "^": "wrong", "-": "none" };
  return words.map(({ word, rows }) => element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `word ${word}` },
    element("table", { class: "bits" },
      element("caption", {}, `Word ${word}`),
      element("thead", {}, heading([...Array(WORD).keys()], 0)),
      element("tbody", {}, Object.entries(rows).map(([name, row]) => element("tr", {},
        element("th", { scope: "row" }, name),
        [...row].map((letter, bit) => cell([name === "blocks" ? "" : style[letter] ?? ""], letter, bit))))))));
}
