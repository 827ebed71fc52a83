// LaTeX made readable: the commands that mathematical texts use become MathML, any other stays as it is written.

const LETTERS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ϵ", varepsilon: "ε", zeta: "ζ", eta: "η", theta: "θ",
  vartheta: "ϑ", iota: "ι", kappa: "κ", lambda: "λ", mu: "μ", nu: "ν", xi: "ξ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ",
  upsilon: "υ", phi: "ϕ", varphi: "φ", chi: "χ", psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Theta: "Θ", Lambda: "Λ",
  Xi: "Ξ", Pi: "Π", Sigma: "Σ", Upsilon: "Υ", Phi: "Φ", Psi: "Ψ", Omega: "Ω", infty: "∞", partial: "∂", nabla: "∇",
  ell: "ℓ", hbar: "ℏ", emptyset: "∅", varnothing: "∅", forall: "∀", exists: "∃", Re: "ℜ", Im: "ℑ", aleph: "ℵ",
  angle: "∠", triangle: "△", square: "□", circ: "∘", degree: "°", prime: "′", checkmark: "✓", star: "⋆",
};
const OPERATORS = {
  times: "×", cdot: "⋅", div: "÷", pm: "±", mp: "∓", ast: "∗", le: "≤", leq: "≤", leqslant: "⩽", ge: "≥", geq: "≥",
  geqslant: "⩾", ne: "≠", neq: "≠", approx: "≈", equiv: "≡", sim: "∼", simeq: "≃", cong: "≅", propto: "∝", ll: "≪",
  gg: "≫", in: "∈", notin: "∉", ni: "∋", subset: "⊂", subseteq: "⊆", supset: "⊃", supseteq: "⊇", cup: "∪", cap: "∩",
  setminus: "∖", to: "→", rightarrow: "→", leftarrow: "←", Rightarrow: "⇒", Leftarrow: "⇐", implies: "⟹", iff: "⟺",
  leftrightarrow: "↔", Leftrightarrow: "⇔", uparrow: "↑", downarrow: "↓", longrightarrow: "⟶", Longrightarrow: "⟹", mapsto: "↦", land: "∧", wedge: "∧",
  lor: "∨", vee: "∨", neg: "¬", lnot: "¬", mid: "∣", nmid: "∤", parallel: "∥", perp: "⊥", therefore: "∴", because: "∵",
  ldots: "…", dots: "…", dotsc: "…", cdots: "⋯", dotsb: "⋯", dotsm: "⋯", vdots: "⋮", ddots: "⋱", sum: "∑", prod: "∏", int: "∫", iint: "∬", oint: "∮",
  bigcup: "⋃", bigcap: "⋂", oplus: "⊕", otimes: "⊗", bullet: "•", lfloor: "⌊", rfloor: "⌋", lceil: "⌈", rceil: "⌉",
  langle: "⟨", rangle: "⟩", vert: "|", lvert: "|", rvert: "|", Vert: "‖", lVert: "‖", rVert: "‖", lbrace: "{", rbrace: "}",
  "{": "{", "}": "}", "|": "‖", "%": "%", "$": "$", "#": "#", "&": "&", "_": "_", backslash: "\\",
};
const FUNCTIONS = new Set(
  ("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim limsup liminf max min sup inf gcd lcm " +
    "det dim ker deg arg mod Pr").split(" "),
);
const ACCENTS = {
  bar: "¯", overline: "¯", hat: "^", widehat: "^", vec: "→", overrightarrow: "→", tilde: "~", widetilde: "~", dot: "˙",
  ddot: "¨", overbrace: "⏞",
};
const WORDS = new Set("text textbf textit textrm texttt textsf textnormal emph mbox mathrm operatorname mathsf mathtt".split(" "));
const DROPPED = new Set(
  ("left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle scriptstyle " +
    "limits nolimits nonumber hline").split(" "),
);
const GAPS = { ",": "\u2009", ":": "\u2005", ";": "\u2004", " ": " ", quad: "\u2003", qquad: "\u2003\u2003", "!": "" };
const DOUBLE = { R: "ℝ", Z: "ℤ", N: "ℕ", Q: "ℚ", C: "ℂ", P: "ℙ", F: "𝔽", E: "𝔼" };
const TOKEN = /\\[a-zA-Z]+|\\[\s\S]|[{}^_&~]|\d+(?:\.\d+)?|\s+|[\s\S]/gu;
const LONGEST = 4000; // characters of a formula; what is longer is hardly one
const DEEPEST = 40;

