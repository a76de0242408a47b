"""drive - the trampolines: the only code on the path that touches the world.

`run` carries out a program's ops one after another with httpcore, plain calls and threads: right for one command. `arun` does
the same on asyncio: right for fan-out and servers. A sync program that gathers children is handed to `arun`, so there is one
implementation of concurrency and of cancellation. Nothing else in the project exists twice.

Deadlines are total. The sync trampoline arms one interval timer around an op, so a peer that sends a byte every half second, or a
tool that loops, is stopped all the same; off the main thread (no signals there) the work is done by `arun`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent_core.errors import BudgetLimit, CallTimeout, DeadlineError, WaitingError
from agent_core.ops import Gather, Http, Invoke, Outcome, Sleep, Spawn, Tell

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Coroutine
    from concurrent.futures import ThreadPoolExecutor
    from types import FrameType

    from agent_core.events import Event
    from agent_core.ops import Program

Teller = Callable[["Event"], None]

_POOL_THREADS = 64
WRAP_UP = 0.5
_pool: list[ThreadPoolExecutor] = []
_WHY: dict[type, str] = {BudgetLimit: "budget", DeadlineError: "timeout"}
_ASYNC_FUNCTION = 0x80  # inspect.CO_COROUTINE, without importing inspect


class Expired(BaseException):
    """The interval timer rang. Not an Exception, so that no tool swallows it; never leaves this module."""


def run(program: Program, tell: Teller, deadline: float | None = None) -> Any:
    """Drive a program to its value on this thread; `tell` receives every event.

    After the deadline a program that computes without asking for anything is stopped, too: DeadlineError.
    """
    import signal

    try:
        previous = signal.signal(signal.SIGALRM, _ring)
    except ValueError:  # only the main thread may: on another one a loop keeps the time
        return _new_loop(arun(program, tell))
    # A tool may run an agent itself: the time that the tool has goes on.
    left, began = signal.setitimer(signal.ITIMER_REAL, 0)[0], time.monotonic()
    try:
        return _drive(program, tell, alarm=True, deadline=deadline)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if left and previous is _ring:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, left - (time.monotonic() - began)))


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise Expired


def _drive(program: Program, tell: Teller, *, alarm: bool, deadline: float | None = None) -> Any:
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            op = _next(program, value, error, deadline)
            value = error = None
            try:
                value = _perform(op, tell, alarm=alarm)
            except Exception as problem:  # noqa: BLE001 - carried to whoever waits for it
                error = problem
    except StopIteration as stop:
        return stop.value
    finally:
        program.close()


def _next(program: Program, value: Any, error: BaseException | None, deadline: float | None) -> Any:
    """Hand an outcome to the program and return its next op. It has WRAP_UP seconds from the deadline on to come to its end."""
    if deadline is None:
        return program.throw(error) if error is not None else program.send(value)
    import signal

    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.0, deadline - time.monotonic()) + WRAP_UP)
        try:
            return program.throw(error) if error is not None else program.send(value)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Expired:
        raise DeadlineError("the deadline passed", hint="raise --timeout") from None


def _perform(op: Any, tell: Teller, *, alarm: bool) -> Any:
    match op:
        case Tell():
            return tell(op.event)
        case Http():
            from agent_core import http

            return _bounded(lambda: http.send(op), op.deadline, _late_call, alarm=alarm)
        case Invoke():
            return _bounded(lambda: _invoke(op), op.deadline, TimeoutError, alarm=alarm)
        case Sleep():
            return time.sleep(op.seconds)
        case Gather(threads=True) if alarm:
            return _threads(op, tell)
        case Gather() | Spawn():
            return _new_loop(_aperform(op, tell))
    raise TypeError(f"{type(op).__name__} is no op")


def _late_call() -> CallTimeout:
    return CallTimeout("the model did not answer in time", hint="raise --call-timeout or --timeout")


def _bounded(work: Callable[[], Any], deadline: float | None, late: Callable[[], Exception], *, alarm: bool) -> Any:
    """Do the work, or raise `late()` once the deadline is past."""
    if deadline is None:
        return work()
    left = deadline - time.monotonic()
    if left <= 0:
        raise late()
    if not alarm:
        return _on_a_thread(work, left, late)
    import signal

    try:
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Expired:
        raise late() from None


def _on_a_thread(work: Callable[[], Any], seconds: float, late: Callable[[], Exception]) -> Any:
    """Do the work on a thread of its own and leave it behind if it takes too long (a thread cannot be stopped)."""
    import threading

    box: list[Outcome] = []
    thread = threading.Thread(target=lambda: box.append(_outcome(work)), daemon=True)
    thread.start()
    thread.join(seconds)
    if not box:
        raise late()
    if box[0].error is not None:
        raise box[0].error
    return box[0].value


def _outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(work())
    except Exception as error:  # noqa: BLE001 - carried to whoever waits for it
        return Outcome(error=error)


def _invoke(op: Invoke) -> Any:
    if is_async(op.function):
        return _new_loop(op.function(**op.arguments))
    return op.function(**op.arguments)


def is_async(function: Any) -> bool:
    """Return whether calling the function gives a coroutine."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & _ASYNC_FUNCTION)


