"""Case messages: what a gateway and an archive's review desk tell each other about one case, and how it is written.

A message is kept by its sender until the other side has made it durable and says so with a receipt; it may arrive more
than once and is known by its identifier. Unknown fields are ignored, unknown kinds are refused by name, so that gateway
and archives need not be upgraded together. Bodies are JSON inside the `Mail` of the wire.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

LARGEST_BODY = 64 * 1024
"""Bytes of one message: a request and its references fit many times over; scans travel elsewhere."""


def mail_id(key: str) -> bytes:
    """The 16 bytes by which a message is known: derived, so that sending again is sending the same."""
    return hashlib.sha256(key.encode()).digest()[:16]


class Subject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The person whose record is asked for, as the applicant gave it; "" = not given."""

    name: str = ""
    id_number: str = ""
    birth: str = ""
    other_name: str = ""
    other_id_number: str = ""


class Described(msgspec.Struct, frozen=True, omit_defaults=True):
    """The chosen candidate as the asking side saw it: masked, made by the holder."""

    name: str = ""
    other_name: str = ""
    year: int = 0
    level: str = ""
    explanation: str = ""


class Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of evidence handed in: its kind (a word of the evidence list), the SHA-256 of the file, where it lies."""

    kind: str
    digest: str = ""
    note: str = ""


class _Sequenced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    seq: int = 0


class Wishes(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the applicant wants the document. `holder_keys` are P-256 JWKs of the phone that will show the credential, one
    for each one-time credential; `delivery_key` is the X25519 JWK the package is sealed to, {} = the gateway may see it.
    `english` asks for a second page in English. `request_digest` is the SHA-256 of the request body, hex.
    """

    holder_keys: tuple[dict[str, str], ...] = ()
    delivery_key: dict[str, str] = {}
    english: bool = False
    request_digest: str = ""


class Searched(msgspec.Struct, frozen=True, omit_defaults=True):
    """One archive of a complete search, as the no-record note states it. `index_date` is YYYY-MM-DD of the index that
    answered; `reason` says why an archive that was not asked can hide nothing.
    """

    archive: str
    name: str
    outcome: str
    reason: str = ""
    holdings: tuple[str, ...] = ()
    index_date: str = ""


class _ToDesk(_Sequenced, frozen=True, omit_defaults=True, tag_field="kind", tag=lambda name: name.lower()):
    """`group` counts the questions of one case: what speaks of another group speaks of an older question. `seq` grows with
    the case: of two messages that contradict each other the later one counts, in whatever order they arrive.
    """

    group: int


class Dispatch(_ToDesk, frozen=True, omit_defaults=True):
    """Please review. `ref` is the holder's own reference of the record, "" when the case was referred without one.

    Times are milliseconds left when the message was written: of picking up, of the review, and of the target.
    `on_behalf_of` names the holder when this desk is asked as its deputy. `passed` are holders that referred it on.
    """

    ref: str
    category: str
    purpose: str
    relation: str
    subject: Subject
    event: dict[str, str] = {}
    described: Described = Described()
    proofs: tuple[Proof, ...] = ()
    window: str = ""
    pick_up_ms: int = 0
    review_ms: int = 0
    target_ms: int = 0
    on_behalf_of: str = ""
    passed: tuple[str, ...] = ()
    decision: str = ""
    score: float = 0.0
    wishes: Wishes = Wishes()


class Note(_ToDesk, frozen=True, omit_defaults=True):
    """No record was found, and everybody in scope has answered: please issue the no-record note over this search.

    `years` are the first and last year searched, () = all; `searched_on` is YYYY-MM-DD.
    """

    category: str
    purpose: str
    subject: Subject
    name_forms: tuple[str, ...]
    archives: tuple[Searched, ...]
    searched_on: str
    years: tuple[int, ...] = ()
    wishes: Wishes = Wishes()


class Nudge(_ToDesk, frozen=True, omit_defaults=True):
    """The clock of a stage has used a share of its time. `level` is warn or escalate."""

    level: str
    stage: str
    left_ms: int = 0


class Taken(_ToDesk, frozen=True, omit_defaults=True):
    """Another desk has it: this one need not decide."""

    by: str


class Withdrawn(_ToDesk, frozen=True, omit_defaults=True):
    """The applicant no longer asks, or the case expired."""

    reason: str = ""


class Evidence(_ToDesk, frozen=True, omit_defaults=True):
    """What the reviewer asked the applicant for."""

    proofs: tuple[Proof, ...] = ()


class Issue(_ToDesk, frozen=True, omit_defaults=True):
    """A deputy approved in the holder's name: the holder issues."""

    by: str
    ref: str = ""


ToDesk = Dispatch | Note | Nudge | Taken | Withdrawn | Evidence | Issue


class _FromDesk(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="kind",
    tag=lambda name: name.lower(),
):
    group: int
    ago_ms: int = 0
    """How long before sending it happened at the desk: it may have waited for a connection."""


class Received(_FromDesk, frozen=True, omit_defaults=True):
    """The desk has made the case durable."""


class Claimed(_FromDesk, frozen=True, omit_defaults=True):
    """A reviewer took the case. Who it was stays in the archive."""


class Released(_FromDesk, frozen=True, omit_defaults=True):
    """The reviewer gave it back, or the lease ran out."""


