"""Server processes that speak the protocols of S3 and of Google Cloud Storage.

S3 is OpenStack Swift, a real object store, with its S3 interface; Google's is an emulator. Both are
installed into an environment of their own by `make servers`, since they need other versions of
libraries than this project.
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

BIN = Path(os.environ.get("VCSR_SERVERS", "build/servers")).absolute() / "bin"
ACCESS_KEY, SECRET_KEY = "test:tester", "geheim-0815-secret"
_START_SECONDS = 60

_RING_KINDS = ("account", "container", "object")
_BACKEND = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
workers = 0
log_level = ERROR
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = f"""
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {{port}}
swift_dir = {{folder}}
workers = 0
log_level = ERROR
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
paste.filter_factory = dict_cache:filter_factory
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {SECRET_KEY} .admin
[filter:slo]
use = egg:swift#slo
"""

# In the place of memcached: else the proxy asks for account and bucket with each request.
_CACHE = """
class Cache:
    def __init__(self):
        self._items = {}
    def get(self, key, **options):
        return self._items.get(key)
    def set(self, key, value, **options):
        self._items[key] = value
    def delete(self, key, **options):
        self._items.pop(key, None)

def filter_factory(config, **options):
    cache = Cache()
    def middleware(app):
        def call(environ, start_response):
            environ["swift.cache"] = cache
            return app(environ, start_response)
        return call
    return middleware
"""

# One connection at a time would wait for ever: clients keep theirs open.
_THREADED_EMULATOR = """
import http.server
http.server.HTTPServer = http.server.ThreadingHTTPServer
from gcp_storage_emulator.__main__ import main
main()
"""
_MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
for ring in sys.argv[2:]:
    kind, port = ring.split("=")
    builder = RingBuilder(4, 1, 1)
    device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port)}
    builder.add_dev({**device, "device": "d1", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


class Server(NamedTuple):
    """A running store."""

    url: str
    processes: list[subprocess.Popen[bytes]]

    def stop(self) -> None:
        """End."""
        for process in self.processes:
            process.kill()
            process.wait()


def missing_server(program: str) -> str:
    """Why a server cannot be started; empty if it can."""
    if (BIN / program).is_file():
        return ""
    return f"{program} is not installed in {BIN.parent}: make servers"


def start_swift(folder: Path) -> Server:
    """Start Swift with one device; its proxy answers S3 requests."""
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
    )
    ports = free_ports(4)
    rings = [f"{kind}={port}" for kind, port in zip(_RING_KINDS, ports, strict=False)]
    subprocess.run([BIN / "python", "-c", _MAKE_RINGS, str(folder), *rings], check=True)
    for kind, port in zip(_RING_KINDS, ports, strict=False):
        text = _BACKEND.format(kind=kind, port=port, folder=folder)
        (folder / f"{kind}.conf").write_text(text)
    (folder / "dict_cache.py").write_text(_CACHE)
    (folder / "proxy.conf").write_text(_PROXY.format(port=ports[3], folder=folder))
    processes = [
        _start([BIN / f"swift-{kind}-server", folder / f"{kind}.conf"], folder)
        for kind in (*_RING_KINDS, "proxy")
    ]
    server = Server(f"http://127.0.0.1:{ports[3]}", processes)
    _wait_for(server, folder)
    return server


def start_gcs(folder: Path) -> Server:
    """Start the emulator of Google Cloud Storage; it keeps everything in memory."""
    (port,) = free_ports(1)
    command = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    process = _start([BIN / "python", "-c", _THREADED_EMULATOR, *command], folder)
    server = Server(f"http://127.0.0.1:{port}", [process])
    _wait_for(server, folder)
    return server


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _start(command: Sequence[str | Path], folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "SWIFT_CONF_FILE": str(folder / "swift.conf"),
        "PYTHONPATH": str(folder),
    }
    log = (folder / "servers.log").open("ab")
    with log:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _wait_for(server: Server, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(server.url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            assert all(p.poll() is None for p in server.processes), _log(folder)
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"{server.url} does not answer: {_log(folder)}")


def _log(folder: Path) -> str:
    return (folder / "servers.log").read_text()[-2000:]
