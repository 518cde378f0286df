"""Every setting of burnish: its default, its range and its help, one frozen model per section.

A default stands here and nowhere else. The docstring under a field is its help everywhere: in the
generated reference, in the JSON schema that editors read and in error messages. Settings of
training bear the names that Hugging Face Transformers and PEFT gave them.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["no", "steps", "epoch"]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
LanguageName = Literal["zh", "en", "ja", "ko", "ru", "ar", "th", "hi", "el", "he"]
PrivacyKind = Literal[
    "mobile", "landline", "resident_id", "bank_card", "email", "ip", "wechat", "qq", "name"
]
SplitName = Literal["train", "validation", "test"]
Initialization = Annotated[
    str, Field(pattern=r"^(gaussian|orthogonal|olora|pissa|pissa_niter_[1-9][0-9]*|loftq)$")
]

OTHER_OPTIMIZERS = {
    "adamw_bnb_8bit": "bitsandbytes",
    "paged_adamw_32bit": "bitsandbytes",
    "paged_adamw_8bit": "bitsandbytes",
    "lion_32bit": "bitsandbytes",
    "lion_8bit": "bitsandbytes",
    "galore_adamw": "galore_torch",
    "galore_adamw_8bit": "galore_torch",
    "galore_adafactor": "galore_torch",
    "apollo_adamw": "apollo_torch",
}
"""Optimizers that come from a package of their own."""


class Section(BaseModel):
    """What all sections share: unknown keys are errors, and nothing writes to a parsed recipe."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        strict=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


class ModelSection(Section):
    """The model to start from."""

    name_or_path: str = "smollm2-135m"
    """A folder, a Hugging Face id (`Qwen/Qwen2.5-7B-Instruct`), a ModelScope id
    (`modelscope:Qwen/Qwen2.5-7B-Instruct`), or the embedded default `smollm2-135m`."""
    revision: str | None = None
    """Branch, tag or commit on the hub; pin a commit to get the same weights again."""
    chat_template: Literal["auto", "plain_zh", "plain_en"] = "auto"
    """`auto` takes the tokenizer's own chat template and, where it has none, `plain_zh`.
    `plain_zh` is the guide's template (### 指令: / ### 输入: / ### 响应:), `plain_en` its English
    twin (### Instruction: / ### Input: / ### Response:)."""
    end_of_answer: Literal["template", "eos"] = "template"
    """`eos` adds the tokenizer's eos behind the last answer where the chat template writes no stop
    token there (ChatGLM4's does not), so that the model learns to stop; it becomes part of the
    template. `template` leaves the template as it is."""
    chat_template_kwargs: dict[Variable, bool | int | float | str] = {}
    """What the model's chat template is given besides messages and tools, in training and serving
    alike, such as `{enable_thinking: false}` (Qwen3, Nemotron 3). It becomes part of it."""
    template_date: Annotated[date, Field(strict=False)] | None = None
    """The day (2026-01-31) that a chat template shall write which writes today's date (Llama 3.2,
    gpt-oss), in training and serving alike. By default the day of `burnish prepare`; it becomes
    part of the template."""
    load_in_8bit: bool = False
    """Train and evaluate on a base quantized to 8 bits (bitsandbytes). Merging reloads it whole."""
    load_in_4bit: bool = False
    """Train and evaluate on a base quantized to 4 bits (nf4 with double quantization)."""
    new_tokens: list[str] = []
    """Words that become tokens of their own. They are read out of any text, as ordinary words are,
    and are control tokens only where the chat template writes them. Their rows start at the mean of
    the tokens that they were before, and are trained."""
    attn_implementation: Literal["auto", "eager", "sdpa", "flex_attention", "flash_attention_2"] = (
        "auto"
    )
    """The attention of the model's own forward, by its name in transformers. `auto` takes
    flash_attention_2 on a GPU, in bfloat16, where the package flash-attn is installed and the model
    can use it, and elsewhere that library's choice; without the package, training takes torch's own
    kernel of that kind where it agrees with the model. flex_attention trains on GPUs only."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for a model whose code you have read."""
    allow_pickle: bool = False
    """Load weights from pickle files (pytorch_model.bin), which can run code, where a model has no
    safetensors."""

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        if self.load_in_8bit and self.load_in_4bit:
            raise ValueError("load_in_8bit and load_in_4bit exclude each other; choose one.")
        return self

    @model_validator(mode="after")
    def _new_tokens_are_words(self) -> Self:
        for token in self.new_tokens:
            if not token or token != token.strip():
                raise ValueError(f"new_tokens: {token!r} begins or ends with a blank, or is empty.")
            if self.new_tokens.count(token) > 1:
                raise ValueError(f"new_tokens: {token!r} stands there twice.")
        return self


