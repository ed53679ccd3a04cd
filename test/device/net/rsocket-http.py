"""Python's http.server over rsockets: run under LD_PRELOAD=librspreload.so.

CPython opens sockets with SOCK_CLOEXEC and takes connections with accept4(2); librspreload.so takes over neither
(librdmacm/preload.c), so here they are opened and accepted by the plain calls, which it does take over.
"""

import ctypes
import http.server
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)


def checked(fd):
    if fd < 0:
        raise OSError(ctypes.get_errno(), "rsocket")
    return fd


class Socket(socket.socket):
    def __init__(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0, fileno=None):
        fd = checked(libc.socket(family, type, proto)) if fileno is None else fileno
        super().__init__(family, type, proto, fileno=fd)

    def accept(self):
        address = (ctypes.c_uint8 * 16)()
        length = ctypes.c_uint32(16)
        fd = checked(libc.accept(self.fileno(), address, ctypes.byref(length)))
        port = int.from_bytes(bytes(address[2:4]), "big")
        return Socket(fileno=fd), (socket.inet_ntoa(bytes(address[4:8])), port)


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=sys.argv[3])


socket.socket = Socket
with http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler) as server:
    print("listening", flush=True)
    server.serve_forever()
