import os
from pathlib import Path

import pytest

from kaleidoscope.errors import SettingsError
from kaleidoscope.settings import Settings, available_cpus


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "KALEIDOSCOPE_")):
            monkeypatch.delenv(name)


def test_without_an_environment_the_defaults_stand() -> None:
    settings = Settings.from_environment()
    assert settings == Settings.model_construct()
    assert settings.s3_endpoint_url is None


def test_every_field_can_be_set_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "s3_endpoint_url": "http://127.0.0.1:8333",
        "s3_region": "eu-west-3",
        "s3_path_style": "False",
        "s3_anonymous": "True",
        "s3_ca_bundle": "ca.pem",
        "s3_connect_timeout_s": "1.5",
        "s3_read_timeout_s": "2.5",
        "s3_max_retries": "0",
        "s3_retry_timeout_s": "3.5",
    }
    assert texts.keys() == Settings.model_fields.keys()
    for name, text in texts.items():
        monkeypatch.setenv(f"KALEIDOSCOPE_{name.upper()}", text)
    values = Settings.from_environment().model_dump()
    assert {name: str(value) for name, value in values.items()} == texts


def test_our_names_come_before_those_of_the_aws_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "KALEIDOSCOPE_S3_ENDPOINT_URL"), start=1
    ):
        monkeypatch.setenv(name, f"https://host-{number}/")
        assert Settings.from_environment().s3_endpoint_url == f"https://host-{number}"


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://host")
    monkeypatch.setenv("KALEIDOSCOPE_S3_MAX_RETRIES", "")
    settings = Settings.from_environment()
    assert settings.s3_endpoint_url == "https://host"
    assert settings.s3_max_retries == 8


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KALEIDOSCOPE_S3_ENDPOINT_URL", "127.0.0.1:8333"),
        ("KALEIDOSCOPE_S3_ENDPOINT_URL", "ftp://host"),
        ("KALEIDOSCOPE_S3_MAX_RETRIES", "-1"),
        ("KALEIDOSCOPE_S3_READ_TIMEOUT_S", "soon"),
        ("KALEIDOSCOPE_S3_ANONYMOUS", "perhaps"),
    ],
)
def test_a_malformed_variable_is_named(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=f"(?i){name.removeprefix('KALEIDOSCOPE_')}"):
        Settings.from_environment()


def test_a_password_in_an_endpoint_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", "https://user:hunter2@host")
    with pytest.raises(SettingsError, match="user or password") as caught:
        Settings.from_environment()
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().s3_max_retries = 3  # type: ignore[misc] # That is what is tested.


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


def write_cgroups(folder: Path, membership: str, files: dict[str, str]) -> dict[str, Path]:
    (folder / "cgroup").write_text(membership)
    for name, text in files.items():
        (folder / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fs" / name).write_text(text)
    return {"membership": folder / "cgroup", "hierarchy": folder / "fs"}


V1 = "11:memory:/pod\n4:cpu,cpuacct:/pod/box\n1:name=systemd:/pod\n"


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 4),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n"}, 3),
        ("0::/../of/the/host\n", {"cpu.max": "100000 50000\n"}, 2),
        ("0::/\n", {"cpu.max": "garbage\n"}, 4),
        ("0::/\n", {}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/pod/cpu.cfs_quota_us": "50000", "cpu/pod/cpu.cfs_period_us": "100000"}, 1),
        (V1, {"memory/cpu.cfs_quota_us": "50000", "memory/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_a_cpu_quota_is_rounded_up_to_at_least_one(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert available_cpus(**write_cgroups(tmp_path, membership, files)) == expected


def test_an_affinity_mask_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2}, raising=False)
    assert available_cpus(**write_cgroups(tmp_path, "0::/\n", {})) == 1


@pytest.mark.usefixtures("four_cpus")
def test_without_control_groups_the_mask_stands(tmp_path: Path) -> None:
    assert available_cpus(membership=tmp_path / "no", hierarchy=tmp_path) == 4


def test_without_masks_the_machine_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cpus(membership=tmp_path / "no", hierarchy=tmp_path) == 6


def test_this_machine_has_a_cpu() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
