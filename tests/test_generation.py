"""New ids against `generate` called by hand, and text that comes whole characters at a time."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from burnish.errors import OutOfMemoryError
from burnish.generation import Sampling, TextStream, decode, generate, until_stop
from tests.conftest import byte_tokenizer, tiny_llama

TOKENIZER = byte_tokenizer()
PROMPTS = [[1, 40, 41, 42], [1, 50], [1, 60, 61, 62, 63, 64, 65]]
NEVER = [0]


@pytest.fixture(scope="module")
def model():
    """A model whose weights are large enough that it does not repeat one token."""
    model = tiny_llama(len(TOKENIZER))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)
    return model


def by_hand(model, prompt, num_new, stop_ids):
    """Greedy search without a cache, a mask or a library's help."""
    ids = list(prompt)
    for _ in range(num_new):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        token = int(logits.argmax())
        if token in stop_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_greedy_ids_are_those_of_a_search_by_hand(model):
    for prompt in PROMPTS:
        (ids,) = generate(model, [prompt], Sampling(max_new_tokens=12), stop_ids=NEVER)
        assert ids == by_hand(model, prompt, 12, NEVER)


def test_prompts_in_one_batch_get_the_ids_that_they_get_alone(model):
    together = generate(model, PROMPTS, Sampling(max_new_tokens=12), stop_ids=NEVER)
    alone = [generate(model, [p], Sampling(max_new_tokens=12), stop_ids=NEVER)[0] for p in PROMPTS]
    assert together == alone
    assert len({tuple(ids) for ids in alone}) == 3


def test_generation_ends_at_any_stop_token_which_is_left_out(model):
    free = by_hand(model, PROMPTS[0], 12, NEVER)
    stop = free[5]
    at = free.index(stop)
    (ids,) = generate(model, [PROMPTS[0]], Sampling(max_new_tokens=12), stop_ids=[0, stop])
    assert ids == free[:at]


def test_one_row_of_a_batch_may_stop_before_the_others(model):
    free = [by_hand(model, prompt, 12, NEVER) for prompt in PROMPTS]
    stop = free[1][3]
    expected = [by_hand(model, prompt, 12, [stop]) for prompt in PROMPTS]
    assert generate(model, PROMPTS, Sampling(max_new_tokens=12), stop_ids=[stop]) == expected


def test_every_new_id_is_handed_on_as_it_is_made_the_stop_token_too(model):
    free = by_hand(model, PROMPTS[0], 12, NEVER)
    stop = free[5]
    seen: list[int] = []
    sampling = Sampling(max_new_tokens=12)
    generate(model, [PROMPTS[0]], sampling, stop_ids=[stop], on_token=seen.append)
    assert seen == free[: free.index(stop) + 1]


def test_a_cancelled_generation_ends_at_the_next_token(model):
    cancelled = threading.Event()
    seen: list[int] = []

    def on_token(token):
        seen.append(token)
        if len(seen) == 3:
            cancelled.set()

    sampling = Sampling(max_new_tokens=200)
    (ids,) = generate(
        model, [PROMPTS[0]], sampling, stop_ids=NEVER, on_token=on_token, cancelled=cancelled
    )
    assert seen[:3] == ids[:3]
    assert 3 <= len(ids) <= 4


def test_a_seed_gives_the_same_draw_and_another_seed_another(model):
    def draw(seed):
        sampling = Sampling(max_new_tokens=20, temperature=3.0, seed=seed)
        return generate(model, [PROMPTS[0]], sampling, stop_ids=NEVER)[0]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(-1) == draw(-1)
    assert len(draw(2**100)) == 20


