// The list: filters, search, order and pages; the address holds them all, so that it can be passed on.

const PAGE = 50; // traces in the list at a time
const WAIT = 200; // milliseconds after a key before the search begins
const FIELDS = ["q", "run", "decision", "reason", "correct", "finish", "set", "model", "problem", "min", "max", "sort"];
const CORRECT = { yes: true, no: false, unknown: null };
const ORDERS = { logs: "as in the logs", short: "shortest first", long: "longest first", problem: "by problem" };
const SIGNS = { kept: "✓", rejected: "✗", undecidable: "?", unjudged: "–" };

const at = (id) => document.getElementById(`tb-${id}`);

class List {
  constructor(store) {
    this.store = store;
    this.rows = []; // that pass the filters, the search left aside
    this.shown = []; // of them, those that the search has found
    this.page = 0;
    this.trace = null; // the row that is open
    this.turn = 0; // counts the searches: an older one ends when a newer one began
    this.search = null;
    this.fill();
    this.listen();
    at("form").hidden = at("panes").hidden = false;
    this.follow(false);
    addEventListener("hashchange", () => this.follow(true));
  }

  // the choices, with how many traces each has
  fill() {
    const { store } = this;
    const counts = (kind) => {
      const found = new Map(store.names[kind].map((name) => [name, 0]));
      for (const value of store.columns[kind]) for (const number of [value].flat()) {
        const name = store.names[kind][number];
        found.set(name, found.get(name) + 1);
      }
      return [...found].sort((a, b) => b[1] - a[1]);
    };
    const whole = store.count === store.total;
    const options = (kind, entries, first = "all") => {
      const made = entries.map(([value, count, total]) =>
        make("option", { value }, visible(`${value || "none"} (${number(count)}${total > count ? ` of ${number(total)}` : ""})`)),
      );
      at(kind).replaceChildren(make("option", { value: "" }, first), ...made);
    };
    for (const kind of ["run", "decision", "finish", "set", "model"]) {
      options(kind, counts(kind));
      const alone = at(`of-${kind}`);
      if (alone) alone.hidden = store.names[kind].length < 2;
    }
    this.reasons(counts("reasons"), whole, options);
    const words = new Map(Object.keys(CORRECT).map((word) => [word, 0]));
    for (const value of store.columns.correct) {
      const word = Object.keys(CORRECT).find((name) => CORRECT[name] === value);
      words.set(word, words.get(word) + 1);
    }
    options("correct", [...words].filter(([, count]) => count));
    at("sort").replaceChildren(...Object.entries(ORDERS).map(([value, text]) => make("option", { value }, text)));
  }

  // the choices of reasons, by check; `check:` is any reason of that check
  reasons(counts, whole, options) {
    const totals = new Map(this.store.names.reasons.map((name, place) => [name, this.store.totals[place]]));
    options("reason", []);
    const checks = Map.groupBy ? Map.groupBy(counts, ([name]) => name.split(":")[0]) : grouped(counts);
    for (const [check, found] of checks) {
      const group = make("optgroup", { label: visible(check) });
      if (found.length > 1) group.append(make("option", { value: `${check}:` }, visible(`${check}: any reason`)));
      for (const [name, count] of found) {
        const total = whole ? count : totals.get(name);
        const text = total > count ? `${number(count)} of ${number(total)}` : number(count);
        group.append(make("option", { value: name }, visible(`${name} (${text})`)));
      }
      at("reason").append(group);
    }
  }

