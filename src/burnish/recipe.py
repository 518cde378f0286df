"""Every setting of burnish: its default, its range and its help, one frozen model per section.

A default stands here and nowhere else. The docstring under a field is its help everywhere: in the
generated reference, in the JSON schema that editors read and in error messages. Settings of
training bear the names that Hugging Face Transformers and PEFT gave them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["no", "steps", "epoch"]
LanguageName = Literal["zh", "en", "ja", "ko", "ru", "ar", "th", "hi", "el", "he"]
PrivacyKind = Literal[
    "mobile", "landline", "resident_id", "bank_card", "email", "ip", "wechat", "qq", "name"
]
SplitName = Literal["train", "validation", "test"]


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
    load_in_8bit: bool = False
    """Train and evaluate on a base quantized to 8 bits (bitsandbytes). Merging reloads it whole."""
    load_in_4bit: bool = False
    """Train and evaluate on a base quantized to 4 bits (nf4 with double quantization)."""
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """The attention of the model's own forward, by its name in transformers; `auto` takes that
    library's choice. flash_attention_2 needs the package flash-attn, a GPU and bfloat16."""
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
    train_on: Literal["all", "last"] = "all"
    """Learn every answer of a conversation, or the last one only. Some chat templates write earlier
    answers otherwise than they were given (Qwen3 takes the reasoning out); such conversations can
    only be learned with `last`. A message with `train: false` (or `weight: 0`) is never learned."""
    too_long: Literal["cut", "reject"] = "cut"
    """Cut the end of an answer that does not fit (its stop token then goes untrained), or reject
    the row. A row that would lose all of its answer is always rejected."""
    validation_size: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of conversations held out to watch training."""
    test_size: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of conversations held out for the final evaluation."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides which conversations are held out. The split goes by content: rows added later do not
    move old ones."""
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
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the update matrices."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors are trained."""
    target_modules: str | list[str] = "all-linear"
    """`all-linear`, or names of layers such as [q_proj, v_proj]."""


class TrainSection(Section):
    """The training run, with the names of Hugging Face's TrainingArguments."""

    lora: LoraSettings = LoraSettings()
    """The adapter."""
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
        "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
    ] = "cosine"
    """How the learning rate falls."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    optim: Literal[
        "adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_8bit", "adafactor"
    ] = "adamw_torch_fused"
    """The optimizer, by Hugging Face's name."""
    bf16: Literal["auto"] | bool = "auto"
    """Keep the base and the activations in bfloat16 (adapter weights stay in float32). `auto` does
    so on GPUs that are good at it, and on CPUs that are 1.5 times as fast in it by a short probe.
    Evaluation and serving on a CPU compute in float32."""
    gradient_checkpointing: bool | Count = False
    """Recompute activations in the backward pass: less memory, about a third more time. A number
    recomputes only so many layers (on the fast path; elsewhere all)."""
    packing: bool = True
    """Pack whole records into rows without padding; none sees another. Without it every record
    has a row of its own."""
    row_length: Annotated[int, Field(ge=8)] = 1024
    """Most tokens of a packed row, and so of one forward pass; a longer record has a row of its
    own. Less saves memory; GPUs like more."""
    share_prefixes: bool = True
    """Compute the tokens that the records of a row begin with (a system prompt) once. Exact."""
    backend: Literal["auto", "fast", "transformers"] = "auto"
    """What computes a row: `fast` is burnish's own layers for Llama-like models, checked against
    the model's own forward (`transformers`) at the start. `auto` takes it on CPUs if it agrees."""
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
    report_to: list[Literal["wandb", "tensorboard", "swanlab", "mlflow", "trackio"]] = []
    """Experiment trackers to write to; none by default."""
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
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError(
                "load_best_model_at_end needs evaluations. "
                "Set eval_strategy: epoch, or load_best_model_at_end: false."
            )
        if self.eval_steps and self.eval_strategy != "steps":
            raise ValueError(f"eval_steps has no effect with eval_strategy {self.eval_strategy}.")
        return self._step_widths_agree()

    def _step_widths_agree(self) -> Self:
        if self.load_best_model_at_end and self.eval_strategy == "steps":
            width = self.eval_steps or self.logging_steps
            if self.save_steps % width:
                raise ValueError(
                    f"save_steps ({self.save_steps}) must be a multiple of eval_steps ({width}) "
                    "with load_best_model_at_end."
                )
        return self


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