def _threads(op: Gather, tell: Teller) -> list[Outcome]:
    """Run programs that need no loop (tool calls) on a thread each."""
    import threading

    lock = threading.Lock()
    outcomes: list[Outcome] = [Outcome()] * len(op.programs)

    def locked(event: Event) -> None:
        with lock:
            tell(event)

    def work(index: int, program: Program) -> None:
        outcomes[index] = _outcome(lambda: _drive(program, locked, alarm=False))

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(op.programs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _new_loop(work: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    from agent_core import connections

    async def whole() -> Any:
        try:
            return await work
        finally:
            connections.close()

    return asyncio.run(whole())


# --- asyncio -------------------------------------------------------------------------------------------------------


async def arun(program: Program, tell: Teller) -> Any:
    """Drive a program to its value on the running loop."""
    import asyncio

    mine = asyncio.current_task()
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            op = program.throw(error) if error is not None else program.send(value)
            value = error = None
            if type(op) is Tell:
                tell(op.event)
                continue
            if mine is not None and mine.cancelling():
                raise asyncio.CancelledError  # it was let to hear a program's last words, no more
            try:
                value = await _aperform(op, tell)
            except Exception as problem:  # noqa: BLE001 - carried to whoever waits for it
                error = problem
    except StopIteration as stop:
        return stop.value
    finally:
        program.close()


async def _aperform(op: Any, tell: Teller) -> Any:
    import asyncio

    match op:
        case Tell():
            return tell(op.event)
        case Http():
            from agent_core import connections

            return await connections.send(op, _late_call)
        case Invoke():
            if is_async(op.function):
                return await _within(op.function(**op.arguments), op.deadline, TimeoutError)
            return await _threaded(op)
        case Sleep():
            return await asyncio.sleep(op.seconds)
        case Gather():
            return await _gather(op, tell)
        case Spawn():
            from agent_core import processes

            return await _within(processes.spawn(op), op.deadline, lambda: DeadlineError("the program took too long"))
    raise TypeError(f"{type(op).__name__} is no op")


async def _within(work: Awaitable[Any], deadline: float | None, late: Callable[[], Exception]) -> Any:
    """Await the work, or cancel it and raise `late()` once the deadline is past."""
    if deadline is None:
        return await work
    import asyncio

    scope = asyncio.timeout(deadline - time.monotonic())
    try:
        async with scope:
            return await work
    except TimeoutError:
        if scope.expired():
            raise late() from None
        raise


def _threaded(op: Invoke) -> asyncio.Future[Any]:
    """Call a sync function on a thread of the pool that all runs share; left behind at the deadline (a thread cannot be stopped).

    The pool hands results to the loop itself: run_in_executor's chained futures cost as much as the rest of a step.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    if op.deadline is not None:
        timer = loop.call_at(op.deadline - time.monotonic() + loop.time(), _resolve, future, Outcome(error=TimeoutError()))
        future.add_done_callback(lambda _: timer.cancel())

    def work() -> None:
        outcome = _outcome(lambda: op.function(**op.arguments))
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, future, outcome)

    _executor().submit(work)
    return future


def _resolve(future: asyncio.Future[Any], outcome: Outcome) -> None:
    if future.done():
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)


def _executor() -> ThreadPoolExecutor:
    if not _pool:
        from concurrent.futures import ThreadPoolExecutor

        _pool.append(ThreadPoolExecutor(_POOL_THREADS, "tool"))
    return _pool[0]


class _Race:
    """The outcomes of gathered programs, and when they are enough, or can no longer be. `reason`: why the rest is stopped."""

    def __init__(self, total: int, enough: int | None) -> None:
        import asyncio

        self.over = asyncio.Event()
        self.reason = ""
        self._outcomes: list[Outcome | None] = [None] * total
        self._enough = enough
        self._needed = total if enough is None else enough
        self._good = self._failed = 0

    def settle(self, index: int, outcome: Outcome) -> None:
        """Take one outcome. What was stopped because it is over stays cancelled, whatever it made of that."""
        if self.reason:
            return
        self._outcomes[index] = outcome
        # Who waits for a person has not failed: the others go on, and only then does the run park.
        self._failed += outcome.error is not None and not isinstance(outcome.error, WaitingError)
        self._good += outcome.error is None
        if self._failed > len(self._outcomes) - self._needed:
            self.reason = _WHY.get(type(outcome.error), "failed_dependency")
        elif self._enough is not None and self._good >= self._needed:
            self.reason = "enough"
        if self.reason:
            self.over.set()

    def outcomes(self) -> list[Outcome]:
        """Return what became of each."""
        return [Outcome(cancelled=self.reason or "parent") if outcome is None else outcome for outcome in self._outcomes]


async def _gather(op: Gather, tell: Teller) -> list[Outcome]:
    """Run the programs as tasks; stop when `enough` succeeded or when that has become impossible; cancel and await the rest."""
    import asyncio

    race = _Race(len(op.programs), op.enough)
    gate = asyncio.Semaphore(op.limit) if op.limit else None

    async def one(index: int, program: Program) -> None:
        if gate is None:
            race.settle(index, await _settled(program, tell))
            return
        async with gate:
            if not race.over.is_set():
                race.settle(index, await _settled(program, tell))

    tasks = [asyncio.create_task(one(*pair)) for pair in enumerate(op.programs)]
    watcher = asyncio.create_task(race.over.wait())
    everyone: asyncio.Future[Any] = asyncio.gather(*tasks)
    try:
        both: list[asyncio.Future[Any]] = [everyone, watcher]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, watcher):
            task.cancel(race.reason)  # heard by `processes`
        await asyncio.gather(*tasks, watcher, return_exceptions=True)
        if everyone.done() and not everyone.cancelled():
            everyone.exception()  # the children's cancellation; nobody else asks for it, and asyncio would say so on stderr
    return race.outcomes()


async def _settled(program: Program, tell: Teller) -> Outcome:
    try:
        return Outcome(await arun(program, tell))
    except Exception as error:  # noqa: BLE001 - carried to whoever waits for it
        return Outcome(error=error)
