// The traces in the page: the index, and chunks of rows that are opened when one of theirs is needed.

const OPEN = 12; // chunks that are kept open
const PAUSE = 24; // milliseconds that the search works before the page may do something else

// A large page may still be coming in: an element is whole when something follows it or the page has ended.
async function arrived(id) {
  for (;;) {
    const element = document.getElementById(id);
    if (element?.nextSibling || document.readyState !== "loading") return element;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function unpack(id) {
  const packed = (await arrived(id))?.textContent;
  if (packed === undefined) throw new Error(`the part ${id} is not in this page: the file is not whole`);
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(packed)
    : Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  const wrote = writer.write(bytes).then(() => writer.close());
  const [text] = await Promise.all([decode(stream.readable.getReader()), wrote]);
  return text;
}

// by hand, for `new Response(stream).text()` takes half as long again
async function decode(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
  }
}

class Store {
  constructor(index) {
    Object.assign(this, index);
    this.count = index.columns.id.length;
    this.numbers = new Map();
    for (let row = this.count - 1; row >= 0; row--) this.numbers.set(index.columns.id[row], row); // of equal ids the first
    this.tokens = Int32Array.from(index.columns.reasoning, (value, row) => value + index.columns.answer[row]);
    this.opened = new Map();
  }

  static async open() {
    return new Store(JSON.parse(await unpack("traces-index")));
  }

  // the name behind a number of a column
  name(kind, row) {
    return this.names[kind][this.columns[kind][row]] ?? "";
  }

  chunkOf(row) {
    let low = 0;
    let high = this.starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= row) low = middle;
      else high = middle;
    }
    return low;
  }

  // the lines of a chunk; those used last stay open
  async lines(chunk) {
    const found = this.opened.get(chunk) ?? unpack(`traces-${chunk}`).then((text) => text.split("\n"));
    this.opened.delete(chunk);
    this.opened.set(chunk, found);
    if (this.opened.size > OPEN) this.opened.delete(this.opened.keys().next().value);
    return found;
  }

  async row(row) {
    const chunk = this.chunkOf(row);
    const line = (await this.lines(chunk))[row - this.starts[chunk]];
    const [texts, [roles, there, verdicts, facts, hidden]] = line.split("\t").map((part) => JSON.parse(part));
    const others = there.map((is, place) => (is ? texts[roles.length + place] : null));
    const [gold, final, ...parts] = others;
    const problem = roles.length ? roles.map((role, place) => [role, texts[place]]) : null;
    return { problem, gold, final, parts, verdicts, facts, hidden };
  }
}

// A search for one text. `found[row]` is 1 where it is, 2 where it is not, 0 where nobody has looked yet.
class Search {
  constructor(store, text) {
    this.store = store;
    this.text = text;
    this.found = new Uint8Array(store.count);
    // the texts are a JSON array of strings: what is found as JSON would write it, and not in its signs or the letters
    // of an escape, is in a text
    this.quick = literal(JSON.stringify(text).slice(1, -1), "giu");
    this.exact = literal(text, "iu");
    this.sure = !/["\\,[\]]/.test(text);
  }

  holds(line) {
    const end = line.indexOf("\t");
    for (const { index } of line.matchAll(this.quick)) {
      if (index >= end) return false;
      if (this.sure && !/\\(?:u[0-9a-f]{0,3})?$/.test(line.slice(Math.max(0, index - 5), index))) return true;
      return JSON.parse(line.slice(0, end)).some((text) => this.exact.test(text));
    }
    return false;
  }

  // look at rows, in their order; `told(done)` is called now and then, and `stopped()` ends it
  async run(rows, told, stopped) {
    let since = performance.now();
    let done = 0;
    for (const row of rows) {
      if (!this.found[row]) {
        const chunk = this.store.chunkOf(row);
        if (chunk !== this.chunk) {
          const lines = await this.store.lines(chunk);
          if (stopped()) return;
          [this.chunk, this.lines] = [chunk, lines];
        }
        const line = this.lines[row - this.store.starts[chunk]];
        const own = this.store.columns.id[row].startsWith(this.text.toLowerCase());
        this.found[row] = own || this.holds(line) ? 1 : 2;
      }
      done++;
      if (performance.now() - since > PAUSE) {
        told(done);
        await new Promise((resolve) => setTimeout(resolve));
        if (stopped()) return;
        since = performance.now();
      }
    }
    [this.chunk, this.lines] = [undefined, undefined];
    told(done);
  }
}
