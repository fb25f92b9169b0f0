"""Settings as checked values with units.

The variables are the field names in upper case. Defaults are defined here and nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from collector.core.addresses import (
    POSTGRES_PREFIXES,
    is_local_name,
    is_unambiguous_dsn,
    password_and_hosts,
    split_address,
)
from collector.core.errors import SettingsError
from collector.core.parts import PART_BYTES
from collector.sources.wallhaven import CollectionName, Query, QueryError

# What Wallhaven allows; the simulator may get more.
PUBLIC_REQUESTS_PER_MINUTE = 45
# Each request of a minute is a row in the database; the simulator does not answer more.
_MAX_REQUESTS_PER_MINUTE = 60_000
# Larger values have no use, and would overflow Postgres' types in the end.
_MAX_LEASE_SECONDS = 86_400
_MAX_ATTEMPTS = 1_000
_HOST = r"\s*([A-Za-z0-9.\-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?\s*"
# The API's parameters whose setting has another name.
_SETTING_OF = {"q": "query", "topRange": "top_range"}
# Filters of searches, as fields of Query: a collection would silently ignore them.
_SEARCH_FILTERS = (
    *("categories", "sorting", "order", "top_range", "atleast", "resolutions", "ratios"),
    *("colors", "ai_art_filter"),
)
_HEADER_VALUE = re.compile(r"[!-~]+")


def _text(pattern: str, allowed: str) -> Any:
    """Constrain a text to match `pattern` as a whole; the error message says what is `allowed`."""
    return Field(pattern=f"^({pattern})$", description=allowed)


def _one_of(*words: str) -> Any:
    return _text("|".join(words), f"{', '.join(words[:-1])} or {words[-1]}")


def _range(low: int, high: int) -> Any:
    return Field(ge=low, le=high, description=f"a whole number from {low} to {high}")


Positive = Annotated[int, Field(ge=1, description="a whole number, 1 or more")]

# Defaults of the compose stack and of similar ones: good enough for this machine, and well known.
KNOWN_PASSWORDS = frozenset({"airflow", "collector", "minioadmin", "postgres", "admin", "password"})
_IS_KNOWN = "is a well-known default password; it is accepted for local servers only"


class Settings(BaseSettings):
    """All settings. Secrets are SecretStr, so that repr and logs do not show them."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=False, hide_input_in_errors=True, frozen=True
    )

    database_url: SecretStr | None = None
    bucket_name: Annotated[
        str, _text(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "3 to 63 of a-z, 0-9, dot and hyphen")
    ] = "draenei-collector"
    s3_endpoint_url: str | None = None
    s3_force_path_style: Annotated[
        bool | None, Field(description="true or false", examples=["true"])
    ] = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None
    aws_profile: str | None = None
    aws_default_profile: str | None = None
    aws_web_identity_token_file: str | None = None
    aws_container_credentials_relative_uri: str | None = None
    aws_container_credentials_full_uri: str | None = None
    upload_batch_limit: Annotated[
        int, Field(ge=0, description="a whole number, 0 for no limit")
    ] = 500
    wallhaven_api_url: str = "https://wallhaven.cc/api/v1"
    wallhaven_api_key: SecretStr | None = None
    # Query checks these.
    wallhaven_query: str = "draenei"
    wallhaven_collection: str = ""
    wallhaven_categories: str = "111"
    wallhaven_purity: str = "100"
    wallhaven_sorting: str = "date_added"
    wallhaven_order: str = "desc"
    wallhaven_top_range: str = ""
    wallhaven_atleast: str = ""
    wallhaven_resolutions: str = ""
    wallhaven_ratios: str = ""
    wallhaven_colors: str = ""
    wallhaven_ai_art_filter: str = ""
    wallhaven_max_pages: Positive = 50
    wallhaven_requests_per_minute: Annotated[int, _range(1, _MAX_REQUESTS_PER_MINUTE)] = (
        PUBLIC_REQUESTS_PER_MINUTE
    )
    wallhaven_image_hosts: Annotated[
        str, _text(f"{_HOST}(,{_HOST})*", "hosts, or host:port, separated by commas")
    ] = "w.wallhaven.cc"
    collector_in_flight: Annotated[int, _range(1, 1024)] = 16
    collector_memory_bytes: Positive = 134_217_728
    collector_max_image_bytes: Positive = 536_870_912
    collector_lease_seconds: Annotated[int, _range(3, _MAX_LEASE_SECONDS)] = 120
    collector_max_attempts: Annotated[int, _range(1, _MAX_ATTEMPTS)] = 5
    collector_retry_base_seconds: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="seconds, 0 or more")
    ] = 5.0
    collector_max_dead_percent: Annotated[
        float, Field(ge=0, le=100, description="a percentage from 0 to 100")
    ] = 5.0
    collector_home: Path = Field(default_factory=lambda: user_data_path("draenei-collector"))
    collector_log_format: Annotated[str, _one_of("text", "json")] = "text"
    collector_log_level: Annotated[str, _one_of("DEBUG", "INFO", "WARNING", "ERROR")] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Compose passes unset variables as empty ones. An empty endpoint means AWS.
        return {
            name: value
            for name, value in values.items()
            if value != "" or name == "s3_endpoint_url"
        }

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if not value.get_secret_value().startswith(POSTGRES_PREFIXES):
            raise ValueError("must begin with postgresql://, such as postgresql://me@host:5432/db")
        if not is_unambiguous_dsn(value.get_secret_value()):
            raise ValueError(
                "cannot be read; a port must be a number, and / @ : ? # [ ] in user or password"
                " must be escaped (%2F for /), such as postgresql://me:a%2Fb@host:5432/db"
            )
        return value

    @field_validator("s3_endpoint_url")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        address = split_address(value or "")
        if value and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("must be an address such as http://minio:9000; empty for AWS")
        if "@" in address.netloc or address.query:
            raise ValueError("must have no user and no query, such as http://minio:9000")
        return value

    @field_validator("wallhaven_api_url")
    @classmethod
    def _is_api(cls, value: str) -> str:
        address = split_address(value)
        if address.scheme != "https" and not (
            address.scheme == "http" and is_local_name(address.hostname)
        ):
            raise ValueError(
                "must be https, such as https://wallhaven.cc/api/v1 (http only to loopback or to"
                " a name without a dot)"
            )
        if address.query or address.fragment or "@" in address.netloc or not address.hostname:
            raise ValueError("must be without query or user, such as https://wallhaven.cc/api/v1")
        return value.rstrip("/")

    @field_validator("wallhaven_api_key")
    @classmethod
    def _is_header_value(cls, value: SecretStr | None) -> SecretStr | None:
        # A line end from a secret's file would break every request, late and with an obscure error.
        if value and not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces or line ends")
        return value

    @field_validator("wallhaven_query")
    @classmethod
    def _is_no_blank(cls, value: str) -> str:
        # A blank query asks for the whole site, most likely by mistake.
        if not value.strip():
            raise ValueError("must not be blank, such as draenei; * asks for everything")
        return value

    @model_validator(mode="after")
    def _agree_with_the_site(self) -> Settings:
        local = is_local_name(urlsplit(self.wallhaven_api_url).hostname, loopback_only=True)
        if self.wallhaven_requests_per_minute > PUBLIC_REQUESTS_PER_MINUTE and not local:
            raise SettingsError(
                "WALLHAVEN_REQUESTS_PER_MINUTE",
                f"more than {PUBLIC_REQUESTS_PER_MINUTE} is allowed only to a loopback API",
            )
        _ = self.question
        return self

    @model_validator(mode="after")
    def _agree_with_each_other(self) -> Settings:
        if self.collector_memory_bytes < 2 * PART_BYTES:
            problem = f"must be at least two parts, such as {2 * PART_BYTES}"
            raise SettingsError("COLLECTOR_MEMORY_BYTES", problem)
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise SettingsError(
                "AWS_ACCESS_KEY_ID", "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or none"
            )
        return self

    @model_validator(mode="after")
    def _refuse_known_passwords_elsewhere(self) -> Settings:
        secret = self.aws_secret_access_key and self.aws_secret_access_key.get_secret_value()
        endpoint = urlsplit(self.s3_endpoint_url or "").hostname
        if secret in KNOWN_PASSWORDS and self.s3_endpoint_url and not _is_local_server(endpoint):
            raise SettingsError("AWS_SECRET_ACCESS_KEY", _IS_KNOWN)
        if self.database_url is not None:
            password, hosts = password_and_hosts(self.database_url.get_secret_value())
            if password in KNOWN_PASSWORDS and not all(map(_is_local_server, hosts)):
                raise SettingsError("DATABASE_URL", _IS_KNOWN)
        return self

    @property
    def image_hosts(self) -> frozenset[str]:
        """Hosts that images may come from, in lower case, `host` or `host:port`."""
        return frozenset(host.strip().lower() for host in self.wallhaven_image_hosts.split(","))

    @property
    def uses_local_postgres(self) -> bool:
        """Whether DATABASE_URL is unset: the embedded server is used."""
        return self.database_url is None

    @property
    def uses_local_s3(self) -> bool:
        """Whether neither an endpoint nor any AWS credential or profile is set."""
        credentials = (
            self.aws_access_key_id,
            self.aws_session_token,
            self.aws_profile,
            self.aws_default_profile,
            self.aws_web_identity_token_file,
            self.aws_container_credentials_relative_uri,
            self.aws_container_credentials_full_uri,
        )
        return self.s3_endpoint_url is None and not any(credentials)

    @property
    def path_style(self) -> bool:
        """S3_FORCE_PATH_STYLE; by default true if an endpoint is set."""
        if self.s3_force_path_style is None:
            return bool(self.s3_endpoint_url)
        return self.s3_force_path_style

    @property
    def question(self) -> Query | CollectionName:
        """What is mirrored: the collection if one is set, else the search.

        Raises SettingsError, also for filters that a collection would ignore, and for nsfw without
        a key: the API would silently leave it out.
        """
        try:
            asked = self._collection() if self.wallhaven_collection else self._query()
        except QueryError as error:
            name = _SETTING_OF.get(error.parameter, error.parameter)
            raise SettingsError(f"WALLHAVEN_{name.upper()}", error.problem) from None
        if self.wallhaven_purity[2] == "1" and self.wallhaven_api_key is None:
            problem = "nsfw, the third digit, needs WALLHAVEN_API_KEY"
            raise SettingsError("WALLHAVEN_PURITY", problem)
        return asked

    def _collection(self) -> CollectionName:
        Query(purity=self.wallhaven_purity)  # checks it
        for name in (f"wallhaven_{name}" for name in _SEARCH_FILTERS):
            if getattr(self, name) != Settings.model_fields[name].default:
                raise SettingsError(name.upper(), "is ignored by a collection; leave it empty")
        return CollectionName.parse(self.wallhaven_collection)

    def _query(self) -> Query:
        filters = {name: getattr(self, f"wallhaven_{name}") for name in _SEARCH_FILTERS}
        return Query(q=self.wallhaven_query, purity=self.wallhaven_purity, **filters)


def _is_local_server(host: str | None) -> bool:
    is_socket = not host or host.startswith("/")
    # The last one is the machine that runs the container.
    return is_socket or is_local_name(host) or host == "host.docker.internal"
