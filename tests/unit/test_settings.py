"""Settings: the contract's defaults, and one clear line without the value for what is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_data_path

from collector.core.errors import SettingsError
from collector.settings import Settings, load_settings

SECRET = "hunter2-secret"

# What a setting needs beside it to be accepted.
BESIDE = {"WALLHAVEN_TOP_RANGE": {"WALLHAVEN_SORTING": "toplist"}}
TWO_PARTS = 2 * 8 * 1024 * 1024


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in list(os.environ):
        if name.upper() in known or name.upper().startswith(("WALLHAVEN_", "COLLECTOR_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load_from(**environment: str) -> Settings:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return load_settings()

    return load_from


# The defaults themselves stand in .env.example, which tests/unit/test_documents.py compares.
def test_the_home_is_a_folder_of_the_user_by_default() -> None:
    assert load_settings().collector_home == user_data_path("draenei-collector")


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - {"s3_endpoint_url"}))
def test_empty_means_the_default(load: Any, name: str) -> None:
    assert getattr(load(**{name.upper(): ""}), name) == getattr(load_settings(), name)


def test_an_empty_endpoint_means_aws(load: Any) -> None:
    settings = load(S3_ENDPOINT_URL="")
    assert settings.s3_endpoint_url == ""
    assert not settings.uses_local_s3
    assert not settings.path_style


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BUCKET_NAME", "my.bucket-1", "my.bucket-1"),
        ("UPLOAD_BATCH_LIMIT", "0", 0),
        ("S3_ENDPOINT_URL", "http://minio:9000", "http://minio:9000"),
        ("S3_FORCE_PATH_STYLE", "false", False),
        ("WALLHAVEN_API_URL", "https://wallhaven.cc/api/v1/", "https://wallhaven.cc/api/v1"),
        ("WALLHAVEN_API_URL", "http://simulator:8000/api/v1", "http://simulator:8000/api/v1"),
        ("WALLHAVEN_API_URL", "http://localhost:8000", "http://localhost:8000"),
        ("WALLHAVEN_API_URL", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("WALLHAVEN_API_URL", "http://[::1]:8000", "http://[::1]:8000"),
        ("WALLHAVEN_QUERY", '+a -b "c d"', '+a -b "c d"'),
        ("WALLHAVEN_QUERY", "*", "*"),
        ("WALLHAVEN_COLLECTION", "someone/15", "someone/15"),
        ("WALLHAVEN_TOP_RANGE", "1M", "1M"),
        ("WALLHAVEN_ATLEAST", "1920x1080", "1920x1080"),
        ("WALLHAVEN_RESOLUTIONS", "1x2,3x4", "1x2,3x4"),
        ("WALLHAVEN_RATIOS", "16x9,portrait", "16x9,portrait"),
        ("WALLHAVEN_COLORS", "ea4c88", "ea4c88"),
        ("WALLHAVEN_AI_ART_FILTER", "0", "0"),
        ("WALLHAVEN_REQUESTS_PER_MINUTE", "45", 45),
        ("COLLECTOR_MEMORY_BYTES", str(TWO_PARTS), TWO_PARTS),
        ("COLLECTOR_RETRY_BASE_SECONDS", "0", 0.0),
        ("COLLECTOR_MAX_DEAD_PERCENT", "100", 100.0),
        ("COLLECTOR_HOME", "/var/lib/collector", Path("/var/lib/collector")),
        ("COLLECTOR_LOG_FORMAT", "json", "json"),
    ],
)
def test_a_good_value(load: Any, name: str, text: str, value: object) -> None:
    assert getattr(load(**{name: text}, **BESIDE.get(name, {})), name.lower()) == value


def test_a_top_range_belongs_to_a_toplist(load: Any) -> None:
    with pytest.raises(SettingsError, match="works with the sorting toplist"):
        load(WALLHAVEN_TOP_RANGE="1M")


WRONG: dict[str, list[str]] = {
    "DATABASE_URL": [f"mysql://user:{SECRET}@host/db", SECRET, f" postgresql://{SECRET}@h/db"],
    "BUCKET_NAME": [SECRET.upper(), f"{SECRET}/x", f"{SECRET}\n", f"s3://{SECRET}", "ab", "b" * 64],
    "S3_ENDPOINT_URL": [
        *(SECRET, f"ftp://{SECRET}", "http://", f"http://[{SECRET}", f"http://[{SECRET}]/"),
        *(f"http://{SECRET}\u2100x", f"http://host:{SECRET}", "minio:9000"),
    ],
    "S3_FORCE_PATH_STYLE": [SECRET],
    "UPLOAD_BATCH_LIMIT": ["-1", "1.5", SECRET, "9" * 5000],
    "WALLHAVEN_API_URL": [
        *(SECRET, f"http://{SECRET}.example/api", f"ftp://{SECRET}", f"http://10.0.0.1/{SECRET}"),
        *(f"https://user:{SECRET}@wallhaven.cc", f"https://:{SECRET}@wallhaven.cc", "https://"),
        *(f"https://wallhaven.cc/?apikey={SECRET}", f"https://wallhaven.cc/#{SECRET}"),
        *(f"https://[{SECRET}/", f"https://wallhaven.cc:{SECRET}/", "https://wallhaven.cc:99999/"),
        *("http://134744072/", "//wallhaven.cc/api/v1"),
    ],
    "WALLHAVEN_API_KEY": [
        f"{SECRET}\n",
        f"{SECRET}\r\nX-Other: 1",
        f"a {SECRET}",
        f"\u00e9{SECRET}",
    ],
    "WALLHAVEN_QUERY": [SECRET * 100, " ", "   "],
    "WALLHAVEN_COLLECTION": [SECRET, f"{SECRET}/", f"{SECRET}/x", "/15", " ", f"a/{SECRET}/15"],
    "WALLHAVEN_CATEGORIES": ["11", "1111", "112", f"111{SECRET}", "111\n"],
    "WALLHAVEN_PURITY": ["0", SECRET, "100 "],
    "WALLHAVEN_SORTING": ["hot", SECRET, "date_added\n"],
    "WALLHAVEN_ORDER": ["DESC", SECRET],
    "WALLHAVEN_TOP_RANGE": ["1m", "2d", SECRET],
    "WALLHAVEN_ATLEAST": ["1920", "1920x", "1920X1080", SECRET, "1x2,3x4"],
    "WALLHAVEN_RESOLUTIONS": ["1x2,", ",1x2", "1x2 3x4", SECRET],
    "WALLHAVEN_RATIOS": ["16:9", "1.78", SECRET, "16x9,square"],
    "WALLHAVEN_COLORS": ["#ea4c88", "EA4C88", "ea4c8", SECRET],
    "WALLHAVEN_AI_ART_FILTER": ["2", "true", SECRET],
    "WALLHAVEN_MAX_PAGES": ["0", "-1", SECRET],
    "WALLHAVEN_REQUESTS_PER_MINUTE": ["0", "46", "1000000", SECRET],
    "WALLHAVEN_IMAGE_HOSTS": [
        *(",", "w.wallhaven.cc,", f"https://{SECRET}", f"{SECRET}:port", f"{SECRET}/x"),
        *(f"user@{SECRET}", f"*.{SECRET}", "::1"),
    ],
    "COLLECTOR_IN_FLIGHT": ["0", "1025", "-1", "x"],
    "COLLECTOR_MEMORY_BYTES": ["0", str(TWO_PARTS - 1), "128M", SECRET],
    "COLLECTOR_MAX_IMAGE_BYTES": ["0", "-1", SECRET],
    "COLLECTOR_LEASE_SECONDS": ["2", "0", "1.5", SECRET],
    "COLLECTOR_MAX_ATTEMPTS": ["0", SECRET],
    "COLLECTOR_RETRY_BASE_SECONDS": ["-1", "nan", "inf", "1e999", SECRET],
    "COLLECTOR_MAX_DEAD_PERCENT": ["-0.1", "100.1", "nan", "inf", "5%", SECRET],
    "COLLECTOR_LOG_FORMAT": ["xml", "JSON", SECRET],
    "COLLECTOR_LOG_LEVEL": ["info", "TRACE", SECRET],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda text: ascii(text)[:48],
)
def test_a_wrong_value_is_named_and_not_shown(load: Any, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})
    line = str(caught.value)
    assert caught.value.setting == name
    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    assert len(line) < 300
    assert SECRET not in line
    assert SECRET.upper() not in line
    assert not re.search(r"pattern|Input|String|\^|\\", line), "a person did not write this"


# What each may be is obvious, secret, or said in the words of the refusal.
WITHOUT_EXAMPLE = {"WALLHAVEN_API_KEY"}


@pytest.mark.parametrize("name", sorted(WRONG.keys() - WITHOUT_EXAMPLE))
def test_a_wrong_value_is_told_an_example_that_is_a_right_one(load: Any, name: str) -> None:
    with pytest.raises(SettingsError, match="such as ") as caught:
        load(**{name: WRONG[name][0]})
    example = re.split(r"[ ;]", str(caught.value).partition("such as ")[2])[0]
    assert load(**{name: example}, **BESIDE.get(name, {}))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "WALLHAVEN_CATEGORIES",
            "2",
            "must be three digits, 0 or 1 for each of general, anime and people, such as 111",
        ),
        (
            "WALLHAVEN_SORTING",
            "hot",
            "must be date_added, relevance, random, views, favorites or"
            " toplist, such as date_added",
        ),
        ("WALLHAVEN_MAX_PAGES", "0", "must be a whole number, 1 or more, such as 50"),
        ("COLLECTOR_IN_FLIGHT", "many", "must be a whole number from 1 to 1024, such as 16"),
        ("COLLECTOR_LOG_LEVEL", "info", "must be DEBUG, INFO, WARNING or ERROR, such as INFO"),
        ("S3_FORCE_PATH_STYLE", "perhaps", "must be true or false, such as true"),
    ],
)
def test_what_is_allowed_is_one_plain_line(load: Any, name: str, value: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})
    assert str(caught.value) == f"{name}: {line}"


MISSPELT = {
    "WALLHAVEN_QUERRY": "did you mean WALLHAVEN_QUERY?",
    "COLLECTOR_INFLIGHT": "did you mean COLLECTOR_IN_FLIGHT?",
    "wallhaven_purty": "did you mean WALLHAVEN_PURITY?",
    "COLLECTOR_ZZZZZZZZZZZZ": "`collector config` lists all",
}


@pytest.mark.parametrize(("name", "hint"), MISSPELT.items())
def test_a_misspelt_name_is_refused(load: Any, tmp_path: Path, name: str, hint: str) -> None:
    path = tmp_path / "some.env"
    path.write_text(f"{name}={SECRET}\n")
    for read in (lambda: load(**{name: SECRET}), lambda: load_settings(path)):
        with pytest.raises(SettingsError) as caught:
            read()
        assert str(caught.value) == f"{name.upper()}: there is no such setting; {hint}"


def test_names_of_others_are_not_our_business(load: Any) -> None:
    assert load(AIRFLOW__CORE__WALLHAVEN_QUERRY="x", MY_COLLECTOR_X="y", UNKNOWN="z")


@pytest.mark.parametrize("purity", ["001", "111"])
def test_nsfw_needs_a_key(load: Any, purity: str) -> None:
    with pytest.raises(SettingsError, match=r"WALLHAVEN_PURITY: nsfw.* needs WALLHAVEN_API_KEY"):
        load(WALLHAVEN_PURITY=purity)
    assert load(WALLHAVEN_PURITY=purity, WALLHAVEN_API_KEY=SECRET).question.purity == purity


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"])
def test_a_loopback_api_may_be_asked_more_often(load: Any, url: str) -> None:
    settings = load(WALLHAVEN_API_URL=url, WALLHAVEN_REQUESTS_PER_MINUTE="6000")
    assert settings.wallhaven_requests_per_minute == 6000


@pytest.mark.parametrize("url", ["http://simulator:8000", "https://localhost.example/api"])
def test_no_other_api_may_be_asked_more_often(load: Any, url: str) -> None:
    with pytest.raises(SettingsError, match="only to a loopback API") as caught:
        load(WALLHAVEN_API_URL=url, WALLHAVEN_REQUESTS_PER_MINUTE="46")
    assert caught.value.setting == "WALLHAVEN_REQUESTS_PER_MINUTE"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_credential_is_refused(load: Any, name: str) -> None:
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID: set both") as caught:
        load(**{name: SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.case("SEC-05")
def test_secrets_are_not_shown(load: Any) -> None:
    settings = load(
        DATABASE_URL=f"postgresql://user:{SECRET}@host/db",
        WALLHAVEN_API_KEY=SECRET,
        AWS_ACCESS_KEY_ID="AKIA",
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_SESSION_TOKEN=SECRET,
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings}"):
        assert SECRET not in shown
    assert settings.wallhaven_api_key.get_secret_value() == SECRET


# --- What follows from the values ---------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_database_url_replaces_the_embedded_server(load: Any, scheme: str) -> None:
    assert load_settings().uses_local_postgres
    assert not load(DATABASE_URL=f"{scheme}://airflow@localhost/airflow").uses_local_postgres


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize(
    "environment",
    [
        {"S3_ENDPOINT_URL": ""},
        {"S3_ENDPOINT_URL": "http://minio:9000"},
        {"AWS_PROFILE": "me"},
        {"AWS_DEFAULT_PROFILE": "x"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "x"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "x"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "x"},
        {"AWS_SESSION_TOKEN": SECRET},
        CREDENTIALS,
    ],
    ids=str,
)
def test_an_endpoint_or_a_credential_replaces_the_embedded_store(
    load: Any, environment: dict[str, str]
) -> None:
    assert not load(**environment).uses_local_s3


def test_a_region_alone_selects_no_store(load: Any) -> None:
    assert load_settings().uses_local_s3
    assert load(AWS_DEFAULT_REGION="eu-central-1").uses_local_s3


@pytest.mark.parametrize(
    ("endpoint", "force", "expected"),
    [
        (None, None, False),
        ("", None, False),
        ("http://minio:9000", None, True),
        ("http://minio:9000", "false", False),
        ("", "true", True),
    ],
)
def test_path_style(load: Any, endpoint: str | None, force: str | None, expected: bool) -> None:
    given = {"S3_ENDPOINT_URL": endpoint, "S3_FORCE_PATH_STYLE": force}
    environment = {name: value for name, value in given.items() if value is not None}
    assert load(**environment).path_style is expected


def test_image_hosts_are_a_set_in_lower_case(load: Any) -> None:
    settings = load(WALLHAVEN_IMAGE_HOSTS="W.Wallhaven.CC, localhost:8080,[::1]:9000")
    assert settings.image_hosts == {"w.wallhaven.cc", "localhost:8080", "[::1]:9000"}


def test_the_query_holds_every_filter(load: Any) -> None:
    values = {
        "QUERY": "a b",
        "CATEGORIES": "101",
        "PURITY": "110",
        "SORTING": "toplist",
        "ORDER": "asc",
        "TOP_RANGE": "1w",
        "ATLEAST": "1x1",
        "RESOLUTIONS": "2x2",
        "RATIOS": "16x9",
        "COLORS": "ffffff",
        "AI_ART_FILTER": "1",
    }
    query = load(**{f"WALLHAVEN_{name}": value for name, value in values.items()}).question
    assert sorted(query.parameters().values()) == sorted(values.values())


def test_a_collection_takes_the_place_of_the_query(load: Any) -> None:
    unread = {"WALLHAVEN_QUERY": "id:1 and more", "WALLHAVEN_PURITY": "110"}
    assert load(WALLHAVEN_COLLECTION="someone/15", **unread).question == ("someone", 15)


FILTERS = {
    "WALLHAVEN_CATEGORIES": "110",
    "WALLHAVEN_SORTING": "views",
    "WALLHAVEN_ORDER": "asc",
    "WALLHAVEN_TOP_RANGE": "1M",
    "WALLHAVEN_ATLEAST": "1920x1080",
    "WALLHAVEN_RESOLUTIONS": "1920x1080",
    "WALLHAVEN_RATIOS": "16x9",
    "WALLHAVEN_COLORS": "660000",
    "WALLHAVEN_AI_ART_FILTER": "1",
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_a_collection_would_ignore_is_refused(load: Any, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(WALLHAVEN_COLLECTION="someone/15", **{name: FILTERS[name]})
    assert str(caught.value) == f"{name}: is ignored by a collection; leave it empty"
    default = {name: str(Settings.model_fields[name.lower()].default)}
    assert load(WALLHAVEN_COLLECTION="someone/15", **default).question == ("someone", 15)


def test_the_purity_of_a_collection_is_checked(load: Any) -> None:
    with pytest.raises(SettingsError, match="WALLHAVEN_PURITY: must be three digits"):
        load(WALLHAVEN_COLLECTION="someone/15", WALLHAVEN_PURITY="1")
    with pytest.raises(SettingsError, match="WALLHAVEN_PURITY: nsfw"):
        load(WALLHAVEN_COLLECTION="someone/15", WALLHAVEN_PURITY="111")


# --- Where they come from -----------------------------------------------------------------------


@pytest.mark.case("SEC-19")
def test_a_dotenv_file_in_the_working_directory_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WALLHAVEN_API_URL=http://localhost:1\nBUCKET_NAME=evil\n")
    for settings in (load_settings(), Settings()):
        assert settings.bucket_name == "draenei-collector"
        assert settings.wallhaven_api_url == "https://wallhaven.cc/api/v1"


def test_an_env_file_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_text("# ours\nBUCKET_NAME=from-file\nS3_ENDPOINT_URL=\nUNKNOWN=1\n")
    settings = load_settings(path)
    assert settings.bucket_name == "from-file"
    assert settings.s3_endpoint_url == ""


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.env"
    path.write_text("BUCKET_NAME=from-file\nWALLHAVEN_QUERY=from-file\nWALLHAVEN_ORDER=asc\n")
    monkeypatch.setenv("BUCKET_NAME", "from-environment")
    monkeypatch.setenv("WALLHAVEN_QUERY", "from-environment")
    settings = load_settings(path, wallhaven_query="from-argument")
    assert settings.bucket_name == "from-environment"
    assert settings.wallhaven_query == "from-argument"
    assert settings.wallhaven_order == "asc"


def test_a_wrong_value_in_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_text(f"WALLHAVEN_MAX_PAGES={SECRET}\n")
    with pytest.raises(SettingsError, match="WALLHAVEN_MAX_PAGES") as caught:
        load_settings(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.env", "."])
def test_an_env_file_that_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is not a file") as caught:
        load_settings(tmp_path / name)
    assert caught.value.setting == "--env-file"


def test_an_env_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_bytes(b"BUCKET_NAME=\xff\xfe\n")
    with pytest.raises(SettingsError, match="--env-file: cannot be read"):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("WALLHAVEN_QUERY=elf\nBUCKET_NAME=x" + " " * 10_000, "line 2 has more than 8,192"),
        ("# a comment\n" * 10_000, "has more than 65,536 bytes"),
    ],
)
def test_an_env_file_that_is_too_long(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.env"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"--env-file: {said}"):
        load_settings(path)


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.bucket_name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "DATABASEURL=postgresql://db/name",
            "DATABASEURL: there is no such setting; did you mean DATABASE_",
        ),
        (
            "S3_ENDPOINT=http://minio:9000",
            "S3_ENDPOINT: there is no such setting; did you mean S3_ENDPOINT_",
        ),
        ("BUCKET=mine", "BUCKET: there is no such setting; did you mean BUCKET_NAME?"),
        ("this is no setting", "--env-file: line 2 cannot be parsed"),
    ],
)
def test_a_named_file_is_read_strictly(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "my.env"
    path.write_text(f"WALLHAVEN_QUERY=elf\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(said)


def test_what_belongs_to_others_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.env"
    path.write_text("AIRFLOW_EXECUTOR=CeleryExecutor\nTRANSFER_WORKERS=4\nWALLHAVEN_QUERY=elf\n")
    assert load_settings(path).wallhaven_query == "elf"


def test_a_file_of_a_thousand_names_is_refused_before_each_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "some.env"
    file.write_text("\n".join(f"NAME_{number}=1" for number in range(1_000)))
    with pytest.raises(SettingsError, match="more than 500 names"):
        load_settings(file)
    file.write_text("\n".join(f"NAME_{number}=1" for number in range(100)))
    assert load_settings(file).bucket_name
