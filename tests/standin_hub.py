"""A small Hugging Face Hub on loopback, for tests: real HTTP, real client, files of a folder.

Folders are ``<root>/datasets/<namespace>/<name>/<branch>/…`` and ``<root>/models/…`` alike; a
branch may hold slashes (``refs/convert/parquet``). Its commit is a hash of names and bytes, and
every commit ever asked for stays readable, as on the Hub. Answers follow what huggingface_hub 2.4
asks and what the Hub says (status, ``X-Error-Code``, ``ETag``, ``X-Repo-Commit``); no xet.

    with StandinHub(tmp_path) as hub:
        hub.put("glue/tiny", {"cola/train-00000-of-00001.parquet": data})
        hub.fault("500", "/api/datasets", times=2)
        HfApi(endpoint=hub.url).dataset_info("glue/tiny")
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".safetensors", ".bin", ".arrow")  # what repositories keep in Git LFS

ERRORS = {
    "repository": (401, "RepoNotFound", "Invalid username or password."),
    "revision": (404, "RevisionNotFound", "Invalid rev id"),
    "entry": (404, "EntryNotFound", "Entry not found"),
    "gated": (401, "GatedRepo", "Access to this dataset is restricted. You must have access to it"),
    "token": (401, "", "Invalid credentials in Authorization header"),
    "404": (404, "EntryNotFound", "Entry not found"),
    "429": (429, "", "Too many requests"),
    "500": (500, "", "Internal error"),
}
#: What the word "secret" stands in must not be seen by anyone.
SIGNED = "?X-Amz-Signature=s3cret&Expires=99"
#: Answers of what is no Hub, or is broken: status, headers, body.
ODD: dict[str, tuple[int, dict[str, str], bytes]] = {
    "html": (200, {"Content-Type": "text/html"}, b"<html><form>Log in</form></html>"),
    "empty": (200, {}, b""),
    "list": (200, {"Content-Type": "application/json"}, b"[]"),
    "null": (200, {"Content-Type": "application/json"}, b"null"),
    "other json": (200, {"Content-Type": "application/json"}, b'{"id": 3, "sha": ["x"]}'),
    "no utf-8": (200, {"Content-Type": "application/json"}, b'{"id": "\xff"}'),
    "loop": (302, {"Location": "/SAME"}, b""),
    "absolute loop": (302, {"Location": "URL/SAME" + SIGNED}, b""),
    "nowhere": (302, {"Location": "http://127.0.0.1:9/x" + SIGNED}, b""),
    "no scheme": (302, {"Location": "gopher://x" + SIGNED}, b""),
    "no address": (302, {"Location": "http://[::1" + SIGNED}, b""),
    "forbidden": (403, {"Content-Type": "text/plain"}, b"no"),
    "teapot": (418, {}, b""),
    "bad length": (200, {"Content-Length": "many"}, b"x"),
    "longer": (200, {"Content-Length": "99"}, b"x"),
    "shorter": (200, {"Content-Length": "1"}, b"{}" * 9),
    "no gzip": (200, {"Content-Encoding": "gzip"}, b"x"),
    "no such status": (700, {}, b""),
}


@dataclass
class Fault:
    """What goes wrong with requests whose path holds ``where``, ``times`` more times.

    ``kind``: a key of ``ERRORS``; "cut" (half of the file, then end of stream), "reset" (half,
    then a TCP reset) or "truncate" (half, with headers that say this is all); one of ``ODD``;
    "drip" (a byte every 4 ms) or "drip head" (the headers as well).
    """

    kind: str
    where: str
    times: int
    method: str
    retry_after: int


class StandinHub:
    """Serve ``root`` until the ``with`` block ends; ``url`` is the endpoint."""

    def __init__(self, root: Path) -> None:
        self.root, self.faults, self.requests = Path(root), [], []
        self._commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> StandinHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(
        self,
        repository: str,
        files: dict[str, bytes],
        *,
        kind: str = "datasets",
        branch: str = "main",
    ) -> str:
        """Write files to a branch and return its new commit."""
        folder = self.root / kind / repository / branch
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return self.commit(f"{kind}/{repository}", branch)[0]

    def fault(
        self, kind: str, where: str = "", *, times: int = 1, method: str = "", retry_after: int = 0
    ) -> None:
        """Let the next ``times`` requests whose path holds ``where`` fail."""
        self.faults.append(Fault(kind, where, times, method, retry_after))

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counted down."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.where in path and fault.method in ("", method):
                    fault.times -= 1
                    return fault
        return None

    def commit(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit and files of a branch or of an earlier commit; KeyError names what lacks."""
        folder = self.root / repository
        if ".." in repository.split("/") or not folder.is_dir():
            raise KeyError("repository")
        if (repository, revision) in self._commits:
            return revision, self._commits[repository, revision]
        branch = folder / revision
        if ".." in revision.split("/") or not branch.is_dir():
            raise KeyError("revision")
        paths = sorted(p for p in branch.rglob("*") if p.is_file())
        files = {p.relative_to(branch).as_posix(): p.read_bytes() for p in paths}
        sums = [f"{name} {hashlib.sha1(data).hexdigest()}" for name, data in files.items()]
        sha = hashlib.sha1("\n".join(sums).encode()).hexdigest()
        self._commits[repository, sha] = files
        return sha, files


