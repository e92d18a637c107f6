"""The OpenAI SDK for Python as a client of Weir, with each platform simulated in its own dialect behind it.

Why the real SDK: it is what callers have, and its helpers break on liberties that a hand-written client forgives. Why
every platform answers the same: the simulated ones share one mind, so a difference between two is a mistake of ours.
tests/sdk/run starts everything and says where it is in the environment; a word as argument runs the cases that hold it."""

import base64
import json
import os
import re
import signal
import sys
import time
import traceback
import urllib.request

import openai
from pydantic import BaseModel

try:
    import httpx2 as httpx  # what version 3 stands on
except ImportError:
    import httpx

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from configure import HERE, key_of  # noqa: E402

PLATFORMS = json.loads((HERE / "platforms.json").read_text())
URL, FAILS, FAKE = os.environ["WEIR_URL"], os.environ["WEIR_FAILS_URL"], os.environ["WEIR_FAKE"]
TOKEN, SLOW, POOR = os.environ["WEIR_TOKEN"], os.environ["WEIR_SLOW_TOKEN"], os.environ["WEIR_POOR_TOKEN"]
# An image of one pixel.
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAA"
         "BJRU5ErkJggg==")
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                   "additionalProperties": False}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "description": "The time.",
                                          "parameters": {"type": "object", "properties": {}}}}
THOUGHT = "Let me think about this first."


class Counting(httpx.BaseTransport):
    """Counts what really goes out: the SDK's own retries too."""

    def __init__(self):
        self.inner, self.sent = httpx.HTTPTransport(), []

    def handle_request(self, request):
        self.sent.append((time.monotonic(), request))
        return self.inner.handle_request(request)


def client(token=TOKEN, url=URL, **more):
    return openai.OpenAI(api_key=token, base_url=url, **{"max_retries": 0, "timeout": 30, **more})


def counted(token=TOKEN, url=URL, **more):
    transport = Counting()
    made = client(token, url, http_client=httpx.Client(transport=transport, timeout=30), **more)
    return made, transport.sent


WEIR = client()
BROKEN = client(url=FAILS)


def words(text):
    return len(re.findall(r"[^\W_]+", text))


def user(text):
    return [{"role": "user", "content": text}]


def fake(path, data=None):
    with urllib.request.urlopen(FAKE + "/_fake/" + path, data=data, timeout=10) as answer:
        return json.load(answer)


def books(platform, key):
    return fake("counters")["platforms"].get(platform, {}).get(key, {})


def until(what, within, told=""):
    """Waits for `what` to be true, at most `within` seconds. How long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within, f"not within {within} s {told}"
        time.sleep(0.01)
    return time.monotonic() - began


def same(found, wanted, told=""):
    assert found == wanted, f"{told} found {found!r}, wanted {wanted!r}"


def fails(kind, ask):
    """The error that `ask` ends in, which is exactly of `kind`."""
    try:
        found = ask()
    except openai.OpenAIError as error:
        assert type(error) is kind, f"found {type(error).__name__} ({error}), wanted {kind.__name__}"
        return error
    raise AssertionError(f"no error: {found!r}")


class Told:
    """A stream, put together by hand, with OpenAI's rules checked on the way."""

    def __init__(self, chunks, model=None, usage_wanted=False):
        self.text, self.thinking, self.calls, self.finish, self.usage, self.logprobs = {}, {}, {}, {}, None, []
        self.roles, self.ids, self.count = {}, set(), 0
        for chunk in chunks:
            self.count += 1
            self.ids.add(chunk.id)
            same(chunk.object, "chat.completion.chunk")
            assert model is None or chunk.model == model, chunk.model
            assert self.usage is None, f"a chunk after the one with usage: {chunk!r}"
            if chunk.usage is not None:
                assert usage_wanted and chunk.choices == [], f"usage where none was asked for: {chunk!r}"
                self.usage = chunk.usage
                continue
            assert chunk.choices, f"a chunk without a choice: {chunk!r}"
            for choice in chunk.choices:
                self.take(choice)
        same(len(self.ids), 1, "ids")
        assert not usage_wanted or self.usage is not None, "no usage"
        for index, calls in self.calls.items():
            same(sorted(calls), list(range(len(calls))), "indices of calls")

    def take(self, choice):
        index, delta = choice.index, choice.delta
        assert index not in self.finish, "something after the finish"
        if delta.role is not None:
            same(delta.role, "assistant")
            assert index not in self.roles, "the role came twice"
        self.roles.setdefault(index, delta.role)
        same(self.roles[index], "assistant", "the first delta's role:")
        self.text[index] = self.text.get(index, "") + (delta.content or "")
        thinking = getattr(delta, "reasoning_content", None)
        self.thinking[index] = self.thinking.get(index, "") + (thinking or "")
        for call in delta.tool_calls or []:
            known = self.calls.setdefault(index, {})
            if call.index not in known:
                assert call.id and call.type == "function" and call.function.name, call
                known[call.index] = {"id": call.id, "name": call.function.name, "arguments": "",
                                     "extra": getattr(call, "extra_content", None)}
            else:
                assert not call.id and not call.function.name, f"said again: {call!r}"
            known[call.index]["arguments"] += call.function.arguments or ""
        if choice.logprobs is not None:
            self.logprobs += choice.logprobs.content or []
        if choice.finish_reason is not None:
            self.finish[index] = choice.finish_reason


