"""Starts a job's processes, passes on what they tell, and asks them to stop when this one is told to."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError, Stopped
from distill.planning import launch
from distill.progress import Progress
from distill.training import build_locks
from distill.training.callbacks import Files
from distill.training.job import Job

LOG = logging.getLogger("distill")
NODES, RANK, MASTER = "DISTILL_NODES", "DISTILL_NODE_RANK", "DISTILL_MASTER"
"""How many nodes, which this is, from 0, and host:port where they meet. Set by the batch script, or by hand."""
_LOOK = 0.5
"""Seconds between looks at what the processes tell."""
Outcome = dict[str, Any]


def node(alone: Sequence[str]) -> int:
    """The number of this node among those that do the same; 0 for the first and where there is only one.

    Args:
        alone: stages at hand that only one process may do.

    Raises:
        InputError: several processes were started that would do the same work in the same folder.
    """
    rank, nodes = number(RANK, 0), number(NODES, 1)
    if alone and (rank or nodes > 1):
        raise InputError(
            f"{alone[0]} is done by one process on one node, and this is node {rank} of {nodes}",
            where=RANK if rank else NODES,
            fix=f"start it once, without {NODES}, {RANK} and {MASTER}; only `distill sft` takes several nodes",
        )
    tasks, local = number("SLURM_STEP_NUM_TASKS", 0), number("SLURM_LOCALID", 0)
    shell = sys.stdin is not None and sys.stdin.isatty()  # `srun --pty` gives it to one task; the others are gone
    if tasks > 1 and (RANK not in os.environ or local) and not shell:
        raise InputError(
            f"srun started {tasks} of this command, and each would do the same work in the same folder",
            where="srun",
            fix="give it --ntasks=1; for sft on several nodes, `distill sft --on slurm` writes a script that starts one"
            " task on each node",
        )
    if rank and not os.environ.get(MASTER):  # else it might take an earlier start's job for this one's
        raise InputError("is not set on a further node", where=MASTER, fix="set it to host:port of the first node")
    return rank


def number(name: str, usual: int) -> int:
    """What an environment variable says.

    Raises:
        InputError: it is not a number.
    """
    text = os.environ.get(name) or str(usual)
    if not text.isdecimal():
        raise InputError(f"is no number: {text!r}", where=name, fix="unset it, or let the batch script set it")
    return int(text)


def run(job: Job, here: Callable[[Job], None], module: str, progress: Progress, label: str) -> Outcome:
    """Run a job to its end, in this process when it is one, else through accelerate.

    SIGTERM and Ctrl-C ask for a checkpoint after the step in hand; a second Ctrl-C ends at once.

    Raises:
        Stopped: asked to stop, and a checkpoint is there.
        RunError: the processes failed (shows the end of their log), or would wait for ever for a killed build.
    """
    files = Files(Path(job.folder))
    for path in (files.stop, files.progress, files.outcome):
        path.unlink(missing_ok=True)
    with _asked(files), _watched(files, progress, label):
        if job.setup.strategy == "single":
            here(job)
        else:
            _start(job, module)
    outcome = _outcome(files)
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
    path, until = folder / "job.json", time.monotonic() + 3600
    meeting = os.environ.get(MASTER)
    while not path.is_file() or (job := Job.model_validate_json(path.read_bytes())).meeting != meeting:
        if time.monotonic() > until:
            raise RunError(
                f"no job that meets at {meeting} came from the first node within an hour",
                where=str(path),
                fix="the run folder must lie on a disk that all nodes share",
            )
        time.sleep(_LOOK)
    files = Files(Path(job.folder))
    with _asked(files):
        _start(job, module)
    if files.stop.exists():
        raise Stopped("this node's processes have stopped")


def command(job: Job, module: str) -> list[str]:
    """The exact command line that starts the job's processes on one node."""
    path = Path(job.folder) / "job.json"
    if job.setup.strategy == "single":
        return [sys.executable, "-m", module, str(path)]
    rank, master = os.environ.get(RANK), os.environ.get(MASTER)
    host, _, port = (master or "").rpartition(":")
    return launch.command(
        job.setup,
        Path(job.folder) / "accelerate.yaml",
        ["-m", module, str(path)],
        master=host or None,
        port=int(port) if port else None,
        rank=int(rank) if rank else None,
    )


def _start(job: Job, module: str) -> None:
    if job.setup.zero:
        build_locks.check()
    log = Path(job.folder) / "launch.log"
    words = command(job, module)
    LOG.info("%s", " ".join(words))
    with log.open("ab") as file:
        # a session of its own: Ctrl-C reaches this process alone, which asks for a checkpoint
        process = subprocess.Popen(words, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if status and not Files(Path(job.folder)).outcome.is_file():
        tail = log.read_bytes()[-3000:].decode("utf-8", "replace").strip()
        raise RunError(f"the training processes ended with status {status}:\n{tail}", where=str(log))


def _outcome(files: Files) -> Outcome:
    if not files.outcome.is_file():
        log = files.outcome.with_name("launch.log")
        raise RunError("the training processes ended without an outcome", where=str(log))
    found: Outcome = json.loads(files.outcome.read_bytes())
    return found


@contextlib.contextmanager
def _asked(files: Files) -> Iterator[None]:
    """While this holds, the first SIGTERM or Ctrl-C becomes a request to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True
        files.stop.touch()
        LOG.info("stopping after this step, with a checkpoint")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watched(files: Files, progress: Progress, label: str) -> Iterator[None]:
    """Pass on the progress file's content, from a thread, while the work goes on."""
    over = threading.Event()

    def watch() -> None:
        done: int | None = None
        while True:
            last = over.wait(_LOOK)
            with contextlib.suppress(OSError, json.JSONDecodeError):  # not there yet
                told = json.loads(files.progress.read_bytes())
                if done is None:
                    done = told["step"]
                    progress.start(label, told["steps"], done, unit="steps")
                note = ", ".join(f"{k} {told[k]:.3f}" for k in ("reward", "loss") if told.get(k) is not None)
                progress.advance(told["step"] - done, note=note)
                done = told["step"]
            if last:
                break
        if done is not None:
            progress.stop()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
