"""Worker processes that end with the process they work for, however that ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from distill.errors import RunError
from distill.machine import children
from distill.progress import LOG

if TYPE_CHECKING:
    from pebble import ProcessFuture

T = TypeVar("T")
R = TypeVar("R")


class Workers(Generic[T, R]):
    """Worker processes that may die, until the `with` block ends or this process does.

    A worker that dies costs neither the others nor the rest of its item: that is done again part by part, and only the
    part that kills goes without.
    """

    def __init__(
        self,
        work: Callable[[T], R],
        processes: int,
        *,
        split: Callable[[T], Iterable[T]],
        on_death: Callable[[T], R],
        initializer: Callable[[], None] | None = None,
    ) -> None:
        """Prepare the workers; no process is started yet.

        Args:
            work: a function of a module; items and results are pickled. What it raises is raised here.
            split: cuts an item into smaller ones, one for each thing that it is made of.
            on_death: gives the result of a part that killed its worker.
            initializer: what each worker does first.
        """
        from pebble import ProcessPool

        self._pool = ProcessPool(processes, initializer=_initialise, initargs=[initializer], context=children.SPAWN)
        self._work = work
        self._processes = processes
        self._split = split
        self._on_death = on_death

    def each(self, items: Iterable[T]) -> Iterator[R]:
        """Give the results in the order of the items, of which no more than a few per process are drawn ahead.

        Raises:
            RunError: workers die before they have an item.
        """
        pending: deque[tuple[T, ProcessFuture[R]]] = deque()
        for item in items:
            pending.append((item, self._schedule(item)))
            if len(pending) > 3 * self._processes:
                yield from self._finished(*pending.popleft())
        while pending:
            yield from self._finished(*pending.popleft())

    def _schedule(self, item: T) -> ProcessFuture[R]:
        try:
            return self._pool.schedule(self._work, args=[item])
        except RuntimeError as error:
            raise _startup_error() from error

    def _finished(self, item: T, future: ProcessFuture[R]) -> Iterator[R]:
        from pebble import ProcessExpired

        try:
            yield _result(future)
        except ProcessExpired:
            LOG.warning("a worker process died; what it had in hand is done again one by one")
            for part in self._split(item):
                try:
                    result = _result(self._schedule(part))
                except ProcessExpired:
                    result = self._on_death(part)
                yield result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers at once, whatever they are doing."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def single_items(items: list[T]) -> Iterator[list[T]]:
    """The parts of a list, for `Workers`: each of its items as a list of its own."""
    return ([item] for item in items)


def _initialise(begin: Callable[[], None] | None) -> None:
    children.end_with_parent()
    if begin:
        begin()


def _result(future: ProcessFuture[R]) -> R:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _startup_error() from error


def _startup_error() -> RunError:
    return RunError("worker processes die before they have anything to do", fix="see above why; is there memory left?")