def asked(model, text, at=None, **more):
    messages = text if isinstance(text, list) else user(text)
    return (at or WEIR).chat.completions.create(model=model, messages=messages, **more)


def told(model, text, at=None, usage=False, **more):
    if usage:
        more["stream_options"] = {"include_usage": True}
    with asked(model, text, at, stream=True, **more) as chunks:
        return Told(chunks, model, usage)


def both(model, text, **more):
    """The same asked as one and as a stream: everything comparable, which must be the same."""
    whole, stream = asked(model, text, **more), told(model, text, usage=True, **more)
    same(whole.object, "chat.completion")
    same(whole.model, model)
    assert whole._request_id, "no request id"
    found = []
    for choice in whole.choices:
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []]
        found.append((choice.index, choice.message.content or "", calls, choice.finish_reason,
                      getattr(choice.message, "reasoning_content", None) or ""))
        same(choice.message.role, "assistant")
    streamed = []
    for index in sorted(stream.finish):
        calls = [(call["name"], json.loads(call["arguments"])) for call in stream.calls.get(index, {}).values()]
        streamed.append((index, stream.text[index], calls, stream.finish[index], stream.thinking[index]))
    same(streamed, found, "as a stream:")
    counts = [(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) for usage in (whole.usage, stream.usage)]
    same(counts[1], counts[0], "usage as a stream:")
    return found, counts[0], whole


CASES = []


def case(*needs, older=True):
    """A case for every platform that has all of `needs`."""
    def add(function):
        for platform in PLATFORMS:
            if all(platform.get(need) for need in needs) and (older or not platform.get("legacy")):
                CASES.append((f"{function.__name__} {platform['name']}", lambda p=platform: function(p)))
        return function
    return add


def once(function):
    CASES.append((function.__name__, function))
    return function


def name_of(platform, what="model"):
    return f"{platform['name']}/{platform[what]}"


# ---- the same answer from everywhere

@case()
def plain_answers_and_streams(p):
    text = "Hello from the SDK"
    messages = [{"role": "system", "content": "Be brief."}, *user(text)]
    found, usage, _ = both(name_of(p), messages)
    same(found, [(0, f"You said: {text}", [], "stop", "")])
    # The simulated platforms weigh words, wherever they stand.
    same(usage, (words("Be brief." + " " + text), words("You said: " + text), 12))
    quiet = told(name_of(p), text)
    same((quiet.text[0], quiet.finish[0], quiet.usage), (f"You said: {text}", "stop", None))
    assert quiet.count > 4, "not streamed piece by piece"


@case()
def conversations_with_several_turns(p):
    messages = [{"role": "developer", "content": "Be brief."}, *user("One"), {"role": "assistant", "content": "Two"},
                *user("Three")]
    found, usage, _ = both(name_of(p), messages)
    same(found, [(0, "You said: Three", [], "stop", "")])
    same(usage, (5, 3, 8))


@case()
def text_survives_in_every_script(p):
    text = "Grüße 你好 🌊 \"quoted\" \\ back / slash <tag> \u2028 end"
    found, _, _ = both(name_of(p), text)
    same(found[0][1], "You said: " + " ".join(text.split()))


