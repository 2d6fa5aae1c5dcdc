"""An event loop on virtual time whose seeded scheduler picks what runs next.

Every callback belongs to a strand: the event loop or one of the threads of a simulated process.
Which strand goes next is drawn; within one the order is that of asyncio, or drawn too. Time moves
a little with each step, and jumps to the next timer when nothing is ready.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any

from .processes import MAIN, OUTSIDE, Crash, Process, Stuck, Task, here, unwind, within


class SimulatedLoop(asyncio.AbstractEventLoop):
    """``errors`` are what no task of a living process handled.

    Args:
        shuffled: callbacks of one strand are taken in any order.
        step_s: the time that each step takes.
        kept: how many lines of the trace to keep; all of them are in ``trace``'s hash.
    """

    def __init__(
        self, random: Random, *, shuffled: bool, step_s: float, max_steps: int, kept: int | None
    ) -> None:
        self._random, self._shuffled, self._step_s = random, shuffled, step_s
        self._max_steps = max_steps
        self._strands: dict[tuple[Process, str], deque[events.Handle]] = {}
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self._now, self._numbers, self.steps = 0.0, 0, 0
        self._running = self._closed = False
        self._hash = blake2b(digest_size=16)
        self.lines: deque[str] = deque(maxlen=kept)
        self.errors: list[str] = []
        self._processes: dict[Process, None] = {}
        self._dying: list[Process] = []

    # --- running -------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Until ``main`` ends. Raises: what it raised; Stuck."""
        hooks = sys.get_asyncgen_hooks()
        # An abandoned generator would otherwise end at a time that the collector chooses.
        sys.set_asyncgen_hooks(finalizer=lambda generator: None)
        events._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._running = False
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def kill(self, process: Process) -> None:
        """The process ends here: nothing of it runs again. After this step its tasks are unwound,
        for what the kernel would close; they cannot reach the database any more."""
        if not process.alive:
            return
        process.alive = False
        self.note(f"kill {process.name}")
        for strand in [key for key in self._strands if key[0] is process]:
            del self._strands[strand]
        self._dying.append(process)

    def note(self, text: str) -> None:
        """A line of the trace: two runs of one seed have the same lines."""
        line = f"{self.steps} {self._now:.4f} {text}"
        self._hash.update(line.encode())
        self.lines.append(line)

    @property
    def trace(self) -> str:
        return self._hash.hexdigest()

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._max_steps:
            raise Stuck(f"no end after {self._max_steps} steps")
        self._now += self._step_s
        self._fall_due()
        while not (ready := self._ready()):
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            if not self._timers:
                raise Stuck("nothing is ready and no timer is set")
            self._now = max(self._now, self._timers[0][0])
            self._fall_due()
        key = ready[self._random.randrange(len(ready))] if len(ready) > 1 else ready[0]
        queue = self._strands[key]
        place = self._random.randrange(len(queue)) if self._shuffled and len(queue) > 1 else 0
        handle = queue[place]
        del queue[place]
        if handle.cancelled():
            return
        self.note(f"{key[0].name}/{key[1]} {_label(handle)}")
        handle._run()
        while self._dying:
            process = self._dying.pop()
            for task in process.tasks:
                unwind(task)
            process.tasks.clear()
            for action in process.at_end:
                action()

    def _ready(self) -> list[tuple[Process, str]]:
        return [key for key, queue in self._strands.items() if queue and key[0].runs(key[1])]

    def _fall_due(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            _, _, handle = heapq.heappop(self._timers)
            handle._scheduled = False
            if not handle.cancelled():
                self._add(handle)

    def _add(self, handle: events.Handle) -> None:
        key = handle._context.get(here, (OUTSIDE, MAIN))
        if key[0].alive:
            queue = self._strands.get(key)
            if queue is None:
                queue = self._strands[key] = deque()
            queue.append(handle)

    # --- what asyncio asks for -----------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = events.Handle(callback, args, self, context)
        if not self._closed:
            self._add(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        process, _ = here.get()
        return self.call_soon(callback, *args, context=context or within(process))

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        handle = events.TimerHandle(when, callback, args, self, context)
        handle._scheduled = True
        if not self._closed:
            self._numbers += 1
            heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def _timer_handle_cancelled(self, handle: object) -> None:
        """It is thrown away when it falls due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> Any:
        self._numbers += 1
        context = options.pop("context", None) or copy_context()
        process, _ = context.get(here, (OUTSIDE, MAIN))
        task = Task(coro, loop=self, number=self._numbers, context=context, **options)
        if len(process.tasks) > 200:
            process.tasks = [one for one in process.tasks if not one.done()]
        process.tasks.append(task)
        self._processes[process] = None
        return task

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> Any:
        future, (process, _) = self.create_future(), here.get()

        def answer(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            result, raised = None, None
            try:
                result = func(*args)
            except Exception as error:
                raised = error
            self.call_soon_threadsafe(answer, result, raised)

        self.call_soon(work, context=within(process, "executor"))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        owner = context.get("task") or context.get("future")
        process = owner.within.get(here, (OUTSIDE, MAIN))[0] if isinstance(owner, Task) else OUTSIDE
        if self._closed or isinstance(error, Crash) or not process.alive:
            return
        self.errors.append(f"{process.name}: {context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Nothing is scheduled any more; what is left of any task is unwound."""
        self._closed = True
        for process in self._processes:
            for task in process.tasks:
                unwind(task)
            process.tasks.clear()
        self._strands.clear()
        self._timers.clear()


def _label(handle: events.Handle) -> str:
    callback: Any = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, Task):
        return f"task {owner.number} {owner.get_coro().__qualname__}"
    while isinstance(callback, partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", type(callback).__name__))
