"use strict";

/* Entries and their cards. */
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const scripts = document.querySelectorAll("script.thumbnails");
const isComparison = data.runs.length > 0;
const grid = byId("grid");
const detail = byId("detail");

/* Text of an entry: parts of a comparison are strings, or lists of one string that differs. */
const plain = (run) => (run?.t ?? []).map((part) => (Array.isArray(part) ? part[0] : part)).join("");
data.entries.forEach((entry, index) => {
  entry.index = index;
  entry.text = isComparison ? [plain(entry.a), plain(entry.b)].filter(Boolean).join("\n") : entry.t ?? "";
  entry.haystack = `${entry.text}\n${entry.n}\n${entry.e ?? entry.a?.e ?? entry.b?.e ?? ""}`.toLowerCase();
});

/* Thumbnails: a chunk is parsed once it is needed; the last few stay. */
const parsed = new Map();
function thumbnail(index) {
  if (!scripts.length) return data.entries[index].u ?? "!the output names no image";
  const chunk = Math.floor(index / data.chunk);
  const values = parsed.get(chunk) ?? JSON.parse(scripts[chunk].textContent);
  parsed.delete(chunk);
  parsed.set(chunk, values);
  if (parsed.size > 30) parsed.delete(parsed.keys().next().value);
  return values[index % data.chunk];
}

/* Cards show names without the folders that all names begin with. */
const folders = data.entries[0].n.split("/").slice(0, -1);
while (folders.length && !data.entries.every((entry) => entry.n.startsWith(`${folders.join("/")}/`))) folders.pop();
const prefix = folders.length ? folders.join("/").length + 1 : 0;

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function picture(entry) {
  const source = thumbnail(entry.index);
  if (source.startsWith("!")) return source.slice(1);
  const image = element("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.onerror = () => image.replaceWith("not a readable image");
  image.src = source;
  return image;
}

/* Marks the words of the search in a text. */
function marked(text) {
  const words = terms().map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!words.length) return [text];
  return text.split(new RegExp(`(${words.join("|")})`, "gi"))
    .map((part, index) => (index % 2 ? element("mark", "", part) : part));
}

function textOf(entry, run, tag) {
  const error = run ? run.e : entry.e;
  if (error) return element("p", "text error", ...marked(error));
  const parts = run ? run.t ?? [] : entry.t ? [entry.t] : [];
  if (!parts.length) return element("p", "text none", "no text");
  return element("p", "text", ...parts.flatMap((part) =>
    (Array.isArray(part) ? [element(tag, "", ...marked(part[0]))] : marked(part))));
}

function texts(entry) {
  if (!isComparison) return textOf(entry);
  const column = (run, label, tag) => element("div", "",
    element("p", "run", label),
    run ? textOf(entry, run, tag) : element("p", "text none", "not in this output"));
  return element("div", "pair",
    column(entry.a, data.runs[0], "del"), column(entry.b, data.runs[1], "ins"));
}

function card(entry, position) {
  const article = element("article", "", element("div", "mat", picture(entry)),
    element("div", "card-text", texts(entry), element("p", "name", ...marked(entry.n.slice(prefix)))));
  article.dataset.position = position;
  article.tabIndex = position === current ? 0 : -1;
  article.setAttribute("aria-label", entry.n);
  return article;
}