def call_of(city):
    return ("get_weather", {"city": city})


@case("choices")
def one_tool_call(p):
    found, usage, whole = both(name_of(p), "What is the weather in Oslo?", tools=[WEATHER])
    same(found, [(0, "", [call_of("Oslo")], "tool_calls", p.get("thought_before_call", ""))])
    same(usage, (words("What is the weather in Oslo get weather city"), words("get weather city Oslo"), 13))
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", whole.choices[0].message.tool_calls[0].id)


@case("choices")
def tool_calls_in_parallel(p):
    cities = ["Oslo"] if p.get("one_call") else ["Oslo", "Rome", "Paris"]
    more = {} if p.get("one_call") else {"parallel_tool_calls": True}
    found, usage, whole = both(name_of(p), "The weather in Oslo, Rome and Paris, please.", tools=[WEATHER, CLOCK], **more)
    same(found, [(0, "", [call_of(city) for city in cities], "tool_calls",
                  p.get("thought_before_call", ""))])
    same(usage[1], len(cities) * 4)
    same(len({call.id for call in whole.choices[0].message.tool_calls}), len(cities), "ids")


@case("choices")
def tools_and_back(p):
    if p.get("no_results"):
        return  # the wire has no turn for them: they become words
    text = "The weather in Oslo and Rome, please." if not p.get("one_call") else "The weather in Oslo, please."
    degrees = {"Oslo": "12C", "Rome": "25C"}
    for streamed in (False, True):
        if streamed:
            stream = told(name_of(p), text, tools=[WEATHER])
            calls = [(call["id"], call["name"], call["arguments"]) for call in stream.calls[0].values()]
            assistant = {"role": "assistant", "content": None, "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in calls]}
        else:
            message = asked(name_of(p), text, tools=[WEATHER]).choices[0].message
            calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
            # As the SDK's own documentation does it: the message itself goes back.
            assistant = message
        messages = [*user(text), assistant]
        for id, _, arguments in calls:
            messages.append({"role": "tool", "tool_call_id": id, "content": degrees[json.loads(arguments)["city"]]})
        found, _, _ = both(name_of(p), messages, tools=[WEATHER])
        wanted = " ".join(f"It is {degrees[json.loads(arguments)['city']]} in {json.loads(arguments)['city']}."
                          for _, _, arguments in calls)
        same(found, [(0, wanted, [], "stop", "")])


@case("choices")
def a_call_without_arguments_has_an_empty_object(p):
    if p["choices"] == "auto":
        text, more = "The weather, and use your tool.", {}
    else:
        text, more = "What time is it?", {"tool_choice": {"type": "function", "function": {"name": "get_time"}}}
    whole = asked(name_of(p), text, tools=[CLOCK], **more)
    call = whole.choices[0].message.tool_calls[0]
    same((call.function.name, call.function.arguments), ("get_time", "{}"))
    stream = told(name_of(p), text, tools=[CLOCK], **more)
    same(stream.calls[0][0]["arguments"], "{}")
    if p.get("no_results"):
        return
    messages = [*user(text), whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "noon"}]
    same(asked(name_of(p), messages, tools=[CLOCK]).choices[0].message.content, "It is noon in get_time.")


@case("choices")
def tool_choice_is_kept_refused_or_named(p):
    def ask(choice):
        raw = WEIR.chat.completions.with_raw_response.create(
            model=name_of(p), messages=user("Hello"), tools=[WEATHER, CLOCK], tool_choice=choice)
        return raw.parse().choices[0], raw.headers

    allowed = {"all": ["none", "required", "named"], "named": ["none", "named"], "auto": []}[p["choices"]]
    named = {"type": "function", "function": {"name": "get_time"}}
    for kind, choice in (("none", "none"), ("required", "required"), ("named", named)):
        try:
            answer, headers = ask(choice)
        except openai.BadRequestError as error:
            assert kind not in allowed, f"{kind} refused: {error}"
            same((error.code, error.param), ("unsupported_parameter", "tool_choice"), kind)
            continue
        if "tool_choice" in headers.get("x-gateway-dropped-params", ""):
            assert kind not in allowed, f"{kind} dropped"
            continue
        calls = [call.function.name for call in answer.message.tool_calls or []]
        wanted = {"none": [], "required": ["get_weather"], "named": ["get_time"]}[kind]
        same(calls, wanted, kind)
    assert not ask("auto")[0].message.tool_calls


