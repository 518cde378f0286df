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

A passage of plain text has no template: bos, where the tokenizer writes one, the text, and eos.
"""

from burnish.rendering.endings import stop_token_ids
from burnish.rendering.examples import NoAnswerLeft, render_example, render_prompt
from burnish.rendering.loading import load_tokenizer
from burnish.rendering.turns import Turn
from burnish.rendering.writing import joined_input

__all__ = [
    "NoAnswerLeft",
    "Turn",
    "joined_input",
    "load_tokenizer",
    "render_example",
    "render_prompt",
    "stop_token_ids",
]
