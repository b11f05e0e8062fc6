"""Names and addresses of this machine.

Knows which they are; does not know who asks.
"""

import ipaddress
from urllib.parse import urlsplit


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_this_machine(header: str) -> bool:
    """Whether a request's Host is a local one, with a port or without."""
    try:
        return is_local(urlsplit(f"//{header}").hostname or "")
    except ValueError:
        return False