class Columns(Section):
    """Which column holds what. A list of columns is joined by line breaks."""

    instruction: str | list[str] | None = None
    """The question or order."""
    input: str | list[str] | None = None
    """The context of the instruction, if any."""
    output: str | list[str] | None = None
    """The answer to learn."""
    system: str | None = None
    """The system prompt, if any."""
    history: str | None = None
    """Earlier turns, a list of [question, answer] pairs, if any."""
    text: str | None = None
    """The one column that holds a transcript (layout transcript) or a passage (layout text)."""


class Source(Section):
    """One file, folder or data set of examples."""

    path: str
    """A csv, tsv, json, jsonl, parquet, txt, md, docx or pdf file (also with .gz behind it, or many
    in a .zip), a folder of such files, a pattern (`data/*.jsonl`), a folder written by
    `save_to_disk`, or a data set on the Hugging Face hub (`hf:owner/name`). Relative to the
    working directory."""
    layout: Literal[
        "auto", "alpaca", "messages", "sharegpt", "prompt_completion", "transcript", "text"
    ] = "auto"
    """How a row holds its conversation; `auto` looks at the first rows' columns. `transcript` reads
    turns out of one text (`<user>: … <bot>: …`); `text` has no turns: passages for continued
    pre-training."""
    columns: Columns | None = None
    """Names of the columns, where they are not instruction, input and output."""
    split: str = "train"
    """Which split of a Hugging Face data set to read."""
    streaming: bool = False
    """Read a hub data set row by row, without fetching all of it first."""
    limit: Count | None = None
    """Read only that many rows from the start."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often a row of this source is trained on: 0.25 takes a quarter of the rows (always the
    same ones), 2 takes each twice. Held-out rows are never repeated."""
    group_by: str | None = None
    """A column such as a patient or document number: rows with one value stay in one split."""
    stratify_by: str | None = None
    """A column such as a department or topic: every split gets its share of each value."""
    passage_chars: Annotated[int, Field(ge=100)] = 2000
    """Longest passage, in characters, that a document is cut into (layout text)."""

    @model_validator(mode="after")
    def _columns_need_a_layout(self) -> Self:
        if not self.columns:
            return self
        if self.layout in ("messages", "sharegpt", "prompt_completion"):
            raise ValueError(f"columns have no effect with layout {self.layout}; remove one.")
        is_text = self.layout in ("transcript", "text")
        given = self.columns.model_dump(exclude_none=True)
        for name in given:
            if (name == "text") != is_text and self.layout != "auto":
                raise ValueError(f"columns.{name} has no effect with layout {self.layout}.")
        if "text" in given and len(given) > 1:
            raise ValueError("columns.text excludes the other columns: all is in that one.")
        return self


class DataSection(Section):
    """Where the examples come from."""

    sources: Annotated[list[Source], Field(min_length=1)]
    """Files and data sets, read in this order."""
    system_prompt: str | None = None
    """A system prompt for conversations that bring none."""
    max_unpacked_gib: Annotated[float, Field(gt=0)] = 16.0
    """Refuse a .gz, .zip or parquet file that unpacks to more."""


class PrivacySettings(Section):
    """Personal data in texts, calls and tools: counted by kind and listed in privacy.jsonl."""

    action: Literal["off", "detect", "mask", "drop"] = "detect"
    """`detect` only reports, `mask` writes a typed mark such as `[手机号]` or `[email]` in its
    place, `drop` rejects the row. With `mask` and `drop` the ledger holds the marks too: no
    personal data stand in rejected.jsonl, changes.jsonl, privacy.jsonl or contamination.jsonl."""
    kinds: list[PrivacyKind] = [
        "mobile", "landline", "resident_id", "bank_card", "email", "ip", "wechat", "qq", "name"
    ]  # fmt: skip
    """Which kinds to look for. `name` finds names behind a cue word (`我叫…`, `患者姓名：…`)."""
    allow: list[str] = []
    """Texts that are no secret, such as a hotline: never reported or masked."""


