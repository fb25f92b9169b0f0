"""Set-up needs make, Python and whatever pip is configured for: its index, its certificates."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# It takes ten seconds on a busy machine; this only bounds a hang.
TIMEOUT_SECONDS = 100

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
PROJECT = """
[build-system]
requires = ["a_tool"]
build-backend = "backend"
backend-path = ["."]
[project]
name = "ours"
version = "1"
"""
# It is built with the tools, for which nothing is fetched any more.
BACKEND = """
import pathlib, shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    import a_tool
    return pathlib.Path(shutil.copy("ours-1-py3-none-any.whl", folder)).name
"""


def wheel_of(name: str, folder: Path) -> Path:
    """Make a wheel of one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
        for file, text in (("METADATA", metadata), ("WHEEL", WHEEL), ("RECORD", "")):
            wheel.writestr(f"{name}-1.dist-info/{file}", text)
    return path


def locked(name: str, index: Path) -> str:
    """Put a package into an index; return the line of a requirements file that locks it."""
    wheel = wheel_of(name, index / name.replace("_", "-"))
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return f"{name}==1 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@contextmanager
def https_index(folder: Path, certificate: Path) -> Iterator[str]:
    """Serve a folder with a certificate that nobody but its own authority knows."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our Makefile, and requirements that only the index below has."""
    folder, index = tmp_path / "project", tmp_path / "index"
    (folder / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements/tools.txt").write_text(locked("a_tool", index))
    (folder / "requirements/local.txt").write_text(locked("a_library", index))
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    wheel_of("ours", folder)
    return folder


@pytest.mark.case("SEC-11")
def test_set_up_asks_the_index_that_pip_is_configured_for(
    project: Path, certificate: Path, tmp_path: Path
) -> None:
    with https_index(tmp_path / "index", certificate) as url:
        config = tmp_path / "pip.conf"
        config.write_text(f"[global]\nindex-url = {url}\ncert = {certificate / 'cert.pem'}\n")
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        ended = subprocess.run(
            ["make", "setup", f"PYTHON={sys.executable}"],
            cwd=project,
            # No settings but these: not of this user, and none that other tools would find.
            env={**kept, "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(config)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    python = project / ".venv/bin/python"
    subprocess.run([python, "-c", "import a_tool, a_library, ours"], check=True)


def chosen_interpreter(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Ask make which interpreter it takes if only these are found, by name and exit status."""
    for name, status in programs.items():
        program = folder / name.replace("_", ".")
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o755)
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "-n", "compose-smoke"],
        cwd=ROOT,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("programs", "chosen"),
    [
        ({"python3": "0", "python3_14": "0"}, "python3"),
        ({"python3": "1", "python3_14": "0", "python3_12": "0"}, "python3.14"),
        ({"python3": "1", "python3_13": "1", "python3_11": "0"}, "python3.11"),
        ({"python3_12": "0"}, "python3.12"),
    ],
)
def test_the_first_interpreter_that_fits_is_taken(
    programs: dict[str, str], chosen: str, tmp_path: Path
) -> None:
    ended = chosen_interpreter(tmp_path, **programs)
    assert (ended.stdout, ended.stderr) == (f"{chosen} tests/compose_smoke.py\n", "")


def test_one_line_says_that_no_interpreter_fits(tmp_path: Path) -> None:
    ended = chosen_interpreter(tmp_path, python3="1", python3_12="1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(
        r"Makefile:\d+: \*\*\* Python 3\.11 to 3\.14 with venv is needed, .*"
        r"make PYTHON=/path/to/python3\.12\.  Stop\.\n",
        ended.stderr,
    )


def test_the_interpreters_that_fit_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    minors = range(11, 15)
    assert project["requires-python"] == f">=3.{minors[0]},<3.{minors[-1] + 1}"
    assert f"(3, {minors[0]}) <= sys.version_info[:2] <= (3, {minors[-1]})" in MAKEFILE
    names = " ".join(f"python3.{minor}" for minor in reversed(minors))
    assert f"\nPYTHON ?= python3 {names}\n" in MAKEFILE
    for minor in minors:
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]


@pytest.mark.case("SEC-11")
def test_all_that_is_installed_is_locked_by_hash() -> None:
    installs = re.findall(r"\$\(pip\).*", MAKEFILE)
    assert len(installs) >= 4
    for line in installs:
        assert "--require-hashes -r" in line or "--no-build-isolation --editable ." in line
    assert re.findall(r".*-m pip .*", MAKEFILE) == [
        "pip = python -m pip install -q --disable-pip-version-check --no-deps"
    ]


def test_each_test_is_in_one_of_two_tiers() -> None:
    chosen = re.findall(
        r"^(test(?:-all)?):.*\n\t.*\$\(PYTEST_ARGS\) -m (.*)$", MAKEFILE, re.MULTILINE
    )
    assert chosen == [("test", '"not slow"'), ("test-all", "slow")]


def test_nothing_but_pip_installs() -> None:
    recipes = [line for line in MAKEFILE.splitlines() if "/uv" in line]
    assert len(recipes) == 1
    assert recipes[0].startswith("compile = ")
