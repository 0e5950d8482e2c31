"""A reactor on somebody else's loop leaves nothing of its own behind when its last user goes."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from trishula.runtime.loops import LoopReactor


def test_a_socket_that_comes_after_a_reactor_is_watched_like_any_other() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        LoopReactor.of(loop).hold()()
        # The reactor goes in the next turn.
        await asyncio.sleep(0)
        # The kernel gives the descriptors of the reactor's waker to the next sockets.
        ends = [end for _ in range(4) for end in socket.socketpair()]
        try:
            for end in ends:
                end.setblocking(False)
            for one, other in (*zip(ends[::2], ends[1::2], strict=True), *zip(ends[1::2], ends[::2], strict=True)):
                heard = asyncio.ensure_future(loop.sock_recv(one, 1))
                # It waits before there is anything.
                await asyncio.sleep(0)
                await loop.sock_sendall(other, b"x")
                assert await asyncio.wait_for(heard, 20) == b"x"
                loop.add_writer(one, int)
                loop.remove_writer(one)
        finally:
            for end in ends:
                end.close()

    # The tests' own loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result()
