"""LlamaIndex against a server, with what it sends by itself: fine-tuning, chat, tools, structured output, embeddings."""

import os
import time
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.finetuning import OpenAIFinetuneEngine
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel
from steps import equal, run_steps, step

URL = os.environ["OPENAI_BASE_URL"]
MESSAGES = [
    ChatMessage(role="system", content="Set the category."),
    ChatMessage(role="user", content="Ticket 3: please help me with my delivery."),
]


class Label(BaseModel):
    """What a ticket is about."""

    category: Literal["billing", "refund"]
    urgent: bool


def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def model(**options):
    return OpenAI(model=os.environ["MODEL"], api_base=URL, max_retries=0, **options)


short = model(temperature=0, max_tokens=16)


@step
def fine_tuning():
    # Its own check of the file would fetch a tokenizer from the internet.
    engine = OpenAIFinetuneEngine("gpt-4o-mini-2024-07-18", os.environ["TRAINING_FILE"], validate_json=False)
    engine.finetune()
    while engine.get_current_job().status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.05)
    tuned = engine.get_finetuned_model(api_base=URL, max_tokens=4)
    assert tuned.model.startswith("ft:gpt-4o-mini-2024-07-18:"), tuned.model
    equal(tuned.chat(MESSAGES).raw.model, tuned.model)


@step
def plain():
    equal(short.chat(MESSAGES).raw.model, os.environ["MODEL"])


@step
def streamed():
    text = "".join(chunk.delta or "" for chunk in short.stream_chat(MESSAGES))
    equal(text, short.chat(MESSAGES).message.content or "")


@step
def completion():
    assert isinstance(short.complete("Hello").text, str)


@step
def tool_call():
    # The schema is closed by `strict`: a random model would fill an open one without end.
    llm = model(strict=True)
    tool = FunctionTool.from_defaults(weather)
    answer = llm.chat_with_tools([tool], chat_history=MESSAGES, tool_required=True)
    (call, *_) = llm.get_tool_calls_from_response(answer)
    equal(call.tool_name, "weather")
    assert call.tool_kwargs["city"] in ("Paris", "Rome"), call


@step
def structured():
    assert isinstance(model(strict=True).structured_predict(Label, PromptTemplate("Hello")), Label)


@step
def embeddings():
    embedder = OpenAIEmbedding(api_base=URL, model=os.environ["EMBEDDING_MODEL"], max_retries=0)
    found = [*embedder.get_text_embedding_batch(["the quick fox", "refund"]), embedder.get_query_embedding("refund")]
    equal([len(each) for each in found], [int(os.environ["EMBEDDING_WIDTH"])] * 3)


run_steps()
