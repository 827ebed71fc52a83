"""Starts a job's processes, passes on what they tell, and asks them to stop when this one is told to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from distill.errors import InputError, RunError, Stopped
from distill.machine import children
from distill.planning import launch
from distill.progress import LOG, Progress
from distill.training import build_locks
from distill.training.callbacks import JobFiles, JobOutcome
from distill.training.job import TrainingJob

NODES = "DISTILL_NODES"
"""Environment variable, set by the batch script or by hand: how many nodes a job has."""
RANK = "DISTILL_NODE_RANK"
"""Environment variable: which of the nodes this is, from 0."""
MASTER = "DISTILL_MASTER"
"""Environment variable: host:port where the nodes meet."""
_POLL_SECONDS = 0.5
"""Seconds between looks at the files that the processes write."""
_PATIENCE = 30.0
"""Seconds that the processes may take to end when they are told to at once."""


def node_rank(single_node_stages: Sequence[str]) -> int:
    """The number of this node among those that do the same; 0 for the first and where there is only one.

    Args:
        single_node_stages: stages at hand that only one process may do.

    Raises:
        InputError: several processes were started that would do the same work in the same folder.
    """
    rank = env_number(RANK, 0)
    nodes = env_number(NODES, 1)
    if single_node_stages and (rank or nodes > 1):
        raise InputError(
            f"{single_node_stages[0]} is done by one process on one node, and this is node {rank} of {nodes}",
            where=RANK if rank else NODES,
            fix=f"start it once, without {NODES}, {RANK} and {MASTER}; only `distill sft` takes several nodes",
        )
    step_tasks = env_number("SLURM_STEP_NUM_TASKS", 0)
    local_id = env_number("SLURM_LOCALID", 0)
    interactive = sys.stdin is not None and sys.stdin.isatty()  # `srun --pty` gives it to one task; the others are gone
    if step_tasks > 1 and (RANK not in os.environ or local_id) and not interactive:
        raise InputError(
            f"srun started {step_tasks} of this command, and each would do the same work in the same folder",
            where="srun",
            fix="give it --ntasks=1; for sft on several nodes, `distill sft --on slurm` writes a script that starts one"
            " task on each node",
        )
    if rank and not os.environ.get(MASTER):  # else it might take an earlier start's job for this one's
        raise InputError("is not set on a further node", where=MASTER, fix="set it to host:port of the first node")
    return rank


def env_number(name: str, default: int) -> int:
    """The whole number that an environment variable holds.

    Raises:
        InputError: it is not a number.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise InputError(f"is no number: {text!r}", where=name, fix="unset it, or let the batch script set it")
    return int(text)


def run(
    job: TrainingJob, train_here: Callable[[TrainingJob], None], module: str, progress: Progress, label: str
) -> JobOutcome:
    """Run a job to its end, in this process when it is one, else through accelerate.

    SIGTERM and Ctrl-C ask for a checkpoint after the step in hand; a second Ctrl-C ends at once.

    Raises:
        Stopped: asked to stop, and a checkpoint is there.
        RunError: the processes failed (shows the end of their log), or would wait for ever for a killed build.
    """
    files = JobFiles(Path(job.folder))
    for path in (files.stop, files.progress, files.outcome):
        path.unlink(missing_ok=True)
    with _signals_request_stop(files), _progress_shown(files, progress, label):
        if job.setup.strategy == "single":
            train_here(job)
        else:
            _start(job, module)
    outcome = _read_outcome(files)
    if outcome.get("status") == "failed":
        raise RunError(outcome["what"], where=outcome["where"], fix=outcome["fix"])
    if outcome.get("status") == "stopped":
        raise Stopped(f"{label}: stopped after step {outcome['steps']}, with a checkpoint; the same command goes on")
    return outcome


def follow(folder: Path, module: str) -> None:
    """Run a further node's processes of a job that the first node prepares and finishes.

    Raises:
        Stopped: asked to stop; the first node saves the checkpoint.
        RunError: the processes failed, or the first node's job does not come.
    """
    job = _awaited_job(folder / "job.json")
    files = JobFiles(Path(job.folder))
    with _signals_request_stop(files):
        _start(job, module)
    if files.stop.exists():
        raise Stopped("this node's processes have stopped")


