"""A real OpenBao at https://vault.example:8200 for README's commands, with ca.pem and admin.token beside us."""

from __future__ import annotations

import shutil
from pathlib import Path

from stack.openbao import OpenBao
from stack.processes import private_file
from stack.tls import make_certificates

server = OpenBao(Path("/srv/bao"), port=8200)
server.create()
make_certificates(server.directory, server.account, ("vault.example",))
server.start()
shutil.copy(server.ca_file, "ca.pem")
private_file(Path("admin.token"), server.token_file.read_text())
