"""Libraries are kept quiet, and heard again, whichever thread leaves first."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from convnd.io.silence import silence_libraries, silence_stderr


@pytest.mark.parametrize("context", [silence_libraries, silence_stderr])
def test_who_came_first_may_leave_first(
    context: Callable[[], AbstractContextManager[None]], capfd: pytest.CaptureFixture[str]
) -> None:
    def said() -> bool:
        """Whether the process is heard: what another thread finds."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn("now", stacklevel=1)
        os.write(2, b"now")
        return bool(caught) if context is silence_libraries else bool(capfd.readouterr().err)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert said()
        first, second = context(), context()
        first.__enter__()
        second.__enter__()
        assert not said()
        first.__exit__(None, None, None)
        assert not said()
        second.__exit__(None, None, None)
        assert said()
        with pytest.raises(ZeroDivisionError), context():
            _ = 1 / 0
        assert said()
