// Elements, made node by node: text of agents is only ever the text of a node, so that it can't become markup.

import { NOTHING } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `options` are attributes; children are elements or text. */
export function element(tag, options = {}, ...children) {
  return filled(document.createElement(tag), options, children);
}

/** An SVG element. */
export function drawn(tag, options = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), options, children);
}

function filled(made, options, children) {
  for (const [name, value] of Object.entries(options)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter(isThere));
  return made;
}

function isThere(child) {
  return child !== null && child !== undefined;
}

/** The element of the page with that id. */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element with the id ${id}`);
  return found;
}

/** Say it in an element, if that says something else now: a screen reader hears of changes only. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const shown = new WeakMap();

/**
 * Show what `build` makes of `model`, if the model is another one than before. The focus stays on what has the same
 * `data-key`, so that news don't throw a reader out of a table.
 */
export function show(target, model, build) {
  const signature = JSON.stringify(model);
  if (shown.get(target) === signature) return;
  shown.set(target, signature);
  const key = target.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  target.replaceChildren(...[build(model)].flat().filter(isThere));
  if (key !== undefined) target.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** What is shown where there is nothing to show. */
export function empty(text) {
  return element("p", { class: "empty" }, text);
}

/** A state by shape, word and colour; the colour alone says nothing. */
export function badge(tone, word) {
  return element("span", { class: `badge ${tone}` }, shape(tone), word);
}

const SHAPES = {
  good: ["circle", { cx: 6, cy: 6, r: 4.5 }],
  busy: ["path", { d: "M6 1.5 10.5 6 6 10.5 1.5 6Z" }],
  bad: ["path", { d: "M6 1.5 11 10.5H1Z" }],
  quiet: ["circle", { cx: 6, cy: 6, r: 3.75, class: "hollow" }],
};

function shape(tone) {
  const [tag, options] = SHAPES[tone];
  return drawn("svg", { viewBox: "0 0 12 12", "aria-hidden": "true", class: "shape" }, drawn(tag, options));
}

/**
 * A table. `columns` are `{title, class?}`; `rows` are lists of cells, each text or elements. On a phone each row is a
 * card, and each cell has its column's title before it.
 */
export function table(caption, columns, rows) {
  const head = columns.map(({ title, class: kind }) => element("th", { scope: "col", class: kind }, title));
  const body = rows.map((cells) =>
    element(
      "tr",
      {},
      cells.map((cell, index) => {
        const { title, class: kind } = columns[index];
        const options = { class: cell === NOTHING ? `${kind ?? ""} nothing` : kind, "data-title": title };
        return index === 0 ? element("th", { scope: "row", ...options }, cell) : element("td", options, cell);
      }),
    ),
  );
  return element(
    "table",
    {},
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, body),
  );
}
