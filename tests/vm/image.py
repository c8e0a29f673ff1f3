"""An initramfs for a guest: busybox, real iproute2, chosen programs with their shared libraries, chosen kernel modules."""
import pathlib
import re
import shutil
import subprocess
import tempfile

from kernel import Kernel

GUEST = pathlib.Path(__file__).resolve().parent / "guest"
# busybox must not provide `ip` or `ping`: iproute2 knows xfrm and netns, iputils knows -M do. Whatever of it starts programs
# prefers its applets to what PATH says, so sh is dash and nsenter util-linux's.
APPLETS = """awk cat chmod cp cut date dd dmesg echo env false grep head hostname insmod kill ln ls mkdir mount mv od poweroff ps
             readlink rm sed seq sleep sort stat sync tail timeout touch tr true umount uname wc which""".split()
TOOLS = ["/bin/dash", "/sbin/ip", "/bin/ping", "/usr/bin/nsenter"]


def shared_libraries(program: pathlib.Path) -> set[pathlib.Path]:
    shown = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    missing = re.findall(r"(\S+) => not found", shown)
    if missing:
        raise RuntimeError(f"{program} needs {missing}")
    return {pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", shown)}


class Image:
    """Collects files under a temporary root and packs them as a cpio archive."""

    def __init__(self, kernel: Kernel, modules: list[str]):
        self._temporary = tempfile.TemporaryDirectory(prefix="postern-image-")
        self.root = pathlib.Path(self._temporary.name)
        for directory in "bin sbin dev proc sys run tmp etc lib/modules usr/bin".split():
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        self.add_file(pathlib.Path("/bin/busybox"), "bin/busybox", 0o755)
        for applet in APPLETS:
            (self.root / "bin" / applet).symlink_to("busybox")
        for tool in TOOLS:
            self.add_program(pathlib.Path(tool), "bin")
        (self.root / "bin/sh").symlink_to("dash")
        self.add_file(GUEST / "init", "init", 0o755)
        order = []
        for module in kernel.modules(modules):
            self.add_file(module, f"lib/modules/{module.name}", 0o644)
            order.append(module.name)
        (self.root / "lib/modules/order").write_text("\n".join(order) + "\n")

    def __enter__(self) -> "Image":
        return self

    def __exit__(self, *_) -> None:
        self._temporary.cleanup()

    def add_file(self, source: pathlib.Path, target: str, mode: int = 0o644) -> None:
        path = self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(mode)

    def add_text(self, text: str, target: str, mode: int = 0o644) -> None:
        path = self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def add_program(self, program: pathlib.Path, directory: str, strip: bool = False) -> None:
        """The program and what its dynamic linker will ask for, at the same absolute paths as here."""
        program = pathlib.Path(shutil.which(program) or program)
        target = f"{directory}/{program.name}"
        self.add_file(program, target, 0o755)
        if strip:
            subprocess.run(["strip", self.root / target], check=True)
        for library in shared_libraries(program):
            if not (self.root / str(library).lstrip("/")).exists():
                self.add_file(library.resolve(), str(library).lstrip("/"), 0o755)

    def pack(self, archive: pathlib.Path) -> None:
        names = subprocess.run(["find", ".", "-print0"], cwd=self.root, check=True, capture_output=True).stdout
        with archive.open("wb") as out:
            subprocess.run(["cpio", "--null", "-o", "-H", "newc", "--quiet"], cwd=self.root, check=True, input=names, stdout=out)
