"""One S3 client that writes 64 objects of 40 KB for each photograph, from 12 threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.variants._interface import Options, Variant

_NUM_THREADS = 12
_SIZE = 40 * 1024


class _Client:
    def __init__(self, put: Callable[[str, bytes], object]) -> None:
        self._put = put

    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        data = os.urandom(_SIZE)
        keys = [f"objects/{number:05d}" for number in range(64 * len(photographs))]
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            for _ in threads.map(lambda key: self._put(key, data), keys):
                pass
        return len(keys)


def make_variant(options: Options) -> Variant:
    """Return the client that ``client`` names: ``obstore`` or ``boto3``."""
    bucket, endpoint_url = str(options["bucket"]), str(options["endpoint_url"])
    if options["client"] == "obstore":
        import obstore  # noqa: PLC0415 -- only one of both clients is loaded.
        from obstore.store import S3Store  # noqa: PLC0415

        store = S3Store(
            bucket,
            endpoint=endpoint_url,
            region="us-east-1",
            client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )
        return _Client(lambda key, data: obstore.put(store, key, data))
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client(
        "s3", endpoint_url=endpoint_url, config=Config(max_pool_connections=_NUM_THREADS)
    )
    return _Client(lambda key, data: client.put_object(Bucket=bucket, Key=key, Body=data))
