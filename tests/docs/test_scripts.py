"""What the scripts do for whoever calls them: an ordinary user, with sudo or without."""
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
COMMON = TOP / "scripts/common.sh"
USERS_PATH = "/usr/local/bin:/usr/bin:/bin"  # of Debian's /etc/profile
ADMINISTRATION = ("tc", "nft", "bpftool", "modprobe", "ethtool")


def shell(script: str, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", script], env={"PATH": USERS_PATH, **environment}, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("tool", ADMINISTRATION)
def test_programs_of_administration_are_found(tool):
    done = shell(f". '{COMMON}'; command -v {tool}")
    assert done.returncode == 0 and done.stdout.strip().endswith(f"/{tool}"), done.stderr


def test_an_ordinary_users_path_has_none_of_them():
    if all(pathlib.Path(f"/usr/sbin/{tool}").exists() for tool in ("tc", "nft")):
        for tool in ("tc", "nft"):
            assert shell(f"command -v {tool}").returncode or pathlib.Path(f"/usr/bin/{tool}").exists()


def test_the_path_is_not_lengthened_twice():
    assert shell(f". '{COMMON}'; bash -c '. \"{COMMON}\"; echo $PATH'").stdout.strip().split(":").count("/usr/sbin") == 1


def test_what_the_caller_set_goes_through_sudo(tmp_path):
    """sudo(8) empties the environment. Here one that tells what it was given, and id(1) of an ordinary user."""
    for name, text in (("sudo", 'printf "%s\\n" "$@"'), ("id", "echo 1000")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    told = shell(f". '{COMMON}'; become_root one 'two words'", PATH=f"{tmp_path}:{USERS_PATH}", POSTERN_BIN="/a directory", POSTERN_LAB="x",
                 CCACHE_DIR="/cache").stdout.splitlines()
    assert {"POSTERN_SET_UP=1", "POSTERN_BIN=/a directory", "POSTERN_LAB=x", "CCACHE_DIR=/cache"} <= set(told)
    assert told[-2:] == ["one", "two words"]
    path = next(line for line in told if line.startswith("PATH="))
    assert "/usr/sbin" in path.removeprefix("PATH=").split(":")
    assert not [line for line in told if line.startswith("XDG_CACHE_HOME")], "what root fetches is not put into the caller's home"


def test_root_needs_no_sudo(tmp_path):
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    assert shell(f". '{COMMON}'; become_root; echo went on", PATH=f"{tmp_path}:{USERS_PATH}").stdout == "went on\n"


def test_scripts_of_a_tree_with_a_space_in_its_path(tmp_path):
    """Sourced through a link to the tree, whose path has one."""
    link = tmp_path / "a clone"
    link.symlink_to(TOP)
    done = subprocess.run([link / "scripts/test", "--list"], capture_output=True, text=True, timeout=30, env={**os.environ, "PATH": USERS_PATH})
    assert "build-release" in done.stdout.split(), done.stderr


def test_another_architecture_is_told_at_once(tmp_path):
    """Before anything is installed."""
    for name, text in (("dpkg", "echo arm64"), ("apt-get", f"touch '{tmp_path}/installed'"), ("sudo", f"touch '{tmp_path}/installed'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for words in ((), ("--runtime",)):
        done = subprocess.run([TOP / "scripts/install-deps", *words], env={"PATH": f"{tmp_path}:{USERS_PATH}"}, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and "arm64" in done.stderr and "amd64" in done.stderr
    assert not (tmp_path / "installed").exists()


def test_every_package_has_a_row():
    """README's table names what install-deps installs; libraries of one row by their project."""
    told = (TOP / "README.md").read_text().split("| package | for |")[1].lower()
    # Where a package is not called as the project.
    others = {"charon-systemd": "strongswan", "wireguard-tools": "wireguard-go", "llvm-19": "clang", "libclang-rt-19-dev": "clang", "gcc-multilib": "g++",
              "libc6-dev": "g++", "python3": "pytest", "nlohmann-json3-dev": "nlohmann/json", "zlib1g": "zlib", "zlib1g-dev": "zlib", "libcurl4": "libcurl", "libcurl4-openssl-dev": "libcurl"}

    def row(package: str) -> str:
        if "strongswan" in package or package.startswith("libcharon"):
            return "strongswan"
        stem = re.sub(r"^python3-|-dev$|-static$|-19$|-build$|-system-x86$|(?<=libnl)-3.*$", "", package)
        return others.get(package) or re.sub(r"^lib(?=fmt|spdlog|cli11|valijson)|-?[0-9.]+(-dev)?$", "", stem)

    text = (TOP / "scripts/install-deps").read_text()
    packages = [one for words in re.findall(r"^(?:runtime|build|lab|peers|vm)=\((.*?)\)$", text, re.M | re.S) for one in words.split()]
    assert len(packages) > 60 and not [(one, row(one)) for one in packages if row(one) not in told]


def test_clang_tidy_knows_every_check_that_is_asked_for():
    done = subprocess.run(["clang-tidy-19", "--verify-config", f"--config-file={TOP / '.clang-tidy'}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "warning" not in done.stdout + done.stderr, done.stdout + done.stderr


def test_tidy_refuses_what_is_no_source():
    done = subprocess.run([TOP / "scripts/tidy", "README.md"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "README.md" in done.stderr
