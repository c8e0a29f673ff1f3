"""Debian's cloud kernel (6.1, the floor) for the guests: fetched by apt, unpacked into a cache outside the tree."""
import contextlib
import fcntl
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

PACKAGE = "linux-image-cloud-amd64"


class KernelUnavailable(RuntimeError):
    """Neither the cache nor apt has the kernel."""


class Kernel:
    """An unpacked kernel package: `image` boots, `modules()` are files in the order in which they must be loaded."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.release = next((root / "lib/modules").iterdir()).name
        self.image = root / f"boot/vmlinuz-{self.release}"

    def modules(self, names: list[str]) -> list[pathlib.Path]:
        ordered: dict[pathlib.Path, None] = {}
        for name in names:
            shown = subprocess.run(["modprobe", "--show-depends", "--ignore-install", "-d", self.root, "-S", self.release, name],
                                   capture_output=True, text=True)
            if shown.returncode:
                raise KernelUnavailable(f"module {name}: {shown.stderr.strip()}")
            for line in shown.stdout.splitlines():
                if line.startswith("insmod "):
                    ordered[pathlib.Path(line.split()[1])] = None
        return list(ordered)


def cache_directory() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "postern-vm"


@contextlib.contextmanager
def locked_cache() -> Iterator[pathlib.Path]:
    """The cache, for one process at a time: what several guests need at once is fetched once."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache


def newest_package() -> str:
    """The versioned package that the meta package stands for now."""
    for update_first in (False, True):
        if update_first:
            subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        shown = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True).stdout
        for line in shown.splitlines():
            if "Depends: linux-image-" in line:
                return line.split()[-1]
    raise KernelUnavailable(f"apt knows no {PACKAGE}")


def fetch(package: str, directory: pathlib.Path) -> None:
    """Unpacks `package` as `directory`; an interrupted run leaves no half of it under that name."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", package], cwd=temporary, check=True)
        archive = next(pathlib.Path(temporary).glob("*.deb"))
        unpacked = pathlib.Path(temporary) / "root"
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        release = next((unpacked / "lib/modules").iterdir()).name
        subprocess.run(["depmod", "-b", unpacked, release], check=True)
        unpacked.chmod(0o755)
        unpacked.rename(directory)


def obtain() -> Kernel:
    """The cached kernel, or else a download."""
    with locked_cache() as cache:
        present = sorted(one for one in cache.glob("linux-image-6.1*") if (one / "lib/modules").is_dir())
        if present:
            return Kernel(present[-1])
        try:
            package = newest_package()
            fetch(package, cache / package)
        except subprocess.CalledProcessError as error:
            raise KernelUnavailable(f"{error.cmd[0]} failed with {error.returncode}") from error
        return Kernel(cache / package)