def _awaited_job(path: Path) -> TrainingJob:
    """The job of the first node, once it has written one that meets where this node does."""
    deadline = time.monotonic() + 3600
    meeting = os.environ.get(MASTER)
    while True:
        if path.is_file():
            job = TrainingJob.model_validate_json(path.read_bytes())
            if job.meeting == meeting:
                return job
        if time.monotonic() > deadline:
            raise RunError(
                f"no job that meets at {meeting} came from the first node within an hour",
                where=str(path),
                fix="the run folder must lie on a disk that all nodes share",
            )
        time.sleep(_POLL_SECONDS)


def command(job: TrainingJob, module: str) -> list[str]:
    """The exact command line that starts the job's processes on one node."""
    path = Path(job.folder) / "job.json"
    if job.setup.strategy == "single":
        return children.module_command(module, str(path))
    rank = os.environ.get(RANK)
    master = os.environ.get(MASTER)
    host, _, port = (master or "").rpartition(":")
    return launch.command(
        job.setup,
        Path(job.folder) / "accelerate.yaml",
        ["-m", module, str(path)],
        master=host or None,
        port=int(port) if port else None,
        rank=int(rank) if rank else None,
    )


def _start(job: TrainingJob, module: str) -> None:
    """Start the job's processes on this node and wait for their end.

    Raises:
        RunError: they ended with a status and left no outcome.
    """
    if job.setup.zero:
        build_locks.check()
    log = Path(job.folder) / "launch.log"
    arguments = command(job, module)
    LOG.info("%s", " ".join(arguments))
    with log.open("ab") as file:
        # a session of its own: Ctrl-C reaches this process alone, which asks for a checkpoint
        process = subprocess.Popen(
            arguments, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            status = process.wait()
        except BaseException:
            children.end_group(process, _PATIENCE)
            raise
    if status and not JobFiles(Path(job.folder)).outcome.is_file():
        tail = log.read_bytes()[-3000:].decode("utf-8", "replace").strip()
        raise RunError(f"the training processes ended with status {status}:\n{tail}", where=str(log))


def _read_outcome(files: JobFiles) -> JobOutcome:
    """What outcome.json says.

    Raises:
        RunError: the processes wrote none.
    """
    if not files.outcome.is_file():
        log = files.outcome.with_name("launch.log")
        raise RunError("the training processes ended without an outcome", where=str(log))
    outcome: JobOutcome = json.loads(files.outcome.read_bytes())
    return outcome


@contextlib.contextmanager
def _signals_request_stop(files: JobFiles) -> Iterator[None]:
    """While this holds, the first SIGTERM or Ctrl-C becomes a request to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop_requested = False

    def request_stop(signal_number: int, frame: FrameType | None) -> None:
        nonlocal stop_requested
        if stop_requested and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        stop_requested = True
        files.stop.touch()
        LOG.info("stopping after this step, with a checkpoint")

    earlier_handlers = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier_handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress_shown(files: JobFiles, progress: Progress, label: str) -> Iterator[None]:
    """Pass on the progress file's content, from a thread, while the work goes on."""
    ended = threading.Event()

    def pass_on() -> None:
        steps_done: int | None = None
        while True:
            is_last = ended.wait(_POLL_SECONDS)
            with contextlib.suppress(OSError, json.JSONDecodeError):  # not there yet
                state = json.loads(files.progress.read_bytes())
                if steps_done is None:
                    steps_done = state["step"]
                    progress.start(label, state["steps"], steps_done, unit="steps")
                note = ", ".join(f"{k} {state[k]:.3f}" for k in ("reward", "loss") if state.get(k) is not None)
                progress.advance(state["step"] - steps_done, note=note)
                steps_done = state["step"]
            if is_last:
                break
        if steps_done is not None:
            progress.stop()

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
