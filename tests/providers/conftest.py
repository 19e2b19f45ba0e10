"""The fake providers, and real servers whose agents know nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.engines import Services, running_holdfast_server
from tests.providers import anthropic_fake, openai_fake
from tests.providers.answers import obeys
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake
from tests.providers.server import served

GRAPHS = Path(__file__).parent / "graphs"


@pytest.fixture(scope="session")
def openai() -> Iterator[tuple[OpenAIFake, str]]:
    """OpenAI and its address."""
    fake = OpenAIFake()
    with served(fake.app) as url:
        yield fake, url


@pytest.fixture(scope="session")
def anthropic() -> Iterator[tuple[AnthropicFake, str]]:
    """Anthropic and its address."""
    fake = AnthropicFake()
    with served(fake.app) as url:
        yield fake, url


@pytest.fixture(autouse=True)
def as_found(openai: tuple[OpenAIFake, str], anthropic: tuple[AnthropicFake, str]) -> Iterator[None]:
    """Leave the providers, which other tests share, as they were."""
    yield
    for fake in (openai[0], anthropic[0]):
        fake.mind = obeys
        for kept in (fake.requests, fake.refused, fake.faults, fake.asked_at):
            kept.clear()


@pytest.fixture(scope="session")
def model_variables(openai: tuple[OpenAIFake, str], anthropic: tuple[AnthropicFake, str]) -> dict[str, str]:
    """What leads the real clients to the fakes."""
    return {
        "OPENAI_API_KEY": openai_fake.KEY,
        "OPENAI_BASE_URL": f"{openai[1]}/v1",
        "ANTHROPIC_API_KEY": anthropic_fake.KEY,
        "ANTHROPIC_BASE_URL": anthropic[1],
    }


@pytest.fixture(scope="session")
def server_urls(
    services: Services, model_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Both kinds of server, with the small agents of `graphs/` and the project's own."""
    with both_servers(services, model_variables, tmp_path_factory, GRAPHS) as urls:
        yield urls


@contextlib.contextmanager
def both_servers(
    services: Services,
    variables: dict[str, str],
    homes: pytest.TempPathFactory,
    graphs: Path,
    prefix: str = "",
) -> Iterator[dict[str, str]]:
    """Two servers: one at its default setting, where jobs share a loop, and one where they do not."""
    settings = {"shared": {}, "isolated": {"BG_JOB_ISOLATED_LOOPS": "true"}}

    def started(name: str) -> contextlib.AbstractContextManager[str]:
        return running_holdfast_server(
            homes.mktemp(prefix + name),
            services,
            services.make_database(prefix + name),
            graphs=graphs,
            **variables,
            **settings[name],
        )

    with contextlib.ExitStack() as held, ThreadPoolExecutor() as threads:
        # At once: most of a start is importing.
        starts = {name: threads.submit(held.enter_context, started(name)) for name in settings}
        yield {name: start.result() for name, start in starts.items()}
