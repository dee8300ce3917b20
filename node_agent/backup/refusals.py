"""Why no backup was made, and what to do about it. Texts are zh · en."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """Why no backup was made; nothing is left of it."""

    NO_DATA_FOLDER = "no_data_folder"
    TARGET_INSIDE = "target_inside"
    TARGET_EXISTS = "target_exists"
    NO_TARGET_FOLDER = "no_target_folder"
    BEING_WRITTEN = "being_written"
    NO_SPACE = "no_space"
    STORE_BUSY = "store_busy"
    STORE_DAMAGED = "store_damaged"
    INDEX_UNUSABLE = "index_unusable"
    CHANGING = "changing"
    UNREADABLE = "unreadable"
    UNWRITABLE = "unwritable"
    COPY_DIFFERS = "copy_differs"


_TEXTS: dict[Why, str] = {
    Why.NO_DATA_FOLDER: "不是档案馆的数据目录（既无 archive.toml 也无索引） · is no archive's data folder: neither archive.toml nor an index in it",
    Why.TARGET_INSIDE: "备份不能放在数据目录之内，请用另一个位置，最好是另一块磁盘 · a backup can not lie inside the data folder; name another place, best on another disk",
    Why.TARGET_EXISTS: "已存在，备份从不覆盖；请用新的名字，如带日期 · is there already and is never overwritten; give a new name, such as one with the date",
    Why.NO_TARGET_FOLDER: "备份所在的文件夹不存在（磁盘未挂载？），请先建立 · the folder it is to lie in is missing (is its disk mounted?); make it first",
    Why.BEING_WRITTEN: "另一个备份正在写往此处，请等其结束 · another backup is being written there; wait for it to end",
    Why.NO_SPACE: "磁盘空间不足，请腾出空间或换一块磁盘 · too little disk space; make room or name another disk",
    Why.STORE_BUSY: "数据库一直被占用，请稍后再试 · the databases were busy all the time; try again later",
    Why.STORE_DAMAGED: (
        "数据库已损坏：请保留此前的备份，停止节点，从备份恢复此文件 · is damaged: keep the backups of before, stop the agent,"
        " restore this file from one of them"
    ),
    Why.INDEX_UNUSABLE: "索引无法使用 · the index can not be used",
    Why.CHANGING: "复制期间一直在变化，请在无人写入时再试 · kept changing while it was copied; try again when nobody writes it",
    Why.UNREADABLE: "无法读取，请以节点的用户运行 · can not be read; run this as the agent's user",
    Why.UNWRITABLE: "备份无法写入 · the backup can not be written",
    Why.COPY_DIFFERS: (
        "写下的内容与原文件不符，请检查目标磁盘 · what was written is not what was read; check the disk it was written to"
    ),
}


class BackupRefusedError(Exception):
    """No backup was made; the message says why and what to do. `where` is the path or file it is about."""

    def __init__(self, why: Why, where: object = "", detail: str | None = "") -> None:
        head, tail = f"{where}: " if str(where) else "", f": {detail}" if detail else ""
        super().__init__(head + _TEXTS[why] + tail)
        self.why = why
