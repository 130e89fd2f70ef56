r"""Activation maximization: inputs that a unit responds to most, over any number of axes.

The input is :math:`x = \sigma(C\,\mathcal F^{-1}(z/\max(f, f_0)))`. Adam learns the Fourier
coefficients ``z``. The division by the frequency gives every frequency the amplitude that it has
in natural signals, ``C`` mixes three channels to natural colors, and the sigmoid, applied at a
limited contrast, maps to ``[0, 1]``. Each step shifts the input by a few random samples (jitter).
Every fourth step damps its finest details (blur), less and less.

Sources: Olah, Mordvintsev and Schubert, "Feature visualization" (Distill 2017); for the blur
Yosinski et al., "Understanding neural networks through deep visualization" (2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import NumericalError, UsageError
from convnd.optimize.adam import Adam
from convnd_tasks.inspect.units import check_units, receptive_fields

__all__ = ["AscentError", "maximize_activation"]

_RETRIES = 8  # the same number as in `convnd.optimize.minimize`
_BETAS = (0.9, 0.999)
_CONTRAST = 1.2  # largest deviation before the sigmoid: few samples saturate at 0 or 1

# Square root of the mean covariance of R, G and B in scikit-image's astronaut, chelsea, coffee and
# rocket, divided by its largest entry: the colors of photographs mostly vary together.
_COLOR_CORRELATION = ((1.0, 0.517, 0.317), (0.517, 0.779, 0.579), (0.317, 0.579, 0.857))


class AscentError(NumericalError):
    """The gradient ascent left the finite numbers repeatedly.

    Args:
        text: the message.
        inputs: inputs of the last good step, as `maximize_activation` returns them, or None.
    """

    def __init__(self, text: str, inputs: Tensor | None) -> None:
        super().__init__(text)
        self.inputs = inputs


def maximize_activation(
    network: Backbone,
    layer: str,
    units: Sequence[int],
    *,
    size: Sequence[int] | None = None,
    steps: int = 128,
    jitter: int = 4,
    blur: float = 1.0,
    learning_rate: float = 0.05,
    seed: int = 0,
    on_message: Callable[[str], None] | None = None,
) -> Tensor:
    """Compute inputs of natural spectrum that maximize the mean activation of units.

    A step that leads to numbers that are not finite is retried at half the rate, up to 8 times.

    Args:
        network: backbone for values of about ``[0, 1]``.
        layer: one of its layers.
        units: channels; each gets an input, and all are optimized together.
        size: extent of the inputs; None takes 1.5 times the receptive field, within limits.
        steps: number of steps of Adam.
        jitter: largest shift along each axis, in samples.
        blur: initial standard deviation of the Gaussian, in samples; decreases to 0.
        learning_rate: rate of Adam.
        seed: seed of the start and the shifts.
        on_message: is called with one line when steps are rejected for the first time.

    Returns:
        ``(len(units), C, *size)`` in ``[0, 1]``, on the CPU.

    Raises:
        UnknownNameError: the network has no such layer.
        UsageError: an option is out of range, or the layer has no such unit.
        AscentError: activation or gradient is not finite at the start or after smaller steps.
    """
    _check_numbers(steps, jitter, blur)
    if size is None:
        size = _default_size(receptive_fields(network, [layer])[layer].span)
    spectrum = _Spectrum(size, network)
    generator = torch.Generator().manual_seed(seed)
    ascent = _Ascent(spectrum.random(len(units), generator), learning_rate)
    while ascent.failures or ascent.step < steps:
        shifts = torch.randint(-jitter, jitter + 1, (len(size),), generator=generator).tolist()
        x = spectrum.decode(ascent.coefficients).roll(shifts, spectrum.axes)
        finite = ascent.differentiate(_mean_activation(network, layer, units, x))
        if finite:
            if ascent.failures and on_message is not None:
                on_message(_rejection_note(layer, ascent.step, ascent.rate / learning_rate))
                on_message = None  # one line is enough
            ascent.accept()
        elif ascent.last_good is None or ascent.failures == _RETRIES:
            raise _ascent_error(ascent, spectrum, layer)
        else:
            ascent.reject()
        ascent.optimizer.step()
        if (ascent.step - 1) % 4 == 3:
            spectrum.blur_(ascent.coefficients, blur * (1 - (ascent.step - 1) / steps))
    return spectrum.decode(ascent.coefficients).detach().cpu()


def _check_numbers(steps: int, jitter: int, blur: float) -> None:
    if steps < 1 or jitter < 0 or blur < 0:
        raise UsageError(
            "maximize_activation",
            expected="steps from 1, jitter and blur from 0",
            got=f"{steps}, {jitter}, {blur:g}",
            remedy="the defaults are 128, 4 and 1",
        )


def _rejection_note(layer: str, step: int, share: float) -> str:
    return (
        f"optimal inputs of {layer}: numbers that are not finite at step {step}, rejected; "
        f"going on at {share:.3g} of the learning rate"
    )


class _Spectrum:
    """Inputs of natural spectrum and contrast, parametrized by Fourier coefficients."""

    def __init__(self, size: Sequence[int], network: Backbone) -> None:
        device = next(network.parameters(), torch.zeros(())).device
        self._size = list(size)
        self.axes = tuple(range(2, len(size) + 2))
        self._channels = network.in_channels
        self._frequency = _frequencies(self._size)
        envelope = 1 / self._frequency.clamp_min(1 / max(self._size))
        self._envelope = (envelope / envelope.square().mean().sqrt()).to(device)
        self._colors = torch.tensor(_COLOR_CORRELATION, device=device)
        self._device = device

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw coefficients ``(count, C, *frequencies, 2)``."""
        # On plain gray a rectified unit may have no gradient.
        shape = (count, self._channels, *self._frequency.shape, 2)
        return (torch.randn(shape, generator=generator) * 0.3).to(self._device)

    def decode(self, coefficients: Tensor) -> Tensor:
        """Transform coefficients to inputs ``(count, C, *size)`` in ``[0, 1]``."""
        waves = torch.view_as_complex(coefficients.contiguous()) * self._envelope
        x = torch.fft.irfftn(waves, s=self._size, dim=self.axes, norm="ortho")
        if self._channels == 3:
            x = torch.einsum("kc,bc...->bk...", self._colors, x)
        # Without a limit the search would run into black and white, where the gradient vanishes.
        contrast = x.flatten(1).std(1, correction=0).clamp_min(_CONTRAST)
        return torch.sigmoid(x * (_CONTRAST / contrast).view(-1, *[1] * (x.ndim - 1)))

    @torch.no_grad()
    def blur_(self, coefficients: Tensor, sigma: float) -> None:
        """Damp fine details in place by a Gaussian of ``sigma / 2`` samples."""
        damping = torch.exp(-2 * (math.pi * sigma * self._frequency) ** 2 / 4)
        coefficients *= damping.to(self._device)[..., None]


