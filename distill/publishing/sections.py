"""What cards of models and datasets share: their frame, the funnel, the licences, the provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from distill.publishing import licences
from distill.publishing.facts import Facts
from distill.publishing.licences import LicenceFinding
from distill.publishing.text import code, plain, table

_MAX_TABLE_ROWS = 20
"""Rows of a table of sets or sources."""
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def page(name: str, about: str, findings: Sequence[LicenceFinding], parts: Mapping[str, str]) -> str:
    """A card's body: what it is, what must be shown prominently, and its parts by title."""
    head = f"# {plain(name)}\n\n{about} Made with distill.\n"
    notice = "\n\n".join(f"**{line}**" for line in licences.notices(findings))
    if notice:
        head += f"\n{notice}\n"
    return head + "".join(f"\n## {title}\n\n{body}\n" for title, body in parts.items())


def teachers(facts: Facts) -> str:
    return " and ".join(plain(teacher.display_name) for teacher in facts.teachers)


def languages(facts: Facts) -> list[str] | None:
    """What the Hub takes for languages, for a card's front matter."""
    return sorted(language for language in facts.rows.languages if _LANGUAGE.fullmatch(language)) or None


def counts_text(counts: Mapping[str, int] | Mapping[str | None, int], max_names: int = _MAX_TABLE_ROWS) -> str:
    """Names with their counts as `math 1,200, code 300`, commonest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    texts = [f"{plain(name) if name else 'none given'} {count:,}" for name, count in ordered[:max_names]]
    if len(ordered) > max_names:
        texts.append(f"and {len(ordered) - max_names} more")
    return ", ".join(texts)


def funnel(facts: Facts) -> str:
    """The story of the data, from what was sampled to what was kept."""
    summary = facts.funnel
    rows = facts.rows
    lines = []
    generated = facts.stages.get("generate") or {}
    if generated.get("traces"):
        text = f"{generated['traces']:,} traces of {generated.get('problems', 0):,} problems"
        if generated.get("tokens"):
            text += f", {generated['tokens']:,} teacher tokens"
        lines.append(f"Sampled: {text}.")
    if summary.get("checks"):
        body = [("traces judged", "", "", f"{summary['traces']:,}")]
        for check in summary["checks"]:
            reasons = ", ".join(f"{plain(name)} {count:,}" for name, count in list(check["reasons"].items())[:5])
            name = code(check["check"])
            if reasons:
                name += f": {reasons}"
            body.append((name, f"{check['rejects']:,}", f"{check['only']:,}", f"{check['left']:,}"))
        body.append(("undecidable", f"{summary.get('undecidable', 0):,}", "", ""))
        body.append(("**kept**", "", "", f"**{summary['kept']:,}**"))
        lines.append(table(("check: commonest reasons", "rejects", "only it rejects", "left"), body))
    for source in summary.get("mix") or ():
        amount = f"{source['rows']:,} rows, {source['tokens']:,} tokens"
        share = f"{source['reached']:.1%} by {plain(source['by'])}"
        lines.append(f"Mixed in from {plain(source['name'])}: {amount} ({share}).")
    if rows.count:
        lines.append(f"The set: {rows.count:,} rows, {rows.tokens:,} tokens of replies (in the student's tokens).")
        lines.append(f"Rows by problem set: {counts_text(rows.sets)}. By language: {counts_text(rows.languages)}.")
    if rows.sources:
        lines.append(f"Taken over from: {counts_text(rows.sources)}.")
    return "\n\n".join(lines) or "Nothing is recorded of the data."


def licence_terms(facts: Facts, findings: Sequence[LicenceFinding], *, base: bool) -> str:
    """The licences that apply, and what they ask."""
    body = [("teacher", plain(teacher.display_name), _licence_text(teacher.licence)) for teacher in facts.teachers]
    if base:
        body.insert(0, ("base", plain(facts.base.display_name), _licence_text(facts.base.licence)))
    for licence, count in facts.rows.licences.most_common(_MAX_TABLE_ROWS):
        body.append(("problems", f"{count:,} rows", _licence_text(licence)))
    lines = [table(("of", "what", "licence"), body, "l")]
    finding_lines = [
        f"- {plain(finding.source)} ({code(finding.licence)}): {plain(finding.message, 600)}" for finding in findings
    ]
    if finding_lines:
        lines.append("What they ask:\n\n" + "\n".join(finding_lines))
    if base and facts.role:
        lines.append("This table names what is recorded in the run; it is no legal advice.")
    return "\n\n".join(lines)


def _licence_text(name: str | None) -> str:
    return code(name) if name else "unknown"


def provenance(part_hashes: Mapping[str, str | None], provenance_hash: str) -> str:
    rows = [(plain(name), code(hash_text) if hash_text else "none") for name, hash_text in part_hashes.items()]
    return (
        f"Provenance {code(provenance_hash)}: one hash over the hashes below, which {code('distill.json')} repeats"
        f" together with the SHA-256 of every file.\n\n{table(('of', 'hash'), rows, 'l')}"
    )


def versions(facts: Facts) -> str:
    return ", ".join(f"{plain(name)} {plain(version)}" for name, version in facts.versions.items())
