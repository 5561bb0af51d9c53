#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A registry on the loopback with one image: registry.py LAYOUT NAME:TAG

LAYOUT is an OCI layout's directory. Prints the port that was taken, then serves until it is ended.
"""
import http.server
import json
import os
import sys

layout, (name, tag) = sys.argv[1], sys.argv[2].split(":")
with open(os.path.join(layout, "index.json")) as f:
    manifest = json.load(f)["manifests"][0]


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        folder, _, last = self.path.rpartition("/")
        media, digest = "application/octet-stream", last
        if self.path == "/v2/":
            digest = None
        elif folder == f"/v2/{name}/manifests":
            media, digest = manifest["mediaType"], manifest["digest"] if last == tag else last
        elif folder != f"/v2/{name}/blobs":
            digest = "sha256:none"
        path = os.path.join(layout, "blobs/sha256", os.path.basename(digest or "")[7:])
        if digest and not os.path.isfile(path):
            self.send_error(404)
            return
        data = b"{}"
        if digest:
            with open(path, "rb") as blob:
                data = blob.read()
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(data)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
