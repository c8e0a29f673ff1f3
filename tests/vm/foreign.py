"""Other IKE daemons of Debian, for guests: their packages are fetched by apt and unpacked into the cache; nothing is installed here."""
import pathlib
import subprocess
import tempfile

from image import Image
from kernel import locked_cache

LIBRARIES = "usr/lib/x86_64-linux-gnu"
PACKAGES = {"libreswan": ("libreswan", "libldns3", "libevent-pthreads-2.1-7", "libnss3", "libnss3-tools"),
            "openiked": ("openiked", "libevent-2.1-7", "libevent-core-2.1-7")}


def unpacked(daemon: str) -> pathlib.Path:
    """A root directory with the daemon's packages; an interrupted run leaves no half of it."""
    with locked_cache() as cache:
        root = cache / f"foreign-{daemon}"
        if root.is_dir():
            return root
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            work = pathlib.Path(temporary)
            subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", *PACKAGES[daemon]], cwd=work, check=True)
            for package in work.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True)
            (work / "root").chmod(0o755)
            (work / "root").rename(root)
        return root


def environment(root: pathlib.Path) -> dict[str, str]:
    """For its programs on this machine."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": str(root / LIBRARIES)}


def add_programs(image: Image, root: pathlib.Path, *programs: str) -> None:
    """Into /sbin and where they were packed for, with every library that they ask for, which goes where the guest's linker looks."""
    for program in programs:
        for target in (program, f"sbin/{pathlib.Path(program).name}"):
            image.add_file(root / program, target, 0o755)
        _add_libraries(image, root, root / program)


def add_library(image: Image, root: pathlib.Path, name: str) -> None:
    """One that is loaded by name while the daemon runs."""
    found = next(path for path in (root / LIBRARIES / name, root / LIBRARIES / "nss" / name, pathlib.Path("/") / LIBRARIES / name) if path.exists())
    image.add_file(found.resolve(), f"{LIBRARIES}/{name}", 0o755)
    _add_libraries(image, root, found)


def _add_libraries(image: Image, root: pathlib.Path, program: pathlib.Path) -> None:
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, env=environment(root)).stdout
    assert "not found" not in shown, shown
    for line in shown.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path is None:
            continue
        target = path.removeprefix(str(root)).lstrip("/")
        if not (image.root / target).exists():
            image.add_file(pathlib.Path(path).resolve(), target, 0o755)
