import cv2
import numpy as np
import pytest

from kaleidoscope.model import BgrImage


@pytest.fixture
def noise() -> BgrImage:
    """Independent values, (23, 37, 3)."""
    return np.random.default_rng(7).integers(0, 256, (23, 37, 3), dtype=np.uint8)


@pytest.fixture
def scene() -> BgrImage:
    """Smooth colours with all values in them, (60, 80, 3), as photographs have."""
    coarse = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


@pytest.fixture
def ramp() -> BgrImage:
    """Every grey level once, from black to white, (1, 256, 3)."""
    return np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
