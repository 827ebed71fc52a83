"""Batch jobs on a slurm cluster: what its scheduler wants to know, the scripts of recipes/slurm filled in, and sbatch.

A stage's job runs `distill STAGE --run DIR --here` on its nodes. Some time before the job's limit, or when it is
preempted, the stage is told to stop (TERM). Then the job queues itself again until the stage is finished, which
`distill is-done STAGE --run DIR` tells from the run folder: the exit status of a stage that was told to stop does not.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

from pydantic import Field, ValidationError, field_validator

from distill import resources
from distill.errors import InputError, RunError, from_validation, suggest
from distill.types import Record

_MULTI_NODE_STAGES = ("sft",)
"""Stages that start one launcher on each of several nodes; the others are one process tree."""
_CPU_STAGES = ("filter",)
_RENEWALS = 8


class Slurm(Record):
    """The cluster's hardware and what its scheduler wants to know. What is left out stays with sbatch's own flags."""

    nodes: int = Field(1, ge=1)
    """Nodes for training; every other stage takes one, and `distill serve` as many as the model needs."""
    gpus_per_node: int = Field(8, ge=0)
    """GPUs of each node; 0 for a job on CPUs. `filter` takes none, nor does a generate whose teacher is served
    elsewhere."""
    gpu_memory: float = Field(80, gt=0)
    """Memory of one GPU in GiB."""
    cpus_per_gpu: int = Field(8, ge=1)
    """CPUs that a job asks for with each GPU."""
    cpus: int = Field(16, ge=1)
    """CPUs of a job without GPUs."""
    partition: str | None = None
    """Partition that jobs are submitted to; None leaves it to sbatch."""
    account: str | None = None
    """Account that jobs are charged to; None leaves it to sbatch."""
    time: str | None = None
    """Wall-clock limit of a job as sbatch writes it, such as `"12:00:00"`; None leaves it to sbatch."""
    notice: int = Field(120, ge=15)
    """Seconds before the limit at which the job is told to stop: as long as a checkpoint of the student takes."""
    renewals: int | None = Field(None, ge=0)
    """Times that a job that was told to stop queues itself again; None: 8 for a stage, which ends by itself once it is
    finished, and 0 for servers, which do not. `scancel` ends it for good."""
    sbatch: tuple[str, ...] = ()
    """Further `#SBATCH` options, such as `--mem=0`."""
    setup: tuple[str, ...] = ()
    """Shell lines before all else, such as `module load cuda`."""
    stages: dict[str, dict[str, object]] = {}
    """Settings that are different for one stage, by its name, such as `sft: {nodes: 4}`."""

    @field_validator("time", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError("write it in quotes, as '12:00:00': YAML reads it as a number")
        return value

    @field_validator("partition", "account", "time")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value and "\n" in value:
            raise ValueError("holds a line break")
        return value

    @field_validator("sbatch", "setup")
    @classmethod
    def _lines(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        if broken := [line for line in lines if "\n" in line]:
            raise ValueError(f"one line each, without a line break: {broken[0]!r}")
        return lines

    def for_stage(self, stage: str, served: bool = False) -> Slurm:
        """The settings of one stage's job.

        Args:
            served: the stage's model answers elsewhere.

        Raises:
            InputError: what `stages` says of it is wrong.
        """
        overrides = self.stages.get(stage, {})
        location = f"slurm.stages.{stage}"
        if unknown := overrides.keys() - (Slurm.model_fields.keys() - {"stages"}):
            name = sorted(unknown)[0]
            raise InputError(f"{location}.{name}: no such field", fix=suggest(name, Slurm.model_fields))
        stage_defaults: dict[str, int] = {}
        if stage not in _MULTI_NODE_STAGES:
            stage_defaults["nodes"] = 1
        if stage in _CPU_STAGES or served:
            stage_defaults["gpus_per_node"] = 0
        try:
            settings = Slurm.model_validate({**self.model_dump(exclude={"stages"}), **stage_defaults, **overrides})
        except ValidationError as error:
            raise from_validation(error, location, config=Slurm) from error
        if settings.nodes > 1 and stage not in _MULTI_NODE_STAGES:
            fix = f"leave it out; only {', '.join(_MULTI_NODE_STAGES)} takes several"
            if stage == "generate":
                fix = "serve the teacher on more nodes with `distill serve --on slurm`"
            raise InputError(f"{stage} runs on one node, not {settings.nodes}", where=f"{location}.nodes", fix=fix)
        return settings


def fill(script: str, cluster: Slurm, *, title: str, directives: Sequence[str], **values: object) -> str:
    """A script of recipes/slurm as text.

    Raises:
        InputError: a value holds a line break.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(resources.folder("recipes") / "slurm"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - shell, not HTML
    )
    for text in (title, *directives):
        if "\n" in text:
            raise InputError(f"holds a line break: {text!r}", where="the batch script")
    return (
        environment.get_template(f"{script}.sbatch").render(
            setup=cluster.setup, title=title, directives=directives, **values
        )
        + "\n"
    )