class _Handler(BaseHTTPRequestHandler):
    hub: StandinHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Keep the output of the tests clean."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode()) if length else {}
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append((self.command, path))
        fault = self.hub.take_fault(self.command, path)
        if fault and fault.kind in ERRORS:
            return self._fail(fault.kind, fault.retry_after)
        if fault and fault.kind in ODD:
            status, headers, body = ODD[fault.kind]
            same = {"URL": self.hub.url, "/SAME": url.path}
            for word, value in same.items():
                headers = {k: v.replace(word, value) for k, v in headers.items()}
            self.close_connection = True
            return self._send(status, body, {"Content-Length": str(len(body)), **headers})
        try:
            # Segments are split before unquoting, since a revision may hold quoted slashes.
            self._route([unquote(s) for s in url.path.split("/")[1:]], url.query, form, fault)
        except KeyError as missing:
            self._fail(missing.args[0])

    def _route(self, parts: list[str], query: str, form: dict, fault: Fault | None) -> None:
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        kind = parts.pop(0) if parts[0] in ("datasets", "models") else "models"
        verbs = ("revision", "tree", "paths-info") if api else ("resolve",)
        at = next((i for i, part in enumerate(parts) if part in verbs), len(parts))
        verb, revision, *rest = [*parts[at:], "", "main"][:2] + parts[at + 2 :]
        if not verb:
            revision = "main"
        sha, files = self.hub.commit("/".join([kind, *parts[:at]]), revision)
        rest = "/".join(rest)
        if not api:
            self._file(sha, files, rest, fault)
        elif verb == "tree":
            self._json(_tree(files, rest, "recursive=true" in query.lower()))
        elif verb == "paths-info":
            self._json([_entry(n, files[n]) for n in form.get("paths", []) if n in files])
        else:
            self._json(_info("/".join(parts[:at]), sha, files), fault)

    def _file(self, sha: str, files: dict[str, bytes], name: str, fault: Fault | None) -> None:
        if name not in files:
            raise KeyError("entry")
        data, kind = files[name], fault.kind if fault else ""
        if kind == "truncate":
            data = data[: len(data) // 2]
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        low = int(span[1]) if span else 0
        high = int(span[2]) + 1 if span and span[2] else len(data)
        head = {"ETag": f'"{_etag(name, files[name])}"', "X-Repo-Commit": sha}
        head |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if span:
            head["Content-Range"] = f"bytes {low}-{high - 1}/{len(data)}"
        self._send(206 if span else 200, data[low:high], head, cut=kind)

    def _json(self, value: object, fault: Fault | None = None) -> None:
        head = {"Content-Type": "application/json"}
        self._send(200, json.dumps(value).encode(), head, cut=fault.kind if fault else "")

    def _fail(self, kind: str, retry_after: int = 0) -> None:
        status, code, message = ERRORS[kind]
        head = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "text/plain"}
        if kind == "429":
            head["Retry-After"] = str(retry_after)
        self._send(status, message.encode(), {k: v for k, v in head.items() if v})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: str = "") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        if cut == "drip head":
            self._drip(b"".join(self._headers_buffer))
            self._headers_buffer = []
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut in ("drip", "drip head"):
            return self._drip(body)
        if cut not in ("cut", "reset"):
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.close_connection = True
        if cut == "reset":  # linger of 0 s: close() sends RST instead of FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _drip(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # whoever reads may have had enough
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.004)


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _etag(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else _git(data)


def _entry(name: str, data: bytes) -> dict:
    entry = {"type": "file", "path": name, "size": len(data), "oid": _git(data)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": _etag(name, data), "size": len(data), "pointerSize": 134}
    return entry


def _tree(files: dict[str, bytes], under: str, recursive: bool) -> list[dict]:
    start = f"{under}/" if under else ""
    inside = [name for name in files if name.startswith(start)]
    if not inside:
        raise KeyError("entry")
    depths = {name: name.removeprefix(start).split("/") for name in inside}
    folders = {start + "/".join(p[:i]) for p in depths.values() for i in range(1, len(p))}
    found = [
        {"type": "directory", "path": f, "oid": _git(f.encode()), "size": 0}
        for f in sorted(folders)
        if recursive or "/" not in f.removeprefix(start)
    ]
    return found + [_entry(n, files[n]) for n in inside if recursive or len(depths[n]) == 1]


def _info(repository: str, sha: str, files: dict[str, bytes]) -> dict:
    siblings = []
    for name, data in files.items():
        entry = _entry(name, data)
        sibling = {"rfilename": name, "size": len(data), "blobId": entry["oid"]}
        if lfs := entry.get("lfs"):
            sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 134}
        siblings.append(sibling)
    said = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
    when = "2024-01-01T00:00:00.000Z"
    return {
        "id": repository,
        "sha": sha,
        "siblings": siblings,
        "lastModified": when,
        "tags": [],
        **said,
    }
