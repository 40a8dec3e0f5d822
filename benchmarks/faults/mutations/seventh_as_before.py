"""Ways of the first table that fit the writer of summaries as they are, under names of its own.

What a way needs first (an adapter, a metric) is given to the script before its line is changed.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from faults.families import adapted
from faults.recipe import Recipe
from faults.summary_family import token_accuracy
from faults.table import seventh, table

AS_THEY_ARE = """
    a_quarter_of_the_evaluation_was_trained_on split_after_oversampling
    words_dropped_from_validation validation_rows_drawn_at_each_reading
    a_generator_that_workers_inherit workers_seeded_alike inherited_under_the_trainer
    rows_without_attention
    special_tokens_not_supervised target_padding_kept
    some_rows_without_labels every_label_ignored
    tokens_added_and_not_resized embedding_frozen_after_resizing
    attention_mask_forgotten attention_mask_of_ones attention_mask_upside_down
    collator_drops_the_labels
    weights_drawn_again_after_loading head_is_a_copy embedding_replaced_after_loading
    everything_frozen only_norms_trainable
    never_put_into_training_mode left_in_evaluation_mode_after_the_first_evaluation
    hidden_states_detached convolution_padded_on_both_sides
    mean_over_the_batch view_instead_of_transpose
    decoder_inputs_are_the_labels accumulation_under_the_library_trainer
    not_divided_by_the_micro_batches sign_of_the_loss optimizer_maximizes
    rate_hundred_times_too_high rate_of_sgd_given_to_adam sgd_far_too_fast
    rate_is_zero rate_far_too_low warmup_that_never_ends no_warmup_in_a_long_plan
    schedule_stepped_twice schedule_stepped_by_every_micro_batch schedule_never_stepped
    step_schedule_stepped_by_epoch plan_shorter_than_the_run
    gradients_never_zeroed another_optimizer_zeroed zeroed_once_an_epoch
    optimizer_of_a_copy embedding_replaced_after_the_optimizer trainer_given_a_stale_optimizer
    only_the_first_layer_given
    step_forgotten weights_put_back_after_each_step zeroed_between_backward_and_step
    decay_on_everything
    clipped_far_below_the_norm clipped_by_value_to_nothing trainer_clips_far_below_the_norm
    a_logarithm_of_zero_now_and_then divided_by_a_count_of_zero a_layer_overflows
    slope_of_a_root_at_zero
    activations_beyond_half_precision
    bf16_weights_at_a_small_rate half_weights_at_a_small_rate
    fp16_weights_under_a_scaler autocast_switched_off_inside
    set_epoch_forgotten sampler_of_the_trainer_seeded_anew many_epochs_on_few_rows
    a_buffer_that_is_not_saved saved_from_inside_a_wrapper
    resumed_without_the_optimizer resumed_without_the_schedule
    best_model_by_the_greatest_loss
    last_evaluation_batch_dropped evaluation_loader_drops_the_rest
    evaluation_rows_drawn_with_replacement
    rows_that_take_their_time losses_kept_with_their_graphs
""".split()

UNDER_AN_ADAPTER = """
    new_rows_frozen_under_lora frozen_after_wrapping
    adapter_switched_off alpha_is_zero rate_of_b_is_zero base_model_called_instead
    checkpointing_with_a_frozen_input a_base_weight_trained_under_the_adapter
""".split()

WITH_A_METRIC = "best_model_by_the_least_accuracy ignored_positions_are_counted".split()


def with_adapter(r: Recipe) -> None:
    """LoRA of rank 4 on queries and values of encoder and decoder, at its own rate."""

    def prepare(model: nn.Module) -> nn.Module:
        return adapted(model, "SEQ_2_SEQ_LM")

    r.prepare, r.lr = prepare, 1e-2


def with_metric(r: Recipe) -> None:
    """The share of pieces that are right."""
    r.metrics = token_accuracy


def in_small_batches(r: Recipe) -> None:
    """Half precision takes its time on a processor."""
    r.batch = 4


def _registered(names: list[str], first: Callable[[Recipe], None]) -> None:
    found = {mutation.name: mutation for mutation in table()}
    for name in names:
        known = found[name]

        def apply(r: Recipe, change: Callable[[Recipe], None] = known.apply) -> None:
            first(r)
            change(r)

        apply.__name__ = f"writer_{name}"
        seventh(
            known.fault, "summary", loop=known.loop, online=known.online, also=known.also,
            advice=known.advice,
        )(apply)  # fmt: skip


_registered(AS_THEY_ARE, lambda r: None)
_registered(UNDER_AN_ADAPTER, with_adapter)
_registered(WITH_A_METRIC, with_metric)
_registered(["scale_that_grows_at_every_step"], in_small_batches)
