"""Calls to platforms over real sockets: signed after the standard, guarded, and nobody's trouble is anybody else's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters import hooks as hooks_module
from gateway.adapters.hooks import HookSettingsError, Target, WebHooks, read_targets
from gateway.adapters.webhook_guard import AddressError, allows, check_url
from gateway.adapters.webhook_signing import CallKey, Signer, read_secret

LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
SECRET = bytes(range(24))
BODY = b'{"type":"case.issued"}'


class Platform:
    """A platform's server: keeps what it was sent; answers with `answer`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[], Any] = lambda: web.Response(status=200)
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append((dict(request.headers), await request.read()))
        made = self.answer()
        answered: web.StreamResponse = await made if asyncio.iscoroutine(made) else made
        return answered


@contextlib.asynccontextmanager
async def platform(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Platform]:
    one = Platform()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    one.url = f"http://{host}:{runner.addresses[0][1]}/hook"
    try:
        yield one
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def calling(targets: dict[str, Target], **about: Any) -> AsyncIterator[WebHooks]:
    hooks = WebHooks(targets, **about)
    try:
        yield hooks
    finally:
        await hooks.close()


def target(url: str, networks: Any = LOOPBACK, signer: Signer | None = None) -> Target:
    return Target(url, signer or Signer((SECRET,)), networks)


# signatures ----------------------------------------------------------------------------------------------------


def verified(headers: dict[str, str], body: bytes, *, secret: bytes = b"", public: str = "") -> set[str]:
    """Which signatures of a call hold, by the standard's text alone, as a platform would check them."""
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    good = set()
    for one in headers["webhook-signature"].split(" "):
        version, _, text = one.partition(",")
        given = base64.b64decode(text)
        if version == "v1" and secret:
            if hmac.compare_digest(given, hmac.digest(secret, signed, hashlib.sha256)):
                good.add("v1")
        elif version == "v1a" and public:
            with contextlib.suppress(InvalidSignature):
                key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
                key.verify(given, signed)
                good.add("v1a")
    return good


def test_the_standards_own_example():
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = Signer((secret,)).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_call_carries_both_signatures_and_a_platform_can_check_either(tmp_path: Path):
    key = CallKey.at(tmp_path / "key.pem")
    old, new = bytes(range(24)), bytes(range(24, 48))
    async with platform() as one:
        async with calling({"p": target(one.url, signer=Signer((new, old), key))}) as hooks:
            assert (await hooks.call("p", "m1", BODY)).status == 200
    [(headers, body)] = one.got
    assert body == BODY
    assert headers["webhook-id"] == "m1"
    assert verified(headers, body, secret=new, public=key.public) == {"v1", "v1a"}
    assert verified(headers, body, secret=old) == {"v1"}, "while a secret is changed both are good"
    assert verified(headers, body + b" ", secret=new, public=key.public) == set()
    assert verified({**headers, "webhook-timestamp": "1"}, body, secret=new, public=key.public) == set()
    assert verified({**headers, "webhook-id": "m2"}, body, secret=new, public=key.public) == set()
    assert CallKey.at(tmp_path / "key.pem").public == key.public, "the key is made once"
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0


@given(st.binary(max_size=200), st.text("abcdef0123456789", min_size=1, max_size=40), st.integers(0, 2**40))
def test_what_is_signed_is_what_is_checked(body: bytes, name: str, stamp: int):
    made = Signer((SECRET,)).sign(name, stamp, body)
    headers = {"webhook-id": name, "webhook-timestamp": str(stamp), "webhook-signature": made}
    assert verified(headers, body, secret=SECRET) == {"v1"}


# where calls may go --------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1",
    "2002:7f00:1::", "2002:a00:1::1", "2001:0:0:0:0:0:80ff:fffe", "2001:db8::1", "no address",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_any_dress_are_refused(address: str):
    assert not allows(address, ())


