"""The trace browser in Chromium: 10,000 traces of 20 kB in one page.

    python -m tests.benchmarks.report_browser [--traces 10000] [--repeats 5] [--keep DIR]

Real traces as distinct perturbed copies (those of filter_throughput), joined to 20 kB of reasoning each, with made-up
verdicts. Measured in one browser, on files: from the start of loading until the list can be used (median and worst of
the repeats, each in a new window), from the change of a filter until the list shows it (a frame included), opening a
trace, a search through all texts to its end, beside the time, the peak memory and the file's size of building it. The
reference, in the same browser: the same traces as JSON in a page that makes an element of each and goes through
their text, as such pages are first written. Needs the shared data (DISTILL_SHARED_DATA), Chromium and the
package playwright. The last line is JSON: milliseconds until the list can be used, and the reference's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.run import Run, write_json
from distill.store import jsonl
from distill.types import Problem, Trace
from tests.benchmarks.filter_throughput import copies, family
from tests.integration.chromium import _ARGUMENTS, CHROMIUM
from tests.integration.test_report_browser import page
from tests.reporting.browser_runs import verdicts

SIZE = 20_000
"""Characters of a completion."""
NAIVE = """<!doctype html><meta charset="utf-8"><title>naive</title>
<select id="filter"><option value="">all</option><option>length:too_long</option></select>
<input id="search"><p id="count"></p><div id="list"></div>
<script id="traces" type="application/json">TRACES</script>
<script>
const list = document.getElementById("list");
for (const trace of JSON.parse(document.getElementById("traces").textContent)) {
  const one = document.createElement("details");
  const title = document.createElement("summary");
  title.textContent = trace.title;
  const text = document.createElement("pre");
  text.textContent = trace.text;
  one.append(title, text);
  list.append(one);
}
function filter(text) {
  let count = 0;
  for (const one of list.children) {
    one.hidden = !(one.textContent).toLowerCase().includes(text.toLowerCase());
    count += !one.hidden;
  }
  document.getElementById("count").textContent = count;
}
document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
document.getElementById("search").addEventListener("input", (event) => filter(event.target.value));
window.usable = performance.now();
</script>"""


def long(count: int) -> Iterator[tuple[Problem, Trace]]:
    """Perturbed traces, each with as many others put before its end as make 20 kB."""
    source = copies(count * 6)  # real ones are shorter
    for number in range(count):
        problem, trace = next(source)
        text = trace.completion
        while len(text) < SIZE:
            _, other = next(source)
            text = other.completion.replace("</think>", "") + "\n\n" + text
        text = text[len(text) - SIZE :]
        close = text.find("</think>")
        spans: dict[str, Any] = {"reasoning_span": (0, len(text)), "answer_span": None}
        if close >= 0:
            spans = {"reasoning_span": (0, close), "answer_span": (close + len("</think>"), len(text))}
        usage = trace.usage.model_copy(update={"reasoning": len(text) // 4 - number % 1000})
        yield problem, trace.model_copy(update={"completion": text, "usage": usage, **spans})


def build(folder: Path, count: int) -> Run:
    run = Run(folder)
    problems: dict[str, Problem] = {}

    def traces() -> Iterator[Trace]:
        with jsonl.Log(run.verdicts_file) as ledger:
            for number, (problem, trace) in enumerate(long(count)):
                problems[problem.id] = problem
                said = {
                    "correct": "" if number % 4 else "wrong_answer",
                    "length": "too_long" if number % 10 == 1 else "",
                }
                for verdict in verdicts(trace, said):
                    ledger.append(verdict)
                yield trace

    jsonl.write(run.traces_file, traces())
    jsonl.write(run.problems, problems.values())
    write_json(run.json, {"recipe": {"name": "bench"}})
    return run


def arm(folder: Path) -> None:
    """Build the page, in a process of its own; prints what it took."""
    began, cpu = time.monotonic(), time.process_time()
    path = page(folder, [Run(folder / "run")])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu, "peak_mib": peak}
    print(json.dumps({**told, "file_mb": path.stat().st_size / 1e6}))


def naive(run: Run, path: Path) -> None:
    rows = [{"title": row["id"], "text": row["completion"]} for _, row in jsonl.rows(run.traces_file)]
    with path.open("w", encoding="utf-8") as file:
        head, tail = NAIVE.split("TRACES")
        file.writelines([head, json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c"), tail])


READY = """(() => {
  const look = () => {
    const told = document.getElementById("tb-count")?.textContent ?? document.body?.dataset.told ?? "";
    const list = document.querySelectorAll("#tb-list a").length || window.usable;
    if (list && !told.startsWith("Opening")) requestAnimationFrame(() => { window.shownAfter = performance.now(); });
    else requestAnimationFrame(look);
  };
  look();
})()"""
CHANGE = """async ([id, value, count]) => {
  const field = document.getElementById(id);
  const told = document.getElementById(count);
  const before = told.textContent;
  const began = performance.now();
  field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  for (;;) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const done = told.textContent !== before && !told.textContent.startsWith("Searching");
    if (done) return [performance.now() - began, told.textContent];
  }
}"""


def spent() -> float:
    """Seconds of CPU that the browser, as a child of this process, has taken so far; all its processes together."""
    ticks = 0
    for pid in family(os.getpid())[1:]:
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


OPEN = """async (page) => {
  const heading = () => document.getElementById("tb-heading")?.textContent ?? "";
  const before = heading();
  const began = performance.now();
  document.querySelectorAll("#tb-list a")[page].click();
  while (heading() === before) await new Promise((resolve) => requestAnimationFrame(resolve));
  return performance.now() - began;
}"""


def opened(chromium: Any, path: Path) -> tuple[Any, float]:
    """A page and the milliseconds until its list could be used."""
    window = chromium.new_context().new_page()
    window.set_default_timeout(300_000)
    window.add_init_script(READY)
    window.goto(path.resolve().as_uri())
    while not (after := window.evaluate("window.shownAfter ?? null")):
        time.sleep(0.02)
    return window, after


def measured(chromium: Any, path: Path, repeats: int, ids: tuple[str, str, str], words: list[str]) -> dict[str, Any]:
    """Milliseconds of loading, of filtering and of searching, several of each.

    Args:
        ids: of the filter, of the search and of what tells the count.
    """
    loads, filters, searches, work = [], [], [], []
    for turn in range(repeats):
        before = spent()
        window, after = opened(chromium, path)
        loads.append(after)
        work.append(1000 * (spent() - before))
        if turn < repeats - 1:
            window.context.close()
    for value in ["length:too_long", ""] * 4:
        took, _ = window.evaluate(CHANGE, [ids[0], value, ids[2]])
        filters.append(took)
    opens = [window.evaluate(OPEN, place) for place in (5, 45, 25, 15, 35)] if ids[0] == "tb-reason" else []
    for word in words:
        before = spent()
        took, told = window.evaluate(CHANGE, [ids[1], word, ids[2]])
        searches.append(took)
        print(f"  {word!r}: {took:,.0f} ms, {spent() - before:.1f} s of CPU; {told}")
    window.context.close()
    times = {"load_ms": loads, "load_cpu_ms": work, "filter_ms": filters, "open_ms": opens, "search_ms": searches}
    return {name: spread(values) for name, values in times.items() if values}


def spread(values: list[float]) -> list[int]:
    """Median and worst."""
    return [round(statistics.median(values)), round(max(values))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="build here, and use what is here from before")
    parser.add_argument("--arm", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        return arm(options.arm)
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as library:
        folder = options.keep or Path(name)
        if not (folder / "run").exists():
            build(folder / "run", options.traces)
        command = [sys.executable, "-m", "tests.benchmarks.report_browser", "--arm", str(folder)]
        built = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"built: {built}")
        chromium = library.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        words = ["zebra crossing", "the answer is"]  # in none, in most
        own = measured(chromium, folder / "page.html", options.repeats, ("tb-reason", "tb-q", "tb-count"), words)
        print(f"trace browser: {own}")
        naive(Run(folder / "run"), folder / "naive.html")
        size = round((folder / "naive.html").stat().st_size / 1e6)
        plain = measured(chromium, folder / "naive.html", 2, ("filter", "search", "count"), words)
        print(f"naive, {size} MB: {plain}")
        chromium.close()
    result = {"bench": "report_browser", "value": own["load_ms"][0], "unit": "ms until the list can be used"}
    result |= {"reference": plain["load_ms"][0], "ratio": round(plain["load_ms"][0] / own["load_ms"][0], 1), **own}
    result |= {name: round(value, 1) for name, value in built.items()} | {"traces": options.traces}
    result["machine_load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
