"""A small W&B server on loopback, for tests: it takes runs and artifacts and keeps what was sent.

It answers what wandb 0.31 asks of GraphQL and of its two ways to send files, and nothing more.

    with StandinWandb() as server:
        os.environ["WANDB_BASE_URL"] = server.url
        …
        server.runs["my-id"]["summary"], server.artifacts, server.requests
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandinWandb:
    """Serve until the ``with`` block ends; ``url`` is what WANDB_BASE_URL wants.

    ``runs``: by id the variables that the run was announced with, and its ``history``, ``summary``
    and ``events`` (system metrics). ``artifacts``: by name what was announced of each.
    ``files``: what was put, by the last part of its name.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"wandb": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.handle_error = lambda *_: None  # wandb hangs up in the middle of things
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> StandinWandb:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of one GraphQL operation."""
        given = given.get("input", given)
        if name == "UpsertBucket":
            run = self.runs.setdefault(given["name"], {"history": {}, "summary": {}, "events": []})
            run |= {key: value for key, value in given.items() if value is not None}
            project = {"id": "p", "name": given["project"]}
            project["entity"] = {"id": "e", "name": given["entity"] or "me"}
            bucket = {"id": "b", "name": given["name"], "displayName": given["displayName"]}
            bucket |= {"config": "{}", "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateArtifact":
            self.artifacts[given["artifactCollectionName"]] = given
            artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"id": "s"}}
            return {"createArtifact": {"artifact": artifact}}
        if name == "CreateArtifactManifest":
            upload = self.upload("manifest.json")
            manifest = {"id": "m", "file": {"id": "f", **upload, "displayName": "manifest.json"}}
            return {"createArtifactManifest": {"artifactManifest": manifest}}
        if name == "CreateArtifactFiles":
            names = [spec["name"] for spec in given["artifactFiles"]]
            about = {"id": "f", "artifact": {"id": "a"}}
            nodes = [
                {**about, **dict.fromkeys(("name", "displayName", "storagePath"), name), **put}
                for name in names
                if (put := self.upload(name))
            ]
            edges = [{"node": node} for node in nodes]
            return {"createArtifactFiles": {"files": {"edges": edges}}}
        if name == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        if name == "CreateRunFiles":
            files = [{"name": n, "uploadUrl": self.upload(n)["uploadUrl"]} for n in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return _FIXED.get(name, {})

    def upload(self, name: str) -> dict[str, Any]:
        """Where a file is to be put."""
        return {"uploadUrl": f"{self.url}/put/{name}", "uploadHeaders": []}

    def stream(self, id: str, files: dict[str, Any]) -> None:
        """Take what a run sends while it goes."""
        run = self.runs[id]
        for name, sent in files.items():
            rows = [
                json.loads(line) for line in sent["content"] if name.endswith((".jsonl", ".json"))
            ]
            if name == "wandb-history.jsonl":
                run["history"] |= {row["_step"]: row for row in rows}
            elif name == "wandb-events.jsonl":
                run["events"] += rows
            elif name == "wandb-summary.json":
                run["summary"] |= rows[-1]


_FIXED = {
    "Viewer": {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}",
                          "teams": {"edges": []}}},
    "ArtifactType": {"project": {"artifact": None}},
    "ArtifactByID": {"artifact": {
        "__typename": "Artifact", "id": "a", "versionIndex": 0, "artifactType": {"name": "model"},
        "artifactSequence": {
            "__typename": "ArtifactSequence", "id": "s", "name": "a",
            "project": {"id": "p", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ==",
                        "name": "muppet-dag", "entity": {"id": "e", "name": "me"}},
        },
        "description": None, "metadata": "{}", "ttlDurationSeconds": -2, "ttlIsInherited": True,
        "tags": [], "historyStep": None, "state": "COMMITTED", "size": 1, "digest": "d",
        "commitHash": None, "fileCount": 1, "createdAt": "2024-01-01T00:00:00", "updatedAt": None,
    }},
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    wandb: StandinWandb
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Keep the output of the tests clean."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.wandb.requests.append(f"{self.command} {self.path}")
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            name = asked.get("operationName") or re.search(r"\w+ (\w+)", asked["query"])[1]
            self.wandb.requests[-1] += f" {name}"
            answer = {"data": self.wandb.answer(name, asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.wandb.stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
        elif self.path.startswith("/put/"):
            self.wandb.files[self.path.removeprefix("/put/")] = body
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST
