"""What goes where on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.models.model import Model
from distill.serving import Serving
from distill.serving.cluster import plan_replicas
from distill.serving.layout import Gpus

GIB = 1 << 30
H100 = Gpus(per_node=8, memory=79.6 * GIB, nodes=4)
H200 = Gpus(per_node=8, memory=140.4 * GIB, nodes=4)


def teacher(name: str) -> Model:
    return presets.as_model(presets.teacher(name))


def test_a_replica_that_spans_nodes_uses_vllms_ray_executor() -> None:
    layout, replicas, model = plan_replicas(teacher("deepseek-r1"), Serving(), H100)
    assert (layout.tensor, layout.pipeline, replicas) == (8, 2, 2)
    assert model.serve == {
        "tensor-parallel-size": 8,
        "pipeline-parallel-size": 2,
        "distributed-executor-backend": "ray",
        "enable-expert-parallel": True,
    }
    layout, replicas, model = plan_replicas(teacher("deepseek-r1"), Serving(replicas=3), H200)
    assert (layout.tensor, layout.pipeline, replicas) == (8, 1, 3)
    assert "distributed-executor-backend" not in model.serve


def test_too_many_replicas_are_wrong_input() -> None:
    with pytest.raises(InputError, match=r"(?s)3 replicas of deepseek-r1 \(tensor 8 × pipeline 2 each\).*at most 2"):
        plan_replicas(teacher("deepseek-r1"), Serving(replicas=3), H100)
    with pytest.raises(InputError, match="no node of the cluster has any"):
        plan_replicas(teacher("qwq-32b"), Serving(), None)


def test_a_cluster_without_gpus_serves_small_models() -> None:
    _, replicas, model = plan_replicas(teacher("tiny"), Serving(serve={"max-num-seqs": 64}), None)
    assert replicas == 1
    assert model.serve == {"max-num-seqs": 64}


@pytest.mark.integration
@pytest.mark.enable_socket
def test_the_plan_for_r1_on_a_cluster_of_two_nodes(tmp_path: Path) -> None:
    """A real Ray cluster, whose nodes claim GPUs that an nvidia-smi of ours vouches for."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{i}, GPU-{i}, 81559'\n" for i in range(8)))
    tool.chmod(0o755)
    before, os.environ["PATH"] = os.environ["PATH"], f"{tmp_path}:{os.environ['PATH']}"
    try:
        args = {"num_cpus": 1, "num_gpus": 8, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=args)
        try:
            cluster.add_node(num_cpus=1, num_gpus=8)
            command = [
                sys.executable,
                "-m",
                "distill.cli",
                "serve",
                "--teacher",
                "deepseek-r1",
                "--on",
                "ray",
                "--dry-run",
            ]
            env = {**os.environ, "RAY_ADDRESS": cluster.address}
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        finally:
            cluster.shutdown()
    finally:
        os.environ["PATH"] = before
    assert done.returncode == 0, done.stderr
    assert "deepseek-r1: 1 replica, tensor 8 × pipeline 2 each, on ray" in done.stdout
    assert "--tensor-parallel-size 8 --pipeline-parallel-size 2 --distributed-executor-backend ray" in done.stdout
