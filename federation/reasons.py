"""The closed list of reasons: why something was refused, rejected, or not done, in Chinese and English.

A reason is stable and machine-readable; its texts are for people and never hold personal data. Add a reason
here before inventing a message. HTTP and gRPC renderings live at the edges, tested to cover every member.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused or a part of it could not be done."""

    # the request itself
    MALFORMED_REQUEST = "malformed_request"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_TEXT = "malformed_text"
    MALFORMED_BODY = "malformed_body"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    REPEATED_FIELD = "repeated_field"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TOO_LONG = "too_long"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_PURPOSE = "unknown_purpose"
    UNKNOWN_RELATION = "unknown_relation"
    UNKNOWN_REGION = "unknown_region"
    UNKNOWN_ARCHIVE = "unknown_archive"
    NOBODY_IN_SCOPE = "nobody_in_scope"
    IMPOSSIBLE_DATE = "impossible_date"
    INVALID_ID_NUMBER = "invalid_id_number"
    INVALID_NAME = "invalid_name"
    WILDCARD = "wildcard"
    MINIMUM_QUERY = "minimum_query"
    INVALID_CURSOR = "invalid_cursor"
    INVALID_KEY = "invalid_key"
    PRIVATE_KEY_GIVEN = "private_key_given"
    OUT_OF_RANGE = "out_of_range"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_ACCEPTABLE = "not_acceptable"
    # the caller
    TOKEN_MISSING = "token_missing"  # noqa: S105
    TOKEN_INVALID = "token_invalid"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    ASSERTION_INVALID = "assertion_invalid"
    NOT_PERMITTED = "not_permitted"
    RATE_LIMITED = "rate_limited"
    # the route
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    # the service
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    OUT_OF_TIME = "out_of_time"
    INTERNAL = "internal"
    # cases
    UNKNOWN_CASE = "unknown_case"
    UNKNOWN_CANDIDATE = "unknown_candidate"
    ILLEGAL_TRANSITION = "illegal_transition"
    CANDIDATES_CHANGED = "candidates_changed"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    TAKEN = "taken"
    REFERRED_IN_A_CIRCLE = "referred_in_a_circle"
    NO_DOCUMENT = "no_document"
    # documents
    SEARCH_NOT_COMPLETE = "search_not_complete"
    PRIVATE_USE_CHARACTER = "private_use_character"
    MISSING_GLYPH = "missing_glyph"
    TEXT_NOT_KEPT = "text_not_kept"
    FILE_UNREADABLE = "file_unreadable"
    FILE_TOO_LARGE = "file_too_large"
    NO_PAGES = "no_pages"
    DECISION_CHANGED = "decision_changed"
    UNKNOWN_DOCUMENT = "unknown_document"
    STORE_UNAVAILABLE = "store_unavailable"
    HOLDER_UNREACHABLE = "holder_unreachable"
    ALTERED = "altered"
    NO_TRUST_LIST = "no_trust_list"
    # between gateway and node agent
    NOT_A_MEMBER = "not_a_member"
    WRONG_ARCHIVE = "wrong_archive"
    BAD_FRAME = "bad_frame"
    PROTOCOL_VERSION = "protocol_version"
    SUPERSEDED = "superseded"
    CATEGORY_NOT_HELD = "category_not_held"
    POLICY = "policy"
    NO_INDEX = "no_index"
    TOO_MANY_RECORDS = "too_many_records"


@dataclass(frozen=True, slots=True)
class Text:
    """One text in the two languages people are served in."""

    zh: str
    en: str

    def in_language(self, language: str) -> str:
        """The text in `language` ("zh" or "en"; anything else is Chinese)."""
        return self.en if language == "en" else self.zh


