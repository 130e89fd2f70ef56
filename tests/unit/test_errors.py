"""Errors carry what was expected, what arrived and the remedy as data."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
import time

import pytest
from error_fields import raises

from convnd import errors
from convnd.errors import STOP_SIGNALS, ConvndError, InputFileError, ShapeError, StopSignal

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_make_the_message_and_survive_pickling(kind: type[ConvndError]) -> None:
    error = kind("--dim", expected="1, 2 or 3", got="7", remedy="correct it")
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert str(copy) == "--dim: expected 1, 2 or 3, got 7; correct it"
        assert (copy.operation, copy.expected) == ("--dim", "1, 2 or 3")
        assert (copy.got, copy.remedy) == ("7", "correct it")
        assert copy.args == (str(copy),)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_sentence_has_no_parts(kind: type[ConvndError]) -> None:
    error = pickle.loads(pickle.dumps(kind("--rate cannot be used with a 3-D scan")))
    assert str(error) == "--rate cannot be used with a 3-D scan"
    assert (error.operation, error.expected, error.got, error.remedy) == ("",) * 4


def test_control_characters_stay_on_one_line() -> None:
    error = InputFileError("a\nb.png", expected="a picture", got="\x1b[2J", remedy="name one")
    assert str(error) == r"a\nb.png: expected a picture, got \x1b[2J; name one"
    assert error.got == "\x1b[2J"


def test_a_built_in_class_catches_it() -> None:
    with raises(ValueError, operation="conv", expected="rank 4") as caught:
        raise ShapeError("conv", expected="rank 4", got="rank 2", remedy="add two axes")
    assert isinstance(caught.value, ConvndError)
    assert caught.value.got == "rank 2"


@pytest.mark.parametrize("early", [False, True])
def test_a_signal_that_arrives_in_a_destructor_is_raised_after_it(
    monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """Also where the first timer fires before it has started, as it may on a busy machine."""

    class Signalled:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    starts = []

    class Timer(threading.Timer):
        def start(self) -> None:
            starts.append(self)
            if early and len(starts) == 1:
                signal.raise_signal(signal.SIGTERM)
            super().start()

    monkeypatch.setattr(threading, "Timer", Timer)
    try:
        StopSignal.catch()
        with pytest.raises(StopSignal) as caught:
            Signalled()
            time.sleep(20)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.args == (signal.SIGTERM,)
    assert len(starts) == 1 + early
