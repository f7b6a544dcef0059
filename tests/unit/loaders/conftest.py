"""What a real run wrote to a real S3 server, which the environment leads to."""

import cv2
import numpy as np
import pandas as pd
import pytest

import kaleidoscope as kd
from kaleidoscope.settings import Settings
from kaleidoscope.stores import open_store
from tests.conftest import BUCKET
from tools.seaweedfs import SeaweedFS

COLORS = {"blue": (200, 20, 20), "green": (20, 200, 20), "red": (20, 20, 200)}
"""BGR of the photographs of each class, so that a wrong label or channel order is seen."""

NUM_SOURCES = {"blue": 2, "green": 3, "red": 1}

RECIPE = kd.Recipe.from_mapping(
    {
        "transforms": ["HorizontalFlip", {"name": "Brightness", "params": {"offset": [5, 20]}}],
        "normalize": {"side": 16},
        "output": {"format": "png"},
        "limits": {"max_error_rate": 1},
        "seed": 3,
    }
)


@pytest.fixture(scope="session")
def made(seaweedfs: SeaweedFS) -> str:
    """A destination on S3: six photographs of one colour each, four images of each, one failure."""
    uri = f"s3://{BUCKET}/loaders"
    with pytest.MonkeyPatch.context() as patch:
        lead_to(seaweedfs, patch)
        sources = open_store(f"{uri}/source", settings=Settings.from_environment())
        for label, color in COLORS.items():
            for number in range(NUM_SOURCES[label]):
                sources.put(f"{label}/{number}.png", encoded(color))
        sources.put("red/broken.png", b"no image")
        kd.run(f"{uri}/source", f"{uri}/made", RECIPE, workers=2)
    return f"{uri}/made"


@pytest.fixture(scope="session")
def made_tars(seaweedfs: SeaweedFS, made: str) -> str:
    """The same by two runs, a tar each: the second for a photograph that came later."""
    uri = made.rpartition("/")[0]
    recipe = RECIPE.model_copy(
        update={"output": RECIPE.output.model_copy(update={"container": "webdataset"})}
    )
    with pytest.MonkeyPatch.context() as patch:
        lead_to(seaweedfs, patch)
        settings = Settings.from_environment()
        sources, some = (open_store(f"{uri}/{name}", settings=settings) for name in ("source", "s"))
        for info in sources.list_objects():
            if not info.key.startswith("green/"):
                some.put(info.key, sources.get(info.key).data)
        kd.run(some.uri, f"{uri}/tars", recipe, workers=2)
        for info in sources.list_objects("green/"):
            some.put(info.key, sources.get(info.key).data)
        kd.run(some.uri, f"{uri}/tars", recipe, workers=2)
    return f"{uri}/tars"


@pytest.fixture
def run_uri(made: str, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """That destination, with an environment that leads to it."""
    lead_to(seaweedfs, monkeypatch)
    return made


@pytest.fixture
def rows(run_uri: str) -> pd.DataFrame:
    """Its manifest."""
    return kd.read_manifest(run_uri)


@pytest.fixture
def tars_uri(made_tars: str, run_uri: str) -> str:  # noqa: ARG001 - sets the environment.
    """A destination on S3 with the same images as members of tars."""
    return made_tars


@pytest.fixture
def members(tars_uri: str) -> pd.DataFrame:
    """Its manifest."""
    return kd.read_manifest(tars_uri)


def lead_to(server: SeaweedFS, patch: pytest.MonkeyPatch) -> None:
    """Set what a user of the server sets."""
    patch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", server.endpoint_url)
    patch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)


def encoded(color: tuple[int, int, int]) -> bytes:
    """A PNG of one colour."""
    pixels = np.full((20, 24, 3), color, np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def main_color(bgr: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    """The class that an image's pixels say it is of."""
    return ("blue", "green", "red")[int(bgr.reshape(-1, 3).mean(axis=0).argmax())]
