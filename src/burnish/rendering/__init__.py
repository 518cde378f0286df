"""Conversation -> Example, messages -> prompt ids: the only place that decides tokens and labels.

Text becomes tokens in one way, for training, evaluation, calibration, chat and serving alike:

1. The tokenizer's own chat template writes the conversation as text. What the template uses as a
   boundary and somebody's message holds is hidden from it behind placeholders.
2. The text is encoded; a placeholder is encoded as ordinary text. So what a person writes can
   neither end a turn nor open one.
3. An answer begins where the prompt ends that a server would render for it, whose ids must begin
   the ids of the whole conversation; it ends with the token that the template writes behind an
   answer. An answer for which that fails is refused, never guessed; so is one that the template
   does not write in full. Only answers that are to be learned are proved.
4. Where a template has `{% generation %}` marks, they are a second witness: they must hold the
   words of the answers and nothing else. They are never taken alone. What they say is where the
   template's author saw the answer, not what ids a server puts before it, and an answer that is
   learned behind other ids than it is asked for with is the fault that all this is against.
5. Where the template writes the last answer behind other text than it asks for it with, and the
   difference is a block of reasoning that the prompt opens or the answer loses, or a system prompt
   that moves, prompt and answer are taken each from where the template writes it (reasoning.py).
   Where earlier answers are written otherwise than the last, each becomes an example of its own
   (`render_row`).

A passage of plain text has no template: bos, where the tokenizer writes one, the text, and eos.
"""

from burnish.rendering.endings import stop_token_ids
from burnish.rendering.examples import (
    NoAnswerLeft,
    render_example,
    render_prompt,
    render_row,
)
from burnish.rendering.loading import (
    check_own_templates,
    day_of,
    has_live_date,
    load_tokenizer,
    pin_date,
)
from burnish.rendering.turns import Turn
from burnish.rendering.writing import joined_input

__all__ = [
    "NoAnswerLeft",
    "Turn",
    "check_own_templates",
    "day_of",
    "has_live_date",
    "joined_input",
    "load_tokenizer",
    "pin_date",
    "render_example",
    "render_prompt",
    "render_row",
    "stop_token_ids",
]
