from cookbook.doctor.catalogue_run import FAULTS


def test_it_holds_what_its_name_says_in_the_order_of_the_ids():
    """Faults of regularisation, precision, ranks, checkpoints, evaluation and hardware."""
    letters = [entry["id"][0] for entry in FAULTS]
    assert list(dict.fromkeys(letters)) == list("RPXKEH")
    for letter in "RPXKEH":
        numbers = [int(entry["id"][1:]) for entry in FAULTS if entry["id"][0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))
