"""The second half of the demo: from the search to a certificate that verifies, and one that does not.

The reviewer is played through the desk's own JSON API, as the desk's pages use it.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtest.fleet import Fleet, FleetError

REVIEWER = "沈甲"
WITHIN_S = 60.0
CERTIFICATE = "certificate.pdf"


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives as soon as it is true; FleetError naming `what` otherwise."""
    ends_at = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_at:
        if value := found():
            return value
        time.sleep(0.1)
    raise FleetError(f"没有等到 · did not come: {what}")


def case_of(fleet: Fleet, case_id: str) -> dict[str, Any]:
    status, body = fleet.request(f"/v1/cases/{case_id}")
    return body if status == 200 else {}


def open_case(fleet: Fleet, question: dict[str, Any]) -> str:
    """Make the question a case; its id."""
    print("4. 立案：同一问题成为案件，计时开始 · the question becomes a case, the clock starts")
    body = {**question, "window": "330402"}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    status, case = fleet.request("/v1/cases", body, headers=headers)
    again, same = fleet.request("/v1/cases", body, headers=headers)
    if status != 202 or again != 202 or same["id"] != case["id"]:
        raise FleetError(f"立案未成 · no case: {status} {case}")
    print(
        f"   HTTP 202  {case['id']}  目标 target {case['clock']['target_s']} s；重复提交仍是同一件 · asked twice, still one"
    )
    return str(case["id"])


def review(fleet: Fleet, case_id: str) -> None:
    """The holder's reviewer takes the case and approves it."""
    sent = until(lambda: case_of(fleet, case_id).get("holder") and case_of(fleet, case_id), "dispatched")
    if sent["state"] == "awaiting_selection":
        raise FleetError("有多个候选，需人工选择 · a person must choose")
    holder = sent["holder"]
    print(
        f"5. 审核：已送 {holder} 审核台，{REVIEWER} 受理并核准 · at the desk of {holder}, {REVIEWER} claims and approves"
    )
    token = fleet.user(holder, REVIEWER)
    desk = f"/desk/cases/{case_id}"
    item = until(lambda: _item(fleet, holder, desk, token), "at the desk")
    record = item.get("record") or {}
    print(f"   记录 record: {record.get('archival_code', '')}  {record.get('explanation', '')}")
    for action in ("claim", "approve"):
        status, item = fleet.desk_request(
            holder, f"{desk}/{action}", {"version": item["version"]}, token=token
        )
        if status != 200:
            raise FleetError(f"审核台拒绝 · the desk refused: {status} {item}")
    print(f"   核准号 decision {item.get('number', '')}")


def _item(fleet: Fleet, holder: str, path: str, token: str) -> Any:
    status, item = fleet.desk_request(holder, path, token=token)
    return item if status == 200 else None


def fetch_certificate(fleet: Fleet, case_id: str, folder: Path) -> Path:
    """Wait for the document, take it, show the minutes; where it lies."""
    until(lambda: case_of(fleet, case_id).get("state") in {"issued", "delivered"}, "issued")
    path = folder / CERTIFICATE
    path.write_bytes(download(fleet, f"/v1/cases/{case_id}/document"))
    case = until(lambda: (one := case_of(fleet, case_id)).get("state") == "delivered" and one, "delivered")
    print(f"6. 出证：{path}（{path.stat().st_size / 1024:.0f} KB） · the certificate")
    clock = case["clock"]
    stages = "  ".join(f"{name} {seconds:.2f}" for name, seconds in clock["stages_s"].items())
    print(f"   计时 clock: {clock['counted_s']:.2f} s / {clock['target_s']} s  各环节 stages (s): {stages}")
    for line in timeline(fleet, case_id):
        print(f"      {line}")
    return path


def timeline(fleet: Fleet, case_id: str) -> list[str]:
    """The journal of a case, a line each."""
    text = download(fleet, f"/v1/cases/{case_id}/events").decode()
    lines = []
    for event in text.split("\n\n"):
        data = next((line[6:] for line in event.splitlines() if line.startswith("data: ")), "")
        if data:
            one = json.loads(data)
            lines.append(f"{one['at'][11:23]}  {one['event']:<10} {one['actor']:<8} → {one['state']}")
    return lines


def download(fleet: Fleet, path: str) -> bytes:
    """The bytes of one answer of the gateway."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        fleet.gateway_url + path, headers={"Authorization": f"Bearer {fleet.token()}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        body: bytes = answer.read()
    return body


def read_back_qr(path: Path) -> str:
    """The text of the certificate's QR code, read from the rasterised page by a reader that is not ours."""
    import pypdfium2
    import zxingcpp

    document = pypdfium2.PdfDocument(path)
    try:
        for page in document:
            for code in zxingcpp.read_barcodes(page.render(scale=4).to_pil()):
                if code.text.startswith("AC1:"):
                    return str(code.text)
    finally:
        document.close()
    return ""


def verify(fleet: Fleet, path: Path, issuer: str, folder: Path) -> bool:
    """Check the certificate and its QR code offline, then alter one byte and see it refused."""
    status = folder / "status.jwt"
    until(lambda: _has_list(fleet, issuer, status), "status list")
    print("7. 核验：离线，只凭信任名录与状态列表 · verified offline, by the trust list and a status list")
    is_valid = _lantai_verify(fleet, str(path), status) == 0
    text = read_back_qr(path)
    print(f"8. 二维码读回 · the QR code read back: {text[:44]}… ({len(text)} 字符 characters)")
    is_valid &= _lantai_verify(fleet, text, status) == 0
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    altered = folder / "altered.pdf"
    altered.write_bytes(data)
    print("9. 改动一个字节 · one byte altered")
    is_refused = _lantai_verify(fleet, str(altered), status) == 1
    return is_valid and is_refused


def reconcile(fleet: Fleet, holder: str) -> bool:
    """Both sides' evidence logs: the gateway's whole log recomputed, then held against the holder's account of itself."""
    print(
        "10. 存证：重算网关日志，并与保管馆的账目逐件对账 · evidence: the log recomputed, and both sides reconciled"
    )
    fleet.send("gateway", signal.SIGUSR1)  # fetch the archives' accounts now
    accounts = fleet.folder / "data"
    until(lambda: list(accounts.rglob(f"{holder}.json")), "account of the archive")
    is_sound = True
    for action, *more in (("audit",), ("reconcile", "--archive", holder)):
        config = ["--config", str(fleet.folder / "gateway.toml")]
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "evidence", action, *config, *more],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        for line in (done.stdout + done.stderr).splitlines():
            print(f"   {line}")
        is_sound &= done.returncode == 0
    return is_sound


def _has_list(fleet: Fleet, issuer: str, path: Path) -> bool:
    try:
        path.write_bytes(download(fleet, f"/v1/status-lists/{issuer}"))
    except OSError:
        return False
    return True


def _lantai_verify(fleet: Fleet, what: str, status: Path) -> int:
    """Run the command anyone has; its exit status."""
    arguments = [what, "--trust", str(fleet.trust_list), "--federation-key", str(fleet.federation_key)]
    arguments += ["--status", str(status)]
    done = subprocess.run(
        [sys.executable, "-m", "federation.verify", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for line in (done.stdout + done.stderr).splitlines():
        print(f"   {line}")
    return done.returncode
