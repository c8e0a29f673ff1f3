#!/usr/bin/env python3
"""Removes the lab of scripts/up, however far it came and whatever died meanwhile."""
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/lib"))

import leftovers

# POSTERN_LAB=NAME: another lab beside the usual one, with names of its own. So the scripts are tested where a lab stands that somebody uses.
LAB = os.environ.get("POSTERN_LAB", "")
HOME = pathlib.Path(f"/run/postern-lab{'-' if LAB else ''}{LAB}")
PREFIX = f"pst{LAB}-"
NAMESPACES = [f"{PREFIX}{label}" for label in ("hA", "N1", "W", "N2", "hB")]
NODES = (f"{LAB}N1", f"{LAB}N2")


def remove() -> bool:
    """Whether there was anything."""
    existing = [name for name in NAMESPACES if pathlib.Path(f"/run/netns/{name}").exists()]
    if not existing and not HOME.exists():
        return False
    for side, name in enumerate(NODES, 1):
        leftovers.remove_node(name, f"{PREFIX}N{side}")
    for name in existing:
        leftovers.remove_namespace(name)
    shutil.rmtree(HOME, ignore_errors=True)
    return True


if __name__ == "__main__":
    print("down: the lab is removed" if remove() else "down: there is no lab")
