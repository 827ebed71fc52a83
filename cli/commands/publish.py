"""`distill publish`: what would be published and what binds it, or doing it step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import RunOption

if TYPE_CHECKING:
    from rich.console import Console

    from distill.stages.publish import Config, Publication


def publish(
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="`org/name` on the Hub, or a folder: `./…`, `/…`.")],
    run: RunOption = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="The filtered traces instead of the student.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let all see it, once it is verified.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A=B", help="publish.accept=[LICENCE], publish.replace=true, …; repeat for more."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the exact folder to DIR/publish and stop.")] = False,
) -> None:
    """The student or its traces, with a card: staged, read back, compared, loaded, only then merged and tagged."""
    import logging

    from rich.console import Console

    from distill.errors import InputError
    from distill.progress import LOG
    from distill.run import Run
    from distill.settings import overrides
    from distill.stages import publish as stage

    run_folder = Run(run or Path("runs/r1-distill"))
    options = {"to": to, "dataset": dataset or None, "public": public or None}
    config = overrides.configure(stage.Config, "publish", options, set_ or ())
    if not run_folder.json.is_file():
        raise InputError(
            "is no run folder", where=str(run_folder.folder), fix="give --run, the folder of a finished run"
        )
    console = Console()
    if dry_run:
        _show(console, stage.prepare(run_folder, config), config)
        return
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    receipt = stage.run(run_folder, config, lambda step: LOG.info("publish: %s", step))
    console.print(receipt.line(), highlight=False, markup=False)
    if receipt.changed:
        verification = receipt.verified or "read back, equal; not loaded"
        console.print(f"provenance {receipt.provenance}; {verification}", highlight=False, markup=False)


def _show(console: Console, prepared: Publication, config: Config) -> None:
    """What would go where, and what the licences say."""
    from rich.table import Table
    from rich.text import Text

    file_table = Table(title=f"{prepared.folder}: what would be published", title_justify="left")
    file_table.add_column("file")
    file_table.add_column("bytes", justify="right")
    for name, file in sorted(prepared.table.items()):
        file_table.add_row(Text(name), f"{file.size:,}")
    console.print(file_table)
    if prepared.findings:
        licence_table = Table(title="licences", title_justify="left")
        for heading in ("", "of", "licence", "what"):
            licence_table.add_column(heading)
        for finding in prepared.findings:
            stops = finding in prepared.stopping
            mark = "done" if finding.level == "note" else "known"
            message = finding.message
            if stops:
                mark = "stops"
                if finding.fix:
                    message += f"\n→ {finding.fix}"
            licence_table.add_row(mark, Text(f"{finding.part} {finding.source}"), Text(finding.licence), Text(message))
        console.print(licence_table)
    if config.folder:
        destination = f"it would be copied to {config.folder}, read back, loaded, and put in place"
    else:
        kind = "dataset" if config.dataset else "model"
        visibility = "public once verified" if config.public else "private"
        destination = (
            f"it would go to {config.to} ({kind}, {visibility}): a pull request, downloaded"
            f" again, compared and loaded, then merged and tagged v{prepared.provenance}"
        )
    if prepared.stopping:
        destination += "; licences stop it"
    console.print(f"provenance {prepared.provenance}", highlight=False, markup=False)
    console.print(destination, highlight=False, markup=False)
