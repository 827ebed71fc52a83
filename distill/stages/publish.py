"""publish: the student or its traces to the Hub or into a folder, with a card, after the licences were looked at."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from distill.errors import InputError
from distill.models import presets
from distill.problems import sets
from distill.publishing import dataset_card, facts, folder, hub, licences, loading, model_card, place, results, sections
from distill.publishing.facts import Facts
from distill.publishing.folder import MANIFEST, Table
from distill.publishing.licences import Finding
from distill.run import Run
from distill.types import Record, content_id

LOG = logging.getLogger("distill")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Config(Record):
    to: str = Field(min_length=1)
    """`org/name` on the Hub, or a folder that begins with `.` or `/`."""
    dataset: bool = False
    """The set that was trained on instead of the student."""
    public: bool = False
    """On the Hub: whether all may see it, once it is verified."""
    replace: bool = False
    """Replace what stands there and was not published from here."""
    accept: tuple[str, ...] = ()
    """Licences, as `llama3.1`, whose conditions you know and meet; `unknown` where none is known."""
    adapter: bool = False
    """The LoRA adapters alone, where they were merged into the student."""
    load: bool = True
    """Load what was read back, and let a model write; switch off where it is too large for this machine."""

    @property
    def folder(self) -> Path | None:
        """The plain folder to publish to; None for the Hub."""
        return Path(self.to) if self.to.startswith((".", "/", "~")) else None

    @property
    def name(self) -> str:
        """Of the repository, without the organisation."""
        return self.folder.resolve().name if self.folder else self.to.partition("/")[2]


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready to go."""

    folder: Path
    table: Table
    provenance: str
    facts: Facts
    findings: list[Finding]
    stopping: list[Finding]
    """Those of the findings that stop publishing."""


def prepare(run: Run, config: Config) -> Prepared:
    """Write the exact folder that would be published to DIR/publish; nothing leaves this machine.

    Raises:
        InputError: --to is no name, or there is nothing to publish.
    """
    _check_name(config, run)
    found = facts.gather(run)
    source = run.folder / "publish"
    files = _rows(found) if config.dataset else folder.checkpoint(_checkpoint(found, config))
    findings = findings_of(found, config)
    parts = found.parts()
    if not config.dataset:
        table = {name: folder.describe(path).sha256 for name, path in files.items()}
        parts["checkpoint"] = content_id(table)
    texts = _texts(found, findings, config, parts, files)
    written = folder.write(source, files, texts)
    provenance = _whole(parts)
    manifest = source / MANIFEST
    manifest.write_text(folder.manifest(provenance, parts, written), encoding="utf-8")
    written[MANIFEST] = folder.describe(manifest)
    stopping = licences.stopping(findings, config.accept, public=config.public)
    return Prepared(source, written, provenance, found, findings, stopping)


def run(run: Run, config: Config, progress: Callable[[str], None]) -> dict[str, Any]:
    """Prepare, stage, verify, merge and tag; the same command goes on after a failure and does nothing a second time.

    Raises:
        InputError: a licence stands against it, the target holds something else, or the Hub refuses the token.
        RunError: the Hub or the disk fails, or what was read back differs or does not load.
    """
    ready = prepare(run, config)
    stop(ready)
    for finding in ready.findings:
        if finding.level == "unknown":
            LOG.warning("publish: the licence of %s (%s) is not known", finding.part, finding.source)
    seen: list[str] = []

    def verify(back: Path) -> None:
        if not config.load:
            return
        progress("loading it")
        rows = ready.facts.data.sft / "train.parquet"
        seen.append(loading.dataset(back, ready.facts.rows.count) if config.dataset else loading.model(back, rows))

    if config.folder:
        target = config.folder.expanduser().resolve()
        told = place.publish(ready.folder, ready.table, target, verify, replace=config.replace)
    else:
        kind: hub.Kind = "dataset" if config.dataset else "model"
        repository = hub.Target(config.to, kind, public=config.public, replace=config.replace)
        told = repository.publish(ready.folder, ready.table, ready.provenance, verify, progress)
    return {**told, "provenance": ready.provenance, "files": len(ready.table), "verified": seen[0] if seen else None}


def stop(ready: Prepared) -> None:
    """
    Raises:
        InputError: a licence forbids publishing, or a condition of one is not acknowledged.
    """
    if ready.stopping:
        first = ready.stopping[0]
        more = f" (and {len(ready.stopping) - 1} more: --dry-run lists them)" if len(ready.stopping) > 1 else ""
        where = f"{first.part} {first.source}, licence {first.licence}"
        raise InputError(f"{first.what}{more}", where=where, fix=first.fix)


