"""Does a study's runs, each once those that it goes on from are done: here, or several at once in processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from distill import pipeline
from distill.errors import DistillError, RunError, Stopped, writing
from distill.machine import children, hardware
from distill.progress import LOG, LogLines, Progress, log_to, log_to_stderr
from distill.run import Run
from distill.study import plan
from distill.study.plan import StudyRun


def run_all(arm_runs: Sequence[StudyRun], at_once: int, progress: Progress) -> dict[str, str]:
    """Do every run once those that it needs are done; return why a run failed, or which failed one it needs, by name.

    Raises:
        InputError, Stopped: at once; runs at work are told to stop.
    """
    failed: dict[str, str] = {}
    pending = list(arm_runs)
    workers: list[_RunProcess] = []
    try:
        while pending or workers:
            unfinished = {arm_run.name for arm_run in pending} | {worker.arm_run.name for worker in workers}
            arm_run = next((arm_run for arm_run in pending if unfinished.isdisjoint(arm_run.prerequisites)), None)
            if arm_run is None or len(workers) == at_once:
                worker = _next_to_end(workers)
                name = worker.arm_run.name
                failure = worker.end()
            else:
                pending.remove(arm_run)
                name = arm_run.name
                failure = next((f"needs {needed}" for needed in arm_run.prerequisites if needed in failed), "")
                if not failure and not plan.is_done(arm_run):
                    LOG.info("%s: starts (%s)", name, ", ".join(arm_run.stages))
                    if at_once > 1:
                        workers.append(_RunProcess.start(arm_run, max(1, len(hardware.processors()) // at_once)))
                    else:
                        failure = _run_here(arm_run, progress)
            if failure:
                failed[name] = failure
                LOG.error("%s: %s", name, failure)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    return failed


def _run_here(arm_run: StudyRun, progress: Progress) -> str:
    """Do a run in this process; return why it failed, or nothing."""
    try:
        _run_stages(arm_run, progress)
    except RunError as error:  # the other runs have their worth
        return str(error)
    return ""


def _next_to_end(workers: list[_RunProcess]) -> _RunProcess:
    """Wait for a process to end and take it out of the list."""
    (ended, *_) = wait([worker.process.sentinel for worker in workers])
    worker = next(worker for worker in workers if worker.process.sentinel == ended)
    workers.remove(worker)
    return worker


def _run_stages(arm_run: StudyRun, progress: Progress) -> None:
    """Run all stages of one run, logged in its own log.txt, too."""
    with _logged(arm_run.run):
        plan.link(arm_run)
        for _ in pipeline.run_stages(arm_run.run, arm_run.recipe, arm_run.stages, progress):
            pass


@contextlib.contextmanager
def _logged(run: Run) -> Iterator[None]:
    with writing(run.log):
        handler = log_to(run.log)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()


@dataclass
class _RunProcess:
    """A process that does one run with its share of the cores."""

    arm_run: StudyRun
    process: BaseProcess
    pipe: Connection

    @staticmethod
    def start(arm_run: StudyRun, threads: int) -> _RunProcess:
        reading_end, writing_end = children.SPAWN.Pipe(duplex=False)
        process = children.spawned(_process_main, arm_run, threads, writing_end, name=arm_run.name)
        writing_end.close()
        return _RunProcess(arm_run, process, reading_end)

    def end(self) -> str:
        """Wait for the end; return why the run failed, or nothing.

        Raises:
            Stopped: it was told to stop.
        """
        self.process.join()
        stopped = False
        reason = f"its process ended with status {self.process.exitcode}"
        with contextlib.suppress(EOFError):
            stopped, reason = self.pipe.recv()
        if stopped:
            raise Stopped(f"{self.arm_run.name}: {reason}")
        return reason if self.process.exitcode else ""


def _process_main(arm_run: StudyRun, threads: int, pipe: Connection) -> None:
    """Do one run in a process of its own; send why it failed."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is there
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log_to_stderr(f"{arm_run.name}: ")
    LOG.setLevel(logging.DEBUG)
    try:
        _run_stages(arm_run, LogLines())
    except DistillError as error:
        pipe.send((isinstance(error, Stopped), str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        pipe.send((True, "stopped; the same command goes on from there"))
        sys.exit(1)
