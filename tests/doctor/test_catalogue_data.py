from cookbook.doctor.catalogue_data import FAULTS


def test_it_holds_what_its_name_says_in_the_order_of_the_ids():
    """Faults of data, tokenization and collation."""
    letters = [entry["id"][0] for entry in FAULTS]
    assert list(dict.fromkeys(letters)) == list("DT")
    for letter in "DT":
        numbers = [int(entry["id"][1:]) for entry in FAULTS if entry["id"][0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))