def findings_of(found: Facts, config: Config) -> list[Finding]:
    """What the licences of this run say about publishing it."""
    teachers = {one.shown: one.licence for one in found.teachers}
    base = None if config.dataset else (found.base.shown, found.base.licence)
    kind = "dataset" if config.dataset else "model"
    told = licences.check(teachers, base, found.rows.licences, config.name, kind=kind)  # type: ignore[arg-type]
    if config.dataset:
        told += [_private(name) for name in found.rows.sets if name in sets.known() and sets.find(name)[0].private]
    return told


def before_sampling(teacher: str, student: str, rows: tuple[str | None, ...] = ()) -> list[Finding]:
    """What will stand against publishing a student of this teacher: to be told before teacher time is spent.

    The name is not known yet, so what must be in it is told as a condition like the others.
    """
    of, base = presets.teacher(teacher), presets.student(student)
    told = licences.check({of.model: of.licence}, (base.model, base.licence), rows, "")
    return [finding for finding in told if finding.level != "note"]


def _private(name: str) -> Finding:
    return Finding(
        level="forbid",
        part="data",
        source=name,
        licence="private",
        what="its questions must not be shown",
        fix="leave it out with `distill filter`, and publish what is left",
    )


def _check_name(config: Config, run: Run) -> None:
    if config.folder:
        target, here = config.folder.expanduser().resolve(), run.folder.resolve()
        if here.is_relative_to(target) or target.is_relative_to(here):
            raise InputError("is a folder of the run itself, or holds it", where=config.to, fix="give another --to")
        return
    org, slash, name = config.to.partition("/")
    if not (slash and _NAME.fullmatch(org) and _NAME.fullmatch(name)) or ".." in name or "--" in name:
        raise InputError(
            f"{config.to!r} is no Hub name", where="--to", fix="give org/name, or a folder as ./name or /path/name"
        )


def _checkpoint(found: Facts, config: Config) -> Path:
    if found.role is None:
        raise InputError(
            "there is no student",
            where=str(found.run.student),
            fix="run `distill sft`, or publish its traces: --dataset",
        )
    if not config.adapter or (found.checkpoint / "adapter_config.json").is_file():
        return found.checkpoint
    if not (found.checkpoint / "adapter" / "adapter_config.json").is_file():
        raise InputError("there are no adapters", where=str(found.checkpoint / "adapter"), fix="publish.adapter=false")
    return found.checkpoint / "adapter"


def _rows(found: Facts) -> dict[str, Path]:
    path = found.data.sft / "train.parquet"
    if not found.rows.count:
        raise InputError("there is no trace set", where=str(path), fix="run `distill filter` first")
    return {dataset_card.FILE: path}


def _texts(
    found: Facts, findings: list[Finding], config: Config, parts: dict[str, str | None], files: dict[str, Path]
) -> dict[str, str]:
    """Files that are written for the publication; the card's own hash goes into `parts`."""
    where = f"./{config.name}" if config.folder else config.to
    adapter = "adapter_config.json" in files

    def card(whole: str) -> str:
        if config.dataset:
            head = dataset_card.metadata(found, findings, config.name)
            body = dataset_card.text(found, findings, config.name, where, parts, whole)
        else:
            head = model_card.metadata(found, findings, adapter=adapter)
            body = model_card.text(found, findings, config.name, where, parts, whole, adapter=adapter)
        return f"---\n{head.to_yaml()}\n---\n\n{body}"

    texts = {"LICENSE.md": _licences(found, findings, config)}
    if not config.dataset:
        texts |= results.files(found)
    if adapter and (base := _adapter_base(found, files["adapter_config.json"])):
        texts["adapter_config.json"] = base
        del files["adapter_config.json"]
    parts["card"] = content_id(card(""), sorted(texts.items()))
    texts["README.md"] = card(_whole(parts))
    return texts


def _whole(parts: dict[str, str | None]) -> str:
    return content_id("publication", sorted(parts.items()))


def _licences(found: Facts, findings: list[Finding], config: Config) -> str:
    lines = ["# Licences", *licences.notices(findings), sections.terms(found, findings, base=not config.dataset)]
    return "\n\n".join(lines) + "\n"


def _adapter_base(found: Facts, path: Path) -> str | None:
    """The adapters' configuration with the base's name where it names a folder of this machine; None if it does not."""
    told = orjson.loads(path.read_bytes())
    if not Path(str(told.get("base_model_name_or_path", ""))).is_absolute():
        return None
    told["base_model_name_or_path"] = found.base.shown
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n"
