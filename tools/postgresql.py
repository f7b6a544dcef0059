"""A PostgreSQL server of its own for a Prefect server, for benchmarks and tests."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.ports import free_ports

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of each version, which are not on PATH."""

UNPRIVILEGED = "postgres"
"""The user that Debian's package makes; PostgreSQL refuses to run as root."""

STOP_TIMEOUT_S = 30.0


class PostgreSQL:
    """A server that lives as long as its ``with`` block, with one empty database.

    Attributes:
        url: Of the database, as Prefect's server wants it.
    """

    def __init__(self) -> None:
        """Find the programs.

        Raises:
            RuntimeError: If PostgreSQL is not installed.
        """
        programs = find_programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = programs
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="kaleidoscope-postgresql-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        (self._port,) = free_ports(1)
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        # No password: it listens on the loopback interface only, and lives for minutes.
        self._run("initdb", "--username=prefect", "--auth=trust", "--encoding=UTF8", "--no-sync")
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
        }
        options = " ".join(f"-c {key}={value}" for key, value in settings.items())
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--wait", f"--options={options}", f"--log={log}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, f"--pgdata={self._folder / 'data'}", *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=STOP_TIMEOUT_S,
        )


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest; None if there is none."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = [path.parent for path in DEBIAN.glob("*/bin/initdb")]
    return max(folders, key=lambda folder: int(folder.parent.name), default=None)
