"""Where the checks run: in this process, on all cores, or on a Ray cluster; with the same results in the same order."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from distill.errors import InputError
from distill.filtering.judge import Judge, Said, Setup, Share
from distill.machine.workers import Workers
from distill.store import jsonl


def here(setup: Setup, shares: Iterable[Share]) -> Iterator[Said]:
    judge = Judge(setup)
    return map(judge.judge, shares)


_judge: Judge | None = None


def _start(setup: Setup) -> None:
    global _judge  # noqa: PLW0603  one per worker process: that is what an initializer is for
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.disable()  # what is imported and built here lives as long as the process: no use searching it for garbage
    _judge = Judge(setup)
    gc.freeze()
    gc.enable()


def _work(share: Share) -> Said:
    assert _judge is not None
    return _judge.judge(share)


def _lines(share: Share) -> Iterator[Share]:
    for at, line in jsonl.lines(share.chunk):
        yield Share(share.source, jsonl.Chunk(share.chunk.path, at, at + len(line)))


def _dead(share: Share, setup: Setup) -> Said:
    return Judge(setup).dead(share)


def _workers(setup: Setup, processes: int) -> Workers[Share, Said]:
    return Workers(_work, processes, parts=_lines, dead=partial(_dead, setup=setup), begin=partial(_start, setup))


def pool(setup: Setup, shares: Iterable[Share], processes: int) -> Iterator[Said]:
    """On `processes` cores; a worker that dies costs one trace, not the run."""
    with _workers(setup, processes) as made:
        yield from made.each(shares)


class _Actor:
    """A Ray actor; judges in a child, since Ray would give what kills an actor to the next one, for ever."""

    def __init__(self, setup: bytes) -> None:
        self._workers = _workers(pickle.loads(setup), 1)  # noqa: S301  our own bytes

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        shares = [pickle.loads(share) for share in batch["share"]]  # noqa: S301
        return {"said": [pickle.dumps([*self._workers.each(shares)])]}


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
