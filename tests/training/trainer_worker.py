"""A run of the Trainer in its own process, to be killed.

    python trainer_worker.py FOLDER [FOLDER …] [--pause STEP]

Trains in each folder, one after the other, from its `resume_point` if there is one, and prints
what `worker.py` prints. With `--pause`, in the last folder, it waits to be killed in the middle of
that checkpoint, when the weights are written and neither random nor Trainer's state is.
"""

import argparse
import signal

import torch
import transformers
from worker import LENGTH, SEED, VOCABULARY, collate, fingerprint

from cookbook.training.order import Keyed
from cookbook.training.trainer import MaskedLMTrainer
from cookbook.training.trainer_checkpoints import VerifiedCheckpoints, resume_point

STEPS = 14  # of 3 batches; 9 batches to an epoch, the last one short


class Told(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        print(f"step {state.global_step}", flush=True)


class Trainer(MaskedLMTrainer):
    pause = 0

    def _save_rng_state(self, output_dir):
        if self.state.global_step == self.pause:
            print(f"half {self.pause}", flush=True)
            signal.pause()
        super()._save_rng_state(output_dir)


def run(folder, pause):
    transformers.set_seed(SEED)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=LENGTH,
    )  # fmt: skip
    args = transformers.TrainingArguments(
        folder, max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=3,
        save_strategy="steps", save_steps=2, save_total_limit=3, warmup_steps=3,
        remove_unused_columns=False, logging_strategy="no", report_to=[], disable_tqdm=True,
        seed=SEED, use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(
        transformers.BertForMaskedLM(config),
        args,
        data_collator=collate,
        train_dataset=Keyed(
            [{"input_ids": torch.randint(2, VOCABULARY, (LENGTH,))} for _ in range(34)]
        ),
        callbacks=[VerifiedCheckpoints(), Told()],
    )
    trainer.pause = pause
    trainer.train(resume_from_checkpoint=resume_point(folder))
    parts = {"optimizer": trainer.optimizer, "scheduler": trainer.lr_scheduler}
    print("end", fingerprint(trainer.model, **parts), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--pause", type=int, default=0)
    options = parser.parse_args()
    for folder in options.folders:
        run(folder, options.pause if folder == options.folders[-1] else 0)
