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
from distill.endpoints.address_file import EndpointsFile
from distill.errors import BackendError, InputError, from_validation, suggest, writing
from distill.machine.slurm import Slurm
from distill.machine.slurm import submit as submit_script
from distill.models import presets
from distill.models.model import Model
from distill.progress import LOG
from distill.serving import Serving, cluster, local, slurm
from distill.serving.fleet import Fleet
from distill.serving.layout import Layout, advice
from distill.serving.server_process import vllm_command

LAUNCHERS = ("here", "ray", "slurm")
OUT = Console()


class ServeRequest(NamedTuple):
    """What the command line asked for."""

    teacher: str
    launcher: str
    folder: Path
    """The run folder: logs, the endpoints file, the batch script."""
    endpoints: Path
    changes: list[str]


def execute(
    teacher: str,
    launcher: str,
    run: Path | None,
    endpoints: Path | None,
    option_changes: dict[str, Any],
    changes: list[str],
    dry_run: bool,
    submit: bool,
) -> None:
    if launcher not in LAUNCHERS:
        raise InputError(f"cannot serve on {launcher!r}", where="--on", fix=suggest(launcher, LAUNCHERS))
    preset = presets.teacher(teacher)
    folder = run or Path("runs") / preset.recipe
    request = ServeRequest(teacher, launcher, folder, (endpoints or folder / "endpoints.txt").absolute(), changes)
    options, batch = _options(option_changes, changes)
    model = presets.as_model(preset)
    _log_to_screen()
    if launcher == "slurm":
        _write_script(request, model, options, batch, dry_run, submit)
    elif dry_run:
        _show_plan(request, model, options)
    else:
        _serve(request, model, options)


def _options(option_changes: dict[str, Any], changes: list[str]) -> tuple[Serving, Slurm]:
    """`--set serve.X=…` is an argument of vLLM, `--set slurm.X=…` of the batch script, the rest of ours."""
    raw: dict[str, Any] = {**option_changes, "serve": {}}
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
        if not dot:
            raw[name] = value
        elif group == "serve":
            raw["serve"][key] = value
        else:
            batch[key] = value
    try:
        return Serving.model_validate(raw), Slurm.model_validate(batch)
    except ValidationError as error:
        model_class = Slurm if error.title == "Slurm" else Serving
        input_error = from_validation(error, "--set", "slurm" if model_class is Slurm else "")
        unknown = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
        fix = suggest(unknown[0], model_class.model_fields) if unknown else None
        raise InputError(input_error.message, where="--set", fix=fix) from error


def _show_plan(request: ServeRequest, model: Model, options: Serving) -> None:
    """The exact commands, without starting anything (but a Ray cluster of one's own, to see what it would have)."""
    if request.launcher == "ray":
        cluster.connect(options.nodes)
        try:
            gpus = cluster.gpus()
            layout, replicas, sized = cluster.plan_replicas(model, options, gpus)
        finally:
            cluster.disconnect()
        _headline(model, layout, replicas, request.launcher)
        line = shlex.join(vllm_command(sized, options.port or 0, gpus is None, "NODE"))
        OUT.print(f"  {replicas} × {line}", highlight=False, markup=False, soft_wrap=True)
        OUT.print("  on each node its own address; port 0 stands for a free one", highlight=False)
    else:
        layout, launches = local.plan(model, options)
        _headline(model, layout, len(launches), request.launcher)
        for launch in launches:
            env = " ".join(f"{name}={shlex.quote(value)}" for name, value in launch.env.items())
            OUT.print(f"  {env} {shlex.join(launch.command)}", highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"  endpoints into {request.endpoints}", highlight=False, markup=False, soft_wrap=True)


def _headline(model: Model, layout: Layout, replicas: int, launcher: str) -> None:
    headline = f"{model.name}: {replicas} replica{'s' * (replicas > 1)}, {layout.description} each, on {launcher}"
    if layout.gpus == 1:
        headline = headline.replace("one GPU each, ", "")
    OUT.print(headline, highlight=False, markup=False)
    if hint := advice(model, layout):
        OUT.print(f"  {hint}", highlight=False, markup=False)


