"""Serves a teacher here or on Ray: what would be started, and servers kept up until they are told to stop."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from distill.endpoints.address_file import EndpointsFile
from distill.errors import BackendError
from distill.progress import LOG
from distill.serving import cluster, local
from distill.serving.fleet import Fleet
from distill.serving.layout import Layout
from distill.serving.request import ServeRequest
from distill.serving.server_process import vllm_command

Announce = Callable[[tuple[str, ...], int], None]
"""Is told the addresses that answer, and how many there will be, whenever there is one more."""


class ServerCommand(NamedTuple):
    """A command line that would start servers."""

    env: dict[str, str]
    command: list[str]


class ServingPlan(NamedTuple):
    """What would be started."""

    layout: Layout
    replicas: int
    commands: list[ServerCommand]
    """One for each replica here; on Ray a single one, which each node completes with its own address."""


def plan(request: ServeRequest) -> ServingPlan:
    """What `serve` would start; starts nothing but a Ray cluster of one's own, to see what it would have.

    Raises:
        BackendError: vLLM is not installed, or no cluster answers.
        InputError: the model does not fit.
    """
    if request.launcher != "ray":
        layout, launches = local.plan(request.model, request.options)
        commands = [ServerCommand(launch.env, list(launch.command)) for launch in launches]
        return ServingPlan(layout, len(launches), commands)
    cluster.connect(request.options.nodes)
    try:
        gpus = cluster.gpus()
        layout, replicas, sized = cluster.plan_replicas(request.model, request.options, gpus)
    finally:
        cluster.disconnect()
    command = list(vllm_command(sized, request.options.port or 0, gpus is None, "NODE"))
    return ServingPlan(layout, replicas, [ServerCommand({}, command)])


def serve(request: ServeRequest, announce: Announce) -> None:
    """Start, announce, watch; ends by Ctrl-C or TERM, or when no replica is left. For the main thread only.

    Raises:
        BackendError: all replicas are dead for good.
    """
    file = EndpointsFile(request.endpoints)
    logs = request.folder / "serve" / re.sub(r"\W+", "-", file.owner.removesuffix(f":{os.getpid()}"))
    fleet: Fleet | None = None
    try:
        if request.launcher == "ray":
            cluster.connect(request.options.nodes)
            fleet = cluster.fleet(request.model, request.options, logs, file.put)
        else:
            fleet = local.fleet(request.model, request.options, logs, file.put)
        file.put(())
        LOG.info("%s: starting %d replica(s) on %s; logs in %s", request.model.name, fleet.size, request.launcher, logs)
        fleet.start()
        _watch(fleet, announce)
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


def _watch(fleet: Fleet, announce: Announce) -> None:
    announced = 0
    while fleet.alive:
        urls = fleet.urls()
        if len(urls) > announced:
            announced = len(urls)
            announce(urls, fleet.size)
        time.sleep(0.2)
    raise BackendError(f"no replica is left: {fleet.last_words()}", fix="see the log named above")
