"""What docker-compose.yml leaves open to others: keys, consoles, and Airflow's own tables."""

from __future__ import annotations

import re

import pytest
import yaml
from compose import ROOT, read_services

DOCUMENT = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = read_services({})
AIRFLOW = [name for name in SERVICES if name.startswith("airflow-")]
KEYS = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")


@pytest.mark.case("SEC-14")
@pytest.mark.parametrize("service", AIRFLOW)
def test_keys_are_made_on_the_spot_and_stand_in_no_file(service: str) -> None:
    environment = SERVICES[service].environment
    for key in KEYS:
        assert key not in environment
        assert re.fullmatch(r"cat /opt/airflow/secrets/\w+", environment[f"{key}_CMD"])


@pytest.mark.case("SEC-14")
def test_each_key_is_made_anew_where_there_is_none_and_only_its_owner_reads_it() -> None:
    script = SERVICES["airflow-init"].command[-1]
    assert script.index("umask 077") < script.index("new_key fernet_key")
    made = re.findall(r"^\s*new_key (\w+) '(.*)'$", script, re.MULTILINE)
    assert {name for name, _ in made} == {"fernet_key", "api_secret_key", "jwt_secret"}
    assert all("generate_key()" in how or "token_urlsafe(64)" in how for _, how in made)


@pytest.mark.case("SEC-14")
@pytest.mark.parametrize("service", AIRFLOW)
def test_airflow_shows_no_settings_and_lets_nobody_in_without_a_password(service: str) -> None:
    environment = SERVICES[service].environment
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    # Its default: no settings are shown, and no user is everybody.
    assert "AIRFLOW__API__EXPOSE_CONFIG" not in environment
    assert environment["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")
    assert not [name for name in environment if "SIMPLE_AUTH" in name]


@pytest.mark.case("SEC-14")
@pytest.mark.parametrize("service", AIRFLOW)
def test_the_collector_has_a_login_of_its_own(service: str) -> None:
    environment = SERVICES[service].environment
    assert "//collector:" in environment["DATABASE_URL"]
    assert "//airflow:" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


@pytest.mark.case("SEC-13")
def test_no_service_is_more_than_a_service() -> None:
    for name, entry in DOCUMENT["services"].items():
        assert not entry.keys() & {"privileged", "network_mode", "pid", "cap_add", "devices"}, name
        assert not [it for it in entry.get("volumes", []) if "docker.sock" in it], name


@pytest.mark.case("SEC-12")
def test_the_store_is_a_named_release_whose_weakness_is_told() -> None:
    image = DOCUMENT["services"]["minio"]["image"]
    assert re.fullmatch(r"minio/minio:RELEASE\.[0-9TZ-]+", image)
    assert "CVE-2025-62506" in (ROOT / "README.md").read_text()
