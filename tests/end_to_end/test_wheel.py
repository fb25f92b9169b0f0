"""What is published works alone: the wheel, in a fresh environment, outside of the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import passable_home

import collector

ROOT = Path(__file__).resolve().parents[2]
# Half a minute of CPU, most of it pip's; a busy machine and a slow network take several times that.
TIMEOUT_SECONDS = 600
API = """
import json, collector
from collector import read_catalog, read_images, run
rows = read_catalog()
(image,) = read_images([rows[0]["s3_key"]]).values()
print(json.dumps([collector.__file__, len(rows), rows[0]["object_bytes"], len(image)]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder on disk, not in memory: an environment has 300 MB."""
    with passable_home(in_memory=False) as lent:
        yield lent


def call(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a program to its end; return what it wrote to stdout."""
    ended = subprocess.run(
        words,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def built_wheel(folder: Path) -> Path:
    """Build the source distribution, and the wheel from nothing but that."""
    build = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    call(*build, "-t", "sdist", cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    call(*build, "-t", "wheel", cwd=folder / source.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return wheel


def locked_versions() -> str:
    """Return the versions that `make demo` installs, without hashes: our wheel has none there."""
    text = (ROOT / "requirements/local.txt").read_text()
    return "\n".join(re.findall(r"^[a-z0-9].*==[^\\\n]*", text, re.MULTILINE))


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_the_wheel_brings_all_that_the_demo_needs(
    folder: Path, bare_environment: dict[str, str]
) -> None:
    wheel = built_wheel(folder)
    constraints, python = folder / "versions.txt", folder / "venv/bin/python"
    constraints.write_text(locked_versions())
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile")
    call(*pip, "-c", constraints, f"draenei-collector[local] @ {wheel.as_uri()}", cwd=folder)

    own = {name: value for name, value in bare_environment.items() if "XDG_" not in name}
    own |= {"HOME": str(folder), "PATH": f"{python.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    empty = folder / "empty"
    empty.mkdir()
    assert call("collector", "version", cwd=empty, env=own) == f"{collector.__version__}\n"
    audit = json.loads(call("collector", "demo", "--wallpapers", "6", "--json", cwd=empty, env=own))
    assert (audit["status"], audit["images_uploaded"]) == ("succeeded", 6)

    found, rows, recorded, read = json.loads(call("python", "-c", API, cwd=empty, env=own))
    assert (rows, recorded) == (6, read)
    package = Path(found).parent
    assert folder / "venv" in package.parents
    assert (package / "py.typed").is_file()
    assert list(empty.iterdir()) == []
