"""Which addresses are downloaded from."""

import pytest

from belvedere.errors import FetchError, UsageError
from belvedere.fetching.addresses import AddressGuard, Reach, check_url, origin_of, reach_of

PUBLIC, PRIVATE, LOOPBACK = "93.184.216.34", "10.0.0.1", "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        (PUBLIC, Reach.INTERNET),
        ("2606:2800:220:1::1", Reach.INTERNET),
        (PRIVATE, Reach.NETWORK),
        ("192.168.1.1", Reach.NETWORK),
        ("169.254.169.254", Reach.NETWORK),  # metadata of cloud machines
        ("fe80::1%eth0", Reach.NETWORK),
        ("0.0.0.0", Reach.NETWORK),  # noqa: S104
        ("224.0.0.1", Reach.NETWORK),
        (LOOPBACK, Reach.MACHINE),
        ("::1", Reach.MACHINE),
        ("::ffff:127.0.0.1", Reach.MACHINE),
        ("::ffff:10.0.0.1", Reach.NETWORK),
        ("64:ff9b::a9fe:a9fe", Reach.NETWORK),  # NAT64
        ("64:ff9b::7f00:1", Reach.MACHINE),
        (f"64:ff9b::{PUBLIC}", Reach.INTERNET),
        ("2002:7f00:1::1", Reach.MACHINE),  # 6to4
        ("2002:a9fe:a9fe::1", Reach.NETWORK),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", Reach.MACHINE),  # Teredo, of 127.0.0.1
        ("::127.0.0.1", Reach.MACHINE),
        ("::", Reach.NETWORK),
        ("fec0::1", Reach.NETWORK),
    ],
)
def test_reach(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


@pytest.mark.parametrize(
    "url", ["https://example.org/a.zip", "http://127.0.0.1:8000/a.zip", "http://localhost/a", "http://[::1]:80/a"]
)
def test_https_and_this_machine(url: str) -> None:
    assert check_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a.zip", "ftp://example.org/a", "file:///etc/passwd", "file://localhost/etc/passwd"),
        *(
            "http://10.0.0.1/a",
            "https://",
            "https:///a",
            "https://me:secret@example.org/a",
            "https://example.org:99999/",
        ),
        *(
            "https://example.org/a b",
            "https://example.org/\r\nHost: x",
            "data:text/plain,a",
            "https://[::1",
            "javascript:1",
        ),
        *("https://127.1/a", "https://2130706433/a", "https://0x7f000001/a", "https://0177.0.0.1/a"),
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_url(url)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("first", "then", "is_allowed"),
    [
        (PUBLIC, PUBLIC, True),
        (PUBLIC, PRIVATE, False),
        (PUBLIC, LOOPBACK, False),
        (PRIVATE, PRIVATE, True),
        (PRIVATE, PUBLIC, True),
        (PRIVATE, LOOPBACK, False),
        (LOOPBACK, LOOPBACK, True),
        (LOOPBACK, PRIVATE, False),
    ],
)
def test_a_redirect_leads_to_no_nearer_network(first: str, then: str, is_allowed: bool) -> None:
    guard = AddressGuard()
    guard.check("given", [first])
    if is_allowed:
        guard.check("next", [then])
    else:
        with pytest.raises(FetchError, match="next"):
            guard.check("next", [PUBLIC, then])  # one address of the name is enough


@pytest.mark.parametrize(
    ("first", "then", "is_allowed"),
    [
        ("example.org", "other.example.org", True),
        ("example.org", PUBLIC, True),
        ("example.org", PRIVATE, False),
        ("example.org", LOOPBACK, False),
        ("example.org", f"{LOOPBACK}.", False),
        ("example.org", "localhost", False),
        ("example.org", "a.localhost.", False),
        ("example.org", "intranet", False),
        ("example.org", "metadata.google.internal", False),
        ("files", "10.0.0.1", True),
        ("localhost", LOOPBACK, True),
    ],
)
def test_behind_a_proxy_numeric_addresses_and_local_names_are_checked(first: str, then: str, is_allowed: bool) -> None:
    guard = AddressGuard()
    guard.check_text(first)
    if is_allowed:
        guard.check_text(then)
    else:
        with pytest.raises(FetchError, match=then.replace(".", r"\.")):
            guard.check_text(then)


def test_origins_have_a_port() -> None:
    assert origin_of("https://example.org/a") == ("https", "example.org", 443) == origin_of("https://EXAMPLE.org:443/b")
    assert origin_of("https://example.org:8443/a") != origin_of("https://example.org/a")
