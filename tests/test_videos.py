"""Clips: coherence on films of known motion, interruption, and what the command leaves behind."""

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
from convnd_tasks import samples
from convnd_tasks.modalities.video import frames as videos
from convnd_tasks.modalities.video.flow import Motion
from convnd_tasks.modalities.video.job import VideoInputs, VideoJob, mean_of
from convnd_tasks.modalities.video.keeping import FrameStore
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.runtime.prefetch import prefetch
from convnd_tasks.samples.video import SampleVideo
from PIL import Image

from convnd import io
from convnd.errors import (
    InputFileError,
    OutputExistsError,
    StopSignal,
    UnknownNameError,
    UsageError,
)
from convnd.transfer.style_transfer import Progress
from convnd.transfer.targets import Targets

Run = Callable[..., tuple[int, str, str]]
QUICK = {"steps": 3, "frame_steps": 3, "scales": 1}
FAST = ["--steps", "3", "--frame-steps", "3", "-q"]


def film(frames: int = 4, height: int = 48, width: int = 64) -> SampleVideo:
    return SampleVideo((frames, height, width))


def cells() -> Any:
    return samples.style("cells", spatial_dims=2, size=48)


def store_at(path: Path) -> FrameStore:
    store = FrameStore(path)
    store.open("mark", resume=False)
    return store


def finished(tmp_path: Path, clip: Any, **options: Any) -> list[videos.Finished]:
    transfer = videos.VideoTransfer(VideoOptions(**options), [cells().values])
    return list(transfer.run(clip, store_at(tmp_path / "out.mp4")))


def make(path: Path, frames: int = 4, clip: Any = None) -> Path:
    clip = film(frames) if clip is None else clip
    io.write_video(path, clip.info, clip.frames())
    return path


@pytest.mark.slow
def test_motion_holds_frames_together(tmp_path: Path) -> None:
    errors, styles = {}, {}
    for mode in ("flow", "independent"):
        (tmp_path / mode).mkdir()
        done = finished(tmp_path / mode, film(3), mode=mode, steps=15, scales=2)
        errors[mode] = mean_of([each.record for each in done], "e_warp")
        styles[mode] = np.mean([each.record["parts"]["style"] for each in done])
        own = mean_of([each.record for each in done], "input_e_warp")
    assert own < 0.005
    assert errors["flow"] < 0.5 * errors["independent"]
    assert styles["flow"] < 1.1 * styles["independent"]


