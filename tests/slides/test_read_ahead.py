"""Items that a thread makes ahead: in order, a few at most, and errors where they are due."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from histotransfer.slides.read_ahead import read_ahead


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "read tiles"]


@pytest.mark.parametrize("ready", [1, 2, 9])
def test_items_come_in_their_order_and_are_made_by_another_thread(ready):
    makers = []

    def squares():
        for k in range(5):
            makers.append(threading.current_thread())
            yield k * k

    assert list(read_ahead(squares(), ready=ready)) == [0, 1, 4, 9, 16]
    assert {thread.name for thread in makers} == {"read tiles"}
    assert not reading_threads()


def test_nothing_is_made_before_the_first_item_is_asked_for_and_few_beyond_it():
    made = []
    ahead = read_ahead((made.append(k) or k for k in range(100)), ready=2)
    assert made == []
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # the one taken, two that lie ready, and the one that waits for a place
    assert made == [0, 1, 2, 3]
    ahead.close()
    assert not reading_threads()


def test_none_and_errors_are_items_like_others():
    given = [None, ValueError("an item"), None]
    assert list(read_ahead(given)) == given


def test_an_error_is_raised_after_the_items_before_it():
    def failing():
        yield from "ab"
        raise MemoryError("of the reader")

    ahead = read_ahead(failing(), ready=1)
    assert [next(ahead), next(ahead)] == ["a", "b"]
    with pytest.raises(MemoryError, match="of the reader"):
        next(ahead)
    assert not reading_threads()


def test_the_thread_ends_where_the_iterator_is_left():
    for _ in read_ahead(range(100)):
        assert reading_threads()
        break
    gc.collect()
    assert not reading_threads()
