"""Does a study's runs, each once those that it goes on from are done: here, or several at once in processes."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from distill import pipeline
from distill.errors import DistillError, RunError, Stopped, writing
from distill.machine import hardware, workers
from distill.progress import LOG, Lines, Progress, log_to
from distill.run import Run
from distill.study import plan
from distill.study.plan import One


def do_all(ones: Sequence[One], at_once: int, progress: Progress) -> dict[str, str]:
    """Do every run once those that it needs are done; returns which failed, or miss one that did, and why.

    Raises:
        InputError, Stopped: at once; runs at work are told to stop.
    """
    failed: dict[str, str] = {}
    waiting, working = list(ones), list[_Worker]()
    try:
        while waiting or working:
            ahead = {one.name for one in waiting} | {worker.one.name for worker in working}
            one = next((one for one in waiting if ahead.isdisjoint(one.before)), None)
            if one is None or len(working) == at_once:
                worker = _next_to_end(working)
                name, why = worker.one.name, worker.end()
            else:
                waiting.remove(one)
                name, why = one.name, next((f"needs {other}" for other in one.before if other in failed), "")
                if not why and not plan.is_done(one):
                    LOG.info("%s: starts (%s)", name, ", ".join(one.stages))
                    if at_once > 1:
                        working.append(_Worker.start(one, max(1, len(hardware.processors()) // at_once)))
                    else:
                        why = _tried(one, progress)
            if why:
                failed[name] = why
                LOG.error("%s: %s", name, why)
    finally:
        for worker in working:
            worker.process.terminate()
        for worker in working:
            worker.process.join()
    return failed


def _tried(one: One, progress: Progress) -> str:
    """Do a run here; why it failed, or nothing."""
    try:
        _do(one, progress)
    except RunError as error:  # the other runs have their worth
        return str(error)
    return ""


def _next_to_end(working: list[_Worker]) -> _Worker:
    """Wait for one to end and take it out."""
    (ended, *_) = wait([worker.process.sentinel for worker in working])
    worker = next(worker for worker in working if worker.process.sentinel == ended)
    working.remove(worker)
    return worker


def _do(one: One, progress: Progress) -> None:
    """All stages of one run, told in its own log.txt, too."""
    with _logged(one.run):
        plan.link(one)
        for _ in pipeline.run_stages(one.run, one.recipe, one.stages, progress):
            pass


@contextlib.contextmanager
def _logged(run: Run) -> Iterator[None]:
    with writing(run.log):
        file = log_to(run.log)
    try:
        yield
    finally:
        LOG.removeHandler(file)
        file.close()


@dataclass
class _Worker:
    """A process that does one run with its share of the cores."""

    one: One
    process: BaseProcess
    says: Connection

    @staticmethod
    def start(one: One, threads: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(one, threads, theirs), name=one.name)
        process.start()
        theirs.close()
        return _Worker(one, process, ours)

    def end(self) -> str:
        """Why it failed, or nothing.

        Raises:
            Stopped: it was told to stop.
        """
        self.process.join()
        stopped, said = False, f"its process ended with status {self.process.exitcode}"
        with contextlib.suppress(EOFError):
            stopped, said = self.says.recv()
        if stopped:
            raise Stopped(f"{self.one.name}: {said}")
        return said if self.process.exitcode else ""


def _work(one: One, threads: int, says: Connection) -> None:
    """A worker's life: one run; tells why it failed."""
    workers.end_with_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is there
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter(f"{one.name}: %(message)s"))
    screen.setLevel(logging.INFO)
    LOG.addHandler(screen)
    LOG.setLevel(logging.DEBUG)
    try:
        _do(one, Lines())
    except DistillError as error:
        says.send((isinstance(error, Stopped), str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        says.send((True, "stopped; the same command goes on from there"))
        sys.exit(1)
