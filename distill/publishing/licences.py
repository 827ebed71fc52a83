"""What the licences of teacher, base and rows ask of who publishes a student or its traces.

Facts follow the licences' texts, which count where this differs: Llama 2 and Llama 3 section 1.b.v and 1.b.i, Llama
3.1, 3.2 and 3.3 section 1.b.i, 1.b.iii and 2; the Qwen licence and the Qwen research licence (a model improved with
outputs shows "Built with Qwen" or "Improved using Qwen"); Creative Commons. This is a check of known terms, no legal
advice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from distill.types import Record

Level = Literal["forbid", "condition", "unknown", "note"]
Part = Literal["teacher", "base", "data"]

_FREE_LICENCES = {
    "mit",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "unlicense",
    "odc-by",
    "cc-by-4.0",
    "cc-by-3.0",
}
_FREE_LICENCES |= {"cc-by-2.0", "cc-by-2.5", "isc", "zlib", "pddl"}
_LLAMA = re.compile(r"llama(2|3|3\.1|3\.2|3\.3|4)")
_LLAMA_NAMES = {"2": "Llama 2", "3": "Meta Llama 3", "3.1": "Llama 3.1", "3.2": "Llama 3.2", "3.3": "Llama 3.3"}
# published under a licence of their own, made from models whose terms stay with them (their model cards say so)
_MADE_FROM = {"deepseek-r1-distill-llama-8b": "llama3.1", "deepseek-r1-distill-llama-70b": "llama3.3"}


class LicensedItem(Record):
    """One thing whose licence counts."""

    part: Part
    name: str
    licence: str | None
    """The licence's identifier as the Hub writes it, such as `apache-2.0`; None where nobody told."""


class LicenceFinding(Record):
    """One thing that a licence says about publishing."""

    level: Level
    """`forbid`: publishing is stopped; `condition`: to be acknowledged; `unknown`: no licence is known; `note`:
    publishing sees to it itself."""
    part: Part
    source: str
    """The model or the rows whose licence says so."""
    licence: str
    message: str
    """What the licence says, in words."""
    fix: str = ""
    """What can be done about it."""


def licences_of_model(name: str, licence: str | None) -> tuple[str | None, ...]:
    """All licences that stay with a model: its own, and that of the model that it was made from."""
    made_from = _MADE_FROM.get(name.lower().rsplit("/", 1)[-1])
    return (licence, made_from) if made_from else (licence,)


def check_licences(
    teachers: Mapping[str, str | None],
    base: tuple[str, str | None] | None,
    row_licences: Iterable[str | None],
    name: str,
    *,
    kind: Literal["model", "dataset"] = "model",
) -> list[LicenceFinding]:
    """What stands against publishing, and what publishing has to see to.

    Args:
        teachers: licence by model name; their outputs are what is trained on.
        base: name and licence of the model that was trained; None for a dataset.
        row_licences: licences of the problems.
        name: the repository's, without the organisation; empty where it is not chosen yet.
    """
    sources = [
        LicensedItem(part="teacher", name=model, licence=licence_id)
        for model, licence in teachers.items()
        for licence_id in licences_of_model(model, licence)
    ]
    if base:
        sources += [
            LicensedItem(part="base", name=base[0], licence=licence_id) for licence_id in licences_of_model(*base)
        ]
    sources += [
        LicensedItem(part="data", name="problems", licence=licence_id) for licence_id in dict.fromkeys(row_licences)
    ]
    findings_by_key: dict[tuple[str, str, str], LicenceFinding] = {}
    for source in sources:
        for finding in _findings_of(source, base, name, kind):
            findings_by_key.setdefault((finding.licence, finding.part, finding.message), finding)
    return list(findings_by_key.values())


def findings_that_stop(
    findings: Sequence[LicenceFinding], accepted: Iterable[str], *, public: bool
) -> list[LicenceFinding]:
    """The findings that stop publishing: what is forbidden, and conditions that are not accepted by licence name.

    A licence that nobody knows stops only what all will see.
    """
    accepted_names = {name.lower() for name in accepted}
    levels = {"condition", "unknown"} if public else {"condition"}

    def stops(finding: LicenceFinding) -> bool:
        is_accepted = finding.licence.lower() in accepted_names
        return finding.level == "forbid" or (finding.level in levels and not is_accepted)

    return [finding for finding in findings if stops(finding)]


