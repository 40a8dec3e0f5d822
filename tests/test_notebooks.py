"""Every chapter under the smoke profile: once by papermill, once by nbval against its outputs.

Two processes at a time, one thread each, from a working directory of their own. What they
measured must be there and be finite; what smoke does not test is listed after the results.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
pytestmark = pytest.mark.notebook

# What a chapter must have measured, beside whatever else it records.
MEASURED = {
    "00_quickstart": {"mlm_loss_before", "mlm_loss_after", "gain_over_random", "accuracy_broken"},
    "01_data_preparation": {"rows", "kept", "exact_copies", "near_copies", "copied_share"},
    "02_attention_and_loss": {
        "variance_at_256_raw",
        "entropy_at_256_scaled",
        "lookup_raw_256",
        "bert_logit_difference",
        "previous_token_share",
        "changed_without_mask",
        "logits_moved_with_mask",
    },
    "03_masked_language_modeling": {
        "initial_loss",
        "ln_v",
        "baseline_accuracy",
        "accuracy_ours",
        "nsp_notices_exchange",
        "test_perplexity_ours",
    },
    "04_causal_and_denoising": {
        "initial_loss",
        "ln_v",
        "bits_GPT",
        "bits_3_gram",
        "bits_window_16",
        "own_loss_BART",
        "everything_XLNet",
        "four_tokens_T5",
        "after_the_hole_GPT",
        "shifted_next_token",
        "test_bits_GPT",
    },
    "05_contrastive_learning": {
        "recall10_BM25",
        "recall10_untrained",
        "recall10_SimCSE_pairs",
        "test_recall10_both",
        "uniformity_pairs",
        "memory_chunks_8_times",
        "loss_copies_are_negatives",
        "uniformity_collapsed",
        "clip_caption_recall10",
        "clip_copied_recall10",
        "clip_zero_shot",
        "clip_scale",
    },
    "06_model_selection": {
        "unknown_chinese",
        "shorter_with_new_words",
        "megabytes_lora",
        "predicted_over_measured_full",
        "seconds_predicted",
        "lost_by_trusting_the_probe",
        "probe_stranger",
    },
    "11_distributed_training": {
        "naive_gradient_off",
        "weights_apart",
        "fsdp_share",
        "resumed_apart",
        "tensor_share",
        "accuracy_padded",
        "steps_again",
        "step_measured_over_paper",
        "fits_from_devices",
        "drift_apart",
    },
    "10_speed_and_mixed_precision": {
        "nominal",
        "executed_padded",
        "times_top",
        "gradient_masked_positions",
        "gradient_bf16",
        "loss_half",
        "masked_words_mean_of_means",
        "accumulated_transformers_4",
        "accumulated_ours_4",
        "lost_fp16",
        "lost_fp16_scaled",
        "changed_bf16",
        "tuned_rows",
    },
    "12_evaluation_and_errors": {
        "accuracy_best",
        "temperature",
        "recall_balanced",
        "label_errors_recall",
        "fall_integrated_gradients",
        "swap_moved",
    },
    "07_finetuning_strategies": {
        "pieces_per_word",
        "accuracy.full",
        "trainable.lora",
        "forgets.linear-probe",
        "lora_behind",
        "domain_gap",
        "prompt_right",
    },
    "08_optimizers_and_schedules": {
        "majority",
        "accuracy_AdamW",
        "rate_SGD",
        "first_step_per_rate",
        "recall_before",
        "gain_decayed",
        "search_best",
        "unseen_adam",
        "schedule_broken_accuracy",
        "recall_at_10",
    },
    "09_overfitting": {
        "tfidf",
        "loss_rise_docbert",
        "fit_random_labels",
        "gain_dropout",
        "gain_no_pretraining",
        "pictures_flip",
        "optimism_test",
        "leak_broken_validation",
        "copies_by_words",
    },
    "13_when_training_goes_wrong": {
        "padding_on_words",
        "ends_mended",
        "next_token_shifted",
        "memoriser_careful",
        "nan_steps",
        "changed_bf16",
        "cosine_collapsed",
        "accumulated_transformers_4",
    },
    "15_tasks": {
        "classification_f1",
        "half_dealt_out",
        "pairs_cosines",
        "entity_f1",
        "entity_f1_unaligned",
        "answers_lost_by_cutting",
        "answer_f1",
        "greedy_de_chrf",
        "endless_broken",
        "loss_real_padding",
        "rougeL_lead",
    },
    "14_vision_and_multimodal": {
        "accuracy_cnn",
        "few_vit",
        "shifted_resnet",
        "augmented_rotate",
        "few_carried_over",
        "evaluation_jitters",
        "mae_pretrained",
        "clip_zero_shot",
        "map_50",
        "answers",
        "drawn_right",
        "described",
        "test_accuracy",
    },
    "16_smaller_models": {
        "accuracy_teacher",
        "distillation_gain",
        "hidden_states_gain",
        "more_rows_gain",
        "accuracy_cut",
        "accuracy_ignored",
        "onnx_difference",
        "onnx_int8_agreement",
    },
}
HANGS = 1200  # seconds after which a process is not slow but stuck


def start(command, folder, **more):
    """Run a command in a folder with one thread, no network and no profile but the given one."""
    # Agg would keep the figures out of the outputs that nbval compares.
    kept = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "COOKBOOK_PROFILE")}
    kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANGS,
    )


def smoke(path, folder):
    return start(
        ["papermill", path, folder / path.name, "--no-progress-bar"]
        + ["-p", "profile", "smoke", "-p", "output_dir", folder / "out"],
        folder,
    )


def compare(path, folder):
    shutil.copy(path, folder)
    alone = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider", "-q", "--color=no"]
    command = ["pytest", "--nbval", path.name, "--nbval-kernel-name", "python3", *alone]
    return start(command, folder, COOKBOOK_PROFILE="smoke", TQDM_DISABLE="1")


@pytest.fixture(scope="module")
def jobs(request, tmp_path_factory):
    """The processes of all selected tests, two at a time, started together: {(run, path): …}."""
    selected = [
        item.callspec.params for item in request.session.items if "jobs" in item.fixturenames
    ]
    # The embedded texts are harvested once, not by two chapters at the same time.
    start(["cookbook.cli", "data", "docstrings"], tmp_path_factory.mktemp("harvest"))
    with ThreadPoolExecutor(2) as pool:
        yield {
            (params["run"], params["path"]): (
                pool.submit(params["run"], params["path"], folder),
                folder,
            )
            for params in selected
            for folder in [tmp_path_factory.mktemp(params["path"].stem)]
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def job(jobs, run, path):
    """The finished process of this test, and the folder that it ran in."""
    process, folder = jobs[run, path]
    return process.result(), folder


def each_chapter_by(run):
    cases = [pytest.param(run, path, id=path.stem) for path in NOTEBOOKS]
    return pytest.mark.parametrize(("run", "path"), cases)


@each_chapter_by(smoke)
def test_a_chapter_runs_and_measures(job, run, path, not_tested):
    process, folder = job
    assert process.returncode == 0, process.stdout[-4000:]
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results.keys() >= MEASURED.get(path.stem, set()) and results
    for name, number in results.items():
        assert re.fullmatch(r"[A-Za-z][\w.@=-]*", name), f"{name!r} is not a flat name"
        assert type(number) in (int, float) and math.isfinite(number), f"{name} is {number}"
    assert list((folder / "out").glob("*.png")), "no figure was saved"
    untested = re.findall(r"^claim: (.+): not tested", printed(folder / path.name), re.MULTILINE)
    not_tested += [f"{path.stem}: {claim}" for claim in untested]


@each_chapter_by(compare)
def test_the_committed_outputs_still_come_out(job, run, path):
    process, folder = job
    assert process.returncode == 0, process.stdout[-6000:]
    assert len(compared(path)) >= 5


def printed(path):
    outputs = [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", [])]
    return "".join(o.text for o in outputs if o.output_type == "stream")


def compared(path):
    """The cells of a notebook whose words nbval compares; a figure alone has none."""
    found = []
    for cell in nbformat.read(path, 4).cells:
        skipped = {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and not skipped and "NBVAL_" not in cell.source:
            texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
            if any(text and not text.startswith("<Figure") for text in texts):
                found.append(cell)
    return found
