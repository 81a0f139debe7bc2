// Elements made from data. Text only ever becomes a text node: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** An HTML element; attributes that are false, null or undefined are left out, "onclick" is a listener. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/**
 * A table: columns are texts, or {text, figure: true} for numbers; rows are lists of texts or elements.
 * Below a heading that says the same the caption is there for screen readers only: `unseen`.
 */
export function table(caption, columns, rows, { unseen = false } = {}) {
  const heads = columns.map((column) => (typeof column === "string" ? { text: column } : column));
  const style = (place) => (heads[place].figure ? "figure" : null);
  return element("div", { class: unseen ? "scroll unseen" : "scroll", tabindex: 0, role: "group", "aria-label": caption },
    element("table", {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {},
        heads.map((head, place) => element("th", { scope: "col", class: style(place) }, head.text)))),
      element("tbody", {}, rows.map((row) => element("tr", row.attributes ?? {},
        (row.cells ?? row).map((cell, place) => place === 0
          ? element("th", { scope: "row", class: style(place) }, cell)
          : element("td", { class: style(place) }, cell)))))));
}

/** Where a part of the page is. A name from outside may hold half a character, which no address can. */
export function place(...parts) {
  return "#/" + parts.map((part) => encodeURIComponent(part.toWellFormed())).join("/");
}

/** A link to a part of the page. */
export function link(text, ...parts) {
  return element("a", { href: place(...parts) }, text);
}

/** A verdict in words, with a sign and a colour that only repeat them. */
export function verdict(good, text) {
  return element("span", { class: good ? "good" : "bad" }, (good ? "\u2713 " : "\u2717 ") + text);
}

/** A sentence in which what stands in backquotes is code. */
export function prose(text) {
  return text.split(/`+/).map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

/** Source text with the numbers of its lines. */
export function source(code) {
  const lines = code.source.replace(/\n$/, "").split("\n");
  const width = String(code.line + lines.length).length;
  return element("figure", {},
    element("figcaption", { class: "quiet" }, `${code.file}, line ${code.line}`),
    element("pre", { tabindex: 0 }, lines.map((line, at) => [
      element("span", { class: "number", "aria-hidden": "true" }, String(code.line + at).padStart(width) + "  "),
      line + "\n",
    ])));
}

/** Seconds for people. */
export function seconds(value) {
  return `${value.toFixed(2)} s`;
}
