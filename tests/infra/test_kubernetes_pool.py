from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.kubernetes.pool import (
    PARENT_QUEUE,
    POOL,
    SHARD_QUEUE,
    TEMPLATE,
    make_kubernetes_pool,
)
from tools.prefect_server import PrefectServer


def test_the_pool_is_made_and_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Path(__file__).parents[2] / "deployments/kubernetes/base-job-template.json" == TEMPLATE
    with (
        PrefectServer(tmp_path_factory.mktemp("prefect")) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
        get_client(sync_client=True) as client,
    ):
        make_kubernetes_pool(client, shards_at_once=8)
        make_kubernetes_pool(client, shards_at_once=4)
        pool = client.read_work_pool(POOL)
        assert pool.type == "kubernetes"
        assert pool.base_job_template["variables"]["required"] == ["image"]
        assert pool.concurrency_limit is None
        queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
        assert queues[PARENT_QUEUE].concurrency_limit is None
        assert queues[SHARD_QUEUE].concurrency_limit == 4
