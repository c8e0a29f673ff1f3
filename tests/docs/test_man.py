"""The man pages are whole: every section and key of the schema, every command and option of the programs."""
import json
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("POSTERN_BIN", TOP / "build/release/bin"))
SCHEMA = json.loads((TOP / "config/schema.json").read_text())
MAN = TOP / "docs/man"


def plain(text: str) -> str:
    """Without fonts, quotes and escapes of roff."""
    text = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-")
    return "\n".join(re.sub(r"^\.(?:B|I|BR|BI|RB|IR) ", "", line).replace('"', "") if line.startswith(".") else line for line in text.splitlines())


def sections(page: str) -> dict[str, str]:
    """Of postern.json(5): each section of the document, and what stands about it."""
    body = page.split(".SH SECTIONS\n")[1].split("\n.SH ")[0]
    return {name: plain(text) for name, text in re.findall(r"^\.TP\n\.B (\w+)\n(.*?)(?=^\.TP|\Z)", body, re.M | re.S)}


def keys(node: dict, top: bool = True) -> set[str]:
    """Of an object, and of what is in it, but for what is told elsewhere in the page: session keys, files of secrets, and for one entry of a map what
    `ipsec` says of SAs."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        node = SCHEMA["definitions"][name]
    found = set()
    for name, inner in node.get("properties", {}).items():
        found |= {name} | (set() if name in ("session_key", "local", "remote") or name == "security_association" and not top else keys(inner, False))
    for inner in filter(None, (node.get("items"), *node.get("anyOf", []), *node.get("oneOf", []))):
        found |= keys(inner, top)
    return found - {"file"}


def missing(page: str) -> list[str]:
    said = sections(page)
    lost = [name for name in SCHEMA["properties"] if name not in said]
    return lost + [f"{name}: {key}" for name, node in SCHEMA["properties"].items() for key in sorted(keys(node))
                   if not re.search(rf"\b{key}\b", said.get(name, ""))]


def test_every_key_of_the_schema_stands_in_its_section():
    assert not missing((MAN / "postern.json.5").read_text())


def test_a_key_that_is_not_there_is_seen():
    page = (MAN / "postern.json.5").read_text()
    assert missing(page.replace("interface_grace_s", "")) == ["dataplane: interface_grace_s"]
    assert "vrfs" in missing(page.replace(".B vrfs\n", ".B other\n"))


def test_no_section_that_is_not_there():
    assert set(sections((MAN / "postern.json.5").read_text())) == set(SCHEMA["properties"])


def test_every_transform_stands_in_the_page():
    words = SCHEMA["properties"]["ipsec"]["properties"]["transform_sets"]["items"]["properties"]["transforms"]["description"]
    transforms = re.findall(r'"((?:esp|ah|comp)-[a-z0-9-]+)(?: N)?"', words)
    said = plain((MAN / "postern.json.5").read_text())
    assert len(transforms) > 20 and not [one for one in transforms if not re.search(rf"\b{one}\b", said)]


def usages() -> list[str]:
    """Each command of `postern --help` with its words."""
    done = subprocess.run([PROGRAMS / "postern", "--help"], check=True, capture_output=True, text=True, timeout=30).stdout
    lines = done.split("\nCommands", 1)[1].split("\nExit codes")[0].splitlines()[1:]
    return [re.split(r"   ", line.strip())[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]


def unsaid(page: str) -> list[str]:
    """Commands, and keywords of theirs, that no entry of COMMANDS names."""
    entries = [plain(text) for text in page.split(".SH COMMANDS")[1].split(".SH EXIT STATUS")[0].split(".TP\n")[1:]]
    lost = []
    for usage in usages():
        command = re.match(r"[a-z0-9 -]*[a-z0-9]", usage)[0]
        parent, last = command.rsplit(" ", 1) if " " in command else ("", command)
        # "show crypto ikev2 proposal, policy or profile": the last word of several.
        entry = next((one for one in entries if command in one), None) or next(
            (one for one in entries if parent and re.search(rf"\b{parent} ", one) and re.search(rf"\b{last}\b", one.split("\n")[0])), None)
        words = re.findall(r"\[([a-z]+)", usage)
        lost += [usage] if entry is None else [f"{command}: {word}" for word in words if not re.search(rf"\b{word}\b", entry)]
    return lost


def test_every_command_stands_in_the_page():
    assert len(usages()) > 30 and not unsaid((MAN / "postern.8").read_text())


def test_a_command_that_is_not_there_is_seen():
    page = (MAN / "postern.8").read_text()
    assert unsaid(page.replace("config diff", "config other")) == ["config diff FILE"]
    assert unsaid(page.replace("\\fBentry\\fR", "")) == ["clear crypto sa: entry"]


@pytest.mark.parametrize("program", ("postern", "posternd"))
def test_every_option_stands_in_the_page(program):
    done = subprocess.run([PROGRAMS / program, "--help"], check=True, capture_output=True, text=True, timeout=30).stdout
    options = set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", done, re.M)) - {"--help"}
    said = plain((MAN / f"{program}.8").read_text())
    assert options and not [one for one in options if one not in said]


@pytest.mark.parametrize("page", sorted(path.name for path in MAN.iterdir()))
def test_the_page_is_right_roff(page):
    """man(7): every line that begins with a dot is a macro that man knows, and quotes come in pairs."""
    known = {".TH", ".SH", ".TP", ".IP", ".PP", ".B", ".I", ".BR", ".BI", ".RB", ".IR", ".br", ".nf", ".fi"}
    for line in (MAN / page).read_text().splitlines():
        assert not line.startswith(".") or line.split()[0] in known, line
        assert not line.startswith(".") or line.count('"') % 2 == 0, line