class ContaminationSettings(Section):
    """Benchmark items among the training rows."""

    against: list[str] = []
    """Benchmarks to compare with: mmlu, truthfulqa, ceval, cmmlu, gsm8k, or files with the items
    of others. None by default."""
    benchmarks_folder: str | None = None
    """A folder with the benchmarks laid out as on the hub (cais/mmlu, …). Without it they are
    fetched."""
    ngram: Annotated[int, Field(ge=4, le=50)] = 13
    """So many words (or Han characters) in a row that a row shares with a benchmark item are a
    leak. A question under 16 words must occur whole; of one under 26, half is reported too."""
    drop: Literal["none", "sure", "all"] = "none"
    """Only report such rows, drop those that hold a whole question or that many words in a row
    (`sure`), or also those that hold half of a question (`all`)."""


class CleanSection(Section):
    """What is repaired and what is dropped. Each rule can be switched off."""

    repair_unicode: bool = True
    """Mend text decoded with the wrong encoding (`å¤´ç—›` becomes `头痛`)."""
    strip_html: bool = True
    """Remove known HTML tags and decode entities; comparisons, generics and code stay."""
    strip_control: bool = True
    """Remove control and zero-width characters."""
    squeeze_spaces: bool = True
    """Turn runs of blanks within a line into one (indentation, code and aligned columns stay), and
    more than one empty line into one."""
    squeeze_marks: bool = True
    """Shorten runs of one Chinese mark (`。。。。` becomes `。`; `！！！` becomes `！`)."""
    halfwidth_alphanumerics: bool = True
    """Turn full-width digits and Latin letters into ordinary ones."""
    fullwidth_punctuation: bool = False
    """Turn half-width commas, colons and the like between Chinese characters into full-width
    ones."""
    strip_special_tokens: bool = True
    """Remove control tokens of chat templates (`</s>`, `<|im_end|>`, `[INST]`) and prompt markers
    (`### 响应:`) at the ends of a text."""
    convert_chinese: Literal["no", "t2s", "s2t", "tw2s", "s2tw", "hk2s", "s2hk"] = "no"
    """Convert between traditional and simplified characters with OpenCC (extra `opencc`):
    `t2s` makes them simplified."""
    min_answer_chars: Count = 1
    """Drop rows whose answer has fewer characters."""
    max_answer_chars: Count | None = None
    """Drop rows whose answer has more characters; lengths in tokens: prepare.max_length."""
    min_question_chars: Count = 1
    """Drop rows whose question has fewer characters."""
    drop_truncated: bool = True
    """Drop rows whose answer ends in a comma or colon."""
    drop_echo: bool = True
    """Drop rows whose answer repeats the question."""
    drop_placeholders: bool = True
    """Drop rows whose answer only says that there is none (`<noinput>`, `N/A`, `无`)."""
    drop_special_tokens: bool = False
    """Drop rows in whose text control tokens of chat templates are left after repair."""
    max_repetition: Share = 0.5
    """Drop rows in whose answer a greater share of the characters only repeats (`好好好好好…`);
    1 switches this off."""
    languages: list[LanguageName] = []
    """Drop rows whose answer is in none of these languages; empty allows all."""
    min_language_share: Share = 0.5
    """Share of an answer's letters that must be in the scripts of those languages."""
    drop_duplicates: bool = True
    """Keep only the first of conversations that are equal after cleaning; any blanks count as
    one."""
    drop_near_duplicates: bool = True
    """Keep only the best of conversations that are nearly equal (MinHash over 4-grams of
    characters, verified). A repeated question with another answer is none."""
    duplicate_key: Literal["row", "question"] = "row"
    """What is compared for duplicates: the whole conversation or only its question."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.6
    """Share of the 4-grams of two texts together that both must have (Jaccard) to be near."""
    privacy: PrivacySettings = PrivacySettings()
    """Personal data."""
    contamination: ContaminationSettings = ContaminationSettings()
    """Benchmark items among the rows."""
    bad_rows: Literal["reject", "stop"] = "reject"
    """What to do with a row that can't be read (no question, no answer, broken JSON): note it in
    rejected.jsonl, or stop."""
    record_changes: Literal["all", "sample"] = "all"
    """Write every repaired field into changes.jsonl, or only the first 100 of each repair."""
    engine: Literal["local", "ray"] = "local"
    """Clean in processes of this machine, or on a Ray cluster (extra `ray`); the result is the
    same, byte for byte."""
    num_workers: Count | None = None
    """Processes to clean in; by default one per free core. Small files take one."""


class PrepareSection(Section):
    """How conversations become token ids and splits."""

    max_length: Annotated[int, Field(ge=8)] = 1024
    """Longest example in tokens; prompt and answer count."""
    train_on: Literal["all", "last", "each"] = "all"
    """Learn every answer of a conversation, or the `last` one only. `each` learns every answer as
    an example of its own, behind the very prompt that a server would render for it; `all` does so
    for conversations of which the chat template writes earlier answers otherwise (Qwen3 takes their
    reasoning out). A message with `train: false` (or `weight: 0`) is never learned."""
    too_long: Literal["cut", "reject"] = "cut"
    """Cut the end of an answer that does not fit (its stop token then goes untrained), or reject
    the row. A row that would lose all of its answer is always rejected."""
    validation_size: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of conversations held out to watch training."""
    test_size: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of conversations held out for the final evaluation."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides which conversations are held out. The split goes by content: rows added later do not
    move old ones, but a held-out group of near-duplicates that outgrows its split is trained on."""
    train_test_overlap: Literal["off", "report", "drop"] = "report"
    """What to do with training rows that hold half or more of a held-out row's words, in long runs:
    nothing, list them in overlap.jsonl, or also drop them from training."""
    allow_findings: list[str] = []
    """Errors of `burnish audit-labels` that shall not stop training, by name. What they are stands
    in 2-prepare/audit.html."""

    @model_validator(mode="after")
    def _train_has_a_share(self) -> Self:
        if self.validation_size + self.test_size >= 1:
            raise ValueError("validation_size and test_size leave nothing to train on.")
        return self


class LoraSettings(Section):
    """The adapter, with PEFT's names."""

    r: Count = 16
    """Rank of the update matrices."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32
    """Scale of the update: it is multiplied by lora_alpha / r."""
    use_rslora: bool = False
    """Multiply the update by lora_alpha / sqrt(r) instead, which suits high ranks (rsLoRA)."""
    use_dora: bool = False
    """Learn a magnitude of every output as well (DoRA): better at low ranks, and slower."""
    init_lora_weights: Literal[True] | Initialization = True
    """How the update starts. `true`: at zero, A at random; `gaussian`: likewise, from a normal
    distribution; `orthogonal`: A and B at right angles; `pissa`, `pissa_niter_16` (a quick SVD of
    so many iterations) and `olora`: with the base's own largest part, which is taken out of the
    base; `loftq`: with what quantizing to 4 bits lost. What is saved fits the original base."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1)] | None = None
    """The learning rate of B as a multiple of A's (LoRA+); 16 is usual, with half the rate."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the update matrices."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors are trained."""
    target_modules: str | list[str] = "all-linear"
    """`all-linear`, or names of layers such as [q_proj, v_proj]."""

    @property
    def changes_base(self) -> bool:
        """Whether the base starts without what the adapter starts with."""
        return self.init_lora_weights is not True and self.init_lora_weights.startswith(
            ("pissa", "olora")
        )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        start = self.init_lora_weights
        if self.changes_base and self.use_dora:
            raise ValueError(
                f"init_lora_weights: {start} takes a part out of the base, which DoRA's magnitudes "
                "are measured on; set use_dora: false, or init_lora_weights: true."
            )
        if self.changes_base and self.bias != "none":
            raise ValueError(
                f"bias: {self.bias} would be lost when an adapter of init_lora_weights: {start} is "
                "made to fit the original base; set bias: none."
            )
        if start == "loftq" and self.use_dora:
            raise ValueError("init_lora_weights: loftq excludes use_dora; choose one.")
        if start == "orthogonal" and self.r % 2:
            raise ValueError(f"init_lora_weights: orthogonal needs an even r, not {self.r}.")
        return self


