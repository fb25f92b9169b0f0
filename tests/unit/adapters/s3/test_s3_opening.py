"""Opening a store: nothing that it needs from the disk is read on the event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from collector.adapters.s3.opening import S3Options, open_control_calls


async def test_the_data_of_the_sdk_is_read_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read, load_file = [], JSONFileLoader.load_file

    def noted(self: JSONFileLoader, path: str) -> Any:
        found = load_file(self, path)
        if found is not None:
            read.append((path, threading.current_thread() is threading.main_thread()))
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    options = S3Options("bucket", "http://127.0.0.1:1", "us-east-1", "key", "secret")
    async with open_control_calls(options) as calls:
        await calls.address()
    assert read
    assert [path for path, on_the_loop in read if on_the_loop] == []
