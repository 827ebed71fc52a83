"""Starts a teacher: how many GPUs each replica takes, the replicas themselves (here, on Ray), their endpoints, sbatch.

`request` is what is asked for, `keeping` plans it and keeps it up; `layout` decides parallel sizes; `local` and
`cluster` plan and start replicas as a `fleet`, which watches them; `server_process` starts one server; `slurm` makes a
batch script that runs `distill serve`.
"""

from __future__ import annotations

from pydantic import Field

from distill.types import Record


class Serving(Record):
    """How a model is served, wherever that is."""

    replicas: int | None = Field(None, ge=1)
    """Servers, each a whole copy of the model; None: as many as the GPUs hold, one on a CPU."""
    host: str = "127.0.0.1"
    """Address that the servers here listen on; 0.0.0.0 lets other machines in. Ray's replicas use their node's."""
    port: int | None = Field(None, ge=1, le=65535)
    """The first replica's port, the next one's is one higher; None takes free ones."""
    start_timeout: float = Field(3600, gt=0)
    """Seconds that a server may take to load the model."""
    restarts: int = Field(3, ge=0)
    """How often in a row a replica that died is started again; ten healthy minutes end the row."""
    cpu_cache: int = Field(1, ge=1)
    """Key-value cache of each server, GiB, on a CPU build of vLLM."""
    cpus: int = Field(1, ge=1)
    """CPUs that each replica is given on a Ray cluster without GPUs."""
    nodes: int = Field(1, ge=1)
    """Nodes of a Ray cluster to wait for before anything is placed on it."""
    serve: dict[str, object] = {}
    """Further arguments of `vllm serve`, by name without dashes; they go before the preset's."""
