"""What comes from the checkpoint is the checkpoint's; new is the cross-attention alone."""

import torch

from cookbook.models import load_model
from cookbook.training.from_parts import decoder, encoder_decoder

IDS = torch.tensor([[2, 900, 901, 902, 903, 3]])


def test_a_decoder_has_the_weights_of_the_encoder_and_none_that_are_new():
    model, source = decoder("docbert"), load_model("docbert", "masked-lm")
    assert model.missing_keys == []
    ours, theirs = model.state_dict(), source.state_dict()
    same = [name for name in theirs if name in ours and torch.equal(ours[name], theirs[name])]
    assert len(same) == len(theirs)


def test_the_mask_changes_what_is_seen_and_no_weight():
    masked, unmasked = (decoder("docbert", is_decoder=d).eval() for d in (True, False))
    one, two = masked.state_dict(), unmasked.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with torch.no_grad():
        assert not torch.allclose(masked(IDS).logits[:, 0], unmasked(IDS).logits[:, 0])


def test_random_has_the_shape_and_not_the_weights():
    made, again, other = (decoder("docbert", random=True, seed=s) for s in (0, 0, 1))
    weights = [m.get_input_embeddings().weight for m in (made, again, other, decoder("docbert"))]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].shape == weights[3].shape


def test_new_in_an_encoder_decoder_is_the_cross_attention_alone():
    model, new = encoder_decoder("docbert")
    assert new and all("crossattention" in name for name in new)
    model.eval()
    moved = IDS.clone()
    moved[0, 1] = 77
    with torch.no_grad():  # it reads what the encoder read
        one, two = (model(input_ids=i, decoder_input_ids=IDS).logits for i in (IDS, moved))
    assert not torch.equal(one, two)
