"""A hub on this machine: the few endpoints that an upload calls, and a record of what they were sent."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_written-nowhere-1234567890"


@dataclass
class Hub:
    """What was received."""

    url: str = ""
    tokens: dict[str, set[str | None]] = field(default_factory=dict)
    """The Authorization headers by path, of all requests but uploads, which have signed addresses."""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """The newest content by name."""
    objects: dict[str, bytes] = field(default_factory=dict)
    role: str = "write"

    def environment(self) -> dict[str, str]:
        """What makes a command use this hub."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A running hub that lets in whoever brings ``TOKEN``."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def allowed(self) -> bool:
            hub.tokens.setdefault(self.path, set()).add(self.headers["Authorization"])
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                return True
            self.answer(401, {"error": "Invalid credentials"})
            return False

        def do_GET(self) -> None:
            if self.allowed():
                assert self.path == "/api/whoami-v2", self.path
                self.answer(200, {"name": "me", "type": "user", "auth": {"accessToken": {"role": hub.role}}})

        def do_PUT(self) -> None:
            data = self.body()
            hub.objects[hashlib.sha256(data).hexdigest()] = data
            self.answer(200, {})

        def do_POST(self) -> None:
            sent = self.body()
            if not self.allowed():
                return
            if self.path == "/api/repos/create":
                wanted = json.loads(sent)
                name = f"{wanted['organization']}/{wanted['name']}"
                known = name in hub.repositories
                hub.repositories.setdefault(name, wanted)
                self.answer(409 if known else 200, {"url": f"{hub.url}/{name}"})
            elif self.path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = json.loads(sent)["files"]
                self.answer(200, {"files": [mode(file) for file in files]})
            elif self.path.endswith(".git/info/lfs/objects/batch"):
                objects = json.loads(sent)["objects"]
                self.answer(200, {"transfer": "basic", "objects": [place(one) for one in objects]})
            else:
                name, _, revision = self.path.removeprefix("/api/models/").partition("/commit/")
                assert name in hub.repositories, self.path
                assert revision == "main"
                commit(sent)
                self.answer(200, {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1", "success": True})

    def mode(file: dict[str, Any]) -> dict[str, Any]:
        name = file["path"]
        kind = "lfs" if name.endswith(".safetensors") else "regular"
        return {"path": name, "uploadMode": kind, "shouldIgnore": False}

    def place(one: dict[str, Any]) -> dict[str, Any]:
        if one["oid"] in hub.objects:
            return one
        return one | {"actions": {"upload": {"href": f"{hub.url}/upload/{one['oid']}", "header": {}}}}

    def commit(sent: bytes) -> None:
        lines = [json.loads(line) for line in sent.splitlines()]
        hub.commits.append(lines[0]["value"] | {"paths": [line["value"]["path"] for line in lines[1:]]})
        for line in lines[1:]:
            value = line["value"]
            content = hub.objects[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            hub.files[value["path"]] = content

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()
