from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from collector.local.launch import (
    LOG_KEPT_BYTES,
    allocate_ports,
    begin_log,
    log_tail,
    remembered_ports,
)
from collector.local.records import LOOPBACK


def occupied() -> socket.socket:
    listener = socket.socket()
    listener.bind((LOOPBACK, 0))
    listener.listen()
    return listener


def test_ports_differ_and_can_be_bound() -> None:
    ports = allocate_ports(["a", "b", "c"], {}, {})
    assert len(set(ports.values())) == 3
    for port in ports.values():
        with socket.socket() as listener:
            listener.bind((LOOPBACK, port))


def test_a_remembered_port_is_kept_and_a_taken_one_is_not() -> None:
    remembered = allocate_ports(["a", "b"], {}, {})
    assert allocate_ports(["a", "b"], remembered, {}) == remembered
    with occupied() as taken:
        remembered["a"] = taken.getsockname()[1]
        ports = allocate_ports(["a", "b"], remembered, {})
    assert ports["a"] != remembered["a"]
    assert ports["b"] == remembered["b"]


def test_two_names_never_share_a_remembered_port() -> None:
    port = allocate_ports(["a"], {}, {})["a"]
    ports = allocate_ports(["a", "b"], {"a": port, "b": port}, {})
    assert ports["a"] != ports["b"]


def test_a_derived_port_keeps_its_distance_even_when_that_place_is_taken() -> None:
    derived = {"low": ("high", -10_000)}
    ports = allocate_ports(["high"], {}, derived)
    with socket.socket() as taken:
        taken.bind((LOOPBACK, ports["low"]))
        taken.listen()
        moved = allocate_ports(["high"], ports, derived)
    assert moved["low"] != ports["low"]
    assert moved["low"] == moved["high"] - 10_000


def test_ports_are_remembered_and_a_damaged_memory_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert remembered_ports(path) == {}
    path.write_text(json.dumps({"a": 4711}))
    assert remembered_ports(path) == {"a": 4711}
    for damage in ("", "[1]", "null", '{"a": "x"}', '{"a": null}'):
        path.write_text(damage)
        assert remembered_ports(path) == {}


def test_log_tail_is_of_this_start_alone_and_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert begin_log(log) == 0
    assert log_tail(log) == []
    log.write_text("earlier\n")
    begin = begin_log(log)
    with log.open("a") as lines:
        lines.writelines(f"line {number}\n\n" for number in range(5000))
    tail = log_tail(log, begin)
    assert tail[-1] == "line 4999"
    assert len(tail) == 12
    assert log_tail(log, log.stat().st_size) == []


def test_a_large_log_is_set_aside_at_a_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    os.truncate(log, LOG_KEPT_BYTES + 1)
    assert begin_log(log) == 0
    assert not log.exists()
    assert (tmp_path / "log.1").stat().st_size == LOG_KEPT_BYTES + 1