TEXTS: dict[Reason, Text] = {
    Reason.MALFORMED_REQUEST: Text("不是可读的 HTTP 请求", "Not an HTTP request that can be read"),
    Reason.MALFORMED_JSON: Text("请求体不是合法的 JSON", "The body is not valid JSON"),
    Reason.MALFORMED_TEXT: Text("请求体不是合法的 UTF-8 文本", "The body is not valid UTF-8 text"),
    Reason.MALFORMED_BODY: Text("请求体不完整或无法解码", "The body is cut off or can not be decoded"),
    Reason.WRONG_TYPE: Text("字段类型不对", "A field has the wrong type"),
    Reason.MISSING_FIELD: Text("缺少必填字段", "A required field is missing"),
    Reason.UNKNOWN_FIELD: Text("有不认识的字段", "A field is not known"),
    Reason.REPEATED_FIELD: Text("同一字段出现两次", "A field stands twice"),
    Reason.TOO_LARGE: Text("请求体过大", "The body is too large"),
    Reason.TOO_DEEP: Text("请求体嵌套过深", "The body is nested too deeply"),
    Reason.TOO_LONG: Text("字段过长", "A field is too long"),
    Reason.UNKNOWN_CATEGORY: Text("没有这个档案类别", "There is no such record category"),
    Reason.UNKNOWN_PURPOSE: Text("没有这个查档用途", "There is no such purpose"),
    Reason.UNKNOWN_RELATION: Text("没有这种申请人关系", "There is no such applicant relation"),
    Reason.UNKNOWN_REGION: Text("没有这个行政区划", "There is no such administrative division"),
    Reason.UNKNOWN_ARCHIVE: Text("成员名录中没有这个档案馆", "No such archive is on the roster"),
    Reason.NOBODY_IN_SCOPE: Text(
        "范围内没有成员档案馆，无从查询；请放宽范围",
        "No member archive lies in this scope, so nothing could be searched; widen it",
    ),
    Reason.IMPOSSIBLE_DATE: Text(
        "日期不存在或写法不对", "The date does not exist or is not written as a date"
    ),
    Reason.INVALID_ID_NUMBER: Text("证件号码格式不对", "The identity number is not of a valid form"),
    Reason.INVALID_NAME: Text("姓名中有不允许的字符", "The name holds characters that are not allowed"),
    Reason.WILDCARD: Text("不允许使用通配符", "Wildcards are not allowed"),
    Reason.MINIMUM_QUERY: Text(
        "条件太少，须同时给出：一、姓名；二、证件号码或出生日期；三、另一方姓名、年份（±5 年内）、地点、证书字号之一",
        "Too little to search by: give the name; an ID number or a birth date; and one of other party, year (within 5), place, certificate number",
    ),
    Reason.INVALID_CURSOR: Text("翻页标记无效或已过期", "The page cursor is not valid or has expired"),
    Reason.INVALID_KEY: Text(
        "公钥不可用：须为 JWK，持有人公钥用 P-256，送达公钥用 X25519，且不重复",
        "The public key can not be used: a JWK is wanted, P-256 of a holder, X25519 for delivery, each once",
    ),
    Reason.PRIVATE_KEY_GIVEN: Text(
        "收到的是私钥：请只交公钥，并作废这把私钥",
        "A private key was sent: send the public half only, and stop using this key",
    ),
    Reason.RANGE_NOT_SATISFIABLE: Text(
        "所要的起点超出文书长度", "The range begins beyond the end of the document"
    ),
    Reason.OUT_OF_RANGE: Text("取值超出允许范围", "A value is out of its range"),
    Reason.UNSUPPORTED_MEDIA_TYPE: Text("不支持请求体的类型", "The body's media type is not supported"),
    Reason.NOT_ACCEPTABLE: Text("无法提供所要的格式", "None of the accepted formats can be served"),
    Reason.TOKEN_MISSING: Text("缺少访问令牌", "An access token is missing"),
    Reason.TOKEN_INVALID: Text("访问令牌无效", "The access token is not valid"),
    Reason.TOKEN_EXPIRED: Text("访问令牌已过期", "The access token has expired"),
    Reason.ASSERTION_INVALID: Text(
        "客户端断言无效：须以登记的密钥签名（ES256），iss 与 sub 为客户端名，exp 在 60 秒内，jti 只用一次",
        "The client assertion is not valid: signed with the registered key (ES256), iss and sub the client's name, exp within 60 s, a jti used once",
    ),
    Reason.NOT_PERMITTED: Text("无权进行此操作", "This is not permitted"),
    Reason.RATE_LIMITED: Text("请求过于频繁，请稍后再试", "Too many requests; try again later"),
    Reason.NOT_FOUND: Text("没有这个资源", "There is no such resource"),
    Reason.METHOD_NOT_ALLOWED: Text("此资源不支持该方法", "The resource does not know this method"),
    Reason.OVERLOADED: Text("系统繁忙，请稍后再试", "The service is busy; try again later"),
    Reason.DRAINING: Text("服务正在停止，请改用其他实例", "This instance is stopping; use another one"),
    Reason.OUT_OF_TIME: Text("剩余时间不足", "Not enough time is left"),
    Reason.INTERNAL: Text("内部错误，已记录", "An internal error; it was logged"),
    Reason.UNKNOWN_CASE: Text("没有这个案件", "There is no such case"),
    Reason.UNKNOWN_CANDIDATE: Text("案件中没有这个候选", "The case has no such candidate"),
    Reason.ILLEGAL_TRANSITION: Text(
        "案件当前状态不允许此操作", "The case is not in a state that allows this"
    ),
    Reason.CANDIDATES_CHANGED: Text(
        "又有新的候选，请先看过再选", "Candidates were added since; look at them before choosing"
    ),
    Reason.IDEMPOTENCY_KEY_MISSING: Text(
        "缺少 Idempotency-Key 请求头，或不是 1 至 128 个可见 ASCII 字符",
        "The Idempotency-Key header is missing, or not 1 to 128 visible ASCII characters",
    ),
    Reason.IDEMPOTENCY_MISMATCH: Text(
        "同一 Idempotency-Key 用于不同内容", "The Idempotency-Key was used with another body"
    ),
    Reason.TAKEN: Text("已由他人受理", "Somebody else has taken it"),
    Reason.REFERRED_IN_A_CIRCLE: Text("不能转回已转出的档案馆", "The case can not be referred back"),
    Reason.NO_DOCUMENT: Text(
        "没有可领取的文书，见案件的 state 与 links",
        "There is no document to fetch; see the case's state and links",
    ),
    Reason.SEARCH_NOT_COMPLETE: Text(
        "查询不完整，不能出具查无证明；请待全部档案馆答复后再出具",
        "The search is not complete, so that no record was found can not be certified; wait until every archive has answered",
    ),
    Reason.PRIVATE_USE_CHARACTER: Text(
        "含有自造字（私用区字符），无法让他人同样显示；请改用统一码字符或表意文字描述序列",
        "A private-use character, which others can not show alike; use the Unicode character or an ideographic description",
    ),
    Reason.MISSING_GLYPH: Text(
        "所装字体没有这个字；请安装收有该字的字体后再出具",
        "No installed font has this character; install one that has it, then issue again",
    ),
    Reason.TEXT_NOT_KEPT: Text(
        "排版后读出的文字与原文不一致，未予出具",
        "The text read back from the page differs from what was given; nothing was issued",
    ),
    Reason.FILE_UNREADABLE: Text(
        "文件损坏或不是所支持的格式（PNG、JPEG、TIFF、PDF）；请重新扫描或转换",
        "The file is damaged or not PNG, JPEG, TIFF or PDF; scan or convert it again",
    ),
    Reason.FILE_TOO_LARGE: Text(
        "文件、页面或页数超过上限；请以 200–300 dpi 扫描，或分批出具",
        "The file, a page or the number of pages is above the limit; scan at 200 to 300 dpi, or issue in parts",
    ),
    Reason.NO_PAGES: Text("复制件没有页面", "A certified copy has no pages"),
    Reason.DECISION_CHANGED: Text(
        "同一审批决定已以不同内容出具", "The same decision was issued before with other content"
    ),
    Reason.UNKNOWN_DOCUMENT: Text("没有这个编号的文书", "There is no document of this number"),
    Reason.STORE_UNAVAILABLE: Text(
        "案件库暂不可用，请稍后再试", "The case store is not available; try again later"
    ),
    Reason.HOLDER_UNREACHABLE: Text(
        "保管馆暂时无法连接，请稍后再取", "The holding archive can not be reached now; fetch again later"
    ),
    Reason.ALTERED: Text(
        "收到的文书与其摘要不符，已拒收", "What came does not agree with its digest and was not taken"
    ),
    Reason.NO_TRUST_LIST: Text(
        "本网关未配置信任名录，不能核验；请用 lantai-verify",
        "This gateway has no trust list pinned and can not verify; use lantai-verify",
    ),
    Reason.NOT_A_MEMBER: Text("不在成员名录中", "Not on the roster"),
    Reason.WRONG_ARCHIVE: Text("以其他档案馆的名义应答", "Answered in the name of another archive"),
    Reason.BAD_FRAME: Text("报文无法解析", "A frame could not be read"),
    Reason.PROTOCOL_VERSION: Text("没有共同的协议版本", "No protocol version in common"),
    Reason.SUPERSEDED: Text("已被更新的会话取代", "A newer session took over"),
    Reason.CATEGORY_NOT_HELD: Text("本馆未藏此类档案", "The archive does not hold this category"),
    Reason.POLICY: Text("馆方规定不予查询", "The archive's rules refuse this query"),
    Reason.NO_INDEX: Text("尚未导入目录", "No catalogue has been imported yet"),
    Reason.TOO_MANY_RECORDS: Text(
        "同名或近似姓名的记录过多，未能逐条比对；请补充年份、出生日期或证件号码后再查",
        "Too many records bear this name or one like it to compare them all; add years, a date of birth or an ID number",
    ),
}


class Refusal(Exception):
    """A request refused for a named reason; `pointer` is the JSON pointer of the field at fault, never its value, and
    `allowed` what would be accepted there, in signs that need no language: "100-10000", "<= 64", names of fields.
    """

    def __init__(
        self, reason: Reason, pointer: str = "", *, retry_after_s: float | None = None, allowed: str = ""
    ) -> None:
        super().__init__(reason.value if not pointer else f"{reason.value} at {pointer}")
        self.reason = reason
        self.pointer = pointer
        self.retry_after_s = retry_after_s
        self.allowed = allowed


def why(refusal: Refusal) -> str:
    """What a command line says of a refusal: the reason in both languages, and what the system said of it, if anything."""
    text, cause = TEXTS[refusal.reason], refusal.__cause__
    return f"{text.zh} · {text.en}" + (f" ({cause})" if cause is not None else "")