def card_licence(base_licence: str | None, findings: Sequence[LicenceFinding]) -> tuple[str, str | None]:
    """The Hub's `license` and `license_name`: the base's where it alone counts, else `other` with those that do."""
    licence_names = sorted({finding.licence for finding in findings} - {base_licence, "unknown"})
    if base_licence:
        if not licence_names and (base_licence in _FREE_LICENCES or _LLAMA.fullmatch(base_licence)):
            return base_licence, None
        licence_names.insert(0, base_licence)
    plain_names = [re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") for name in licence_names]
    return "other", "-and-".join(plain_names) or "unknown"


def notices(findings: Sequence[LicenceFinding]) -> list[str]:
    """Lines that licences want shown in the card and kept in a notice file."""
    lines: dict[str, None] = {}
    for finding in findings:
        llama = _LLAMA.fullmatch(finding.licence)
        if llama:
            version = llama[1]
            lines["Built with Meta Llama 3" if version == "3" else "Built with Llama"] = None
            model_name = _LLAMA_NAMES.get(version, f"Llama {version}")
            lines[
                f"{model_name} is licensed under the {model_name} Community License, Copyright © Meta Platforms, Inc."
                " All Rights Reserved."
            ] = None
        if finding.licence in ("qwen", "qwen-research"):
            lines["Built with Qwen" if finding.part == "base" else "Improved using Qwen"] = None
    return list(lines)


def _findings_of(
    source: LicensedItem, base: tuple[str, str | None] | None, repository_name: str, kind: str
) -> list[LicenceFinding]:
    licence = _normalised(source.licence)
    if all(licence_id in _FREE_LICENCES for licence_id in re.split(r"-or-|,-", licence.removesuffix(",-by-row"))):
        return []
    if not licence or licence in ("unknown", "other"):
        fix = "find out, then --set publish.accept=[unknown]"
        return [_finding("unknown", source, "unknown", "no licence is known, so nobody can say what it allows", fix)]
    if llama := _LLAMA.fullmatch(licence):
        return _llama(source, llama[1], base, repository_name, kind)
    if licence in ("qwen", "qwen-research"):
        return _qwen(source, licence)
    if licence.startswith(("cc-by", "cc-nc")):
        return _creative_commons(source, licence)
    return [_finding("condition", source, licence, "its terms are not known to this check", _accept_hint(licence))]


def _normalised(licence: str | None) -> str:
    """A licence as the Hub writes it: `Apache 2.0 License` is apache-2.0."""
    text = re.sub(r"\blicen[cs]e\b|^the ", "", " ".join((licence or "").lower().split())).strip()
    return text.replace(" ", "-")


def _accept_hint(licence: str) -> str:
    name = licence if re.fullmatch(r"[\w.+-]+", licence) else json.dumps(licence)
    return f"read it, then --set publish.accept=[{name}]"


def _llama(
    source: LicensedItem, version: str, base: tuple[str, str | None] | None, repository_name: str, kind: str
) -> list[LicenceFinding]:
    licence = f"llama{version}"
    findings = []
    base_is_llama = base is not None and any(
        (licence_id or "").startswith("llama") for licence_id in licences_of_model(*base)
    )
    if version in ("2", "3") and source.part == "teacher" and kind == "model" and not base_is_llama:
        message = "its outputs must not improve a model that is no Llama"
        findings.append(_finding("forbid", source, licence, message, "change the base"))
    prefix = "Llama 3" if version == "3" else "Llama"
    is_named = repository_name.lower().replace("-", " ").startswith(prefix.lower())
    if kind == "model" and version != "2" and not is_named:
        message = f"the name of a model made with it must begin with “{prefix}”"
        level: Level = "condition"
        if repository_name:
            message += f", and this is {repository_name!r}"
            level = "forbid"  # no word makes good a wrong name
        fix = f"publish --to …/{prefix.replace(' ', '-')}-{repository_name}"
        findings.append(_finding(level, source, licence, message, fix))
    if kind == "dataset":
        message = f"a model trained on these outputs must be named {prefix}-…, and the agreement's use policy binds its"
        message += " users"
        hint = "read it"
    else:
        message = "a copy of the agreement goes with the model, its acceptable use policy binds whoever uses it, and"
        message += " above 700 million monthly users Meta must be asked"
        hint = "put it into the student's folder as LICENSE"
    findings.append(_finding("condition", source, licence, message, f"{hint}, then --set publish.accept=[{licence}]"))
    return findings


def _qwen(source: LicensedItem, licence: str) -> list[LicenceFinding]:
    accept_hint = _accept_hint(licence)
    if licence == "qwen-research":
        message = "for research and evaluation only: any commercial use needs another licence from Alibaba Cloud"
    else:
        message = "above 100 million monthly users another licence is needed; a copy of it goes with the model"
    notice = "the card shows “Built with Qwen” or “Improved using Qwen”, as it asks"
    return [_finding("condition", source, licence, message, accept_hint), _finding("note", source, licence, notice, "")]


def _creative_commons(source: LicensedItem, licence: str) -> list[LicenceFinding]:
    findings = []
    accept_hint = _accept_hint(licence)
    licence_parts = licence.split("-")
    if "nd" in licence_parts:
        message = "changed versions must not be shared, and rows of a training set are that"
        findings.append(_finding("forbid", source, licence, message, "leave these rows out, or ask their owner"))
    if "nc" in licence_parts:
        findings.append(_finding("condition", source, licence, "not for commercial use", accept_hint))
    if "sa" in licence_parts:
        message = "what is made from it is shared under the same terms"
        findings.append(_finding("condition", source, licence, message, accept_hint))
    return findings or [_finding("note", source, licence, "whoever wrote it must be named", "")]


def _finding(level: Level, source: LicensedItem, licence: str, message: str, fix: str) -> LicenceFinding:
    return LicenceFinding(level=level, part=source.part, source=source.name, licence=licence, message=message, fix=fix)