class TrainSection(Section):
    """The training run, with the names of Hugging Face's TrainingArguments."""

    method: Literal["lora", "full", "freeze"] = "lora"
    """`lora` trains an adapter on a frozen base, `full` every weight of the model, `freeze` only
    its last layers. What learns is held in float32, whatever bf16 says. With `full` and `freeze`
    the trained model takes the adapter's place in all later steps; take a lower learning_rate
    (1e-5 to 5e-5)."""
    freeze_trainable_layers: Count | list[str] = 2
    """With method freeze: the last so many layers learn, or the parts of these names, such as
    [layers.29, norm, lm_head]."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = None
    """Noise on the embeddings while training (NEFTune), 5 to 15; each record gets its own."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training examples."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Stop after this many optimizer steps; -1 goes by epochs."""
    per_device_train_batch_size: Count = 4
    """Times gradient_accumulation_steps: the examples of one optimizer step. How many of them go
    through the model at a time is up to row_length."""
    per_device_eval_batch_size: Count = 4
    """Examples in one forward pass of evaluation; the loss does not depend on it."""
    gradient_accumulation_steps: Count = 2
    """Times per_device_train_batch_size: the examples of one optimizer step."""
    tokens_per_step: Count | None = None
    """Count an optimizer step in tokens instead: about this many, whatever the examples."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (AdamW)."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which the learning rate rises."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises; takes precedence over warmup_ratio when above 0."""
    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "constant",
        "constant_with_warmup",
        "polynomial",
        "inverse_sqrt",
        "warmup_stable_decay",
        "reduce_lr_on_plateau",
    ] = "cosine"
    """How the learning rate falls."""
    lr_scheduler_kwargs: dict[str, float | int | str] = {}
    """What that schedule takes besides, by transformers' names: {min_lr_rate: 0.1},
    {num_cycles: 3}, {num_decay_steps: 100}."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    optim: Literal[
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_bnb_8bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "lion_32bit",
        "lion_8bit",
        "adafactor",
        "sgd",
        "muon",
        "galore_adamw",
        "galore_adamw_8bit",
        "galore_adafactor",
        "apollo_adamw",
    ] = "adamw_torch_fused"
    """The optimizer, by Hugging Face's name. `muon` takes matrices, scaled so that AdamW's learning
    rate fits, and AdamW the rest (embeddings, head, norms). `galore_*` and `apollo_adamw` are for
    method full, and need the extras galore and apollo."""
    optim_args: dict[str, float | int | str] = {}
    """What galore and apollo take besides: {rank: 128, update_proj_gap: 200, scale: 0.25}."""
    bf16: Literal["auto"] | bool = "auto"
    """Keep the base and the activations in bfloat16 (adapter weights stay in float32). `auto` does
    so on GPUs that are good at it, and on CPUs that are 1.5 times as fast in it by a short probe.
    Evaluation and serving on a CPU compute in float32."""
    gradient_checkpointing: Literal["auto"] | bool | Count = "auto"
    """Recompute activations in the backward pass: less memory, and up to half more time. A number
    does so in that many layers; `auto` in as few as free memory allows, which may be none."""
    activation_offloading: bool = False
    """Keep what the backward pass wants in pinned memory of the CPU, not on the GPU: less memory of
    the GPU, and time for the copies. For GPUs alone."""
    packing: bool = True
    """Pack whole records into rows without padding; none sees another. Without it every record
    has a row of its own."""
    row_length: Annotated[int, Field(ge=8)] = 1024
    """Most tokens of a packed row, and so of one forward pass; a longer record has a row of its
    own. Less saves memory; GPUs like more."""
    share_prefixes: bool = True
    """Compute the tokens that the records of a row begin with (a system prompt) once. Exact."""
    speed: Literal["exact", "int8"] = "exact"
    """`int8` multiplies by frozen weights in 8 bits on the fast path: faster on CPUs with VNNI, and
    approximate. How far it is off is measured at the start and said."""
    backend: Literal["auto", "fast", "transformers"] = "auto"
    """What computes a row: `fast` is burnish's own layers for Llama-like models, checked against
    the model's own forward (`transformers`) at the start. `auto` takes it on CPUs if it agrees."""
    use_liger_kernel: Literal["auto"] | bool = "auto"
    """Let Liger's kernels compute norms and MLPs of the model's own forward, on a GPU. `auto` does
    so where liger-kernel is installed and agrees with the model."""
    torch_compile: bool = False
    """Compile the model's own forward with torch.compile, in rows that are padded to row_length.
    It starts minutes later, and pays in long runs."""
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every target that is spread over the whole vocabulary."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared log-partition, which keeps logits small."""
    eval_strategy: Strategy = "epoch"
    """When to measure the validation loss."""
    eval_steps: Count | None = None
    """Steps between evaluations, with eval_strategy steps; by default as logging_steps."""
    save_strategy: Strategy = "epoch"
    """When to write a checkpoint."""
    save_steps: Count = 500
    """Steps between checkpoints, with save_strategy steps."""
    save_total_limit: Count | None = 2
    """How many checkpoints to keep; the best one is always among them."""
    logging_strategy: Literal["steps", "epoch"] = "steps"
    """When to write a line to metrics.jsonl."""
    logging_steps: Count = 10
    """Steps between those lines."""
    load_best_model_at_end: bool = True
    """Keep the adapter of the best evaluation rather than the last one."""
    metric_for_best_model: Literal["validation/loss"] = "validation/loss"
    """What `best` means."""
    greater_is_better: Literal[False] = False
    """Whether a larger metric is better; a smaller loss is."""
    early_stopping_patience: Count | None = None
    """Stop after this many evaluations without a better validation loss."""
    early_stopping_threshold: Annotated[float, Field(ge=0)] = 0.0
    """Only a validation loss that is lower by more than this counts as better for that."""
    bad_steps: Literal["stop", "skip"] = "stop"
    """What to do with a step whose loss or gradient is not finite, or that has no token to learn
    from: stop, or pass over it without an update, five in a row at most. health.jsonl names its
    rows."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Validation prompts to answer at each evaluation, greedily; answers go to samples.jsonl. None
    by default: evaluations can be frequent, and answers are the slowest thing a model does."""
    samples_max_new_tokens: Count = 64
    """Longest of those answers in tokens. All answers of an evaluation may take a minute."""
    report_to: list[Literal["wandb", "tensorboard", "swanlab", "mlflow", "trackio"]] = []
    """Experiment trackers that get what metrics.jsonl gets, under the same names; none by default.
    They write into trackers/ in the run folder, and nothing leaves this machine unless the
    environment says so (WANDB_MODE, SWANLAB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID)."""
    allow_changed: list[str] = []
    """What may differ from the checkpoint that a run goes on from: settings of `train` by name,
    such as [learning_rate], or `data`, `model`, `rendering`. An interrupted run with other changes
    is refused, and `train --force` begins again."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides the adapter's initial values, the order of examples and dropout."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if self.load_best_model_at_end and self.eval_strategy != self.save_strategy:
            raise ValueError(
                "load_best_model_at_end needs a checkpoint at every evaluation: "
                f"eval_strategy is {self.eval_strategy}, save_strategy {self.save_strategy}. "
                "Give both one value, or set load_best_model_at_end: false."
            )
        if self.early_stopping_patience and not self.load_best_model_at_end:
            raise ValueError("early_stopping_patience needs load_best_model_at_end: true.")
        if self.early_stopping_threshold and not self.early_stopping_patience:
            raise ValueError("early_stopping_threshold needs early_stopping_patience.")
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError(
                "load_best_model_at_end needs evaluations. "
                "Set eval_strategy: epoch, or load_best_model_at_end: false."
            )
        if self.eval_steps and self.eval_strategy != "steps":
            raise ValueError(f"eval_steps has no effect with eval_strategy {self.eval_strategy}.")
        if self.lr_scheduler_type == "reduce_lr_on_plateau" and self.eval_strategy == "no":
            raise ValueError("reduce_lr_on_plateau needs evaluations; set eval_strategy: epoch.")
        return self._step_widths_agree()

    @model_validator(mode="after")
    def _method_fits(self) -> Self:
        if self.method != "lora" and self.lora != LoraSettings():
            raise ValueError(f"lora has no effect with method {self.method}; remove one.")
        layers = type(self).model_fields["freeze_trainable_layers"].default
        if self.method != "freeze" and self.freeze_trainable_layers != layers:
            raise ValueError(
                f"freeze_trainable_layers has no effect with method {self.method}; set method: "
                "freeze."
            )
        if self.freeze_trainable_layers == []:
            raise ValueError("freeze_trainable_layers is empty, so nothing would learn.")
        if self.backend == "fast" and (why := self.against_fast_path):
            raise ValueError(f"backend: fast computes plain LoRA alone, and {why}; set auto.")
        return self

    @model_validator(mode="after")
    def _kernels_have_an_effect(self) -> Self:
        own = {"torch_compile": self.torch_compile, "use_liger_kernel": self.use_liger_kernel}
        for name, wanted in own.items():
            if wanted is True and self.backend == "fast":
                raise ValueError(f"{name} has no effect with backend fast; set backend: auto.")
        if self.torch_compile and self.speed == "int8":
            raise ValueError("torch_compile has no effect with speed int8; set speed: exact.")
        if self.torch_compile and self.activation_offloading:
            raise ValueError(
                "torch_compile decides by itself what is kept for the backward pass, and "
                "activation_offloading was not tried with it; set one of them to false."
            )
        return self

    @property
    def against_fast_path(self) -> str:
        """What a recipe asks for that the fast path does not compute; empty if nothing."""
        if self.method != "lora":
            return f"with method {self.method} weights of the model itself learn"
        if self.lora.use_dora:
            return "lora.use_dora changes more than an update of low rank"
        if self.lora.lora_dropout:
            return "lora.lora_dropout is not 0"
        if self.neftune_noise_alpha:
            return "neftune_noise_alpha adds noise to the embeddings"
        return ""

    @model_validator(mode="after")
    def _optimizer_fits(self) -> Self:
        low_rank = self.optim.startswith(("galore", "apollo"))
        if low_rank and self.method != "full":
            raise ValueError(
                f"optim: {self.optim} keeps the optimizer of whole matrices small; with method "
                f"{self.method} there is little to save. Set method: full, or optim: adamw_torch."
            )
        if low_rank and self.weight_decay:
            raise ValueError(f"weight_decay has no effect with optim: {self.optim}; set it to 0.")
        if self.optim_args and not low_rank:
            raise ValueError(f"optim_args has no effect with optim: {self.optim}.")
        if self.lora.loraplus_lr_ratio and self.optim == "muon":
            raise ValueError(
                "lora.loraplus_lr_ratio is for optimizers that scale every weight alone; muon's "
                "steps already have the same size for A and B. Set optim: adamw_torch."
            )
        return self

    def _step_widths_agree(self) -> Self:
        if self.load_best_model_at_end and self.eval_strategy == "steps":
            width = self.eval_steps or self.logging_steps
            if self.save_steps % width:
                raise ValueError(
                    f"save_steps ({self.save_steps}) must be a multiple of eval_steps ({width}) "
                    "with load_best_model_at_end."
                )
        return self


def check_method(model: ModelSection, train: TrainSection) -> None:
    """Refuses methods that make no sense on a base.

    Raises:
        ValueError: says which two settings exclude each other, and why.
    """
    width = "load_in_8bit" if model.load_in_8bit else "load_in_4bit" if model.load_in_4bit else None
    start = train.lora.init_lora_weights
    if width and train.method != "lora":
        raise ValueError(
            f"train.method: {train.method} trains weights of the model itself, and quantized ones "
            f"have no gradient. Set train.method: lora, or model.{width}: false."
        )
    if width and train.lora.changes_base:
        raise ValueError(
            f"train.lora.init_lora_weights: {start} takes a part out of the base's weights, and "
            f"model.{width} leaves none to take it from. Set init_lora_weights: true or loftq."
        )
    if width and start == "orthogonal":
        raise ValueError(
            "train.lora.init_lora_weights: orthogonal makes A and B in the type of the base's "
            f"weights, which are integers with model.{width}. Set init_lora_weights: true."
        )
    if start == "loftq" and not model.load_in_4bit:
        raise ValueError(
            "train.lora.init_lora_weights: loftq makes up for what 4 bits lose, and this base is "
            "whole or has 8. Set model.load_in_4bit: true, or init_lora_weights: true."
        )
    if not model.new_tokens:
        return
    if train.lora.changes_base:
        raise ValueError(
            f"the rows of model.new_tokens would be lost when an adapter of init_lora_weights: "
            f"{start} is made to fit the original base. Set init_lora_weights: true."
        )
    layers = train.freeze_trainable_layers
    if train.method == "freeze" and not (isinstance(layers, list) and "embed_tokens" in layers):
        raise ValueError(
            "model.new_tokens need rows that learn, and method freeze leaves the embeddings as "
            "they are. Name embed_tokens (and lm_head) in train.freeze_trainable_layers."
        )


class EvaluateSection(Section):
    """What is measured on the base and on the adapter."""

    split: SplitName = "test"
    """The held-out split for loss, perplexity and answers; where it is empty, validation."""
    per_device_eval_batch_size: Count = 4
    """Examples in one forward pass; the loss does not depend on it."""
    prompts: list[str] = []
    """Questions of your own to answer, before those of the split."""
    num_answers: Annotated[int, Field(ge=0)] = 8
    """How many questions of the split to answer."""
    max_new_tokens: Count = 128
    """Longest answer in tokens. Answers here are greedy, so that two runs agree."""
    tasks: list[str] = []
    """Tasks of lm-evaluation-harness, such as [mmlu, truthfulqa_mc1]; needs the extra `eval`."""
    num_fewshot: Annotated[int, Field(ge=0)] = 5
    """Examples shown before each question, where the task allows it (TruthfulQA does not)."""
    limit: Count | None = None
    """Questions per task; all by default."""
    benchmarks_folder: str | None = None
    """A folder with the benchmark files laid out as on the hub (cais/mmlu, …); nothing is fetched
    then."""


class MergeSection(Section):
    """How the adapter is merged into the base."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the merged weights; `auto` takes the base's own."""


