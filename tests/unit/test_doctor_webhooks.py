"""The doctor on callbacks: what makes every receiver refuse them is a problem before the first is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from langgraph_runtime_holdfast.deployment import Deployment
from langgraph_runtime_holdfast.doctor.project import check_webhooks

MANIFEST = {
    "webhooks": {
        "headers": {"authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"},
        "url": {"allowed_domains": ["callbacks"], "require_https": False},
    }
}


@pytest.mark.parametrize(("token", "is_problem"), [("", True), ("  ", True), ("a-token-of-the-tests", False)])
def test_an_empty_token_is_told(token: str, is_problem: bool) -> None:
    deployment = Deployment(Path("langgraph.json"), MANIFEST, {"LG_WEBHOOK_TOKEN": token}, ())
    told = [each.says for each in check_webhooks(deployment) if "LG_WEBHOOK_TOKEN" in each.says]
    assert told == (["LG_WEBHOOK_TOKEN is not set: receivers refuse every callback"] if is_problem else [])
