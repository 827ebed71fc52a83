"""publish: the student or its traces to the Hub or into a folder, with a card, after the licences were looked at."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import Field

from distill.errors import InputError
from distill.models import presets
from distill.problems import sets
from distill.progress import LOG
from distill.publishing import dataset_card, facts, folder, hub, licences, loading, model_card, place, results, sections
from distill.publishing.facts import Facts
from distill.publishing.folder import MANIFEST, FileTable
from distill.publishing.licences import LicenceFinding
from distill.run import Run
from distill.stages import StageSummary
from distill.types import Record, content_id

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Config(Record):
    to: str = Field(min_length=1)
    """Target, as `org/name` on the Hub, or a folder that begins with `.` or `/`."""
    dataset: bool = False
    """Whether the set that was trained on is published, instead of the student."""
    public: bool = False
    """Whether all may see the repository on the Hub, once it is verified."""
    replace: bool = False
    """Whether a target's content is replaced even where it was not published from here."""
    accept: tuple[str, ...] = ()
    """Licences, as `llama3.1`, whose conditions you know and meet; `unknown` where none is known."""
    adapter: bool = False
    """Whether the LoRA adapters are published alone, where they were merged into the student."""
    load: bool = True
    """Whether the files are loaded as read back and a model writes with them; switch off where it is too large for this
    machine."""

    @property
    def folder(self) -> Path | None:
        """The plain folder to publish to; None for the Hub."""
        return Path(self.to) if self.to.startswith((".", "/", "~")) else None

    @property
    def name(self) -> str:
        """The repository's name without the organisation, or the folder's."""
        if self.folder:
            return self.folder.resolve().name
        return self.to.partition("/")[2]


@dataclass(frozen=True)
class Publication:
    """A folder that is ready to be published."""

    folder: Path
    table: FileTable
    provenance: str
    facts: Facts
    findings: list[LicenceFinding]
    stopping: list[LicenceFinding]
    """The findings that stop publishing."""


class PublishSummary(StageSummary):
    """What is at the target now."""

    changed: bool
    """False: the target held exactly this already."""
    url: str
    commit: str | None = None
    """The Hub's commit that holds it; None in a folder."""
    tag: str | None = None
    provenance: str
    files: int
    verified: str | None
    """What loading the files as read back showed; None where they were not loaded."""

    def line(self) -> str:
        if not self.changed:
            return f"nothing to do: {self.url} already holds {self.provenance}"
        return f"published {self.files} files: {self.url}"


def prepare(run: Run, config: Config) -> Publication:
    """Write the exact folder that would be published to DIR/publish; nothing leaves this machine.

    Raises:
        InputError: --to is no name, or there is nothing to publish.
    """
    _check_name(config, run)
    run_facts = facts.gather(run)
    publish_folder = run.folder / "publish"
    files = _rows(run_facts) if config.dataset else folder.checkpoint_files(_checkpoint(run_facts, config))
    findings = findings_of(run_facts, config)
    parts = run_facts.part_hashes()
    if not config.dataset:
        table = {name: folder.describe_file(path).sha256 for name, path in files.items()}
        parts["checkpoint"] = content_id(table)
    texts = _texts(run_facts, findings, config, parts, files)
    published_table = folder.write(publish_folder, files, texts)
    provenance = _provenance(parts)
    manifest = publish_folder / MANIFEST
    manifest.write_text(folder.manifest(provenance, parts, published_table), encoding="utf-8")
    published_table[MANIFEST] = folder.describe_file(manifest)
    stopping = licences.findings_that_stop(findings, config.accept, public=config.public)
    return Publication(publish_folder, published_table, provenance, run_facts, findings, stopping)


def run(run: Run, config: Config, progress: Callable[[str], None]) -> PublishSummary:
    """Prepare, stage, verify, merge and tag; the same command goes on after a failure and does nothing a second time.

    Raises:
        InputError: a licence stands against it, the target holds something else, or the Hub refuses the token.
        RunError: the Hub or the disk fails, or what was read back differs or does not load.
    """
    ready = prepare(run, config)
    _refuse_stopped(ready)
    for finding in ready.findings:
        if finding.level == "unknown":
            LOG.warning("publish: the licence of %s (%s) is not known", finding.part, finding.source)
    verified: list[str] = []

    def verify(read_back: Path) -> None:
        if not config.load:
            return
        progress("loading it")
        rows_path = ready.facts.data_run.sft / "train.parquet"
        if config.dataset:
            verified.append(loading.load_dataset(read_back, ready.facts.rows.count))
        else:
            verified.append(loading.load_model(read_back, rows_path))

    if config.folder:
        target = config.folder.expanduser().resolve()
        published = place.publish(ready.folder, ready.table, target, verify, replace=config.replace)
    else:
        kind: hub.Kind = "dataset" if config.dataset else "model"
        repository = hub.HubRepository(config.to, kind, public=config.public, replace=config.replace)
        published = repository.publish(ready.folder, ready.table, ready.provenance, verify, progress)
    return PublishSummary.model_validate(
        {
            **published,
            "provenance": ready.provenance,
            "files": len(ready.table),
            "verified": verified[0] if verified else None,
        }
    )


