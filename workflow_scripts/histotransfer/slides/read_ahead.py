"""Reading tiles in a thread of its own, a few batches ahead of the computation that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

#: Batches that lie ready while one is computed.
READY = 2

Item = TypeVar("Item")

#: What follows the last item.
_END = object()


def read_ahead(items: Iterable[Item], *, ready: int = READY) -> Generator[Item, None, None]:
    """Yield items that a thread makes ahead of time.

    The thread starts with the first item that is asked for. It ends when the iterator is used up, closed, or no longer
    referred to.

    Parameters
    ----------
    items : iterable
        Run in the thread.
    ready : int
        Items that lie ready, at most.

    Raises
    ------
    BaseException
        Whatever making an item raised, when that item is due.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=ready)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        # of any class: it is raised again where the item is due
        except BaseException as error:
            failure.append(error)
        put(_END)

    thread = threading.Thread(target=read, name="read tiles", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()
