"""The synchronous original without its pause of a second: one image after the other.

As in the original: the whole body in memory, then a HEAD of the key, then one PUT, without
validation and hashing. Run by `contenders.py`.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import boto3
import requests
from botocore.config import Config
from rig import BUCKET


def main() -> None:
    """Read the order and print the cost."""
    order = json.load(sys.stdin)
    store = boto3.client(
        "s3",
        endpoint_url=order["sink_url"],
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for body in order["bodies"]:
        name = f"{body['wallhaven_id']}.{body['extension']}"
        answer = requests.get(f"{order['origin_url']}/{name}", timeout=30)
        answer.raise_for_status()
        # The answer does not matter: the original uploads after a 404.
        store.head_object(Bucket=BUCKET, Key=f"wallpapers/{name}")
        store.put_object(Bucket=BUCKET, Key=f"wallpapers/{name}", Body=answer.content)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    json.dump({"wall_seconds": time.perf_counter() - wall, "cpu_seconds": used}, sys.stdout)


if __name__ == "__main__":
    main()