def _refuse_stopped(ready: Publication) -> None:
    """Refuse to publish while a finding stands against it.

    Raises:
        InputError: a licence forbids publishing, or a condition of one is not acknowledged.
    """
    if not ready.stopping:
        return
    first = ready.stopping[0]
    further = ""
    if len(ready.stopping) > 1:
        further = f" (and {len(ready.stopping) - 1} more: --dry-run lists them)"
    where = f"{first.part} {first.source}, licence {first.licence}"
    raise InputError(f"{first.message}{further}", where=where, fix=first.fix)


def findings_of(run_facts: Facts, config: Config) -> list[LicenceFinding]:
    """The findings of the licences of this run that bear on publishing it."""
    teachers = {preset.display_name: preset.licence for preset in run_facts.teachers}
    base = None if config.dataset else (run_facts.base.display_name, run_facts.base.licence)
    kind = "dataset" if config.dataset else "model"
    findings = licences.check_licences(teachers, base, run_facts.rows.licences, config.name, kind=kind)  # type: ignore[arg-type]
    if config.dataset:
        known_sets = [name for name in run_facts.rows.sets if name in sets.shipped_sets()]
        findings += [_private(name) for name in known_sets if sets.find(name)[0].private]
    return findings


def before_sampling(teacher: str, student: str, rows: tuple[str | None, ...] = ()) -> list[LicenceFinding]:
    """Findings that will stand against publishing a student of this teacher, known before teacher time is spent.

    The published name is not known yet, so what it must contain is a condition like the others.
    """
    teacher_preset = presets.teacher(teacher)
    base_preset = presets.student(student)
    teachers = {teacher_preset.model: teacher_preset.licence}
    findings = licences.check_licences(teachers, (base_preset.model, base_preset.licence), rows, "")
    return [finding for finding in findings if finding.level != "note"]


def _private(name: str) -> LicenceFinding:
    return LicenceFinding(
        level="forbid",
        part="data",
        source=name,
        licence="private",
        message="its questions must not be shown",
        fix="leave it out with `distill filter`, and publish what is left",
    )


def _check_name(config: Config, run: Run) -> None:
    if config.folder:
        target = config.folder.expanduser().resolve()
        run_folder = run.folder.resolve()
        if run_folder.is_relative_to(target) or target.is_relative_to(run_folder):
            raise InputError("is a folder of the run itself, or holds it", where=config.to, fix="give another --to")
        return
    org, slash, name = config.to.partition("/")
    if not (slash and _NAME.fullmatch(org) and _NAME.fullmatch(name)) or ".." in name or "--" in name:
        raise InputError(
            f"{config.to!r} is no Hub name", where="--to", fix="give org/name, or a folder as ./name or /path/name"
        )


def _checkpoint(run_facts: Facts, config: Config) -> Path:
    if run_facts.role is None:
        raise InputError(
            "there is no student",
            where=str(run_facts.run.student),
            fix="run `distill sft`, or publish its traces: --dataset",
        )
    if not config.adapter or (run_facts.checkpoint / "adapter_config.json").is_file():
        return run_facts.checkpoint
    adapter = run_facts.checkpoint / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise InputError("there are no adapters", where=str(adapter), fix="publish.adapter=false")
    return adapter


def _rows(run_facts: Facts) -> dict[str, Path]:
    path = run_facts.data_run.sft / "train.parquet"
    if not run_facts.rows.count:
        raise InputError("there is no trace set", where=str(path), fix="run `distill filter` first")
    return {dataset_card.FILE: path}


def _texts(
    run_facts: Facts,
    findings: list[LicenceFinding],
    config: Config,
    parts: dict[str, str | None],
    files: dict[str, Path],
) -> dict[str, str]:
    """Texts of the files that are written for the publication; the card's own hash goes into `parts`."""
    where = f"./{config.name}" if config.folder else config.to
    adapter = "adapter_config.json" in files

    def card(provenance: str) -> str:
        if config.dataset:
            head = dataset_card.metadata(run_facts, findings, config.name)
            body = dataset_card.text(run_facts, findings, config.name, where, parts, provenance)
        else:
            head = model_card.metadata(run_facts, findings, adapter=adapter)
            body = model_card.text(run_facts, findings, config.name, where, parts, provenance, adapter=adapter)
        return f"---\n{head.to_yaml()}\n---\n\n{body}"

    texts = {"LICENSE.md": _licences(run_facts, findings, config)}
    if not config.dataset:
        texts |= results.files(run_facts)
    if adapter and (base_config := _adapter_base(run_facts, files["adapter_config.json"])):
        texts["adapter_config.json"] = base_config
        del files["adapter_config.json"]
    parts["card"] = content_id(card(""), sorted(texts.items()))
    texts["README.md"] = card(_provenance(parts))
    return texts


def _provenance(parts: dict[str, str | None]) -> str:
    return content_id("publication", sorted(parts.items()))


def _licences(run_facts: Facts, findings: list[LicenceFinding], config: Config) -> str:
    lines = [
        "# Licences",
        *licences.notices(findings),
        sections.licence_terms(run_facts, findings, base=not config.dataset),
    ]
    return "\n\n".join(lines) + "\n"


def _adapter_base(run_facts: Facts, path: Path) -> str | None:
    """The adapters' configuration with the base's name where it names a folder of this machine; None if it does not."""
    adapter_config = orjson.loads(path.read_bytes())
    if not Path(str(adapter_config.get("base_model_name_or_path", ""))).is_absolute():
        return None
    adapter_config["base_model_name_or_path"] = run_facts.base.display_name
    return orjson.dumps(adapter_config, option=orjson.OPT_INDENT_2).decode() + "\n"