@pytest.mark.parametrize("address", ["1.1.1.1", "2400:3200::1", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_ones_are_not(address: str):
    assert allows(address, ())


def test_a_listed_network_opens_itself_and_no_other():
    networks = (ipaddress.ip_network("10.12.0.0/16"), ipaddress.ip_network("fd00:1::/32"))
    for good in ("10.12.3.4", "::ffff:10.12.3.4", "64:ff9b::a0c:304", "fd00:1::5"):
        assert allows(good, networks)
    for bad in ("10.13.0.1", "127.0.0.1", "fd00:2::1", "::ffff:10.13.0.1"):
        assert not allows(bad, networks)


@pytest.mark.parametrize(
    "url",
    ["http://2130706433/", "https://2130706433/", "https://127.1/", "https://0x7f000001/", "https://0177.0.0.1/",
     "https://0x7f.0.0.1/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://10.0.0.1/",
     "https://user@example.com/", "https://:pass@example.com/", "https://example.com/#part", "ftp://example.com/",
     "https:///x", "https://[", "http://example.com/", "https://example.com:0/", "https://example.com:99999/", "//example.com",
     "https://１２７.0.0.1/", "https://①②⑦.0.0.1/", "https://127。0。0。1/", "https://169.254.169。254/", "https://例子.example/",
     "https://ⓔxample.com/"],
)  # fmt: skip
def test_addresses_no_platform_may_give(url: str):
    with pytest.raises(AddressError):
        check_url(url, ())


async def test_a_private_address_is_never_connected_to():
    async with platform() as one:
        port = one.url.rsplit(":", 1)[1]
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1"):
            async with calling({"p": target(f"http://{host}:{port}", networks=())}) as hooks:
                assert (await hooks.call("p", "m", BODY)).status == 0
    assert one.got == []


async def test_an_address_in_other_digits_is_no_way_around(monkeypatch: pytest.MonkeyPatch):
    """The client folds them to an address that no resolver is asked for: it is looked at where it is connected to."""
    monkeypatch.setattr(hooks_module, "check_url", lambda *_about: None)
    async with platform() as one:
        port = one.url.split(":")[2]
        for host in ("127.0.0.1", "１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "[::ffff:127.0.0.1]"):
            async with calling({"p": target(f"http://{host}:{port}", networks=())}) as hooks:
                assert (await hooks.call("p", "m", BODY)).status == 0
    assert one.got == []


async def test_a_name_that_changes_its_address_between_calls_reaches_only_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
):
    """DNS rebinding: the first answer is allowed, the second points at a neighbour."""
    async with platform("127.0.0.2") as theirs:
        port = int(theirs.url.split(":")[2].split("/")[0])
        async with platform("127.0.0.1", port) as neighbour:
            answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])

            def getaddrinfo(host: str, port: int, *_more: Any) -> list[Any]:
                assert host == "platform.example"
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            networks = (ipaddress.ip_network("127.0.0.2/32"),)
            theirs.answer = lambda: web.Response(status=200, headers={"Connection": "close"})
            async with calling({"p": target(f"http://platform.example:{port}/", networks)}) as hooks:
                assert [(await hooks.call("p", f"m{n}", BODY)).status for n in range(3)] == [200, 0, 0]
            assert (len(theirs.got), len(neighbour.got)) == (1, 0)


async def test_redirects_are_not_followed():
    async with platform() as one, platform() as other:
        one.answer = lambda: web.Response(status=302, headers={"Location": other.url})
        async with calling({"p": target(one.url)}) as hooks:
            assert (await hooks.call("p", "m", BODY)).status == 302
        assert other.got == []


# trouble -------------------------------------------------------------------------------------------------------


async def test_a_platform_that_hangs_ends_at_its_time_and_holds_up_no_other():
    never = asyncio.Event()
    async with platform() as slow, platform() as quick:
        slow.answer = never.wait
        async with calling({"slow": target(slow.url), "quick": target(quick.url)}, timeout_s=1.0) as hooks:
            hanging = [asyncio.create_task(hooks.call("slow", f"m{n}", BODY)) for n in range(30)]
            await asyncio.sleep(0)
            answers = [await hooks.call("quick", f"q{n}", BODY) for n in range(20)]
            assert {one.status for one in answers} == {200}
            ended = await asyncio.gather(*hanging)
            assert sorted({one.status for one in ended}) == [-1, 0]
            assert sum(one.status == 0 for one in ended) == 8, "no more than its own places"
        never.set()


async def test_a_name_server_that_hangs_holds_up_only_its_platform(monkeypatch: pytest.MonkeyPatch):
    import threading

    release, real = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        if host == "hangs.example":
            release.wait(20)
        return real("127.0.0.1" if str(host).endswith(".example") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with platform() as one:
        port = one.url.split(":")[2]
        targets = {f"bad{n}": target(f"http://hangs.example:{port}") for n in range(40)}
        targets["good"] = target(f"http://works.example:{port}")
        async with calling(targets, timeout_s=5.0) as hooks:
            hanging = [asyncio.create_task(hooks.call(name, "m", BODY)) for name in targets if name != "good"]
            await asyncio.sleep(0)
            assert (await hooks.call("good", "m", BODY)).status == 200
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "read"), 5) == "read", (
                "nor anybody's threads"
            )
            release.set()
            for call in hanging:
                call.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)


