"""What gunicorn reads from this folder by itself, however it is started."""

import socket
import struct

READ_TIMEOUT_S = 5
"""How long a connection may stay silent in the middle of a request: a few slow ones must not hold every thread."""


def when_ready(server):
    """Give the limit to the listening sockets; accepted connections inherit it from them (Linux, socket(7))."""
    for listener in server.LISTENERS:
        limit = struct.pack("ll", READ_TIMEOUT_S, 0)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