def _serve(request: ServeRequest, model: Model, options: Serving) -> None:
    """Start, announce, watch; ends by Ctrl-C or TERM, or when no replica is left.

    Raises:
        BackendError: all replicas are dead for good.
    """
    file = EndpointsFile(request.endpoints)
    logs = request.folder / "serve" / re.sub(r"\W+", "-", file.owner.removesuffix(f":{os.getpid()}"))
    fleet: Fleet | None = None
    try:
        if request.launcher == "ray":
            cluster.connect(options.nodes)
            fleet = cluster.fleet(model, options, logs, file.put)
        else:
            fleet = local.fleet(model, options, logs, file.put)
        file.put(())
        LOG.info("%s: starting %d replica(s) on %s; logs in %s", model.name, fleet.size, request.launcher, logs)
        fleet.start()
        _watch(request, fleet)
    except KeyboardInterrupt:
        LOG.info("stopping")
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave half of them behind
            signal.signal(signal_number, signal.SIG_IGN)
        file.put(())
        if fleet:
            fleet.stop()
        if request.launcher == "ray":
            cluster.disconnect()
    LOG.info("stopped")


def _watch(request: ServeRequest, fleet: Fleet) -> None:
    announced = 0
    while fleet.alive:
        if len(fleet.urls()) > announced:
            announced = len(fleet.urls())
            _announce(request, fleet.urls(), fleet.size)
        time.sleep(0.2)
    raise BackendError(f"no replica is left: {fleet.last_words()}", fix="see the log named above")


def _announce(request: ServeRequest, urls: tuple[str, ...], size: int) -> None:
    OUT.print(f"{len(urls)} of {size} serving:", highlight=False)
    for url in urls:
        OUT.print(f"  {url}", highlight=False, markup=False)
    generate = ["distill", "generate", "--teacher", request.teacher]
    endpoint_options = [part for url in urls for part in ("--endpoint", url)]
    OUT.print(f"sample it: {shlex.join([*generate, *endpoint_options])}", highlight=False, markup=False, soft_wrap=True)
    file_options = (
        f"--set generate.backend.kind=vllm --set generate.backend.endpoints_file={shlex.quote(str(request.endpoints))}"
    )
    OUT.print(
        f"or, as servers come and go: {shlex.join(generate)} {file_options}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _write_script(
    request: ServeRequest, model: Model, options: Serving, batch: Slurm, dry_run: bool, submit: bool
) -> None:
    """DIR/serve.sbatch, and the line that submits it."""
    job = slurm.plan_array(model, options, batch)
    text = slurm.script(job, model.name, _task_command(request, job, options), batch, request.folder)
    _headline(model, job.layout, job.replicas * job.tasks, request.launcher)
    tasks = f"{job.tasks} job{'s' * (job.tasks > 1)} of {job.nodes} node{'s' * (job.nodes > 1)} × {job.gpus} GPUs"
    OUT.print(f"  {tasks}, {job.replicas} replica{'s' * (job.replicas > 1)} in each", highlight=False, markup=False)
    if dry_run:
        OUT.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    path = request.folder / "serve.sbatch"
    with writing(path):
        request.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    line = shlex.join(["sbatch", str(path)])
    OUT.print(f"written: {path}\nsubmit it: {line}", highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"endpoints will be in {request.endpoints}", highlight=False, markup=False, soft_wrap=True)
    if submit:
        OUT.print(f"submitted: job {submit_script(path)}", highlight=False, markup=False)


def _task_command(request: ServeRequest, job: slurm.JobArray, options: Serving) -> list[str]:
    """The `distill serve` that each task runs."""
    command = [sys.executable, "-m", "distill.cli", "serve", "--teacher", _absolute_preset(request.teacher)]
    command += ["--on", "ray" if job.nodes > 1 else "here", "--replicas", str(job.replicas), "--port", "0"]
    command += ["--host", "0.0.0.0"]  # noqa: S104
    command += ["--run", str(request.folder.absolute()), "--endpoints-file", str(request.endpoints)]
    changes = [change for change in request.changes if not change.startswith("slurm.")]
    if job.nodes > 1:
        changes.append(f"nodes={job.nodes}")
    return [*command, *(part for change in changes for part in ("--set", change))]


def _absolute_preset(ref: str) -> str:
    if Path(ref).exists():
        return str(Path(ref).absolute())
    return ref


def _log_to_screen() -> None:
    LOG.setLevel(logging.INFO)
    LOG.handlers.clear()
    LOG.addHandler(RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False))
