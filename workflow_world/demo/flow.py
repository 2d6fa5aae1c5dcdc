"""An order, from the shelf to the door: the workflow that ``workflow-world demo`` runs.

Steps do the work: each may be slow, fail or be cut off, and its outcome is recorded once. The
workflow says what comes after what; it is played again from the record whenever it has to be.
"""

import asyncio
import time
from dataclasses import dataclass

from vercel.workflow import BaseHook, Workflows, get_step_metadata, get_writable, sleep

workflows = Workflows()

PRICES = {"cup": 12, "tea": 8, "lamp": 40}
ROUTE = ["packed", "at the station", "on the train", "on the bicycle", "at the door"]


@dataclass
class Approval(BaseHook):
    approved_by: str


@workflows.step
async def reserve(item: str) -> int:
    """Take an item off the shelf and tell its price. Lamps are at the far end of the store."""
    executed(f"reserve {item}")
    await asyncio.sleep(1.5 if item == "lamp" else 0.05)
    return PRICES[item]


@workflows.step
async def charge(amount: int) -> str:
    """The bank never answers the first time."""
    executed(f"charge {amount}")
    if get_step_metadata().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return f"receipt for {amount}"


@workflows.step
async def deliver(address: str) -> None:
    """Report from the road while it happens."""
    executed(f"deliver to {address}")
    news = get_writable(type=str)
    for place in ROUTE:
        await news.write(place)
        await asyncio.sleep(0.2)
    await news.close()


@workflows.workflow
async def order(number: int, items: list[str], address: str) -> dict[str, str]:
    prices = await asyncio.gather(*[reserve(item) for item in items])
    receipt = await charge(sum(prices))
    await sleep("2s")
    approval = await Approval.wait(token=f"order-{number}")
    await deliver(address)
    return {"receipt": receipt, "approved_by": approval.approved_by, "delivered_to": address}


def executed(what: str) -> None:
    """Leave a line outside the database, which no crash can take back."""
    with open("executed.log", "a") as log:
        log.write(f"{time.time()}\t{get_step_metadata().step_id}\t{what}\n")
