"""Trees and proofs: the known answers of RFC 6962's reference implementation, another implementation, and random trees."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from audit.tree import merkle

# The inputs and roots of the tests of Certificate Transparency's reference implementation.
INPUTS = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(each) for each in INPUTS]

# (leaf from 1, size, proof) and (old, new, proof) of the same tests.
INCLUSIONS = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (3, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        2,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCIES = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def test_the_empty_tree_has_the_root_of_the_rfc() -> None:
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_known_ones(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("leaf", "size", "proof"), INCLUSIONS)
def test_inclusion_proofs_are_the_known_ones(leaf: int, size: int, proof: list[str]) -> None:
    found = merkle.inclusion_proof(merkle.over(LEAVES), leaf - 1, size)
    assert [each.hex() for each in found] == proof


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCIES)
def test_consistency_proofs_are_the_known_ones(old: int, new: int, proof: list[str]) -> None:
    found = merkle.consistency_proof(merkle.over(LEAVES), old, new)
    assert [each.hex() for each in found] == proof


def test_another_implementation_finds_the_same_roots() -> None:
    other, leaves = InmemoryTree(algorithm="sha256"), []
    for number in range(200):
        data = number.to_bytes(4)
        other.append_entry(data)
        leaves.append(merkle.leaf_hash(data))
        assert merkle.root(leaves) == other.get_root()


@given(st.integers(1, 300), st.data())
def test_every_inclusion_is_proven_and_no_other_is(size: int, data: st.DataObject) -> None:
    leaves = _leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(merkle.over(leaves), index, size)
    root = merkle.root(leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(0, size))
    if other != index:
        assert not merkle.verify_inclusion(leaves[index], other, size, proof, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"forged"), index, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not proof or not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], root)


@given(st.integers(1, 300), st.data())
def test_every_continuation_is_proven_and_no_other_is(new: int, data: st.DataObject) -> None:
    leaves = _leaves(new)
    old = data.draw(st.integers(0, new))
    proof = merkle.consistency_proof(merkle.over(leaves), old, new)
    before, after = merkle.root(leaves[:old]), merkle.root(leaves)
    assert merkle.verify_consistency(old, new, before, after, proof)
    assert not merkle.verify_consistency(old, new, before, after, [*proof, after])
    if old > 0:
        altered = [*leaves]
        altered[data.draw(st.integers(0, old - 1))] = merkle.leaf_hash(b"altered")
        forged = merkle.consistency_proof(merkle.over(altered), old, new)
        assert not merkle.verify_consistency(old, new, before, merkle.root(altered), forged)


@given(st.integers(0, 300))
def test_a_root_that_follows_its_leaves_is_that_of_all_of_them(size: int) -> None:
    leaves, growing = _leaves(size), merkle.Growing()
    for leaf in leaves:
        growing.add(leaf)
    assert growing.root() == merkle.root(leaves)


def test_a_proof_of_random_bytes_proves_nothing() -> None:
    chance = random.Random(1)
    leaves = _leaves(77)
    for _ in range(2000):
        proof = [chance.randbytes(32) for _ in range(chance.randrange(9))]
        index, size = chance.randrange(80), chance.randrange(80)
        assert not merkle.verify_inclusion(leaves[5], index, size, proof, merkle.root(leaves))
        assert not merkle.verify_consistency(index + 1, 77, leaves[5], merkle.root(leaves), proof)


def _leaves(size: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4)).digest() for number in range(size)]
