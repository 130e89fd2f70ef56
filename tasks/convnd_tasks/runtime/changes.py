"""Changes of options while a transfer runs: planned, or made by a person who watches."""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from convnd.errors import UsageError
from convnd.options import flag_name
from convnd.shapes import is_count_text
from convnd.transfer.adjustment import LIVE_OPTIONS

if TYPE_CHECKING:
    from convnd.transfer.options import TransferOptions

__all__ = ["CHANGEABLE", "Change", "Changes"]

CHANGEABLE = (*LIVE_OPTIONS, "strength", "temporal_weight", "colors")
"""Options that may change while a transfer runs, each in the kinds of data that have it."""

_MOST = 1000

AnyOptions = TypeVar("AnyOptions", bound="TransferOptions")


@dataclass(frozen=True)
class Change:
    """Another value of an option from a step on.

    Args:
        step: the step after which it counts.
        name: the field of the option.
        text: the value as it is typed; several numbers have colons between.

    >>> str(Change.parse("30:style-weights=1:2"))
    '30:style-weights=1:2'
    """

    step: int
    name: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Change:
        """Parse ``STEP:OPTION=VALUE``.

        Raises:
            UsageError: the text has another form, or the option cannot change.
        """
        step, colon, rest = text.partition(":")
        option, equals, value = rest.partition("=")
        name = option.strip().removeprefix("--").replace("-", "_")
        if not (colon and equals and is_count_text(step)) or name not in CHANGEABLE:
            raise UsageError(
                "--change",
                expected="STEP:OPTION=VALUE with one of "
                f"{', '.join(flag_name(name)[2:] for name in CHANGEABLE)}",
                got=repr(text[:80]),
                remedy="for example 30:strength=0.5",
            )
        return cls(int(step), name, value.strip())

    def __str__(self) -> str:
        return f"{self.step}:{flag_name(self.name)[2:]}={self.text}"

    def apply(self, options: AnyOptions) -> AnyOptions:
        """Return options with the value.

        Raises:
            UsageError: the value is none of the option, or outside its range.
        """
        values: dict[str, Any] = {self.name: self.text}
        if self.name != "colors":
            try:
                numbers = tuple(float(number) for number in self.text.split(":"))
            except ValueError:
                numbers = ()
            if not numbers or (len(numbers) > 1 and self.name != "style_weights"):
                raise UsageError(
                    "--change", expected="a number", got=repr(self.text[:40]), remedy="type one"
                )
            values = {self.name: numbers if self.name == "style_weights" else numbers[0]}
        return dataclasses.replace(options, **values)


class Changes:
    """The changes of one run.

    A change counts after the first step that has its number or a later one, so that a second run
    with the same changes makes the same result.

    Args:
        planned: texts that `Change.parse` takes.
        names: the options that may change.

    Attributes:
        applied: the changes so far.
        awaited: whether a person may make further ones.

    Raises:
        UsageError: a text is no change, or one of another option.
    """

    def __init__(self, planned: Sequence[str] = (), names: Collection[str] = CHANGEABLE) -> None:
        self._names = names
        self.applied: list[Change] = []
        self.awaited = False
        self._planned = sorted(map(Change.parse, planned), key=lambda change: change.step)
        self._arrived: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._last_step = -1
        for change in self._planned:
            self._check_name(change)

    @property
    def texts(self) -> list[str]:
        """The changes so far, as they are typed."""
        return [str(change) for change in self.applied]

    @property
    def expected(self) -> bool:
        """Whether there are or may be changes."""
        return self.awaited or bool(self._planned or self.applied)

    def check(self, options: TransferOptions) -> None:
        """Check the planned changes before any work.

        Args:
            options: the options that change.

        Raises:
            UsageError: a value is none of its option, or outside its range.
        """
        for change in self._planned:
            options = change.apply(options)

    def arrive(self, options: Mapping[str, str]) -> None:
        """Make changes that count after the present step; any thread may call this.

        Args:
            options: values as they are typed, by the option's name without ``--``.

        Raises:
            UsageError: an option may not change.
        """
        for name, text in options.items():
            self._check_name(Change.parse(f"0:{name}={text}"))
            self._arrived.put((name, text))

    def _check_name(self, change: Change) -> None:
        if change.name not in self._names:
            raise UsageError(
                "--change",
                expected=f"one of {', '.join(flag_name(name)[2:] for name in self._names)}",
                got=flag_name(change.name)[2:],
                remedy="leave it out",
            )

    def take(self, step: int, options: TransferOptions) -> list[Change]:
        """Apply and return the changes that are due after a step.

        A step that is evaluated once more, at another size, has had its changes already.

        Args:
            step: number of the step.
            options: options that a person's values are checked with; those that do not fit are
                left out.
        """
        if step == self._last_step:
            return []
        self._last_step = step
        count = sum(change.step <= step for change in self._planned)
        due = [dataclasses.replace(change, step=step) for change in self._planned[:count]]
        self._planned = self._planned[count:]
        changed = self.apply(options)
        for change in due:
            changed = change.apply(changed)
        while not self._arrived.empty():
            name, text = self._arrived.get()
            change = Change.parse(f"{step}:{name}={text}")
            try:
                changed = change.apply(changed)
            except UsageError:
                continue
            due.append(change)
        self.applied += due
        return due

    def apply(self, options: AnyOptions) -> AnyOptions:
        """Return options with all changes so far."""
        for change in self.applied:
            options = change.apply(options)
        return options

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the changes."""
        return {"applied": self.texts, "considered": self._last_step}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state` out of a file.

        Raises:
            InputFileError: it is none.
        """
        from convnd.optimize.base import is_count  # these load torch
        from convnd.optimize.state import state_errors

        with state_errors():
            texts, step = stored["applied"], stored["considered"]
            is_text = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
            if not is_text or len(texts) > _MOST or not (step == -1 or is_count(step)):
                raise ValueError("no changes of a transfer")
            self.applied = [Change.parse(text) for text in texts]
            self._last_step = step
            # Those that were planned and applied before must not count a second time.
            self._planned = [one for one in self._planned if one not in self.applied]
