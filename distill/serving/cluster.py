"""Replicas on a Ray cluster: one actor each, which starts the vLLM server on its node and ends with it.

Why not Ray Serve LLM: it puts its own router between client and engines. A sampler that keeps the token ids, picks the
replica that still holds a prefix, reads each engine's `/metrics` and cancels single requests wants the engines
themselves; vLLM's own server as a process also runs in whatever vLLM version is installed, on a CPU too, and its death
takes no Ray worker with it.

A replica that fits on one node holds its GPUs through its actor. One that spans nodes is vLLM's Ray executor: the
server makes its own placement group of one-GPU bundles, packed (vLLM 0.32, `v1/executor/ray_utils.py`; a process does
not inherit its actor's group), so such an actor holds no GPU itself and only has to be on a node that has some.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from distill.errors import BackendError, InputError
from distill.machine import hardware
from distill.models.model import Model
from distill.serving import Serving
from distill.serving.fleet import Fleet
from distill.serving.layout import SMALL, Gpus, Layout, capacity, smallest_layout
from distill.serving.server_process import Server, claim_port, is_cpu_build, vllm_command

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_JOIN_TIMEOUT = 300.0  # seconds that the nodes of a cluster may take to come together
_ASK_TIMEOUT = 60.0  # seconds for a small question to a node
_STOP_TIMEOUT = 9.0  # seconds that an actor may take to stop its server


def connect(nodes: int = 1) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine; its logs stay out of ours.

    Waits some minutes for a cluster that has not got its `nodes` yet.

    Raises:
        InputError: Ray is not installed.
        BackendError: there is no cluster at that address, or too small a one.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "needs Ray, which is not installed", where="--on ray", fix="pip install 'distill[ray]'"
        ) from error
    deadline = time.monotonic()
    if nodes > 1:
        deadline += _JOIN_TIMEOUT
    while not ray.is_initialized():
        try:
            with _own_signals():
                ray.init(log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            if time.monotonic() > deadline:
                fix = "is RAY_ADDRESS right? `ray start --head` starts a cluster"
                message = f"no Ray cluster answers: {error}"
                raise BackendError(message, where=os.environ.get("RAY_ADDRESS"), fix=fix) from error
            time.sleep(2)
    while (alive_nodes := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > deadline:
            raise BackendError(f"the Ray cluster has {alive_nodes} of {nodes} nodes", fix="see the log of the others")
        time.sleep(2)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes TERM for itself (a stack dump, status 15); it ends work as cleanly as Ctrl-C here."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous_handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if in_main_thread:  # Python lets no other thread set it, and Ray does not either
            signal.signal(signal.SIGTERM, previous_handler)


def disconnect() -> None:
    import ray

    ray.shutdown()


def gpus() -> Gpus | None:
    """The cluster's GPU nodes, taken as alike: the smallest counts. None for a cluster without GPUs.

    Raises:
        BackendError: no node can tell how large its GPUs are.
    """
    import ray

    nodes = _gpu_nodes()
    if not nodes:
        return None
    remote_size = ray.remote(num_cpus=0)(_smallest_gpu)
    pending_sizes = [remote_size.options(scheduling_strategy=_pinned_to(node["NodeID"])).remote() for node in nodes]
    sizes = [size for size in ray.get(pending_sizes, timeout=_ASK_TIMEOUT) if size]
    if not sizes:
        raise BackendError(
            "no node of the cluster can tell how large its GPUs are", fix="is nvidia-smi installed there?"
        )
    return Gpus(
        per_node=min(int(node["Resources"]["GPU"]) for node in nodes), memory=float(min(sizes)), nodes=len(nodes)
    )


class _Node(TypedDict):
    """What is read of Ray's description of a node."""

    NodeID: str
    Alive: bool
    Resources: dict[str, float]


def _gpu_nodes() -> list[_Node]:
    import ray

    nodes: list[_Node] = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    return sorted(nodes, key=lambda node: str(node["NodeID"]))


def _smallest_gpu() -> int:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all GPUs from a task that asked for none
    return min(hardware.gpu_memory().values(), default=0)


def _pinned_to(node: str) -> NodeAffinitySchedulingStrategy:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def plan_replicas(model: Model, options: Serving, available: Gpus | None) -> tuple[Layout, int, Model]:
    """Layout, number of replicas, and the model with the arguments that the layout asks for.

    Raises:
        InputError: the cluster cannot hold one replica, or not as many as asked for.
    """
    configured = model.model_copy(update={"serve": {**model.serve, **options.serve}})
    if available is None:
        if (model.parameters or 0) > SMALL:
            raise InputError(f"{model.name} needs GPUs and no node of the cluster has any", where="--on ray")
        return Layout(), options.replicas or 1, configured
    layout = smallest_layout(configured, available)
    most_replicas = capacity(layout, available)
    if not most_replicas or (options.replicas or 0) > most_replicas:
        raise InputError(
            f"{options.replicas or 1} replicas of {model.name} ({layout.description} each) do not fit on "
            f"{available.nodes} nodes with {available.per_node} GPUs each",
            where="--on ray",
            fix=f"ask for at most {most_replicas}" if most_replicas else "add nodes to the cluster",
        )
    serve = layout.arguments()
    if layout.gpus > available.per_node:
        serve["distributed-executor-backend"] = "ray"
    serve |= configured.serve
    return layout, options.replicas or most_replicas, configured.model_copy(update={"serve": serve})