def test_a_seed_leaves_the_process_its_own_random_numbers(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sampling = Sampling(max_new_tokens=3, temperature=1.0, seed=9)
    generate(model, [PROMPTS[0]], sampling, stop_ids=NEVER)
    assert torch.equal(torch.rand(3), expected)


def test_a_temperature_near_zero_is_greedy_and_no_overflow(model):
    greedy = generate(model, [PROMPTS[0]], Sampling(max_new_tokens=8), stop_ids=NEVER)
    cold = Sampling(max_new_tokens=8, temperature=1e-40)
    assert generate(model, [PROMPTS[0]], cold, stop_ids=NEVER) == greedy


def test_a_tiny_top_p_draws_the_likeliest_token(model):
    greedy = generate(model, [PROMPTS[0]], Sampling(max_new_tokens=8), stop_ids=NEVER)
    narrow = Sampling(max_new_tokens=8, temperature=1.0, top_p=1e-9)
    assert generate(model, [PROMPTS[0]], narrow, stop_ids=NEVER) == greedy


def test_a_repetition_penalty_keeps_tokens_from_coming_again(model):
    sampling = Sampling(max_new_tokens=20, repetition_penalty=100.0)
    (ids,) = generate(model, [PROMPTS[0]], sampling, stop_ids=NEVER)
    assert len(set(ids)) == 20


LEAKS = {
    "temperature": 0.01,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.9,
    "repetition_penalty": 100.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 20,
    "suppress_tokens": list(range(3, 200)),
    "bad_words_ids": [[t] for t in range(3, 200)],
    "forced_eos_token_id": 7,
    "max_length": 5,
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_nothing_of_the_models_own_generation_config_slips_in(model, name, temperature):
    sampling = Sampling(max_new_tokens=20, temperature=temperature, seed=3)
    stop = by_hand(model, PROMPTS[0], 12, NEVER)[9]

    def answer():
        return generate(model, [PROMPTS[0]], sampling, stop_ids=[stop])

    expected = answer()
    own = model.generation_config
    leaky = GenerationConfig(do_sample=True, **{name: LEAKS[name]})
    model.generation_config = leaky
    try:
        assert answer() == expected
        assert model.generation_config is leaky
    finally:
        model.generation_config = own


def test_an_adapters_base_keeps_its_generation_config():
    from peft import LoraConfig, get_peft_model

    base = tiny_llama(len(TOKENIZER))
    base.generation_config.repetition_penalty = 50.0
    own = base.generation_config
    plain = tiny_llama(len(TOKENIZER))
    adapted = get_peft_model(base, LoraConfig(target_modules=["q_proj"])).eval()
    sampling = Sampling(max_new_tokens=10)
    expected = generate(plain, [PROMPTS[0]], sampling, stop_ids=NEVER)
    assert generate(adapted, [PROMPTS[0]], sampling, stop_ids=NEVER) == expected
    assert base.generation_config is own


# --- when memory runs out ----------------------------------------------------------------------


class Tight:
    """A model that runs out of memory at some calls of `generate`.

    Attributes:
        sizes: how many prompts each call had.
    """

    def __init__(self, model, *failing):
        self._model, self._failing = model, failing
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, input_ids, **options):
        self.sizes.append(len(input_ids))
        if len(self.sizes) in self._failing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._model.generate(input_ids=input_ids, **options)


SIX = [*PROMPTS, *(prompt[:-1] for prompt in PROMPTS)]


@pytest.mark.parametrize(
    "failing, sizes",
    [([1], [6, 3, 3]), ([1, 2], [6, 3, 1, 1, 1, 1, 1, 1]), ([1, 3], [6, 3, 3, 1, 1, 1])],
    ids=str,
)
def test_prompts_that_do_not_fit_together_are_answered_in_smaller_batches(model, failing, sizes):
    sampling = Sampling(max_new_tokens=12)
    tight = Tight(model, *failing)
    assert generate(tight, SIX, sampling, stop_ids=NEVER) == [
        by_hand(model, prompt, 12, NEVER) for prompt in SIX
    ]
    assert tight.sizes == sizes


def test_each_halving_of_the_prompts_is_one_line(model, capfd):
    generate(Tight(model, 1, 2), SIX, Sampling(max_new_tokens=2), stop_ids=NEVER)
    assert capfd.readouterr().err == (
        "warning: generate: memory ran out over 6 at a time; from here on it is 3\n"
        "warning: generate: memory ran out over 3 at a time; from here on it is 1\n"
    )


def test_a_prompt_that_does_not_fit_alone_is_an_error_with_its_length(model):
    with pytest.raises(OutOfMemoryError) as caught:
        generate(Tight(model, 1), [PROMPTS[2]], Sampling(max_new_tokens=2), stop_ids=NEVER)
    assert str(caught.value) == (
        "generate: memory ran out over a prompt of 7 tokens alone.\n"
        "  Shorten it, ask for fewer new tokens, or set model.load_in_4bit: true."
    )


def test_an_answer_that_memory_ends_is_not_handed_on_twice(model):
    seen: list[int] = []

    def on_token(token):
        seen.append(token)
        if len(seen) == 3:
            raise MemoryError

    with pytest.raises(OutOfMemoryError):
        generate(model, [PROMPTS[0]], Sampling(max_new_tokens=9), stop_ids=NEVER, on_token=on_token)
    assert seen == by_hand(model, PROMPTS[0], 3, NEVER)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.sets(st.integers(1, 3)))
