"""Vectors of texts: the three wires byte by byte, hostile answers, and vendors' own clients as judges of the fake API."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from agent_core.choose import embedder as chosen
from agent_core.config import load
from agent_core.effects import Ask
from agent_core.errors import BadReply, ConfigError, RateLimited, UsageError
from agent_core.journal import reply_from_json, reply_to_json
from agent_core.messages import user
from agent_core.ops import Response
from agent_providers import embeddings, resolve

ENV = {"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k", "MISTRAL_API_KEY": "k", "AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/openai",
       "AZURE_OPENAI_API_VERSION": "2024-10-21"}  # fmt: skip
TEXTS = Ask((user("one"), user("two")))


def made(name, **env):
    return embeddings.embedder(resolve(name, None, {**ENV, **env}))


def request(name, ask=TEXTS, **env):
    provider = made(name, **env)
    found = provider.codec.encode(ask, provider)
    return found.url, dict(found.headers), json.loads(found.body)


def answer(name, data, status=200):
    provider = made(name)
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return provider.codec.decode(Response(status, {}, body), provider)


def test_openai_is_asked_at_its_embeddings_address_with_the_headers_of_its_chat():
    url, headers, body = request("openai:text-embedding-3-small")

    assert url == "https://api.openai.com/v1/embeddings"
    assert headers["authorization"] == "Bearer k"
    assert body == {"model": "text-embedding-3-small", "input": ["one", "two"]}
    assert request("openai-responses:m")[0] == "https://api.openai.com/v1/embeddings"
    assert request("mistral:mistral-embed")[0] == "https://api.mistral.ai/v1/embeddings"


def test_azure_is_asked_at_its_deployment_with_its_version():
    url, headers, _ = request("azure:mine")

    assert url == "https://x.openai.azure.com/openai/deployments/mine/embeddings?api-version=2024-10-21"
    assert headers["api-key"] == "k"


def test_ollama_and_gemini_are_asked_as_they_want_it():
    url, _, body = request("ollama:nomic-embed-text", OLLAMA_HOST="http://127.0.0.1:9")
    assert (url, body) == ("http://127.0.0.1:9/api/embed", {"model": "nomic-embed-text", "input": ["one", "two"]})

    url, headers, body = request("gemini:gemini-embedding-001")
    assert url == "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert headers["x-goog-api-key"] == "k"
    row = {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "two"}]}}
    assert body["requests"][1] == row


def test_a_text_is_cut_and_an_empty_one_is_a_space_since_services_refuse_nothing():
    _, _, body = request("openai:m", Ask((user("x" * 10_000), user(""))))

    assert [len(text) for text in body["input"]] == [embeddings.LONGEST, 1]


def test_vectors_come_in_the_order_of_the_texts_with_length_one_and_what_they_cost():
    rows = [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3.0, 4.0]}]
    reply = answer("openai:text-embedding-3-small", {"data": rows, "model": "m-1", "usage": {"prompt_tokens": 5}})
    one, two = embeddings.vectors(reply, 2)

    assert [round(each, 6) for each in one] == [0.6, 0.8]
    assert list(two) == [0.0, 1.0]
    assert (reply.text, reply.model, reply.usage.input_tokens, reply.usage.output_tokens) == ("2 vectors of 2 numbers", "m-1", 5, 0)
    assert (made("openai:text-embedding-3-small").price.input, made("openai:text-embedding-3-small").price.output) == ("0.02", "0")
    assert made("openai:unheard-of").price.input is None
    assert embeddings.vectors(reply_from_json(json.loads(json.dumps(reply_to_json(reply)))), 2) == [one, two]  # cache, replay


def test_ollamas_and_geminis_answers_are_read():
    assert len(embeddings.vectors(answer("ollama:m", {"embeddings": [[1, 0], [0, 1]], "prompt_eval_count": 3}), 2)) == 2
    reply = answer("gemini:m", {"embeddings": [{"values": [1, 0]}]})
    assert (len(embeddings.vectors(reply, 1)), reply.usage.input_tokens) == (1, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}x", {"data": [{"embedding": "AAAA"}]}, {"data": [{"embedding": [1, "2"]}]}, {"data": [{"embedding": [True, 1]}]},
     {"data": [{"embedding": []}]}, {"data": [{"embedding": [0, 0]}]}, b'{"data": [{"embedding": [NaN]}]}',
     {"data": [{"embedding": [10**400]}]}, {"data": "x"}, {"data": [3]}, {"error": {"message": "no"}}, {"data": [{"embedding": [1.0] * 20_000}]}],
)  # fmt: skip
def test_an_answer_that_holds_no_vectors_is_a_bad_reply(body):
    with pytest.raises(BadReply):
        answer("openai:m", body)


def test_too_few_vectors_or_of_different_lengths_are_a_bad_reply():
    reply = answer("openai:m", {"data": [{"embedding": [1]}]})
    for bad, count in ((reply, 2), (replace(reply, message=user("x")), 1), (answer("ollama:m", {"embeddings": [[1, 0], [1]]}), 2)):
        with pytest.raises(BadReply):
            embeddings.vectors(bad, count)


def test_a_refusal_is_the_kind_of_error_it_is_for_a_chat():
    with pytest.raises(RateLimited):
        answer("openai:m", {"error": {"message": "slow down", "type": "rate_limit"}}, 429)


def test_a_service_without_embeddings_a_name_without_a_model_and_no_name_are_usage_errors(monkeypatch):
    settings = load({"provider": "offline"})
    for name in ("anthropic/claude", "offline/x", "scripted/x", "cohere/embed-v4", "openai", "opnai/x"):
        with pytest.raises(UsageError):
            chosen(name, settings)
    with pytest.raises(ConfigError):
        chosen("openai/m", settings)


def test_the_base_url_is_that_of_the_model_that_answers_unless_it_is_the_same_service(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    here = {"base_url": "http://127.0.0.1:9/v1"}

    assert chosen("openai/m", load({"provider": "openai", **here})).base_url == "http://127.0.0.1:9/v1"
    assert chosen("openai/m", load({"provider": "groq", **here})).base_url == "https://api.openai.com/v1"


# --- judges


def test_openais_own_client_reads_the_fake_apis_vectors(fake_api):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=f"{fake_api.url}/v1", max_retries=0)
    found = client.embeddings.create(model="m-16d", input=["memory safety", "ownership"], encoding_format="float")

    assert [len(row.embedding) for row in sorted(found.data, key=lambda row: row.index)] == [16, 16]
    assert found.usage.prompt_tokens == 7


def test_ollamas_and_geminis_own_clients_read_the_fake_apis_vectors(fake_api):
    ollama = pytest.importorskip("ollama")
    assert len(ollama.Client(host=fake_api.url).embed(model="m-16d", input=["a", "b"]).embeddings) == 2
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="k", vertexai=False, http_options={"base_url": fake_api.url})
    found = client.models.embed_content(model="m-16d", contents=["memory safety", "tea"])
    assert [math.hypot(*row.values) > 0 for row in found.embeddings] == [True, True]