class Keeper:
    """The actor: runs one server on its node. When it dies, even by force, the server's guard ends the server."""

    def __init__(self, model: Model, port: int | None, options: Serving, log: str, spanning: bool) -> None:
        import ray

        cpu_build = is_cpu_build()
        env = {"VLLM_NO_USAGE_STATS": "1"}
        if cpu_build:  # Ray sets OMP_NUM_THREADS to the actor's CPUs; it does not say which cores are ours
            env |= {"VLLM_CPU_KVCACHE_SPACE": str(options.cpu_cache), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if spanning:  # Ray gave this actor no GPU and hides them all; the executor's workers get theirs from Ray
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            env["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        host = str(ray.util.get_node_ip_address())
        port = claim_port(port)
        self._url = f"http://{host}:{port}"
        self._server = Server(vllm_command(model, port, cpu_build, host), env, Path(log))

    def report(self) -> tuple[str, bool, str]:
        """Address, whether the server process lives, and if not why."""
        if self._server.alive:
            return self._url, True, ""
        return self._url, False, self._server.last_words()

    def stop(self) -> None:
        self._server.stop()


class RayReplica:
    """One server somewhere on the cluster; implements `Replica`."""

    def __init__(
        self, index: int, model: Model, layout: Layout, options: Serving, available: Gpus | None, logs: Path
    ) -> None:
        self.name = f"replica {index}"
        self._index = index
        self._model = model
        self._layout = layout
        self._options = options
        self._available = available
        self._log = str(logs.absolute() / (f"vllm-{index}.log" if index else "vllm.log"))
        self._port = options.port + index if options.port else None
        self._actor: ActorHandle | None = None
        self._pending_report: ObjectRef | None = None
        self._last_report: tuple[str | None, bool, str] = (None, True, "waiting for a node with free resources")

    def start(self) -> None:
        import ray

        actor = ray.remote(Keeper).options(
            **self._resources(),
            # Ray kills the children of a dying worker: the guard would be gone before it could end the server's group
            runtime_env={"env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"}},
        )
        self._actor = actor.remote(self._model, self._port, self._options, self._log, self._spanning)
        self._pending_report = self._actor.report.remote()
        self._last_report = (None, True, "waiting for a node with free resources")

    @property
    def _spanning(self) -> bool:
        return self._available is not None and self._layout.gpus > self._available.per_node

    def _resources(self) -> dict[str, object]:
        if self._available is None:
            return {"num_cpus": self._options.cpus, "scheduling_strategy": "SPREAD"}
        if not self._spanning:
            return {"num_cpus": 1, "num_gpus": self._layout.gpus}
        nodes = _gpu_nodes()
        if not nodes:
            raise BackendError("the cluster has no GPU node left", fix="add nodes; finished traces are saved")
        node_index = self._index * self._layout.nodes(self._available.per_node) % len(nodes)
        return {"num_cpus": 1, "num_gpus": 0, "scheduling_strategy": _pinned_to(nodes[node_index]["NodeID"])}

    @property
    def url(self) -> str | None:
        return self._report()[0]

    @property
    def alive(self) -> bool:
        return self._report()[1]

    def last_words(self) -> str:
        return self._last_report[2]

    def _report(self) -> tuple[str | None, bool, str]:
        """The actor's last report; asks for the next one when it has come."""
        import ray
        from ray.exceptions import RayError

        actor = self._actor
        if actor is not None and ray.wait([self._pending_report], timeout=0)[0]:
            try:
                self._last_report = ray.get(self._pending_report)
                self._pending_report = actor.report.remote()
            except RayError as error:
                self._last_report = (None, False, _first_line(error))
                self._actor = None
        return self._last_report

    def stop(self) -> None:
        import ray
        from ray.exceptions import RayError

        actor = self._actor
        self._actor = None
        if actor is None:
            return
        try:
            if self._last_report[0] is not None:
                ray.get(actor.stop.remote(), timeout=_STOP_TIMEOUT)
            ray.kill(actor)
        except RayError:  # the node is gone, and the server with it
            return


def _first_line(error: Exception) -> str:
    """The first telling line of Ray's report: an error of the actor itself says more than Ray's wrapping."""
    cause = getattr(error, "cause", None)
    text = str(cause or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def fleet(
    model: Model, options: Serving, logs: Path, on_change: Callable[[tuple[str, ...]], None] | None = None
) -> Fleet:
    """Replicas of `model` on the connected cluster, not started yet.

    Each node needs this environment, and `logs` if its logs are to be read in one place.
    """
    available = gpus()
    layout, replicas, configured = plan_replicas(model, options, available)
    ray_replicas = [RayReplica(index, configured, layout, options, available, logs) for index in range(replicas)]
    return Fleet(ray_replicas, options.restarts, options.start_timeout, on_change)
