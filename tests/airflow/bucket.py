"""What a test asks the bucket, from synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from collector.local import LocalS3

# Beside them lies what is left of the probe of the store.
IMAGES = "wallpapers/"


@dataclass(frozen=True)
class Bucket:
    """The store of the stack."""

    server: LocalS3
    name: str = "draenei-collector"

    def create(self, name: str) -> None:
        """Make the bucket, as `mc mb --ignore-existing` does; it must be the expected one."""
        assert name == self.name
        self._ask(lambda s3: s3.create_bucket(Bucket=name))

    def delete(self) -> None:
        """Remove the bucket and all that is in it."""
        for key in self.keys(prefix=""):
            self._ask(lambda s3, key=key: s3.delete_object(Bucket=self.name, Key=key))
        self._ask(lambda s3: s3.delete_bucket(Bucket=self.name))

    def keys(self, prefix: str = IMAGES) -> list[str]:
        """Return the keys of all images, or of other objects, fewer than 1000."""
        listing = self._ask(lambda s3: s3.list_objects_v2(Bucket=self.name, Prefix=prefix))
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def versions(self) -> dict[str, tuple[str, str]]:
        """Return when each image was written, and its ETag, by key."""
        found: dict[str, tuple[str, str]] = {}
        while True:
            page = {"Bucket": self.name, "Prefix": IMAGES, "StartAfter": max(found, default="")}
            listing = self._ask(lambda s3, page=page: s3.list_objects_v2(**page))
            for entry in listing.get("Contents", []):
                found[entry["Key"]] = (str(entry["LastModified"]), entry["ETag"])
            if not listing["IsTruncated"]:
                return found

    def put(self, key: str, body: bytes) -> None:
        """Write an object as somebody else would."""
        self._ask(lambda s3: s3.put_object(Bucket=self.name, Key=key, Body=body))

    def uploads(self) -> list[str]:
        """Return the keys of multipart uploads that were begun and neither ended nor aborted."""
        listing = self._ask(lambda s3: s3.list_multipart_uploads(Bucket=self.name))
        return [entry["Key"] for entry in listing.get("Uploads", [])]

    def _ask(self, request: Callable[[Any], Awaitable[Any]]) -> Any:
        async def ask() -> Any:
            async with get_session().create_client(
                "s3",
                endpoint_url=self.server.endpoint_url,
                aws_access_key_id=self.server.access_key,
                aws_secret_access_key=self.server.secret_key,
                region_name=self.server.region,
                config=AioConfig(s3={"addressing_style": "path"}),
            ) as s3:
                return await request(s3)

        return asyncio.run(ask())
