"""Trains a LoRA adapter with TRL and PEFT, as a plan says, one step at a time or straight through.

    .venv-peers/bin/python bench/peers/trl_train.py PLAN.json

It is TRL's own trainer that runs (SFTTrainer, DPOTrainer), on rows that come as token ids in the order to train in, so that it
sees exactly what the program that it is compared with sees. Messages go to standard output, one JSON object a line: "ready"
with versions, "step" with its seconds, "evaluation", "end" with the peak memory. In a paced run every step waits for a line on
standard input, so that two programs can take turns on one machine.
"""

import json
import os
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

# What libraries print must not stand between the messages.
messages = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(event, **fields):
    messages.write(json.dumps({"event": event, **fields}) + "\n")
    messages.flush()


def limit_memory(plan):
    """Beyond this an allocation fails by itself, instead of the system ending whichever process it likes."""
    limit = plan.get("memory_limit_bytes")
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main():
    parent = os.getppid()
    plan = json.loads(Path(sys.argv[1]).read_text())
    limit_memory(plan)
    import torch
    from datasets import Dataset
    from peft import LoraConfig, PeftModel, get_peft_model
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    torch.set_num_threads(plan["threads"])
    torch.manual_seed(plan["seed"])
    is_bf16 = plan["dtype"] == "bfloat16"
    base = AutoModelForCausalLM.from_pretrained(plan["model"], dtype=getattr(torch, plan["dtype"]))
    # The rows are ids already: the trainer only wants to know what to pad with.
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")
    if plan.get("initial_adapter"):
        model = PeftModel.from_pretrained(base, plan["initial_adapter"], is_trainable=True)
    else:
        lora = plan["lora"]
        config = LoraConfig(
            r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=0.0, target_modules=lora["target_modules"],
            task_type="CAUSAL_LM",
        )  # fmt: skip
        model = get_peft_model(base, config)

    class Paced(TrainerCallback):
        """Times every step from its beginning to the end of the optimizer's update."""

        def on_step_begin(self, args, state, control, **kwargs):
            # Nobody waits for a run whose starter is gone.
            if os.getppid() != parent or (plan["paced"] and sys.stdin.readline() == ""):
                os._exit(0)
            self.start = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            say("step", seconds=time.perf_counter() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        optimizer = plan["optimizer"]
        common = dict(
            output_dir=folder, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            num_train_epochs=1, per_device_train_batch_size=plan["batch_size"],
            # A mean over tokens of each batch, then over batches: only one batch gives the mean over all tokens.
            per_device_eval_batch_size=4 if plan["method"] == "dpo" else max(1, len(plan.get("validation") or [])),
            train_sampling_strategy="sequential", gradient_checkpointing=False, bf16=is_bf16, max_length=None,
            learning_rate=optimizer["learning_rate"], lr_scheduler_type=optimizer["schedule"],
            warmup_steps=optimizer["warmup_steps"], max_grad_norm=optimizer["clip_norm"], optim="adamw_torch",
            weight_decay=optimizer["weight_decay"], adam_beta1=optimizer["beta1"], adam_beta2=optimizer["beta2"],
            adam_epsilon=optimizer["epsilon"], seed=plan["seed"],
        )  # fmt: skip
        if plan["method"] == "dpo":
            # Rows are token ids, which its preparation does not take; the collator's columns are the same.
            class Trainer(DPOTrainer):
                def _prepare_dataset(self, dataset, *args, **kwargs):
                    return dataset

            arguments = DPOConfig(beta=plan["beta"], loss_type="sigmoid", disable_dropout=True, **common)
        else:
            Trainer, arguments = SFTTrainer, SFTConfig(**common)
        validation = plan.get("validation")
        trainer = Trainer(
            model=model, args=arguments, train_dataset=Dataset.from_list(plan["training"]),
            eval_dataset=Dataset.from_list(validation) if validation else None,
            processing_class=tokenizer, callbacks=[Paced()],
        )  # fmt: skip
        names = ["trl", "peft", "transformers", "torch", "accelerate"]
        say("ready", versions={name: version(name) for name in names}, threads=torch.get_num_threads())
        trainer.train()
        if validation:
            say("evaluation", metrics=trainer.evaluate())
        if plan.get("adapter"):
            trainer.model.save_pretrained(plan["adapter"])
    say("end", peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    try:
        main()
    except (MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, MemoryError) or "allocate memory" in str(error) or "not enough memory" in str(error)
        if not is_memory:
            raise
        say("out_of_memory", message=str(error).splitlines()[0] if str(error) else "MemoryError")
        sys.exit(1)
