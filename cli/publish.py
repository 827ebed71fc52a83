"""`distill publish`: what would be published and what binds it, or doing it step by step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.errors import InputError
from distill.progress import LOG
from distill.run import Run
from distill.stages import publish
from distill.stages.publish import Config, Prepared

from . import settings


def execute(folder: Path | None, named: dict[str, Any], changes: list[str], dry_run: bool) -> None:
    """
    Args:
        folder: the run; found by the default recipe's name when not given.
    """
    run, config = Run(folder or Path("runs/r1-distill")), settings.build(Config, "publish", named, changes)
    if not run.json.is_file():
        raise InputError("is no run folder", where=str(run.folder), fix="give --run, the folder of a finished run")
    out = Console()
    if dry_run:
        show(out, publish.prepare(run, config), config)
        return
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    told = publish.run(run, config, lambda step: LOG.info("publish: %s", step))
    if not told["changed"]:
        out.print(f"nothing to do: {told['url']} already holds {told['provenance']}", highlight=False, markup=False)
        return
    checked = told["verified"] or "read back, equal; not loaded"
    out.print(f"published {told['files']} files: {told['url']}", highlight=False, markup=False)
    out.print(f"provenance {told['provenance']}; {checked}", highlight=False, markup=False)


def show(out: Console, ready: Prepared, config: Config) -> None:
    """What would go where, and what the licences say."""
    files = Table(title=f"{ready.folder}: what would be published", title_justify="left")
    files.add_column("file")
    files.add_column("bytes", justify="right")
    for name, file in sorted(ready.table.items()):
        files.add_row(Text(name), f"{file.size:,}")
    out.print(files)
    if ready.findings:
        rules = Table(title="licences", title_justify="left")
        for heading in ("", "of", "licence", "what"):
            rules.add_column(heading)
        for finding in ready.findings:
            stops = finding in ready.stopping
            mark = "stops" if stops else "known" if finding.level != "note" else "done"
            what = f"{finding.what}\n→ {finding.fix}" if stops and finding.fix else finding.what
            rules.add_row(mark, Text(f"{finding.part} {finding.source}"), Text(finding.licence), Text(what))
        out.print(rules)
    if config.folder:
        way = f"it would be copied to {config.folder}, read back, loaded, and put in place"
    else:
        kind = "dataset" if config.dataset else "model"
        seen = "public once verified" if config.public else "private"
        way = (
            f"it would go to {config.to} ({kind}, {seen}): a pull request, downloaded"
            f" again, compared and loaded, then merged and tagged v{ready.provenance}"
        )
    out.print(f"provenance {ready.provenance}", highlight=False, markup=False)
    out.print(f"{way}; licences stop it" if ready.stopping else way, highlight=False, markup=False)
