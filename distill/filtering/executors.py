"""Where the checks run: in this process, on all cores, or on a Ray cluster; with the same results in the same order."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from distill import jsonl
from distill.errors import InputError, RunError
from distill.filtering.judge import Judge, Said, Setup, Share
from distill.parent import end_with_parent
from distill.progress import LOG


def here(setup: Setup, shares: Iterable[Share]) -> Iterator[Said]:
    judge = Judge(setup)
    return map(judge.judge, shares)


_judge: Judge | None = None


def _start(setup: Setup) -> None:
    global _judge  # noqa: PLW0603  one per worker process: that is what an initializer is for
    end_with_parent()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.disable()  # what is imported and built here lives as long as the process: no use searching it for garbage
    _judge = Judge(setup)
    gc.freeze()
    gc.enable()


def _ready() -> None:
    """Done once `_start` is."""


def _work(share: Share) -> Said:
    assert _judge is not None
    return _judge.judge(share)


class _Pool:
    """Worker processes that may die: what they had in hand is judged again, the trace that kills is named."""

    def __init__(self, setup: Setup, processes: int) -> None:
        self._setup, self._processes = setup, processes
        self._pool = self._new(processes)

    def _new(self, processes: int) -> ProcessPoolExecutor:
        # spawn: a fork would copy the threads and locks of whatever this process has loaded
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(self._setup,))

    def run(self, shares: Iterable[Share]) -> Iterator[Said]:
        flying: deque[tuple[Share, Future[Said]]] = deque()
        for share in shares:
            flying.append((share, self._submit(share)))
            if len(flying) >= 2 * self._processes:
                yield from self._next(flying)
        while flying:
            yield from self._next(flying)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, share: Share) -> Future[Said]:
        try:
            return self._pool.submit(_work, share)
        except BrokenProcessPool as error:  # since the last look; told when this share's turn comes
            failed = Future[Said]()
            failed.set_exception(error)
            return failed

    def _next(self, flying: deque[tuple[Share, Future[Said]]]) -> Iterator[Said]:
        share, future = flying.popleft()
        try:
            yield future.result()
        except BrokenProcessPool:
            LOG.warning("filter: a worker process died; judging what it had in hand one by one")
            suspects = [share, *(other for other, _ in flying)]
            flying.clear()
            for suspect in suspects:
                yield from self._carefully(suspect)
            self._pool = self._new(self._processes)

    def _carefully(self, share: Share) -> Iterator[Said]:
        """A chunk alone in a process; if that dies too, line by line, so that one trace is lost and no other."""
        try:
            yield self._alone(share)
        except BrokenProcessPool:
            for at, line in jsonl.lines(share.chunk):
                one = Share(share.source, jsonl.Chunk(share.chunk.path, at, at + len(line)))
                try:
                    yield self._alone(one)
                except BrokenProcessPool:
                    yield Judge(self._setup).dead(one, at)

    def _alone(self, share: Share) -> Said:
        with self._new(1) as pool:
            try:
                pool.submit(_ready).result()
            except BrokenProcessPool as error:  # no trace is to blame
                fix = "see above why; if the machine is out of memory, set filter.processes lower"
                raise RunError("a process for the checks dies before it has a trace", fix=fix) from error
            return pool.submit(_work, share).result()


def pool(setup: Setup, shares: Iterable[Share], processes: int) -> Iterator[Said]:
    """On `processes` cores; a worker that dies costs one trace, not the run."""
    made = _Pool(setup, processes)
    try:
        yield from made.run(shares)
    finally:
        made.close()


class _Actor:
    """A Ray actor; judges in a child, since Ray would give what kills an actor to the next one, for ever."""

    def __init__(self, setup: bytes) -> None:
        self._pool = _Pool(pickle.loads(setup), 1)  # noqa: S301  our own bytes

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        shares = [pickle.loads(share) for share in batch["share"]]  # noqa: S301
        return {"said": [pickle.dumps([*self._pool.run(shares)])]}


def ray(setup: Setup, shares: Iterable[Share]) -> Iterator[Said]:
    """As a Ray Data job: on the cluster that RAY_ADDRESS names, else on one started here.

    The run folder must lie on a file system that all its machines share.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise InputError("--on ray needs Ray", where="filter.on", fix="pip install 'distill[ray]'") from error
    if started := not cluster.is_initialized():
        cluster.init(log_to_driver=False, configure_logging=False)
    try:
        yield from _on(cluster, setup, shares)
    finally:
        if started:
            cluster.shutdown()


def _on(cluster: Any, setup: Setup, shares: Iterable[Share]) -> Iterator[Said]:
    from ray.data import ActorPoolStrategy, DataContext

    data = DataContext.get_current()
    data.execution_options.preserve_order = True  # the ledger's order is the logs'
    data.enable_progress_bars = False
    items = [{"share": pickle.dumps(share)} for share in shares]
    cores = max(1, int(cluster.cluster_resources().get("CPU", 1)))
    judged = cluster.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Actor,
        batch_size=1,
        compute=ActorPoolStrategy(size=min(cores, len(items))),
        fn_constructor_args=(pickle.dumps(setup),),
    )
    for row in judged.iter_rows():
        yield from pickle.loads(row["said"])  # noqa: S301  our own bytes
