"""The two ends of a transfer: nginx as the image host, and as a store that keeps nothing.

The store answers the requests of a transfer as S3 does: PUT of objects and parts, creation and
completion of a multipart upload, and HEAD with the length of the origin's file and the token that
`catalog.py` uses for every claim. It reads each body to its end.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ECHO_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_http_echo_module.so"),
    Path("/usr/share/nginx/modules/ngx_http_echo_module.so"),
)
BUCKET = "null"
START_SECONDS = 10.0
HOW_TO_INSTALL = (
    "this benchmark needs nginx with its echo module; on Debian or Ubuntu:"
    " apt-get install nginx-light libnginx-mod-http-echo"
)

_CONFIG = Path(__file__).with_name("nginx.conf")
_PLACE = re.compile("@([A-Z]+)@")


@dataclass(frozen=True, slots=True)
class Rig:
    """The addresses of the ends; clients must trust `certificate`, None without TLS."""

    origin_url: str
    sink_url: str
    certificate: Path | None
    put_log: Path


@contextmanager
def open_rig(
    folder: Path,
    *,
    token: str,
    tls: bool = False,
    log_puts: bool = False,
    bytes_per_second: int = 0,
) -> Iterator[Rig]:
    """Serve `folder`/origin and a store until the context is left.

    `bytes_per_second` limits each connection to the origin; `log_puts` logs each request to the
    store. Raises SystemExit with the packages to install if nginx is missing.
    """
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    module = next((path for path in ECHO_MODULES if path.exists()), None)
    if nginx is None or module is None:
        raise SystemExit(HOW_TO_INSTALL)
    certificate = make_certificate(folder) if tls else None
    origin, sink = _free_ports(2)
    config = folder / "nginx.conf"
    places = {
        "MODULE": f"load_module {module};",
        "FOLDER": str(folder),
        "ORIGIN": str(origin),
        "SINK": str(sink),
        "BUCKET": BUCKET,
        "TOKEN": token,
        "SSL": " ssl" if certificate else "",
        "CERTIFICATE": f"ssl_certificate {certificate}; ssl_certificate_key {folder}/key.pem;"
        if certificate
        else "",
        "LIMIT": f"limit_rate {bytes_per_second};" if bytes_per_second else "",
        "LOG": f"access_log {folder}/puts.log puts buffer=64k flush=100ms;" if log_puts else "",
    }
    config.write_text(_PLACE.sub(lambda place: places[place[1]], _CONFIG.read_text()))
    with subprocess.Popen([nginx, "-c", str(config), "-p", str(folder)]) as server:
        try:
            for port in (origin, sink):
                _wait_for(port)
            scheme, host = ("https", "localhost") if certificate else ("http", "127.0.0.1")
            yield Rig(
                f"{scheme}://{host}:{origin}",
                f"{scheme}://{host}:{sink}",
                certificate,
                folder / "puts.log",
            )
        finally:
            server.terminate()


def make_certificate(folder: Path) -> Path:
    """Make a self-signed certificate for `localhost` with `openssl`."""
    certificate = folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
