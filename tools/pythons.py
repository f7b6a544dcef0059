"""Make the same images with every other Python that is here: ``make pythons``.

This Python makes the images of 20 photographs by every transform, alone and in chains of three, in
each file format. Every other one replays all of them from the manifest, and draws and makes them
anew from the photographs. All bytes have to be the same. A version that is not here is passed
over, and said.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.photographs import make_photographs
from kaleidoscope import api
from kaleidoscope.recipe import LETTERS, Recipe
from kaleidoscope.transforms import TRANSFORMS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".cache" / "pythons"
PHOTOS = FOLDER / "photos"
IMAGES = FOLDER / "images"
NUM_PHOTOGRAPHS = 20

VERSIONS = ("3.11", "3.12", "3.13")
"""Those that pyproject.toml allows."""

FORMATS: dict[str, dict[str, Any]] = {
    "jpeg": {"order": "given", "normalize": {"mode": "square_crop", "side": 200}},
    "png": {"order": "shuffled", "normalize": {"mode": "fit", "side": 200}},
    "webp": {"order": "shuffled", "normalize": {"mode": "square_crop", "side": 96}},
    "source": {"order": "given", "normalize": {"mode": "none"}},
}


def main() -> int:
    """Compare all; return 0 if all bytes are the same."""
    shutil.rmtree(IMAGES, ignore_errors=True)
    make_photographs(ROOT / "examples" / "photos", PHOTOS, number=NUM_PHOTOGRAPHS)
    for file_format in FORMATS:
        recipe = IMAGES / f"{file_format}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(every_transform(file_format).to_yaml(), "utf-8")
        api.run(PHOTOS, IMAGES / "here" / file_format, recipe)
    # A list, so that a version that differs keeps no other from being tried.
    are_same = [_compare(version) for version in VERSIONS if version != _version()]
    return 0 if all(are_same) else 1


def every_transform(file_format: str) -> Recipe:
    """Return a recipe of each transform alone, and each in three chains of three."""
    number = len(TRANSFORMS)
    # A neighbour and one further on, so that chains mix kinds of transforms.
    chains = ({step, (step + 1) % number, (step + 5) % number} for step in range(number))
    names = ["".join(LETTERS[step] for step in sorted(chain)) for chain in chains]
    return Recipe.from_mapping(
        {
            **FORMATS[file_format],
            "transforms": list(TRANSFORMS),
            "output": {"format": file_format},
            "select": {"max_depth": 3, "include": [*LETTERS[:number], *names]},
        }
    )


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _compare(version: str) -> bool:
    interpreter = _find(version)
    if interpreter is None:
        print(f"Python {version} is not here; PYTHONS=/path/to/python{version} names one")
        return True
    python = _install(interpreter, version)
    are_same = [_is_same(python, version, file_format) for file_format in FORMATS]
    return all(are_same)


def _find(version: str) -> str | None:
    """Return an interpreter of a version: one that PYTHONS names, or one on the PATH."""
    for candidate in (*os.environ.get("PYTHONS", "").split(), f"python{version}"):
        path = shutil.which(candidate)
        # It is asked, since a pyenv that knows a version may still not give it.
        if path is not None and _says(path) == version:
            return path
    return None


def _says(interpreter: str) -> str | None:
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    asked = subprocess.run(
        [interpreter, "-c", question], check=False, capture_output=True, text=True
    )
    return asked.stdout.strip() if asked.returncode == 0 else None


def _install(interpreter: str, version: str) -> Path:
    """Return the interpreter of an environment with the pinned dependencies and the project."""
    python = FOLDER / version / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter, "-m", "venv", FOLDER / version], check=True)
    for what in (
        ("--require-hashes", "--only-binary", ":all:", "-r", "deployments/requirements.txt"),
        ("--require-hashes", "--only-binary", ":all:", "-r", "deployments/requirements-build.txt"),
        ("--no-deps", "--no-build-isolation", "--editable", "."),
    ):
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
        subprocess.run(pip, check=True, cwd=ROOT)
    return python


def _is_same(python: Path, version: str, file_format: str) -> bool:
    """Replay what was made here, make it anew, and say how both came out."""
    here, there = IMAGES / "here" / file_format, IMAGES / version / file_format
    _kaleidoscope(python, "run", PHOTOS, there, "--recipe", IMAGES / f"{file_format}.yaml")
    verified = json.loads(_kaleidoscope(python, "verify", here, "--replay", "--json"))
    wanted, made = _hashes(here), _hashes(there)
    num_same = sum(made.get(output) == sha256 for output, sha256 in wanted.items())
    print(
        f"Python {version}, {file_format}: of {len(wanted)} images {num_same} are made alike; "
        f"replayed: {verified['replays']}, problems: {verified['num_problems']}"
    )
    return made == wanted and verified["replays"] == {"identical": len(wanted)}


def _kaleidoscope(python: Path, *arguments: str | Path) -> str:
    # Not checked: verify ends with 1 where an image is another, and then says which.
    command = [python, "-m", "kaleidoscope", *arguments]
    return subprocess.run(
        command, check=False, stdout=subprocess.PIPE, text=True, cwd=FOLDER
    ).stdout


def _hashes(destination: Path) -> dict[str, str]:
    rows = api.read_manifest(str(destination))
    return dict(zip(rows["output_id"], rows["sha256"], strict=True))


if __name__ == "__main__":
    sys.exit(main())
