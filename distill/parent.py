"""Worker processes that end with the process they work for, however that ends."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pebble import ProcessFuture

T = TypeVar("T")
R = TypeVar("R")


def end_with_parent() -> None:
    """To be called in a worker, such as by a pool's `initializer`: ends it as soon as its parent is gone.

    A pool's worker waits for tasks at a pipe of which it holds the writing end too, so when the parent is killed by
    signal 9 nothing ever tells it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def each(
    work: Callable[[T], R],
    items: Iterable[T],
    processes: int,
    *,
    parts: Callable[[T], Iterable[T]],
    dead: Callable[[T], R],
) -> Iterator[R]:
    """`work` on each item in worker processes: the results, in the order of the items.

    A worker that dies costs neither the others nor the rest of its item: that is done again part by part, and only the
    part that kills goes without. No more than a few items per process are drawn ahead. Whoever ends early, with Ctrl-C
    or by closing the iterator, ends the workers at once.

    Args:
        work: a function of a module; items and results are pickled. What it raises is raised here.
        parts: a smaller item for each thing that one is made of.
        dead: the result of a part that killed its worker.
    """
    from pebble import ProcessExpired, ProcessPool

    items = iter(items)
    first = next(items, None)
    if first is None:
        return
    # spawn: a fork would copy the threads and locks of whatever this process has loaded
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(processes, initializer=end_with_parent, context=context)
    flying: deque[tuple[T, ProcessFuture[R]]] = deque()

    def landed() -> Iterator[R]:
        item, future = flying.popleft()
        try:
            yield future.result()
        except ProcessExpired:
            for part in parts(item):
                try:
                    result = pool.schedule(work, args=[part]).result()
                except ProcessExpired:
                    result = dead(part)
                yield result

    try:
        for item in itertools.chain([first], items):
            flying.append((item, pool.schedule(work, args=[item])))
            if len(flying) > 3 * processes:
                yield from landed()
        while flying:
            yield from landed()
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
