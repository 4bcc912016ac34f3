"""The official Python client against a server: the same code at each major, from the upload to the deletion, and every error
class. Address, key and the rest come through the environment; the steps build on each other."""

import asyncio
import base64
import json
import os
import time

import openai
from steps import equal, run_steps, step

MODEL = "gpt-4o-mini-2024-07-18"
MESSAGES = [
    {"role": "system", "content": "Set the category."},
    {"role": "user", "content": "Ticket 3: please help me with my delivery."},
]
PARAMETERS = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "refund"]}, "urgent": {"type": "boolean"}},
    "required": ["category", "urgent"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "label", "strict": True, "parameters": PARAMETERS}}
HYPERPARAMETERS = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 100}

# Address and key are read from the environment.
client = openai.OpenAI(max_retries=0)
made = {}


def ask(**options):
    return client.chat.completions.create(**{"model": made["model"], "messages": MESSAGES, **options})


def is_label(text):
    label = json.loads(text)
    assert label["category"] in ("billing", "refund") and isinstance(label["urgent"], bool), text


def poll(retrieve, ended):
    while True:
        found = retrieve()
        if found.status in ended:
            return found
        time.sleep(0.05)


@step
def upload():
    with open(os.environ["TRAINING_FILE"], "rb") as file:
        made["file"] = client.files.create(file=file, purpose="fine-tune").id
    equal(client.files.wait_for_processing(made["file"], poll_interval=0.01).status, "processed")
    equal(client.files.retrieve(made["file"]).filename, "train.jsonl")


@step
def job():
    created = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=made["file"],
        suffix="client",
        method={"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
    )
    ended = poll(lambda: client.fine_tuning.jobs.retrieve(created.id), ("succeeded", "failed", "cancelled"))
    equal((ended.status, ended.error), ("succeeded", None))
    assert ended.fine_tuned_model.startswith(f"ft:{MODEL}:personal:client:"), ended.fine_tuned_model
    made["job"], made["model"] = ended, ended.fine_tuned_model
    equal(next(iter(client.fine_tuning.jobs.list(limit=1))).id, ended.id)


@step
def events():
    messages = [event.message for event in client.fine_tuning.jobs.list_events(made["job"].id, limit=3)]
    equal(messages[0], "The job has successfully completed")
    equal(messages[-1], f"Created fine-tuning job: {made['job'].id}")
    equal(len([message for message in messages if message.startswith("Step ")]), 6)


@step
def checkpoints():
    found = client.fine_tuning.jobs.checkpoints.list(made["job"].id).data
    equal([each.step_number for each in found], [6, 3])
    equal(found[0].fine_tuned_model_checkpoint, made["model"])


@step
def result_file():
    text = base64.b64decode(client.files.content(made["job"].result_files[0]).text).decode()
    assert text.startswith("step,train_loss,"), text


@step
def models():
    names = [model.id for model in client.models.list()]
    assert made["model"] in names and MODEL in names, names
    equal(client.models.retrieve(made["model"]).id, made["model"])


@step
def chat_plain_and_streamed():
    options = {"temperature": 0, "max_tokens": 16}
    completion = ask(**options)
    equal(completion.model, made["model"])
    assert completion._request_id.startswith("req_")
    text, usages = "", []
    for chunk in ask(**options, stream=True, stream_options={"include_usage": True}):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usages += [chunk.usage] if chunk.usage else []
    equal(text, completion.choices[0].message.content)
    equal(usages, [completion.usage])


@step
def asynchronous_chat():
    async def both():
        async with openai.AsyncOpenAI(max_retries=0) as asynchronous:
            options = {"model": made["model"], "messages": MESSAGES, "temperature": 0, "max_tokens": 16}
            whole = await asynchronous.chat.completions.create(**options)
            stream = await asynchronous.chat.completions.create(**options, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return whole.choices[0].message.content, text

    whole, text = asyncio.run(both())
    equal(text, whole)


@step
def tools():
    choice = ask(tools=[TOOL], tool_choice="required", parallel_tool_calls=False).choices[0]
    (call,) = choice.message.tool_calls
    equal((choice.finish_reason, call.function.name), ("tool_calls", "label"))
    is_label(call.function.arguments)
    answer = client.chat.completions.create(
        model=made["model"],
        messages=[*MESSAGES, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "done"}],
        max_tokens=4,
    )
    equal(len(answer.choices), 1)


