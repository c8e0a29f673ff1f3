"""Lists that are kept by hand are whole."""
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[2]
ABI = (TOP / "maps/abi.h").read_text()


def structs(header: str) -> set[str]:
    return set(re.findall(r"^struct (postern_\w+) \{", header, re.M))


def test_every_struct_of_the_abi_is_compared_with_btf():
    compared = re.findall(r"CHECK_STRUCT\(types, \d+, (postern_\w+),", (TOP / "tests/maps/test_abi.cpp").read_text())
    assert len(structs(ABI)) > 15 and sorted(compared) == sorted(structs(ABI))
    assert structs(ABI + "\nstruct postern_forgotten {\n") - set(compared) == {"postern_forgotten"}


def unnamed(reasons: list[str], texts: list[str]) -> list[str]:
    """Reasons that stand in none of the texts as a reason: Drop::x, POSTERN_DROP_x, or in quotes."""
    named = {name for text in texts for name in re.findall(r"(?:Drop::|POSTERN_DROP_|[\"'])(\w+)", text)}
    return [one for one in reasons if one not in named]


def test_every_drop_reason_is_named_by_a_test():
    reasons = re.findall(r"^  X\((\w+),", ABI.split("#define POSTERN_DROPS(X)")[1].split("enum postern_drop")[0], re.M)
    tests = [path.read_text() for path in (TOP / "tests").rglob("*") if path.suffix in (".cpp", ".hpp", ".py") and path != pathlib.Path(__file__)]
    assert len(reasons) > 40 and not unnamed(reasons, tests)
    assert unnamed(["bad_icv", "never_heard_of"], tests) == ["never_heard_of"]
