"""The command line that starts the processes of a training job on one node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.errors import InputError
from distill.machine import children
from distill.planning.setup import Setup

PORT = 29500
"""Where the nodes find each other unless told otherwise, torchrun's own default."""


def command(
    setup: Setup,
    config: Path,
    program: Sequence[str],
    *,
    master: str | None = None,
    port: int | None = None,
    rank: int | str | None = None,
) -> list[str]:
    """`python -m accelerate.commands.launch …` for this node.

    The nodes of one job meet by torchrun's static rendezvous at `master:port`, the first node's: rank 0 is then on it,
    where the stage waits for the outcome. On one node a free port is taken, so that
    several jobs may share it.

    Args:
        config: the file of `files.accelerate_config`.
        program: what each process runs, such as `-m distill.training.sft.worker job.json`.
        rank: of this node, from 0; a shell variable will do where the line is only printed.

    Raises:
        InputError: several nodes, and master or rank is missing.
    """
    line = children.module_command("accelerate.commands.launch", "--config_file", str(config))
    if setup.nodes > 1:
        if master is None or rank is None:
            raise InputError(
                f"{setup.nodes} nodes must know where they meet and which of them this is",
                where="launch",
                fix="set DISTILL_MASTER to host:port of the first node and DISTILL_NODE_RANK to 0, 1, … on each",
            )
        line += ["--rdzv_backend", "static", "--machine_rank", str(rank)]
        line += ["--main_process_ip", master, "--main_process_port", str(port or PORT)]
    elif setup.processes > 1 or setup.zero:
        line += ["--main_process_port", str(port or 0)]
    return [*line, *program]
