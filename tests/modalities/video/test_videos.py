"""Videos: coherence with known motion, interruption, and what the command writes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.images.codec import keep_luminance_only
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.video import frames as stylizer
from convnd_tasks.modalities.video.flow import FlowPair, estimate_flow, warping_error
from convnd_tasks.modalities.video.frame_cache import FrameCache, quantize
from convnd_tasks.modalities.video.frame_optimizer import FrameOptimizer
from convnd_tasks.modalities.video.input import (
    EarlierFrame,
    StylizedFrame,
    VideoSource,
    working_size,
)
from convnd_tasks.modalities.video.modality import Videos
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.references import warped_references
from convnd_tasks.modalities.video.result import VideoResult, mean_of
from convnd_tasks.runtime.prefetch import prefetch
from convnd_tasks.runtime.settings import JobSettings
from convnd_tasks.samples.video import SampleVideo
from error_fields import check_error, raises
from PIL import Image

import convnd
from convnd import io
from convnd.errors import (
    InputFileError,
    OutputExistsError,
    OutputFileError,
    StopSignal,
    UnknownNameError,
    UsageError,
)
from convnd.grid import Grid
from convnd.transfer.progress import Progress
from convnd.transfer.targets import Targets

QUICK: dict[str, Any] = {"steps": 3, "frame_steps": 3, "scales": 1}
FAST = ["--steps", "3", "--frame-steps", "3", "--scales", "1", "--backbone", "compact", "-q"]


def film(frames: int = 4, height: int = 48, width: int = 64) -> SampleVideo:
    return SampleVideo((frames, height, width))


def cells() -> Any:
    return samples.style("cells", spatial_dims=2, size=48)


def stylize_frames(options: VideoOptions, styles: Any, source: VideoSource, cache: Any) -> Any:
    return stylizer.FrameStylizer(options, FrameOptimizer(options, styles)).run(source, cache)


def finished(tmp_path: Path, video: Any, **options: Any) -> list[StylizedFrame]:
    chosen = VideoOptions(**options)
    cache = FrameCache(tmp_path / "out.mp4")
    cache.open(chosen, [], resume=False)
    source = VideoSource(video=video, size=working_size(video, chosen.size))
    items = stylize_frames(chosen, [cells().values], source, cache)
    return [item for item in items if isinstance(item, StylizedFrame)]


def stylize(
    video: Any,
    output: Path,
    *,
    settings: JobSettings | None = None,
    mask: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> VideoResult:
    """Run the modality as a job does."""
    modality = Videos(VideoOptions(**options), settings or JobSettings(), 3)
    content: Any = video
    inputs = TransferInputs(content=content, styles=[cells()], names=["video", "cells"], mask=mask)
    cache = modality.checkpointer(output, None)
    cache.check(resume=resume, overwrite=overwrite)
    transfer = modality.prepare(inputs)
    state = cache.open(modality.options, transfer.fingerprint(), resume=resume)
    for progress in transfer.run(state=state, group=None, on_message=on_message):
        on_progress(progress)
    result = modality.write(
        output,
        transfer.result(progress),
        inputs=inputs,
        overwrite=overwrite,
        record=transfer.record,
        on_message=on_message,
    )
    cache.close()
    return result


def values_of(path: Path) -> list[torch.Tensor]:
    return [frame.values for frame in io.open_video(path).frames()]


def make(path: Path, frames: int = 4, video: Any = None) -> Path:
    video = film(frames) if video is None else video
    io.write_video(path, video.info, video.frames())
    return path


@pytest.mark.slow
def test_motion_holds_frames_together(tmp_path: Path) -> None:
    errors, styles = {}, {}
    for mode in ("flow", "independent"):
        (tmp_path / mode).mkdir()
        frames = finished(tmp_path / mode, film(3), mode=mode, steps=15, scales=2)
        errors[mode] = mean_of([frame.record for frame in frames], "e_warp")
        styles[mode] = np.mean([frame.record["parts"]["style"] for frame in frames])
        input_error = mean_of([frame.record for frame in frames], "input_e_warp")
    assert input_error < 0.005
    assert errors["flow"] < 0.5 * errors["independent"]
    assert styles["flow"] < 1.1 * styles["independent"]


def test_two_passes(tmp_path: Path) -> None:
    steps: list[Progress] = []
    result = stylize(
        film(3),
        tmp_path / "out.mp4",
        passes=2,
        on_progress=steps.append,
        backbone="compact",
        **QUICK,
    )
    assert len(result.records) == 3
    assert [record["e_warp"] is None for record in result.records] == [True, False, False]
    # The last frame begins the second pass; it took no further steps.
    counts = [record["steps"] for record in result.records]
    assert counts[2] <= 3 < counts[1]
    assert steps[-1].step == sum(counts)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_references_take_the_nearest() -> None:
    zero = torch.zeros(2, 16, 16)
    # The flow from frame t - 1 is inconsistent at the left, that from t - 4 at the top.
    left, top = torch.zeros(2, 16, 16), torch.zeros(2, 16, 16)
    left[1, :, :8], top[0, :8] = 40.0, 40.0  # they lead out of the frame
    flows = {1: FlowPair(zero, left), 4: FlowPair(zero, top)}
    values = [torch.full((1, 3, 16, 16), float(level)) for level in (4, 3, 2, 1)]  # t-4 … t-1
    earlier = [EarlierFrame(frame, frame) for frame in values]
    target, mask = warped_references(flows, earlier)
    assert target[0, 0, 12, 12] == 1  # both are valid
    assert target[0, 0, 12, 2] == 4  # only the one further back is
    assert target[0, 0, 2, 12] == 1  # only the nearest
    assert [mask[0, 0, y, x].item() for y, x in ((12, 12), (12, 2), (2, 12), (2, 2))] == [
        1,
        1,
        1,
        0,
    ]


@pytest.mark.slow
def test_a_cut_begins_anew(tmp_path: Path) -> None:
    class Cut(SampleVideo):
        def frames(self, *arguments: Any) -> Iterator[io.VideoFrame]:
            for frame in super().frames(*arguments):
                values = frame.values if frame.pts < 2 else (1 - frame.values.flip(-1)) ** 2
                yield io.VideoFrame(frame.pts, values)

    records = [frame.record for frame in finished(tmp_path, Cut((4, 64, 96)), **QUICK)]
    assert [record["cut"] for record in records] == [True, False, True, False]
    assert [record["e_warp"] is None for record in records] == [True, False, True, False]
    assert ["temporal" in record["parts"] for record in records] == [False, True, False, True]


def test_style_targets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = Targets.style

    def counted(self: Targets, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return original(self, *arguments, **named)

    monkeypatch.setattr(Targets, "style", counted)
    finished(tmp_path, film(5), backbone="compact", **QUICK)
    assert len(calls) == 2  # the first frame's own, and one for all others


def test_later_frames_end_when_they_have_settled(tmp_path: Path) -> None:
    rough = finished(tmp_path, film(2), steps=3, scales=1, frame_steps=30, settle_tolerance=0.5)
    assert 0 < rough[1].record["steps"] < 12


@pytest.mark.slow
def test_interrupted_work_resumes_to_the_same_video(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    stylize(film(4), whole, **QUICK)

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise StopSignal(signal.SIGTERM)

    with pytest.raises(StopSignal):
        stylize(film(4), parts, on_progress=stop, **QUICK)
    assert not parts.exists()
    folder = tmp_path / "parts.mp4.frames"
    assert sorted(path.name for path in folder.iterdir()) == [
        "frame-000000.png",
        "frame-000001.png",
        "frames.jsonl",
    ]
    with raises(OutputExistsError, expected="no frames", remedy="--resume"):
        stylize(film(4), parts, **QUICK)
    with raises(UsageError, operation="resume", expected="these inputs and options"):
        stylize(film(4), parts, resume=True, style_weight=7.0, **QUICK)
    with raises(UsageError, operation="resume", got="those of others"):
        stylize(film(5), parts, resume=True, **QUICK)
    with (folder / "frames.jsonl").open("a") as file:
        file.write('{"pass": 1, "numb')  # the power went out
    messages: list[str] = []
    result = stylize(film(4), parts, resume=True, on_message=messages.append, **QUICK)
    assert messages == ["continuing after 2 frames of an earlier run"]
    assert result.new_frames == 2
    assert not folder.exists()
    for first, second in zip(values_of(whole), values_of(parts), strict=True):
        assert torch.equal(first, second)
    folder.mkdir()
    log = folder / "frames.jsonl"
    log.write_text("nothing")
    with raises(OutputExistsError, expected="one of an earlier run"):
        stylize(film(4), parts, resume=True, overwrite=True, **QUICK)
    assert log.read_text() == "nothing"
    log.write_text('{"fingerprint": "cut')
    with raises(InputFileError, got="a damaged list"):
        stylize(film(4), parts, resume=True, overwrite=True, **QUICK)


@pytest.mark.slow
def test_frames_finished_before_the_end_are_not_optimised_again(tmp_path: Path) -> None:
    class FullDiskError(Exception):
        pass

    output = tmp_path / "out.mp4"

    def stop(progress: Progress) -> None:
        if progress.fraction_done == 1:
            raise FullDiskError

    with pytest.raises(FullDiskError):
        stylize(film(3), output, on_progress=stop, strength=0.5, **QUICK)
    steps: list[Progress] = []
    result = stylize(film(3), output, resume=True, on_progress=steps.append, strength=0.5, **QUICK)
    assert result.new_frames == 0
    assert len(steps) == 1  # of the whole video
    assert steps[0].step == sum(record["steps"] for record in result.records)


@pytest.mark.slow
def test_strength_applies_to_the_statistics_of_every_frame(tmp_path: Path) -> None:
    options = {**QUICK, "steps": 12, "frame_steps": 8}
    strengths = (0.001, 0.5, 1.0)
    changes: list[list[float]] = []
    for strength in strengths:
        folder = tmp_path / f"strength {len(changes)}"
        stylize(film(3), folder, strength=strength, **options)
        changes.append(
            [
                float((result - frame.values).square().mean())
                for result, frame in zip(values_of(folder), film(3).frames(), strict=True)
            ]
        )
    # At the content's own statistics no loss is left. Later frames begin with a warped one.
    assert changes[0][0] < 1e-4
    for nothing, half, full in zip(*changes, strict=True):
        assert nothing < half < full
        assert half != pytest.approx(full / 4, rel=1e-3)  # no mixture of values


@pytest.mark.slow
def test_strength_and_mask_apply_to_finished_frames(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    contents = [quantize(frame.values) for frame in film(3).frames()]
    stylize(film(3), folder, **QUICK)
    full = values_of(folder)

    one_pass: dict[str, Any] = {"init": "instant", "steps": 0}
    stylize(film(3), tmp_path / "once", **one_pass)
    half = stylize(film(3), tmp_path / "half", strength=0.5, **one_pass)
    for content, first, second in zip(
        contents, values_of(tmp_path / "once"), values_of(tmp_path / "half"), strict=True
    ):
        torch.testing.assert_close(second, (content + first) / 2, rtol=0, atol=1.01 / 255)
    # E_warp is that of the frames that are written.
    frames = list(values_of(tmp_path / "half"))
    error = warping_error(frames[0], frames[1], estimate_flow(contents[0], contents[1]))
    assert half.records[1]["e_warp"] == pytest.approx(error, rel=0.2)

    left = torch.zeros(1, 1, 48, 64)
    left[..., 32:] = 1
    stylize(film(3), tmp_path / "masked", mask=Grid(values=left), **QUICK)
    for content, first, second in zip(contents, full, values_of(tmp_path / "masked"), strict=True):
        # The masked half takes the whole style, so that its values are others than those of `full`.
        assert not torch.equal(second[..., 32:], first[..., 32:])
        assert (second - content)[..., 32:].abs().max() > 0.02
        assert (second[..., :32] * 255).round().equal((content[..., :32] * 255).round())

    class Moving(SampleVideo):
        """A mask of three frames; the second is 0 everywhere."""

        def frames(self, *arguments: Any) -> Iterator[io.VideoFrame]:
            for frame in super().frames(*arguments):
                shape = frame.values.shape
                yield io.VideoFrame(frame.pts, torch.full(shape, float(frame.pts != 1)))

    stylize(film(3), tmp_path / "moving", mask=Moving((3, 48, 64)), **QUICK)
    masked = values_of(tmp_path / "moving")
    assert torch.equal(masked[0], full[0])
    assert (masked[2] - contents[2]).abs().max() > 0.02  # it begins anew where nothing was changed
    assert (masked[1] * 255).round().equal((contents[1] * 255).round())


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Grid(values=torch.ones(1, 1, 48, 32)), {"expected": "size 64x48", "got": "32x48"}),
        (Grid(values=torch.zeros(1, 1, 48, 64)), {"expected": "values above 0"}),
        (film(5), {"expected": "4 frames", "got": "one of 5"}),
    ],
)
def test_masks_of_other_videos_are_refused(
    tmp_path: Path, mask: Any, words: dict[str, str]
) -> None:
    with raises(InputFileError, operation="--mask", **words):
        stylize(film(4), tmp_path / "a.mp4", mask=mask, **QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_luminance_keeps_the_colours_of_every_frame(tmp_path: Path) -> None:
    stylize(film(3), tmp_path / "plain", **QUICK)
    stylize(film(3), tmp_path / "luminance", colors="luminance", **QUICK)
    results = zip(
        film(3).frames(),
        values_of(tmp_path / "plain"),
        values_of(tmp_path / "luminance"),
        strict=True,
    )
    for frame, plain, luminance in results:
        expected = keep_luminance_only(plain, frame.values).clamp(0, 1)
        # One code of an 8-bit result in either file.
        torch.testing.assert_close(luminance, expected, rtol=0, atol=2.01 / 255)


def test_matched_styles_have_the_colours_of_the_whole_video(tmp_path: Path) -> None:
    class Halves(SampleVideo):
        """Dark red frames, then light blue ones."""

        def frames(self, *arguments: Any) -> Iterator[io.VideoFrame]:
            tints = torch.tensor([[0.4, 0.1, 0.1], [0.7, 0.7, 1.0]]).view(2, 1, 3, 1, 1)
            for frame in super().frames(*arguments):
                yield io.VideoFrame(frame.pts, frame.values * tints[int(frame.pts >= 20)])

    video: Any = Halves((40, 32, 48))
    modality = Videos(VideoOptions(colors="match"), JobSettings(), 3)
    inputs = TransferInputs(content=video, styles=[cells()], names=["video", "cells"])
    (style,) = modality.prepare(inputs).styles
    frames = torch.stack([frame.values for frame in video.frames()], 2)
    expected = frames[0].flatten(1).mean(1)
    torch.testing.assert_close(style[0].flatten(1).mean(1), expected, rtol=0, atol=0.03)
    assert (cells().values[0].flatten(1).mean(1) - expected).abs().max() > 0.06


@pytest.mark.slow
def test_styles_are_weighted(tmp_path: Path) -> None:
    styles = [cells().values, 1 - cells().values]
    source = VideoSource(video=film(2), size=(48, 64))
    results = {}
    for weights, used in (((1.0, 0.0), styles), ((0.0, 1.0), styles), ((), styles[1:])):
        options = VideoOptions(style_weights=weights, **QUICK)
        cache = FrameCache(tmp_path / str(weights))
        cache.open(options, [], resume=False)
        items = stylize_frames(options, used, source, cache)
        *_, last = (item for item in items if isinstance(item, StylizedFrame))
        results[weights] = last.values
    torch.testing.assert_close(results[0.0, 1.0], results[()], rtol=0, atol=1e-3)
    assert (results[1.0, 0.0] - results[()]).abs().max() > 0.05
    modality = Videos(VideoOptions(style_weights=(1.0, 2.0)), JobSettings(), 3)
    video: Any = film(2)
    inputs = TransferInputs(content=video, styles=[cells()], names=["video", "cells"])
    with raises(UsageError, operation="style_weights", expected="1 style"):
        modality.prepare(inputs)


def test_frames_stay_when_the_result_cannot_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "film.mp4", 2)

    def full(*_: Any, **__: Any) -> None:
        raise OutputFileError("write o.mp4: expected space, got a full disk; free some")

    with monkeypatch.context() as patch:
        patch.setattr(io, "write_video", full)
        code, _, err = run("stylize-video", "film.mp4", "cells", "-o", "o.mp4", *FAST)
    assert code == 4
    assert "2 finished frames are kept in o.mp4.frames; the same command with --resume" in err
    code, _, err = run(
        "stylize-video", "film.mp4", "cells", "-o", "o.mp4", "--resume", *FAST, "--no-figures"
    )
    assert (code, err) == (0, "continuing after 2 frames of an earlier run\n")
    assert not (tmp_path / "o.mp4.frames").exists()


def test_result_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "film.mp4", 2)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    result = convnd.stylize("film.mp4", "cells", backbone="compact", **QUICK)
    assert result.values.shape == (1, 3, 2, 48, 64)
    result.save("a")
    for first, second in zip(values_of(tmp_path / "a"), result.values.unbind(2), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0.51 / 255)
    del result
    assert not list((tmp_path / "temporary").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "film.mp4", "temporary"]


@pytest.mark.slow
def test_command(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "film.mp4")
    code, out, err = run("stylize-video", "film.mp4", "cells", "--report", "r.html", *FAST)
    assert code == 0, err
    # A first step on so small a picture may be too long, which is reported and put right. Three
    # steps do not finish a frame, which is told.
    assert all("reject" in line or "not finished" in line for line in err.splitlines())
    assert out.startswith("film_stylized.mp4  64x48, 4 frames, E_warp ")
    assert "s per frame" in out
    before, after = (list(io.open_video(n).frames()) for n in ("film.mp4", "film_stylized.mp4"))
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film.mp4",
        "film_stylized-sheet.png",
        "film_stylized-slit.png",
        "film_stylized-timeline.png",
        "film_stylized.mp4",
        "r.html",
    ]
    sheet = Image.open("film_stylized-sheet.png")
    assert sheet.size == (4 * 64 + 3 * 4, 2 * 48 + 4)
    corner = np.asarray(sheet)[:48, :64] / 255.0  # the first frame of the input
    assert abs(corner.transpose(2, 0, 1) - before[0].values[0].numpy()).max() < 0.01
    scan = np.asarray(Image.open("film_stylized-slit.png")) / 255.0
    column = before[2].values[0, :, :, 32].T.numpy()
    assert scan.shape == (2 * 48 + 4, 480, 3)
    assert abs(scan[:48, 300] - column).max() < 0.01  # 120 columns for each of four frames
    page = Path("r.html").read_text()
    for word in ("E_warp of the result", "temporal_weight", "seconds per frame, flow", "The video"):
        assert word in page
    code, _, err = run("stylize-video", "film.mp4", "cells", *FAST)
    assert code == 2
    check_error(err, expected="a new file")
    code, _, err = run("stylize", "film.mp4", "cells", "-o", "b.mkv", "--shard", "1/2")
    assert code == 2
    check_error(err, operation="--shard", expected="a folder")
    code, _, err = run("stylize", "film.mp4", "cells", "-o", "b.mkv", "--init", "random")
    assert code == 2
    assert "--init" in err
    quick = ("--steps", "2", "--scales", "1", "-q")
    assert run("stylize", "--dim", "3", "film.mp4", "cells", "-o", "b.mkv", *quick)[0] == 0
    assert io.open_video("b.mkv").info.size == (48, 64)


@pytest.mark.slow
def test_part_size_folder_and_gif(run: Run, tmp_path: Path) -> None:
    io.write_image_sequence(tmp_path / "shots", film(6, 64, 96).frames())
    code, out, err = run(
        *["stylize-video", "shots", "cells", "--no-figures", "--rate", "10", "--size", "64"],
        *["--from", "0.1", "--to", "0.5", "--every", "2", *FAST],
    )
    assert code == 0, err
    assert out.startswith("shots_stylized  64x42, 2 frames")
    names = sorted(path.name for path in (tmp_path / "shots_stylized").iterdir())
    assert names == ["frame-000002.png", "frame-000004.png"]
    assert run("stylize-video", "shots", "cells", "-o", "a.gif", "--to", "0.08", *FAST)[0] == 0
    assert len(list(io.open_video("a.gif").frames())) == 2
    code, _, err = run("stylize-video", "shots", "cells", "-o", "b", "--from", "9", *FAST)
    assert code == 2
    check_error(err, operation="--from, --to", expected="some frames")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.gif", "a"])
def test_every_format_holds_the_record(run: Run, tmp_path: Path, name: str) -> None:
    make(tmp_path / "film.mp4", 2)
    command = ("stylize-video", "film.mp4", "cells", "-o", name, "--no-figures", *FAST)
    code, _, err = run(*command, "--every", "2")
    assert code == 0, err
    record = io.read_provenance(tmp_path / name)
    assert record["convnd:measured_e_warp"] == "nan"  # of a single frame
    assert "film.mp4" in record["convnd:inputs"]
    written = sorted(tmp_path.rglob("*"))
    code, out, err = run(*command, "--every", "2", "--skip-existing")
    assert (code, out) == (0, f"{name}  exists, made with the same parameters\n"), err
    assert sorted(tmp_path.rglob("*")) == written
    code, _, err = run(*command, "--skip-existing")  # all of its frames
    assert code == 2
    code, _, err = run("rerun", name, "-o", f"b{Path(name).suffix}", "-q")
    assert code == 0, err
    for first, second in zip(
        values_of(tmp_path / name), values_of(tmp_path / f"b{Path(name).suffix}"), strict=True
    ):
        assert torch.equal(first, second)


def test_mask_strength_and_colours_are_typed_and_recorded(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "film.mp4", 2)
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = ("--mask", "mask.png", "--strength", "0.7", "--colors", "luminance")
    code, _, err = run(
        "stylize-video", "film.mp4", "cells", "-o", "a", *more, *FAST, "--no-figures"
    )
    assert code == 0, err
    for before, after in zip(
        io.open_video("film.mp4").frames(), io.open_video("a").frames(), strict=True
    ):
        change = (after.values - before.values).abs()
        assert change[..., :40].max() < 1.01 / 255
        assert change[..., 40:].max() > 10 / 255
    assert run("rerun", "a", "-o", "b", "-q")[0] == 0
    for first, second in zip(values_of(tmp_path / "a"), values_of(tmp_path / "b"), strict=True):
        assert torch.equal(first, second)


def test_folder_of_videos(run: Run, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    for name in ("a.mp4", "b.mkv"):
        make(tmp_path / "films" / name, 2)
    command = ("stylize-video", "films", "cells", "--no-figures", *FAST)
    code, out, err = run(*command, "--shard", "2/2")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "films_stylized").iterdir()] == ["b_stylized.mkv"]
    code, out, err = run(*command, "--skip-existing")
    assert code == 0, err
    assert out.startswith("films_stylized/a_stylized.mp4  64x48, 2 frames")


@pytest.mark.slow
def test_damage_is_reported_and_the_rest_done(run: Run, tmp_path: Path) -> None:
    io.write_image_sequence(tmp_path / "shots", film(4).frames())
    (tmp_path / "shots" / "frame-000003.png").write_bytes(b"damaged")
    code, out, err = run("stylize-video", "shots", "cells", "--rate", "25", "-o", "a.mp4", *FAST)
    assert code == 1
    assert "3 frames" in out
    unfinished, *others, damaged = err.splitlines()
    assert "not finished" in unfinished
    # Whether a step of an unfinished frame is rejected depends on the processor's rounding.
    assert all("was rejected" in line for line in others)
    assert damaged.startswith("convnd: shots: 1 damaged frame was left out")
    video = io.open_video("a.mp4")
    times = [frame.pts * video.info.time_base for frame in video.frames()]
    assert times == [0, Fraction(1, 25), Fraction(3, 25)]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_signals_keep_finished_frames(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    make(tmp_path / "film.mp4")
    original = FrameOptimizer.optimize
    count = []

    def optimize(self: Any, *arguments: Any, **keywords: Any) -> Any:
        count.append(1)
        if len(count) == 2:
            os.kill(os.getpid(), number)
        return (yield from original(self, *arguments, **keywords))

    monkeypatch.setattr(FrameOptimizer, "optimize", optimize)
    code, out, err = run("stylize-video", "film.mp4", "cells", *FAST)
    assert (code, out) == (128 + number, "")
    assert "2 finished frames are kept in film_stylized.mp4.frames" in err
    assert "--resume" in err
    assert not (tmp_path / "film_stylized.mp4").exists()
    code, out, err = run("stylize-video", "film.mp4", "cells", "--resume", *FAST, "--no-figures")
    first, *others = err.splitlines()
    assert (code, first) == (0, "continuing after 2 frames of an earlier run")
    # Whether a step is rejected depends on the processor's rounding.
    assert all("was rejected" in line for line in others)
    assert "4 frames" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mp4"], 3, "expected an existing file"),
        (["text.mp4"], 3, "got a damaged or unsupported file"),
        (["film.mp4", "-o", "a.avi"], 2, "expected a name ending in .mp4"),
        (["film.mp4", "--from", "x"], 2, "--from: expected a number"),
        (["film.mp4", "--from", "1e99999999"], 2, "--from: expected a number"),
        (["film.mp4", "--to", "0"], 2, "--to: expected a time after --from"),
        (["film.mp4", "--rate", "5"], 2, "--rate: expected a folder of pictures"),
        (["film.mp4", "--references", "2,4"], 2, "references: expected rising numbers"),
        (["film.mp4", "--references", "a"], 2, "--references: expected whole numbers"),
        (["film.mp4", "--mode", "flo"], 2, "mode: expected one of flow, block, independent"),
        (["film.mp4", "nostyle"], 2, "style: expected an existing file"),
        (["film.mp4", "--size", "16"], 3, "expected frames of at least 16 pixels"),
        (["film.mp4", "--report", "r.txt"], 2, "report: expected a name ending in .html"),
        (["film.mp4", "--mode", "independent", "--passes", "2"], 2, "passes: expected 1 with"),
    ],
)
def test_errors(run: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    make(tmp_path / "film.mp4", 2)
    (tmp_path / "text.mp4").write_text("no video")
    before = sorted(tmp_path.iterdir())
    exit_code, out, err = run("stylize-video", *arguments, *FAST)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_options() -> None:
    record = VideoOptions().record()
    assert (record["mode"], record["references"], record["backbone"]) == ("flow", "1,4", "compact")
    with raises(UsageError, operation="temporal_weight", expected="0 <= temporal_weight"):
        VideoOptions(temporal_weight=-1)
    assert VideoOptions(colors="match").colors == "match"
    with raises(UnknownNameError, operation="mode", got="'blocks'"):
        VideoOptions(mode="blocks")


def test_prefetch_passes_errors_and_stops_early() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
            raise InputFileError("read a: expected b, got c; do d")
        finally:
            closed.append(True)

    iterator = prefetch(items)
    assert (next(iterator), next(iterator)) == (1, 2)
    with raises(InputFileError, operation="read a", got="c"):
        next(iterator)
    endless = prefetch(lambda: (item for item in iter(int, 1)))
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]
    assert closed == [True]


@pytest.mark.slow
def test_evaluate(run: Run, tmp_path: Path) -> None:
    io.write_image_sequence(tmp_path / "a", film(3).frames())

    class Noise(SampleVideo):
        def frames(self, *arguments: Any) -> Iterator[io.VideoFrame]:
            for frame in super().frames(*arguments):
                rng = torch.Generator().manual_seed(frame.pts)
                yield io.VideoFrame(frame.pts, torch.rand(frame.values.shape, generator=rng))

    make(tmp_path / "a.mp4", video=film(3))
    io.write_video(
        tmp_path / "n.mkv", film(3).info, Noise((3, 48, 64)).frames(), encoding=io.Encoding(crf=1)
    )
    code, out, _ = run("evaluate", "a.mp4", "a.mp4", "--style", "cells", "--json")
    same = json.loads(out)["measures"]
    assert code == 0
    assert same["e_warp"]["value"] == same["e_warp"]["before"] < 0.005
    assert same["content_energy"]["value"] == 0
    assert same["style_energy"]["value"] == same["style_energy"]["before"] > 0.05
    code, out, _ = run("evaluate", "a.mp4", "n.mkv", "--json")
    noise = json.loads(out)["measures"]
    assert noise["e_warp"]["value"] > 50 * noise["e_warp"]["before"]
    assert noise["content_energy"]["value"] > 0.5
    assert set(noise["e_warp"]["parts"]) == {"1", "2"}
    assert "style_energy" not in noise
    code, out, _ = run("evaluate", "a.mp4", "n.mkv")
    assert code == 0
    assert out.splitlines()[1].split()[0] == "e_warp"
    make(tmp_path / "b.mp4", 2)
    code, _, err = run("evaluate", "a.mp4", "b.mp4")
    assert code == 3
    check_error(
        err, expected="videos with equal numbers of frames", got="2 in b.mp4 and more in a.mp4"
    )