@case("vision")
def images_arrive(p):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    found, usage, _ = both(name_of(p, "vision"), [{"role": "user", "content": content}], extra_body=calm(p))
    same(found, [(0, "I see 1 image(s).", [], "stop", "")])
    same(usage[0], 85 + 3)


def calm(p):
    """Zhipu's seeing models think unless told otherwise."""
    return {"thinking": {"type": "disabled"}} if p["name"] == "zhipu" else None


@case()
def images_are_refused_by_the_blind(p):
    if "vision" in p:
        return
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    error = fails(openai.BadRequestError, lambda: asked(name_of(p), [{"role": "user", "content": content}]))
    same((error.code, error.type), ("unsupported_parameter", "invalid_request_error"))
    assert error.param.startswith("messages[0]"), error.param


class Place(BaseModel):
    city: str
    people: int


@case("schema")
def structured_output(p):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
              "required": ["city", "people"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    found, _, _ = both(name_of(p), "Oslo as JSON", response_format=wanted)
    same(json.loads(found[0][1]), {"city": "You said: Oslo as JSON", "people": 1})
    parsed = WEIR.chat.completions.parse(model=name_of(p), messages=user("Oslo as JSON"), response_format=Place)
    same(parsed.choices[0].message.parsed, Place(city="You said: Oslo as JSON", people=1))
    with WEIR.chat.completions.stream(model=name_of(p), messages=user("Oslo as JSON"), response_format=Place) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    same(final.choices[0].message.parsed, Place(city="You said: Oslo as JSON", people=1))
    assert "content.delta" in kinds and kinds[-1] in ("content.done", "chunk"), kinds


@case("json")
def json_objects(p):
    found, _, _ = both(name_of(p), "Oslo as JSON", response_format={"type": "json_object"})
    same(json.loads(found[0][1]), {"answer": "You said: Oslo as JSON"})


@case("thinks")
def thinking_is_shown_and_counted(p):
    model, text = name_of(p, "thinks"), "Think hard"
    more = {"reasoning_effort": "high"} if p["effort"] else {}
    thought = THOUGHT if p.get("shows_thinking", True) else ""
    found, usage, whole = both(model, text, **more)
    same(found, [(0, "You said: Think hard", [], "stop", thought)])
    same(usage, (2, words(THOUGHT) + 4, words(THOUGHT) + 6))
    details = whole.usage.completion_tokens_details
    assert p["name"] in ("spark", "baidu") or details.reasoning_tokens == words(THOUGHT), details


@case("thinks", "choices")
def thinking_and_tools_together(p):
    model, text = name_of(p, "thinks"), "The weather in Oslo, please."
    more = {"reasoning_effort": "high"} if p["effort"] else {}
    more["tools"] = [WEATHER]
    found, _, whole = both(model, text, **more)
    same((found[0][2], found[0][3]), ([call_of("Oslo")], "tool_calls"))
    call = whole.choices[0].message.tool_calls[0]
    plain_call = {"id": call.id, "type": "function",
                  "function": {"name": call.function.name, "arguments": call.function.arguments}}
    # Kept by the client, and lost by it.
    for assistant in (whole.choices[0].message, {"role": "assistant", "tool_calls": [plain_call]}):
        messages = [*user(text), assistant, {"role": "tool", "tool_call_id": call.id, "content": "12C"}]
        same(both(model, messages, **more)[0][0][1], "It is 12C in Oslo.")


@case("stop")
def stop_words(p):
    found, _, _ = both(name_of(p), "red green blue", stop=["green"])
    same((found[0][1].strip(), found[0][3]), ("You said: red", "stop"))
    found, _, _ = both(name_of(p), "red green blue", stop="blue")
    same((found[0][1].strip(), found[0][3]), ("You said: red green", "stop"))


@case()
def cut_at_max_tokens(p):
    for bound in ("max_tokens", "max_completion_tokens"):
        found, usage, _ = both(name_of(p), "one two three four", **{bound: 3})
        same((found[0][1].strip(), found[0][3], usage[1]), ("You said: one", "length", 3), bound)
    if "json" in p and "schema" in p:
        ask = {"model": name_of(p), "messages": user("as JSON"), "max_tokens": 2, "response_format": Place}
        fails(openai.LengthFinishReasonError, lambda: WEIR.chat.completions.parse(**ask))


@case("n")
def several_choices(p):
    found, _, _ = both(name_of(p, "n"), "Hello", n=2)
    same(found, [(index, "You said: Hello", [], "stop", "") for index in (0, 1)])


@case()
def what_a_platform_lacks_is_refused_by_name(p):
    lacking = ([] if "n" in p else [("n", {"n": 2})]) + ([] if "stop" in p else [("stop", {"stop": ["x"]})])
    if "logprobs" not in p and p["name"] != "gemini":
        lacking.append(("logprobs", {"logprobs": True}))
    for param, more in lacking:
        if param in p.get("passes", []):
            continue  # depends on the model: the platform says
        error = fails(openai.BadRequestError, lambda: asked(name_of(p), "Hello", **more))
        same((error.code, error.type, error.param), ("unsupported_parameter", "invalid_request_error", param))
        assert error.request_id


@case("logprobs")
def log_probabilities(p):
    ask = {"logprobs": True, "top_logprobs": 2}
    whole = asked(name_of(p, "logprobs"), "Hello", **ask).choices[0]
    tokens = [entry.token for entry in whole.logprobs.content]
    same("".join(tokens), "You said: Hello")
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in whole.logprobs.content)
    stream = told(name_of(p, "logprobs"), "Hello", **ask)
    same([entry.token for entry in stream.logprobs], tokens)


