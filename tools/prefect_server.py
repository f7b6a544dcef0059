"""A Prefect server with its UI and process workers, for tests and the demo."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.ports import free_ports

START_TIMEOUT_S = 180.0
"""How long the server may take until it answers; on an idle machine it needs 8 s."""

STOP_TIMEOUT_S = 20.0
"""How long a process may take to end after it was asked to."""

POLL_INTERVAL_S = 0.1

LOG_TAIL_CHARS = 2000


class PrefectServer:
    """A server that lives as long as its ``with`` block, and the processes started through it.

    Attributes:
        home: Its database, profiles and logs; survives the block.
        url: ``http://127.0.0.1:port``, the address of the UI.
        api_url: ``http://127.0.0.1:port/api``.
        environment: The variables of programs that talk to it.
        pid: Of its process.
    """

    def __init__(self, home: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """Choose a port.

        Args:
            home: Folder for everything that the server writes; made if it is not there.
            environment: More variables for the server, its workers and the runs that they start.
        """
        self.home = home.absolute()
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self.api_url = f"{self.url}/api"
        self.environment = {
            # What the caller's own Prefect is set to must not leak into this one.
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
            **(environment or {}),
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_UI_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # A run that is just starting may not hear of its cancelling, for five minutes else.
            "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "10",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_CLI_COLORS": "false",
            # The default of 10 s makes a demo of a minute look slow.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            address = ("--host", "127.0.0.1", "--port", str(self._port))
            server = self.start("server", "start", *address, log="server")
            self.pid = server.pid
            self._wait_until_ready(server)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def start(self, *arguments: str, log: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start ``prefect`` with these arguments; it is ended with the server.

        Args:
            arguments: Of the command line.
            log: Its output goes to ``<home>/<log>.log``.
            cwd: Folder to start in.
        """
        with (self.home / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                env=self.environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C reaches its user, who ends the servers in order.
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def start_worker(
        self, pool: str, *, cwd: Path | None = None, limit: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process worker; ``limit`` is how many runs it has at a time."""
        more = () if limit is None else ("--limit", str(limit))
        arguments = ("worker", "start", "--pool", pool, "--type", "process", *more)
        return self.start(*arguments, log=f"worker-{pool}", cwd=cwd)

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        """Return what ``prefect`` with these arguments prints.

        Raises:
            RuntimeError: If it fails; with what it printed.
        """
        result = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(
                f"prefect {' '.join(arguments)} failed:\n{result.stdout}{result.stderr}"
            )
        return result.stdout

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a process that was started through this server, and what it has started."""
        self._processes.remove(process)
        _stop(process)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"{self.api_url}/health"):
            ended = server.poll() is not None
            if ended or time.monotonic() > deadline:
                state = "ended" if ended else f"does not answer after {START_TIMEOUT_S:.0f} s"
                log = (self.home / "server.log").read_text(errors="replace")
                raise RuntimeError(
                    f"the Prefect server {state}; the end of its log:\n{log[-LOG_TAIL_CHARS:]}"
                )
            time.sleep(POLL_INTERVAL_S)

    def _end(self) -> None:
        # Workers before the server that they report to.
        while self._processes:
            self.stop(self._processes[-1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own loopback URL.
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP OK.
    except OSError:
        return False
