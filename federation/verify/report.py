"""What a verification says: numbered checks, each with a result and a named reason, and one verdict over them.

A verdict is *invalid* as soon as one check failed; *unknown* if none failed but one that was needed could not be made;
*valid* only if at least one check passed and nothing is open. An empty list of checks is never valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from federation.reasons import Text


class VerificationReason(StrEnum):
    """Why a check failed, could not be made, or was left out. The closed list of the verifier."""

    # the bytes
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NOT_CANONICAL = "not_canonical"
    UNSUPPORTED_FORMAT = "unsupported_format"
    WRONG_TYPE = "wrong_type"
    MISSING_CLAIM = "missing_claim"
    # integrity
    ALTERED = "altered"
    APPENDED_PAGES = "appended_pages"
    SEAL_OUTSIDE_SIGNATURE = "seal_outside_signature"
    NOT_SIGNED = "not_signed"
    ATTACHMENT_MISMATCH = "attachment_mismatch"
    # who signed, with what
    WRONG_ISSUER = "wrong_issuer"
    UNKNOWN_KEY = "unknown_key"
    WRONG_USAGE = "wrong_usage"
    KEY_NOT_YET_VALID = "key_not_yet_valid"
    KEY_EXPIRED = "key_expired"
    KEY_COMPROMISED = "key_compromised"
    KEY_REVOKED = "key_revoked"
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_SUITE = "wrong_suite"
    UNSUPPORTED_SUITE = "unsupported_suite"
    SECOND_SIGNATURE_MISSING = "second_signature_missing"
    ISSUE_TIME_UNPROVEN = "issue_time_unproven"
    TRUST_LIST_INVALID = "trust_list_invalid"
    # time and standing
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    REPLACED = "replaced"
    STATUS_UNKNOWN = "status_unknown"
    STATUS_TOO_OLD = "status_too_old"
    WRONG_STATUS_LIST = "wrong_status_list"
    TIME_PENDING = "time_pending"
    WRONG_TIME_STAMP = "wrong_time_stamp"
    # presentations and deliveries
    NO_HOLDER_PROOF = "no_holder_proof"
    WRONG_HOLDER = "wrong_holder"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_PURPOSE = "wrong_purpose"
    REPLAYED = "replayed"
    STALE_PROOF = "stale_proof"
    WRONG_RECIPIENT = "wrong_recipient"
    WRONG_REQUEST = "wrong_request"
    CANNOT_OPEN = "cannot_open"
    # evidence
    NOT_LOGGED = "not_logged"
    WRONG_LOG_PROOF = "wrong_log_proof"
    QUORUM_MISSING = "quorum_missing"
    # the check itself
    NOT_ASKED = "not_asked"
    NOT_REACHED = "not_reached"
    INTERNAL = "internal"


_R = VerificationReason

TEXTS: dict[VerificationReason, Text] = {
    _R.MALFORMED: Text("内容无法解析", "The content can not be read"),
    _R.TOO_LARGE: Text("内容超过允许的大小", "The content is larger than allowed"),
    _R.TOO_DEEP: Text("内容嵌套过深", "The content is nested too deeply"),
    _R.NOT_CANONICAL: Text("编码不是唯一的规范形式", "The encoding is not the one canonical form"),
    _R.UNSUPPORTED_FORMAT: Text("不是可以核验的文件或文本", "Not a file or text that can be verified"),
    _R.WRONG_TYPE: Text(
        "类型标记不对：这不是所要核验的凭证", "The type is wrong: this is another kind of token"
    ),
    _R.MISSING_CLAIM: Text("缺少必要的内容", "Something that must be said is missing"),
    _R.ALTERED: Text("内容在签发后被改动", "The content was altered after it was signed"),
    _R.APPENDED_PAGES: Text("签名之后又添加了内容", "Something was appended after the signature"),
    _R.SEAL_OUTSIDE_SIGNATURE: Text(
        "印章图像不在签名域内，不是签发的印章", "The seal is a picture outside the signature field"
    ),
    _R.NOT_SIGNED: Text("没有签名", "There is no signature"),
    _R.ATTACHMENT_MISMATCH: Text("附件与签名的摘要不符", "An attachment differs from its signed digest"),
    _R.WRONG_ISSUER: Text("签发者不在信任名录中", "The issuer is not on the trust list"),
    _R.UNKNOWN_KEY: Text("签发者没有这把密钥", "The issuer has no such key"),
    _R.WRONG_USAGE: Text("密钥不得用于此用途", "The key may not be used for this"),
    _R.KEY_NOT_YET_VALID: Text("签名时密钥尚未生效", "The key was not yet valid when it signed"),
    _R.KEY_EXPIRED: Text("签名时密钥已过期", "The key had expired when it signed"),
    _R.KEY_COMPROMISED: Text(
        "密钥已泄露，且没有泄露之前的可信时间",
        "The key was compromised, and no trusted time proves an earlier signature",
    ),
    _R.KEY_REVOKED: Text("签章证书在签章时已被吊销", "The certificate had been revoked when it sealed"),
    _R.WRONG_ALGORITHM: Text("签名算法与名录所定不符", "The algorithm is not the one the trust list fixes"),
    _R.WRONG_SUITE: Text("密钥属于另一套密码算法", "The key belongs to another crypto suite"),
    _R.UNSUPPORTED_SUITE: Text(
        "本机不支持所用的密码算法", "The crypto suite is not available on this machine"
    ),
    _R.SECOND_SIGNATURE_MISSING: Text(
        "缺少名录要求的第二签名", "The second signature the trust list asks for is missing"
    ),
    _R.ISSUE_TIME_UNPROVEN: Text(
        "自称签发于要求第二签名之前，但没有可信时间可以证明",
        "It says it was issued before a second signature was asked for, and no trusted time proves that",
    ),
    _R.TRUST_LIST_INVALID: Text("信任名录无效", "The trust list is not valid"),
    _R.NOT_YET_VALID: Text("尚未生效", "Not yet valid"),
    _R.EXPIRED: Text("已过有效期", "Expired"),
    _R.REVOKED: Text("已被签发档案馆撤销", "Revoked by the archive that issued it"),
    _R.SUSPENDED: Text("已被签发档案馆暂停使用", "Suspended by the archive that issued it"),
    _R.REPLACED: Text("已被新的证明取代", "Replaced by a newer certificate"),
    _R.STATUS_UNKNOWN: Text("手头没有它的状态名录", "The status list that speaks of it is not at hand"),
    _R.STATUS_TOO_OLD: Text(
        "手头的状态名录已过期，无法确定是否被撤销",
        "The status list at hand is too old to say whether it was revoked",
    ),
    _R.WRONG_STATUS_LIST: Text(
        "状态名录不是由签发档案馆签发，或与凭证不符",
        "The status list is not the issuer's, or is not the one named",
    ),
    _R.TIME_PENDING: Text("可信时间戳待补", "The trusted time stamp is still pending"),
    _R.WRONG_TIME_STAMP: Text("时间戳无效", "The time stamp is not valid"),
    _R.NO_HOLDER_PROOF: Text("缺少持有人的出示签名", "The holder's proof of presentation is missing"),
    _R.WRONG_HOLDER: Text("出示者不是凭证的持有人", "Not presented by the holder of the credential"),
    _R.WRONG_AUDIENCE: Text("不是出示给本机构的", "Not presented to, or not meant for, this body"),
    _R.WRONG_PURPOSE: Text("不能用于这个用途", "May not be used for this purpose"),
    _R.REPLAYED: Text("重复出示，已被拒绝", "Presented before; a presentation is good for one use"),
    _R.STALE_PROOF: Text("出示签名的时间不在允许范围内", "The time of the presentation is out of range"),
    _R.WRONG_RECIPIENT: Text("不是发给此收件人的", "Not addressed to this recipient"),
    _R.WRONG_REQUEST: Text("不是对这次请求的答复", "Not the answer to this request"),
    _R.CANNOT_OPEN: Text("无法用这把密钥打开", "Can not be opened with this key"),
    _R.NOT_LOGGED: Text("没有存证日志的证明", "No proof that it stands in the evidence log"),
    _R.WRONG_LOG_PROOF: Text("存证日志的证明不成立", "The proof of the evidence log does not hold"),
    _R.QUORUM_MISSING: Text("见证签名不足", "Too few witnesses have signed the log"),
    _R.NOT_ASKED: Text("未要求此项", "Not asked for"),
    _R.NOT_REACHED: Text("前面的检查未通过，未作此项", "Not made, because an earlier check did not pass"),
    _R.INTERNAL: Text("核验程序内部错误", "An internal error of the verifier"),
}


class VerifyError(Exception):
    """A check that did not pass. `open` says it could not be made (unknown) rather than that it failed.

    `detail` names a field, a number or a time for people; it never holds personal data.
    """

    def __init__(self, reason: VerificationReason, detail: str = "", *, open: bool = False) -> None:  # noqa: A002
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason, self.detail, self.open = reason, detail, open


class Result(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """The one answer."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """Of `lantai-verify`: 0 valid, 1 invalid, 2 cannot tell."""
        return {"valid": 0, "invalid": 1, "unknown": 2}[self.value]


@dataclass(frozen=True, slots=True)
class Check:
    """One numbered check; `text` says for people what was checked, or why it did not pass."""

    number: int
    name: str
    result: Result
    reason: VerificationReason | None
    text: Text

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "name": self.name,
            "result": self.result.value,
            "reason": None if self.reason is None else self.reason.value,
            "text": {"zh": self.text.zh, "en": self.text.en},
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one document, with what they established.

    `facts` are shown to whoever asked and never logged; `valid_as_of` is the time of the status list, UTC.
    """

    kind: str
    checks: tuple[Check, ...]
    issuer: str | None = None
    number: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    valid_as_of: datetime | None = None
    successor: str | None = None

    @property
    def verdict(self) -> Verdict:
        results = {check.result for check in self.checks}
        if Result.FAILED in results:
            return Verdict.INVALID
        if Result.UNKNOWN in results:
            return Verdict.UNKNOWN
        return Verdict.VALID if Result.PASSED in results else Verdict.INVALID

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    @property
    def reasons(self) -> tuple[VerificationReason, ...]:
        """Why it is not valid: the reasons of failed checks, or of open ones if none failed."""
        for wanted in (Result.FAILED, Result.UNKNOWN):
            found = tuple(check.reason for check in self.checks if check.result is wanted and check.reason)
            if found:
                return found
        return ()

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object; times are RFC 3339 UTC."""
        return {
            "verdict": self.verdict.value,
            "kind": self.kind,
            "issuer": self.issuer,
            "number": self.number,
            "valid_as_of": None if self.valid_as_of is None else rfc3339(self.valid_as_of),
            "successor": self.successor,
            "reasons": [reason.value for reason in self.reasons],
            "facts": dict(self.facts),
            "checks": [check.as_json() for check in self.checks],
        }


class Checklist:
    """The checks of one kind of document in their order; each is skipped until it is judged.

    `names` gives, in order, the stable name of each check and what it establishes when it passes.
    """

    def __init__(self, names: Mapping[str, Text]) -> None:
        self._names = dict(names)
        self._judged: dict[str, Check] = {}

    def passed(self, name: str, detail: str = "") -> None:
        self._put(name, Result.PASSED, None, self._names[name], detail)

    def failed(self, name: str, reason: VerificationReason, detail: str = "") -> None:
        self._put(name, Result.FAILED, reason, TEXTS[reason], detail)

    def unknown(self, name: str, reason: VerificationReason, detail: str = "") -> None:
        self._put(name, Result.UNKNOWN, reason, TEXTS[reason], detail)

    def skipped(self, name: str, reason: VerificationReason, detail: str = "") -> None:
        self._put(name, Result.SKIPPED, reason, TEXTS[reason], detail)

    @contextmanager
    def judging(self, name: str, *, go_on: bool = False) -> Iterator[None]:
        """The check passes if the body ends, fails or stays open by the VerifyError it raises.

        The error travels on, ending the verification, unless `go_on`.
        """
        try:
            yield
        except VerifyError as error:
            judge = self.unknown if error.open else self.failed
            judge(name, error.reason, error.detail)
            if not go_on:
                raise
        else:
            if name not in self._judged:
                self.passed(name)

    @property
    def failures(self) -> int:
        """How many checks have failed so far."""
        return sum(check.result is Result.FAILED for check in self._judged.values())

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check of the list; those never judged are skipped as not reached."""
        reason = VerificationReason.NOT_REACHED
        return tuple(
            self._judged.get(name) or Check(number, name, Result.SKIPPED, reason, TEXTS[reason])
            for number, name in enumerate(self._names, 1)
        )

    def _put(
        self, name: str, result: Result, reason: VerificationReason | None, text: Text, detail: str
    ) -> None:
        number = list(self._names).index(name) + 1
        if detail:
            text = Text(f"{text.zh}（{detail}）", f"{text.en} ({detail})")
        self._judged[name] = Check(number, name, result, reason, text)


def rfc3339(time: datetime) -> str:
    """A time as written in reports: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
