"""Follows the commands of the documents that are about the composed stack."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

from bucket import Bucket
from compose import ROOT, read_env_file
from stack import Stack

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def container_commands() -> Iterator[list[str]]:
    """Yield the commands of the blocks marked `bash`, in order."""
    for path in DOCUMENTS:
        text = path.read_text()
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield from (shlex.split(line) for line in block.splitlines())


def follow(words: list[str], stack: Stack, bucket: Bucket) -> str:
    """Do natively what a command says; return what it wrote. Unknown commands raise."""
    if words[0] == "airflow":
        return stack.run("airflow-scheduler", words)
    assert words[:2] == ["docker", "compose"], words
    del words[:2]
    profiles = set()
    while words[0].startswith("--"):
        option, value, *words = words
        if option == "--profile":
            profiles.add(value)
        else:
            assert option == "--env-file"
            assert read_env_file(value)
    steps: dict[str, Callable[[list[str]], str]] = {
        "up": lambda rest: _up(rest, profiles, stack),
        "exec": lambda rest: _exec(rest, stack),
        "run": lambda rest: _list(rest, bucket),
    }
    return steps[words[0]](words[1:])


def _up(words: list[str], profiles: set[str], stack: Stack) -> str:
    """The stack is up already; what is scaled must be started by the profile that is chosen."""
    while words:
        option = words.pop(0)
        if option == "--scale":
            service = words.pop(0).partition("=")[0]
            assert profiles & set(stack.services[service].profiles)
        else:
            assert option == "--build"
    return ""


def _exec(words: list[str], stack: Stack) -> str:
    # What the container has of psql, postgres-init has here: the environment, and the program.
    service = "postgres-init" if words[0] == "postgres" else words[0]
    return stack.run(service, words[1:])


def _list(words: list[str], bucket: Bucket) -> str:
    assert words == ["--rm", "minio-init", "ls", "--recursive", f"local/{bucket.name}"]
    return "\n".join(bucket.keys())