def test_whenever_memory_runs_out_every_prompt_is_answered_once(count, failing):
    small = tiny_llama(len(TOKENIZER))
    sampling = Sampling(max_new_tokens=3)
    tight = Tight(small, *(failing if count > 3 else ()))  # the third would meet one prompt alone
    expected = [by_hand(small, prompt, 3, NEVER) for prompt in SIX[:count]]
    if len(failing) == 3 and count > 3:
        with pytest.raises(OutOfMemoryError):
            generate(tight, SIX[:count], sampling, stop_ids=NEVER)
    else:
        assert generate(tight, SIX[:count], sampling, stop_ids=NEVER) == expected


def test_until_stop_takes_what_stands_before_the_first_stop_token():
    assert until_stop([5, 6, 2, 7, 2], [2]) == [5, 6]
    assert until_stop([2, 5], [2]) == []
    assert until_stop([5, 6], [2, 3]) == [5, 6]


def test_decoded_text_leaves_out_control_tokens_and_keeps_blanks():
    ids = TOKENIZER(" a , b <|im_end|> c .", add_special_tokens=False)["input_ids"]
    assert decode(ids, TOKENIZER) == " a , b  c ."


def pushed(ids, tokenizer=TOKENIZER):
    stream = TextStream(tokenizer)
    return [stream.push(token) for token in ids], stream.flush()


def test_a_chinese_character_comes_whole_with_its_last_token():
    ids = TOKENIZER("头a", add_special_tokens=False)["input_ids"]
    assert pushed(ids) == (["", "", "头", "a"], "")


def test_an_emoji_comes_whole_with_its_last_token():
    ids = TOKENIZER("🩺", add_special_tokens=False)["input_ids"]
    assert pushed(ids) == (["", "", "", "🩺"], "")


def test_a_character_that_is_never_finished_comes_at_the_end_as_a_replacement():
    ids = TOKENIZER("a头", add_special_tokens=False)["input_ids"]
    pieces, rest = pushed(ids[:-1])
    assert pieces == ["a", "", ""]
    assert rest == "\ufffd"


def test_bytes_that_are_no_character_do_not_hold_back_what_follows():
    broken = TOKENIZER("头", add_special_tokens=False)["input_ids"][:2]
    good = TOKENIZER("ok", add_special_tokens=False)["input_ids"]
    pieces, rest = pushed([*broken, *good])
    assert "".join(pieces) + rest == decode([*broken, *good], TOKENIZER) == "\ufffdok"


def test_control_tokens_make_no_text():
    ids = TOKENIZER("<|im_start|>a<|im_end|>b", add_special_tokens=False)["input_ids"]
    assert pushed(ids) == (["", "a", "", "b"], "")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_pieces_join_to_the_text_and_none_holds_half_a_character(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces, rest = pushed(ids)
    assert "".join(pieces) + rest == decode(ids, TOKENIZER)
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_any_ids_at_all_stream_to_what_they_decode_to(ids):
    pieces, rest = pushed(ids)
    assert "".join(pieces) + rest == decode(ids, TOKENIZER)


@pytest.mark.parametrize("text", ["one two", " a a a", "病 a 头 病", "a\n\na  a"])
def test_a_sentencepiece_tokenizer_keeps_its_blanks_in_a_stream(text):
    from tests.rendering.shapes import LLAMA_2, sentencepiece_tokenizer

    tokenizer = sentencepiece_tokenizer(LLAMA_2)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces, rest = pushed(ids, tokenizer)
    assert "".join(pieces) + rest == decode(ids, tokenizer) == text
    assert "\ufffd" not in "".join(pieces)


def test_a_long_stream_decodes_each_token_a_few_times_only():
    num_decoded = 0

    class Counting:
        def decode(self, ids, **options):
            nonlocal num_decoded
            num_decoded += len(ids)
            return TOKENIZER.decode(ids, **options)

    ids = TOKENIZER("头痛 ok " * 200, add_special_tokens=False)["input_ids"]
    pieces, rest = pushed(ids, Counting())
    assert "".join(pieces) + rest == "头痛 ok " * 200
    assert num_decoded < 10 * len(ids)