def directives(
    name: str, cluster: Slurm, output: PurePath, *, nodes: int, gpus: int, extra_options: Sequence[str] = ()
) -> list[str]:
    """The `#SBATCH` options of a job.

    Args:
        output: absolute path of its log; sbatch fills in `%j` and the like in its name.
        gpus: per node.
        extra_options: further options, before the user's own, of which sbatch takes the last.
    """
    scheduler_options = {"partition": cluster.partition, "account": cluster.account, "time": cluster.time}
    if gpus:
        processors = [f"--gpus-per-node={gpus}", f"--cpus-per-gpu={cluster.cpus_per_gpu}"]
    else:
        processors = [f"--cpus-per-task={cluster.cpus}"]
    return [
        f"--job-name={name}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        *processors,
        f"--output={quoted(output.parent)}/{output.name}",
        "--open-mode=append",
        f"--signal=B:TERM@{cluster.notice}",
        "--requeue",
        *(f"--{option}={value}" for option, value in scheduler_options.items() if value),
        *extra_options,
        *cluster.sbatch,
    ]


def quoted(folder: PurePath) -> str:
    """A path in a directive, in which sbatch would fill in what follows a `%`."""
    return shlex.quote(str(folder).replace("%", "%%"))


def stage_script(
    stage: str, name: str, folder: Path, job: Slurm, *, prefix: Sequence[str] = (), python: str = sys.executable
) -> str:
    """The sbatch file of one stage.

    Args:
        name: the recipe's.
        folder: the run folder.
        job: `Slurm.for_stage(stage)`.
        prefix: the stage's own launcher; one that begins with `srun` takes the place of ours.
        python: its interpreter.
    """
    folder = folder.absolute()
    command = [python, "-m", "distill.cli", stage, "--run", str(folder), "--here"]
    job_name = "--job-name=distill"  # by which the script finds the step that it tells to stop
    if prefix and PurePath(prefix[0]).name == "srun":
        launcher = [prefix[0], job_name, *prefix[1:]]
    else:
        # when one node's part has ended, the others get ten minutes to notice it
        spread = ["--ntasks-per-node=1", "--wait=600"] if job.nodes > 1 else []
        launcher = ["srun", job_name, f"--nodes={job.nodes}", f"--ntasks={job.nodes}", *spread, "--cpu-bind=none"]
        command = [*prefix, *command]
    # the check runs in this environment, which has just written the script; the stage's own may be a container
    is_done = (sys.executable, "-m", "distill.cli", "is-done", stage, "--run", str(folder))
    return fill(
        "stage",
        job,
        title=f"distill {stage} of {name}",
        directives=directives(
            f"{name}-{stage}",
            job,
            folder / "slurm" / f"{stage}-%j.log",
            nodes=job.nodes,
            gpus=job.gpus_per_node,
            extra_options=[f"--chdir={shlex.quote(str(Path.cwd()))}"],  # a recipe's paths may be relative
        ),
        renewals=_RENEWALS if job.renewals is None else job.renewals,
        stage=stage,
        nodes=job.nodes,
        launcher=shlex.join(launcher),
        command=shlex.join(command),
        check=shlex.join(is_done),
    )


def sbatch(path: Path, after_job: str | None = None) -> list[str]:
    """The command that submits a script.

    Args:
        after_job: id of a job that has to end well before; if it does not, this one is cancelled.
    """
    if after_job:
        dependency = [f"--dependency=afterok:{after_job}", "--kill-on-invalid-dep=yes"]
        return ["sbatch", "--parsable", *dependency, str(path)]
    return ["sbatch", "--parsable", str(path)]


def submit(path: Path, after_job: str | None = None) -> str:
    """Give a script to sbatch and return the job's id; the job runs once job `after_job` has ended well.

    Raises:
        InputError: there is no sbatch.
        RunError: it refuses.
    """
    try:
        output = subprocess.run(sbatch(path, after_job), check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise InputError("there is no `sbatch` here", where="--submit", fix="submit it on a login node") from error
    except subprocess.CalledProcessError as error:
        raise RunError(f"sbatch refused: {error.stderr.strip()}", where=str(path)) from error
    return output.strip().partition(";")[0]  # `id;cluster` in a federation