function node(name, ...children) {
  const made = document.createElementNS("http://www.w3.org/1998/Math/MathML", name);
  made.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
  return made;
}

// Reads a formula by recursive descent. A formula need not be well-formed: what lacks its end ends with the text.
class Formula {
  constructor(source) {
    this.tokens = source.match(TOKEN) ?? [];
    this.at = 0;
    this.depth = 0;
  }

  // everything up to a token that `ends`, which is taken
  row(ends = () => false) {
    const made = node("mrow");
    if (++this.depth > DEEPEST) throw new RangeError("too deep");
    while (this.at < this.tokens.length) {
      if (ends(this.tokens[this.at])) {
        this.at++;
        break;
      }
      if (this.tokens[this.at] === "\\over") {
        this.at++;
        const below = this.row(ends);
        this.depth--;
        return node("mfrac", made, below);
      }
      const base = this.atom();
      if (base) made.append(this.scripts(base));
    }
    this.depth--;
    return made;
  }

  scripts(base) {
    let above = null;
    let below = null;
    for (;;) {
      this.blanks();
      const token = this.tokens[this.at];
      if (token === "'") {
        this.at++;
        above = above ? node("mrow", above, node("mo", "′")) : node("mo", "′");
      } else if ((token === "^" && !above) || (token === "_" && !below)) {
        this.at++;
        if (token === "^") above = this.argument();
        else below = this.argument();
      } else break;
    }
    if (above && below) return node("msubsup", base, below, above);
    if (above) return node("msup", base, above);
    return below ? node("msub", base, below) : base;
  }

  blanks() {
    while (/^\s+$/.test(this.tokens[this.at] ?? "")) this.at++;
  }

  argument() {
    this.blanks();
    const token = this.tokens[this.at];
    if (token === undefined) return node("mrow");
    if (/^\d\d/.test(token)) this.tokens.splice(this.at, 1, token[0], token.slice(1)); // \frac12 is a half
    return this.atom() ?? node("mrow");
  }

  // the text of a group as it stands
  words() {
    this.blanks();
    if (this.tokens[this.at] !== "{") return this.tokens[this.at++] ?? "";
    let depth = 0;
    const from = this.at + 1;
    for (; this.at < this.tokens.length; this.at++) {
      if (this.tokens[this.at] === "{") depth++;
      if (this.tokens[this.at] === "}" && --depth === 0) break;
    }
    return this.tokens.slice(from, this.at++).join("");
  }

  atom() {
    const token = this.tokens[this.at++];
    if (/^\s+$/.test(token)) return null;
    if (token === "{") return this.row((next) => next === "}");
    if (token === "}" || token === "&") return null;
    if (token === "^" || token === "_") return this.scripts((this.at--, node("mrow")));
    if (token === "~") return node("mtext", "\u00A0");
    if (/^\d/.test(token)) return node("mn", token);
    if (token.startsWith("\\") && token.length > 1) return this.command(token.slice(1));
    return /\p{L}/u.test(token) ? node("mi", token) : node("mo", token === "-" ? "−" : token);
  }

  command(name) {
    const own = (table) => Object.hasOwn(table, name);
    if (own(LETTERS)) return node("mi", LETTERS[name]);
    if (own(OPERATORS)) return node("mo", OPERATORS[name]);
    if (own(GAPS)) return GAPS[name] ? node("mtext", GAPS[name]) : null;
    if (own(ACCENTS)) return node("mover", this.argument(), node("mo", ACCENTS[name]));
    if (FUNCTIONS.has(name)) return node("mrow", node("mi", name), node("mtext", "\u2009"));
    if (WORDS.has(name)) return node("mtext", this.words());
    if (DROPPED.has(name)) {
      if (this.tokens[this.at] === ".") this.at++; // the delimiter that is none
      return null;
    }
    switch (name) {
      case "frac": case "dfrac": case "tfrac": case "cfrac":
        return node("mfrac", this.argument(), this.argument());
      case "binom": case "dbinom": case "tbinom":
        return node("mrow", node("mo", "("), column([[this.argument()], [this.argument()]]), node("mo", ")"));
      case "sqrt": {
        this.blanks();
        if (this.tokens[this.at] !== "[") return node("msqrt", this.argument());
        this.at++;
        const root = this.row((next) => next === "]");
        return node("mroot", this.argument(), root);
      }
      case "boxed": case "fbox": {
        const made = node("mrow", this.argument());
        made.setAttribute("class", "tb-boxed");
        return made;
      }
      case "underline": return node("munder", this.argument(), node("mo", "_"));
      case "stackrel": case "overset": {
        const above = this.argument();
        return node("mover", this.argument(), above);
      }
      case "underset": {
        const below = this.argument();
        return node("munder", this.argument(), below);
      }
      case "mathbb": {
        const word = this.words();
        return node("mi", Object.hasOwn(DOUBLE, word) ? DOUBLE[word] : word);
      }
      case "mathbf": case "mathit": case "mathcal": case "mathfrak": case "mathscr": case "boldsymbol": case "bm":
      case "pmb": case "bold": case "ensuremath": case "cancel": case "mathop": case "underbrace":
        return this.argument();
      case "pmod":
        return node("mrow", node("mo", "("), node("mi", "mod"), node("mtext", "\u2005"), this.argument(), node("mo", ")"));
      case "bmod": return node("mo", "mod");
      case "not": return node("mrow", this.argument(), node("mo", "\u0338"));
      case "begin": return this.table(this.words());
      case "end": case "phantom": case "hphantom": case "vphantom": case "label": case "cline": case "hspace": case "vspace":
        this.words();
        return null;
      case "\\": case "newline": return node("mtext", " ");
      case "tag": return node("mtext", ` (${this.words()})`);
      default: return node("mtext", `\\${name}`);
    }
  }

