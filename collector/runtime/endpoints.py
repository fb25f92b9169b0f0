"""Which site and which store the settings name."""

from __future__ import annotations

from collector.adapters.s3 import S3Options
from collector.local import LocalS3
from collector.settings import Settings
from collector.sources import Source
from collector.sources.wallhaven import (
    CollectionName,
    WallhavenCollection,
    WallhavenDetails,
    WallhavenSearch,
)

# Sockets beside those of the images: API pages, and some that close while others open.
SPARE_CONNECTIONS = 16


def source_of(settings: Settings) -> Source:
    """Return the search or the collection that the settings name. Raises SettingsError."""
    url, question = settings.wallhaven_api_url, settings.question
    key = settings.wallhaven_api_key.get_secret_value() if settings.wallhaven_api_key else None
    if isinstance(question, CollectionName):
        return WallhavenCollection(url, question, settings.wallhaven_purity, key)
    return WallhavenSearch(url, question, key)


def details_of(settings: Settings) -> WallhavenDetails:
    """Return how single wallpapers are asked about at the site that the settings name."""
    key = settings.wallhaven_api_key
    return WallhavenDetails(settings.wallhaven_api_url, key.get_secret_value() if key else None)


def s3_options(settings: Settings, local: LocalS3 | None = None) -> S3Options:
    """Return how the bucket is reached: the embedded server `local`, or what the settings name."""
    connections = settings.collector_in_flight + SPARE_CONNECTIONS
    if local is not None:
        return S3Options(
            bucket=settings.bucket_name,
            endpoint_url=local.endpoint_url,
            region=local.region,
            access_key=local.access_key,
            secret_key=local.secret_key,
            connections=connections,
        )
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    return S3Options(
        bucket=settings.bucket_name,
        endpoint_url=settings.s3_endpoint_url or None,
        region=settings.aws_default_region,
        access_key=settings.aws_access_key_id,
        secret_key=secret.get_secret_value() if secret else None,
        session_token=token.get_secret_value() if token else None,
        profile=settings.aws_profile,
        path_style=settings.path_style,
        connections=connections,
    )
