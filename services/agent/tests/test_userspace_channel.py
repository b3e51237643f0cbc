"""The connection to the userspace daemon, against a server that answers in an order of its own."""

import asyncio
from pathlib import Path

from warren_agent.drivers.userspace.channel import connect
from warren_ikev2.daemon import messages


async def test_commands_that_overlap_get_their_own_answers_in_whatever_order_they_come(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        numbers = [messages.parse(await reader.readline())[0] for _ in range(3)]
        for number in (numbers[1], numbers[0], numbers[2]):
            writer.write(messages.build(number, messages.Done(f"answer to {number}")))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "daemon.sock"))
    async with server:
        channel = await connect(tmp_path / "daemon.sock")
        listening = asyncio.create_task(channel.listen(lambda report: None))
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(channel.call(messages.List()) for _ in range(3)))
        assert answers == ["answer to 1", "answer to 2", "answer to 3"]
        channel.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
