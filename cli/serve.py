"""`distill serve`: starts a teacher, says where it answers, and keeps it up until it is told to stop."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler

from distill import resources
from distill.backends import Model
from distill.endpoints.address_file import EndpointsFile
from distill.errors import BackendError, InputError, from_validation, suggest, writing
from distill.machine.slurm import Slurm
from distill.machine.slurm import submit as submit_script
from distill.models import presets
from distill.progress import LOG
from distill.serving import Serving, cluster, local, slurm
from distill.serving.fleet import Fleet
from distill.serving.layout import Layout, advice
from distill.serving.server_process import vllm_command

PLACES = ("here", "ray", "slurm")
OUT = Console()


class Wish(NamedTuple):
    """What the command line asked for."""

    teacher: str
    on: str
    folder: Path
    """The run folder: logs, the endpoints file, the batch script."""
    endpoints: Path
    changes: list[str]


def execute(
    teacher: str,
    on: str,
    run: Path | None,
    endpoints: Path | None,
    named: dict[str, Any],
    changes: list[str],
    dry_run: bool,
    submit: bool,
) -> None:
    if on not in PLACES:
        raise InputError(f"cannot serve on {on!r}", where="--on", fix=suggest(on, PLACES))
    preset = presets.teacher(teacher)
    folder = run or Path("runs") / preset.recipe
    wish = Wish(teacher, on, folder, (endpoints or folder / "endpoints.txt").absolute(), changes)
    options, batch = _options(named, changes)
    model = presets.as_model(preset)
    _log_to_screen()
    if on == "slurm":
        _write_script(wish, model, options, batch, dry_run, submit)
    elif dry_run:
        _show_plan(wish, model, options)
    else:
        _serve(wish, model, options)


def _options(named: dict[str, Any], changes: list[str]) -> tuple[Serving, Slurm]:
    """`--set serve.X=…` is an argument of vLLM, `--set slurm.X=…` of the batch script, the rest of ours."""
    raw: dict[str, Any] = {**named, "serve": {}}
    batch: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise InputError(f"--set {change!r} is not of the form name=value")
        try:
            value = resources.parse(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {name}: the value {text!r} is not YAML") from error
        group, dot, key = name.partition(".")
        if dot and group not in ("serve", "slurm"):
            raise InputError(f"--set {name}: no such group", fix="serve.ARGUMENT, slurm.OPTION, or one of ours")
        ({"serve": raw["serve"], "slurm": batch}[group] if dot else raw)[key if dot else name] = value
    try:
        return Serving.model_validate(raw), Slurm.model_validate(batch)
    except ValidationError as error:
        kind = Slurm if error.title == "Slurm" else Serving
        bad = from_validation(error, "--set", "slurm" if kind is Slurm else "")
        unknown = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
        raise InputError(
            bad.what, where="--set", fix=suggest(unknown[0], kind.model_fields) if unknown else None
        ) from error


def _show_plan(wish: Wish, model: Model, options: Serving) -> None:
    """The exact commands, without starting anything (but a Ray cluster of one's own, to see what it would have)."""
    if wish.on == "ray":
        cluster.connect(options.nodes)
        try:
            found = cluster.gpus()
            layout, replicas, sized = cluster.place(model, options, found)
        finally:
            cluster.disconnect()
        _headline(model, layout, replicas, wish.on)
        line = shlex.join(vllm_command(sized, options.port or 0, found is None, "NODE"))
        OUT.print(f"  {replicas} × {line}", highlight=False, markup=False, soft_wrap=True)
        OUT.print("  on each node its own address; port 0 stands for a free one", highlight=False)
    else:
        layout, launches = local.plan(model, options)
        _headline(model, layout, len(launches), wish.on)
        for launch in launches:
            env = " ".join(f"{name}={shlex.quote(value)}" for name, value in launch.env.items())
            OUT.print(f"  {env} {shlex.join(launch.command)}", highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"  endpoints into {wish.endpoints}", highlight=False, markup=False, soft_wrap=True)


def _headline(model: Model, layout: Layout, replicas: int, on: str) -> None:
    what = f"{model.name}: {replicas} replica{'s' * (replicas > 1)}, {layout.words} each, on {on}"
    OUT.print(what.replace("one GPU each, ", "") if layout.gpus == 1 else what, highlight=False, markup=False)
    if hint := advice(model, layout):
        OUT.print(f"  {hint}", highlight=False, markup=False)


def _serve(wish: Wish, model: Model, options: Serving) -> None:
    """Start, announce, watch; ends by Ctrl-C or TERM, or when no replica is left.

    Raises:
        BackendError: all replicas are dead for good.
    """
    file = EndpointsFile(wish.endpoints)
    logs = wish.folder / "serve" / re.sub(r"\W+", "-", file.owner.removesuffix(f":{os.getpid()}"))
    fleet: Fleet | None = None
    try:
        if wish.on == "ray":
            cluster.connect(options.nodes)
            fleet = cluster.fleet(model, options, logs, file.put)
        else:
            fleet = local.fleet(model, options, logs, file.put)
        file.put(())
        LOG.info("%s: starting %d replica(s) on %s; logs in %s", model.name, fleet.size, wish.on, logs)
        fleet.start()
        _watch(wish, fleet)
    except KeyboardInterrupt:
        LOG.info("stopping")
    finally:
        for kind in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave half of them behind
            signal.signal(kind, signal.SIG_IGN)
        file.put(())
        if fleet:
            fleet.stop()
        if wish.on == "ray":
            cluster.disconnect()
    LOG.info("stopped")


def _watch(wish: Wish, fleet: Fleet) -> None:
    told = 0
    while fleet.alive:
        if len(fleet.urls()) > told:
            told = len(fleet.urls())
            _announce(wish, fleet.urls(), fleet.size)
        time.sleep(0.2)
    raise BackendError(f"no replica is left: {fleet.last_words()}", fix="see the log named above")


def _announce(wish: Wish, urls: tuple[str, ...], size: int) -> None:
    OUT.print(f"{len(urls)} of {size} serving:", highlight=False)
    for url in urls:
        OUT.print(f"  {url}", highlight=False, markup=False)
    generate = ["distill", "generate", "--teacher", wish.teacher]
    fixed = [word for url in urls for word in ("--endpoint", url)]
    OUT.print(f"sample it: {shlex.join([*generate, *fixed])}", highlight=False, markup=False, soft_wrap=True)
    followed = (
        f"--set generate.backend.kind=vllm --set generate.backend.endpoints_file={shlex.quote(str(wish.endpoints))}"
    )
    OUT.print(
        f"or, as servers come and go: {shlex.join(generate)} {followed}", markup=False, highlight=False, soft_wrap=True
    )


def _write_script(wish: Wish, model: Model, options: Serving, batch: Slurm, dry_run: bool, submit: bool) -> None:
    """DIR/serve.sbatch, and the line that submits it."""
    job = slurm.shape(model, options, batch)
    text = slurm.script(job, model.name, _inner(wish, job, options), batch, wish.folder)
    _headline(model, job.layout, job.replicas * job.tasks, wish.on)
    tasks = f"{job.tasks} job{'s' * (job.tasks > 1)} of {job.nodes} node{'s' * (job.nodes > 1)} × {job.gpus} GPUs"
    OUT.print(f"  {tasks}, {job.replicas} replica{'s' * (job.replicas > 1)} in each", highlight=False, markup=False)
    if dry_run:
        OUT.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    path = wish.folder / "serve.sbatch"
    with writing(path):
        wish.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    line = shlex.join(["sbatch", str(path)])
    OUT.print(f"written: {path}\nsubmit it: {line}", highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"endpoints will be in {wish.endpoints}", highlight=False, markup=False, soft_wrap=True)
    if submit:
        OUT.print(f"submitted: job {submit_script(path)}", highlight=False, markup=False)


def _inner(wish: Wish, job: slurm.Job, options: Serving) -> list[str]:
    """The `distill serve` that each task runs."""
    command = [sys.executable, "-m", "distill.cli", "serve", "--teacher", _absolute(wish.teacher)]
    command += ["--on", "ray" if job.nodes > 1 else "here", "--replicas", str(job.replicas), "--port", "0"]
    command += ["--host", "0.0.0.0", "--run", str(wish.folder.absolute()), "--endpoints-file", str(wish.endpoints)]  # noqa: S104
    changes = [change for change in wish.changes if not change.startswith("slurm.")]
    changes += [f"nodes={job.nodes}"] if job.nodes > 1 else []
    return [*command, *(word for change in changes for word in ("--set", change))]


def _absolute(ref: str) -> str:
    return str(Path(ref).absolute()) if Path(ref).exists() else ref


def _log_to_screen() -> None:
    LOG.setLevel(logging.INFO)
    LOG.handlers.clear()
    LOG.addHandler(RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False))
