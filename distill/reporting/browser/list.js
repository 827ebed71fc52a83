// The list: search, pages and the open trace; the address holds them all, so that it can be passed on.

const PAGE = 50; // traces in the list at a time
const SOON = 150; // milliseconds until the address is written
const WAIT = 200; // milliseconds after a key before the search begins
const SIGNS = { kept: "✓", rejected: "✗", undecidable: "?", unjudged: "–" };

class List {
  constructor(store) {
    this.store = store;
    this.rows = []; // that pass the filters, the search left aside
    this.shown = []; // of them, those that the search has found
    this.page = 0;
    this.trace = null; // the row that is open
    this.turn = 0; // counts the searches: an older one ends when a newer one began
    this.search = null;
    this.filters = new Filters(store);
    this.listen();
    at("form").hidden = at("panes").hidden = false;
    this.follow(false);
    addEventListener("hashchange", () => this.follow(true));
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

  // after a change of the filters
  refresh() {
    const turn = ++this.turn;
    const text = at("q").value;
    this.rows = this.filters.rows();
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
    if (rows.join() !== this.listed) {
      // else a search goes on behind this page: whoever reads in it is left alone
      const items = rows.map((row, place) => make("li", {}, this.item(row, place === 0)));
      at("list").replaceChildren(...items);
      at("list").start = this.page * PAGE + 1;
      at("list").scrollTop = 0;
      this.listed = rows.join();
    }
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

  // write filters and trace into the address, a little later: browsers stop pages that do it many times a second
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.write(), SOON);
  }

  write() {
    const values = this.filters.chosen();
    if (this.trace !== null) values.trace = this.store.columns.id[this.trace];
    const hash = address(values);
    const other = location.hash && !location.hash.includes("="); // an anchor of the page around
    if (hash || (location.hash && !other)) history.replaceState(null, "", hash ? `#${hash}` : "#traces");
  }

  // take filters and trace from the address; a link of the page around counts as if nothing had been chosen before
  follow(moved) {
    clearTimeout(this.remembering);
    const given = new URLSearchParams(location.hash.slice(1));
    if (![...given.keys()].some((name) => [...FIELDS, "check", "trace"].includes(name))) {
      if (!moved) this.refresh();
      return;
    }
    const wrong = this.filters.choose(given);
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

if (at("form")) {
  const opened = typeof DecompressionStream === "function" ? Store.open() : Promise.reject(new Error("this browser is too old"));
  opened
    .then((store) => new List(store))
    .catch((error) => (at("count").textContent = `The traces cannot be shown: ${visible(error.message)}.`));
}
