"""One Postern node: posternd, its children and its command line."""
import json
import os
import pathlib
import select
import signal
import socket
import time

import documents
from netns import CommandFailed, Lab, Namespace, Process, run, wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("POSTERN_BIN", TOP / "build/release/bin"))
RUN = pathlib.Path("/run/postern")
PINS = pathlib.Path("/sys/fs/bpf/postern")


def child_pids(node: str) -> list[int]:
    """Workers and the other children whose command line names this node."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        program = pathlib.PurePath(words[0].decode(errors="replace")).name
        if program in ("postern-worker", "postern-ike", "postern-pki", "postern-resolver") and node.encode() in words and not gone(int(entry.name)):
            found.append(int(entry.name))
    return found


def gone(pid: int) -> bool:
    """No such process, or one that ended and waits for its parent."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class NotifySocket:
    """The service manager's side of sd_notify(3)."""

    def __init__(self, path: pathlib.Path):
        path.unlink(missing_ok=True)
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.said: list[str] = []

    def wait_ready(self, process: Process, seconds: float) -> None:
        """Returns at READY=1; an AssertionError with the log when the process ends or says nothing in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self._socket], [], [], 0.05)[0]:
                message = self._socket.recv(4096).decode(errors="replace")
                self.said += message.splitlines()
                if "READY=1" in message.splitlines():
                    return
            if not process.running():
                raise AssertionError(f"posternd ended before it was ready:\n{process.log()}")
        raise AssertionError(f"posternd was not ready within {seconds} s; it said {self.said}\n{process.log()}")

    def hears(self, word: str, seconds: float) -> bool:
        """Whether it is said within that time. What was said before does not count."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0] and word in self._socket.recv(4096).decode(errors="replace").splitlines():
                return True
        return False

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Node:
    """posternd in one namespace. `process` is the running daemon or None. Teardown is registered with the lab."""
    LIVING: list["Node"] = []  # started and not yet removed: whose packets must balance after each test (balance_watch.py)
    judge = None  # called with each of them at the end of its lab

    def __init__(self, lab: Lab, namespace: Namespace, name: str, document: dict, detached: bool = False):
        assert len(name) <= 12, f"{name}: the steer TAP pn-NAME must fit 15 characters"
        self.lab, self.namespace, self.name = lab, namespace, name
        self.document = document
        self.config = lab.scratch / f"{name}.json"
        documents.write(document, self.config)
        self.process: Process | None = None
        self.counted_before: dict[str, dict] = {}  # by the kernel on its tunnel interfaces, in earlier lives: balance.py
        self._detached = detached  # outlives this process and its terminal: the lab of scripts/up
        lab.callback(self._clean_up)
        lab.judges.append(lambda: Node.judge(self) if Node.judge and self in Node.LIVING else None)

    # -- life

    def launch(self) -> Process:
        """Starts posternd and does not wait."""
        if self in Node.LIVING and not child_pids(self.name):  # no worker to adopt: the counters begin again, those of the kernel go on
            links = json.loads(self.namespace.ip("-j", "-s", "link", "show", "type", "tun") or "[]")
            self.counted_before = {link["ifname"]: {f"{way}_packets": link["stats64"][way]["packets"] for way in ("rx", "tx")}
                                   for link in links if "ifname" in link}
        notify = self._notify = NotifySocket(self.lab.scratch / f"{self.name}.notify")
        self.process = self.lab.spawn([PROGRAMS / "posternd", "--name", self.name, "--config", self.config, "--netns", self.namespace.name],
                                      f"{self.name}-posternd", env={**os.environ, "NOTIFY_SOCKET": str(notify.path)},
                                      start_new_session=self._detached)
        return self.process

    def start(self, seconds: float = 20) -> None:
        self.launch()
        try:
            self._notify.wait_ready(self.process, seconds)
        finally:
            self._notify.close()
        if self not in Node.LIVING:
            Node.LIVING.append(self)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, as a service manager stops it; the exit status."""
        self.process.signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        assert "forbidden system call" not in self.process.log(), "a process ended by its sandbox"
        return status

    def kill_daemon(self) -> None:
        self.process.signal(signal.SIGKILL)
        self.process.wait(5)

    def kill_worker(self) -> int:
        """The pid that was killed."""
        pid = self.worker_pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker_pid(self) -> int:
        return self.dataplane()["worker"]["pid"]

    def teardown(self) -> None:
        run([PROGRAMS / "posternd", "--name", self.name, "--teardown", "--netns", self.namespace.name], timeout=30)

    def teardown_running(self) -> None:
        """Teardown through the command line, and the end of the daemon."""
        self.postern("teardown")
        self.process.wait(15)

    def _clean_up(self) -> None:
        """End of the test: whatever runs is asked to stop and everything it made is removed."""
        if self in Node.LIVING:
            Node.LIVING.remove(self)
        if self.process is not None and self.process.running():
            self.process.end()
        run([PROGRAMS / "posternd", "--name", self.name, "--teardown", "--netns", self.namespace.name], timeout=30, check=False)
        self.end_leftovers()

    def end_leftovers(self) -> None:
        """Children outlive posternd by design: those of this node name are ended by their pids."""
        for pid in child_pids(self.name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    # -- command line

    def postern(self, *words, check: bool = True, timeout: float = 20, json_output: bool = False):
        options = ["--json"] if json_output else []
        return run([PROGRAMS / "postern", "--node", self.name, *options, *words], check=check, timeout=timeout)

    def show(self, *words):
        """The parsed --json output of `show WORDS`."""
        done = self.postern("show", *words, json_output=True)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            raise CommandFailed(f"show {' '.join(words)} --json printed no JSON: {done.stdout[:200]!r}") from None

    def dataplane(self) -> dict:
        return self.show("dataplane")

    def apply(self, document: dict, check: bool = True):
        path = self.lab.scratch / f"{self.name}-apply.json"
        documents.write(document, path)
        try:
            return self.postern("config", "apply", path, check=check)
        finally:
            path.unlink()

    def answers(self, seconds: float = 5) -> None:
        wait_until(lambda: self.postern("show", "dataplane", check=False).returncode == 0, seconds, f"{self.name} answers")

    # -- what a node leaves in the system

    def traces(self) -> list[str]:
        """Everything of this node that still exists: /run and pin directories, child processes."""
        left = [str(path) for path in (RUN / self.name, PINS / self.name) if path.exists()]
        return left + [f"process {pid}" for pid in child_pids(self.name)]
