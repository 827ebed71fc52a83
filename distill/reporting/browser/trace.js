// One trace, to read: problem, answers, verdicts, and the reasoning folded and in pieces.

const PIECE = 20000; // characters that are shown at a time
const BEFORE = 2000; // characters before the first match that are shown with it
const OTHERS = 60;

const WORDS_OF = { true: ["✓", "passed", "tb-good"], false: ["✗", "rejected", "tb-bad"], null: ["?", "undecidable", ""] };

function cut(text, at) {
  if (at <= 0 || at >= text.length) return Math.max(0, Math.min(at, text.length));
  const line = text.lastIndexOf("\n", at); // at the end of a line, so that formulas stay whole
  const place = line > at - PIECE / 4 ? line + 1 : at;
  return /[\uDC00-\uDFFF]/.test(text[place]) && /[\uD800-\uDBFF]/.test(text[place - 1]) ? place - 1 : place;
}

// a long text in pieces; what is not shown is said, and can be shown
function pieces(text, sought, raw) {
  const match = sought ? text.search(sought) : -1;
  let start = match > PIECE / 2 ? cut(text, match - BEFORE) : 0;
  let end = start;
  const body = make("div", { class: "tb-text", dir: "auto" });
  const said = make("p", { class: "tb-hint", role: "status" });
  const earlier = make("button", { type: "button", onclick: () => add(true) });
  const more = make("button", { type: "button", onclick: () => add(false) }, "Show more");
  const box = make("div", {}, earlier, body, said, more);
  const add = (before) => {
    const [from, to] = before ? [cut(text, start - PIECE), start] : [end, cut(text, end + PIECE)];
    const part = make("div", { class: "tb-piece" }, rich(text.slice(from, to), sought, raw));
    if (before) body.prepend(part);
    else body.append(part);
    [start, end] = [Math.min(start, from), Math.max(end, to)];
    earlier.hidden = start === 0;
    earlier.textContent = `Show earlier (${number(start)} characters before this)`;
    more.hidden = end === text.length;
    const whole = start === 0 && end === text.length;
    said.textContent = whole ? "" : `Characters ${number(start + 1)} to ${number(end)} of ${number(text.length)}.`;
  };
  add(false);
  return box;
}

function reasoning(store, row, text, sought, raw) {
  const tokens = store.columns.reasoning[row];
  const matched = sought && text.search(sought) >= 0;
  const title = `Reasoning: ${number(tokens)} tokens, ${number(text.length)} characters`;
  const fold = make("details", { class: "tb-fold" }, make("summary", {}, matched ? `${title}, found in it` : title));
  let filled = false;
  const fill = () => {
    if (!filled && fold.open) fold.append(pieces(text, sought, raw));
    filled ||= fold.open;
  };
  fold.addEventListener("toggle", fill);
  if (matched) {
    fold.open = true;
    fill();
  }
  return fold;
}

function verdicts(rows) {
  if (!rows.length) return make("p", {}, "No check has looked at it: the filter has not run, or left it out.");
  const body = make("tbody");
  for (const [check, passed, reason, score, detail] of rows) {
    const [sign, word, style] = WORDS_OF[String(passed)] ?? WORDS_OF.null;
    const said = check === "decision" ? { passed: "kept" }[word] ?? word : word;
    body.append(
      make(
        "tr", { class: check === "decision" ? "tb-decision" : null },
        make("th", { scope: "row" }, visible(check)),
        make("td", { class: `tb-said ${style}` }, `${sign} ${said}`),
        make("td", {}, visible(reason ?? "")),
        make("td", {}, typeof score === "number" ? String(Math.round(score * 1e4) / 1e4) : ""),
        make("td", { class: "tb-text", dir: "auto" }, detail === reason ? "" : plain(String(detail ?? "").slice(0, 2000))),
      ),
    );
  }
  const heads = ["Check", "Verdict", "Reason", "Score", "Detail"].map((text) => make("th", { scope: "col" }, text));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  return make("div", { class: "tb-scroll", tabindex: "0", role: "region", "aria-label": "Verdicts" }, table);
}

