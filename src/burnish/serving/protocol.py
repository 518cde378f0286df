"""What clients send and get: the guide's /generate, and OpenAI's chat completions.

Unknown fields are ignored, as OpenAI's clients expect; tools are written into the prompt by the
chat template, or refused where it writes none, and a call comes as the model writes it: as text.
Settings that a request leaves out come from the recipe's serve section.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from burnish.conversation import Message, Role
from burnish.generation import Sampling
from burnish.recipe import ServeSection

MAX_BODY_BYTES = 4 * 2**20


def _whole_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a character (a lone surrogate)") from None
    return text


def _parsed(arguments: Any) -> Any:
    """The arguments of a call that are sent as JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(_whole_characters(arguments) or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"the arguments of a call must be JSON: {error}") from None


def _named(tool: dict[str, Any]) -> dict[str, Any]:
    """The tool as it was sent: templates write its keys in their order."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError("a tool must be a function with a name")
    _whole_characters(json.dumps(tool, ensure_ascii=False))
    return tool


Tool = Annotated[dict[str, Any], AfterValidator(_named)]
Text = Annotated[str, AfterValidator(_whole_characters)]
Temperature = Annotated[float, Field(ge=0, le=100)]
TopP = Annotated[float, Field(gt=0, le=1)]
Tokens = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(ge=0.01, le=100)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, populate_by_name=True)

    temperature: Temperature | None = None
    top_p: TopP | None = None
    repetition_penalty: Penalty | None = None
    seed: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}

    def _sampling(self, defaults: ServeSection, max_new_tokens: int | None) -> Sampling:
        def chosen(name: str) -> Any:
            value = getattr(self, name)
            return getattr(defaults, name) if value is None else value

        return Sampling(
            max_new_tokens=max_new_tokens or defaults.max_new_tokens,
            temperature=chosen("temperature"),
            top_p=chosen("top_p"),
            repetition_penalty=chosen("repetition_penalty"),
            seed=self.seed,
        )


class GenerateRequest(_Request):
    """The guide's request; its max_length counts new tokens here, as its readers expect."""

    instruction: Annotated[Text, Field(min_length=1)]
    input: Text = ""
    max_new_tokens: Tokens | None = Field(
        None, validation_alias=AliasChoices("max_new_tokens", "max_length")
    )

    def messages(self, system_prompt: str | None) -> list[Message]:
        """The request as a conversation."""
        system = [Message("system", system_prompt)] if system_prompt else []
        return [*system, Message("user", self.instruction, self.input)]

    def sampling(self, defaults: ServeSection) -> Sampling:
        """How to draw the answer."""
        return self._sampling(defaults, self.max_new_tokens)


class TextPart(BaseModel):
    """A piece of a message's content; other kinds than text are refused."""

    type: Literal["text"]
    text: Text


class FunctionCall(BaseModel):
    """What the assistant called, as clients send it back: its arguments are an object or JSON."""

    name: Annotated[Text, Field(min_length=1)]
    arguments: Annotated[dict[str, Any], BeforeValidator(_parsed)] = {}


class ToolCall(BaseModel):
    """A call of a tool, with the id by which its result names it."""

    id: Text = ""
    function: FunctionCall


class ChatMessage(BaseModel):
    """A message in OpenAI's form; `input` is the context of an instruction.

    `reasoning_content` and `tool_calls` are what the assistant thought and called, as clients send
    them back; `name` and `tool_call_id` say whose result a tool's message is.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    input: Text = ""
    tool_calls: list[ToolCall] | None = None
    reasoning_content: Text | None = None
    name: Text | None = None
    tool_call_id: Text | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant calls tools")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self

    def as_message(self) -> Message:
        """The message in the project's own words."""
        content, calls = self.content or "", self.tool_calls or []
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        ids = tuple(call.id for call in calls)
        role: Role = "system" if self.role == "developer" else self.role
        thought = self.reasoning_content or "" if role == "assistant" else ""
        name, call = (self.name, self.tool_call_id) if role == "tool" else ("", "")
        return Message(
            role,
            text,
            self.input,
            tuple(call.function.model_dump() for call in calls),
            reasoning_content=thought,
            call_ids=ids if any(ids) else (),
            name=name or "",
            tool_call_id=call or "",
        )


class StreamOptions(BaseModel):
    """Whether the last piece of a stream counts the tokens."""

    include_usage: bool = False


class _Conversation(_Request):
    """A conversation and what may go with it; what would make another prompt is refused."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str | None = None
    tools: list[Tool] = []
    tool_choice: Any = "auto"
    functions: Any = None
    add_generation_prompt: Literal[True] = True
    add_special_tokens: Literal[False] = False
    continue_final_message: Literal[False] = False
    chat_template: None = None
    chat_template_kwargs: Any = None
    documents: Any = None

    @model_validator(mode="after")
    def _prompt_is_that_of_training(self) -> Self:
        if self.functions:
            raise ValueError("functions are not known here; send tools instead")
        if self.tool_choice not in ("auto", "none"):
            raise ValueError("tool_choice can only be auto or none: no call can be forced here")
        if self.chat_template_kwargs or self.documents:
            raise ValueError(
                "chat_template_kwargs and documents would make another prompt than training saw"
            )
        return self

    def shown_tools(self) -> list[dict[str, Any]]:
        """The tools that the chat template writes: all, or nothing with `tool_choice` none."""
        return [] if self.tool_choice == "none" else self.tools

    def conversation(self, system_prompt: str | None) -> list[Message]:
        """The request as a conversation; the recipe's system prompt where it brings none."""
        turns = [message.as_message() for message in self.messages]
        if system_prompt and turns[0].role != "system":
            turns.insert(0, Message("system", system_prompt))
        return turns


class TokenizeRequest(_Conversation):
    """POST /tokenize as vLLM has it, for conversations."""


class ChatRequest(_Conversation):
    """POST /v1/chat/completions."""

    max_tokens: Tokens | None = Field(
        None, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    n: Literal[1] | None = None
    stop: Text | list[Text] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    def sampling(self, defaults: ServeSection) -> Sampling:
        """How to draw the answer."""
        return self._sampling(defaults, self.max_tokens)

    def stops(self) -> list[str]:
        """Texts that end the answer; they are not part of it."""
        texts = [self.stop] if isinstance(self.stop, str) else (self.stop or [])
        return [text for text in texts if text]


def usage(num_prompt: int, num_new: int) -> dict[str, int]:
    """Token counts in OpenAI's form."""
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
    }
