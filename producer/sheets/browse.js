/* Search, filter, order. */
const counts = new Map();
data.entries.forEach((entry) => counts.set(entry.text, (counts.get(entry.text) ?? 0) + 1));
const words = (entry) => entry.text.split(/\s+/).filter(Boolean).length;
const filters = isComparison ? {
  "all": () => true,
  "different": (entry) => entry.k === "different",
  "equal": (entry) => entry.k === "same",
  "errors": (entry) => entry.k === "error",
  [`only in ${data.runs[0]}`]: (entry) => entry.k === "first",
  [`only in ${data.runs[1]}`]: (entry) => entry.k === "second",
} : {
  "all": () => true,
  "with text": (entry) => entry.text && !entry.e,
  "errors": (entry) => entry.e,
  "without text": (entry) => !entry.text && !entry.e,
  "text repeated": (entry) => entry.text && counts.get(entry.text) > 1,
};
const byName = (a, b) => a.n.localeCompare(b.n, undefined, { numeric: true });
const orders = {
  "as in the output": (a, b) => a.index - b.index,
  "name": byName,
  ...(isComparison ? {
    "most different": (a, b) => (a.s ?? 0) - (b.s ?? 0) || a.index - b.index,
    "most similar": (a, b) => (b.s ?? 0) - (a.s ?? 0) || a.index - b.index,
  } : {
    "shortest text": (a, b) => words(a) - words(b) || a.index - b.index,
    "longest text": (a, b) => words(b) - words(a) || a.index - b.index,
  }),
};
const terms = () => byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);

let shown = [];
let current = 0;

function update() {
  const searched = terms();
  const fits = filters[byId("filter").value];
  shown = data.entries
    .filter((entry) => fits(entry) && searched.every((term) => entry.haystack.includes(term)))
    .sort(orders[byId("order").value]);
  current = 0;
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${data.entries.length.toLocaleString("en")}`;
  byId("nothing").hidden = shown.length > 0;
  layOut();
}

/* Sections of entries are filled near the window and emptied far from it. */
const observer = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) isIntersecting ? fill(target) : empty(target);
}, { rootMargin: "1500px 0px" });

function layOut() {
  observer.disconnect();
  grid.replaceChildren();
  const size = Number(byId("size").value);
  document.documentElement.style.setProperty("--size", `${size}px`);
  const columns = Math.max(1, Math.floor((grid.clientWidth + 12) / ((isComparison ? 1.6 * size : size) + 12)));
  for (let start = 0; start < shown.length; start += data.chunk) {
    const section = element("section");
    section.dataset.start = start;
    const count = Math.min(data.chunk, shown.length - start);
    section.style.minHeight = `${Math.ceil(count / columns) * (size * .75 + 110)}px`;
    grid.append(section);
    observer.observe(section);
  }
}

function fill(section) {
  if (section.firstChild) return;
  const start = Number(section.dataset.start);
  section.style.minHeight = "";
  section.append(...shown.slice(start, start + data.chunk).map((entry, index) => card(entry, start + index)));
}

function empty(section) {
  if (!section.firstChild || section.contains(document.activeElement)) return;
  section.style.minHeight = `${section.offsetHeight}px`;
  section.replaceChildren();
}

/* Keyboard. */
function go(position) {
  if (!shown.length) return;
  grid.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
  current = Math.max(0, Math.min(shown.length - 1, position));
  const section = grid.children[Math.floor(current / data.chunk)];
  fill(section);
  const target = section.children[current % data.chunk];
  target.tabIndex = 0;
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "center" });
}

function columnCount() {
  const section = [...grid.children].find((candidate) => candidate.firstChild);
  return section ? getComputedStyle(section).gridTemplateColumns.split(" ").length : 1;
}

const steps = {
  ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: columnCount, ArrowUp: () => -columnCount(),
  Home: () => -shown.length, End: () => shown.length,
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape" && event.target === byId("search")) {
    byId("search").value = "";
    update();
  } else if (typing && !(event.key === "Enter" || (event.key === "ArrowDown" && event.target === byId("search")))) {
    return;
  } else if (typing) {
    go(0);
  } else if (event.key === "/" && !detail.open) {
    byId("search").select();
    byId("search").focus();
  } else if (event.key === "?") {
    byId("help").showModal();
  } else if (event.key === "c") {
    copy();
  } else if (event.key in steps) {
    move(steps[event.key]());
  } else if (event.key === "Enter" && event.target.matches("article")) {
    show();
  } else {
    return;
  }
  event.preventDefault();
});

function move(step) {
  if (!detail.open) {
    return go(document.activeElement.matches("article") ? current + step : current);
  }
  current = Math.max(0, Math.min(shown.length - 1, current + step));
  show();
}

/* The image with its text. */
function show() {
  const entry = shown[current];
  const fields = Object.entries({ name: entry.n, ...entry.f }).map(([name, value]) =>
    element("div", "", element("dt", "", name), element("dd", "", value)));
  if (entry.u) {
    const link = element("a", "", "open the image");
    link.href = entry.u;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    fields.push(element("div", "", element("dt", "", "file"), element("dd", "", link)));
  }
  detail.querySelector(".figure").replaceChildren(picture(entry));
  detail.querySelector(".facts-of-image").replaceChildren(texts(entry), element("dl", "", ...fields));
  byId("copy").textContent = "Copy text";
  if (!detail.open) detail.showModal();
}

/* A page opened from a file has no clipboard in some browsers: select and copy. */
async function copy() {
  const text = shown[current]?.text ?? "";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea");
    area.value = text;
    (detail.open ? detail : document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("copy").textContent = "Copied";
}

function facts() {
  const total = data.entries.length;
  const number = (value) => value.toLocaleString("en");
  const of = (kind) => data.entries.filter((entry) => entry.k === kind).length;
  const pairs = data.entries.filter((entry) => entry.k === "same" || entry.k === "different");
  const withText = data.entries.filter((entry) => entry.text && !entry.e);
  const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);
  const rows = isComparison ? [
    ["images", number(total)], ["equal", number(of("same"))], ["different", number(of("different"))],
    ["errors", number(of("error"))], ["in one output only", number(of("first") + of("second"))],
    ["mean similarity of words", `${(100 * mean(pairs.map((entry) => entry.s ?? 0))).toFixed(1)} %`],
  ] : [
    ["images", number(total)], ["errors", number(data.entries.filter((entry) => entry.e).length)],
    ["distinct texts", number(new Set(withText.map((entry) => entry.text)).size)],
    ["words on average", mean(withText.map(words)).toFixed(1)],
  ];
  byId("facts").append(...rows.map(([name, value]) =>
    element("div", "", element("dt", "", name), element("dd", "", value))));
}

grid.addEventListener("click", (event) => {
  const article = event.target.closest("article");
  if (article) {
    go(Number(article.dataset.position));
    show();
  }
});
detail.addEventListener("close", () => go(current));
byId("previous").onclick = () => move(-1);
byId("next").onclick = () => move(1);
byId("copy").onclick = copy;
byId("close").onclick = () => detail.close();
byId("help-button").onclick = () => byId("help").showModal();
byId("tools").onsubmit = (event) => event.preventDefault();
for (const [id, options] of [["filter", filters], ["order", orders]]) {
  byId(id).append(...Object.keys(options).map((name) => new Option(name)));
  byId(id).onchange = update;
}
byId("search").oninput = update;
byId("size").oninput = layOut;
/* A phone changes the height of its window while it scrolls. */
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  layOut();
});
document.body.classList.toggle("compared", isComparison);
facts();
update();
