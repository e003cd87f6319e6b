"""Hands the sockets of asyncio's clients to the daemon: python3 front.py [PORT [SOCKET]]

Whoever owns a client's socket can hand it over. Here the request has been read, and who asks is known; what follows is
the daemon's answer, and this program is done with the client.
"""

import asyncio
import json
import os
import socket
import sys

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8001
DAEMON = sys.argv[2] if len(sys.argv) > 2 else "/run/streaming-daemon-ts/daemon.sock"


def hand_over(client: socket.socket, data: dict) -> None:
    """One message with the client's descriptor and the data: see docs/apache-php.md for its fields."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
        daemon.settimeout(0.3)
        daemon.connect(DAEMON)
        socket.send_fds(daemon, [json.dumps(data).encode()], [client.fileno()])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        path = head.decode(errors="replace").split(" ", 2)[1]
        # Authenticate here. The transport must have nothing left to write, and is closed without a shutdown(2).
        hand_over(writer.get_extra_info("socket"), {"prompt": path, "user_id": os.getuid()})
    except (OSError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
