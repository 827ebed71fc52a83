// What the list may be narrowed to: the choices with their counts, the rows that fit, and both in the page's address.

const FIELDS = ["q", "run", "decision", "reason", "correct", "finish", "set", "model", "problem", "min", "max", "sort"];
const CORRECT = { yes: true, no: false, unknown: null };
const ORDERS = { logs: "as in the logs", short: "shortest first", long: "longest first", problem: "by problem" };

const at = (id) => document.getElementById(`tb-${id}`);

const address = (values) =>
  new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "")).toString().replaceAll("%3A", ":");

class Filters {
  constructor(store) {
    this.store = store;
    this.fill();
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
    for (const [check, found] of grouped(counts)) {
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

  // rows that pass all filters but the search, in the chosen order
  rows() {
    const { columns, names, tokens, count } = this.store;
    const code = (kind) => (at(kind).value === "" ? -1 : names[kind].indexOf(at(kind).value));
    const [run, decision, finish, set, model] = ["run", "decision", "finish", "set", "model"].map(code);
    const reason = at("reason").value;
    const reasons = new Set();
    names.reasons.forEach((name, place) => {
      if (reason.endsWith(":") ? name.startsWith(reason) : name === reason) reasons.add(place);
    });
    const correct = at("correct").value;
    const bound = (name, otherwise) => (at(name).value === "" ? otherwise : Number(at(name).value));
    const [min, max] = [bound("min", 0), bound("max", Infinity)];
    const start = at("problem").value.trim().toLowerCase();
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
    const by = { short: (a, b) => tokens[a] - tokens[b], long: (a, b) => tokens[b] - tokens[a] }[at("sort").value];
    if (by) rows.sort(by);
    if (at("sort").value === "problem") rows.sort((a, b) => columns.problem[a] - columns.problem[b] || a - b);
    return rows;
  }

  // what is chosen, for the address
  chosen() {
    const values = Object.fromEntries(FIELDS.map((name) => [name, at(name).value]));
    if (values.sort === "logs") delete values.sort;
    return values;
  }

  // choose what an address says; returns what there is not
  choose(given) {
    if (given.has("check")) {
      const reasons = this.store.names.reasons.filter((name) => name.startsWith(`${given.get("check")}:`));
      given.set("reason", reasons.length === 1 ? reasons[0] : `${given.get("check")}:`);
    }
    const wrong = [];
    for (const name of FIELDS) {
      const value = given.get(name) ?? "";
      const field = at(name);
      if (field.localName === "select") field.selectedIndex = 0;
      if (field.localName !== "select" || value) field.value = value;
      if (field.selectedIndex < 0) {
        field.selectedIndex = 0;
        wrong.push(`${name} “${value.slice(0, 80)}”`);
      }
    }
    return wrong;
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