function completion(store, row, parts, sought, raw) {
  const [before, thought, between, reply] = parts;
  const made = [];
  if (before.trim()) made.push(make("h4", {}, "Before the reasoning"), pieces(before, sought, raw));
  if (thought !== null) made.push(reasoning(store, row, thought, sought, raw));
  else made.push(make("p", { class: "tb-hint" }, "The model opened no reasoning."));
  const unmarked = between.trim() && (thought === null || reply === null || between.trim().length > 20);
  if (unmarked) made.push(make("h4", {}, "Text outside of reasoning and answer"), pieces(between, sought, raw));
  if (reply !== null) made.push(make("h4", {}, "Reply after the reasoning"), pieces(reply.replace(/^\n+/, ""), sought, raw));
  else made.push(make("p", { class: "tb-hint" }, "The reasoning was never closed, so there is no reply."));
  return made;
}

function others(store, row, link) {
  const problem = store.columns.problem[row];
  const same = [];
  for (let other = 0; other < store.count; other++) if (store.columns.problem[other] === problem) same.push(other);
  if (same.length < 2) return make("p", { class: "tb-hint" }, "There is no other trace of this problem here.");
  const items = same.slice(0, OTHERS).map((other) => {
    const run = store.names.run.length > 1 ? `${visible(store.name("run", other))}, ` : "";
    const text = `${run}sample ${store.columns.sample[other]}: ${store.name("decision", other)}, ${number(store.tokens[other])} tokens`;
    return make("li", {}, other === row ? `${text} (this one)` : link(other, text));
  });
  const fold = make("details", { class: "tb-fold" }, make("summary", {}, `All ${same.length} traces of this problem here`));
  fold.append(make("ul", {}, ...items));
  if (same.length > OTHERS) fold.append(make("p", { class: "tb-hint" }, `The first ${OTHERS} are listed.`));
  return fold;
}

// the elements that show a trace; `link(row, text)` makes a link to another one
function show(store, row, found, { sought, raw, link }) {
  const { problem, gold, final, parts, verdicts: said, facts, hidden } = found;
  const tokens = `${number(store.columns.reasoning[row])} reasoning, ${number(store.columns.answer[row])} answer`;
  const told = { Run: store.names.run.length > 1 ? store.name("run", row) : "", Ended: store.name("finish", row) };
  Object.assign(told, { Tokens: tokens, ...facts, Problem: store.name("problem", row), Trace: store.columns.id[row] });
  const list = make("dl", { class: "tb-facts" });
  for (const [name, text] of Object.entries(told)) {
    if (text) list.append(make("div", {}, make("dt", {}, name), make("dd", {}, visible(text))));
  }
  const verdict = make("div", {}, make("h4", {}, "Verdicts"), verdicts(said));
  if (hidden) {
    const why = "The authors of its problem set ask that questions are not published, so question and text are left out.";
    return [make("p", {}, why), verdict, others(store, row, link), list];
  }
  const asked = problem
    ? problem.map(([role, content]) =>
        make("div", {}, problem.length > 1 ? make("p", { class: "tb-hint" }, role) : null, pieces(content, sought, raw)),
      )
    : [make("p", { class: "tb-hint" }, "The run folder does not hold it.")];
  const boxed = (text, none) =>
    text === null ? make("dd", { class: "tb-hint" }, none) : make("dd", { class: "tb-text", dir: "auto" }, short(text));
  const short = (text) => {
    const part = answer(text.slice(0, PIECE), sought, raw);
    if (text.length <= PIECE) return part;
    const cutOff = document.createDocumentFragment();
    cutOff.append(part, `… (${number(text.length - PIECE)} more characters)`);
    return cutOff;
  };
  return [
    make("h4", {}, "Problem"), ...asked,
    make("dl", { class: "tb-answers" },
      make("div", {}, make("dt", {}, "Gold answer"), boxed(gold, "none")),
      make("div", {}, make("dt", {}, "Final answer"), boxed(final, "none is marked")),
    ),
    verdict,
    ...completion(store, row, parts, sought, raw),
    others(store, row, link),
    make("h4", {}, "Where it comes from"), list,
  ];
}
