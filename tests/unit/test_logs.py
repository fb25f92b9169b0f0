"""Why a connection failed, in words."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from collector.logs import connect_problem


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "does not resolve"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (OSError(errno.ENETUNREACH, "Connect call failed ('10.0.0.1', 1)"), "unreachable"),
        (OSError("Multiple exceptions: [Errno 111] ..."), "no address accepts a connection"),
    ],
)
def test_it_names_no_class_and_no_address(error: OSError, words: str) -> None:
    said = connect_problem(error)
    assert words in said
    assert "Err" not in said
    assert "10.0.0.1" not in said


def test_a_handshake_that_fails_names_tls() -> None:
    plain, context = socket.socketpair(), ssl.create_default_context()
    with plain[0], plain[1]:
        plain[1].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            context.wrap_socket(plain[0], server_hostname="w.wallhaven.cc")
    assert connect_problem(caught.value).startswith("TLS failed, SSL: ")
