"""LiteLLM against a server, with what it sends by itself: fine-tuning, chat, tools, structured output, embeddings, errors."""

import asyncio
import json
import os
import time
from typing import Literal

import litellm
from pydantic import BaseModel
from steps import equal, run_steps, step

litellm.suppress_debug_info = True

URL = os.environ["OPENAI_BASE_URL"]
MESSAGES = [
    {"role": "system", "content": "Set the category."},
    {"role": "user", "content": "Ticket 3: please help me with my delivery."},
]
SHORT = {"temperature": 0, "max_tokens": 16}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Label(BaseModel):
    """What a ticket is about."""

    category: Literal["billing", "refund"]
    urgent: bool


def ask(model=os.environ["MODEL"], **options):
    return litellm.completion(
        model=f"openai/{model}", messages=MESSAGES, api_base=URL, num_retries=0, max_retries=0, **options
    )


@step
def plain():
    answer = ask(**SHORT)
    equal(answer.model, os.environ["MODEL"])
    assert answer.usage.total_tokens > 0, answer.usage


@step
def streamed():
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(**SHORT, stream=True))
    equal(text, ask(**SHORT).choices[0].message.content or "")


@step
def asynchronous():
    request = litellm.acompletion(model=f"openai/{os.environ['MODEL']}", messages=MESSAGES, api_base=URL, **SHORT)
    equal(asyncio.run(request).choices[0].message.content, ask(**SHORT).choices[0].message.content)


@step
def tool_call():
    tools = [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": PARAMETERS}}]
    choice = ask(tools=tools, tool_choice="required", parallel_tool_calls=False).choices[0]
    (call,) = choice.message.tool_calls
    equal((choice.finish_reason, call.function.name), ("tool_calls", "weather"))
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), call


@step
def structured():
    Label.model_validate_json(ask(response_format=Label).choices[0].message.content)


@step
def embeddings():
    found = litellm.embedding(
        model=f"openai/{os.environ['EMBEDDING_MODEL']}", input=["the quick fox", "refund"], api_base=URL
    )
    equal([len(each["embedding"]) for each in found.data], [int(os.environ["EMBEDDING_WIDTH"])] * 2)


@step
def fine_tuning():
    options = {"custom_llm_provider": "openai", "api_base": URL}
    with open(os.environ["TRAINING_FILE"], "rb") as training_file:
        file = litellm.create_file(file=training_file, purpose="fine-tune", **options)
    job = litellm.create_fine_tuning_job(model="gpt-4o-mini-2024-07-18", training_file=file.id, **options)
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.05)
        job = litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **options)
    equal(job.status, "succeeded")
    equal(ask(model=job.fine_tuned_model, max_tokens=4).model, job.fine_tuned_model)


@step
def errors():
    for error_class, options in (
        (litellm.NotFoundError, {"model": "gpt-9"}),
        (litellm.AuthenticationError, {"api_key": "sk-wrong-0123456789-abcdefgh"}),
        (litellm.BadRequestError, {"extra_body": {"unheard_of": 1}}),
    ):
        try:
            ask(**options)
        except Exception as error:
            equal(type(error), error_class)
        else:
            raise AssertionError(f"{error_class.__name__} was not raised")


run_steps()
