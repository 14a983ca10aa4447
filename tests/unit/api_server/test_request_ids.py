# SPDX-License-Identifier: Apache-2.0
import re

import falcon
import falcon.testing
import pytest

from api_server.request_ids import HEADER, RequestIds, current_id


class _Resource:
    """Answers with the id that its thread has."""

    def on_get(self, _req, resp):
        resp.text = current_id()


@pytest.fixture
def client():
    app = falcon.App(middleware=[RequestIds()])
    app.add_route("/", _Resource())
    return falcon.testing.TestClient(app)


@pytest.mark.parametrize("given", ["a", "A.b_c:d-9", "x" * 128])
def test_an_id_is_taken(client, given):
    response = client.simulate_get("/", headers={HEADER: given})
    assert response.headers[HEADER] == response.text == given
    assert current_id() == ""


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a=b", 'a"', "é", "a,b", "a/b"])
def test_what_is_no_id_is_replaced(client, given):
    headers = {} if given is None else {HEADER: given}
    first, second = (client.simulate_get("/", headers=headers) for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{16}", first.text)
    assert first.headers[HEADER] == first.text != second.text


def test_an_answer_that_is_an_error_has_it_too(client):
    response = client.simulate_get("/nowhere", headers={HEADER: "mine"})
    assert (response.status_code, response.headers[HEADER]) == (404, "mine")
    assert current_id() == ""
