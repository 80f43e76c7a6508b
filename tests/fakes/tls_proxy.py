"""TLS in front of a plain server on loopback, for one whose own TLS ends connections without close_notify (Werkzeug's).

python -m tests.fakes.tls_proxy PORT BEHIND CERTIFICATE KEY
"""

import asyncio
import contextlib
import ssl
import sys


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


async def serve(port: int, behind: int, context: ssl.SSLContext) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(answer, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(*sys.argv[3:5])
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), offered))
