"""Grades traces in processes of their own, so that no answer, however odd, delays the event loop.

Each process hangs on two socket pairs: a JSON line an answer on the first, one a verdict on the second, in order. On a
single one, the verdicts of a process that dies with answers unread would be lost. No threads, and no pickling: a
process pool's cost the event loop more than all else that is done with a reply. A process ends when the sockets do,
also when its owner is killed.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
from collections import deque
from functools import lru_cache

import orjson

from distill.errors import InputError, RunError
from distill.machine import children, hardware
from distill.progress import LOG
from distill.types import Outcome, Problem, Trace
from distill.verifiers import Verifiers

_READY = b"ready\n"
_VERDICT_BYTES = 1 << 24  # bytes of one verdict
_CACHED_PROBLEMS = 1024  # problems whose JSON is kept: the samples of one come close together

Pending = tuple[bytes, asyncio.Future[Outcome]]


class Grader:
    """The problem's own verifier on each trace. A process that dies costs the verdict that it was at, not the run."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = [_GradingProcess() for _ in range(workers or max(1, len(hardware.processors()) // 2))]
        self._problem_json: dict[str, str] = {}

    async def grade(self, problem: Problem, trace: Trace) -> Outcome:
        """Ask the least busy process for the verdict on a trace.

        Raises:
            RunError: no process can be started.
        """
        problem_json = self._problem_json.get(problem.id)
        if problem_json is None:
            if len(self._problem_json) >= _CACHED_PROBLEMS:
                self._problem_json.clear()
            problem_json = problem.model_copy(update={"metadata": {}}).model_dump_json()
            self._problem_json[problem.id] = problem_json
        worker = min(self._workers, key=lambda worker: len(worker.pending))
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        worker.ask(orjson.dumps([problem_json, trace.answer, trace.finish]) + b"\n", future)
        return await future

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class _GradingProcess:
    """One process, started when first needed and again after it has died."""

    def __init__(self) -> None:
        self.pending: deque[Pending] = deque()
        """What was asked and not answered yet, in order."""
        self._child: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._verdicts: asyncio.StreamWriter | None = None
        self._ready = False
        """The process takes answers; until then they only wait in `pending`."""

    def ask(self, line: bytes, future: asyncio.Future[Outcome]) -> None:
        self.pending.append((line, future))
        if self._writer and self._ready:
            self._writer.write(line)
        if not self._task or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Start processes, one after another has died, and take their verdicts."""
        try:
            while True:
                reader = await self._start()
                while (line := await reader.readline()).endswith(b"\n"):
                    outcome = Outcome.model_validate_json(line)
                    _answer(self.pending.popleft()[1], outcome)
                LOG.warning("a process that graded answers died; the answer that it was at stays without a verdict")
                self._end_process()
                if self.pending:
                    _answer(self.pending.popleft()[1], Outcome(passed=None, reason="worker_died"))
        except (OSError, ValueError, IndexError, RunError) as error:
            self._end_process()
            while self.pending:
                future = self.pending.popleft()[1]
                if not future.done():
                    future.set_exception(RunError(f"cannot grade answers: {error}", fix="is there memory left?"))

    async def _start(self) -> asyncio.StreamReader:
        our_lines, child_lines = socket.socketpair()
        our_verdicts, child_verdicts = socket.socketpair()
        with child_lines, child_verdicts:
            handles = [child_lines.fileno(), child_verdicts.fileno()]
            command = children.function_command(serve, *map(str, handles))
            self._child = subprocess.Popen(command, pass_fds=handles, stdin=subprocess.DEVNULL)
        _, self._writer = await asyncio.open_connection(sock=our_lines)
        reader, self._verdicts = await asyncio.open_connection(sock=our_verdicts, limit=_VERDICT_BYTES)
        if await reader.readline() != _READY:
            raise RunError(f"their process ended with status {self._child.wait()} before it began")
        self._writer.writelines([line for line, _ in self.pending])
        self._ready = True
        return reader

    def _end_process(self) -> None:
        for writer in (self._writer, self._verdicts):
            if writer:
                writer.close()
        if self._child:
            self._child.kill()
            self._child.wait()
        self._child = None
        self._writer = None
        self._verdicts = None
        self._ready = False

    def close(self) -> None:
        if self._task:
            self._task.cancel()
        self._end_process()


def _answer(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():  # whoever asked may have been cancelled
        future.set_result(outcome)


def serve(lines_handle: str, verdicts_handle: str) -> None:
    """The process's side: a verdict at the second socket for each line at the first, until that closes."""
    gc.freeze()
    gc.enable()
    verifiers = Verifiers()
    problem_of = lru_cache(maxsize=64)(Problem.model_validate_json)
    with open(int(lines_handle), "rb") as lines, socket.socket(fileno=int(verdicts_handle)) as verdicts:
        verdicts.sendall(_READY)
        for line in lines:
            problem, answer, finish = orjson.loads(line)
            try:
                outcome = verifiers.judge_answer(problem_of(problem), answer, finish)
            except InputError as error:
                outcome = Outcome(passed=None, reason="bad_gold", detail=str(error)[:200])
            verdicts.sendall(orjson.dumps(outcome.model_dump()) + b"\n")