def test_two_passes(tmp_path: Path) -> None:
    job = VideoJob(VideoOptions(passes=2, **QUICK))
    inputs = VideoInputs(clip=film(3), styles=[cells()], names=["film", "cells"])
    outcome = job.run(inputs, tmp_path / "out.mp4")
    assert len(outcome.records) == 3
    assert [record["e_warp"] is None for record in outcome.records] == [True, False, False]
    # The last frame begins the way back; it took no further steps.
    steps = [record["steps"] for record in outcome.records]
    assert steps[2] <= 3 < steps[1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_references_take_the_nearest() -> None:
    here = torch.zeros(2, 16, 16)
    # Frame t - 1 cannot be relied on at the left, t - 4 at the top.
    left, top = torch.zeros(2, 16, 16), torch.zeros(2, 16, 16)
    left[1, :, :8], top[0, :8] = 40.0, 40.0  # they lead out of the frame
    motions = {1: Motion(here, left), 4: Motion(here, top)}
    values = [torch.full((1, 3, 16, 16), float(level)) for level in (4, 3, 2, 1)]  # t-4 … t-1
    target, mask = videos._references(motions, values)
    assert target[0, 0, 12, 12] == 1  # both know it
    assert target[0, 0, 12, 2] == 4  # only the one further back
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

    done = finished(tmp_path, Cut((4, 64, 96)), **QUICK)
    assert [each.record["cut"] for each in done] == [True, False, True, False]
    assert [each.record["e_warp"] is None for each in done] == [True, False, True, False]
    assert ["temporal" in each.record["parts"] for each in done] == [False, True, False, True]


def test_style_targets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    true = Targets.style

    def counted(self: Targets, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return true(self, *arguments, **named)

    monkeypatch.setattr(Targets, "style", counted)
    finished(tmp_path, film(5), **QUICK)
    assert len(calls) == 2  # the first frame's own, and one for all others


def test_later_frames_rest_when_they_have_settled(tmp_path: Path) -> None:
    rough = finished(tmp_path, film(2), steps=3, scales=1, frame_steps=30, settle_tolerance=0.5)
    assert 0 < rough[1].record["steps"] < 12


@pytest.mark.slow
def test_interrupted_work_goes_on_to_the_same_clip(tmp_path: Path) -> None:
    inputs = VideoInputs(clip=film(4), styles=[cells()], names=["film", "cells"])
    job = VideoJob(VideoOptions(**QUICK))
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    job.run(inputs, whole)

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise StopSignal(signal.SIGTERM)

    with pytest.raises(StopSignal):
        job.run(inputs, parts, watch=stop)
    assert not parts.exists()
    folder = tmp_path / "parts.mp4.frames"
    assert sorted(path.name for path in folder.iterdir()) == [
        "frame-000000.png",
        "frame-000001.png",
        "frames.jsonl",
    ]
    with pytest.raises(OutputExistsError, match=r"expected no frames of an earlier run.*--resume"):
        job.run(inputs, parts)
    other = VideoJob(VideoOptions(**QUICK, style_weight=7.0))
    with pytest.raises(UsageError, match="resume: expected frames of these inputs and options"):
        other.run(inputs, parts, resume=True)
    longer = VideoInputs(clip=film(5), styles=[cells()], names=["film", "cells"])
    with pytest.raises(UsageError, match="got those of others"):
        job.run(longer, parts, resume=True)
    with (folder / "frames.jsonl").open("a") as log:
        log.write('{"turn": 1, "numb')  # the lights went out
    said: list[str] = []
    outcome = job.run(inputs, parts, resume=True, tell=said.append)
    assert said == ["2 frames are there from the run before"]
    assert outcome.fresh == 2
    assert not folder.exists()
    first, second = (
        [frame.values for frame in io.open_video(path).frames()] for path in (whole, parts)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    (tmp_path / "parts.mp4.frames").mkdir()
    (folder / "frames.jsonl").write_text("nothing")
    with pytest.raises(InputFileError, match="got a damaged record"):
        job.run(inputs, parts, resume=True, overwrite=True)


@pytest.mark.slow
def test_command(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "film.mp4")
    code, out, err = run("stylize-video", "film.mp4", "cells", "--report", "r.html", *FAST)
    assert code == 0
    # A first step on so small a picture may be too long, which is told and put right.
    assert all("was rejected" in line for line in err.splitlines())
    assert out.startswith("film_stylized.mp4  64x48, 4 frames, E_warp ")
    assert "s per frame" in out
    before, after = (list(io.open_video(n).frames()) for n in ("film.mp4", "film_stylized.mp4"))
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film.mp4",
        "film_stylized-frames.png",
        "film_stylized-sheet.png",
        "film_stylized-slit.png",
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
    for word in ("E_warp of the result", "temporal_weight", "Frame by frame"):
        assert word in page
    code, _, err = run("stylize-video", "film.mp4", "cells", *FAST)
    assert code == 2
    assert "expected a new file" in err
    code, _, err = run("stylize", "film.mp4", "cells", "-o", "b.mkv", "--shard", "1/2")
    assert code == 2
    assert "--shard" in err
    assert (
        run("stylize", "--dim", "3", "film.mp4", "cells", "-o", "b.mkv", "--steps", "2", "-q")[0]
        == 0
    )
    assert io.open_video("b.mkv").info.size == (48, 64)


def test_part_size_folder_and_gif(run: Run, tmp_path: Path) -> None:
    io.write_image_sequence(tmp_path / "shots", film(6, 64, 96).frames())
    code, out, _ = run(
        *["stylize-video", "shots", "cells", "--no-pictures", "--rate", "10", "--size", "64"],
        *["--from", "0.1", "--to", "0.5", "--every", "2", *FAST],
    )
    assert code == 0
    assert out.startswith("shots_stylized  64x42, 2 frames")
    names = sorted(path.name for path in (tmp_path / "shots_stylized").iterdir())
    assert names == ["frame-000002.png", "frame-000004.png"]
    assert run("stylize-video", "shots", "cells", "-o", "a.gif", "--to", "0.08", *FAST)[0] == 0
    assert len(list(io.open_video("a.gif").frames())) == 2
    code, _, err = run("stylize-video", "shots", "cells", "-o", "b", "--from", "9", *FAST)
    assert code == 2
    assert "--from, --to: expected some frames" in err


def test_damage_is_said_and_the_rest_done(run: Run, tmp_path: Path) -> None:
    io.write_image_sequence(tmp_path / "shots", film(4).frames())
    (tmp_path / "shots" / "frame-000003.png").write_bytes(b"damaged")
    code, out, err = run("stylize-video", "shots", "cells", "-o", "a.mp4", *FAST)
    assert code == 1
    assert "3 frames" in out
    assert err == "convnd: shots: 1 damaged frame was left out; the others are done\n"
    times = [
        frame.pts * io.open_video("a.mp4").info.time_base
        for frame in io.open_video("a.mp4").frames()
    ]
    assert times == [0, Fraction(1, 25), Fraction(3, 25)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_keep_what_is_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    make(tmp_path / "film.mp4")
    true = videos.VideoTransfer._walk
    count = []

    def optimize(self: Any, *arguments: Any) -> Any:
        count.append(1)
        if len(count) == 2:
            os.kill(os.getpid(), number)
        return true(self, *arguments)

    monkeypatch.setattr(videos.VideoTransfer, "_walk", optimize)
    code, out, err = run("stylize-video", "film.mp4", "cells", *FAST)
    assert (code, out) == (128 + number, "")
    assert (
        "2 finished frames are kept in film_stylized.mp4.frames; the same command with --resume"
        in err
    )
    assert not (tmp_path / "film_stylized.mp4").exists()
    code, out, err = run("stylize-video", "film.mp4", "cells", "--resume", *FAST)
    assert (code, err) == (0, "2 frames are there from the run before\n")
    assert "4 frames" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mp4"], 3, "expected an existing file"),
        (["text.mp4"], 3, "expected a clip, got a damaged or unsupported file"),
        (["film.mp4", "-o", "a.avi"], 2, "expected a name ending in .mp4"),
        (["film.mp4", "--from", "x"], 2, "--from: expected a number of seconds from 0 to"),
        (["film.mp4", "--from", "1e99999999"], 2, "--from: expected a number of seconds"),
        (["film.mp4", "--to", "0"], 2, "--to: expected a time after --from"),
        (["film.mp4", "--rate", "5"], 2, "--rate: expected a folder of pictures"),
        (["film.mp4", "--references", "2,4"], 2, "references: expected rising numbers"),
        (["film.mp4", "--references", "a"], 2, "--references: expected whole numbers"),
        (["film.mp4", "--mode", "flo"], 2, "mode: expected one of flow, block, independent"),
        (["film.mp4", "nostyle"], 2, "style: expected one of"),
        (["film.mp4", "--size", "16"], 3, "expected frames of at least 16 pixels"),
        (["film.mp4", "--report", "r.txt"], 2, "report: expected a name ending in .html"),
        (["film.mp4", "--mode", "independent", "--passes", "2"], 2, "passes: expected 1 with"),
    ],
)
def test_errors(run: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    make(tmp_path / "film.mp4", 2)
    (tmp_path / "text.mp4").write_text("no clip")
    before = sorted(tmp_path.iterdir())
    found, out, err = run("stylize-video", *arguments, *FAST)
    assert (found, out) == (code, "")
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_options() -> None:
    record = VideoOptions().record()
    assert (record["mode"], record["references"], record["backbone"]) == ("flow", "1,4", "compact")
    with pytest.raises(UsageError, match="temporal_weight: expected 0 <= temporal_weight"):
        VideoOptions(temporal_weight=-1)
    with pytest.raises(UsageError, match="colors: expected style for clips"):
        VideoOptions(colors="match")
    with pytest.raises(UnknownNameError, match="mode: expected one of"):
        VideoOptions(mode="blocks")


def test_ahead_passes_errors_and_stops_early() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
            raise InputFileError("read a: expected b, got c; do d")
        finally:
            closed.append(True)

    found = prefetch(items)
    assert (next(found), next(found)) == (1, 2)
    with pytest.raises(InputFileError, match="expected b"):
        next(found)
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

    make(tmp_path / "a.mp4", clip=film(3))
    io.write_video(tmp_path / "n.mkv", film(3).info, Noise((3, 48, 64)).frames(), crf=1)
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
    assert "expected clips of equally many frames, got 2 in b.mp4 and more in a.mp4" in err