class QuantizeSection(Section):
    """GPTQ of the merged model, calibrated on the run's own training examples."""

    bits: Literal[4, 8] = 4
    """Bits of a weight."""
    group_size: Literal[-1, 16, 32, 64, 128, 256] = 128
    """Input columns that share a scale; -1 takes a whole row. Lowered aloud where it does not
    divide the width of a layer."""
    desc_act: bool = False
    """Quantize the columns with the largest activations first (act-order): a little better, slower
    in some kernels."""
    damp_percent: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Dampening of the Hessian, as a share of its mean diagonal."""
    num_samples: Count = 128
    """Training examples for calibration."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides which examples."""


class ServeSection(Section):
    """The HTTP server and the chat in the terminal."""

    artifact: Literal["merged", "quantized", "adapter", "base"] = "merged"
    """Which model answers."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the server to the network."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen on."""
    max_new_tokens: Count = 512
    """Longest answer in tokens, where a request does not say."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Randomness of the answer; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Only the likeliest tokens that together have this probability are drawn."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Above 1 makes tokens that already occurred less likely."""
    system_prompt: str | None = None
    """A system prompt for requests that bring none."""


class Recipe(Section):
    """One file that says everything about a run."""

    run_dir: str | None = None
    """The run folder; by default runs/<name of the recipe>. Relative to the working directory."""
    model: ModelSection = ModelSection()
    """The model to start from."""
    data: DataSection
    """Where the examples come from."""
    clean: CleanSection = CleanSection()
    """What is repaired and what is dropped."""
    prepare: PrepareSection = PrepareSection()
    """How conversations become token ids and splits."""
    train: TrainSection = TrainSection()
    """The training run."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is measured."""
    merge: MergeSection = MergeSection()
    """How the adapter is merged."""
    quantize: QuantizeSection = QuantizeSection()
    """How the merged model is quantized."""
    serve: ServeSection = ServeSection()
    """The server and the chat."""

    @model_validator(mode="after")
    def _method_fits_the_base(self) -> Self:
        check_method(self.model, self.train)
        if self.model.new_tokens and self.train.method == "lora" and self.evaluate.tasks:
            raise ValueError(
                "evaluate.tasks: lm-evaluation-harness can't load an adapter with "
                "model.new_tokens. Take the tasks out, and run it on the merged model."
            )
        return self
