"""What can be wrong with evidence: one closed list of flaws, each with its text in Chinese and English.

A flaw says why a note, a proof, a stamp or a whole log is not believed. Details name sizes, places and keys, never the
contents of an event.
"""

from __future__ import annotations

from enum import StrEnum

from federation.reasons import Text


class Flaw(StrEnum):
    """Why a piece of evidence is not believed, or an entry was not taken."""

    # what was handed in can not be read
    TOO_LARGE = "too_large"
    MALFORMED_KEY = "malformed_key"
    MALFORMED_NOTE = "malformed_note"
    MALFORMED_CHECKPOINT = "malformed_checkpoint"
    MALFORMED_PROOF = "malformed_proof"
    MALFORMED_EVENT = "malformed_event"
    # it can be read and proves nothing
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_SIGNER = "unknown_signer"
    SECOND_SIGNATURE_MISSING = "second_signature_missing"
    UNSUPPORTED_SUITE = "unsupported_suite"
    WRONG_ORIGIN = "wrong_origin"
    QUORUM_MISSING = "quorum_missing"
    NOT_INCLUDED = "not_included"
    NOT_CONSISTENT = "not_consistent"
    STAMP_INVALID = "stamp_invalid"
    STAMP_OVERDUE = "stamp_overdue"
    STAMP_UNAVAILABLE = "stamp_unavailable"
    STAMP_REDIRECTED = "stamp_redirected"
    # the log itself
    EVENT_CONFLICT = "event_conflict"
    UNKNOWN_ENTRY = "unknown_entry"
    NO_CHECKPOINT = "no_checkpoint"
    LOG_IN_USE = "log_in_use"
    LOG_UNAVAILABLE = "log_unavailable"
    LOG_FOREIGN = "log_foreign"
    OVERLOADED = "overloaded"
    # what an auditor finds
    LOG_DAMAGED = "log_damaged"
    ENTRY_MISSING = "entry_missing"
    ENTRY_ALTERED = "entry_altered"
    ERASED_UNLOGGED = "erased_unlogged"
    TILE_ALTERED = "tile_altered"
    CHECKPOINT_ALTERED = "checkpoint_altered"
    HISTORY_SHORTENED = "history_shortened"
    HISTORY_REWRITTEN = "history_rewritten"


TEXTS: dict[Flaw, Text] = {
    Flaw.TOO_LARGE: Text("超出允许的大小", "It is larger than allowed"),
    Flaw.MALFORMED_KEY: Text("密钥写法不对", "The key is not written as a note key"),
    Flaw.MALFORMED_NOTE: Text("签名文本格式不对", "The text is not a signed note"),
    Flaw.MALFORMED_CHECKPOINT: Text("检查点格式不对", "The note is not a checkpoint"),
    Flaw.MALFORMED_PROOF: Text("存证证明格式不对", "The proof is not of a valid form"),
    Flaw.MALFORMED_EVENT: Text(
        "事件种类或字段不在清单内", "The kind or a field of the event is not on the list"
    ),
    Flaw.BAD_SIGNATURE: Text("签名验证不通过", "A signature does not verify"),
    Flaw.UNKNOWN_SIGNER: Text("没有受信任密钥的签名", "No signature by a trusted key"),
    Flaw.SECOND_SIGNATURE_MISSING: Text(
        "缺少另一套密码算法的第二签名", "The second signature, of another crypto suite, is missing"
    ),
    Flaw.UNSUPPORTED_SUITE: Text(
        "本机不支持第二签名的密码算法", "The crypto suite of the second signature is not available here"
    ),
    Flaw.WRONG_ORIGIN: Text("检查点属于另一本日志", "The checkpoint belongs to another log"),
    Flaw.QUORUM_MISSING: Text("见证馆签名不足", "Too few witnesses cosigned"),
    Flaw.NOT_INCLUDED: Text(
        "证明与日志根不符：此事件未入日志", "The proof does not lead to the root: not logged"
    ),
    Flaw.NOT_CONSISTENT: Text("两个检查点不一致：历史被改写", "The two checkpoints are not of one history"),
    Flaw.STAMP_INVALID: Text("时间戳验证不通过", "The time stamp does not verify"),
    Flaw.STAMP_OVERDUE: Text(
        "时间戳中断超过允许时限，停止出证", "No time stamp for longer than allowed; issuing stops"
    ),
    Flaw.STAMP_UNAVAILABLE: Text("时间戳服务无应答", "The time-stamp authority gives no answer"),
    Flaw.STAMP_REDIRECTED: Text(
        "时间戳服务要求转往别的地址，不予跟随",
        "The time-stamp authority redirects to another address, which is not followed",
    ),
    Flaw.EVENT_CONFLICT: Text(
        "同一事件编号已记有不同内容", "The event id was logged before with other contents"
    ),
    Flaw.UNKNOWN_ENTRY: Text("日志中没有这个事件", "The log has no such event"),
    Flaw.NO_CHECKPOINT: Text("尚无合用的检查点", "No checkpoint serves yet"),
    Flaw.LOG_IN_USE: Text("另一进程正在写这本日志", "Another process is writing this log"),
    Flaw.LOG_UNAVAILABLE: Text(
        "日志暂时写不进去（磁盘满或故障），事件未记",
        "The log can not be written (disk full or failing); nothing was logged",
    ),
    Flaw.LOG_FOREIGN: Text("文件不是本版本的存证日志", "The file is not an evidence log of this version"),
    Flaw.OVERLOADED: Text(
        "等待写入的事件过多，请稍后再试", "Too many events wait to be written; try again later"
    ),
    Flaw.LOG_DAMAGED: Text("日志文件损坏", "The log file is damaged"),
    Flaw.ENTRY_MISSING: Text("事件缺失", "An event is missing"),
    Flaw.ENTRY_ALTERED: Text("事件被改动", "An event was altered"),
    Flaw.ERASED_UNLOGGED: Text(
        "事件内容被清除而无清除记录", "An event was erased and the erasing was not logged"
    ),
    Flaw.TILE_ALTERED: Text("散列块被改动", "A tile was altered"),
    Flaw.CHECKPOINT_ALTERED: Text("检查点与日志内容不符", "A checkpoint does not fit the entries"),
    Flaw.HISTORY_SHORTENED: Text(
        "日志比已见过的检查点短：末尾被删或恢复了旧备份",
        "The log is shorter than a checkpoint seen before: its end was cut or an old backup restored",
    ),
    Flaw.HISTORY_REWRITTEN: Text(
        "日志与已见过的检查点不是同一历史", "The log is not the history of a checkpoint seen before"
    ),
}


class EvidenceError(Exception):
    """Evidence that is not believed, or an entry not taken, for a named flaw."""

    def __init__(self, flaw: Flaw, detail: str = "") -> None:
        super().__init__(f"{flaw.value}: {detail}" if detail else flaw.value)
        self.flaw = flaw
        self.detail = detail
