// Text of models as text: characters that hide or turn other text are shown by their number, nothing becomes markup.

// controls (but tab and newline), formats (bidirectional, zero-width, tags), lone surrogates, private use, separators
// of lines and paragraphs, and letters that are blank; a run of the same is one mark
const HIDDEN = /((?![\t\n])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029\u115F\u1160\u3164\uFFA0])\1*/gu;

function mark(run) {
  const number = run.codePointAt(0);
  const count = run.length / String.fromCodePoint(number).length;
  const code = `U+${number.toString(16).toUpperCase().padStart(4, "0")}`;
  return count > 1 ? `⟨${code} ×${count.toLocaleString("en")}⟩` : `⟨${code}⟩`;
}

const visible = (text) => String(text).replace(HIDDEN, mark);

// make("p", {class: "x", onclick: f}, "text", child, …); text is text, and no attribute takes what a model wrote but title
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// a literal, letters of either case
const literal = (text, flags) => new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), flags);

// text without formulas, its hidden characters as marks and what was searched for marked
function plain(text, sought) {
  const fragment = document.createDocumentFragment();
  const put = (from, to, into) => {
    let at = from;
    const part = text.slice(from, to);
    for (const found of part.matchAll(HIDDEN)) {
      into.append(text.slice(at, from + found.index));
      into.append(make("span", { class: "tb-hidden" }, mark(found[0])));
      at = from + found.index + found[0].length;
    }
    into.append(text.slice(at, to));
  };
  let at = 0;
  if (sought) {
    for (const found of text.matchAll(sought)) {
      put(at, found.index, fragment);
      const marked = make("mark");
      at = found.index + found[0].length;
      put(found.index, at, marked);
      fragment.append(marked);
    }
  }
  put(at, text.length, fragment);
  return fragment;
}

const number = (value) => value.toLocaleString("en");