class _Ascent:
    """Adam with recovery: the last good coefficients and their gradient are kept."""

    def __init__(self, start: Tensor, learning_rate: float) -> None:
        self.rate = learning_rate
        self.step = self.failures = 0
        self.last_good: tuple[Tensor, Tensor] | None = None
        self._restart(start)

    def differentiate(self, scores: Tensor) -> bool:
        """Compute the gradient of ``scores``; return whether both are finite."""
        self.coefficients.grad = None
        # The sum separates the units: Adam scales each coefficient by its own gradient.
        torch.autograd.backward(-scores.sum())
        assert self.coefficients.grad is not None
        return bool(scores.isfinite().all() and self.coefficients.grad.isfinite().all())

    def accept(self) -> None:
        """Record the coefficients as good."""
        assert self.coefficients.grad is not None
        self.last_good = self.coefficients.detach().clone(), self.coefficients.grad.clone()
        self.failures, self.step = 0, self.step + 1

    def reject(self) -> None:
        """Return to the last good coefficients at half the rate."""
        assert self.last_good is not None
        coefficients, gradient = self.last_good
        self.failures, self.rate = self.failures + 1, self.rate / 2
        self._restart(coefficients.clone())
        self.coefficients.grad = gradient.clone()

    def _restart(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients.requires_grad_()
        self.optimizer = Adam(self.coefficients, self.rate, betas=_BETAS)


def _ascent_error(ascent: _Ascent, spectrum: _Spectrum, layer: str) -> AscentError:
    inputs = None if ascent.last_good is None else spectrum.decode(ascent.last_good[0])
    return AscentError(
        f"maximize_activation: expected finite features in {layer} and a finite gradient, got "
        f"others at step {ascent.step} after {ascent.failures} smaller steps; choose another layer",
        None if inputs is None else inputs.detach().cpu(),
    )


def _mean_activation(network: Backbone, layer: str, units: Sequence[int], x: Tensor) -> Tensor:
    """Mean activation of unit ``units[i]`` for the input ``x[i]``, ``(len(units),)``."""
    features = network(x, [layer])[layer]
    check_units(layer, units, features.shape[1])
    rows = torch.arange(len(units), device=x.device)
    maps = features[rows, torch.tensor(list(units), device=x.device)]
    means: Tensor = maps.flatten(1).mean(1)
    return means


def _default_size(span: Sequence[int]) -> list[int]:
    """1.5 times a receptive field, within limits that keep the time per step bounded."""
    longest = {1: 1024, 2: 160, 3: 40}.get(len(span), 16)
    shortest = {1: 128, 2: 48, 3: 24}.get(len(span), 12)
    return [min(longest, max(shortest, math.ceil(1.5 * extent))) for extent in span]


def _frequencies(size: Sequence[int]) -> Tensor:
    """Length of the frequency vector of each coefficient, in cycles per sample."""
    axes = [torch.fft.fftfreq(extent) for extent in size[:-1]] + [torch.fft.rfftfreq(size[-1])]
    squares = torch.zeros([len(axis) for axis in axes])
    for index, axis in enumerate(axes):
        squares = squares + axis.square().view(-1, *[1] * (len(axes) - 1 - index))
    return squares.sqrt()
