"""A PostgreSQL server of the tests' own: on the loopback interface, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Proxy", "Server", "free_port", "proxy", "server"]

_PLACES = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")


@dataclass
class Server:
    """A running server. port: on 127.0.0.1."""

    binaries: Path
    data: Path
    port: int
    user: str = "tester"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new empty database; its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, database)
        return self.url(database)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300"
        self._run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", str(self.data / "log"), "-o", options, "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*_as_nobody(), str(self.binaries / program), *arguments], capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")


def _binaries() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    for pattern in _PLACES:
        places += sorted(Path("/").glob(pattern.lstrip("/")))
    if not places:
        raise RuntimeError(
            "PostgreSQL is not installed, and these tests run a server of their own. "
            "Install it: apt-get install postgresql (Debian, Ubuntu), brew install postgresql (macOS)."
        )
    return places[-1]


def _as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root: then as another user."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A new cluster, running; without a password, for this machine alone."""
    folder = Path(tempfile.mkdtemp(prefix="autoprompt-postgres-"))  # not one of pytest's, which others cannot enter
    data = folder / "cluster"
    data.mkdir()
    if os.geteuid() == 0:
        folder.chmod(0o711)
        shutil.chown(data, "nobody", "nogroup")
    started = Server(_binaries(), data, free_port())
    started._run("initdb", "-D", str(data), "-U", started.user, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    started.start()
    try:
        yield started
    finally:
        with contextlib.suppress(RuntimeError):
            started.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Proxy:
    """A running gRPC proxy."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"


@contextlib.contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Optuna's gRPC proxy in front of a database, in a process of its own."""
    port = free_port()
    code = f"from autoprompt.study import serve_proxy; serve_proxy({url!r}, port={port})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until = time.monotonic() + 90
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the proxy did not start")
            time.sleep(0.1)
        yield Proxy(process, port)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
