"""What is said of a file that this user may not use."""

import errno
import os
import pwd

import pytest

from federation.process.os_errors import said

OWNER = pwd.getpwuid(os.getuid()).pw_name


def refused(path):
    return PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize("name", ["index.key", "keys/log.key"])
def test_whose_a_file_is_and_who_asks_is_said_where_permission_is_missing(tmp_path, monkeypatch, name):
    (tmp_path / "index.key").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    text = said(refused(tmp_path / name))
    assert text.startswith(f"{tmp_path / name}: Permission denied；文件属于 {OWNER}，当前用户是 54321")
    assert text.endswith(f"it belongs to {OWNER}, and this runs as 54321: run it as {OWNER}")


def test_nothing_is_said_of_owners_where_it_is_the_same_or_no_file_is_named(tmp_path):
    assert said(refused(tmp_path)) == f"{tmp_path}: Permission denied"
    assert said(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert said(BrokenPipeError()) == ""
