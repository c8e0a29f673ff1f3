"""Captures on W's bridge ports, by tcpdump in W's namespace. Never on a node's own interface: AF_XDP is invisible there."""
import pathlib
import re
import signal

import scapy.layers.inet  # without it a reader knows neither Ethernet nor IP, and every frame is Raw
import scapy.layers.inet6
from scapy.utils import PcapReader

from netns import Namespace, wait_until


class Capture:
    """`with Capture(w, "w1", path) as c: ...; c.stop(); c.frames()`. A packet that crosses the port is there once."""

    def __init__(self, where: Namespace, device: str, path: pathlib.Path, expression: str = "", snap: int = 65535):
        self.path = path
        path.unlink(missing_ok=True)
        words = ["tcpdump", "-i", device, "-n", "-s", str(snap), "-B", "131072", "--immediate-mode", "-U", "-Z", "root", "-w", path]
        self._process = where.spawn(*words, *expression.split(), name=f"tcpdump-{device}")
        wait_until(lambda: "listening on" in self._process.log() or not self._process.running(), 10, "tcpdump listens")
        assert self._process.running(), self._process.log()
        self._stopped = False

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the capture; an AssertionError when the kernel dropped packets, since then the capture proves nothing."""
        if self._stopped:
            return
        self._stopped = True
        wait_until(self._caught_up, 20, "tcpdump has written all that it was given")
        self._process.signal(signal.SIGINT)
        self._process.wait(20)
        dropped = re.search(r"(\d+) packets? dropped by kernel", self._process.log())
        assert dropped, f"tcpdump ended without its figures: {self._process.log()}"
        assert int(dropped[1]) == 0, f"the capture itself lost {dropped[1]} packets"

    def _caught_up(self) -> bool:
        """SIGUSR1 makes tcpdump say what it has written and what the kernel has kept for it so far."""
        figures = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter")
        said = len(figures.findall(self._process.log()))
        self._process.signal(signal.SIGUSR1)
        wait_until(lambda: len(figures.findall(self._process.log())) > said or not self._process.running(), 10, "tcpdump's figures")
        written, kept = figures.findall(self._process.log())[-1]
        return int(written) >= int(kept)

    def frames(self) -> list:
        self.stop()
        with PcapReader(str(self.path)) as reader:
            return list(reader)

    def bytes_captured(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
