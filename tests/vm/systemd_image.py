"""An initramfs whose first process is Debian's systemd, with the units of this tree enabled for node N1."""
import pathlib
import subprocess

from image import GUEST, Image
from kernel import Kernel

TOP = pathlib.Path(__file__).resolve().parents[2]
SYSTEM = pathlib.Path("/lib/systemd/system")
PROGRAMS = ["/lib/systemd/systemd", "/lib/systemd/systemd-journald", "/lib/systemd/systemd-shutdown"]
UNITS = """basic.target sysinit.target multi-user.target default.target local-fs.target local-fs-pre.target network.target network-pre.target paths.target
           sockets.target timers.target slices.target shutdown.target umount.target final.target swap.target rescue.target emergency.target
           systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket -.slice system.slice""".split()


def oneshot(description: str, script: str, *ordering: str) -> str:
    return "\n".join(["[Unit]", f"Description={description}", *ordering, "[Service]", "Type=oneshot", "RemainAfterExit=yes",
                      "Environment=PATH=/bin:/sbin", f"ExecStart=/bin/sh /{script}", "StandardOutput=file:/dev/ttyS0", "StandardError=file:/dev/ttyS0",
                      "TimeoutStartSec=infinity", ""])


class SystemdImage(Image):
    """The scenario runs as a unit of multi-user.target and ends the guest."""

    def __init__(self, kernel: Kernel, modules: list[str], programs: pathlib.Path):
        super().__init__(kernel, modules)
        self.add_file(GUEST / "systemd-init", "init", 0o755)
        for program in PROGRAMS:
            self.add_program(pathlib.Path(program), "lib/systemd")
        for program in ("/bin/systemctl", "/bin/journalctl"):
            self.add_program(pathlib.Path(program), "bin")
        for unit in UNITS:
            if (SYSTEM / unit).exists():
                self.add_file((SYSTEM / unit).resolve(), f"lib/systemd/system/{unit}")
        self.add_text("", "etc/machine-id")
        for part in ("netup", "systemd", "lab", "xfrm"):
            self.add_file(GUEST / part, part)
        (self.root / "usr").mkdir(exist_ok=True)
        (self.root / "var/log").mkdir(parents=True, exist_ok=True)
        self.units(programs)

    def units(self, programs: pathlib.Path) -> None:
        for name in ("posternd@.service", "postern-guard@.service"):
            self.add_file(TOP / "systemd" / name, f"lib/systemd/system/{name}")
        for program in ("posternd", "postern-worker", "postern-ike", "postern"):
            self.add_program(programs / program, "usr/bin", strip=True)
            (self.root / "bin" / program).symlink_to(f"/usr/bin/{program}")
        self.add_text(oneshot("Network of the lab", "netup", "DefaultDependencies=no", "After=network-pre.target", "Wants=network-pre.target",
                              "Before=network.target", "After=sysinit.target"), "etc/systemd/system/netup.service")
        self.add_text(oneshot("Scenario", "run-scenario", "After=posternd@N1.service netup.service"), "etc/systemd/system/scenario.service")
        self.add_text('sh /systemd </dev/null 2>&1\necho "@@ EXIT $?"\nsync\npoweroff -f\n', "run-scenario")
        self.add_text("[Unit]\nDescription=All\nRequires=basic.target\nWants=multi-user.target\nAfter=basic.target\n", "etc/systemd/system/default.target")
        for unit, target in (("netup.service", "default.target"), ("scenario.service", "default.target"), ("systemd-journald.service", "sysinit.target"),
                             ("systemd-journald.socket", "sockets.target"), ("systemd-journald-dev-log.socket", "sockets.target")):
            wants = self.root / f"etc/systemd/system/{target}.wants"
            wants.mkdir(parents=True, exist_ok=True)
            where = "etc" if (self.root / "etc/systemd/system" / unit).exists() else "lib"
            (wants / unit).symlink_to(f"/{where}/systemd/system/{unit}")
        subprocess.run(["systemctl", "--root", self.root, "enable", "posternd@N1.service"], check=True, capture_output=True)  # and with it the guard
