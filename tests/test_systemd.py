"""The unit of systemd is valid, hardened, and stops and restarts the bot as promised."""

import configparser
import os
import re
import shutil
from pathlib import Path

import pytest

from bot.signals import END_SECONDS
from tests.wheel import ROOT, run

UNIT = ROOT / "deploy" / "noskgpt-bard.service"
MAX_EXPOSURE = 1.5
"""Upper bound of systemd's own rating, from 0 to 10; a unit without hardening has 9.6."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "CI" not in os.environ,
    reason="no systemd-analyze: apt-get install systemd",
)


@needs_systemd
def test_unit_is_valid(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    (program,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    unit = tmp_path / UNIT.name
    verify = ("systemd-analyze", "verify", "--man=no", str(unit))
    unit.write_text(text, encoding="utf-8")
    if not Path(program).exists():  # as on any machine without an installed bot
        with pytest.raises(AssertionError, match="not executable"):
            run(*verify, cwd=tmp_path)
    installed = tmp_path / "noskgpt-bard"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    unit.write_text(text.replace(program, str(installed)), encoding="utf-8")
    assert run(*verify, cwd=tmp_path) == ""


@needs_systemd
def test_unit_is_hardened(tmp_path: Path) -> None:
    rate = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    said = run(*rate, f"--threshold={round(MAX_EXPOSURE * 10)}", str(UNIT), cwd=tmp_path)
    assert "Overall exposure level" in said
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="UNSAFE"):
        run(*rate, f"--threshold={round(MAX_EXPOSURE * 10)}", str(bare), cwd=tmp_path)


def service() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


def test_unit_waits_for_the_end_and_does_not_retry_a_wrong_setting() -> None:
    options = service()
    assert int(options["TimeoutStopSec"]) > END_SECONDS
    assert options["KillMode"] == "mixed"
    assert options["Restart"] == "on-failure"
    assert options["RestartPreventExitStatus"] == "2"
    starts_a_day = 24 * 60 * 60 / int(options["RestartSec"])
    assert starts_a_day < 1000  # Discord's limit
    assert "MemoryDenyWriteExecute" not in options
    assert options["WorkingDirectory"] == f"/var/lib/{options['StateDirectory']}"
    assert options["EnvironmentFile"].startswith(options["WorkingDirectory"])
