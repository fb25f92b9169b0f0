"""Settings: environment variables, or an explicit `--env-file`, as values with units.

Field names in upper case are the variables' names; defaults stand here and nowhere else. A wrong
value raises SettingsError with the variable's name and without its value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from collector.core.errors import SettingsError
from collector.core.hosts import is_local_name
from collector.core.parts import PART_BYTES
from collector.sources.wallhaven import Query

# What Wallhaven allows; more only towards our own simulator.
PUBLIC_REQUESTS_PER_MINUTE = 45
_SIZES = r"\d{1,5}x\d{1,5}"
_BITS = r"[01]{3}"
# postgresql://user:password@host:port,host:port/database?options, nothing ambiguous in it: what
# cannot be told apart cannot be kept out of the logs either.
_DSN = re.compile(
    r"postgres(ql)?://([^/@:?#]*(:[^/@:?#]*)?@)?"
    r"((\[[0-9a-fA-F:]+\]|[^/@:?#,\[\]]*)(:\d{1,5})?,?)*(/[^/@?#]*)?(\?[^@#]*)?"
)
# No wait or count of ours reaches these; beyond them Postgres' types end.
_LONGEST_LEASE_SECONDS = 86_400
_MOST_ATTEMPTS = 1_000
_HOST = re.compile(r"([A-Za-z0-9.\-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?")
_HEADER_VALUE = re.compile(r"[!-~]+")

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """All settings of the contract. Secrets are SecretStr: they do not show in repr or logs."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=False, hide_input_in_errors=True, frozen=True
    )

    database_url: SecretStr | None = None
    bucket_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]$")] = (
        "draenei-collector"
    )
    s3_endpoint_url: str | None = None
    s3_force_path_style: bool | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None
    aws_profile: str | None = None
    aws_default_profile: str | None = None
    aws_web_identity_token_file: str | None = None
    aws_container_credentials_relative_uri: str | None = None
    aws_container_credentials_full_uri: str | None = None
    upload_batch_limit: Annotated[int, Field(ge=0)] = 500
    wallhaven_api_url: str = "https://wallhaven.cc/api/v1"
    wallhaven_api_key: SecretStr | None = None
    wallhaven_query: Annotated[str, Field(max_length=500)] = "draenei"
    wallhaven_categories: Annotated[str, Field(pattern=rf"^{_BITS}$")] = "111"
    wallhaven_purity: Annotated[str, Field(pattern=rf"^{_BITS}$")] = "100"
    wallhaven_sorting: Annotated[
        str, Field(pattern="^(date_added|relevance|random|views|favorites|toplist)$")
    ] = "date_added"
    wallhaven_order: Annotated[str, Field(pattern="^(desc|asc)$")] = "desc"
    wallhaven_top_range: Annotated[str, Field(pattern="^(|1d|3d|1w|1M|3M|6M|1y)$")] = ""
    wallhaven_atleast: Annotated[str, Field(pattern=rf"^({_SIZES})?$")] = ""
    wallhaven_resolutions: Annotated[str, Field(pattern=rf"^({_SIZES}(,{_SIZES})*)?$")] = ""
    wallhaven_ratios: Annotated[
        str,
        Field(pattern=rf"^(({_SIZES}|landscape|portrait)(,({_SIZES}|landscape|portrait))*)?$"),
    ] = ""
    wallhaven_colors: Annotated[str, Field(pattern=r"^([0-9a-f]{6})?$")] = ""
    wallhaven_ai_art_filter: Annotated[str, Field(pattern="^[01]?$")] = ""
    wallhaven_max_pages: Positive = 50
    wallhaven_requests_per_minute: Positive = PUBLIC_REQUESTS_PER_MINUTE
    wallhaven_image_hosts: str = "w.wallhaven.cc"
    collector_in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    collector_memory_bytes: Positive = 134_217_728
    collector_max_image_bytes: Positive = 536_870_912
    collector_lease_seconds: Annotated[int, Field(ge=3, le=_LONGEST_LEASE_SECONDS)] = 120
    collector_max_attempts: Annotated[int, Field(ge=1, le=_MOST_ATTEMPTS)] = 5
    collector_retry_base_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    collector_max_dead_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    collector_home: Path = Field(default_factory=lambda: user_data_path("draenei-collector"))
    collector_log_format: Annotated[str, Field(pattern="^(text|json)$")] = "text"
    collector_log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Compose hands unset variables on as empty ones. An empty endpoint says "AWS".
        return {
            name: value
            for name, value in values.items()
            if value != "" or name == "s3_endpoint_url"
        }

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.match(r"postgres(ql)?://", value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
        if value and not _DSN.fullmatch(value.get_secret_value()):
            raise ValueError("cannot be read; a / @ : ? or # in user or password must be escaped")
        return value

    @field_validator("s3_endpoint_url")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        address = _address(value or "")
        if value and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("must be an address such as http://minio:9000, or empty for AWS")
        if "@" in address.netloc or address.query:
            raise ValueError("must have no user and no query; keys have settings of their own")
        return value

    @field_validator("wallhaven_api_url")
    @classmethod
    def _is_api(cls, value: str) -> str:
        address = _address(value)
        if address.scheme != "https" and not (
            address.scheme == "http" and is_local_name(address.hostname)
        ):
            raise ValueError("must be https (http only to loopback or to a name without a dot)")
        if address.query or address.fragment or "@" in address.netloc or not address.hostname:
            raise ValueError("must be a plain address without query or user")
        return value.rstrip("/")

    @field_validator("wallhaven_api_key")
    @classmethod
    def _is_header_value(cls, value: SecretStr | None) -> SecretStr | None:
        # A line end from a secret's file would break every request, late and without a clear word.
        if value and not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces or line ends")
        return value

    @field_validator("wallhaven_image_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in value.split(","):
            if not _HOST.fullmatch(host.strip()):
                raise ValueError("must be host names, or host:port, with commas between")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        local = is_local_name(urlsplit(self.wallhaven_api_url).hostname, loopback_only=True)
        if self.wallhaven_requests_per_minute > PUBLIC_REQUESTS_PER_MINUTE and not local:
            raise SettingsError(
                "WALLHAVEN_REQUESTS_PER_MINUTE",
                f"more than {PUBLIC_REQUESTS_PER_MINUTE} is allowed only to a loopback API",
            )
        if self.collector_memory_bytes < 2 * PART_BYTES:
            raise SettingsError(
                "COLLECTOR_MEMORY_BYTES", f"must be at least two parts, {2 * PART_BYTES}"
            )
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise SettingsError(
                "AWS_ACCESS_KEY_ID", "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or none"
            )
        return self

    @property
    def image_hosts(self) -> frozenset[str]:
        """Hosts that images may come from, lower case, `host` or `host:port`."""
        return frozenset(host.strip().lower() for host in self.wallhaven_image_hosts.split(","))

    @property
    def uses_local_postgres(self) -> bool:
        """True where no DATABASE_URL is set: the embedded server is used."""
        return self.database_url is None

    @property
    def uses_local_s3(self) -> bool:
        """True where neither an endpoint nor any AWS credential or profile is set."""
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
        """S3_FORCE_PATH_STYLE, true by default where an endpoint is set."""
        if self.s3_force_path_style is None:
            return bool(self.s3_endpoint_url)
        return self.s3_force_path_style

    @property
    def query(self) -> Query:
        """The search, every filter explicit."""
        return Query(
            q=self.wallhaven_query,
            categories=self.wallhaven_categories,
            purity=self.wallhaven_purity,
            sorting=self.wallhaven_sorting,
            order=self.wallhaven_order,
            top_range=self.wallhaven_top_range,
            atleast=self.wallhaven_atleast,
            resolutions=self.wallhaven_resolutions,
            ratios=self.wallhaven_ratios,
            colors=self.wallhaven_colors,
            ai_art_filter=self.wallhaven_ai_art_filter,
        )


def load_settings(env_file: Path | None = None, **overrides: Any) -> Settings:
    """Read the environment, or the file where one is given (the environment wins over it).

    Raises SettingsError naming the first wrong variable; its value is never part of the text.
    """
    if env_file is not None and not env_file.is_file():
        raise SettingsError("--env-file", f"{env_file} is no file")
    try:
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        raise SettingsError(name, first["msg"].removeprefix("Value error, ")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("--env-file", f"cannot be read ({type(error).__name__})") from None


def _address(value: str) -> SplitResult:
    try:
        address = urlsplit(value)
        _ = address.port
    except ValueError:  # whose text would repeat what was given
        raise ValueError("cannot be read as an address") from None
    return address
