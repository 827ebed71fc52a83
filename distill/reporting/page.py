"""The page: sections put into the template, a policy that runs nothing but its own script, and one file at the end.

Everything that comes from a run is text to the template, which escapes it. Beyond that the policy (CSP) allows no
request at all, no style and no script but those whose hashes it names, and no element made from a string by a script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from distill.reporting.browser.trace_browser import Browser
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.sections import funnel, overview, sampling, scores, training
from distill.reporting.sections.blocks import Section, labelled_texts
from distill.store.replacing import replacing

_HERE = Path(__file__).parent
_HATCHES = ((8, 0, 8), (6, 45, 2.5), (6, 0, 2), (5, 45, 2.5), (6, 135, 1.5), (6, 90, 3))
"""(tile, turn, what of the tile is inked) of each series: solid, slanted, upright, chequered, …"""
_MAX_NAMED_RUNS = 4
"""Runs up to which the title names each."""
_SECTION_BEFORE_TRACES = "grpo"
"""The section after which the traces stand."""


def sections(runs: Sequence[ReportedRun], linked: bool) -> list[Section]:
    """The sections of the page, in their order.

    Args:
        linked: the traces are in the page, too.
    """
    return [
        overview.overview(runs),
        scores.scores(runs),
        funnel.funnel(runs, linked),
        sampling.lengths(runs),
        sampling.rates(runs),
        sampling.tokens(runs),
        training.sft(runs),
        training.grpo(runs),
        overview.provenance(runs),
    ]


def write(path: Path, runs: Sequence[ReportedRun], page_sections: Sequence[Section], browser: Browser | None) -> int:
    """Write the page in pieces beside `path`, then put it in place whole. Returns its bytes.

    Raises:
        RunError: it cannot be written.
    """
    size = 0
    with replacing(path) as file:
        for piece in pieces(runs, page_sections, browser):
            size += file.write(piece.encode(errors="replace"))
    return size


def pieces(runs: Sequence[ReportedRun], page_sections: Sequence[Section], browser: Browser | None) -> Iterator[str]:
    """The text of the page, a little at a time: the traces may be larger than memory."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = ""
    traces: Iterable[str] = ()
    if browser:
        style += browser.style
        script = browser.script
        traces = browser.data
    style = _as_parsed(style)
    script = _as_parsed(script)
    headlines = [(run.label, overview.headline(run)) for run in runs]
    yield from environment.get_template("page.html").generate(
        title=_title([run.label for run in runs]),
        headlines=labelled_texts(headlines, len(runs) > 1),
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        hatches=list(enumerate(_HATCHES)),
        sections=page_sections,
        before=_SECTION_BEFORE_TRACES,
        browser=browser,
        data=map(Markup, traces),
        version=version("distill"),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _title(labels: Sequence[str]) -> str:
    if len(labels) > _MAX_NAMED_RUNS:
        return f"distill report: {len(labels)} runs"
    return f"distill report: {', '.join(labels)}"


def _policy(style: str, script: str) -> str:
    rules = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _as_parsed(text: str) -> str:
    """As the browser will read it, since that is what it hashes."""
    assert "</style" not in text.lower(), "it would end its element"
    assert "</script" not in text.lower(), "it would end its element"
    return text.replace("\r\n", "\n").replace("\r", "\n")
