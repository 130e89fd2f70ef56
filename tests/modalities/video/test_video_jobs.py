"""Videos as jobs: first frames, shared networks, names of figures, textures, tags left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.images.codec import color_moments
from convnd_tasks.modalities.video import modality
from convnd_tasks.modalities.video.finish import FrameFinisher
from convnd_tasks.modalities.video.frame_cache import FINAL, FrameCache
from convnd_tasks.modalities.video.frame_optimizer import make_frame_transfer
from convnd_tasks.modalities.video.metrics import measure_texture
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.progress import unfinished_text
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.samples.video import SampleVideo
from error_fields import raises
from video_files import write_video_file

from convnd import io
from convnd.errors import UsageError

QUICK = ["--steps", "1", "--scales", "1", "--backbone", "compact", "-q"]


def test_later_frames_take_no_more_steps_than_the_first() -> None:
    assert VideoOptions.for_dim(3, steps=2).frame_steps == 2
    assert VideoOptions.for_dim(3, steps=200).frame_steps == 40
    assert VideoOptions.for_dim(3, steps=2, frame_steps=7).frame_steps == 7
    assert VideoOptions.for_dim(3, steps=None, frame_steps=None).frame_steps == 40


def test_first_frames_that_are_not_finished() -> None:
    falling = list(100 * 0.9 ** np.arange(20.0))
    assert "34 %" in unfinished_text(falling)
    assert unfinished_text(list(100 * 0.99 ** np.arange(20.0))) == ""
    assert unfinished_text([0.0] * 9) == ""
    assert "3 steps" in unfinished_text([4.0, 3.0, 2.0, 1.0])


@pytest.mark.slow
def test_one_network_for_a_folder_and_names_of_figures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mkv"):
        write_video_file(folder / name, [0, 3600])
    transfers: list[Any] = []

    def counted(options: VideoOptions) -> Any:
        transfers.append(make_frame_transfer(options))
        return transfers[-1]

    monkeypatch.setattr(modality, "make_frame_transfer", counted)
    out = tmp_path / "out"
    code, _, _ = run("stylize-video", str(folder), "cells", "-o", str(out), *QUICK)
    assert (code, len(transfers)) == (0, 1)
    # Results of one stem, one after the other: each keeps figures of its own.
    for name in ("c.mp4", "c.mkv"):
        source = str(folder / "a.mp4")
        code, _, _ = run("stylize-video", source, "cells", "-o", str(tmp_path / name), *QUICK)
        assert code == 0
    assert len(list(tmp_path.glob("c*sheet*.png"))) == 2


def test_a_texture_without_files(tmp_path: Path) -> None:
    spec = resolve([], texture=True, modality="videos")
    assert (spec.contents, spec.styles) == (("video",), ("video",))
    with raises(UsageError, operation="--texture", got="no file"):
        resolve([], texture=True, dim=2)


def test_textures_are_measured_by_style_alone() -> None:
    video = SampleVideo((3, 48, 64))
    names = ("cells", "waves")
    cells, waves = (samples.style(name, spatial_dims=2, size=64) for name in names)
    measures = {measure.name: measure for measure in measure_texture(video, [cells])}
    assert set(measures) == {"style_energy", "frames"}
    assert measures["style_energy"].before is None
    assert len(measures["style_energy"].parts) == 3

    class Still:
        def frames(self) -> Any:
            from convnd.io import VideoFrame

            yield VideoFrame(0, cells.values)

    (same, _), (other, _) = (measure_texture(Still(), [style]) for style in (cells, waves))  # type: ignore[arg-type]
    assert same.value < 1e-3 < 0.1 < other.value


def test_unfinished_first_frames_are_told_and_tags_stripped(run: Run, tmp_path: Path) -> None:
    tags = {"title": "My film", "location": "+48.1000+011.5000/", "date": "2020"}
    path = write_video_file(tmp_path / "a.mp4", [0, 3600], metadata=tags)
    for name, options in (("b.mp4", []), ("c.mp4", ["--strip"])):
        code, out, _ = run(
            *("stylize-video", str(path), "cells", "-o", str(tmp_path / name), *QUICK),
            *("--no-figures", "--json", *options),
        )
        (result,) = json.loads(out)["results"]
        assert (code, result["steps"]) == (0, 2)
        unfinished, *others = result["messages"]
        assert "not finished" in unfinished
        assert "--steps" in unfinished
        assert others == []
        with av.open(str(tmp_path / name)) as written:
            assert ("location" in written.metadata) == (not options)
            assert ("title" in written.metadata) == (not options)


def test_a_preview_is_the_first_frame_as_a_picture(run: Run, tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", [0, 3600, 7200, 10800])
    arguments = ("stylize-video", str(path), "cells", "--preview", *QUICK)
    code, out, _ = run(*arguments, "-o", str(tmp_path / "b.mp4"), "--json")
    (result,) = json.loads(out)["results"]
    assert (code, result["frames"]) == (0, 1)
    assert "all 4" in result["messages"][-1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b-preview.png"]
    assert io.read(tmp_path / "b-preview.png").shape == (48, 64)
    assert "preview" in json.dumps(io.read_provenance(tmp_path / "b-preview.png"))
    for more in (("--report", "r.html"), ("--mode", "block")):
        code, _, error = run(*arguments, *more)
        assert code == 2
        assert "--preview" in error


def test_a_texture_ends_with_the_colours_of_its_styles(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    style = torch.rand(1, 3, 16, 32, 32, generator=generator) * torch.tensor([0.6, 0.3, 0.1]).view(
        1, 3, 1, 1, 1
    )
    frames = [torch.rand(1, 3, 32, 32, generator=generator) * 0.2 + 0.4 for _ in range(4)]

    class Source:
        size = (32, 32)

        def frames(self) -> Any:
            yield from ((None, frame) for frame in frames)

    options = VideoOptions(mode="block")
    cache = FrameCache(tmp_path / "out.mp4")
    cache.open(options, [], resume=False)
    records = [{"e_warp": None} for _ in frames]
    for number, frame in enumerate(frames):
        cache.save(1, number, frame, records[number])
    finisher = FrameFinisher(options, color_moments(style))
    assert finisher.changes_frames
    assert list(finisher.run(Source(), cache, 1, records)) == [0, 1, 2, 3]  # type: ignore[arg-type]
    result = torch.stack([cache.load(FINAL, number) for number in range(4)], 2)
    moments = color_moments(result), color_moments(style)
    torch.testing.assert_close(moments[0].mean, moments[1].mean, atol=0.01, rtol=0)
    assert (moments[0].covariance - moments[1].covariance).abs().max() < 0.003
    assert moments[1].covariance.abs().max() > 0.02
    # All frames are changed alike: what was equal stays equal.
    same = color_moments(frames[0]).mean - color_moments(frames[1]).mean
    shift = color_moments(result[:, :, 0]).mean - color_moments(result[:, :, 1]).mean
    assert shift.abs().max() < 20 * same.abs().max() + 0.02
