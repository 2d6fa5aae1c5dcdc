"""A workflow in a module of its own: the script, the application and a worker all import it."""

import asyncio

from vercel.workflow import Workflows, sleep

workflows = Workflows()


@workflows.step
async def greet(name: str, language: str) -> str:
    hello = {"en": "Hello", "de": "Guten Tag", "fr": "Bonjour"}[language]
    return f"{hello}, {name}!"


@workflows.workflow
async def greet_in_all_languages(name: str) -> list[str]:
    greetings = await asyncio.gather(*[greet(name, language) for language in ("en", "de", "fr")])
    await sleep("1s")
    return greetings
