"""LangChain against a server, with what it sends by itself: chat, tools, structured output, embeddings."""

import asyncio
import os
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from steps import equal, run_steps, step

URL = os.environ["OPENAI_BASE_URL"]
MESSAGES = [SystemMessage("Set the category."), HumanMessage("Ticket 3: please help me with my delivery.")]


class Label(BaseModel):
    """What a ticket is about."""

    category: Literal["billing", "refund"]
    urgent: bool


@tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def model(**options):
    return ChatOpenAI(base_url=URL, model=os.environ["MODEL"], max_retries=0, **options)


short = model(temperature=0, max_tokens=16)


@step
def plain():
    answer = short.invoke(MESSAGES)
    assert answer.usage_metadata["total_tokens"] > 0, answer.usage_metadata
    equal(answer.response_metadata["model_name"], os.environ["MODEL"])


@step
def streamed():
    equal("".join(chunk.content for chunk in short.stream(MESSAGES)), short.invoke(MESSAGES).content)


@step
def asynchronous():
    async def text():
        return "".join([chunk.content async for chunk in short.astream(MESSAGES)])

    equal(asyncio.run(text()), short.invoke(MESSAGES).content)


@step
def structured_by_schema():
    assert isinstance(model().with_structured_output(Label).invoke(MESSAGES), Label)


@step
def structured_by_function():
    structured = model().with_structured_output(Label, method="function_calling", strict=True)
    assert isinstance(structured.invoke(MESSAGES), Label)


@step
def tool_call_and_result():
    llm = model().bind_tools([weather], tool_choice="any", strict=True)
    answer = llm.invoke(MESSAGES)
    (call, *_) = answer.tool_calls
    equal(call["name"], "weather")
    results = [ToolMessage(weather.invoke(each["args"]), tool_call_id=each["id"]) for each in answer.tool_calls]
    assert isinstance(short.invoke([*MESSAGES, answer, *results]).content, str)


@step
def tool_call_streamed():
    # The schema is closed by `strict`: a random model would fill an open one without end.
    llm = model().bind_tools([weather], tool_choice="weather", strict=True, parallel_tool_calls=False)
    whole = None
    for chunk in llm.stream(MESSAGES):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["args"]["city"] in ("Paris", "Rome"), whole


@step
def tools_beside_a_schema():
    answer = model().bind_tools([weather], strict=True, response_format=Label).invoke(MESSAGES)
    parsed = answer.additional_kwargs.get("parsed")
    assert answer.tool_calls or isinstance(parsed, Label), answer


@step
def embeddings():
    embedder = OpenAIEmbeddings(
        base_url=URL, model=os.environ["EMBEDDING_MODEL"], check_embedding_ctx_length=False, max_retries=0
    )
    found = [*embedder.embed_documents(["the quick fox", "refund"]), embedder.embed_query("refund")]
    equal([len(each) for each in found], [int(os.environ["EMBEDDING_WIDTH"])] * 3)
    # Texts that are embedded together share matrix products, whose sums may then round differently.
    assert max(abs(a - b) for a, b in zip(found[1], found[2])) < 1e-6


@step
def errors():
    try:
        ChatOpenAI(base_url=URL, model="gpt-9", max_retries=0).invoke(MESSAGES)
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found")
    else:
        raise AssertionError("nothing was raised")


run_steps()