@case("choices")
def the_stream_helper(p):
    with WEIR.chat.completions.stream(model=name_of(p), messages=user("Hello"),
                                      stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    same(("".join(deltas), final.choices[0].message.content), ("You said: Hello",) * 2)
    same((final.choices[0].message.role, final.choices[0].finish_reason), ("assistant", "stop"))
    same(final.usage.total_tokens, 4)
    tools = [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}]
    text = "The weather in Oslo and Rome, please." if not p.get("one_call") else "The weather in Oslo, please."
    with WEIR.chat.completions.stream(model=name_of(p), messages=user(text), tools=tools) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    cities = ["Oslo"] if p.get("one_call") else ["Oslo", "Rome"]
    same([call.function.parsed_arguments["city"] for call in final.choices[0].message.tool_calls], cities)
    same([event.arguments for event in done], [call.function.arguments for call in final.choices[0].message.tool_calls])
    same(final.choices[0].finish_reason, "tool_calls")


@case()
def sampling_and_labels_do_not_hinder(p):
    more = {"temperature": 1.5, "seed": 7, "user": "someone", "metadata": {"a": "b"}, "store": False,
            "service_tier": "auto", "prompt_cache_key": "k"}
    if p["name"] not in ("spark", "spark-ws"):
        more["top_p"] = 0.9
    same(asked(name_of(p), "Hello", **more).choices[0].message.content, "You said: Hello")


@case("embeds")
def embeddings(p):
    model = name_of(p, "embeds")
    def ask(**more):
        return WEIR.embeddings.create(model=model, input=["red green", "blue"], **more)

    vectors = [item.embedding for item in ask().data]
    same((len(vectors), len(vectors[0])), (2, 8))
    floats = ask(encoding_format="float")
    assert all(isinstance(number, float) for number in floats.data[0].embedding)
    for one, other in zip(vectors, floats.data):
        assert all(abs(a - b) < 1e-6 for a, b in zip(one, other.embedding)), (one, other)
    coded = ask(encoding_format="base64").data[0].embedding
    assert isinstance(coded, str) and len(base64.b64decode(coded)) == 32, coded
    same((floats.object, floats.model, [item.index for item in floats.data]), ("list", model, [0, 1]))
    assert p["name"] == "gemini" or floats.usage.total_tokens == 3, floats.usage
    single = WEIR.embeddings.create(model=model, input="red green")
    same(len(single.data), 1)
    assert p["name"] == "gemini" or ask(dimensions=4).data[0].embedding.__len__() == 4


@case()
def no_embeddings_where_there_are_none(p):
    if "embeds" in p:
        return
    error = fails(openai.BadRequestError, lambda: WEIR.embeddings.create(model=name_of(p), input="red"))
    same((error.code, error.param), ("unsupported_parameter", "model"))


