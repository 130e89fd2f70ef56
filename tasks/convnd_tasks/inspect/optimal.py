"""A unit's own optimal input: activation maximisation over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import NumericalError, UsageError
from convnd.optimize.adam import Adam
from convnd_tasks.inspect.units import fields_of

__all__ = ["UnfinishedError", "maximise"]

_RETRIES = 8  # as many as `convnd.optimize.minimize` takes
_BETAS = (0.9, 0.999)
_CONTRAST = 1.2  # largest deviation before the sigmoid: few samples end at 0 or 1

# Square root of the mean covariance of R, G and B in scikit-image's astronaut, chelsea, coffee and
# rocket, divided by its largest entry: colours of photographs mostly vary together.
_COLOURS = ((1.0, 0.517, 0.317), (0.517, 0.779, 0.579), (0.317, 0.579, 0.857))


class UnfinishedError(NumericalError):
    """The ascent left the finite numbers again and again.

    Args:
        text: the message.
        found: inputs of the last good step, as `maximise` returns them; None if there was none.
    """

    def __init__(self, text: str, found: Tensor | None) -> None:
        super().__init__(text)
        self.found = found


def maximise(
    network: Backbone,
    layer: str,
    units: Sequence[int],
    *,
    size: Sequence[int] | None = None,
    steps: int = 128,
    jitter: int = 4,
    blur: float = 1.0,
    objective: str = "channel",
    learning_rate: float = 0.05,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Tensor:
    r"""Inputs that excite units as much as an input of natural spectrum can.

    The input is :math:`x = \sigma(C\,\mathcal F^{-1}(z/\max(f, f_0)))`: a Fourier spectrum ``z``
    that is learnt (Adam), divided by its frequency, as natural signals have it, so that no
    frequency is preferred; mixed to natural colours where there are three channels; and brought
    to ``[0, 1]`` at no more than an ordinary contrast. Each step looks at it moved by a few
    samples (jitter); now and then its finest detail is damped (blur, less and less). After Olah,
    Mordvintsev and Schubert, "Feature visualization" (Distill 2017), and Yosinski et al. (2015)
    for the blur; any number of axes. A step after which features or gradient are not finite is
    taken back, and retried at half the rate, eight times in a row at most.

    Args:
        network: takes values in about ``[0, 1]``.
        layer: one of its layers.
        units: channels, each of which gets an input; they are worked on together.
        size: extent of the inputs; None: once and a half the receptive field, within limits.
        steps: of Adam.
        jitter: samples to move by along each axis at most.
        blur: deviation of the Gaussian at the start, in samples; falls to 0 over the steps.
        objective: ``"channel"`` excites a unit everywhere, which shows what it is about;
            ``"position"`` only in the middle, which shows where its field ends.
        learning_rate: of Adam.
        seed: of start and jitter.
        watch: is told the step.
        say: is told in a line when steps were taken back for the first time.

    Returns:
        ``(len(units), C, *size)`` in ``[0, 1]``, on the CPU.

    Raises:
        UnknownNameError: no such layer.
        UsageError: an option is out of range, or there is no such unit.
        UnfinishedError: a `NumericalError`: the network's features, or their gradient, are not
            finite at the start, or again and again after smaller steps.
    """
    if objective not in ("channel", "position") or steps < 1 or jitter < 0 or blur < 0:
        raise UsageError(
            "maximise: expected objective channel or position, steps from 1, jitter and blur from "
            f"0, got {objective!r}, {steps}, {jitter}, {blur:g}; correct them"
        )
    field = fields_of(network, [layer])[layer]
    rank = network.spatial_dims
    if size is None:
        longest = {1: 1024, 2: 160, 3: 40}.get(rank, 16)
        shortest = {1: 128, 2: 48, 3: 24}.get(rank, 12)
        size = [min(longest, max(shortest, math.ceil(1.5 * span))) for span in field.span]
    size = list(size)
    device = next(network.parameters(), torch.zeros(())).device
    generator = torch.Generator().manual_seed(seed)
    axes = tuple(range(2, rank + 2))
    frequency = _frequencies(size)
    envelope = 1 / frequency.clamp_min(1 / max(size))
    envelope = (envelope / envelope.square().mean().sqrt()).to(device)
    shape = (len(units), network.in_channels, *frequency.shape, 2)
    # Plain grey may leave a rectified unit without a gradient to begin with.
    start = torch.randn(shape, generator=generator) * 0.3
    z = start.to(device).requires_grad_()
    colours = torch.tensor(_COLOURS, device=device)

    def values(spectrum: Tensor) -> Tensor:
        waves = torch.view_as_complex(spectrum.contiguous()) * envelope
        x = torch.fft.irfftn(waves, s=size, dim=axes, norm="ortho")
        if network.in_channels == 3:
            x = torch.einsum("kc,bc...->bk...", colours, x)
        # Else the search would run into black and white, where there is no gradient.
        contrast = x.flatten(1).std(1, correction=0).clamp_min(_CONTRAST)
        return torch.sigmoid(x * (_CONTRAST / contrast).view(-1, *[1] * (rank + 1)))

    optimizer = Adam(z, learning_rate, betas=_BETAS)
    rows = torch.arange(len(units), device=device)
    chosen = torch.tensor(list(units), device=device)
    good: tuple[Tensor, Tensor] | None = None  # the last spectrum that went well, its gradient
    step = failures = 0
    rate, told = learning_rate, say is None
    while True:
        shifts = torch.randint(-jitter, jitter + 1, (rank,), generator=generator).tolist()
        x = torch.roll(values(z), shifts, axes)
        features = network(x, [layer])[layer]
        if max(units) >= features.shape[1]:
            raise UsageError(
                f"maximise: expected units from 0 to {features.shape[1] - 1} in {layer}, got "
                f"{max(units)}; choose from these"
            )
        maps = features[rows, chosen]
        if objective == "position":
            middle = tuple(extent // 2 for extent in maps.shape[1:])
            score = maps[(slice(None), *middle)]
        else:
            score = maps.flatten(1).mean(1)
        z.grad = None
        # Each unit by its own scale: Adam alone would do that, were it not for shared rounding.
        (-score.sum()).backward()
        assert z.grad is not None
        if bool(score.isfinite().all() and z.grad.isfinite().all()):
            if failures and not told and say is not None:
                told = True
                say(
                    f"optimal inputs of {layer}: numbers that are not finite at step {step}, taken "
                    f"back; going on at {rate / learning_rate:.3g} of the step"
                )
            good, failures, step = (z.detach().clone(), z.grad.clone()), 0, step + 1
        elif good is None or failures == _RETRIES:
            raise UnfinishedError(
                f"maximise: expected finite features in {layer} and a finite gradient, got others "
                f"at step {step} after {failures} smaller steps; choose another layer",
                None if good is None else values(good[0]).detach().cpu(),
            )
        else:
            failures, rate = failures + 1, rate / 2
            z = good[0].clone().requires_grad_()
            z.grad = good[1].clone()
            optimizer = Adam(z, rate, betas=_BETAS)
        optimizer.step()
        sigma = blur * (1 - (step - 1) / steps)
        if sigma > 0 and (step - 1) % 4 == 3:
            damping = torch.exp(-2 * (math.pi * sigma * frequency) ** 2 / 4).to(device)
            with torch.no_grad():
                z *= damping[..., None]
        if failures:
            continue
        if watch is not None:
            watch(step)
        if step == steps:
            return values(z).detach().cpu()


def _frequencies(size: Sequence[int]) -> Tensor:
    """Length of the frequency vector of each coefficient, in cycles per sample."""
    axes = [torch.fft.fftfreq(extent) for extent in size[:-1]] + [torch.fft.rfftfreq(size[-1])]
    squares = torch.zeros([len(axis) for axis in axes])
    for at, axis in enumerate(axes):
        squares = squares + axis.square().view(-1, *[1] * (len(axes) - 1 - at))
    return squares.sqrt()