async def test_an_answer_without_end_is_not_waited_for():
    async with platform() as one:

        async def drip() -> web.StreamResponse:
            raise ConnectionResetError

        one.answer = drip
        async with calling({"p": target(one.url)}, timeout_s=1.0) as hooks:
            assert (await hooks.call("p", "m", BODY)).status in {0, 500}


class Time:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_platform_that_failed_again_and_again_is_tried_one_by_one_until_it_answers():
    time = Time()
    async with platform() as one:
        one.answer = lambda: web.Response(status=503)
        async with calling({"p": target(one.url)}, steady=time) as hooks:
            assert [(await hooks.call("p", f"a{n}", BODY)).status for n in range(3)] == [503] * 3
            turned_away = await hooks.call("p", "b", BODY)
            assert turned_away.status == -1
            assert turned_away.retry_after_s
            time.now += 2.1
            assert (await hooks.call("p", "c", BODY)).status == 503
            time.now += 2.1
            assert (await hooks.call("p", "d", BODY)).status == -1, "the next try is later"
            time.now += 60
            one.answer = lambda: web.Response(status=204)
            assert (await hooks.call("p", "e", BODY)).status == 204
            assert [(await hooks.call("p", f"f{n}", BODY)).status for n in range(3)] == [204] * 3
    assert [headers["webhook-id"] for headers, _ in one.got] == ["a0", "a1", "a2", "c", "e", "f0", "f1", "f2"]


@pytest.mark.parametrize(
    ("value", "pause"),
    [("120", 120.0), (" 7 ", 7.0), ("999999999999", 3600.0), ("", None), ("soon", None), ("-5", None),
     (format_datetime(datetime.fromtimestamp(1_700_000_090, UTC), usegmt=True), 90.0),
     (format_datetime(datetime.fromtimestamp(1_600_000_000, UTC), usegmt=True), 0.0)],
)  # fmt: skip
async def test_retry_after_is_a_number_or_a_date(value: str, pause: float | None):
    async with platform() as one:
        one.answer = lambda: web.Response(status=503, headers={"Retry-After": value} if value else {})
        async with calling({"p": target(one.url)}, clock=Time()) as hooks:
            assert (await hooks.call("p", "m", BODY)).retry_after_s == pause


async def test_a_platform_this_process_does_not_know_gave_no_answer_and_did_not_say_that_it_is_gone():
    async with calling({}) as hooks:
        assert not hooks.wants("p")
        assert (await hooks.call("p", "m", BODY)).status == 0


# settings ------------------------------------------------------------------------------------------------------

GOOD = "whsec_" + base64.b64encode(bytes(24)).decode()


def settings(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "clients.toml"
    path.write_text('[[client]]\nid = "p"\n' + "\n".join(lines) + "\n", "utf-8")
    return path


def test_settings_of_platforms(tmp_path: Path):
    path = settings(
        tmp_path, 'webhook = "https://platform.example/hook"', f'webhook_secret = ["{GOOD}", "{GOOD}"]'
    )
    assert len(read_targets(path)["p"].signer.secrets) == 2
    assert read_targets(settings(tmp_path)) == {}
    assert read_targets(None) == {}
    key = CallKey.at(tmp_path / "key.pem")
    only_key = read_targets(settings(tmp_path, 'webhook = "https://platform.example/"'), key)["p"].signer
    assert only_key.sign("m", 1, b"").startswith("v1a,")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (['webhook = "https://platform.example/"'], "missing"),
        (['webhook = "https://platform.example/"', 'webhook_secret = "whsec_AAAA"'], "24 to 64 bytes"),
        (['webhook = "https://platform.example/"', 'webhook_secret = "not base64!"'], "base64"),
        (['webhook = "http://platform.example/"', f'webhook_secret = "{GOOD}"'], "https"),
        (['webhook = "https://10.0.0.1/"', f'webhook_secret = "{GOOD}"'], "private address"),
        (['webhook = "https://platform.example/"', 'webhook_networks = ["10.0.0.1/8"]'], "host bits"),
    ],
)
def test_settings_that_can_not_be_used_are_named_and_never_quoted(tmp_path: Path, lines: list[str], why: str):
    with pytest.raises(HookSettingsError, match=why) as told:
        read_targets(settings(tmp_path, *lines))
    assert "client p" in str(told.value)
    assert "AAAA" not in str(told.value)


def test_the_schedule_is_quick_enough_for_the_target_and_ends():
    from gateway.cases.tasks import HOOK_SCHEDULE_S

    assert HOOK_SCHEDULE_S[:6] == (5, 15, 30, 60, 120, 300)
    assert sum(HOOK_SCHEDULE_S[:5]) < 600
    assert 3 <= sum(HOOK_SCHEDULE_S) / 86_400 < 4
    assert hooks_module._TIMEOUT_S <= 15
