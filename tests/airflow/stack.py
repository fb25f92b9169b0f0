"""The composed stack without containers: its commands and its environment, hosts and paths mapped.

What docker-compose.yml builds runs as it says there. What it pulls has stand-ins: the embedded
PostgreSQL for `postgres`, the embedded S3 server for `minio` (and its API for `minio-init`), a
simulator in this process for `simulator`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from compose import ROOT, Service, read_services

# A service of Airflow needs 10 to 15 s on two idle cores.
START_SECONDS = 120.0
# What a service gets after SIGTERM before it is killed.
STOP_SECONDS = 20.0
POLL_SECONDS = 0.3
# Where what the images install is on this machine.
BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a port of loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Addresses:
    """Where on this machine the services of the containers' network answer: name and port."""

    of: Mapping[tuple[str, int], int]

    def map(self, text: str) -> str:
        """Return `text` with each `service:port`, lone service name and lone port replaced."""
        for (name, port), real in self.of.items():
            text = re.sub(rf"(?<![\w.-]){name}:{port}(?!\d)", f"127.0.0.1:{real}", text)
            text = re.sub(rf"(?<=127\.0\.0\.1:){port}(?!\d)", str(real), text)
            if text in (name, str(port)):
                text = "127.0.0.1" if text == name else str(real)
        return text


@dataclass
class Stack:
    """Services that run; made by `run_stack`."""

    services: Mapping[str, Service]
    addresses: Addresses
    stand_ins: Mapping[str, Callable[[Service], None]]
    folder: Path
    overrides: Mapping[str, str]
    tools: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    own: dict[str, Mapping[str, str]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def up(self, name: str) -> None:
        """Start a service after those that it depends on are done, or healthy where it says so."""
        if name in self.begun:
            return
        self.begun.add(name)
        service = self.services[name]
        for other, condition in service.depends_on.items():
            self.up(other)
            if condition == "service_healthy":
                self.wait_healthy(other)
        if name in self.stand_ins:
            self.stand_ins[name](service)
        elif service.healthcheck:
            self.start(name)
        else:
            self.run(name, service.command)

    def run(self, name: str, command: list[str], **environment: str) -> str:
        """Run a command as service `name` would, with more `environment`; return what it wrote.

        Raises AssertionError if it fails.
        """
        service = self.services[name]
        finished = subprocess.run(
            [self._native(word, service) for word in command],
            env=self._environment(service) | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_SECONDS,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, f"{name}: {finished.stdout[-3000:]}"
        return finished.stdout

    def log(self, name: str) -> str:
        """Return what the service has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(self, name: str, instance: str = "", *words: str, **environment: str) -> None:
        """Start one `instance` more of a service.

        `words` and `environment` keep apart what each container has for itself: name and ports.
        """
        service = self.services[name]
        name += instance
        self.own[name] = environment
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*(self._native(word, service) for word in service.command), *words],
                env=self._environment(service) | environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process

    def wait_healthy(self, name: str, instance: str = "") -> None:
        """Return once the service's own health check says so; a stand-in is healthy."""
        if (process := self.processes.get(name + instance)) is None:
            return
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy(self.services[name], self.own[name + instance]):
            story = f"{name}{instance}: {self.log(name + instance)[-3000:]}"
            assert process.poll() is None, story
            assert time.monotonic() < deadline, story
            time.sleep(POLL_SECONDS)

    def _is_healthy(self, service: Service, own: Mapping[str, str]) -> bool:
        kind, *command = service.healthcheck
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        finished = subprocess.run(
            [*shell, *(self._native(word, service) for word in command)],
            env={**self._environment(service), **own},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )
        return finished.returncode == 0

    def _native(self, text: str, service: Service) -> str:
        for target, source in service.volumes.items():
            path = ROOT / source if source.startswith(".") else self.folder / "volumes" / source
            if not path.exists():
                path.mkdir(parents=True)
            text = text.replace(target, str(path))
        text = text.replace("/opt/airflow", str(self.folder / "airflow"))
        return self.addresses.map(text)

    def _environment(self, service: Service) -> dict[str, str]:
        # No variable of this process: what the container would lack is missing here too.
        mapped = {key: self._native(value, service) for key, value in service.environment.items()}
        path = os.pathsep.join([str(BIN), str(self.tools), os.defpath])
        return (
            {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8"}
            | mapped
            | {key: self._native(value, service) for key, value in self.overrides.items()}
        )

    def kill(self, name: str) -> None:
        """Kill an instance and all its children, as a machine that loses its power does."""
        process = self.processes.pop(name)
        children = psutil.Process(process.pid).children(recursive=True)
        for victim in [process.pid, *(child.pid for child in children)]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        process.wait()

    def stop_one(self, name: str) -> None:
        """Stop a service as its container is stopped: with TINI_KILL_PROCESS_GROUP, all of it."""
        process = self.processes.pop(name)
        grouped = self.services[name.rstrip("0123456789")].environment["TINI_KILL_PROCESS_GROUP"]
        assert grouped == "1"
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        """Stop all processes, the last one first."""
        for name in reversed(list(self.processes)):
            self.stop_one(name)


@contextmanager
def run_stack(
    folder: Path,
    variables: Mapping[str, str],
    addresses: Addresses,
    stand_ins: Mapping[str, Callable[[Service], None]],
    overrides: Mapping[str, str],
    tools: Path,
) -> Iterator[Stack]:
    """Lend a stack in which nothing runs yet; stop at the end what was started.

    `variables` are what a .env would hold; `overrides` are put over every service's environment
    and are for the pace of tests alone. `tools` is a folder of programs that pulled images have.
    """
    (folder / "airflow").mkdir()
    (folder / "airflow" / "dags").symlink_to(ROOT / "dags")
    stack = Stack(read_services(variables), addresses, stand_ins, folder, overrides, tools)
    with ExitStack() as last:
        last.callback(stack.stop)
        yield stack
