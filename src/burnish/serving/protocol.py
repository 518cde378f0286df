"""What clients send and get: the guide's /generate, and OpenAI's chat completions.

Unknown fields are ignored, as OpenAI's clients expect. Settings that a request leaves out come
from the recipe's serve section.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

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


class ChatMessage(BaseModel):
    """A message in OpenAI's form; `input` is the context of an instruction.

    `reasoning_content` is what the assistant thought, as clients send it back.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart]
    input: Text = ""
    reasoning_content: Text | None = None

    def as_message(self) -> Message:
        """The message in the project's own words."""
        text = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        role: Role = "system" if self.role == "developer" else self.role
        thought = self.reasoning_content or "" if role == "assistant" else ""
        return Message(role, text, self.input, reasoning_content=thought)


class StreamOptions(BaseModel):
    """Whether the last piece of a stream counts the tokens."""

    include_usage: bool = False


class _Conversation(_Request):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str | None = None

    def conversation(self, system_prompt: str | None) -> list[Message]:
        """The request as a conversation; the recipe's system prompt where it brings none."""
        turns = [message.as_message() for message in self.messages]
        if system_prompt and turns[0].role != "system":
            turns.insert(0, Message("system", system_prompt))
        return turns


class TokenizeRequest(_Conversation):
    """POST /tokenize as vLLM has it, for conversations; what would change a prompt is refused."""

    add_generation_prompt: Literal[True] = True
    add_special_tokens: Literal[False] = False
    continue_final_message: Literal[False] = False
    chat_template: None = None
    tools: Annotated[list[Any], Field(max_length=0)] = []


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
