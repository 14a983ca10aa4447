# SPDX-License-Identifier: Apache-2.0
"""What a service and the manager that started it tell each other: systemd's protocols.

They are a few environment variables and datagrams (sd_notify(3), sd_listen_fds(3)), so no
library of its is needed. A process that nobody supervises finds nothing and tells nobody.
"""
