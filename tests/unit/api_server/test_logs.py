# SPDX-License-Identifier: Apache-2.0
import json
import logging

import pytest

from api_server.log_lines import LogFormat
from api_server.logs import StructuredFormatter
from api_server.request_ids import made


def _record(message="said", **extra):
    return logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": message, **extra})


def test_a_line_of_logfmt():
    record = _record(
        "boots %d", args=(2,), created=0.0, process=7, fields={"vm": "a b", "no": None}
    )
    line = StructuredFormatter(LogFormat.LOGFMT).format(record)
    expected = 'time=1970-01-01T00:00:00.000Z level=info logger=n pid=7 message="boots 2" vm="a b"'
    assert line == expected


def test_a_line_of_json():
    record = _record("\udcff\n", created=0.0, process=7, fields={"status": 204, "no": None})
    line = StructuredFormatter(LogFormat.JSON).format(record)
    assert line.isascii()
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "n",
        "pid": 7,
        "message": "\udcff\n",
        "status": 204,
    }


def test_what_is_logged_for_a_request_has_its_id():
    formatter = StructuredFormatter(LogFormat.JSON)
    with made() as request_id:
        assert json.loads(formatter.format(_record()))["request_id"] == request_id
    assert "request_id" not in json.loads(formatter.format(_record()))


@pytest.mark.parametrize("form", LogFormat)
def test_a_traceback_is_within_its_line(form):
    try:
        {}["lost"]
    except KeyError as ex:
        record = _record(exc_info=(type(ex), ex, ex.__traceback__))
    line = StructuredFormatter(form).format(record)
    assert "KeyError: 'lost'" in line
    assert "\n" not in line
