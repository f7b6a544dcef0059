"""Remove from an environment what no run needs, before it goes into an image.

``python prune.py /opt/kaleidoscope`` needs nothing but the standard library. What stays is what
the flows import; a test looks at the modules and libraries that they load.
"""

import shutil
import sys
from pathlib import Path

TESTS = "tests"
"""Folders of this name inside packages are test suites: 29 MB, 18 of them those of pandas."""

UNUSED = (
    # Headers, sources and Cython of pyarrow, for those who compile against it.
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/*.pxi",
    "pyarrow/*.pyx",
    "pyarrow/includes",
    # Arrow Flight, a network protocol: 35 MB.
    "pyarrow/_flight.*",
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_python_flight.*",
    "pyarrow/_pyarrow_cpp_tests.*",
)
"""What else goes, as patterns in the folder of packages."""

SERVICES = frozenset({"s3", "signin", "sso", "sso-oidc", "sts"})
"""AWS services whose descriptions stay: the store, and those that hand out credentials. The
descriptions of the others are 24 MB that hardly compress."""


def find_unneeded(packages: Path) -> set[Path]:
    """Return files and folders to remove, some of which may lie inside others.

    Args:
        packages: A ``site-packages`` folder.
    """
    unused = {path for pattern in UNUSED for path in packages.glob(pattern)}
    services = {
        folder
        for folder in packages.glob("botocore/data/*/")
        if folder.is_dir() and folder.name not in SERVICES
    }
    # Not at the top, where a distribution may be called so.
    suites = {folder for folder in packages.glob(f"*/**/{TESTS}/") if folder.is_dir()}
    return unused | services | suites


def prune(environment: Path) -> None:
    """Remove what is not needed from a virtual environment.

    Args:
        environment: Its folder.

    Raises:
        FileNotFoundError: If there is no ``site-packages`` in it.
    """
    folders = list(environment.glob("lib/python3*/site-packages"))
    if not folders:
        raise FileNotFoundError(f"no lib/python3*/site-packages in {environment}")
    for packages in folders:
        for path in find_unneeded(packages):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    prune(Path(sys.argv[1]))