# ---- what is not about a platform

@once
def all_platforms_answer_alike():
    """One table of everything that a caller can compare, from each of the ten, as one and as a stream."""
    answers = {}
    for p in PLATFORMS:
        text, tools = "Hello from the SDK", {"tools": [WEATHER]}
        plain = both(name_of(p), text)[:2]
        call = both(name_of(p), "The weather in Oslo, please.", **tools)[:2]
        told_apart = json.dumps([plain, call], sort_keys=True).replace(p.get("thought_before_call", "\0"), "")
        answers[p["name"]] = told_apart
    assert len(set(answers.values())) == 1, json.dumps(answers, indent=1)


@once
def models_are_listed_and_found():
    listed = {model.id: model for model in WEIR.models.list()}
    assert "smart" in listed, sorted(listed)
    same((listed["smart"].object, type(listed["smart"].created)), ("model", int))
    assert listed["smart"].owned_by
    for id in ("smart", "huggingface/deepseek-ai/DeepSeek-V4-Pro", "claude/claude-sonnet-4-5"):
        same(WEIR.models.retrieve(id).id, id)
        for path in (id, id.replace("/", "%2F")):
            answer = httpx.get(f"{URL}/models/{path}", headers={"authorization": f"Bearer {TOKEN}"})
            same((answer.status_code, answer.json().get("id")), (200, id), path)
    error = fails(openai.NotFoundError, lambda: WEIR.models.retrieve("no-such"))
    same(error.code, "model_not_found")


@once
def the_route_of_the_example():
    for _ in range(6):
        raw = WEIR.chat.completions.with_raw_response.create(model="smart", messages=user("Hello"))
        same(raw.parse().choices[0].message.content, "You said: Hello")
        assert raw.headers["x-weir-platform"] in ("openai", "claude", "qwen")
        same(raw.parse().model, "smart")
        assert raw.headers["x-request-id"] and raw.headers["x-weir-attempts"] == "1"