  listen() {
    const form = at("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.refresh();
    });
    form.addEventListener("reset", () => setTimeout(() => this.refresh()));
    let waiting = 0;
    form.addEventListener("input", (event) => {
      if (event.target.name === "raw") return void this.open(this.trace, false);
      clearTimeout(waiting);
      this.turn++; // what runs is for an older input
      waiting = setTimeout(() => this.refresh(), event.target.localName === "select" ? 0 : WAIT);
    });
    at("back").addEventListener("click", () => this.show(this.page - 1));
    at("on").addEventListener("click", () => this.show(this.page + 1));
    at("list").addEventListener("keydown", (event) => this.walk(event));
    document.getElementById("traces").addEventListener("keydown", (event) => {
      const typing = /^(input|select|textarea)$/.test(event.target.localName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "j") this.step(1);
      else if (event.key === "k") this.step(-1);
    });
  }

  value(name) {
    return at(name).value.trim();
  }

  // rows that pass all filters but the search, in the chosen order
  filter() {
    const { columns, names, tokens, count } = this.store;
    const code = (kind) => (this.value(kind) === "" ? -1 : names[kind].indexOf(at(kind).value));
    const [run, decision, finish, set, model] = ["run", "decision", "finish", "set", "model"].map((kind) =>
      at(kind).selectedIndex > 0 ? code(kind) : -1,
    );
    const reason = this.value("reason");
    const reasons = new Set();
    names.reasons.forEach((name, place) => {
      if (reason.endsWith(":") ? name.startsWith(reason) : name === reason) reasons.add(place);
    });
    const correct = this.value("correct");
    const bound = (name, otherwise) => (this.value(name) === "" ? otherwise : Number(this.value(name)));
    const [min, max] = [bound("min", 0), bound("max", Infinity)];
    const start = this.value("problem").toLowerCase();
    const problems = start ? names.problem.map((name) => name.startsWith(start)) : null;
    const rows = [];
    for (let row = 0; row < count; row++) {
      if (run >= 0 && columns.run[row] !== run) continue;
      if (decision >= 0 && columns.decision[row] !== decision) continue;
      if (finish >= 0 && columns.finish[row] !== finish) continue;
      if (set >= 0 && columns.set[row] !== set) continue;
      if (model >= 0 && columns.model[row] !== model) continue;
      if (tokens[row] < min || tokens[row] > max) continue;
      if (correct && columns.correct[row] !== CORRECT[correct]) continue;
      if (problems && !problems[columns.problem[row]]) continue;
      if (reason && !columns.reasons[row].some((place) => reasons.has(place))) continue;
      rows.push(row);
    }
    const by = { short: (a, b) => tokens[a] - tokens[b], long: (a, b) => tokens[b] - tokens[a] }[this.value("sort")];
    if (by) rows.sort(by);
    if (this.value("sort") === "problem") rows.sort((a, b) => columns.problem[a] - columns.problem[b] || a - b);
    return rows;
  }

  // after a change of the filters
  refresh() {
    const turn = ++this.turn;
    const text = at("q").value;
    this.rows = this.filter();
    if (!text) this.search = null;
    else if (this.search?.text !== text) this.search = new Search(this.store, text);
    this.sought = text ? literal(text, "giu") : null;
    this.remember();
    this.narrow();
    this.show(0);
    if (!this.search) return this.tell();
    const { search, rows } = this;
    let before = this.shown.length;
    const order = rows.toSorted ? rows.toSorted((a, b) => a - b) : [...rows].sort((a, b) => a - b); // chunk by chunk
    const told = (done) => {
      if (turn !== this.turn) return;
      this.narrow();
      if (this.shown.length !== before) this.show(this.page);
      before = this.shown.length;
      this.tell(done);
    };
    search.run(order, told, () => turn !== this.turn).catch((error) => this.fail(error));
  }

  narrow() {
    const { search } = this;
    this.shown = search ? this.rows.filter((row) => search.found[row] === 1) : this.rows;
  }

  // how many there are; a running search tells several times a second, which nobody wants to hear read out
  tell(done = null) {
    const { store, rows, shown } = this;
    const searching = done !== null && done < rows.length;
    const of = rows.length === store.count ? `${number(store.count)} traces` : `${number(rows.length)} traces that fit`;
    const text = this.search ? `${number(shown.length)} of ${of} hold the text` : shown.length === store.count ? `${of}` : `${number(shown.length)} of ${number(store.count)} traces`;
    at("progress").hidden = !searching;
    at("progress").value = searching ? done / rows.length : 1;
    const now = performance.now();
    if (searching && now - (this.said ?? 0) < 500) return;
    this.said = now;
    at("count").textContent = searching ? `Searching: ${number(shown.length)} found in ${number(done)} of ${of}` : text + ".";
  }

  fail(error) {
    at("progress").hidden = true;
    at("count").textContent = `This cannot be shown: ${visible(error.message)}.`;
  }

  // a page of the list
  show(page) {
    const pages = Math.max(1, Math.ceil(this.shown.length / PAGE));
    this.page = Math.min(Math.max(0, page), pages - 1);
    const rows = this.shown.slice(this.page * PAGE, (this.page + 1) * PAGE);
    const items = rows.map((row, place) => make("li", {}, this.item(row, place === 0)));
    at("list").replaceChildren(...items);
    at("list").start = this.page * PAGE + 1;
    at("list").scrollTop = 0;
    at("page").textContent = `Page ${number(this.page + 1)} of ${number(pages)}`;
    at("back").disabled = this.page === 0;
    at("on").disabled = this.page === pages - 1;
    this.current();
  }

  item(row, first) {
    const { store } = this;
    const { columns } = store;
    const decision = store.name("decision", row);
    const reasons = columns.reasons[row].map((place) => store.names.reasons[place]);
    const correct = { true: "correct", false: "wrong" }[columns.correct[row]];
    const run = store.names.run.length > 1 ? store.name("run", row) : "";
    const facts = [run, correct, store.name("finish", row), `${number(store.tokens[row])} tokens`, `sample ${columns.sample[row]}`];
    const style = { kept: "tb-good", rejected: "tb-bad" }[decision] ?? "tb-hint";
    return make(
      "a", { href: `#${address({ trace: columns.id[row] })}`, "data-row": row, tabindex: first ? "0" : "-1", onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        this.open(row, true);
      } },
      make("span", { class: `tb-word ${style}` }, `${SIGNS[decision] ?? ""} ${decision}`),
      " ", make("span", { class: "tb-why" }, visible(reasons.slice(0, 4).join(", "))),
      make("span", { class: "tb-question", dir: "auto" }, visible(store.questions[columns.problem[row]])),
      make("span", { class: "tb-hint" }, visible(facts.filter(Boolean).join(" · "))),
      columns.final[row] ? make("span", { class: "tb-final", dir: "auto" }, visible(`→ ${columns.final[row]}`)) : null,
    );
  }

  links() {
    return [...at("list").querySelectorAll("a")];
  }

  // mark the open trace in the list
  current() {
    for (const link of this.links()) {
      if (Number(link.dataset.row) === this.trace) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  // keys within the list: one stop for Tab, arrows from there
  walk(event) {
    const links = this.links();
    const place = links.indexOf(document.activeElement);
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: links.length - 1 }[event.key];
    if (place < 0 || to === undefined) return;
    event.preventDefault();
    const link = links[Math.min(Math.max(0, to), links.length - 1)];
    for (const other of links) other.tabIndex = other === link ? 0 : -1;
    link.focus();
  }

  // the next or the previous trace of the list, over its pages
  step(by) {
    const place = this.shown.indexOf(this.trace);
    const next = this.shown[place < 0 ? 0 : place + by];
    if (next === undefined) return;
    const page = Math.floor(this.shown.indexOf(next) / PAGE);
    if (page !== this.page) this.show(page);
    this.open(next, true);
    this.links().find((link) => Number(link.dataset.row) === next)?.scrollIntoView({ block: "nearest" });
  }

  async open(row, focus) {
    if (row === null) return;
    const { store } = this;
    const turned = (this.opening = (this.opening ?? 0) + 1);
    try {
      const found = await store.row(row);
      if (turned !== this.opening) return;
      this.trace = row;
      const link = (other, text) =>
        make("a", { href: `#${address({ trace: store.columns.id[other] })}`, onclick: (event) => {
          event.preventDefault();
          this.open(other, true);
        } }, text);
      const place = this.shown.indexOf(row);
      const step = (by, text) =>
        make("button", { type: "button", disabled: this.shown[place + by] === undefined, onclick: () => this.step(by) }, text);
      const decision = store.name("decision", row);
      const head = make("div", { class: "tb-head" },
        make("h3", { tabindex: "-1", id: "tb-heading" }, `Trace ${visible(store.columns.id[row])}: ${decision}`),
        make("p", {}, step(-1, "Previous"), " ", step(1, "Next"), " ",
          make("span", { class: "tb-hint" }, place < 0 ? "not in the list as it is filtered" : `${number(place + 1)} of ${number(this.shown.length)}`)));
      const raw = at("raw").checked;
      at("trace").replaceChildren(head, ...show(store, row, found, { sought: this.sought, raw, link }));
      at("trace").scrollTop = 0;
      this.remember();
      this.current();
      if (focus) {
        at("heading").focus({ preventScroll: true });
        at("trace").scrollIntoView({ block: "nearest" });
        if (at("trace").getBoundingClientRect().top < 0) at("trace").scrollIntoView();
      }
    } catch (error) {
      this.fail(error);
    }
  }

  // write filters and trace into the address
  remember() {
    const values = Object.fromEntries(FIELDS.map((name) => [name, name === "q" ? at(name).value : this.value(name)]));
    if (values.sort === "logs") delete values.sort;
    if (this.trace !== null) values.trace = this.store.columns.id[this.trace];
    const hash = address(values);
    const other = location.hash && !location.hash.includes("="); // an anchor of the page around
    if (hash || (location.hash && !other)) history.replaceState(null, "", hash ? `#${hash}` : "#traces");
  }

  // take filters and trace from the address; a link of the page around counts as if nothing had been chosen before
  follow(moved) {
    const given = new URLSearchParams(location.hash.slice(1));
    const asked = [...given.keys()].filter((name) => FIELDS.includes(name) || name === "trace");
    if (given.has("check")) {
      const reasons = this.store.names.reasons.filter((name) => name.startsWith(`${given.get("check")}:`));
      given.set("reason", reasons.length === 1 ? reasons[0] : `${given.get("check")}:`);
    }
    if (!asked.length && !given.has("check")) {
      if (!moved) this.refresh();
      return;
    }
    const wrong = [];
    at("form").querySelectorAll("select").forEach((select) => (select.selectedIndex = 0));
    for (const name of FIELDS) {
      const value = given.get(name) ?? "";
      const field = at(name);
      if (field.localName !== "select") field.value = value;
      else if (value) {
        field.value = value;
        if (field.selectedIndex < 0) {
          field.selectedIndex = 0;
          wrong.push(`${name} “${value.slice(0, 80)}”`);
        }
      }
    }
    const row = this.store.numbers.get(given.get("trace"));
    if (given.has("trace") && row === undefined) wrong.push(`trace “${given.get("trace").slice(0, 80)}”`);
    this.trace = row ?? null;
    this.refresh();
    if (row !== undefined) this.open(row, moved);
    else at("trace").replaceChildren(make("p", { class: "tb-hint" }, "Choose a trace to read it here."));
    if (wrong.length) at("count").textContent += ` There is no ${visible(wrong.join(", "))} here.`;
    document.getElementById("traces").scrollIntoView();
  }
}

function grouped(counts) {
  const found = new Map();
  for (const entry of counts) {
    const check = entry[0].split(":")[0];
    found.set(check, [...(found.get(check) ?? []), entry]);
  }
  return found;
}

function address(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "")).toString().replaceAll("%3A", ":");
}

if (at("form")) {
  const opened = typeof DecompressionStream === "function" ? Store.open() : Promise.reject(new Error("this browser is too old"));
  opened
    .then((store) => new List(store))
    .catch((error) => (at("count").textContent = `The traces cannot be shown: ${visible(error.message)}.`));
}
