# SPDX-License-Identifier: Apache-2.0
import time
from email.utils import parsedate_to_datetime

from gunicorn import util

from api_server import worker
from api_server.dates import http_date


def test_a_date_is_spelled_as_http_has_it():
    assert http_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_without_a_time_it_is_now():
    before = int(time.time())
    assert before <= parsedate_to_datetime(http_date()).timestamp() <= time.time()


def test_answers_have_it():
    assert worker.ApiWorker
    assert util.http_date is http_date
