"""Logs are one JSON object a line, of our code and of libraries alike, and hold no secret."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from infra import logs
logs.configure("positions", "info", ["canary-in-the-mine", "short"])
log = logs.get("streams.runner")
log.info("state loaded", partitions=[1, 2])
log.debug("not told")
log.error("failed at https://x/?signature=canary-in-the-mine", why="a short word")
logging.getLogger("faust.app").info("not told")
logging.getLogger("faust.app").warning("from %s", "faust")
try:
    raise ValueError("canary-in-the-mine")
except ValueError as e:
    log.critical("ends", exc_info=e)
logging.getLogger("aiokafka").error("several\\nlines")
for n in range(50):
    logging.getLogger("aiokafka").error("cannot connect to %s", n)
"""


def test_every_line_is_an_object_and_secrets_are_masked() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "canary" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "error", "warning", "critical", "error", "error"]
    assert {line["worker"] for line in lines} == {"positions"}
    assert lines[0]["event"] == "state loaded"
    assert lines[0]["partitions"] == [1, 2]
    assert lines[1]["event"] == "failed at https://x/?signature=***"
    assert lines[1]["why"] == "a short word"
    assert (lines[2]["event"], lines[2]["logger"]) == ("from faust", "faust.app")
    assert "ValueError: ***" in lines[3]["exception"]
    assert lines[4]["event"] == "several\nlines"
    assert lines[5]["event"] == "cannot connect to 0"