@once
def thought_signatures_come_back_even_when_the_client_drops_them():
    model, text = "gemini/gemini-3.8-flash", "The weather in Oslo, please."
    more = {"tools": [WEATHER], "reasoning_effort": "low"}
    for streamed in (False, True):
        if streamed:
            first = told(model, text, **more).calls[0][0]
            id, arguments, extra = first["id"], first["arguments"], first["extra"]
        else:
            first = asked(model, text, **more).choices[0].message.tool_calls[0]
            id, arguments, extra = first.id, first.function.arguments, getattr(first, "extra_content", None)
        assert extra["google"]["thought_signature"], extra
        bare = {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        unknown = {**bare, "id": "call_from_elsewhere"}
        # Echoed; dropped, and remembered here; never seen here.
        for call in ({**bare, "extra_content": extra}, bare, unknown):
            messages = [*user(text), {"role": "assistant", "content": None, "tool_calls": [call]},
                        {"role": "tool", "tool_call_id": call["id"], "content": "12C"}]
            same(asked(model, messages, **more).choices[0].message.content, "It is 12C in Oslo.")
            # And a third turn.
            messages += [{"role": "assistant", "content": "It is 12C in Oslo."}, *user("Thanks")]
            same(asked(model, messages, **more).choices[0].message.content, "You said: Thanks")


@once
def raw_fields_of_a_vendor_pass():
    answer = asked("qwen/qwen-max", "Hello", extra_body={"enable_search": False, "top_k": 5})
    same(answer.choices[0].message.content, "You said: Hello")
    last = fake("requests?last=1")[0]["body"]
    same((last["enable_search"], last["top_k"]), (False, 5))


@once
def nothing_of_the_sdk_goes_upstream():
    WEIR.with_options(default_headers={"openai-organization": "org-x", "cookie": "a=b"}).chat.completions.create(
        model="openai/gpt-4o", messages=user("Hello"))
    headers = {name for name, _ in fake("requests?last=1")[0]["headers"]}
    assert not [name for name in headers if name.startswith(("x-stainless", "openai-", "cookie", "x-forwarded"))], headers


# ---- errors

@once
def callers_mistakes_have_their_classes():
    table = [
        (openai.AuthenticationError, 401, "invalid_api_key", lambda: asked("smart", "Hi", client("sk-wrong"))),
        (openai.NotFoundError, 404, "model_not_found", lambda: asked("no-such-model", "Hi")),
        (openai.NotFoundError, 404, "not_found", lambda: asked("smart", "Hi", client(url=URL + "/nowhere"))),
        (openai.PermissionDeniedError, 403, "model_not_allowed",
         lambda: asked("openai/gpt-4o", "Hi", client(os.environ["WEIR_NARROW_TOKEN"]))),
        (openai.BadRequestError, 400, None, lambda: asked("smart", [])),
        (openai.BadRequestError, 400, "invalid_type", lambda: asked("openai/gpt-4o", "Hi", temperature=[])),
    ]
    for kind, status, code, ask in table:
        error = fails(kind, ask)
        same((error.status_code, error.code), (status, code), kind.__name__)
        assert error.type in ("invalid_request_error", "permission_error") and error.request_id, error
        assert error.message and isinstance(error.body, dict), error.body


FAULTS = [
    # directive, exception, code, type, whether the platform is asked anew
    ("bad_request", openai.BadRequestError, ..., "invalid_request_error"),
    ("content_filtered", openai.BadRequestError, "content_filter", "invalid_request_error"),
    ("context_too_long", openai.BadRequestError, "context_length_exceeded", "invalid_request_error"),
    ("rate_limited", openai.RateLimitError, "rate_limit_exceeded", "rate_limit_error"),
    ("quota_exhausted", openai.RateLimitError, ..., ...),
    ("token_expired", openai.InternalServerError, "upstream_auth_failed", "server_error"),
    ("auth_invalid", openai.InternalServerError, "upstream_auth_failed", "server_error"),
    ("not_entitled", openai.NotFoundError, "model_not_found", "invalid_request_error"),
    ("server_error", openai.InternalServerError, "upstream_error", "server_error"),
    ("overloaded", openai.InternalServerError, "upstream_error", "server_error"),
]


# Said without a code of its own: 11200 is an empty purse too; the others filter inside of a 200.
NO_CODE = [("spark", "not_entitled"), ("spark-ws", "not_entitled"), ("spark-ws", "token_expired"),
           ("spark-ws", "auth_invalid"), ("gemini", "content_filtered"), ("baidu-v1", "content_filtered")]


@case()
def platforms_errors_have_their_classes(p):
    for directive, kind, code, type_ in FAULTS:
        if (p["name"], directive) in NO_CODE:
            continue
        at, sent = counted(url=FAILS, max_retries=2 if kind is not openai.RateLimitError else 0)
        for stream in ((False, True) if directive in ("bad_request", "content_filtered", "context_too_long") else (False,)):
            sent.clear()
            model = f"{p['name']}/{directive}"
            try:
                error = fails(kind, lambda: asked(model, f"Hello @error={directive}", at, stream=stream))
                assert code is ... or error.code == code, f"code {error.code!r}"
                assert type_ is ... or error.type == type_, f"type {error.type!r}"
            except AssertionError as wrong:
                raise AssertionError(f"{directive}, stream={stream}: {wrong}") from None
            assert error.request_id and error.request_id == error.response.headers["x-request-id"]
            same(len(sent), 1, f"{directive}: requests sent by the SDK")
            text = error.message + json.dumps(error.body)
            for secret in (key_of(p["name"], directive), "127.0.0.1", f"{p['name']}-{directive}"):
                # A key of one word is in the question itself.
                assert secret == directive or secret not in text, f"{secret} in {text}"
            if kind is openai.RateLimitError:
                # A time that is one, or the word that waiting does not help.
                wait = int(error.response.headers.get("retry-after", 0))
                hopeless = error.response.headers.get("x-should-retry") == "false"
                assert 1 <= wait < 32 * 86400 if wait else hopeless, error.response.headers


@once
def a_short_wait_is_waited_for():
    """retry-after is kept: not sooner, and then it works."""
    at, sent = counted(SLOW, max_retries=2)
    for _ in range(2):
        same(asked("smart", "Hello", at).choices[0].message.content, "You said: Hello")
    gaps = [after - before for (before, _), (after, _) in zip(sent, sent[1:])]
    assert len(sent) >= 3 and max(gaps) >= 0.7, (len(sent), gaps)
    same(sent[-1][1].headers["x-stainless-retry-count"] >= "1", True)


@once
def an_empty_purse_is_not_tried_again():
    at, sent = counted(POOR, max_retries=2)
    error = fails(openai.RateLimitError, lambda: [asked("smart", "Hello", at, max_tokens=40) for _ in range(5)])
    same((error.code, error.type), ("insufficient_quota", "insufficient_quota"))
    same(error.response.headers["x-should-retry"], "false")
    count = len(sent)
    fails(openai.RateLimitError, lambda: asked("smart", "Hello", at, max_tokens=40))
    same(len(sent), count + 1, "requests sent by the SDK")


@case()
def streams_that_break_raise(p):
    for case_, directive in (("midstream", "@midstream_error=overloaded"), ("cut", "@cut=20"), ("nofinish", "@nofinish @no_done")):
        if case_ == "nofinish" and p["name"] == "spark":
            continue  # names none: the last words bring the usage, and that is the end
        texts = []

        def ask():
            with asked(f"{p['name']}/{case_}", f"Hello @words=40 {directive}", BROKEN, stream=True) as chunks:
                for chunk in chunks:
                    texts.extend(choice.delta.content or "" for choice in chunk.choices)
                    assert all(choice.finish_reason is None for choice in chunk.choices), "an invented end"

        try:
            error = fails(openai.APIError, ask)
            same((error.code, error.type), ("upstream_stream_incomplete", "server_error"))
            assert "".join(texts).startswith("w1"), texts
        except AssertionError as wrong:
            raise AssertionError(f"{case_}: {wrong}") from None


@case()
def streams_without_end_mark_are_whole(p):
    stream = told(f"{p['name']}/no_done", "Hello @no_done", BROKEN, usage=True)
    same((stream.text[0], stream.finish[0]), ("You said: Hello", "stop"))


@case()
def an_error_in_the_first_event_has_a_status(p):

    error = fails(openai.InternalServerError,
                  lambda: asked(f"{p['name']}/inband", "Hello @inband_error=overloaded", BROKEN, stream=True))
    assert error.status_code in (502, 503) and error.code, error


@case()
def a_page_in_place_of_an_answer_is_an_error(p):
    if p["name"] == "spark-ws":
        return  # a page is no upgrade
    error = fails(openai.InternalServerError, lambda: asked(f"{p['name']}/html", "Hello @html", BROKEN))
    same((error.status_code, error.code), (502, "upstream_error"))


@case()
def callers_who_leave_are_noticed(p):
    def known(what, key):
        return books(p["name"], key).get(what, 0)

    key = key_of(p["name"], "gone")
    before = known("client_gone", key)
    stream = asked(f"{p['name']}/gone", "Hello @gap=50 @words=400", BROKEN, stream=True)
    for count, _ in enumerate(stream):
        if count == 3:
            break
    stream.close()
    until(lambda: known("client_gone", key) == before + 1, 1.0, "(in mid-stream)")
    # Before the first word, and where none was wanted piece by piece.
    key = key_of(p["name"], "silent")
    for stream in (True, False):
        # On a busy machine the request may still have been under way to the platform: then with more patience.
        for patience in (0.3, 5):
            before, arrived = known("client_gone", key), known("requests", key)
            at = BROKEN.with_options(timeout=patience)
            fails(openai.APITimeoutError,
                  lambda: asked(f"{p['name']}/silent", "Hello @stall=30000", at, stream=stream))
            if known("requests", key) > arrived:
                break
        until(lambda: known("client_gone", key) == before + 1, 1.0, f"(before the first word, stream={stream})")


def main():
    cases = [(name, run) for name, run in CASES if all(word in name for word in sys.argv[1:])]
    failed, began = 0, time.monotonic()

    def too_long(*_):
        raise TimeoutError("the case took too long")

    signal.signal(signal.SIGALRM, too_long)
    for name, run in cases:
        signal.alarm(60)
        try:
            run()
        except Exception as error:  # noqa: BLE001 a case may fail in any way
            failed += 1
            places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            print(f"  FAILED {name} (lines {places[1:]}): {type(error).__name__}: {str(error)[:1500]}", flush=True)
        finally:
            signal.alarm(0)
    print(f"openai {openai.__version__} on Python {sys.version.split()[0]}: {len(cases) - failed} passed, {failed} failed"
          f" in {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
