"""The garbage collector is put off for a while, and as before afterwards."""

import gc

import pytest

from distill.machine.garbage import seldom_collected


def test_the_collector_is_put_off_and_comes_back() -> None:
    before = gc.get_threshold()
    with seldom_collected():
        assert gc.get_threshold()[0] > 10_000
        assert gc.isenabled()
    assert gc.get_threshold() == before
    with pytest.raises(ZeroDivisionError), seldom_collected():
        gc.get_threshold()[0] // 0
    assert gc.get_threshold() == before


def test_what_was_switched_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collected():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
