"""What people paste to look around on the embedded servers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from collector.cli.serving import where_to_look
from collector.local import LocalS3, LocalServers


def test_the_line_for_objects_names_home_and_bucket_and_no_secret() -> None:
    home = Path("/a home")
    s3 = LocalS3("http://127.0.0.1:1", "ACCESS", "SECRET", "us-east-1", home / "s3/log", 1)
    found = where_to_look(LocalServers(None, s3, home), "my-bucket")
    assert found["objects"] == (
        "COLLECTOR_HOME='/a home' BUCKET_NAME=my-bucket"
        f" {shlex.quote(sys.executable)} -m collector objects"
    )
    assert (found["s3_endpoint"], found["s3_credentials"]) == (
        "http://127.0.0.1:1",
        "/a home/s3/identity.json",
    )
    assert "ACCESS" not in str(found)
    assert "SECRET" not in str(found)
