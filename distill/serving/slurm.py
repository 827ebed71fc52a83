"""The batch script that serves a model on a slurm cluster: recipes/slurm/serve.sbatch, filled in.

One array task is one job of its own: it holds one node with as many replicas as fit, or, for a replica that spans
nodes, that replica's nodes with a Ray cluster on them. So replicas start as soon as each finds room, come and go by
themselves in the shared endpoints file, and one that is preempted is queued again alone.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.errors import InputError
from distill.machine.slurm import Slurm, directives, fill
from distill.models.model import Model
from distill.serving import Serving
from distill.serving.layout import Gpus, Layout, capacity, smallest_layout
from distill.serving.request import ServeRequest
from distill.types import Record

_MOST_NODES = 16  # for one replica


class JobArray(Record):
    """The shape of the array."""

    layout: Layout
    nodes: int
    """Nodes of each task."""
    gpus: int
    """GPUs taken of each node."""
    replicas: int
    """Replicas in each task."""
    tasks: int


def plan_array(model: Model, options: Serving, cluster: Slurm) -> JobArray:
    """How many tasks of how many nodes.

    Raises:
        InputError: the model does not fit on 16 such nodes, or the settings are for a stage's job.
    """
    if misplaced := cluster.model_fields_set & {"nodes", "stages", "cpus"}:
        raise InputError(
            f"is for the jobs of `distill run`: {', '.join(sorted(misplaced))}",
            where="--set slurm",
            fix="leave it out; the model decides how many nodes a replica takes",
        )
    configured = model.model_copy(update={"serve": {**model.serve, **options.serve}})
    if not cluster.gpus_per_node:
        raise InputError("servers need GPUs", where="slurm.gpus_per_node", fix="how many each node has")
    node = Gpus(per_node=cluster.gpus_per_node, memory=cluster.gpu_memory * (1 << 30), nodes=_MOST_NODES)
    layout = smallest_layout(configured, node)
    nodes = layout.nodes(node.per_node)
    most_per_task = 1 if nodes > 1 else capacity(layout, node.model_copy(update={"nodes": 1}))
    replicas = options.replicas or most_per_task
    per_task = max(n for n in range(1, most_per_task + 1) if replicas % n == 0)
    gpus = node.per_node if nodes > 1 else per_task * layout.gpus
    return JobArray(layout=layout, nodes=nodes, gpus=gpus, replicas=per_task, tasks=replicas // per_task)


def request_script(request: ServeRequest) -> tuple[JobArray, str]:
    """The array that serves a teacher, and its sbatch file.

    Raises:
        InputError: as `plan_array`.
    """
    job = plan_array(request.model, request.options, request.cluster)
    return job, script(job, request.model.name, _task_command(request, job), request.cluster, request.folder)


def _task_command(request: ServeRequest, job: JobArray) -> list[str]:
    """The `distill serve` that each task runs."""
    teacher = request.teacher
    if Path(teacher).exists():
        teacher = str(Path(teacher).absolute())
    command = [sys.executable, "-m", "distill.cli", "serve", "--teacher", teacher]
    command += ["--on", "ray" if job.nodes > 1 else "here", "--replicas", str(job.replicas), "--port", "0"]
    command += ["--host", "0.0.0.0"]  # noqa: S104
    command += ["--run", str(request.folder.absolute()), "--endpoints-file", str(request.endpoints)]
    changes = [change for change in request.changes if not change.startswith("slurm.")]
    if job.nodes > 1:
        changes.append(f"nodes={job.nodes}")
    return [*command, *(part for change in changes for part in ("--set", change))]


def script(job: JobArray, name: str, command: Sequence[str], cluster: Slurm, logs: Path) -> str:
    """The sbatch file; `command` is what each task runs, `distill serve …`."""
    array_option = [f"--array=0-{job.tasks - 1}"]
    return fill(
        "serve",
        cluster,
        title=f"Serves {name}: {job.tasks} × {job.replicas} replicas, {job.layout.description} each.",
        directives=directives(
            f"serve-{name}",
            cluster,
            logs.absolute() / "slurm-%A_%a.log",
            nodes=job.nodes,
            gpus=job.gpus,
            extra_options=array_option,
        ),
        nodes=job.nodes,
        gpus=job.gpus,
        python=shlex.quote(sys.executable),
        command=shlex.join(command),
        renewals=cluster.renewals or 0,
    )
