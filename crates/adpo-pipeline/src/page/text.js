"use strict";

// Nothing here or below reads text as mark-up: elements are made one by one, and text is set as text.

/** An element with its attributes and children (elements or text). Event handlers are functions under their names: `onclick`. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made[name] = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** What cannot be seen or turns the direction of the text after it; line feeds and tabs are left as they are. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;

/** Text from outside, each character that cannot be seen replaced by its number. */
function visible(text) {
  const number = (char) => `\u27e8U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  return String(text).replace(new RegExp(UNSEEN, "gu"), number);
}

/** Text from outside as an element that keeps its direction to itself. */
function outside(text, attributes = {}) {
  const parts = String(text).split(new RegExp(`(${UNSEEN.source})`, "u"));
  const children = parts.map((part, at) => (at % 2 ? element("span", { class: "unseen" }, visible(part)) : part));
  return element("bdi", attributes, ...children);
}

/** A sentence of report.md: `**bold**`, and marks of Markdown behind a backslash. */
function sentence(markdown) {
  const plain = (part) => visible(part.replace(/\\([|<\\(])/g, "$1").replace(/(\d) %/g, "$1\u00a0%"));
  const parts = markdown.split("**");
  return parts.map((part, at) => (at % 2 ? element("strong", {}, plain(part)) : plain(part)));
}

const minus = (text) => text.replace("-", "\u2212");

/** A share in per cent. */
const percent = (share) => minus((100 * share).toFixed(1));

/** An estimate with its interval, where it has one. */
const interval = (write) => ({ estimate, low, high }) => (low == null ? write(estimate) : `${write(estimate)} [${write(low)}, ${write(high)}]`);

/** A share as report.md writes it: `16.7 [14.4, 19.4]`. */
const share = interval(percent);

/** A score: `0.55 [0.54, 0.57]`. */
const score = interval((value) => minus(value.toFixed(2)));

/** A number of any size in few digits. */
function short(x) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size < 0.001 || size >= 1e5) return minus(x.toExponential(1));
  return minus(String(Number(x.toPrecision(3))));
}

const signed = (text) => (text.startsWith("\u2212") || text === "0.0" ? text : `+${text}`);

/** `a`, `a and b`, `a, b and c`. */
function listed(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}

/** A table with its caption: heads are texts, cells texts or elements, and the first cell of a row is its head. */
function table(caption, heads, rows) {
  const head = (text, scope) => element("th", { scope }, text);
  const body = rows.map(([first, ...cells]) => element("tr", {}, head(first, "row"), ...cells.map((cell) => element("td", {}, cell))));
  return element(
    "div",
    { class: "wide" },
    element(
      "table",
      {},
      element("caption", {}, ...[caption].flat()),
      element("thead", {}, element("tr", {}, ...heads.map((text) => head(text, "col")))),
      element("tbody", {}, ...body),
    ),
  );
}
