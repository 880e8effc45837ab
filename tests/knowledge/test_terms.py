"""Text into terms."""

from knowledge.retrieval.terms import terms_of


def test_english_words_meet_in_their_stems() -> None:
    assert set(terms_of("Reporting suspicious transactions")) == set(
        terms_of("reports, Suspicious transaction")
    )


def test_numbers_and_codes_stay_as_they_are() -> None:
    assert "10000" in terms_of("over 10000 USD")
    assert "a7s" in terms_of("form A7S")


def test_chinese_gives_words_and_pairs() -> None:
    terms = terms_of("反洗钱监督管理")
    assert {"反洗钱", "监督", "管理", "督管"} <= set(terms)


def test_a_pair_that_is_a_word_counts_once() -> None:
    assert terms_of("银行")["银行"] == 1
    assert terms_of("银行和银行")["银行"] == 2


def test_full_width_forms_are_the_plain_ones() -> None:
    assert terms_of("ＡＭＬ　２０２４") == terms_of("aml 2024")


def test_nothing_is_no_term() -> None:
    assert not terms_of(" …!  ")
