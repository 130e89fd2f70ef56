r"""The objective of a volume, evaluated on its slices along all three axes.

A network for pictures sees every slice. Statistics are summed over the slices of an axis, so each
axis has its own terms (after Gutierrez et al. 2020, "On demand solid texture synthesis"). Slices
have square pixels in millimetres: where a pixel is longer than wide, as in a slice across thick
slices, the fine axis is averaged down. A step of 5 mm is therefore never taken for one of 0.6 mm.

The objective exists for two transfers. *Noise*: the network sees the noise texture alone
(`convnd_tasks.modalities.volumes.noise_texture`); the blurred values, which hold the anatomy, are
the content; each tissue has statistics of its own, and edges have none. *Paint*: the network sees
the values, and the content is features of a deeper layer, as for pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.errors import UsageError
from convnd.nn import resize_nd
from convnd.optimize import Evaluation, ProcessGroup, ShardedField, all_reduce_sums
from convnd.stats import Sums
from convnd_tasks.modalities.volumes.features import FeatureExtractor, VolumeLossConfig
from convnd_tasks.modalities.volumes.noise_init import NoiseInitializer
from convnd_tasks.modalities.volumes.slabs import SHORTEST, SlabPlan, View
from convnd_tasks.modalities.volumes.view_loss import ViewLoss, source_of

__all__ = ["SliceObjective"]


class SliceObjective:
    r"""Loss and gradient of a volume, computed slab by slab in two passes.

    Slices do not depend on each other, and statistics add up. The gradient of
    :math:`\sum_t w_t \Phi_t(\sum_{slabs} s_t)` is therefore exact for any division into slabs, and
    memory is that of one slab. Each of several processes holds a part of the volume. For each view
    it fetches the slices across that view's axis that it works on, and returns their gradient.

    Args:
        net: has two axes and one channel.
        config: see `VolumeLossConfig`.
        content: values ``(1, 1, *S)``, about ``[0, 1]``; this process's part.
        views: see `convnd_tasks.modalities.volumes.slabs.square_pixel_views`.
        styles: for each view, pictures ``(n, 1, H, W)`` of each style with the view's pixel size;
            an iterator may make them one view at a time.
        weights: one for each style.
        precision: number format of the features.
        shards: the processes that share the volume; None is this process alone.
        slices: see `SlabPlan`.

    Raises:
        UsageError: no view, or more processes than slices.
    """

    def __init__(
        self,
        net: Backbone,
        config: VolumeLossConfig,
        content: Tensor,
        *,
        views: Sequence[View],
        styles: Iterable[Sequence[Tensor]],
        weights: Sequence[float],
        precision: Precision,
        shards: ShardedField | None = None,
        slices: int | None = None,
    ) -> None:
        self.shards = ShardedField(content.shape[2:], ProcessGroup()) if shards is None else shards
        self.group = self.shards.group
        _check_views(views, self.shards)
        self.config, self.content = config, content
        self._slabs = SlabPlan(self.group.size, slices)
        self._extractor = FeatureExtractor(net, config, precision)
        self._views: list[ViewLoss] = []
        self._noise: NoiseInitializer | None = None
        pictures_of_views = iter(styles)
        with torch.no_grad():
            for view in views:
                pictures = next(pictures_of_views)
                part = self._gather_slices(content, view)
                slabs = [view.extract(part, window) for window in self._windows(view)]
                loss = ViewLoss(
                    self._extractor,
                    config,
                    view,
                    pictures=pictures,
                    weights=weights,
                    content=slabs,
                    group=self.group,
                    slices=slices,
                )
                if config.tissues and not self._views:
                    self._noise = NoiseInitializer.fit(
                        loss.texture, slabs, pictures, weights, self.group
                    )
                self._views.append(loss)
                del pictures, part, slabs  # before the next ones are made

    def switch_to_float32(self) -> bool:
        """Compute features in float32 from now on, see `convnd.losses.Objective`."""
        exact = self._extractor.precision.exact()
        if exact == self._extractor.precision:
            return False
        self._extractor.precision = exact
        exact.apply(self._extractor.net)
        return True

    def evaluate(self, x: Tensor) -> Evaluation:
        """Loss and gradient at ``x`` ``(1, 1, *S)``, this process's part."""
        if self._slabs.is_one_pass([loss.view for loss in self._views], self.shards.size):
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                total, parts = self._value([self._sums(loss, leaf) for loss in self._views])
                (gradient,) = torch.autograd.grad(total, leaf)
            return Evaluation(float(total.detach()), parts, gradient.contiguous())
        with torch.no_grad():
            sums = self._all_reduce([self._sums(loss, x) for loss in self._views])
        leaves = [
            {
                name: Sums(part.total.detach().requires_grad_(), part.count)
                for name, part in view.items()
            }
            for view in sums
        ]
        with torch.enable_grad():
            total, parts = self._value(leaves)
            totals = [part.total for view in leaves for part in view.values()]
            flat = iter(torch.autograd.grad(total, totals))
            sum_grads = [{name: next(flat) for name in view} for view in leaves]
        gradient = torch.zeros_like(x)
        for loss, grads in zip(self._views, sum_grads, strict=True):
            self._add_gradient(gradient, loss, grads, x)
        total = self.group.broadcast(total.detach())  # all processes must decide alike
        return Evaluation(float(total), parts, gradient)

    def _add_gradient(
        self, gradient: Tensor, loss: ViewLoss, sum_grads: Mapping[str, Tensor], x: Tensor
    ) -> None:
        """Add the part of the gradient that passes through one view."""
        view = loss.view
        part, content = self._gather_slices(x, view), self._gather_slices(self.content, view)
        # In place, where this process owns the slices.
        target = gradient if part is x else torch.zeros_like(part)
        for window in self._windows(view):
            index = _index(view, window)
            leaf = part[index].detach().requires_grad_()
            with torch.enable_grad():
                sums = loss.sums(view.extract(leaf), view.extract(content, window))
                (slab_gradient,) = torch.autograd.grad(
                    [term.total for term in sums.values()],
                    leaf,
                    [sum_grads[name].to(term.total.dtype) for name, term in sums.items()],
                )
            target[index] += slab_gradient
        if target is not gradient:
            gradient += self._scatter_slices(target, view)

    def term_names(self) -> list[list[str]]:
        """Names of the style terms of each view."""
        return [list(loss.style_losses) for loss in self._views]

    def keep_terms(self, names: Sequence[Sequence[str]]) -> None:
        """Drop all style terms but the named ones of each view."""
        for loss, terms in zip(self._views, names, strict=True):
            loss.style_losses = {name: loss.style_losses[name] for name in terms}

    def initial(self, seed: int) -> Tensor:
        """Values ``(1, 1, *S)`` to start from: the content plus the noise that its tissues lack.

        This also drops the style terms of structure, see `ViewLoss.drop_structure_terms`.

        Args:
            seed: of the noise, which is drawn in the slices of the finest pixels.
        """
        if self._noise is None:
            return self.content
        view, generator = self._views[0].view, torch.Generator().manual_seed(seed)
        start = self.content.clone()
        part = self._gather_slices(self.content, view)
        noisy = start if part is self.content else torch.zeros_like(part)
        first, stop = self._own_slices(view)
        # Numbers are drawn for the slabs of one process by default, so that neither the number of
        # processes nor the size of the slabs changes them.
        for whole in SlabPlan().windows(view, self.shards.size[view.axis]):
            low, high = (min(max(end, whole.start), whole.stop) for end in (first, stop))
            window = slice(low - first, high - first)
            noise = self._noise.sample(
                view.extract(part, window),
                generator,
                before=low - whole.start,
                after=whole.stop - high,
            )
            slices = noisy[0, 0].movedim(view.axis, 0)[window]
            slices += resize_nd(noise, slices.shape[1:], mode="nearest")[:, 0]
        if noisy is not start:
            start += self._scatter_slices(noisy, view)
        with torch.no_grad():
            sums = self._all_reduce([self._sums(loss, start) for loss in self._views])
        for loss, terms in zip(self._views, sums, strict=True):
            loss.drop_structure_terms(terms)
        return start

    def step_scale(self) -> Tensor | float:
        """Length of an optimization step in each voxel, relative to the mean.

        In units of the noise of its tissue every voxel counts alike. Otherwise the noisy tissues
        would converge long before the quiet ones.

        Returns:
            ``(1, 1, *S)``, this process's part; 1 without tissues.
        """
        loss = self._views[0]
        view = loss.view
        part = self._gather_slices(self.content, view)
        plane = [extent for axis, extent in enumerate(self.shards.size) if axis != view.axis]
        scales = []
        for window in self._windows(view):
            labels = loss.label(view.extract(part, window))
            if labels is None:
                return 1.0
            scales.append(resize_nd(loss.texture.step_scale(labels), plane, mode="nearest"))
        scale = torch.cat(scales)[:, 0].movedim(0, view.axis)[None, None]
        scale = self._scatter_slices(scale, view)
        return scale / (self.group.all_reduce(scale.sum()) / math.prod(self.shards.size))

    def _all_reduce(self, sums: list[dict[str, Sums]]) -> list[dict[str, Sums]]:
        if self.group.size == 1:
            return sums
        flat = [part for view in sums for part in view.values()]
        totals = iter(all_reduce_sums(self.group, flat, self.content.device, len(flat)))
        reduced = [{name: next(totals) for name in view} for view in sums]
        return [
            {name: Sums(part.total.float(), part.count) for name, part in view.items()}
            for view in reduced
        ]

    def _gather_slices(self, part: Tensor, view: View) -> Tensor:
        """The slices across a view's axis that this process works on."""
        return self.shards.gather_region(part, self.shards.even_boxes(view.axis))

    def _scatter_slices(self, slices: Tensor, view: View) -> Tensor:
        """Return slices to the processes that own them; the transpose of `_gather_slices`."""
        return self.shards.scatter_add(slices, self.shards.even_boxes(view.axis))

    def _own_slices(self, view: View) -> tuple[int, int]:
        """Numbers of the first slice of this process and of the one after its last."""
        return self.shards.even_boxes(view.axis)[self.group.rank][view.axis]

    def _windows(self, view: View) -> Iterator[slice]:
        """Ranges of this process's slices, one for each slab."""
        first, stop = self._own_slices(view)
        return self._slabs.windows(view, stop - first)

    def _sums(self, loss: ViewLoss, x: Tensor) -> dict[str, Sums]:
        """Sums over this process's slices in one view."""
        view = loss.view
        part, content = self._gather_slices(x, view), self._gather_slices(self.content, view)
        total: dict[str, Sums] = {}
        for window in self._windows(view):
            sums = loss.sums(view.extract(part, window), view.extract(content, window))
            total = {name: total[name] + term for name, term in sums.items()} if total else sums
        return total

    def _value(self, sums: Sequence[dict[str, Sums]]) -> tuple[Tensor, dict[str, float]]:
        """The objective, and its weighted terms by name."""
        config = self.config
        content, roughness = [], []
        for terms, loss in zip(sums, self._views, strict=True):
            content += loss.content_values(terms)
            if config.tv_weight:
                roughness.append(loss.roughness_value(terms))
        shares = {
            "content": _mean(content, self.content) * config.content_weight,
            **self._style_shares(sums),
        }
        if roughness:
            shares["total_variation"] = torch.stack(roughness).mean() * config.tv_weight
        total = sum(shares.values())
        assert isinstance(total, Tensor)
        return total, {name: float(share.detach()) for name, share in shares.items()}

    def _style_shares(self, sums: Sequence[dict[str, Sums]]) -> dict[str, Tensor]:
        """The weighted style terms of layers and of value statistics."""
        config = self.config
        style: list[Tensor] = []
        weights: list[float] = []
        statistics: dict[str, list[Tensor]] = {}
        for terms, view in zip(sums, self._views, strict=True):
            for name, loss in view.style_losses.items():
                source, value = source_of(name), loss.value(terms[name])
                own_weight = config.value_statistics_weight is not None
                if own_weight and source in config.value_statistics:
                    statistics.setdefault(source, []).append(value)
                else:
                    style.append(value)
                    weights.append(config.weight_of(source))
        mean = _mean(style, self.content)
        if any(weight != 1 for weight in weights):
            scale = torch.tensor(weights, device=mean.device)
            mean = (torch.stack(style) * scale).sum() / scale.sum().clamp(min=1e-12)
        shares = {"style": mean * config.style_weight}
        for source, values in statistics.items():
            shares[source] = torch.stack(values).mean() * (config.value_statistics_weight or 0.0)
        return shares


def _check_views(views: Sequence[View], shards: ShardedField) -> None:
    if not views:
        raise UsageError(
            f"volume: expected slices of at least {SHORTEST} x {SHORTEST} square pixels, "
            f"got a volume of {shards.size}; give a larger one"
        )
    slices = min(shards.size[view.axis] for view in views)
    if slices < shards.group.size:
        raise UsageError(
            f"volume: expected at most as many processes as slices, {slices}, got "
            f"{shards.group.size}; start fewer"
        )


def _mean(values: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(values)).mean() if values else like.new_zeros(())


def _index(view: View, window: slice) -> tuple[slice, ...]:
    """Index of slices in ``(1, 1, *S)``."""
    axes = (window if axis == view.axis else slice(None) for axis in range(3))
    return (slice(None), slice(None), *axes)
