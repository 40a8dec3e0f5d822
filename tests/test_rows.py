"""The rows of the mission, each with the test and the chapter's section that prove it.

A row without proof is not hidden: it is listed after the results of every run, until it works.
"""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from cookbook import chapters

ROOT = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    number: int
    what: str
    chapters: str
    test: str = ""  # tests/file.py::test_name
    section: str = ""  # notebook stem # words of a heading


ROWS = [
    Row(
        1,
        "cleaning: noise, outliers, one format",
        "01",
        "tests/data/test_cleaning.py::test_a_case_by_hand",
        "01_data_preparation # One format",
    ),
    Row(
        2,
        "exact and near de-duplication",
        "01",
        "tests/data/test_deduplication.py::test_equals_brute_force",
        "01_data_preparation # 4 · Copies",
    ),
    Row(
        3,
        "balance of sources, domains and classes",
        "01",
        "tests/data/test_sampling.py::test_shares_by_hand",
        "01_data_preparation # Balance",
    ),
    Row(
        4,
        "training/validation/test splits without leaks",
        "01",
        "tests/data/test_splits.py::test_no_text_and_no_group_is_on_two_sides_and_every_row_on_one",
        "01_data_preparation # Splits that share nothing",
    ),
    Row(
        5,
        "tokenisation, training a tokenizer",
        "01",
        "tests/data/test_tokenization.py::"
        "test_clean_ascii_comes_back_and_is_encoded_the_same_again",
        "01_data_preparation # A tokenizer",
    ),
    Row(
        6,
        "text augmentation: random mask, insert, swap, delete",
        "01, 09",
        "tests/data/test_augmentation.py::test_augment_appends_edited_copies_with_their_labels",
        "01_data_preparation # More data from the same data",
    ),
    Row(
        7,
        "image augmentation: rotate, flip, crop",
        "09, 14",
        "tests/data/test_image_augmentation.py::test_four_quarter_turns_are_the_identity",
        "09_overfitting # Pictures: turn, mirror, cut, blend",
    ),
    Row(
        8,
        "scaled dot-product and multi-head attention",
        "02",
        "tests/maths/test_attention.py::test_equals_torch_under_every_mask",
        "02_attention_and_loss # One query, some keys",
    ),
    Row(
        9,
        "encoder, decoder, encoder–decoder",
        "02",
        "tests/maths/test_blocks.py::test_decoder_block_equals_torchs",
        "02_attention_and_loss # The blocks",
    ),
    Row(
        10,
        "cross-entropy, mean squared error",
        "02",
        "tests/maths/test_losses.py::test_cross_entropy_equals_torch",
        "02_attention_and_loss # The loss",
    ),
    Row(
        11,
        "masked language modelling",
        "03",
        "tests/training/test_objectives.py::"
        "test_of_the_asked_tokens_80_are_hidden_10_swapped_and_10_shown",
        "03_masked_language_modeling # Hide some of it",
    ),
    Row(
        12,
        "next sentence prediction",
        "03",
        "tests/training/test_objectives.py::"
        "test_label_0_follows_and_label_1_is_of_another_document",
        "03_masked_language_modeling # Next sentence prediction",
    ),
    Row(
        13,
        "autoregressive language modelling",
        "04",
        "tests/training/test_causal.py::test_the_loss_by_hand_is_the_loss_of_the_library",
        "04_causal_and_denoising # 2 · Causal",
    ),
    Row(
        14,
        "contrastive learning, text",
        "05",
        "tests/maths/test_contrastive.py::test_info_nce_equals_a_cross_entropy_over_cosines",
        "05_contrastive_learning # With pairs",
    ),
    Row(
        15,
        "contrastive learning, image and text",
        "05, 14",
        "tests/training/test_clip.py::test_a_small_set_is_learned_and_a_run_repeats_itself",
        "05_contrastive_learning # Pictures and words: CLIP",
    ),
    Row(
        16,
        "permutation and denoising objectives",
        "04",
        "tests/training/test_permutation.py::test_a_position_sees_neither_itself_nor_a_later_one",
        "04_causal_and_denoising # 6 · Permutation",
    ),
    Row(
        17,
        "initialisation: random, pretrained, modified and extended",
        "03, 06",
        "tests/models/test_surgery.py::test_pouring_says_what_it_could_not",
        "06_model_selection # 3 · Candidates",
    ),
    Row(
        18,
        "BERT",
        "03, 06",
        "tests/models/test_text.py::test_small_has_about_five_million_parameters",
        "03_masked_language_modeling # Pretrain",
    ),
    Row(
        19,
        "RoBERTa",
        "03, 06",
        "tests/models/test_generative.py::test_an_encoder_sees_both_sides",
        "04_causal_and_denoising # 11 · Every architecture",
    ),
    Row(
        20,
        "GPT",
        "04, 06",
        "tests/models/test_generative.py::test_a_later_token_never_moves_an_earlier_logit",
        "04_causal_and_denoising # 3 · Evaluate",
    ),
    Row(
        21,
        "XLNet",
        "04, 06",
        "tests/models/test_generative.py::"
        "test_xlnet_predicts_from_what_the_permutation_allows_and_not_from_itself",
        "04_causal_and_denoising # 6 · Permutation",
    ),
    Row(
        22,
        "BART",
        "04, 06",
        "tests/models/test_generative.py::"
        "test_the_target_is_written_from_the_left_and_the_source_read_as_a_whole",
        "04_causal_and_denoising # 5 · Denoising",
    ),
    Row(
        23,
        "T5",
        "04, 06",
        "tests/models/test_generative.py::test_what_was_learned_by_heart_is_written",
        "04_causal_and_denoising # 5 · Denoising",
    ),
    Row(
        24,
        "encoder–decoder from parts",
        "04, 06",
        "tests/models/test_generative.py::"
        "test_both_berts_may_be_poured_in_and_only_the_cross_attention_is_new",
        "04_causal_and_denoising # 12 · A model that writes",
    ),
    Row(
        25,
        "CNN",
        "14",
        "tests/models/test_convolutional.py::test_a_shifted_image_gives_shifted_features",
        "14_vision_and_multimodal # 2 · What a convolution knows",
    ),
    Row(
        26,
        "VGG",
        "14",
        "tests/models/test_convolutional.py::test_vgg_11_has_the_papers_number_of_weights",
        "14_vision_and_multimodal # 3 · Five networks from scratch",
    ),
    Row(
        27,
        "ResNet",
        "14",
        "tests/models/test_vision.py::test_images_from_8_to_48_pixels_grey_and_in_colour",
        "14_vision_and_multimodal # 3 · Five networks from scratch",
    ),
    Row(
        28,
        "EfficientNet",
        "14",
        "tests/models/test_vision.py::test_an_image_reaches_the_logits_before_any_training",
        "14_vision_and_multimodal # 3 · Five networks from scratch",
    ),
    Row(
        29,
        "ViT",
        "14",
        "tests/models/test_registry.py::test_one_batch_is_learned_by_heart",
        "14_vision_and_multimodal # How many images is that knowledge worth?",
    ),
    Row(
        30,
        "RNN",
        "04, 06",
        "tests/models/test_recurrent.py::test_a_step_equals_torch_in_value_and_gradient",
        "04_causal_and_denoising # 3 · Evaluate",
    ),
    Row(
        31,
        "Word2Vec",
        "04, 06",
        "tests/models/test_word2vec.py::test_the_loss_equals_the_formula_in_value_and_gradient",
        "04_causal_and_denoising # 10 · Before the transformer",
    ),
    Row(
        32,
        "ELMo",
        "04, 06",
        "tests/models/test_recurrent.py::test_each_direction_sees_its_own_side_only",
        "04_causal_and_denoising # 10 · Before the transformer",
    ),
    Row(
        33,
        "CLIP",
        "05, 14",
        "tests/training/test_clip.py::test_the_loss_is_transformers",
        "05_contrastive_learning # Pictures and words: CLIP",
    ),
    Row(
        34,
        "VL-BERT",
        "05, 14",
        "tests/models/test_multimodal.py::test_the_masked_word_is_learned_from_the_image_alone",
        "14_vision_and_multimodal # 11 · Is the 7 left of the 3?",
    ),
    Row(
        35,
        "DALL-E, in small",
        "05, 14",
        "tests/models/test_image_tokens.py::test_the_caption_decides_which_image_is_drawn",
        "14_vision_and_multimodal # 12 · Images from words",
    ),
    Row(
        36,
        "Flamingo, in small",
        "05, 14",
        "tests/models/test_bridge.py::"
        "test_two_trained_models_stay_as_they_are_and_learn_to_describe",
        "14_vision_and_multimodal # 13 · Words about images",
    ),
    Row(
        37,
        "SGD, Adam, AdamW",
        "08",
        "tests/maths/test_optimizers.py::test_fifty_steps_equal_torch",
        "08_optimizers_and_schedules # Optimizers are a few lines each",
    ),
    Row(
        38,
        "LAMB",
        "08",
        "tests/maths/test_optimizers.py::"
        "test_fifty_steps_of_lamb_equal_pytorch_optimizer_once_its_deviations_are_on",
        "08_optimizers_and_schedules # Optimizers are a few lines each",
    ),
    Row(
        39,
        "warm-up, linear and cosine decay, gradient clipping",
        "08",
        "tests/training/test_schedules.py::test_equal_to_transformers_at_every_step",
        "08_optimizers_and_schedules # Warm-up, and why",
    ),
    Row(
        40,
        "layer-wise learning rates",
        "08",
        "tests/training/test_groups.py::test_each_trainable_parameter_is_in_exactly_one_group",
        "08_optimizers_and_schedules # A rate for each layer",
    ),
    Row(
        41,
        "full fine-tuning",
        "07",
        "tests/finetuning/test_strategies.py::test_full_moves_every_layer",
        "07_finetuning_strategies # 3 · All of them",
    ),
    Row(
        42,
        "partial-layer fine-tuning",
        "07",
        "tests/finetuning/test_freezing.py::"
        "test_what_is_chosen_moves_and_nothing_else_does_bit_for_bit",
        "07_finetuning_strategies # 2 · What moves",
    ),
    Row(
        43,
        "feature extraction",
        "07",
        "tests/finetuning/test_strategies.py::"
        "test_the_encoder_reads_each_row_once_for_all_rates_and_seeds",
        "07_finetuning_strategies # 3 · All of them",
    ),
    Row(
        44,
        "prompt tuning",
        "07",
        "tests/maths/test_adapters.py::test_a_prompt_equals_pefts",
        "07_finetuning_strategies # One rate for prompt and head",
    ),
    Row(
        45,
        "adapters",
        "07",
        "tests/finetuning/test_adapters.py::test_the_model_is_the_same_function_after_insertion",
        "07_finetuning_strategies # 2 · What moves",
    ),
    Row(
        46,
        "LoRA and its kin",
        "07",
        "tests/maths/test_adapters.py::test_lora_equals_peft",
        "07_finetuning_strategies # 2 · What moves",
    ),
    Row(
        47,
        "distillation",
        "07, 16",
        "tests/finetuning/test_distillation.py::"
        "test_the_student_learns_what_the_teacher_says_not_the_labels",
        "07_finetuning_strategies # 3 · All of them",
    ),
    Row(
        48,
        "multi-task learning",
        "07",
        "tests/finetuning/test_multitask.py::"
        "test_an_epoch_shows_every_labelled_row_once_and_the_others_in_proportion",
        "07_finetuning_strategies # 3 · All of them",
    ),
    Row(
        49,
        "which strategy: resources, data, complexity, size, time",
        "07",
        "tests/finetuning/test_comparison.py::test_the_table_by_hand",
        "07_finetuning_strategies # 7 · What to take",
    ),
    Row(
        50,
        "which model: task, data, scale, domain, complexity, licence, cost",
        "06",
        "tests/finetuning/test_selection.py::test_what_fits_is_proposed_with_its_reasons",
        "06_model_selection # 9 · The recommendation",
    ),
    Row(
        51,
        "overfitting and its remedies",
        "09",
        "tests/finetuning/test_remedies.py::"
        "test_each_remedy_changes_the_run_and_nothing_it_leaves_behind",
        "09_overfitting # One remedy at a time",
    ),
    Row(
        52,
        "faster: larger batches, mixed precision",
        "10",
        "tests/scaling/test_speed.py::test_these_rungs_change_the_time_and_not_the_gradient",
        "10_speed_and_mixed_precision # 2 · The ladder",
    ),
    Row(
        53,
        "distributed training and model parallelism",
        "11",
        "tests/scaling/test_distributed.py::test_two_ranks_end_with_the_weights_of_one_process",
        "11_distributed_training # 7 · Cutting the model itself",
    ),
    Row(
        54,
        "accuracy, precision, recall, F1, perplexity; curves",
        "12",
        "tests/evaluation/test_curves.py::test_equal_to_scikit_learn_on_1000_random_cases",
        "12_evaluation_and_errors # Two models, the same rows",
    ),
    Row(
        55,
        "error analysis, class imbalance, bias in the data",
        "12",
        "tests/evaluation/test_errors.py::test_every_row_is_in_one_slice_of_each_property",
        "12_evaluation_and_errors # Where it errs",
    ),
    Row(
        56,
        "classification: sentiment, spam, topics",
        "07, 15",
        "tests/finetuning/test_strategies.py::test_learns_and_accounts_for_itself",
        "07_finetuning_strategies # 1 · A task",
    ),
    Row(
        57,
        "translation",
        "15",
        "tests/finetuning/test_sequence_to_sequence.py::"
        "test_what_was_learnt_is_written_and_without_an_end_it_does_not_stop",
        "15_tasks # 5 · Another language",
    ),
    Row(
        58,
        "question answering",
        "15",
        "tests/finetuning/test_question_answering.py::"
        "test_answers_come_from_the_window_that_has_them",
        "15_tasks # 4 · An answer in a text",
    ),
    Row(
        59,
        "summarisation",
        "15",
        "tests/finetuning/test_sequence_to_sequence.py::"
        "test_two_copies_of_an_encoder_write_and_know_their_end",
        "15_tasks # 6 · A shorter text",
    ),
    Row(
        60,
        "named entities",
        "15",
        "tests/finetuning/test_tagging.py::"
        "test_a_tagger_learns_two_sentences_by_heart_and_not_where_labels_are_unaligned",
        "15_tasks # 3 · A tag for each word",
    ),
    Row(
        61,
        "images: classification, detection, generation, matching, questions",
        "14",
        "tests/evaluation/test_detection.py::test_equal_to_pycocotools_on_1000_random_cases",
        "14_vision_and_multimodal # 10 · Where is what",
    ),
    Row(
        62,
        "explanation",
        "12",
        "tests/evaluation/test_interpretation.py::test_equal_to_captum",
        "12_evaluation_and_errors # Why did it say so?",
    ),
    Row(
        63,
        "compression",
        "16",
        "tests/finetuning/test_pruning.py::test_a_cut_head_is_a_silent_head_and_its_weights_are_gone",
        "16_smaller_models # Whole heads",
    ),
    Row(
        64,
        "troubleshooting",
        "13",
        "tests/doctor/test_verdict.py::test_the_cause_stands_before_its_consequences",
        "13_when_training_goes_wrong # The root-cause tree",
    ),
]
PROVED = [row for row in ROWS if row.test and row.section]


def test_the_rows_are_numbered_without_a_gap(missing_rows):
    assert [row.number for row in ROWS] == list(range(1, 65))
    missing_rows += [f"{r.number:2} {r.what} ({r.chapters})" for r in ROWS if r not in PROVED]


@pytest.mark.parametrize("row", PROVED, ids=lambda row: f"row{row.number}")
def test_a_proved_row_names_a_test_and_a_section_that_exist(row):
    file, name = row.test.split("::")
    assert name in functions(ROOT / file), f"{row.test} does not exist"
    notebook, heading = row.section.split(" # ")
    found = [line for line in headings(notebook) if heading in line]
    assert found, f"{notebook} has no section {heading!r}: {headings(notebook)}"


@cache
def functions(path):
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@cache
def headings(notebook):
    cells = chapters.read(ROOT / "notebooks" / f"{notebook}.ipynb")["cells"]
    lines = "".join("".join(c["source"]) + "\n" for c in cells if c["cell_type"] == "markdown")
    return [line for line in lines.splitlines() if line.startswith("#")]
