"""One job on two hosts, which two network namespaces stand in for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import convnd.io

ADDRESSES = ("10.99.26.1", "10.99.26.2")
PORT = "29726"
PICTURE = (
    "stylize", "a.npy", "b.npy", "--dim", "2", "--size", "0", "--backbone", "compact",
    "--precision", "float32", "--scales", "1", "--steps", "3", "-o",
)  # fmt: skip
SCAN = (
    "stylize-volume", "a.npy", "--style", "b.npy", "--spacing", "2,2,2", "--precision", "float32",
    "--style-layers", "relu1_1", "--transfer", "paint", "--no-figures", "--steps", "3", "-o",
)  # fmt: skip


class Host(NamedTuple):
    """A network namespace with one interface."""

    namespace: str
    interface: str
    rank: int

    def start(self, folder: Path, *command: str) -> subprocess.Popen[str]:
        """Start the host's part of a job of two hosts."""
        settings = {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": self.interface,
            "MASTER_ADDR": ADDRESSES[0],
            "MASTER_PORT": PORT,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "1",
            "RANK": str(self.rank),
            "LOCAL_RANK": "0",
        }
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-m", "convnd", *command],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if sys.platform != "linux" or os.geteuid() or shutil.which("ip") is None:
        pytest.skip("two network namespaces take Linux, root and the command ip")
    mark = f"cn{os.getpid()}"
    pair = Host(f"{mark}a", "veth26a", 0), Host(f"{mark}b", "veth26b", 1)
    try:
        for host in pair:
            ip("netns", "add", host.namespace)
        first, second = pair
        other = ("peer", "name", second.interface, "netns", second.namespace)
        ip("-n", first.namespace, "link", "add", first.interface, "type", "veth", *other)
        for host, address in zip(pair, ADDRESSES, strict=True):
            ip("-n", host.namespace, "addr", "add", f"{address}/24", "dev", host.interface)
            for interface in ("lo", host.interface):
                ip("-n", host.namespace, "link", "set", interface, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr!r}")
    else:
        yield pair
    finally:
        for host in pair:
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, capture_output=True)


def write_inputs(folder: Path, size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        np.save(folder / f"{name}.npy", rng.normal(size=size).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "size", "output"),
    [(PICTURE, (1, 40, 36), "out.npy"), (SCAN, (24, 22, 20), "out.nii")],
    ids=["picture", "scan"],
)
def test_two_hosts_give_what_one_process_gives(
    command: tuple[str, ...],
    size: tuple[int, ...],
    output: str,
    hosts: tuple[Host, Host],
    tmp_path: Path,
) -> None:
    write_inputs(tmp_path, size)
    both = [host.start(tmp_path, *command, f"two-{output}") for host in hosts]
    printed = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    subprocess.run(
        [sys.executable, "-m", "convnd", *command, f"one-{output}", "-q"],
        cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = (convnd.io.read(tmp_path / f"{name}-{output}").values for name in ("one", "two"))
    # A few steps of float32 amplify the rounding of sums in another order.
    assert (one - two).abs().max() <= 1e-4 * one.abs().max()
    assert not one.equal(convnd.io.read(tmp_path / "a.npy").values)


@pytest.mark.slow
def test_a_host_that_dies_ends_the_job_with_one_line(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    write_inputs(tmp_path, (1, 40, 36))
    endless = ("--steps", "1000000", "--tolerance", "0", "--checkpoint-every", "1", "--resume")
    first, second = (host.start(tmp_path, *PICTURE, "out.npy", *endless) for host in hosts)
    checkpoint = tmp_path / "out.npy.checkpoint"
    began = time.monotonic()
    while not checkpoint.exists() and first.poll() is None and time.monotonic() - began < 120:
        time.sleep(0.05)
    # Nothing arrives any more, not even that connections are closed.
    ip("-n", hosts[1].namespace, "link", "set", hosts[1].interface, "down")
    out, errors = first.communicate(timeout=200)
    second.kill()
    second.communicate(timeout=60)
    assert first.returncode == 4, errors
    assert errors.strip().splitlines()[-1].startswith("convnd: processes: expected all 2 to go on")
    assert out == ""
    assert checkpoint.exists()
    assert not (tmp_path / "out.npy").exists()
