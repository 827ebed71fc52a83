"""Where the checks run: in this process, on all cores, or on a Ray cluster; with the same results in the same order."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType

from distill.errors import InputError
from distill.filtering.judge import CheckedSlice, Checker, CheckerSetup, LogSlice
from distill.machine.workers import Workers
from distill.store import jsonl


def in_process(setup: CheckerSetup, slices: Iterable[LogSlice]) -> Iterator[CheckedSlice]:
    """Check the slices one after the other in this process."""
    checker = Checker(setup)
    return map(checker.check, slices)


_checker: Checker | None = None


def _start(setup: CheckerSetup) -> None:
    global _checker  # noqa: PLW0603  one per worker process: that is what an initializer is for
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.disable()  # what is imported and built here lives as long as the process: no use searching it for garbage
    _checker = Checker(setup)
    gc.freeze()
    gc.enable()


def _check(log_slice: LogSlice) -> CheckedSlice:
    assert _checker is not None
    return _checker.check(log_slice)


def _single_lines(log_slice: LogSlice) -> Iterator[LogSlice]:
    for offset, line in jsonl.lines(log_slice.chunk):
        yield LogSlice(log_slice.source, jsonl.Chunk(log_slice.chunk.path, offset, offset + len(line)))


def _worker_died(log_slice: LogSlice, setup: CheckerSetup) -> CheckedSlice:
    return Checker(setup).mark_undecidable(log_slice)


def _workers(setup: CheckerSetup, processes: int) -> Workers[LogSlice, CheckedSlice]:
    return Workers(
        _check,
        processes,
        split=_single_lines,
        on_death=partial(_worker_died, setup=setup),
        initializer=partial(_start, setup),
    )


def pool(setup: CheckerSetup, slices: Iterable[LogSlice], processes: int) -> Iterator[CheckedSlice]:
    """Check the slices on `processes` cores; a worker that dies costs one trace, not the run."""
    with _workers(setup, processes) as workers:
        yield from workers.each(slices)


class _Actor:
    """A Ray actor; judges in a child, since Ray would give what kills an actor to the next one, for ever."""

    def __init__(self, setup: bytes) -> None:
        self._workers = _workers(pickle.loads(setup), 1)  # noqa: S301  our own bytes

    def __call__(self, batch: Mapping[str, Iterable[bytes]]) -> dict[str, list[bytes]]:
        slices = [pickle.loads(packed) for packed in batch["slice"]]  # noqa: S301
        return {"checked": [pickle.dumps([*self._workers.each(slices)])]}


def ray(setup: CheckerSetup, slices: Iterable[LogSlice]) -> Iterator[CheckedSlice]:
    """Check the slices in a Ray Data job, on the cluster that RAY_ADDRESS names or else on one started here.

    The run folder must lie on a file system that all its machines share.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise InputError("--on ray needs Ray", where="filter.on", fix="pip install 'distill[ray]'") from error
    is_ours = not cluster.is_initialized()
    if is_ours:
        cluster.init(log_to_driver=False, configure_logging=False)
    try:
        yield from _run_on(cluster, setup, slices)
    finally:
        if is_ours:
            cluster.shutdown()


def _run_on(cluster: ModuleType, setup: CheckerSetup, slices: Iterable[LogSlice]) -> Iterator[CheckedSlice]:
    from ray.data import ActorPoolStrategy, DataContext

    data = DataContext.get_current()
    data.execution_options.preserve_order = True  # the ledger's order is the logs'
    data.enable_progress_bars = False
    packed_slices = [{"slice": pickle.dumps(log_slice)} for log_slice in slices]
    cores = max(1, int(cluster.cluster_resources().get("CPU", 1)))
    checked = cluster.data.from_items(packed_slices, override_num_blocks=len(packed_slices)).map_batches(
        _Actor,
        batch_size=1,
        compute=ActorPoolStrategy(size=min(cores, len(packed_slices))),
        fn_constructor_args=(pickle.dumps(setup),),
    )
    for row in checked.iter_rows():
        yield from pickle.loads(row["checked"])  # noqa: S301  our own bytes
