"""Documents say what is so: every file, symbol, command and option they name exists."""
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md")])
TRACKED = set(subprocess.run(["git", "-C", TOP, "ls-files"], check=True, capture_output=True, text=True).stdout.split())
ROOMS = "base crypto config bpf maps loader worker ike pki resolver ios cli tests scripts docs systemd cmake".split()
# `room/file.ext`, `scripts/up`, `docs/examples/`, `room/name.{hpp,cpp}`, `room/show_*.cpp`
PATH = re.compile(r"`((?:\./)?(?:%s)/[A-Za-z0-9_./*{},@-]+)`" % "|".join(ROOMS))


def expand(path: str) -> list[str]:
    braces = re.match(r"(.*)\{(.*)\}(.*)", path)
    if not braces:
        return [path]
    return [braces[1] + choice + braces[3] for choice in braces[2].split(",")]


def exists(path: str) -> bool:
    path = path.removeprefix("./")
    if path.endswith("/"):
        return any(name.startswith(path) for name in TRACKED)
    if "*" in path:
        return any(pathlib.PurePath(name).match(path) for name in TRACKED)
    return path in TRACKED or any(name.startswith(path + "/") for name in TRACKED)


def named_paths(text: str) -> list[str]:
    return [one for found in PATH.findall(text) for one in expand(found)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_named_files_exist(document):
    missing = [path for path in named_paths(document.read_text()) if not exists(path)]
    assert not missing, f"{document.name} names files that are not there: {missing}"


def test_the_check_sees_a_missing_file():
    assert named_paths("see `worker/outbound.cpp` and `bpf/{a,b}.h`") == ["worker/outbound.cpp", "bpf/a.h", "bpf/b.h"]
    assert not exists("worker/no_such_file.cpp")


def test_architecture_tells_the_path_in_files():
    """The packet's path is a numbered list; each step names at least one file."""
    text = (TOP / "docs/ARCHITECTURE.md").read_text()
    section = text.split("## 4. ", 1)[1].split("\n## ", 1)[0]
    steps = re.findall(r"^\d+\. .*(?:\n(?!\d+\. ).*)*", section, re.M)
    assert len(steps) >= 14, "the path has fewer steps than the design"
    bare = [step.splitlines()[0] for step in steps if not named_paths(step)]
    assert not bare, f"steps that name no file: {bare}"


def test_relative_links_resolve():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_dependency_has_a_row():
    wanted = (TOP / "cmake/Dependencies.cmake").read_text()
    table = (TOP / "README.md").read_text().lower().replace("/", "_")
    names = [module or package for module, package in re.findall(r"IMPORTED_TARGET ([a-z-]+)|find_package\((\w+)", wanted)]
    assert len(names) > 10
    missing = [name for name in names if name not in ("PkgConfig", "Threads") and name.lower().rstrip("-") not in table]
    assert not missing, f"no row in README's table: {missing}"


def test_figures_stand_with_a_command():
    """docs/PERFORMANCE.md: each table of figures follows a fenced command."""
    text = (TOP / "docs/PERFORMANCE.md").read_text()
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    for section in sections:
        if re.search(r"^\|.*\d", section, re.M):
            assert "scripts/" in section, f"figures without a command: {section.splitlines()[0]}"
