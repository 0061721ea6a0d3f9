from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core import redis_server


def test_the_server_gets_what_was_asked_for_and_a_password_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(redis_server, "_CONFIGURATION", tmp_path / "redis.conf")
    monkeypatch.setattr(os, "execvp", lambda _file, words: became.append(words))
    limit = "client-output-buffer-limit=normal 256mb 64mb 10"
    monkeypatch.setenv(redis_server.SETTINGS_VARIABLE, f"{limit}\nhz=50")

    redis_server.main([str(tmp_path / "password"), "--save", ""])

    password = (tmp_path / "password").read_text().strip()
    assert len(password) > 30
    assert (tmp_path / "redis.conf").read_text().splitlines() == [
        "client-output-buffer-limit normal 256mb 64mb 10",
        "hz 50",
        f"requirepass {password}",
    ]
    assert became == [["redis-server", str(tmp_path / "redis.conf"), "--save", ""]]
