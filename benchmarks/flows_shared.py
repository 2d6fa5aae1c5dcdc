"""The sequence once more, in sandboxes that replays share. See ``flows``."""

from vercel.workflow import SandboxPolicy, Workflows

workflows = Workflows(namespace="shared", sandbox_policy=SandboxPolicy(share_sandboxes=True))


@workflows.step
async def double(number: int) -> int:
    return 2 * number


@workflows.workflow
async def in_sequence(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    return total
