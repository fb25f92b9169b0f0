"""docker-compose.yml itself: what it names, what it opens, what it hands on."""

from __future__ import annotations

import re

import pytest
import yaml
from airflow_api import DAG_ID
from compose import ROOT, read_env_file, read_services

from collector.settings import Settings

DOCUMENT = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
AIRFLOW = [name for name in DOCUMENT["services"] if name.startswith("airflow-")]
# The SDK reads these by itself, in a person's shell; a container has no profile and no such file.
OF_A_SHELL = {
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "COLLECTOR_HOME",  # no embedded servers in a container
    "COLLECTOR_LOG_FORMAT",  # Airflow writes the logs of its tasks
}


def test_the_services_of_the_contract_are_there() -> None:
    named = {
        "postgres",
        "minio",
        "minio-init",
        "airflow-init",
        "airflow-apiserver",
        "airflow-scheduler",
        "airflow-dag-processor",
    }
    started = {name for name, entry in DOCUMENT["services"].items() if "profiles" not in entry}
    assert named <= started
    entries = DOCUMENT["services"].values()
    profiles = {name for entry in entries for name in entry.get("profiles", [])}
    assert profiles == {"celery", "simulator"}


@pytest.mark.case("SEC-13")
def test_host_ports_are_those_of_the_contract_and_open_on_this_machine_alone() -> None:
    ports = [port for entry in DOCUMENT["services"].values() for port in entry.get("ports", [])]
    assert sorted(ports) == [
        "127.0.0.1:5435:5432",
        "127.0.0.1:8080:8080",
        "127.0.0.1:9000:9000",
        "127.0.0.1:9001:9001",
    ]


@pytest.mark.parametrize("service", AIRFLOW)
def test_every_setting_is_handed_on_and_unset_means_its_default(service: str) -> None:
    environment = read_services({})[service].environment
    known = {name.upper() for name in Settings.model_fields} - OF_A_SHELL
    handed_on = {name for name in environment if not name.startswith(("AIRFLOW", "TINI"))}
    assert handed_on == known | {"TRANSFER_WORKERS"}
    ours = {name: value for name, value in environment.items() if name in known and value}
    assert ours == {
        "DATABASE_URL": "postgresql://collector:collector@postgres:5432/airflow",
        "BUCKET_NAME": "draenei-collector",
        "S3_ENDPOINT_URL": "http://minio:9000",
        "AWS_ACCESS_KEY_ID": "minioadmin",
        "AWS_SECRET_ACCESS_KEY": "minioadmin",
        "AWS_DEFAULT_REGION": "us-east-1",
        "UPLOAD_BATCH_LIMIT": "50",
    }


def test_an_env_file_overrides_and_an_empty_endpoint_means_aws() -> None:
    chosen = {"S3_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "", "WALLHAVEN_QUERY": "elf"}
    environment = read_services(chosen)["airflow-scheduler"].environment
    assert {name: environment[name] for name in chosen} == chosen


@pytest.mark.case("SEC-13")
def test_every_password_comes_from_a_variable() -> None:
    chosen = {
        "POSTGRES_PASSWORD": "secret1",
        "DATABASE_PASSWORD": "secret2",
        "MINIO_ROOT_USER": "root3",
        "MINIO_ROOT_PASSWORD": "secret3",
        "AIRFLOW_ADMIN_PASSWORD": "secret4",
    }
    services = read_services(chosen)
    scheduler = services["airflow-scheduler"].environment
    assert scheduler["DATABASE_URL"] == "postgresql://collector:secret2@postgres:5432/airflow"
    assert scheduler["AWS_ACCESS_KEY_ID"] == "root3"
    assert scheduler["AWS_SECRET_ACCESS_KEY"] == "secret3"
    assert "airflow:secret1@" in scheduler["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert services["postgres"].environment["POSTGRES_PASSWORD"] == "secret1"
    roles = services["postgres-init"].environment
    assert (roles["PGPASSWORD"], roles["DATABASE_PASSWORD"]) == ("secret1", "secret2")
    assert services["minio"].environment["MINIO_ROOT_PASSWORD"] == "secret3"
    assert services["minio-init"].environment["MC_HOST_local"] == "http://root3:secret3@minio:9000"
    assert services["airflow-init"].environment["AIRFLOW_ADMIN_PASSWORD"] == "secret4"
    left = [
        f"{service.name}: {value}"
        for service in services.values()
        for value in [*service.environment.values(), *service.command]
        if re.search(r"minioadmin|:airflow@|:collector@|password admin", value)
    ]
    assert left == []


def test_no_image_is_built_twice_at_once() -> None:
    built = [entry["image"] for entry in DOCUMENT["services"].values() if "build" in entry]
    assert len(built) == len(set(built)) == 2


@pytest.mark.case("SEC-14")
def test_only_airflow_init_writes_the_keys() -> None:
    mounts = {name: DOCUMENT["services"][name]["volumes"] for name in AIRFLOW}
    writing = {name for name in AIRFLOW if "airflow-secrets:/opt/airflow/secrets" in mounts[name]}
    assert writing == {"airflow-init"}


@pytest.mark.case("SEC-12")
def test_pulled_images_have_a_version() -> None:
    ours = {"draenei-collector-airflow", "draenei-collector-cli"}
    pulled = {entry["image"] for entry in DOCUMENT["services"].values()} - ours
    assert pulled
    for image in pulled:
        assert re.search(r":(\d+\.\d+|RELEASE\.\d{4})", image), image


@pytest.mark.parametrize(
    ("file", "service", "changed"),
    [
        (".env.celery", "airflow-scheduler", {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}),
        (".env.celery", "airflow-worker", {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}),
        (
            ".env.simulator",
            "airflow-scheduler",
            {
                "WALLHAVEN_API_URL": "http://simulator:8090/api/v1",
                "WALLHAVEN_IMAGE_HOSTS": "simulator:8090",
            },
        ),
    ],
)
def test_the_env_files_change_what_they_say(
    file: str, service: str, changed: dict[str, str]
) -> None:
    variables = read_env_file(file)
    environment = read_services(variables)[service].environment
    assert {name: environment[name] for name in changed} == changed
    # A variable that nobody reads would be a misspelt one.
    text = (ROOT / "docker-compose.yml").read_text()
    assert all(f"${{{name}" in text for name in variables)


def test_every_pool_that_a_dag_names_is_made() -> None:
    files = (ROOT / "dags").glob("*.py")
    named = {pool for file in files for pool in re.findall(r'pool="(\w+)"', file.read_text())}
    made = re.findall(r"airflow pools set (\w+)", read_services({})["airflow-init"].command[-1])
    assert named == set(made) == {"draenei_transfers", "draenei_backfills"}


def test_the_dag_of_the_contract_is_in_the_image() -> None:
    assert (ROOT / "dags" / f"{DAG_ID}.py").is_file()
    assert "dags" in (ROOT / "Dockerfile").read_text()
