"""docs/schemas/show.json: what `--json show ...` may print, one definition for each command."""
import json
import pathlib

import jsonschema

SCHEMA = json.loads((pathlib.Path(__file__).resolve().parents[2] / "docs/schemas/show.json").read_text())
COMMANDS = [name for name in SCHEMA["definitions"] if name.startswith("show ")]


def validator(command: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator({"$ref": f"#/definitions/{command}", "definitions": SCHEMA["definitions"]})


def violations(command: str, shown) -> list[str]:
    """Where and why `shown` is not what the schema of `command` says."""
    return [f"{'/'.join(map(str, one.absolute_path))}: {one.message[:200]}" for one in validator(command).iter_errors(shown)]