  // \begin{…} … \end{…}: rows parted by \\, cells by &
  table(name) {
    if (name === "array" || name === "tabular") this.words();
    const rows = [[node("mrow")]];
    if (++this.depth > DEEPEST) throw new RangeError("too deep");
    while (this.at < this.tokens.length) {
      const token = this.tokens[this.at];
      if (token === "\\end") {
        this.at++;
        this.words();
        break;
      }
      if (token === "\\\\" || token === "&") {
        this.at++;
        if (token === "&") rows.at(-1).push(node("mrow"));
        else rows.push([node("mrow")]);
        continue;
      }
      const base = this.atom();
      if (base) rows.at(-1).at(-1).append(this.scripts(base));
    }
    this.depth--;
    const fences = { pmatrix: "()", bmatrix: "[]", vmatrix: "||", Vmatrix: "‖‖", Bmatrix: "{}", cases: "{" }[name] ?? "";
    const parts = [column(rows)];
    if (fences[0]) parts.unshift(node("mo", fences[0]));
    if (fences[1]) parts.push(node("mo", fences[1]));
    return node("mrow", ...parts);
  }
}

const column = (rows) => node("mtable", ...rows.map((cells) => node("mtr", ...cells.map((cell) => node("mtd", cell)))));

// the MathML of a formula, or null for what is too long or too deep
function formula(source, block) {
  if (source.length > LONGEST) return null;
  try {
    const made = node("math", new Formula(source).row());
    if (block) made.setAttribute("display", "block");
    made.setAttribute("title", visible(source));
    return made;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

// $$…$$, \[…\], \(…\), $…$ and \boxed{…} outside of them. A dollar opens a formula where no blank follows and closes it
// where no blank precedes and no digit follows, so that prices stay prices.
const FORMULAS =
  /\$\$((?:[^$\\]|\\[\s\S]){1,2000}?)\$\$|\\\[([\s\S]{1,2000}?)\\\]|\\\(([\s\S]{1,2000}?)\\\)|(?<![\\$])\$(?![\s$])((?:[^$\\\n]|\\[^\n]){0,999}?(?:[^\s$\\]|\\[^\n]))\$(?!\d)|(\\boxed\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\}){0,500}\})/gu;

// text with its formulas readable; what was searched for stays as it is written, to be seen
function rich(text, sought, raw) {
  if (raw) return plain(text, sought);
  const fragment = document.createDocumentFragment();
  let at = 0;
  for (const found of text.matchAll(FORMULAS)) {
    if (sought && found[0].search(sought) >= 0) continue;
    const made = formula(found[1] ?? found[2] ?? found[3] ?? found[4] ?? found[5], found[1] ?? found[2]);
    if (!made) continue;
    fragment.append(plain(text.slice(at, found.index), sought), made);
    at = found.index + found[0].length;
  }
  fragment.append(plain(text.slice(at), sought));
  return fragment;
}

// an answer: often a formula without any sign that it is one
function answer(text, sought, raw) {
  const bare = text.length < LONGEST && !/[$\n]|\\\(|\\\[/.test(text) && /\\[a-zA-Z]+|[\^_]\{?\w/.test(text);
  const made = bare && !raw && !(sought && text.search(sought) >= 0) ? formula(text) : null;
  return made ?? rich(text, sought, raw);
}
