# SPDX-License-Identifier: MIT
"""A small HTTP service with one dependency: it tells how long it has been up."""
import http.server
import os
import signal
import sys
import time

import humanize

STARTED = time.monotonic()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        up = humanize.precisedelta(int(time.monotonic() - STARTED))
        body = f"hello from python (up for {up})\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(format % args)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
address = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
server = http.server.ThreadingHTTPServer(address, Handler)
print("listening on http://%s:%d/" % address)
server.serve_forever()
