"""What scripts/bench prints has one shape, and less than is asked fails."""
import json
import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/bench"), str(TOP / "tests/lib")]

import path as path_bench  # noqa: E402

KEYS = {"name": str, "value": (int, float), "unit": str, "vs": str, "ratio": (int, float), "spread": (int, float)}


def assert_rows(rows: list) -> None:
    assert rows and len({row["name"] for row in rows}) == len(rows), "a name is used twice"
    for row in rows:
        assert list(row) == list(KEYS), row
        assert all(isinstance(row[key], kind) and not isinstance(row[key], bool) for key, kind in KEYS.items()), row
        assert row["value"] > 0 and row["ratio"] > 0 and row["spread"] >= 0, row


def test_esp_rows():
    done = subprocess.run([TOP / "scripts/bench.d/esp", "--seconds", "0.5"], capture_output=True, text=True, timeout=120, check=True)
    assert_rows(json.loads(done.stdout))


def path_rows(*ratios: float) -> list[dict]:
    """As path.py makes them for a kernel that forwards 5 Gb/s."""
    made = path_bench.rows("tcp", "Gb/s", 2, [5.0, 5.1, 4.9], {name: [5 * ratio] * 3 for name, ratio in zip(("crypto map", "tunnel"), ratios)})
    return made + path_bench.asked(made)


def test_path_rows():
    made = path_rows(0.31, 0.32)
    assert_rows(made)
    assert [row["name"] for row in made if row["vs"] == "0.28 asked"] == ["path asked crypto map", "path asked tunnel"]
    assert not path_bench.too_little(made)


@pytest.mark.parametrize("ratios, which", [((0.27, 0.5), ["crypto map"]), ((0.5, 0.279), ["tunnel"]), ((0.1, 0.1), ["crypto map", "tunnel"])])
def test_less_than_is_asked_is_told(ratios, which):
    told = path_bench.too_little(path_rows(*ratios))
    assert len(told) == len(which) and all(name in one for name, one in zip(which, told)), told
