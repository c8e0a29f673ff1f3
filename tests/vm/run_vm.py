"""Boots a guest under QEMU (TCG) and reads its serial console.

The guest speaks in marked lines: `@@ BOOTED release`, `@@ PASS check`, `@@ FAIL check: why`, `@@ READY`, `@@ EXIT status`,
`@@ DATA name json`. Every wait has a deadline; leaving the context ends the guest whatever it does.
"""
import json
import os
import pathlib
import queue
import subprocess
import tempfile
import threading
import time

from image import Image
from kernel import Kernel

MARK = "@@ "


class GuestFailed(AssertionError):
    """The guest said FAIL, ended early or missed a deadline; the message ends with its console."""


class Guest:
    """One running QEMU. `netns` and `tap` join the guest's eth0 to a TAP device in a network namespace."""

    def __init__(self, kernel: Kernel, image: Image, netns: str | None = None, tap: str | None = None, memory: int = 768):
        self._temporary = tempfile.TemporaryDirectory(prefix="postern-vm-")
        archive = pathlib.Path(self._temporary.name) / "initrd"
        image.pack(archive)
        command = ["ip", "netns", "exec", netns] if netns else []
        # TCG emulates no 5-level paging well; without la57 the guest boots in half the time. no_timer_check: on a busy machine
        # the kernel would find its timer too slow and panic.
        command += ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", str(memory),
                    "-display", "none", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel", kernel.image, "-initrd", archive,
                    "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=unstable random.trust_cpu=on no_timer_check"]
        if tap:
            command += ["-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no",
                        "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:02,romfile="]
        self.console: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen([os.fspath(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, errors="replace")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=10)
        self._temporary.cleanup()

    def say(self, line: str) -> None:
        """To the scenario's standard input on the console."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def next_mark(self, deadline: float) -> str:
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise self.failed("the guest said nothing in time") from None
            if line is None:
                raise self.failed("the guest ended without @@ EXIT")
            self.console.append(line)
            if MARK in line:
                return line.split(MARK, 1)[1]

    def wait_for(self, word: str, seconds: float) -> str:
        """The rest of the first mark that begins with `word`; a FAIL on the way is an error."""
        deadline = time.monotonic() + seconds
        while True:
            mark = self.next_mark(deadline)
            if mark.startswith("FAIL"):
                raise self.failed(mark)
            if mark.split(" ", 1)[0] == word:
                return mark[len(word):].strip()

    def run_to_exit(self, seconds: float) -> "Outcome":
        deadline = time.monotonic() + seconds
        outcome = Outcome()
        while True:
            word, _, rest = self.next_mark(deadline).partition(" ")
            if word == "EXIT":
                outcome.status = int(rest)
                outcome.console = self.console
                return outcome
            outcome.take(word, rest)

    def failed(self, why: str) -> GuestFailed:
        return GuestFailed(why + "\n--- console ---\n" + "\n".join(self.console[-60:]))


class Outcome:
    """What a scenario reported."""

    def __init__(self):
        self.status = -1
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.data: dict[str, object] = {}
        self.console: list[str] = []

    def take(self, word: str, rest: str) -> None:
        if word == "PASS":
            self.passed.append(rest)
        elif word == "FAIL":
            self.failed.append(rest)
        elif word == "DATA":
            name, _, text = rest.partition(" ")
            self.data[name] = json.loads(text)
