"""a2a_server - an agent behind the official A2A server (PyPI: a2a-sdk), for tests: python a2a_server.py MODE [DELAY] prints its address.

It answers `MODE: TEXT` with what it was told, the first time after DELAY seconds, and writes every request's headers as a JSON line on
stdout. MODE is task, fail, or message. It speaks 1.0; with `0.3` as a third word the older protocol as well.
"""

import asyncio
import json
import socket
import sys

import uvicorn
from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette


class Shop(AgentExecutor):
    """Answers with what it was told."""

    def __init__(self, mode, delay):
        self.mode, self.delay = mode, delay

    async def execute(self, context, event_queue):
        said = f"{self.mode}: {context.get_user_input()}"
        if self.mode == "message":
            await event_queue.enqueue_event(new_text_message(said))
            return
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        delay, self.delay = self.delay, 0
        await asyncio.sleep(delay)
        if self.mode == "fail":
            await updater.failed(updater.new_agent_message([new_text_part("no stock")]))
            return
        await updater.add_artifact([new_text_part(said)], name="answer")
        await updater.complete()

    async def cancel(self, context, event_queue):
        raise NotImplementedError


async def watched(scope, receive, send, app):
    """Tell of every request, then serve it."""
    if scope["type"] == "http":
        print(json.dumps({name.decode(): value.decode() for name, value in scope["headers"]}), flush=True)
    await app(scope, receive, send)


def main():
    given = sys.argv[1:]
    mode, delay, version = (*given, *("task", "0", "1.0")[len(given) :])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/shop"
    card = AgentCard(
        name="shop", description="sells", version="1", skills=[AgentSkill(id="sell", name="sell", description="sells", tags=["shop"])],
        default_input_modes=["text"], default_output_modes=["text"], capabilities=AgentCapabilities(),
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
    )  # fmt: skip
    handler = DefaultRequestHandler(Shop(mode, float(delay)), InMemoryTaskStore(), card)
    app = Starlette(routes=create_jsonrpc_routes(handler, "/shop", enable_v0_3_compat=version == "0.3"))
    print(url, flush=True)
    server = uvicorn.Server(
        uvicorn.Config(lambda *given: watched(*given, app), log_level="error", interface="asgi3", lifespan="off")
    )
    server.run([listener])


if __name__ == "__main__":
    main()
