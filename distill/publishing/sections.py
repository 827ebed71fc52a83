"""What cards of models and datasets share: their frame, the funnel, the licences, the provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill.publishing import licences
from distill.publishing.facts import Facts
from distill.publishing.licences import Finding
from distill.publishing.text import code, plain, table

_MOST = 20
"""Rows of a table of sets or sources."""
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def page(name: str, about: str, findings: Sequence[Finding], parts: Mapping[str, str]) -> str:
    """A card's body: what it is, what must be shown prominently, and its parts by title."""
    notice = "\n\n".join(f"**{line}**" for line in licences.notices(findings))
    head = f"# {plain(name)}\n\n{about} Made with distill.\n" + (f"\n{notice}\n" if notice else "")
    return head + "".join(f"\n## {title}\n\n{body}\n" for title, body in parts.items())


def teachers(facts: Facts) -> str:
    return " and ".join(plain(one.shown) for one in facts.teachers)


def languages(facts: Facts) -> list[str] | None:
    """What the Hub takes for languages, for a card's front matter."""
    return sorted(one for one in facts.rows.languages if _LANGUAGE.fullmatch(one)) or None


def counted(counts: Mapping[Any, int], most: int = _MOST) -> str:
    """`math 1,200, code 300`, commonest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    words = [f"{plain(name) if name else 'none given'} {count:,}" for name, count in ordered[:most]]
    return ", ".join(words + ([f"and {len(ordered) - most} more"] if len(ordered) > most else []))


def funnel(facts: Facts) -> str:
    """From what was sampled to what was kept."""
    found, rows = facts.funnel, facts.rows
    lines = []
    generated = facts.stages.get("generate") or {}
    if generated.get("traces"):
        text = f"{generated['traces']:,} traces of {generated.get('problems', 0):,} problems"
        if generated.get("tokens"):
            text += f", {generated['tokens']:,} teacher tokens"
        lines.append(f"Sampled: {text}.")
    if found.get("checks"):
        body = [("traces judged", "", "", f"{found['traces']:,}")]
        for check in found["checks"]:
            reasons = ", ".join(f"{plain(name)} {count:,}" for name, count in list(check["reasons"].items())[:5])
            name = code(check["check"]) + (f": {reasons}" if reasons else "")
            body.append((name, f"{check['rejects']:,}", f"{check['only']:,}", f"{check['left']:,}"))
        body.append(("undecidable", f"{found.get('undecidable', 0):,}", "", ""))
        body.append(("**kept**", "", "", f"**{found['kept']:,}**"))
        lines.append(table(("check: commonest reasons", "rejects", "only it rejects", "left"), body))
    for drawn in found.get("mix") or ():
        share = f"{drawn['reached']:.1%} by {plain(drawn['by'])}"
        lines.append(
            f"Mixed in from {plain(drawn['name'])}: {drawn['rows']:,} rows, {drawn['tokens']:,} tokens ({share})."
        )
    if rows.count:
        lines.append(f"The set: {rows.count:,} rows, {rows.tokens:,} tokens of replies (in the student's tokens).")
        lines.append(f"Rows by problem set: {counted(rows.sets)}. By language: {counted(rows.languages)}.")
    if rows.sources:
        lines.append(f"Taken over from: {counted(rows.sources)}.")
    return "\n\n".join(lines) or "Nothing is recorded of the data."


def terms(facts: Facts, findings: Sequence[Finding], *, base: bool) -> str:
    """The licences that apply, and what they ask."""
    body = [("teacher", plain(one.shown), _licence(one.licence)) for one in facts.teachers]
    if base:
        body.insert(0, ("base", plain(facts.base.shown), _licence(facts.base.licence)))
    for licence, count in facts.rows.licences.most_common(_MOST):
        body.append(("problems", f"{count:,} rows", _licence(licence)))
    lines = [table(("of", "what", "licence"), body, "l")]
    told = [f"- {plain(f.source)} ({code(f.licence)}): {plain(f.what, 600)}" for f in findings]
    if told:
        lines.append("What they ask:\n\n" + "\n".join(told))
    if base and facts.role:
        lines.append("This table names what is recorded in the run; it is no legal advice.")
    return "\n\n".join(lines)


def _licence(name: str | None) -> str:
    return code(name) if name else "unknown"


def provenance(parts: Mapping[str, str | None], whole: str) -> str:
    rows = [(plain(name), code(one) if one else "none") for name, one in parts.items()]
    return (
        f"Provenance {code(whole)}: one hash over the hashes below, which {code('distill.json')} repeats together with"
        f" the SHA-256 of every file.\n\n{table(('of', 'hash'), rows, 'l')}"
    )


def versions(facts: Facts) -> str:
    return ", ".join(f"{plain(name)} {plain(version)}" for name, version in facts.versions.items())
