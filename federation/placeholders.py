"""What people write into a cell that has nothing to say: the one list, for dates, names and numbers alike."""

from __future__ import annotations

PLACEHOLDERS = frozenset(
    {"", "无", "無", "不详", "不詳", "不明", "未详", "未詳", "待查", "—", "——", "-", "--", "/", "\\", "0", "空", "缺", "略", "None", "NULL", "null", "nan", "N/A", "暂无", "XXXXXX", "?"}
)  # fmt: skip
