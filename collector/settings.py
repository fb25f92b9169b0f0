"""Settings: environment variables, or an explicit `--env-file`, as values with units.

Field names in upper case are the variables' names; defaults stand here and nowhere else. A wrong
value raises SettingsError with the variable's name and what is allowed, without the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
)

from collector.core.addresses import is_unambiguous_dsn, split_address
from collector.core.errors import SettingsError
from collector.core.hosts import is_local_name
from collector.core.parts import PART_BYTES
from collector.sources.wallhaven import Query

# What Wallhaven allows; more only towards our own simulator.
PUBLIC_REQUESTS_PER_MINUTE = 45
_SIZE = r"\d{1,5}x\d{1,5}"
_RATIO = rf"({_SIZE}|landscape|portrait)"
_BITS = r"[01]{3}"
# No wait or count of ours reaches these; beyond them Postgres' types end.
_LONGEST_LEASE_SECONDS = 86_400
_MOST_ATTEMPTS = 1_000
_HOST = r"\s*([A-Za-z0-9.\-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?\s*"
# Only we have names that begin so: what we do not know among them is misspelt.
_OUR_PREFIXES = ("WALLHAVEN_", "COLLECTOR_")
# BUCKET is this much like BUCKET_NAME: misspelt, and not somebody else's.
_ALIKE = 0.7
_HEADER_VALUE = re.compile(r"[!-~]+")


def _text(pattern: str, allowed: str, example: str | None = None) -> Any:
    """Return the constraint that `pattern` matches all of a text, and what to say where not.

    The example is the field's default where none is given.
    """
    return Field(pattern=f"^({pattern})$", description=allowed, examples=[example] * bool(example))


def _one_of(*words: str) -> Any:
    return _text("|".join(words), f"{', '.join(words[:-1])} or {words[-1]}")


def _range(least: int, most: int) -> Any:
    return Field(ge=least, le=most, description=f"a whole number from {least} to {most}")


Positive = Annotated[int, Field(ge=1, description="a whole number from 1 on")]


class Settings(BaseSettings):
    """All settings of the contract. Secrets are SecretStr: they do not show in repr or logs."""

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
    wallhaven_query: Annotated[str, Field(max_length=500, description="at most 500 characters")] = (
        "draenei"
    )
    wallhaven_categories: Annotated[
        str, _text(_BITS, "three digits, 0 or 1 for each of general, anime and people")
    ] = "111"
    wallhaven_purity: Annotated[
        str, _text(_BITS, "three digits, 0 or 1 for each of sfw, sketchy and nsfw")
    ] = "100"
    wallhaven_sorting: Annotated[
        str, _one_of("date_added", "relevance", "random", "views", "favorites", "toplist")
    ] = "date_added"
    wallhaven_order: Annotated[str, _one_of("desc", "asc")] = "desc"
    wallhaven_top_range: Annotated[
        str, _text("|1d|3d|1w|1M|3M|6M|1y", "1d, 3d, 1w, 1M, 3M, 6M or 1y", "1M")
    ] = ""
    wallhaven_atleast: Annotated[str, _text(f"({_SIZE})?", "one resolution", "1920x1080")] = ""
    wallhaven_resolutions: Annotated[
        str, _text(f"({_SIZE}(,{_SIZE})*)?", "resolutions, commas between", "1920x1080,2560x1440")
    ] = ""
    wallhaven_ratios: Annotated[
        str, _text(f"({_RATIO}(,{_RATIO})*)?", "ratios, commas between", "16x9,landscape")
    ] = ""
    wallhaven_colors: Annotated[
        str, _text("([0-9a-f]{6})?", "one colour, six of 0-9 and a-f", "660000")
    ] = ""
    wallhaven_ai_art_filter: Annotated[str, _text("[01]?", "0 or 1", "1")] = ""
    wallhaven_max_pages: Positive = 50
    wallhaven_requests_per_minute: Positive = PUBLIC_REQUESTS_PER_MINUTE
    wallhaven_image_hosts: Annotated[
        str, _text(f"{_HOST}(,{_HOST})*", "hosts, or host:port, commas between")
    ] = "w.wallhaven.cc"
    collector_in_flight: Annotated[int, _range(1, 1024)] = 16
    collector_memory_bytes: Positive = 134_217_728
    collector_max_image_bytes: Positive = 536_870_912
    collector_lease_seconds: Annotated[int, _range(3, _LONGEST_LEASE_SECONDS)] = 120
    collector_max_attempts: Annotated[int, _range(1, _MOST_ATTEMPTS)] = 5
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
            raise ValueError("must begin with postgresql://, such as postgresql://me@host:5432/db")
        if value and not is_unambiguous_dsn(value.get_secret_value()):
            raise ValueError("cannot be read; a / @ : ? or # in user or password must be escaped")
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
        # A line end from a secret's file would break every request, late and without a clear word.
        if value and not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces or line ends")
        return value

    @model_validator(mode="after")
    def _agree_with_the_site(self) -> Settings:
        local = is_local_name(urlsplit(self.wallhaven_api_url).hostname, loopback_only=True)
        if self.wallhaven_requests_per_minute > PUBLIC_REQUESTS_PER_MINUTE and not local:
            raise SettingsError(
                "WALLHAVEN_REQUESTS_PER_MINUTE",
                f"more than {PUBLIC_REQUESTS_PER_MINUTE} is allowed only to a loopback API",
            )
        # The API would leave nsfw out without a word.
        if self.wallhaven_purity[2] == "1" and self.wallhaven_api_key is None:
            raise SettingsError(
                "WALLHAVEN_PURITY", "nsfw, the third digit, needs WALLHAVEN_API_KEY"
            )
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

    Raises SettingsError naming the first wrong or misspelt variable, without its value.
    """
    if env_file is not None and not env_file.is_file():
        raise SettingsError("--env-file", f"{env_file} is no file")
    try:
        _refuse_unknown(env_file)
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        raise _first_problem(error) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("--env-file", f"cannot be read ({type(error).__name__})") from None


def _refuse_unknown(env_file: Path | None) -> None:
    for name in EnvSettingsSource(Settings).env_vars:
        if name.upper().startswith(_OUR_PREFIXES):
            _require_known(name.upper())
    if env_file is not None:
        for name in _names_in(env_file):
            if name.upper().startswith(_OUR_PREFIXES) or _nearest(name.upper()):
                _require_known(name.upper())


def _names_in(env_file: Path) -> Iterator[str]:
    """Yield the names that a file sets."""
    with env_file.open(encoding="utf-8") as text:
        for binding in parse_stream(text):
            if binding.error:
                raise SettingsError("--env-file", f"line {binding.original.line} cannot be read")
            if binding.key is not None:
                yield binding.key


def _require_known(name: str) -> None:
    if name.lower() not in Settings.model_fields:
        nearest = _nearest(name)
        hint = f"is {nearest} meant?" if nearest else "the README lists all"
        raise SettingsError(name, f"there is no such setting; {hint}")


def _nearest(name: str) -> str | None:
    known = [field.upper() for field in Settings.model_fields]
    return next(iter(get_close_matches(name, known, n=1, cutoff=_ALIKE)), None)


def _first_problem(error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "value_error":
        return SettingsError(name.upper(), first["msg"].removeprefix("Value error, "))
    field = Settings.model_fields[name]
    example = field.examples[0] if field.examples else field.default
    return SettingsError(name.upper(), f"must be {field.description}, such as {example}")