@step
def tools_streamed():
    arguments = ""
    for chunk in ask(tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            arguments += call.function.arguments
    is_label(arguments)


@step
def json_schema():
    form = {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": PARAMETERS}}
    is_label(ask(response_format=form).choices[0].message.content)


@step
def parsed_into_a_class():
    from typing import Literal

    from pydantic import BaseModel

    class Label(BaseModel):
        category: Literal["billing", "refund"]
        urgent: bool

    completions = getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse
    parsed = completions(model=made["model"], messages=MESSAGES, response_format=Label).choices[0].message.parsed
    assert isinstance(parsed, Label), parsed


@step
def batch():
    body = {"model": made["model"], "messages": MESSAGES, "max_tokens": 4}
    lines = [
        json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}) for name in "ab"
    ]
    file = client.files.create(file=("batch.jsonl", "\n".join(lines).encode()), purpose="batch")
    created = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    ended = poll(lambda: client.batches.retrieve(created.id), ("completed", "failed", "expired", "cancelled"))
    equal((ended.status, ended.request_counts.completed, ended.request_counts.failed), ("completed", 2, 0))
    answers = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    equal(sorted(answer["custom_id"] for answer in answers), ["a", "b"])
    equal([answer["response"]["status_code"] for answer in answers], [200, 200])


@step
def embeddings():
    options = {"model": os.environ["EMBEDDING_MODEL"], "input": ["the quick fox", "refund"]}
    packed = client.embeddings.create(**options)
    plain = client.embeddings.create(**options, encoding_format="float")
    equal([len(each.embedding) for each in plain.data], [int(os.environ["EMBEDDING_WIDTH"])] * 2)
    # The client unpacks base64 as float32, JSON as float64.
    for one, other in zip(packed.data, plain.data):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-6


def raises(error_class, request, status=None, code=None):
    try:
        request()
    except openai.APIError as error:
        equal(type(error), error_class)
        if status is not None:
            equal(error.status_code, status)
            assert error.request_id, "no request id"
        if code is not None:
            equal(error.code, code)
        return
    raise AssertionError("nothing was raised")


def with_key(key, **options):
    return openai.OpenAI(api_key=key, max_retries=0, **options)


@step
def bad_request():
    raises(openai.BadRequestError, lambda: ask(extra_body={"unheard_of": 1}), 400, "unknown_parameter")


@step
def authentication():
    wrong = with_key("sk-wrong-0123456789-abcdefgh")
    raises(openai.AuthenticationError, lambda: wrong.models.list(), 401, "invalid_api_key")


@step
def permission_denied():
    reader = with_key(os.environ["READER_KEY"])
    request = lambda: reader.chat.completions.create(model=made["model"], messages=MESSAGES)
    raises(openai.PermissionDeniedError, request, 403)


@step
def not_found():
    raises(openai.NotFoundError, lambda: ask(model="gpt-9"), 404, "model_not_found")


@step
def conflict():
    url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/tunesmith/projects"
    body = {"id": "proj_clients", "name": "clients"}
    request = lambda: client.post(url, cast_to=object, body=body)
    try:
        request()
    except openai.ConflictError:
        pass
    raises(openai.ConflictError, request, 409)


@step
def rate_limit():
    limited = with_key(os.environ["LIMITED_KEY"])
    limited.models.list()
    raises(openai.RateLimitError, lambda: limited.models.list(), 429, "rate_limit_exceeded")


@step
def internal_server():
    raises(openai.InternalServerError, lambda: ask(model=os.environ["UNREACHABLE_MODEL"]), 503)


@step
def connection():
    nobody = openai.OpenAI(base_url="http://127.0.0.1:1/v1", max_retries=0)
    raises(openai.APIConnectionError, lambda: nobody.models.list())


@step
def timeout():
    hurried = client.with_options(timeout=0.001)
    request = lambda: hurried.chat.completions.create(model=made["model"], messages=MESSAGES, n=8, max_tokens=200)
    raises(openai.APITimeoutError, request)


@step
def delete():
    equal(client.models.delete(made["model"]).deleted, True)
    equal(client.files.delete(made["file"]).deleted, True)
    raises(openai.NotFoundError, lambda: client.models.retrieve(made["model"]), 404)
    raises(openai.NotFoundError, lambda: client.files.retrieve(made["file"]), 404)


run_steps()
