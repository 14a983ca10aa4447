# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, made from the routes, the messages and the tables of errors.

``python -m api_server.specification`` writes what is made of them into the source tree, from
where it is served; a server loads nothing of this but ``served``.
"""
