"""Why an index that is there can not be used, and what to do about it. Texts are zh · en and hold no data."""

from __future__ import annotations

import sqlite3
from enum import StrEnum


class Trouble(StrEnum):
    OTHER_VERSION = "other_version"
    FILE_DAMAGED = "file_damaged"
    FILE_MISSING = "file_missing"
    POINTER_DAMAGED = "pointer_damaged"
    KEY_MISSING = "key_missing"
    KEY_OTHER = "key_other"


_ANEW_ZH = "将 CURRENT 和 index.*.sqlite* 移出数据目录，再重新导入全部目录"
_ANEW = "move CURRENT and index.*.sqlite* out of the data folder and import all catalogues again"
_RESTORE_ZH = f"请从同一份备份恢复 CURRENT、index.*.sqlite 和 index.key；没有备份时，{_ANEW_ZH}"
_RESTORE = f"restore CURRENT, index.*.sqlite and index.key from one backup; without a backup, {_ANEW}"

TEXTS: dict[Trouble, str] = {
    Trouble.OTHER_VERSION: f"索引由其他版本建立，请{_ANEW_ZH} · the index was built by another version; {_ANEW}",
    Trouble.FILE_DAMAGED: f"索引文件已损坏，{_RESTORE_ZH} · the index file is damaged; {_RESTORE}",
    Trouble.FILE_MISSING: (
        f"CURRENT 所指的索引文件不存在，{_RESTORE_ZH} · the index file that CURRENT names is missing; {_RESTORE}"
    ),
    Trouble.POINTER_DAMAGED: (
        f"CURRENT 已损坏，未指明任何索引文件，{_RESTORE_ZH} · CURRENT is damaged and names no index file; {_RESTORE}"
    ),
    Trouble.KEY_MISSING: (
        f"缺少 index.key，没有它查不到任何记录，请从备份恢复；没有备份时，{_ANEW_ZH} ·"
        f" index.key is missing, and without it nothing is found; restore it from the backup; without a backup, {_ANEW}"
    ),
    Trouble.KEY_OTHER: (
        "index.key 已损坏或不是建立索引时的密钥，用它查不到任何记录，请从备份恢复；没有备份时，将它移出数据目录，"
        f"并{_ANEW_ZH} · index.key is damaged or not the one the index was built with, and under it nothing is found;"
        f" restore it from the backup; without a backup, move it out of the data folder, and {_ANEW}"
    ),
}
"""What is moved out of the folder is not lost: an import into an index it can not read would drop what other files gave."""


_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_damage(error: sqlite3.Error, *, opening: bool = False) -> bool:
    """Whether SQLite says that the file itself is bad, not the disk, a lock or a right to read it. While an index is being
    opened a statement it can not make sense of means a table that is not there.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in _DAMAGE or (opening and code == sqlite3.SQLITE_ERROR)


class UnusableIndexError(Exception):
    """There is an index, and it can not be used; the message says why and what to do."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(TEXTS[trouble])
        self.trouble = trouble