class Approved(_FromDesk, frozen=True, omit_defaults=True):
    """The copy may be given. `number` is the archive's own decision number; `rule` names the release rule and its
    version when no person decided.
    """

    number: str
    archival_code: str = ""
    rule: str = ""


class Refused(_FromDesk, frozen=True, omit_defaults=True):
    """`reason` is a word of `REFUSAL_REASONS`."""

    reason: str


class EvidenceWanted(_FromDesk, frozen=True, omit_defaults=True, tag="evidence_wanted"):
    """`items` are words of the evidence list."""

    items: tuple[str, ...]


class Retrieving(_FromDesk, frozen=True, omit_defaults=True):
    """The original is being fetched; `pauses` when the holder's policy stops the clock for it."""

    pauses: bool = False


class Retrieved(_FromDesk, frozen=True, omit_defaults=True):
    """The original is at hand."""


class Referred(_FromDesk, frozen=True, omit_defaults=True):
    """Another archive holds it."""

    archive: str


class Paper(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a document is found again by whoever holds it on paper: its short code (canonical), the day it bears
    (YYYY-MM-DD), and where its status stands in the archive's signed list. No expiry: no order of a desk sets one
    (`Decision.expires_on`); whoever lets it must tell it here, for the register and `/verify` to say expired.
    """

    short_code: str
    issued_on: str
    status_uri: str
    status_index: int


class Issued(_FromDesk, frozen=True, omit_defaults=True):
    """The document exists and is durable at the holder. `number` is the document's own number, `form` its kind
    (certified_copy, recorded_facts, no_record). `document` and `credential` are the SHA-256 (hex) of what is delivered and
    the names it is fetched by; "" = there is none. `paper` is None when it has no short code.
    """

    number: str
    archival_code: str = ""
    document: str = ""
    form: str = ""
    credential: str = ""
    paper: Paper | None = None


FromDesk = (
    Received
    | Claimed
    | Released
    | Approved
    | Refused
    | EvidenceWanted
    | Retrieving
    | Retrieved
    | Referred
    | Issued
)

REFUSAL_REASONS: dict[str, tuple[str, str]] = {
    "not_entitled": ("申请人无权利用该档案", "The applicant is not entitled to this record"),
    "id_name_mismatch": ("证件与姓名不符", "The identity document and the name do not agree"),
    "purpose_missing": ("用途不明或不符合规定", "The purpose is missing or not allowed"),
    "not_open": ("档案尚未开放", "The record is not open yet"),
    "secret": ("档案涉密", "The record is classified"),
    "illegible": ("档案无法辨认", "The record can not be read"),
    "not_the_person": ("所选记录不是申请人要找的", "The chosen record is not the one asked for"),
    "not_found": ("经核查未找到原件", "The original was not found"),
    "out_of_scope": ("不属于本服务范围", "Outside this service"),
    "duplicate_case": ("重复申请", "The same request was made before"),
}
"""Why a holder may refuse, in the two languages; a closed list, so that callers can rely on it."""

EVIDENCE_KINDS: dict[str, tuple[str, str]] = {
    "id_card": ("本人有效身份证件", "The applicant's identity card"),
    "household_register": ("户口簿", "Household register"),
    "mandate": ("委托书（写明事项）", "Letter of mandate naming the matter"),
    "principal_id": ("委托人身份证件", "The principal's identity card"),
    "kinship": ("亲属关系证明", "Proof of kinship"),
    "death": ("死亡证明", "Proof of death"),
    "inheritance": ("继承关系证明", "Proof of inheritance"),
    "guardianship": ("监护关系证明", "Proof of guardianship"),
    "unit_letter": ("单位介绍信", "Letter of the unit"),
    "court_document": ("受理案件证明", "Court acceptance document"),
    "name_change": ("曾用名证明", "Proof of a former name"),
    "other": ("其他材料", "Other material"),
}
"""What a reviewer may ask for."""


class UnreadableMailError(Exception):
    """A body that is no message this version knows; the text names no content."""


_PASSING = frozenset({"pick_up_ms", "review_ms", "target_ms", "left_ms", "ago_ms"})
"""Remaining times: they differ whenever a message is sent again."""

_canonical = msgspec.json.Encoder(order="deterministic").encode


def digest(message: ToDesk | FromDesk) -> bytes:
    """SHA-256 over what a message says, times left aside: what both sides' evidence logs note of it."""
    said = {name: value for name, value in msgspec.to_builtins(message).items() if name not in _PASSING}
    return hashlib.sha256(_canonical(said)).digest()


_encode = msgspec.json.Encoder().encode
_to_desk = msgspec.json.Decoder(ToDesk)
_from_desk = msgspec.json.Decoder(FromDesk)


def write(message: ToDesk | FromDesk) -> bytes:
    return _encode(message)


def read_to_desk(body: bytes) -> ToDesk:
    """The message in `body`; UnreadableMailError when it is none."""
    return _read(_to_desk, body)  # type: ignore[no-any-return]


def read_from_desk(body: bytes) -> FromDesk:
    """The message in `body`; UnreadableMailError when it is none."""
    return _read(_from_desk, body)  # type: ignore[no-any-return]


def _read(decoder: Any, body: bytes) -> Any:
    if len(body) > LARGEST_BODY:
        raise UnreadableMailError("too large")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMailError("not a message of this version") from error
