"""What is compared with what."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import ROOT, Contestant, Rounds, run_rounds
from tools.seaweedfs import SeaweedFS

PEERS_FOLDER = ROOT / "benchmarks" / ".venv-peers"

LIMIT, CODEC, OURS, SHUFFLED, CHEAPEST = (
    "limit: decode, resize, 64 encodes of the root",
    "codec: decode, resize, encodes of the same 64 images",
    "Kaleidoscope, classic as given",
    "Kaleidoscope, classic in shuffled order",
    "Kaleidoscope, classic in the cheapest order",
)
ORIGINAL, CHAINS, TREE = (
    "original, without upload",
    "Albumentations 2.0.8, chain by chain",
    "Albumentations 2.0.8 on our tree",
)
PILLOW, AUGMENTOR = "Pillow + NumPy, chain by chain", "Augmentor 0.2.12, chain by chain"
SHARD_1, SHARD_2 = "shard to memory, 1 thread", "shard to memory, 2 threads"
TWO_SHARDS = "two shards to memory in two processes, 1 thread each"
TO_S3, TO_TARS, ORIGINAL_TO_S3 = (
    "Kaleidoscope to S3, manifest included",
    "Kaleidoscope to tars in S3, manifest included",
    "original with its upload",
)
OBSTORE, BOTO3 = "obstore, 12 threads", "boto3, 12 threads"

NUM_STEPS = range(2, 11)
SIDES = (128, 256, 400, 640, 960)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    num_rounds: int
    per_round: int
    """Photographs for each round."""


def peers_python() -> str | None:
    """Return the interpreter of the peers' environment, making that first; None if impossible."""
    python = PEERS_FOLDER / "bin" / "python"
    stamp = PEERS_FOLDER / ".installed"
    wanted = (ROOT / "benchmarks" / "peers.txt").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print("installing the peers ...", flush=True)
    make = [sys.executable, "-m", "venv", str(PEERS_FOLDER)]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--only-binary", ":all:", "-r", str(ROOT / "benchmarks" / "peers.txt")]
    try:
        subprocess.run(make, check=True)
        subprocess.run(install, check=True)
    except subprocess.CalledProcessError as error:
        print(f"left out: all peers, since they could not be installed ({error})")
        return None
    stamp.write_text(wanted)
    return str(python)


def engines(photographs: Sequence[Path], effort: Effort, peers: str | None) -> Rounds:
    """Measure source bytes in memory to encoded images in memory, ours beside all others."""
    contestants = [
        Contestant(LIMIT, "limit"),
        Contestant(CODEC, "limit", {"encode": "tree"}),
        Contestant(CHEAPEST, "engine", {"order": "cheapest"}),
        Contestant(OURS, "engine", {"order": "given"}),
        Contestant(SHUFFLED, "engine", {"order": "shuffled"}),
    ]
    if peers is not None:
        contestants += [
            Contestant(TREE, "albumentations_peer", {"tree": 1}, peers),
            Contestant(CHAINS, "albumentations_peer", {}, peers),
            Contestant(ORIGINAL, "original", {}, peers),
            Contestant(PILLOW, "pillow_peer", {}, peers, is_slow=True),
            Contestant(AUGMENTOR, "augmentor_peer", {}, peers, is_slow=True),
        ]
    return _rounds(contestants, photographs, effort)


def cores(photographs: Sequence[Path], effort: Effort) -> Rounds:
    """Measure a whole shard, without input and output, with one and with two threads.

    Beside them two such shards at once, for what the machine has to give.
    """
    contestants = [
        Contestant(SHARD_1, "shard", {"workers": 1}),
        Contestant(SHARD_2, "shard", {"workers": 2}),
        Contestant(TWO_SHARDS, "pair", {"workers": 1}),
    ]
    return _rounds(contestants, photographs, effort)


def end_to_end(photographs: Sequence[Path], effort: Effort, peers: str | None) -> Rounds:
    """Measure S3 to S3 with a server on this machine; CPU is the client's alone."""
    with SeaweedFS() as server:
        server.create_bucket("benchmark")
        environment = s3_environment(server)
        uri = "s3://benchmark/files"
        to_s3 = {"uri": uri, "workers": 2}
        to_tars = {"uri": "s3://benchmark/tars", "workers": 2, "container": "webdataset"}
        contestants = [
            Contestant(LIMIT, "limit"),
            Contestant(TO_S3, "shard", to_s3, environment=environment),
            Contestant(TO_TARS, "shard", to_tars, environment=environment),
        ]
        if peers is not None:
            options = {"uri": uri, "endpoint_url": server.endpoint_url}
            with_tools = {**environment, "PATH": f"{Path(peers).parent}:/usr/bin:/bin"}
            contestants.append(
                Contestant(ORIGINAL_TO_S3, "original", options, peers, with_tools, is_slow=True)
            )
        return _rounds(contestants, photographs, effort)


def s3_clients(photographs: Sequence[Path], effort: Effort) -> Rounds:
    """Measure the writing of 40 KB objects by two S3 clients."""
    with SeaweedFS() as server:
        server.create_bucket("benchmark")
        environment = s3_environment(server)
        options = {"endpoint_url": server.endpoint_url, "bucket": "benchmark"}
        contestants = [
            Contestant(name, "s3_client", {**options, "client": client}, environment=environment)
            for name, client in ((OBSTORE, "obstore"), (BOTO3, "boto3"))
        ]
        return _rounds(contestants, photographs, effort)


def by_number_of_steps(photographs: Sequence[Path], effort: Effort) -> Rounds:
    """Measure the engine with 2 to 10 transforms."""
    contestants = [
        Contestant(str(steps), "engine", {"steps": steps}, is_slow=steps > 7) for steps in NUM_STEPS
    ]
    return _rounds(contestants, photographs, effort)


def by_size(photographs: Sequence[Path], effort: Effort) -> Rounds:
    """Measure the engine with outputs of 128 to 960 pixels a side."""
    contestants = [
        Contestant(str(side), "engine", {"side": side}, is_slow=side > 400) for side in SIDES
    ]
    return _rounds(contestants, photographs, effort)


def s3_environment(server: SeaweedFS) -> dict[str, str]:
    """Return what an S3 client of any kind has to find in its environment."""
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "KALEIDOSCOPE_S3_ENDPOINT_URL": server.endpoint_url,
    }


def _rounds(
    contestants: Sequence[Contestant], photographs: Sequence[Path], effort: Effort
) -> Rounds:
    return run_rounds(
        contestants,
        photographs,
        python=sys.executable,
        num_rounds=effort.num_rounds,
        per_round=effort.per_round,
    )
