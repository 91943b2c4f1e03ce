"""Fetches a picture from an allowed host, and from nowhere else.

An address that a stranger chose can make a server talk to its own network. So only hosts that
were allowed are asked, their name is resolved once, every address it resolves to must be public,
the connection goes to the address that was checked, and redirects are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

from tadasu.errors import BadInput, MissingPart, shown

MAX_BYTES = 20_000_000
SECONDS = 10.0


def fetch(address: str, *, hosts: frozenset[str], max_bytes: int = MAX_BYTES) -> bytes:
    """The content behind a web address.

    Args:
        address: begins with ``https://`` or ``http://``.
        hosts: names of the hosts that may be asked, in lower case.
        max_bytes: at most so much is read.

    Raises:
        BadInput: another kind of address, a host that is not allowed, a private address, a
            redirect or another answer than 200, or too much content.
        MissingPart: the host is not reachable.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"{shown(address, 200)} is no web address: {error}.") from error
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise BadInput(f"{shown(address, 200)} is no web address that is fetched.")
    if host not in hosts:
        allowed = ", ".join(sorted(hosts)) or "none"
        raise BadInput(
            f"Pictures are not fetched from {shown(host)}; allowed hosts: {allowed}. "
            "Give the picture itself."
        )
    where = _public(host, port or (443 if parts.scheme == "https" else 80))
    connection = _connection(parts.scheme, host, where)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers={"Accept": "image/*", "Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise BadInput(f"{host} answered {response.status}; redirects are not followed.")
        content = response.read(max_bytes + 1)
    except (OSError, http.client.HTTPException) as error:
        raise MissingPart(f"{host} is not reachable: {error}.") from error
    finally:
        connection.close()
    if len(content) > max_bytes:
        raise BadInput(f"The picture behind {shown(address, 200)} is over {max_bytes:,} bytes.")
    return content


def is_public(address: str) -> bool:
    """Whether an IP address can be reached by everybody.

    >>> [is_public(a) for a in ("8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254", "::1")]
    [True, False, False, False, False]
    """
    found = ipaddress.ip_address(address.split("%")[0])
    inner = getattr(found, "ipv4_mapped", None)
    return all(each.is_global and not each.is_multicast for each in (found, inner) if each)


def _public(host: str, port: int) -> tuple[str, int]:
    """The address of a host, after all its addresses were checked.

    Raises:
        BadInput: one of them is private.
        MissingPart: the name is not known.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MissingPart(f"{shown(host)} is not known: {error}.") from error
    addresses: Iterable[str] = [str(each[4][0]) for each in found]
    private = [address for address in addresses if not is_public(address)]
    if private or not found:
        raise BadInput(
            f"{shown(host)} leads to the private address {', '.join(private) or 'none'}; "
            "pictures are only fetched from public ones."
        )
    return str(found[0][4][0]), port


def _connection(scheme: str, host: str, where: tuple[str, int]) -> http.client.HTTPConnection:
    """A connection to the checked address that speaks to the host by its name."""
    if scheme == "http":
        plain = http.client.HTTPConnection(host, where[1], timeout=SECONDS)
        plain._create_connection = _to(where)  # type: ignore[attr-defined]
        return plain
    secure = http.client.HTTPSConnection(
        host, where[1], timeout=SECONDS, context=ssl.create_default_context()
    )
    secure._create_connection = _to(where)  # type: ignore[attr-defined]
    return secure


def _to(where: tuple[str, int]) -> object:
    """Connects to one address, whatever name is asked for."""

    def connect(_: object, timeout: float = SECONDS, source: object = None) -> socket.socket:
        return socket.create_connection(where, timeout)

    return connect
