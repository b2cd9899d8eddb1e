"""The images of Dockerfile.postgres: the stack in containers, and a client container that reads a protected table."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.docker import SERVER_IMAGE, DockerStack

containers = pytest.importorskip("testcontainers.core.container", reason="testcontainers is not installed")

ROOT = Path(__file__).resolve().parents[3]
SHOWN = "SELECT email FROM person ORDER BY id"


def engine_runs() -> bool:
    """Asked by the command that the stack uses, too."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def docker_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerStack]:
    """PostgreSQL, OpenBao and broker in containers, from images built of this tree."""
    if not engine_runs():
        pytest.skip("no Docker engine runs here that we may use")
    built = subprocess.run([ROOT / "deploy/docker.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    stack = DockerStack(tmp_path_factory.mktemp("docker") / "stack")
    stack.up()
    try:
        yield stack
    finally:
        stack.down()


def in_client(stack: DockerStack, user: str, password: str, statement: str) -> tuple[int, str]:
    """Exit code and output of psql in a container of its own, in the stack's network."""
    client = (
        containers.DockerContainer(SERVER_IMAGE)
        .with_env("PGPASSWORD", password)
        .with_kwargs(network_mode=f"container:{stack.prefix}-openbao", entrypoint="")
        .with_command(["sleep", "60"])
    )
    with client:
        command = ["psql", "-XAt", "-h", "127.0.0.1", "-U", user, "-d", "app", "-c", statement]
        code, output = client.exec(command)
    return int(code), output.decode()


def test_a_table_protected_in_containers_reads_from_another_container(docker_stack: DockerStack) -> None:
    with docker_stack.connect() as connection:
        connection.execute("CREATE TABLE person (id int PRIMARY KEY, email text)")
        connection.execute("INSERT INTO person VALUES (1, 'a@b.c'), (2, 'd@e.f')")
        connection.execute("""CALL envelope.protect('person', '["email"]')""")
        for role in ("reader", "stranger"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'only for this test'")
        connection.execute("GRANT SELECT ON person TO reader")
        stored = connection.execute("SELECT email FROM person_encrypted").fetchall()
        not_ok = connection.execute("SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok'").fetchall()
    assert all(value.startswith(b"\xe1\x01") for (value,) in stored)
    assert not_ok == []
    assert in_client(docker_stack, "reader", "only for this test", SHOWN) == (0, "a@b.c\nd@e.f\n")
    code, output = in_client(docker_stack, "stranger", "only for this test", SHOWN)
    assert code != 0
    assert "permission denied" in output


def test_it_comes_back_after_a_restart_and_an_unseal(docker_stack: DockerStack) -> None:
    docker_stack.openbao.seal()
    docker_stack.up()
    assert not docker_stack.openbao.sealed
    with docker_stack.connect() as connection:
        connection.execute("SELECT envelope.flush('test')")
        assert connection.execute(SHOWN).fetchall() == [("a@b.c",), ("d@e.f",)]
