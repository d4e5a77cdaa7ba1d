"""The host behind the server: echoes what is posted to it over HTTP, and says in a header from where it came."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8080


class Echo(BaseHTTPRequestHandler):
    """Answers with the body of the question."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Seen-As", self.client_address[0].removeprefix("::ffff:"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Listens on IPv6, and so on IPv4 too (ipv6(7), IPV6_V6ONLY)."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("::", PORT))
        self.server_name, self.server_port = "behind", PORT


if __name__ == "__main__":
    Server(("::", PORT), Echo).serve_forever()
