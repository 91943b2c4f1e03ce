"""Fetches one file from an address that a server named, without being led into a private network.

A hosted image API may answer with the address of a picture. Whoever controls that answer must not
be able to make this machine ask its own services: names are resolved once, every address must be
a public one, the connection goes to the address that was checked, and redirects are not followed.
The configured server itself is excepted, so that local servers work.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

from tadasu.errors import BadInput, RunFailed, shown

MAX_BYTES = 64 * 1024 * 1024
_PORTS = {"http": 80, "https": 443}
#: Addresses that carry another one inside, which may be private.
_TUNNELS = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48"))


def fetch(url: str, *, server: str, timeout: float = 60.0, limit: int = MAX_BYTES) -> bytes:
    """What stands at an address.

    Args:
        url: as the server gave it.
        server: the configured address of the API; the same host and port may be private.
        timeout: seconds for each wait.
        limit: bytes at most.

    Raises:
        BadInput: the address is no http or https one, or leads to a private network.
        RunFailed: nobody answers, the answer is not 200, or it is too large.
    """
    parts = _parts(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    own = urlsplit(server)
    trusted = (host, port) == (own.hostname, own.port or _PORTS.get(own.scheme, 0))
    try:
        target = _public(host, port, trusted)
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.sock = socket.create_connection(target, timeout=timeout)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": "image/*"})
        answer = connection.getresponse()
        data = answer.read(limit + 1) if answer.status == 200 else b""
        connection.close()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise RunFailed(f"{shown(url, 200)} cannot be fetched: {error}.") from error
    if answer.status != 200:
        raise RunFailed(f"{shown(url, 200)} answered {answer.status}; redirects are not followed.")
    if len(data) > limit:
        raise RunFailed(f"{shown(url, 200)} has more than {limit:,} bytes.")
    return data


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, and hides no other one.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour is not None or ip.teredo is not None or any(ip in n for n in _TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username is not None:
        raise BadInput(f"The server names {shown(url, 200)}, which is no http or https address.")
    return parts


def _public(host: str, port: int, trusted: bool) -> tuple[str, int]:
    """The address to connect to; all addresses of the name must be public."""
    found = [item[4] for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    addresses = [str(address[0]) for address in found]
    private = [] if trusted else [address for address in addresses if not is_public(address)]
    if private:
        raise BadInput(
            f"The server names a picture at {shown(host)}, which leads to the private address "
            f"{private[0]}; it is not fetched."
        )
    return addresses[0], port
