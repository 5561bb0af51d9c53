# SPDX-License-Identifier: MIT
"""Says what to run: run.py SOURCE OUT NAME writes OUT/run.json.

A script that the project installs ([project.scripts]) named like the service, or
its only one; else a file of a usual name.
"""
import json
import pathlib
import sys

source, out, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]


def scripts():
    """The names in [project.scripts]."""
    project = source / "pyproject.toml"
    if not project.exists():
        return []
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        sys.exit("a project with pyproject.toml needs Python 3.11 or newer")
    with project.open("rb") as file:
        return sorted(tomllib.load(file).get("project", {}).get("scripts", {}))


def command():
    names = scripts()
    if name in names or len(names) == 1:
        return [str(out / "venv" / "bin" / (name if name in names else names[0]))]
    files = ["main.py", "app.py", f"{name}.py"]
    alone = [path.name for path in source.glob("*.py")]
    if len(alone) == 1:
        files.append(alone[0])
    python = str(out / "venv" / "bin" / "python")
    if (source / "__main__.py").exists():
        return [python, str(source)]
    for file in files:
        if (source / file).exists():
            return [python, str(source / file)]
    sys.exit("no program found: neither [project.scripts] nor main.py, app.py, __main__.py"
             f" or {name}.py")


(out / "run.json").write_text(json.dumps(command()))
